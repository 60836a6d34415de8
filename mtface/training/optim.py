"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from mtface.config.schema import options_of
from mtface.config.tables import OPTIMIZERS, SCHEDULES
from mtface.errors import UserError
from mtface.models.paths import matches, path_name


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
  """The learning rate of each update, see `tables.SCHEDULES`.

  Args:
    config: `config.optimizer`.
    steps: the length of the run, in batches; `config.accumulate` of them make an update.
  """
  entry = SCHEDULES.entry(config.schedule, 'config.optimizer.schedule')
  updates = -(-steps // config.accumulate)
  return entry.load()(config.rate, updates, **options_of(config, entry))


def exponential(
  rate: float, steps: int, *, decay: float, decay_steps: int, staircase: bool
) -> optax.Schedule:
  """rate * decay^(step / decay_steps), continuous in the step (Sang 2017, eq. 4; Rohani 2023,
  eq. 4), or with `staircase` constant for each `decay_steps` (Pons 2018, section 4).
  """
  del steps
  return optax.exponential_decay(
    rate, transition_steps=decay_steps, decay_rate=decay, staircase=staircase
  )


def polynomial(rate: float, steps: int, *, power: float, end: float) -> optax.Schedule:
  """end * rate + (1 - end) * rate * (1 - step / steps)^power: Caffe's `poly`, with steps as its
  max_iter (Zhang 2016, section 3.4).
  """
  return optax.polynomial_schedule(rate, end * rate, power, steps)


def one_cycle(rate: float, steps: int, *, warmup: float) -> optax.Schedule:
  """A cosine up from rate/25 during `warmup` of the steps and a cosine down to nearly zero in the
  rest (Smith & Topin 2018).
  """
  return optax.cosine_onecycle_schedule(steps, rate, pct_start=warmup)


def cosine(rate: float, steps: int, *, warmup: float, end: float) -> optax.Schedule:
  """A line up from 0 during `warmup` of the steps, and a cosine down to `end` of the rate in the
  rest (Loshchilov & Hutter 2017, without restarts).
  """
  rise = round(warmup * steps)
  # optax refuses a decay of no step.
  return optax.warmup_cosine_decay_schedule(0.0, rate, rise, max(steps, rise + 1), end * rate)


def make_optimizer(
  config: ConfigDict, steps: int, freeze: Sequence[str] = ()
) -> optax.GradientTransformation:
  """An optimiser of `tables.OPTIMIZERS`.

  The weight decay of the papers is part of the loss (`config.loss.l2`).

  Args:
    config: `config.optimizer`. Where `clip` is not 0, the gradient's norm over all trained
      parameters is cut to it first. Where `accumulate` is k > 1, parameters move every k-th step,
      by the mean of k gradients.
    steps: the length of the run, see `make_schedule`.
    freeze: patterns of parameters that stay as they are (`paths.matches`); nothing is kept of them.
  """
  entry = OPTIMIZERS.entry(config.name, 'config.optimizer.name')
  steps_of = entry.load()(make_schedule(config, steps), **options_of(config, entry))
  parts = [optax.clip_by_global_norm(config.clip)] if config.clip else []
  parts += [steps_of, *([_scaled_by(rate_factors(config.factors))] if config.factors else [])]
  optimizer = optax.chain(*parts) if len(parts) > 1 else steps_of
  if config.accumulate > 1:
    optimizer = optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
  if not freeze:
    return optimizer
  return optax.partition(
    {'trained': optimizer, 'frozen': optax.set_to_zero()}, lambda params: _labels(params, freeze)
  )


def sgd(rate: optax.Schedule, *, momentum: float, nesterov: bool) -> optax.GradientTransformation:
  """Stochastic gradient descent with momentum."""
  return optax.sgd(rate, momentum=momentum, nesterov=nesterov)


def adam(
  rate: optax.Schedule, *, momentum: float, beta2: float, nesterov: bool
) -> optax.GradientTransformation:
  """Adam (Kingma & Ba 2015); `momentum` is its beta1."""
  return optax.adam(rate, b1=momentum, b2=beta2, nesterov=nesterov)


def adamw(
  rate: optax.Schedule, *, momentum: float, beta2: float, weight_decay: float
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay (Loshchilov & Hutter 2019), of kernels only, as in
  `losses.weight_penalty`.
  """

  def kernels(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim >= 2, params)

  return optax.adamw(rate, b1=momentum, b2=beta2, weight_decay=weight_decay, mask=kernels)


def rate_factors(factors: Sequence[str]) -> list[tuple[str, float]]:
  """[(pattern, factor)] of `config.optimizer.factors`."""
  found = []
  for text in factors:
    pattern, _, number = text.rpartition('=')
    try:
      found.append((pattern, float(number)))
    except ValueError:
      found.append((pattern, math.nan))
    if not pattern or not 0 <= found[-1][1] < math.inf:
      raise UserError(
        f'config.optimizer.factors: {text!r}: expected PATTERN=FACTOR with a factor of at least 0, '
        'as trunk=0.1'
      )
  return found


def factor_of(name: str, factors: Sequence[tuple[str, float]]) -> float:
  """What the learning rate of a parameter is multiplied by: the factor of the first pattern that it
  matches, or 1.
  """
  return next((factor for pattern, factor in factors if matches([pattern], name)), 1.0)


def _scaled_by(factors: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
  def update(updates: Any, _: Any = None) -> Any:
    return jax.tree_util.tree_map_with_path(
      lambda path, x: x * factor_of(path_name(path), factors), updates
    )

  return optax.stateless(update)


def _labels(params: Any, freeze: Sequence[str]) -> Any:
  def label(path: Any, _: Any) -> str:
    return 'frozen' if matches(freeze, path_name(path)) else 'trained'

  return jax.tree_util.tree_map_with_path(label, params)
