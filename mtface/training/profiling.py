"""A window of steps under JAX's profiler: `config.profile`."""

from __future__ import annotations

import pathlib
from types import TracebackType
from typing import Any

import jax
from ml_collections import ConfigDict

from mtface import process
from mtface.errors import UserError
from mtface.progress import warn

PROFILE = 'profile'  # folder of a stage's workdir


class Profile:
  """Traces the steps after `config.start`, `config.steps` of them; none if that is 0. A context
  manager: what ends before the window does is still written.
  """

  def __init__(self, config: ConfigDict, folder: pathlib.Path):
    self._first, self._last = config.start, config.start + config.steps
    self._folder, self._running = folder / PROFILE, False

  @property
  def points(self) -> tuple[int, ...]:
    """The steps between which it is open."""
    return (self._first, self._last) if self._last > self._first else ()

  def before(self, step: int) -> None:
    """To be called before the step that follows `step` is started."""
    if self._running or not self._first <= step < self._last:
      return
    try:
      self._folder.mkdir(parents=True, exist_ok=True)
      jax.profiler.start_trace(str(self._folder))
    except OSError as error:
      raise UserError(
        f'{self._folder}: a profile cannot be written ({error.strerror or error}); '
        'take config.profile.steps=0, or another --workdir'
      ) from error
    self._running = True

  def after(self, step: int, result: Any) -> None:
    """To be called when `step` is started; `result` is ready when it has ended."""
    if self._running and step >= self._last:
      jax.block_until_ready(result)
      self._stop()

  def _stop(self) -> None:
    self._running, self._last = False, self._first  # once is enough
    try:
      jax.profiler.stop_trace()
    except (OSError, RuntimeError) as error:
      warn(f'{self._folder}: the profile could not be written ({error})')
      return
    process.say(f'profile: {self._folder}')

  def __enter__(self) -> Profile:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    if self._running:
      self._stop()
