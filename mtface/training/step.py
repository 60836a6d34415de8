"""One training step, and the state that it carries, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from mtface import metrics
from mtface.data.augment import make_augment
from mtface.data.blend import make_blend
from mtface.data.inputs import scale_images
from mtface.data.loader import Batch
from mtface.models.network import Network
from mtface.models.paths import Params, matches, path_name
from mtface.tasks import Task
from mtface.training.gradients import norms
from mtface.training.objective import Objective
from mtface.training.state import State, averaged
from mtface.training.tally import NEVER, Tally

_AUGMENT_STREAM, _DROPOUT_STREAM, _BLEND_STREAM = 0, 1, 2


StepFunction = Callable[[State, Tally, Batch], tuple[State, Tally]]


def make_step(
  network: Network,
  optimizer: optax.GradientTransformation,
  tasks: Mapping[str, Task],
  config: ConfigDict,
  class_weights: Mapping[str, np.ndarray],
) -> StepFunction:
  """The training step: (state, tally, batch) -> (state, tally). Pure; `loop.jit_step` compiles it.

  The loss is that of `Objective`. With `config.optimizer.sam` = rho the gradient is that at w + rho
  g / ||g||, g being the gradient at w (Foret 2021, eq. 2 and 3); what is reported, and batch norm's
  statistics, are of w.
  """
  root = jax.random.key(config.seed)
  augment_key, dropout_key, blend_key = (
    jax.random.fold_in(root, stream) for stream in (_AUGMENT_STREAM, _DROPOUT_STREAM, _BLEND_STREAM)
  )
  objective, augment = Objective(config, class_weights), make_augment(config.augment)
  blend = make_blend(config.blend)

  def total_loss(params: Params, state: State, batch: Batch) -> tuple[jax.Array, tuple[Any, ...]]:
    params = _hold(params, config.freeze.params)
    images, share = augment(batch['image'], batch['position'], augment_key), None
    if blend is not None:
      images, share = blend(images, batch['position'], blend_key)
    images = scale_images(images)
    key = jax.random.fold_in(dropout_key, state.step)
    layers, stats = network.train_scores(params, state.stats, images, key)
    lessons = batch.get('shares', {}), batch.get('taught', {})
    total, sums = objective(params, layers, batch['labels'], batch['mask'], share, lessons)
    return total, (network.outputs.split(layers), stats, sums)

  def step(state: State, tally: Tally, batch: Batch) -> tuple[State, Tally]:
    gradient = jax.value_and_grad(total_loss, has_aux=True)
    (loss, (scores, stats, sums)), grads = gradient(state.params, state, batch)
    if config.optimizer.sam:
      _, grads = gradient(_uphill(state.params, grads, config.optimizer.sam), state, batch)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    counts = {
      name: metrics.add(
        tally.counts[name],
        metrics.counts(task, scores[name], batch['labels'][name], batch['mask'][name]),
      )
      for name, task in tasks.items()
    }
    tally = Tally(
      tally.steps + 1,
      tally.loss + loss,
      {name: tally.task_losses[name] + value for name, value in sums.items()},
      counts,
      jnp.minimum(tally.first_bad_step, jnp.where(jnp.isfinite(loss), NEVER, state.step + 1)),
      jnp.maximum(tally.stop, jnp.max(batch['stop'])),
      {name: tally.gradients[name] + x for name, x in norms(grads, tally.gradients).items()},
    )
    state = state._replace(step=state.step + 1, params=params, stats=stats, opt_state=opt_state)
    return averaged(state, config.ema), tally

  return step


def _hold(params: Params, frozen: Sequence[str]) -> Params:
  """The parameters, through which no gradient flows to the frozen ones: what is below them is not
  computed backwards at all.
  """
  if not frozen:
    return params
  return jax.tree_util.tree_map_with_path(
    lambda path, x: jax.lax.stop_gradient(x) if matches(frozen, path_name(path)) else x, params
  )


def _uphill(params: Params, grads: Params, radius: float) -> Params:
  scale = radius / jnp.maximum(optax.global_norm(grads), 1e-12)  # a gradient of 0 stays where it is
  return jax.tree.map(lambda w, g: w + scale * g, params, grads)
