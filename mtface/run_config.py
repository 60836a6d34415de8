"""config.json of a run: the configuration and the versions that wrote it. A workdir belongs to one configuration."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
from typing import Any

from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mtface import jax_settings, process
from mtface.config import check_fields, flat, with_defaults
from mtface.errors import UserError, first_line
from mtface.files import local_path
from mtface.progress import warn

CONFIG_FILE = 'config.json'
# Fields that a resumed run may change without becoming another run: it may go on on other machines.
_FREELY_CHANGED = ('log_every', 'mesh.fsdp', 'mesh.shard_from', 'distributed.start_timeout', 'distributed.heartbeat')
_PACKAGES = ('mtface', 'jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


def write_config(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Writes config.json, or checks that the one that is there describes the same run. The first process does it for all."""
  if process.is_first():
    _write_config(config, workdir)
  if process.count > 1:
    multihost_utils.sync_global_devices('config written')


def _write_config(config: ConfigDict, workdir: pathlib.Path) -> None:
  path = workdir / CONFIG_FILE
  settings = jax_settings.of_numbers()
  text = {'config': json.loads(config.to_json_best_effort()), 'versions': versions(), 'jax_settings': settings}
  if path.exists():
    before = flat(read_config(workdir).to_dict())
    now = flat(ConfigDict(text['config']).to_dict())
    names = sorted(before.keys() | now.keys())
    changed = [k for k in names if before.get(k) != now.get(k) and not _is_free(k)]
    if changed:
      k = changed[0]
      more = f' (and {len(changed) - 1} more fields)' if len(changed) > 1 else ''
      raise UserError(
        f'{path}: this workdir holds a run with {k}={before.get(k)!r}, the config now says {now.get(k)!r}{more}; '
        'use the same config to continue it, or another --workdir'
      )
    _compare_settings(path, settings)
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.json.part')
    partial.write_text(json.dumps(text, indent=2))
    partial.rename(path)
  except OSError as error:
    raise UserError(
      f'{workdir}: the workdir cannot be written ({error.strerror or error}); choose another --workdir'
    ) from error


def _compare_settings(path: pathlib.Path, now: dict[str, Any]) -> None:
  """Says in a line that a run goes on with other settings of JAX than it began with."""
  before = json.loads(path.read_text()).get('jax_settings', {})  # older runs have none
  changed = [
    f'{name} was {before.get(name, "as JAX has it")}, is {now.get(name, "as JAX has it")}'
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
  ]
  if changed:
    warn(f'{path}: the run began with other settings of JAX, which change its numbers: {"; ".join(changed)}')


def read_config(workdir: str | os.PathLike) -> ConfigDict:
  """The configuration of the run in `workdir`."""
  path = local_path(workdir) / CONFIG_FILE
  try:
    config = with_defaults(ConfigDict(json.loads(path.read_text())['config']))
  except (FileNotFoundError, NotADirectoryError):
    raise UserError(f'{path}: not found; --workdir must be the folder of a run that `mtface train` started') from None
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{path}: is damaged ({first_line(error)}); restore it, or train into another --workdir') from error
  check_fields(config, f'{path}: is damaged, or of another version of mtface')
  return config


def versions() -> dict[str, str]:
  """Of the packages that a run depends on."""
  found = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def _is_free(field: str) -> bool:
  """Whether a resumed run may change a field, of the experiment or of one of its stages."""
  return re.sub(r'^stage\.[^.]+\.', '', field) in _FREELY_CHANGED
