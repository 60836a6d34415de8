"""Checkpoints: written asynchronously with orbax, committed atomically, restored on any device
layout.

One checkpoint holds the whole training state (parameters, batch-norm statistics, optimiser state,
step) and the metrics measured at that step; `config.json` beside the checkpoints holds the
configuration and the versions that wrote it. The loader has no state to save.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import os
import pathlib
import shutil
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mtface import process
from mtface.config.stages import MAIN
from mtface.errors import UserError, first_line
from mtface.files import local_path
from mtface.parallel.distributed import is_loss
from mtface.progress import warn

_NO_SCORE = -1.0
_WEIGHTS = (
  'checksum_weights'  # in a checkpoint's metrics: the checksum of parameters and statistics only
)
_SEAL = 'seal'  # in a checkpoint's metrics: their own checksum
_EXTRA = 'extra'  # in the metrics of a checkpoint saved only for resuming
_STEP_DIGITS = 9
_ECHO_SECONDS = 30.0  # seconds after which tensorstore's threads have reported a damaged checkpoint
_DAMAGED: dict[str, float] = {}  # represents metrics that cannot be read


class Checkpoints:
  """The checkpoints of one stage in a workdir, by step."""

  def __init__(
    self, workdir: str | os.PathLike, stage: str = MAIN, *, keep_last: int | None = None
  ):
    """Opens `workdir/checkpoints/STAGE`; `keep_last` (None: read only) is how many to keep besides
    the best one.
    """
    self.folder = local_path(workdir).absolute() / 'checkpoints' / stage
    self._read_only = keep_last is None
    if self._read_only and not self.folder.is_dir():
      raise UserError(
        f'{self.folder}: no checkpoints found; train first, or pass the --workdir of a run'
      )
    with _as_user_errors(self.folder):
      if not self._read_only:
        self._set_aside_without_scores()
      handlers = {'state': ocp.StandardCheckpointHandler()}
      with _quiet(
        'absl'
      ):  # which would warn about unreadable _CHECKPOINT_METADATA that it does not need
        self._manager = ocp.CheckpointManager(
          self.folder, options=_options(keep_last), item_handlers=handlers
        )

  def save(
    self,
    step: int,
    state: Any,
    metrics: dict[str, float] | None = None,
    best: float | None = None,
    *,
    extra: bool = False,
  ) -> None:
    """Starts writing `state`; returns once it is copied from the devices. All processes call it.

    Args:
      step: the step of the state.
      state: a pytree of arrays, sharded in any way.
      metrics: stored with it.
      best: the score that ranks checkpoints; optional.
      extra: saved only for resuming, between two regular ones: it does not count among the last,
        and is removed once there is a newer one.
    """
    scores = dict(metrics or {}) | {
      'best': _NO_SCORE if best is None else best,
      'checksum': checksum(state),
    }
    scores[_WEIGHTS] = checksum(state.weights) if hasattr(state, 'weights') else scores['checksum']
    if extra:
      scores[_EXTRA] = 1.0
    scores[_SEAL] = _seal(scores)
    with _as_user_errors(self.folder):
      self._manager.save(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
        metrics=scores,
        force=True,
      )

  def wait(self) -> None:
    """Waits until everything saved is on disk."""
    with _as_user_errors(self.folder):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for pending writes and closes."""
    with _as_user_errors(self.folder):
      self._manager.close()

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, kind: Any, *_: Any) -> None:
    if kind is not None and process.count > 1:
      return  # pending writes would wait for processes that may be gone
    try:
      self.close()
    except UserError:
      if kind is None:  # otherwise the first error is the one to report
        raise

  @property
  def steps(self) -> list[int]:
    """Steps that have a committed checkpoint, oldest first."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int:
    """The step with the highest score on `config.evaluation.best_on`; ties go to the latest."""
    scored = [(_score(self._scores(step)), step) for step in self.steps]
    best = max(scored, default=(_NO_SCORE, 0))
    if best[0] == _NO_SCORE:
      raise UserError(
        f'{self.folder}: no checkpoint is marked best; train with config.evaluation.best_on set, '
        'or use last'
      )
    return best[1]

  def metrics(self, step: int) -> dict[str, float]:
    """What was kept with a step's checkpoint; empty where that cannot be read."""
    return dict(self._scores(step))

  def checksum(self, step: int) -> float | None:
    """Distinguishes a step's checkpoint from one written by another run of that step; None if it
    was not recorded.
    """
    return self._scores(step).get('checksum')

  def restore(self, step: int, like: Any) -> Any:
    """The state of one step, with the shapes, types and shardings of `like` (arrays or
    `jax.ShapeDtypeStruct`).

    Raises:
      DamagedCheckpointError: it cannot be read, or its content has changed.
      UserError: there is no checkpoint of this step, or it belongs to another network.
    """

    def read(stored: Any, what: str) -> Any:
      _check_shapes(stored, like, what)
      return self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))
      )['state']

    return self._checked(step, read, 'checksum')

  def restore_weights(self, step: int, params: Any, stats: Any) -> tuple[Any, Any]:
    """The parameters and statistics of one step, with the shapes, types and shardings of `params`
    and `stats`: their moving averages where there are any. Nothing else is read.

    Raises:
      UserError: as `restore`; damage to the optimiser state does not matter.
    """

    def read(stored: Any, what: str) -> Any:
      names = ('mean_params', 'mean_stats') if 'mean_params' in stored else ('params', 'stats')
      like = dict(zip(names, (params, stats), strict=True))
      _check_shapes({name: stored[name] for name in like}, like, what)
      how = ocp.checkpoint_utils.construct_restore_args(like)
      args = ocp.args.PyTreeRestore(like, restore_args=how, partial_restore=True)
      with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found = reader.restore(self.folder / f'{step:0{_STEP_DIGITS}}' / 'state', args=args)
      return tuple(found[name] for name in names)

    return self._checked(step, read, _WEIGHTS)

  def _checked(self, step: int, read: Callable[[Any, str], Any], sum_name: str) -> Any:
    """Returns what `read` makes of the stored arrays and the prefix for messages; verifies the
    checksum of that name.
    """
    if step not in self.steps:
      raise UserError(
        f'{self.folder}: has no checkpoint of step {step}; available: {_listed(self.steps)}'
      )
    what = f'{self.folder}: checkpoint {step}'
    with _without_echoes() as damage:
      try:
        state = read(self._manager.item_metadata(step).state.tree, what)
      except UserError:
        raise
      except Exception as error:  # orbax and tensorstore raise many types for a damaged checkpoint
        if is_loss(error):
          raise
        damage.append(first_line(error).partition('. See full')[0])
    scores = self._scores(step)
    if not damage and scores is _DAMAGED:
      damage = ['its metrics cannot be read']
    if not damage and scores.get(sum_name) not in (None, checksum(state)):
      damage = [
        'its checksum is wrong'
      ]  # tensorstore stores none: a changed byte would go unnoticed
    if damage:
      raise DamagedCheckpointError(
        f'{what} is damaged ({damage[0]}); remove it, or choose another with --checkpoint'
      )
    return state

  def restore_latest(self, like: Any) -> tuple[int, Any] | None:
    """The newest readable checkpoint, or None if there is none yet. Damaged ones are skipped with a
    warning and set aside.

    Raises:
      UserError: there are checkpoints, but none can be read. Nothing is moved: it may be a
        temporary disk problem.
    """
    damaged: dict[int, str] = {}
    for step in reversed(self.steps):
      try:
        state = self.restore(step, like)
      except DamagedCheckpointError as error:
        damaged[step] = str(error).partition(';')[0]
        continue
      if damaged:
        self._set_aside(damaged, step)
        self._manager.reload()
      return step, state
    if damaged:
      raise self._none_left(damaged)
    return None

  def _none_left(self, damaged: dict[int, str]) -> UserError:
    return UserError(
      f'{damaged[max(damaged)]}, and no other checkpoint can be read; remove {self.folder} '
      'to train from scratch'
    )

  def _set_aside(self, damaged: dict[int, str], used: int) -> None:
    """Renames damaged checkpoints so that the run can write those steps again."""
    if (
      damaged and process.count > 1
    ):  # all must have read them before the first process renames, and read again afterwards
      multihost_utils.sync_global_devices('damaged checkpoints found')
    for step, why in damaged.items() if process.is_first() else ():
      folder = self.folder / f'{step:0{_STEP_DIGITS}}'
      aside = folder.with_name(f'damaged-{folder.name}')
      shutil.rmtree(aside, ignore_errors=True)
      folder.rename(aside)
      warn(f'{why}; using checkpoint {used} instead, and keeping the damaged one as {aside.name}')
    if damaged and process.count > 1:
      multihost_utils.sync_global_devices('damaged checkpoints set aside')

  def _set_aside_without_scores(self) -> None:
    """Orbax reads the metrics of all checkpoints when it starts, and one file of invalid JSON would
    stop it.
    """
    steps = _steps_in(self.folder)
    why = f'{self.folder}: checkpoint {{}} is damaged (its metrics cannot be read)'
    damaged = {step: why.format(step) for step in steps if self._scores(step) is _DAMAGED}
    if damaged and len(damaged) == len(steps):
      raise self._none_left(damaged)
    self._set_aside(damaged, max((step for step in steps if step not in damaged), default=0))

  def _scores(self, step: int) -> dict[str, float]:
    """The metrics saved with a checkpoint."""
    try:
      scores = json.loads(
        (self.folder / f'{step:0{_STEP_DIGITS}}' / 'metrics' / 'metrics').read_text()
      )
      return scores if scores.get(_SEAL) in (None, _seal(scores)) else _DAMAGED
    except (OSError, ValueError, TypeError, AttributeError):
      return _DAMAGED


