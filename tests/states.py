"""Whole training states of runs: what evaluation does not read."""

from __future__ import annotations

from typing import Any

import jax

from mtface.evaluation.evaluator import Evaluator
from mtface.models.network import abstract_network
from mtface.parallel.sharding import state_shardings
from mtface.training.optim import make_optimizer
from mtface.training.state import new_state


def saved_state(evaluator: Evaluator, step: int) -> Any:
  """The state that a run has saved at a step: parameters, statistics, what the optimiser keeps, and
  the step.
  """
  config = evaluator.config
  network_of = abstract_network(config.model, evaluator.outputs, config.image_shape)
  optimizer = make_optimizer(
    config.optimizer, 1000, config.freeze.params
  )  # what it keeps does not depend on the steps
  shapes = jax.eval_shape(
    lambda params, stats: new_state(params, stats, optimizer, config.ema), *network_of[1:]
  )
  shardings = state_shardings(shapes, evaluator.mesh, config.mesh.shard_from)
  like = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, shardings
  )
  return evaluator.checkpoints.restore(step, like)
