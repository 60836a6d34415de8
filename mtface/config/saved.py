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

from mtface.config.imports import load_imports, register_classes
from mtface.config.schema import check_fields, complete, fields_of, flat
from mtface.errors import UserError, first_line
from mtface.files import local_path

CONFIG_FILE = 'config.json'
_PACKAGES = ('mtface', 'jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')

# What every run has had since the first. Where one is missing, the file is damaged.
_ALWAYS = (
  'tasks',
  'sources',
  'mixture',
  'image_shape',
  'batch_size',
  'duration',
  'seed',
  'model.name',
  'model.dtype',
  'loss.over',
  'loss.l2',
  'optimizer.rate',
  'optimizer.schedule',
  'evaluation.sets',
  'evaluation.batch_size',
  'checkpoint.every',
  'checkpoint.keep_last',
  'log_every',
)


def read_config(workdir: str | os.PathLike) -> ConfigDict:
  """The configuration of the run in `workdir`; its modules (`config.imports`) are imported.

  Raises:
    UserError: there is none, it is damaged, or a module cannot be imported.
  """
  path = local_path(workdir) / CONFIG_FILE
  try:
    config = ConfigDict(read_content(path)['config'])
    have = flat(config.to_dict())
    for field in _ALWAYS:
      if field not in have and not any(name.startswith(f'{field}.') for name in have):
        raise KeyError(f'the field {field} is missing')
    load_imports(config.get('imports', ()), f'{path}: imports')
    register_classes(config.get('classes', {}), f'{path}: classes')
    config = with_defaults(config)
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise _damaged(path, error) from error
  check_fields(config, f'{path}: is damaged, or of another version of mtface')
  return config


def with_defaults(config: ConfigDict) -> ConfigDict:
  """The config of an older run: fields that came later get their defaults, which leave things as
  they were.
  """
  complete(config)
  for name, default in fields_of(config).items():
    *groups, last = name.split('.')
    group = config
    for part in groups:
      if not isinstance(group.get(part), ConfigDict):
        group[part] = ConfigDict()
      group = group[part]
    if last not in group:
      group[last] = tuple(default) if isinstance(default, list) else default
  return config


def read_content(path: pathlib.Path) -> dict[str, Any]:
  """All of a config.json: `config`, `versions`, `jax_settings`, `data`, `hardware`."""
  try:
    content = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(
      f'{path}: not found; expected the folder of a run that `mtface train` started'
    ) from None
  except (OSError, ValueError) as error:
    raise _damaged(path, error) from error
  if not isinstance(content, dict):
    raise _damaged(path, TypeError('it is not an object'))
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
