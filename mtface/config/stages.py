"""Stages: trainings one after the other, each with weights, tasks, data and an optimiser of its own
(Savchenko 2021, section 2.2).

An experiment names its stages in `config.stages`, and in `config.stage.NAME` what each changes of
the experiment's own fields. A stage is then an experiment like any other, which is all that the
rest of mtface knows of it. A config without stages is one stage, `main`.
"""

from __future__ import annotations

import contextlib
import copy
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from mtface.config.schema import complete, flat, switched
from mtface.errors import UserError
from mtface.files import split_selection

MAIN = 'main'
EARLIER = 'stage:'  # in `start.weights`
# A stage that names any of these has only those.
_WHOLE = ('tasks', 'sources', 'teachers', 'evaluation.sets')
_NAME = re.compile(r'^[\w\-]+$')  # folders are called so
_SHARED = (
  'name',
  'arguments',
  'imports',
  'classes',
  'seed',
  'stages',
  'stage',
  'mesh',
  'distributed',
)


def stage(changes: Mapping[str, Any]) -> ConfigDict:
  """What a stage changes, from names with dots: {'start.weights': 'stage:identity',
  'optimizer.rate': 1e-4}.
  """
  found: dict[str, Any] = {}
  for name, value in changes.items():
    *groups, last = name.split('.')
    group = found
    for part in groups:
      group = group.setdefault(part, {})
    group[last] = value
  return ConfigDict(found)


def stages_of(config: ConfigDict) -> dict[str, ConfigDict]:
  """{name: the experiment that the stage is}, in the order of training.

  Raises:
    UserError: a stage that is not described, changes what no stage can, or starts from one that
      does not come before it.
  """
  complete(config)
  if not config.stages:
    return {MAIN: config}
  found: dict[str, ConfigDict] = {}
  for name in config.stages:
    if not _NAME.match(name) or name in found:
      raise UserError(
        f'config.stages: {name!r} cannot be a stage; names are of letters, digits, - and _, each '
        'once'
      )
    if name not in config.stage:
      raise UserError(
        f'config.stages: {name!r} is not described in config.stage, which has '
        f'{", ".join(config.stage) or "none"}'
      )
    found[name] = _merged(config, name)
    before, _ = split_selection(str(found[name].start.weights).removeprefix(EARLIER))
    if str(found[name].start.weights).startswith(EARLIER) and before not in list(found)[:-1]:
      raise UserError(f'config.stage.{name}.start.weights: {before!r} is not an earlier stage')
  return found


def stage_of(config: ConfigDict, name: str = '') -> tuple[str, ConfigDict]:
  """(its name, the experiment) of a stage; '' is the last one."""
  found = stages_of(config)
  name = name or list(found)[-1]
  if name not in found:
    raise UserError(f'--stage={name}: the run has {", ".join(found)}')
  return name, found[name]


@contextlib.contextmanager
def naming_stage(name: str) -> Iterator[None]:
  """Lets bad input say which stage it belongs to."""
  try:
    yield
  except UserError as error:
    if name == MAIN:
      raise
    raise type(error)(f'stage {name}: {error}') from error


def stage_folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Where a stage logs: the workdir itself for `main`."""
  return workdir if name == MAIN else workdir / 'stages' / name


def run_name(workdir: pathlib.Path, name: str) -> str:
  """What a stage's run is called where there are others: by its workdir, and its own name."""
  folder = workdir.resolve().name
  return folder if name == MAIN else f'{folder}-{name}'


def _merged(config: ConfigDict, name: str) -> ConfigDict:
  merged, changes = copy.deepcopy(config), config.stage[name]
  merged.stages, merged.stage = (), ConfigDict()
  for field in _SHARED:
    if field in changes:
      raise UserError(f'config.stage.{name}.{field}: belongs to the experiment; set config.{field}')
  for field, value in flat(changes.to_dict()).items():
    switched(merged, field, str(value))
  _replace(merged, changes, f'config.stage.{name}', '')
  complete(merged)  # a stage's own tasks may name losses without all of their options
  return merged


def _replace(into: ConfigDict, changes: ConfigDict, what: str, group: str) -> None:
  for key, value in changes.items():
    field = f'{group}{key}'
    if key not in into:
      raise UserError(
        f'{what}.{field}: an experiment has no such field; there are {", ".join(into)}'
      )
    if isinstance(value, ConfigDict) and isinstance(into[key], ConfigDict) and field not in _WHOLE:
      _replace(into[key], value, what, f'{field}.')
    else:
      with into.ignore_type():
        into[key] = copy.deepcopy(value)