def _options(keep_last: int | None) -> ocp.CheckpointManagerOptions:
  naming: dict[str, Any] = {
    'step_format_fixed_length': _STEP_DIGITS
  }  # so that names sort numerically
  if keep_last is None:
    # lightweight: without the metrics, where one damaged file would stop orbax
    return ocp.CheckpointManagerOptions(
      read_only=True,
      create=False,
      enable_async_checkpointing=False,
      lightweight_initialize=True,
      **naming,
    )
  best = preservation_policy.BestN(
    get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
  )
  return ocp.CheckpointManagerOptions(
    preservation_policy=preservation_policy.AnyPreservationPolicy([_LastRegular(keep_last), best]),
    best_fn=_score,  # without it orbax writes no metrics
    cleanup_tmp_directories=True,
    **naming,
  )


@dataclasses.dataclass
class _LastRegular(preservation_policy.PreservationPolicy):
  """Keeps the newest checkpoint and the last `count` that are not `extra`."""

  count: int

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
    regular = [i for i, info in enumerate(checkpoints) if not (info.metrics or {}).get(_EXTRA)]
    kept = {*regular[-self.count :], len(checkpoints) - 1}
    return [i in kept for i in range(len(checkpoints))]


def steps_of(workdir: pathlib.Path, stage: str) -> list[int]:
  """Steps of a stage that have a committed checkpoint, damaged or not, oldest first."""
  return _steps_in(workdir / 'checkpoints' / stage)


