"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from mtface.errors import UserError
from mtface.models.paths import matches, path_name

SCHEDULES = ('exponential', 'one_cycle')


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
  """Learning rate of each step.

  `exponential`: rate * decay^(step / decay_steps), continuous in the step (Sang 2017, eq. 4; Rohani
    2023, eq. 4).
  `one_cycle`: a cosine up from rate/25 during `warmup` of the steps and a cosine down to nearly
    zero in the rest (Smith & Topin 2018).

  Args:
    config: `config.optimizer`.
    steps: the length of the run; only `one_cycle` depends on it.
  """
  if config.schedule == 'exponential':
    return optax.exponential_decay(
      config.rate, transition_steps=config.decay_steps, decay_rate=config.decay
    )
  if config.schedule == 'one_cycle':
    return optax.cosine_onecycle_schedule(steps, config.rate, pct_start=config.warmup)
  raise UserError(
    f'config.optimizer.schedule {config.schedule!r} is unknown; there are {", ".join(SCHEDULES)}'
  )


def make_optimizer(
  config: ConfigDict, steps: int, freeze: Sequence[str] = ()
) -> optax.GradientTransformation:
  """SGD with momentum, or Adam (Kingma & Ba 2015); weight decay is part of the loss
  (`config.loss.l2`), as the papers write it.

  Args:
    config: `config.optimizer`. Where `clip` is not 0, the gradient's norm over all trained
      parameters is cut to it first.
    steps: the length of the run, see `make_schedule`.
    freeze: patterns of parameters that stay as they are (`network.matches`); nothing is kept of
      them.
  """
  rate = make_schedule(config, steps)
  if config.name == 'sgd':
    steps_of = optax.sgd(rate, momentum=config.momentum, nesterov=config.nesterov)
  elif config.name == 'adam':
    steps_of = optax.adam(rate, b1=config.momentum, b2=config.beta2, nesterov=config.nesterov)
  else:
    raise UserError(f'config.optimizer.name {config.name!r} is unknown; there are sgd, adam')
  parts = [optax.clip_by_global_norm(config.clip)] if config.clip else []
  parts += [steps_of, *([_scaled_by(rate_factors(config.factors))] if config.factors else [])]
  optimizer = optax.chain(*parts) if len(parts) > 1 else steps_of
  if not freeze:
    return optimizer
  return optax.partition(
    {'trained': optimizer, 'frozen': optax.set_to_zero()}, lambda params: _labels(params, freeze)
  )


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
