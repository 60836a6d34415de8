"""Timing of the training loop: how long a step takes, how much of it is spent waiting for input,
and which process the others wait for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np
from jax.experimental import multihost_utils

from mtface import process
from mtface.data.loader import Batch

_LATE = 0.25  # of a step: a process later than this holds up the others


class Health:
  """Measures the surrounding loop; all processes read it at the same steps."""

  def __init__(self) -> None:
    self._reset()

  def _reset(self) -> None:
    self._steps, self._seconds, self._waited, self._arrivals = 0, 0.0, 0.0, 0.0
    self._begun: float | None = None  # when the previous batch arrived
    self._of_last = 1  # steps that it is of
    self._batches = 0

  def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields the batches and measures the time spent waiting for them."""
    iterator = iter(batches)
    while True:
      asked = time.monotonic()
      try:
        batch = next(iterator)
      except StopIteration:
        return
      now = time.monotonic()
      if self._begun is not None:  # otherwise it is the first batch after a reading or a pause
        self._waited += now - asked
        self._seconds += now - self._begun
        self._steps += self._of_last
      self._begun, self._of_last = now, 1
      self._arrivals += time.time()
      self._batches += 1
      yield batch

  def took(self, steps: int) -> None:
    """The batch that was yielded last is of so many steps, not of one."""
    self._of_last = steps

  def pause(self) -> None:
    """The time until the next batch goes into evaluation and saving and is not part of a step."""
    self._begun = None

  def read(self) -> dict[str, float]:
    """Returns, since the last reading, `health/step_seconds`, and `health/input_wait`, the share of
    it spent waiting for the slowest loader.

    With several processes also `health/last_process`, the one that starts its steps last, and
    `health/last_lag`, by how many seconds after the first one (the hosts' clocks must agree); if
    that is a large part of a step, a line on stderr says so.
    """
    steps, seconds = self._steps, self._seconds
    mine = np.array([self._waited / max(seconds, 1e-9), self._arrivals / max(self._batches, 1)])
    self._reset()
    if not steps:
      return {}
    values = {'health/step_seconds': seconds / steps, 'health/input_wait': float(mine[0])}
    if process.count > 1:
      values |= _compare(_gather(mine), values['health/step_seconds'])
    return values


def _gather(mine: np.ndarray) -> np.ndarray:
  """[processes, 2], as whole milliseconds in int32: float32 is not precise enough for times."""
  whole = np.array([int(mine[0] * 1e6), int(mine[1] * 1000) % 2**30], np.int32)
  return np.asarray(multihost_utils.process_allgather(whole)) / [1e6, 1000]


def _compare(of_all: np.ndarray, step: float) -> dict[str, float]:
  waits, arrivals = of_all.T
  last, lag = int(arrivals.argmax()), float(arrivals.max() - arrivals.min())
  if lag > _LATE * step and process.is_first():
    print(
      f'straggler: process {last} of {process.count} starts its steps {lag:.2f} s after the first '
      f'one (a step takes {step:.2f} s); '
      f'it spends {waits[last]:.0%} of the time waiting for input',
      file=sys.stderr,
      flush=True,
    )
  return {
    'health/input_wait': float(waits.max()),
    'health/last_process': float(last),
    'health/last_lag': lag,
  }