def _steps_in(folder: pathlib.Path) -> list[int]:
  return sorted(int(path.name) for path in folder.glob('[0-9]' * _STEP_DIGITS))


def checksum(state: Any) -> int:
  """One number for all arrays of a pytree, in order, independent of their sharding.

  The checksum of an array is the sum over its elements i of bits_i * (2 i + 1) modulo 2^32. It
  changes whenever one element changes, and can be summed in any order, so sharded arrays are summed
  where they are. CRC-32 combines the sums of the arrays.
  """
  leaves = jax.tree.leaves(state)
  on_devices = [i for i, leaf in enumerate(leaves) if _is_elsewhere(leaf)]
  sums = dict(zip(on_devices, jax.device_get(_sums([leaves[i] for i in on_devices])), strict=True))
  found = [
    sums[i] if i in sums else _weighted_sum(np, np.asarray(leaf)) for i, leaf in enumerate(leaves)
  ]
  return zlib.crc32(np.asarray(found, np.uint32).tobytes())


def _is_elsewhere(leaf: Any) -> bool:
  """Whether an array is outside this host's memory; inside it, NumPy sums it twice as fast as
  XLA.
  """
  if not isinstance(leaf, jax.Array):
    return False
  spread = not (leaf.is_fully_addressable or leaf.is_fully_replicated)
  return spread or any(device.platform != 'cpu' for device in leaf.devices())


@jax.jit
def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
  return [_weighted_sum(jnp, leaf) for leaf in leaves]


def _weighted_sum(xp: Any, leaf: Any) -> Any:
  """uint32 []: the sum of `checksum`, in NumPy or jax.numpy."""
  bits = {1: xp.uint8, 2: xp.uint16, 4: xp.uint32}[leaf.dtype.itemsize]
  words = (leaf.astype(xp.uint8) if leaf.dtype == bool else leaf.view(bits)).astype(xp.uint32)
  weights = 2 * xp.arange(words.size, dtype=xp.uint32).reshape(words.shape) + xp.uint32(1)
  return xp.sum(words * weights, dtype=xp.uint32)


