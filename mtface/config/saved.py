"""config.json of a run, read: the configuration, and the versions that wrote it.
`mtface/training/workdir.py` writes it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from mtface.config.schema import check_fields, experiment, flat
from mtface.errors import UserError, first_line
from mtface.files import local_path

CONFIG_FILE = 'config.json'
_PACKAGES = ('mtface', 'jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')

# Fields that came after the first runs were made.
_LATER = (
  'evaluation.checkpoints',
  'store',
  'stages',
  'stage',
  'start.weights',
  'start.fresh',
  'freeze.params',
  'freeze.norms',
  'optimizer.name',
  'optimizer.beta2',
  'optimizer.clip',
  'optimizer.factors',
  'optimizer.sam',
  'mesh.fsdp',
  'mesh.shard_from',
  'distributed.start_timeout',
  'distributed.heartbeat',
)


def read_config(workdir: str | os.PathLike) -> ConfigDict:
  """The configuration of the run in `workdir`."""
  path = local_path(workdir) / CONFIG_FILE
  try:
    config = with_defaults(ConfigDict(read_content(path)['config']))
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise _damaged(path, error) from error
  check_fields(config, f'{path}: is damaged, or of another version of mtface')
  return config


def with_defaults(config: ConfigDict) -> ConfigDict:
  """The config of an older run: fields that came later get their defaults, which leave things as
  they were.
  """
  have, defaults = flat(config.to_dict()), flat(experiment().to_dict())
  for name in _LATER:
    if name not in have and name not in config:  # config.stage is there, and has names below it
      *groups, last = name.split('.')
      group = config
      for part in groups:
        group[part] = group.get(part) or ConfigDict()
        group = group[part]
      group[last] = tuple(defaults[name]) if isinstance(defaults[name], list) else defaults[name]
  if 'arguments' not in config:
    config.arguments = {}
  for entry in config.tasks.values():
    entry.top = entry.get('top', 1)
  return config


def read_content(path: pathlib.Path) -> dict[str, Any]:
  """All of a config.json: `config`, `versions`, `jax_settings`, `data`."""
  try:
    content = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(
      f'{path}: not found; --workdir must be the folder of a run that `mtface train` started'
    ) from None
  except (OSError, ValueError) as error:
    raise _damaged(path, error) from error
  if not isinstance(content, dict):
    raise _damaged(path, TypeError('it is no object'))
  return content


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
  return UserError(
    f'{path}: is damaged ({first_line(error)}); restore it, or train into another --workdir'
  )


def versions() -> dict[str, str]:
  """Of the packages that a run depends on."""
  found = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found
