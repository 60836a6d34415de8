"""A config's programs with shapes for numbers: neither data sets nor weights are needed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtface.compiled.targets import EVALUATE
from mtface.config.schema import outputs_of, tasks_of
from mtface.data.inputs import scale_images
from mtface.models.network import Network, abstract_network
from mtface.models.paths import Params, Stats
from mtface.models.platforms import without_choice
from mtface.parallel.sharding import everywhere, shared, state_shardings
from mtface.tasks import Task
from mtface.training.gradients import layers_of
from mtface.training.loop import jit_state_step
from mtface.training.optim import make_optimizer
from mtface.training.run import still_parts
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally

_STEPS = 1000  # of the run, in which schedules end: a number of the program, whatever it is


@dataclasses.dataclass(frozen=True)
class Abstract:
  """A program that can be lowered.

  Attributes:
    function: not yet compiled.
    on: {a mesh: the same function, jitted for it}.
    arguments: {global batch: shapes of what it takes}.
  """

  function: Callable[..., Any]
  on: Callable[[Mesh], Any]
  arguments: Callable[[int], Sequence[Any]]

  def flops(self, images: int) -> float:
    """FLOPs of `images` images: of products and convolutions 2 for each pair of numbers that is
    multiplied and added, where a convolution's border is not counted, and 1 for each element of
    everything else, as XLA counts the program before it optimises it, in XLA's own operators. Loops
    count once.
    """
    with without_choice():
      traced = jax.jit(self.function).trace(*self.arguments(images))
    # Of a platform that takes XLA's own sums too; no compiler for it is needed.
    return traced.lower(lowering_platforms=('tpu',)).cost_analysis()['flops']


def abstract_program(config: ConfigDict, program: str) -> Abstract:
  """The program `train` or `evaluate` of an experiment of one stage."""
  tasks = tasks_of(config)
  network, params, stats = abstract_network(
    config.model, outputs_of(config), config.image_shape, still_parts(config), config.ghost_batch
  )
  if program == EVALUATE:
    return _evaluation(config, network, params, stats)
  optimizer = make_optimizer(config.optimizer, _STEPS, config.freeze.params)
  weights = {name: np.ones(tasks[name].num_classes, np.float32) for name in weighted(config)}
  step = make_step(network, optimizer, tasks, config, weights)
  new = functools.partial(new_state, optimizer=optimizer, ema=config.ema)
  state = jax.eval_shape(new, params, stats)
  tally = jax.eval_shape(lambda: new_tally(tasks, layers_of(config, params)))

  def on(mesh: Mesh) -> Any:
    return jit_state_step(step, mesh, state_shardings(state, mesh, config.mesh.shard_from))

  return Abstract(step, on, lambda size: (state, tally, _batch(config, tasks, size)))


def _evaluation(config: ConfigDict, network: Network, params: Params, stats: Stats) -> Abstract:
  """Scores of a batch, as `inference.runner` computes them."""

  def scores(params: Params, stats: Stats, images: jax.Array) -> dict[str, jax.Array]:
    return network.scores(params, stats, scale_images(images))

  def on(mesh: Mesh) -> Any:
    where = state_shardings((params, stats), mesh, config.mesh.shard_from)
    return jax.jit(scores, in_shardings=(*where, shared(mesh)), out_shardings=everywhere(mesh))

  def arguments(size: int) -> Sequence[Any]:
    return params, stats, jax.ShapeDtypeStruct((size, *config.image_shape), np.uint8)

  return Abstract(scores, on, arguments)


def _batch(config: ConfigDict, tasks: dict[str, Task], size: int) -> dict[str, Any]:
  """A batch of the loader (`data.loader`), as it lies on the devices."""

  def of(shape: Sequence[int], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size, *shape), dtype)

  return {
    'image': of(config.image_shape, np.uint8),
    'labels': {name: of(task.label_shape, np.int32) for name, task in tasks.items()},
    'mask': {name: of(task.label_shape, np.bool_) for name, task in tasks.items()},
    'source': of((), np.int32),
    'position': of((), np.uint32),
    'stop': of((), np.int32),
  }


def weighted(config: ConfigDict) -> list[str]:
  """The tasks whose classes have weights from the data, for which 1 stands here."""
  return [name for name, of in config.tasks.items() if of.class_weights == 'balanced']
