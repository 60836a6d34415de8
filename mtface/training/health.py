"""What the hosts do between steps: how long a step takes, how much of it is waiting for input, and
which process the others wait for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np
from jax.experimental import multihost_utils

from mtface import process
from mtface.data.loader import Batch

_LATE = 0.25  # of a step: a process that is later than that holds the others up


class Health:
  """Measures the loop that it is in; all processes read it at the same steps."""

  def __init__(self) -> None:
    self._reset()

  def _reset(self) -> None:
    self._steps, self._seconds, self._waited, self._arrivals = 0, 0.0, 0.0, 0.0
    self._begun: float | None = None  # when the batch before was there
    self._batches = 0

  def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields the batches, and measures how long they are waited for."""
    iterator = iter(batches)
    while True:
      asked = time.monotonic()
      try:
        batch = next(iterator)
      except StopIteration:
        return
      now = time.monotonic()
      if self._begun is not None:  # otherwise it is the first one after a reading or a pause
        self._waited += now - asked
        self._seconds += now - self._begun
        self._steps += 1
      self._begun = now
      self._arrivals += time.time()
      self._batches += 1
      yield batch

  def pause(self) -> None:
    """What comes until the next batch is evaluation and saving, and is no part of a step."""
    self._begun = None

  def read(self) -> dict[str, float]:
    """Since the last reading: `health/step_seconds`; `health/input_wait`, the share of it that the
    slowest loader was waited for.

    With several processes also `health/last_process`, the one that begins its steps last, and
    `health/last_lag`, by how many seconds after the first one (the hosts' clocks must agree); a
    line on stderr says so where that is much of a step.
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
  """[processes, 2]. As whole milliseconds in int32: JAX's floats would not hold a time."""
  whole = np.array([int(mine[0] * 1e6), int(mine[1] * 1000) % 2**30], np.int32)
  return np.asarray(multihost_utils.process_allgather(whole)) / [1e6, 1000]


def _compare(of_all: np.ndarray, step: float) -> dict[str, float]:
  waits, arrivals = of_all.T
  last, lag = int(arrivals.argmax()), float(arrivals.max() - arrivals.min())
  if lag > _LATE * step and process.is_first():
    print(
      f'straggler: process {last} of {process.count} begins its steps {lag:.2f} s after the first '
      f'one (a step takes {step:.2f} s); '
      f'it waits for input {waits[last]:.0%} of the time',
      file=sys.stderr,
      flush=True,
    )
  return {
    'health/input_wait': float(waits.max()),
    'health/last_process': float(last),
    'health/last_lag': lag,
  }
