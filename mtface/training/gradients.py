"""Norms of the gradient by layer, for the log: which layers learn, and which vanish or explode."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import optax
from ml_collections import ConfigDict

from mtface.models.paths import Params, by_path, matches
from mtface.training.run import Run

ALL = 'all'  # all parameters together, beside the layers


def layers(run: Run) -> tuple[str, ...]:
  """`layers_of` a run."""
  return layers_of(run.config, run.params)


def layers_of(config: ConfigDict, params: Params) -> tuple[str, ...]:
  """The layers that `config.log_gradients` measures: `ALL`, and every group of parameters that
  stand side by side, as the kernel and the bias of `trunk/stem`, unless it is frozen; none if it is
  off. The parameters may be shapes.
  """
  if not config.log_gradients:
    return ()
  trained = [name for name in by_path(params) if not matches(config.freeze.params, name)]
  return (ALL, *dict.fromkeys(_layer(name) for name in trained))


def norms(grads: Params, layers: Iterable[str]) -> dict[str, jax.Array]:
  """{layer: the 2-norm of the gradient of all of its parameters together []}, before any clipping.

  Where no layers are asked for, nothing is computed: the compiled step is the one without them.
  """
  named = by_path(grads)
  return {
    layer: optax.global_norm([x for name, x in named.items() if layer in (ALL, _layer(name))])
    for layer in layers
  }


def _layer(name: str) -> str:
  return name.rpartition('/')[0] or name
