"""Checkpoints: orbax, asynchronous, committed atomically, read back on any device layout.

One checkpoint holds the whole training state (parameters, batch-norm statistics, optimiser state, step) and the metrics measured at that
step; `config.json` beside the checkpoints holds the configuration and the versions that wrote it. The loader has no state to save.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mtface.errors import UserError
from mtface.progress import warn

CONFIG_FILE = 'config.json'
_FREELY_CHANGED = ('log_every',)  # fields that a resumed run may change without becoming another run
_NO_SCORE = -1.0
_PACKAGES = ('mtface', 'jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


class Checkpoints:
  """The checkpoints of a workdir, by step."""

  def __init__(self, workdir: str | os.PathLike, *, keep_last: int | None = None):
    """Opens `workdir/checkpoints/main`; `keep_last` (None: read only) is how many are kept besides the best one."""
    self.folder = pathlib.Path(workdir).expanduser().absolute() / 'checkpoints' / 'main'
    read_only = keep_last is None
    if read_only and not self.folder.is_dir():
      raise UserError(f'{self.folder}: no checkpoints are here; train first, or pass the --workdir of a run')
    keep = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(keep_last),
        preservation_policy.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
      ]
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=keep,
      best_fn=_score,  # without it orbax writes no metrics
      read_only=read_only,
      create=not read_only,
      cleanup_tmp_directories=not read_only,
      enable_async_checkpointing=not read_only,
      step_format_fixed_length=9,  # so that names sort as numbers do
    )
    with _as_user_errors(self.folder):
      self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=('state',))

  def save(self, step: int, state: Any, metrics: dict[str, float] | None = None, best: float | None = None) -> None:
    """Starts to write `state`; returns once it is copied from the devices. `best` ranks it among those that have one."""
    scores = dict(metrics or {}) | {'best': _NO_SCORE if best is None else best}
    with _as_user_errors(self.folder):
      self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state)), metrics=scores, force=True)

  def wait(self) -> None:
    """Returns when everything that was saved is on disk."""
    with _as_user_errors(self.folder):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and lets go."""
    with _as_user_errors(self.folder):
      self._manager.close()

  @property
  def steps(self) -> list[int]:
    """Steps that have a committed checkpoint, oldest first."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int:
    """The step with the highest score on `config.evaluation.best_on`; the latest of equals."""
    scored = [(_score(self._manager.metrics(step) or {}), step) for step in self.steps]
    best = max(scored, default=(_NO_SCORE, 0))
    if best[0] == _NO_SCORE:
      raise UserError(
        f'{self.folder}: no checkpoint is marked best; set config.evaluation.best_on in training, or use last'
      )
    return best[1]

  def restore(self, step: int, like: Any) -> Any:
    """The state of one step, with the shapes, types and shardings of `like` (arrays or `jax.ShapeDtypeStruct`)."""
    if step not in self.steps:
      raise UserError(f'{self.folder}: has no checkpoint of step {step}; there are {_listed(self.steps)}')
    try:
      state = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))['state']
    except Exception as error:  # orbax and tensorstore raise many types for a damaged checkpoint
      raise DamagedCheckpointError(f'{self.folder}: checkpoint {step} cannot be read ({_first_line(error)})') from error
    _check_shapes(state, like, f'{self.folder}: checkpoint {step}')
    return state

  def restore_latest(self, like: Any) -> tuple[int, Any] | None:
    """The newest readable checkpoint, or None if there is none. A damaged one is skipped with a warning."""
    for step in reversed(self.steps):
      try:
        return step, self.restore(step, like)
      except DamagedCheckpointError as error:
        warn(f'{error}; the one before it is used')
        self._set_aside(step)
    return None

  def _set_aside(self, step: int) -> None:
    """Renames a damaged checkpoint, so that the run can write that step again."""
    if self._manager._options.read_only:
      return
    for found in self.folder.glob(f'*{step:09d}'):
      if found.name.isdigit():
        found.rename(found.with_name(f'damaged-{found.name}'))
    self._manager.reload()


class DamagedCheckpointError(UserError):
  """A checkpoint that cannot be read."""


def _score(metrics: Any) -> float:
  return float(metrics.get('best', _NO_SCORE))


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _listed(steps: list[int]) -> str:
  return ', '.join(map(str, steps)) or 'none'


def _check_shapes(state: Any, like: Any, what: str) -> None:
  def check(path: Any, a: Any, b: Any) -> None:
    if np.shape(a) != np.shape(b):
      raise UserError(f'{what}: {jax.tree_util.keystr(path)} has shape {np.shape(a)}, the config wants {np.shape(b)}')

  jax.tree_util.tree_map_with_path(check, state, like)


@contextlib.contextmanager
def _as_user_errors(folder: pathlib.Path) -> Iterator[None]:
  """A full disk or a folder that cannot be written is the user's to mend, whatever layer noticed it."""
  try:
    yield
  except (OSError, ValueError) as error:
    text = str(error)
    if isinstance(error, OSError) or any(
      s in text for s in ('No space left', 'RESOURCE_EXHAUSTED', 'PERMISSION_DENIED')
    ):
      raise UserError(
        f'{folder}: a checkpoint cannot be written ({_first_line(error)}); free space or choose another --workdir. '
        'Checkpoints that were committed before are whole: the same command continues from the last of them'
      ) from error
    raise


def average(states: list[Any]) -> Any:
  """The mean of several states' arrays, leaf by leaf, accumulated in float64 and returned in the leaves' own types."""

  def mean(*leaves: Any) -> np.ndarray:
    return np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0).astype(np.asarray(leaves[0]).dtype)

  return jax.tree.map(mean, *states)


def write_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Writes config.json, or checks that the one that is there describes the same run."""
  path = workdir / CONFIG_FILE
  text = {'config': json.loads(config.to_json_best_effort()), 'versions': _versions()}
  if path.exists():
    before = _flat(read_config(workdir).to_dict())
    now = _flat(ml_collections.ConfigDict(text['config']).to_dict())
    changed = [
      k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k) and k not in _FREELY_CHANGED
    ]
    if changed:
      k = changed[0]
      more = f' (and {len(changed) - 1} more fields)' if len(changed) > 1 else ''
      raise UserError(
        f'{path}: this workdir holds a run with {k}={before.get(k)!r}, the config now says {now.get(k)!r}{more}; '
        'use the same config to continue it, or another --workdir'
      )
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


def read_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
  """The configuration of the run in `workdir`."""
  path = pathlib.Path(workdir).expanduser() / CONFIG_FILE
  try:
    return ml_collections.ConfigDict(json.loads(path.read_text())['config'])
  except FileNotFoundError:
    raise UserError(f'{path}: not found; --workdir must be the folder of a run that `mtface train` started') from None
  except (ValueError, KeyError) as error:
    raise UserError(
      f'{path}: is damaged ({_first_line(error)}); restore it, or train into another --workdir'
    ) from error


def _versions() -> dict[str, str]:
  found = {}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def _flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dictionaries as {'a.b': value}."""
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    name = f'{prefix}{key}'
    if isinstance(value, dict) and value:
      flat |= _flat(value, f'{name}.')
    else:
      flat[name] = list(value) if isinstance(value, tuple) else value
  return flat
