"""The training state: what a checkpoint holds."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

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

  @property
  def weights(self) -> tuple[Params, Stats]:
    """The network that is evaluated, ranked and exported."""
    return self.params, self.stats


class AveragedState(NamedTuple):
  """The same with moving averages (`config.ema`), which are the network that is evaluated."""

  step: jax.Array
  params: Params
  stats: Stats
  opt_state: Any
  mean_params: Params
  mean_stats: Stats

  @property
  def weights(self) -> tuple[Params, Stats]:
    """The network that is evaluated, ranked and exported."""
    return self.mean_params, self.mean_stats


State: TypeAlias = TrainState | AveragedState


def new_state(
  params: Params, stats: Stats, optimizer: optax.GradientTransformation, ema: float = 0.0
) -> State:
  """The state before the first step; `ema` is `config.ema`."""
  state = TrainState(jnp.zeros((), jnp.int32), params, stats, optimizer.init(params))
  return AveragedState(*state, params, stats) if ema else state


def averaged(state: State, decay: float) -> State:
  """The state after a step with its averages: mean = d * mean + (1 - d) * new, of parameters and of
  batch norm's running statistics alike.

  d is `decay`, but at most (1 + t) / (10 + t) after t steps, so that the initial weights do not
  linger (as TensorFlow's ExponentialMovingAverage).
  """
  if not isinstance(state, AveragedState):
    return state
  t = state.step.astype(jnp.float32)
  d = jnp.minimum(decay, (1 + t) / (10 + t))

  def moved(mean: jax.Array, new: jax.Array) -> jax.Array:
    return mean + ((1 - d) * (new.astype(jnp.float32) - mean)).astype(mean.dtype)

  return state._replace(
    mean_params=jax.tree.map(moved, state.mean_params, state.params),
    mean_stats=jax.tree.map(moved, state.mean_stats, state.stats),
  )
