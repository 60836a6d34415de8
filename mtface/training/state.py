"""The training state: what a checkpoint holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtface.models.paths import Params, Stats


class TrainState(NamedTuple):
  """What a checkpoint holds. `step` counts the steps that were taken: it is the loader's position
  too.
  """

  step: jax.Array  # int32 []
  params: Params
  stats: Stats  # running means and variances of batch normalisation
  opt_state: Any


def new_state(params: Params, stats: Stats, optimizer: optax.GradientTransformation) -> TrainState:
  """The state before the first step."""
  return TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params))
