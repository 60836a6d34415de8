"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import optax
from ml_collections import ConfigDict

from mtface.errors import UserError

SCHEDULES = ('exponential', 'one_cycle')


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
  """Learning rate of each step.

  `exponential`: rate * decay^(step / decay_steps), continuous in the step (Sang 2017, eq. 4; Rohani 2023, eq. 4).
  `one_cycle`: a cosine up from rate/25 during `warmup` of the steps and a cosine down to nearly zero in the rest (Smith & Topin 2018).

  Args:
    config: `config.optimizer`.
    steps: the length of the run; only `one_cycle` depends on it.
  """
  if config.schedule == 'exponential':
    return optax.exponential_decay(config.rate, transition_steps=config.decay_steps, decay_rate=config.decay)
  if config.schedule == 'one_cycle':
    return optax.cosine_onecycle_schedule(steps, config.rate, pct_start=config.warmup)
  raise UserError(f'config.optimizer.schedule {config.schedule!r} is unknown; there are {", ".join(SCHEDULES)}')


def make_optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
  """SGD with momentum, on gradients whose norm over all parameters is cut to `config.clip` where that is not 0.

  Weight decay is part of the loss (`config.loss.l2`), as the papers write it.
  """
  sgd = optax.sgd(make_schedule(config, steps), momentum=config.momentum, nesterov=config.nesterov)
  return optax.chain(optax.clip_by_global_norm(config.clip), sgd) if config.clip else sgd
