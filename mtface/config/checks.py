"""What can be seen to be wrong in a config by itself, without data, devices or a network.
`mtface/training/checks.py` looks at the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from mtface.config import tables
from mtface.config.schema import (
  check_fields,
  check_shareable,
  fields_of,
  flat,
  outputs_of,
  tasks_of,
)
from mtface.config.stages import naming_stage, stages_of
from mtface.errors import UserError
from mtface.outputs import UNION

LOSS_OVER = ('all', 'labelled')  # see `losses.reduce_terms`
LOSS_DECAYS = ('squares', 'caffe', 'tensorflow')  # see `losses.weight_penalty`
MEAN_OVER = ('labelled', 'all', 'none')  # see `losses.sigmoid_cross_entropy`
CLASS_WEIGHTS = ('none', 'balanced')
BLENDS = ('none', 'mixup', 'cutmix')  # mtface/data/blend.py
FROZEN_NORMS = ('running', 'batch')
_FREE_FORM = ('arguments', 'classes', 'stage')  # groups whose fields a config file chooses
_OF_NUMBERS = ('image_shape', 'model.age_hidden')  # the other tuples are of text

# What a number must be, in words and as a test that NaN fails too. What is not here is checked
# where it is used.
_NUMBERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
  'seed': ('from 0 to 2^32 - 1', lambda x: 0 <= x < 2**32),
  'batch_size': ('from 1 to 1,000,000', lambda x: 1 <= x <= 1_000_000),
  'evaluation.batch_size': ('from 1 to 1,000,000', lambda x: 1 <= x <= 1_000_000),
  'ema': ('at least 0 and less than 1', lambda x: 0 <= x < 1),
  'ghost_batch': ('at least 0', lambda x: x >= 0),
  'model.width': ('more than 0', lambda x: 0 < x < math.inf),
  'model.dropout': ('at least 0 and less than 1', lambda x: 0 <= x < 1),
  'augment.pad': ('at least 0', lambda x: x >= 0),
  'blend.alpha': ('more than 0', lambda x: 0 < x < math.inf),
  'augment.zoom': ('from 0 to 3', lambda x: 0 <= x <= 3),
  'augment.stretch': ('from 0 to 3', lambda x: 0 <= x <= 3),
  'augment.brightness': ('from 0 to 1', lambda x: 0 <= x <= 1),
  'augment.contrast': ('from 0 to 1', lambda x: 0 <= x <= 1),
  'augment.erase': ('from 0 to 1', lambda x: 0 <= x <= 1),
  'augment.rotate': ('from 0 to 180', lambda x: 0 <= x <= 180),
  'loss.l2': ('at least 0', lambda x: 0 <= x < math.inf),
  'optimizer.rate': ('more than 0', lambda x: 0 < x < math.inf),
  'optimizer.momentum': ('at least 0 and less than 1', lambda x: 0 <= x < 1),
  'optimizer.beta2': ('at least 0 and less than 1', lambda x: 0 <= x < 1),
  'optimizer.sam': ('at least 0', lambda x: 0 <= x < math.inf),
  'optimizer.clip': ('at least 0', lambda x: 0 <= x < math.inf),
  'optimizer.decay': ('more than 0 and at most 1', lambda x: 0 < x <= 1),
  'optimizer.decay_steps': ('at least 1', lambda x: x >= 1),
  'optimizer.warmup': ('more than 0 and less than 1', lambda x: 0 < x < 1),
  'optimizer.power': ('at least 0', lambda x: 0 <= x < math.inf),
  'optimizer.end': ('at least 0 and at most 1', lambda x: 0 <= x <= 1),
  'optimizer.weight_decay': ('at least 0', lambda x: 0 <= x < math.inf),
  'optimizer.accumulate': ('at least 1', lambda x: x >= 1),
  'evaluation.patience': ('at least 0', lambda x: x >= 0),
  'steps_a_call': ('from 0 to 1,000', lambda x: 0 <= x <= 1000),
  'profile.start': ('at least 0', lambda x: x >= 0),
  'profile.steps': ('from 0 to 1,000, since a profile grows with each', lambda x: 0 <= x <= 1000),
  'mesh.fsdp': ('at least 1', lambda x: x >= 1),
  'mesh.shard_from': ('at least 1', lambda x: x >= 1),
  'distributed.start_timeout': ('at least 1', lambda x: x >= 1),
  'distributed.heartbeat': ('at least 2', lambda x: x >= 2),
  'checkpoint.keep_last': ('at least 1', lambda x: x >= 1),
}


def check_stages(config: ConfigDict, devices: int) -> dict[str, ConfigDict]:
  """`stages.stages_of`, each of them checked; a `UserError` names the stage."""
  stages = stages_of(config)
  for name, stage in stages.items():
    with naming_stage(name):
      check(stage, devices)
  return stages


def check(config: ConfigDict, devices: int) -> None:
  """Raises a `UserError` for what cannot work on so many devices, in an experiment of one stage."""
  check_fields(config, 'config')
  values = flat(config.to_dict())
  _check_types(config, values)
  if not config.tasks or not config.sources:
    raise UserError('config: no tasks or no sources to train on')
  for name, known in tasks_of(config).items():
    _check_number(f'tasks.{name}.weight', values, 'at least 0', lambda x: 0 <= x < math.inf)
    _check_number(f'tasks.{name}.share', values, 'more than 0', lambda x: 0 < x < math.inf)
    most = known.num_classes if known.values else 1
    _check_number(
      f'tasks.{name}.top', values, f'from 1 to {most} for {name}', range(1, most + 1).__contains__
    )
    _check_choice(f'tasks.{name}.class_weights', values, CLASS_WEIGHTS)
    if f'tasks.{name}.mean_over' in values:
      _check_choice(f'tasks.{name}.mean_over', values, MEAN_OVER)
  for name in config.teachers:
    at_least = 'at least 0', lambda x: 0 <= x < math.inf
    _check_number(f'teachers.{name}.weight', values, *at_least)
    _check_number(f'teachers.{name}.temperature', values, 'more than 0', lambda x: 0 < x < math.inf)
  for field, (words, holds) in _NUMBERS.items():
    if field in values:  # an option of what the config names
      _check_number(field, values, words, holds)
  if len(config.image_shape) != 3 or min(config.image_shape) < 1:
    raise UserError(
      f'config.image_shape: {config.image_shape}; it must be (height, width, channels)'
    )
  mixture = tables.MIXTURES.entry(config.mixture, 'config.mixture')
  shares = {name: of.share for name, of in config.tasks.items()}
  if len(set(shares.values())) > 1 and not mixture.traits['shares']:
    able = [name for name, of in tables.MIXTURES.items() if of.traits['shares']]
    raise UserError(
      f'config.tasks: shares of {", ".join(f"{k} {v:g}" for k, v in shares.items())}, which the '
      f'mixture {config.mixture} does not know; take config.mixture={" or ".join(able)}'
    )
  _check_choice('loss.over', values, LOSS_OVER)
  _check_choice('loss.decay', values, LOSS_DECAYS)
  _check_choice('freeze.norms', values, FROZEN_NORMS)
  _check_choice('blend.name', values, BLENDS)
  if config.blend.name != BLENDS[0] and config.batch_size % 2:
    raise UserError(
      f'config.blend.name: {config.blend.name} blends pairs, and a batch of {config.batch_size} is '
      'odd'
    )
  outputs_of(config)
  if config.outputs.layer == UNION and config.model.get('age_hidden'):
    raise UserError(
      f'config.model.age_hidden: {config.model.age_hidden!r}; a union has no head of ages; use '
      'config.model.branch, or config.outputs.layer=heads'
    )
  if config.ghost_batch and config.batch_size % config.ghost_batch:
    raise UserError(
      f'config.ghost_batch: {config.ghost_batch} does not divide the batch of {config.batch_size}'
    )
  for field in ('batch_size', 'evaluation.batch_size'):
    check_shareable(values[field], devices, field)
  _check_evaluation(config)


def _check_types(config: ConfigDict, values: dict[str, Any]) -> None:
  """Fields are of the types of their defaults, and there are no others: stages, and ConfigDicts
  that are not locked, take anything.
  """
  defaults = fields_of(config)
  for field, value in values.items():
    if field.partition('.')[0] in _FREE_FORM:
      continue
    if field not in defaults:
      group = field.rpartition('.')[0]
      there = ', '.join(
        sorted(name.rpartition('.')[2] for name in defaults if name.rpartition('.')[0] == group)
      )
      raise UserError(f'config.{field}: there is no such field; the fields here are: {there}')
    default = defaults[field]
    if isinstance(default, list):
      kind = type(default[0]) if default else int if field in _OF_NUMBERS else str
      good = isinstance(value, list) and all(isinstance(item, kind) for item in value)
      words = "text in brackets, such as ('trunk',)"
      if kind is not str:
        words = 'numbers in brackets, such as (48, 48, 1)'
    else:
      kinds: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
      good = isinstance(value, kinds) and (isinstance(default, bool) or not isinstance(value, bool))
      words = {bool: 'True or False', int: 'a whole number', float: 'a number'}.get(
        type(default), 'text'
      )
    if not good:
      raise UserError(f'config.{field}: {value!r}; it must be {words}')


def _check_number(
  field: str, values: dict[str, Any], words: str, holds: Callable[[Any], bool]
) -> None:
  if not holds(values[field]):
    raise UserError(f'config.{field}: {values[field]!r} is out of range; it must be {words}')


def _check_choice(field: str, values: dict[str, Any], choices: tuple[str, ...]) -> None:
  if values[field] not in choices:
    raise UserError(f'config.{field} {values[field]!r} is unknown; there are {", ".join(choices)}')


def _check_evaluation(config: ConfigDict) -> None:
  for field in ('during_training', 'best_on'):
    for name in config.evaluation[field]:
      if name not in config.evaluation.sets:
        listed = ', '.join(config.evaluation.sets) or 'none'
        raise UserError(
          f'config.evaluation.{field}: {name!r} is not among config.evaluation.sets ({listed})'
        )
  missing = set(config.evaluation.best_on) - set(config.evaluation.during_training)
  if missing:
    raise UserError(
      f'config.evaluation.best_on: {", ".join(missing)} must be in '
      'config.evaluation.during_training too'
    )
  if config.evaluation.patience and not config.evaluation.best_on:
    raise UserError(
      'config.evaluation.patience: needs a set in config.evaluation.best_on, whose score says '
      'whether the run gets better'
    )
  if 'best' in config.evaluation.checkpoints and not config.evaluation.best_on:
    raise UserError(
      'config.evaluation.checkpoints: best is asked for, and config.evaluation.best_on names no set'
    )