@contextlib.contextmanager
def _without_echoes() -> Iterator[list[str]]:
  """Limits the output about a damaged checkpoint to one line; yields a list to which the caller
  adds what is wrong.

  Orbax reads all arrays concurrently. After the first error, the others would appear on stderr as
  well, some of them seconds later, when tensorstore's threads report to a closed event loop.
  """
  damage: list[str] = []
  before = sys.unraisablehook
  if isinstance(before, _LateEchoes):
    before = before.hook
  sys.unraisablehook = lambda _: None
  try:
    with _quiet('asyncio', 'absl'), warnings.catch_warnings():
      warnings.simplefilter('ignore', RuntimeWarning)  # coroutines that were never awaited
      yield damage
      gc.collect()
  finally:
    sys.unraisablehook = before
    if damage:
      _LateEchoes(before).drop()


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
  """Silences loggers within the block."""
  before = {name: logging.getLogger(name).level for name in names}
  for name in names:
    logging.getLogger(name).setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    for name, level in before.items():
      logging.getLogger(name).setLevel(level)


class _LateEchoes:
  """Replaces `sys.unraisablehook` for some seconds and drops errors about a closed event loop."""

  def __init__(self, hook: Callable[[Any], Any]):
    self.hook = hook

  def __call__(self, unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      self.hook(unraisable)

  def drop(self) -> None:
    """Installs itself as the hook, and restores the original later."""
    sys.unraisablehook = self
    timer = threading.Timer(_ECHO_SECONDS, self._give_back)
    timer.daemon = True
    timer.start()

  def _give_back(self) -> None:
    if sys.unraisablehook is self:  # otherwise another hook was installed meanwhile
      sys.unraisablehook = self.hook


class DamagedCheckpointError(UserError):
  """A checkpoint that cannot be read."""


def _score(metrics: Any) -> float:
  return float(metrics.get('best', _NO_SCORE))


def _seal(scores: dict[str, float]) -> int:
  """The checksum of metrics: a changed digit in a score could make another checkpoint the best."""
  return zlib.crc32(
    repr(sorted((name, float(x)) for name, x in scores.items() if name != _SEAL)).encode()
  )


def _listed(steps: list[int]) -> str:
  return ', '.join(map(str, steps)) or 'none'


def _check_shapes(stored: Any, like: Any, what: str) -> None:
  """Raises a `UserError` if a checkpoint's arrays do not match the network; damage is handled
  elsewhere.
  """
  have, want = _shapes(stored), _shapes(like)
  for name in sorted(have.keys() | want.keys()):
    if have.get(name) != want.get(name):
      raise UserError(
        f'{what} belongs to another network: {name} has shape {have.get(name, "none")}, the config '
        f'expects {want.get(name, "none")}; '
        'use the config and the version of mtface that wrote it'
      )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """{path: shape}, identical for a tree of arrays and for its orbax metadata (dictionaries instead
  of named tuples).
  """

  def name(key: Any) -> str:
    return str(next(getattr(key, field) for field in ('key', 'name', 'idx') if hasattr(key, field)))

  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {'/'.join(map(name, path)): tuple(leaf.shape) for path, leaf in leaves}


@contextlib.contextmanager
def _as_user_errors(folder: pathlib.Path) -> Iterator[None]:
  """Turns errors about a full disk or an unwritable folder, from any layer, into a `UserError`."""
  try:
    yield
  except (OSError, ValueError) as error:
    text = str(error)
    if isinstance(error, OSError) or any(
      s in text for s in ('No space left', 'RESOURCE_EXHAUSTED', 'PERMISSION_DENIED')
    ):
      raise UserError(
        f'{folder}: a checkpoint cannot be written ({first_line(error)}); free up space or choose '
        'another --workdir. '
        'Committed checkpoints are intact; rerun the same command to resume from the '
        'last one'
      ) from error
    raise


def average(states: list[Any]) -> Any:
  """The leafwise mean of several states, accumulated in float64 and returned in the leaves' own
  types.
  """

  def mean(*leaves: Any) -> np.ndarray:
    return np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0).astype(
      np.asarray(leaves[0]).dtype
    )

  return jax.tree.map(mean, *states)
