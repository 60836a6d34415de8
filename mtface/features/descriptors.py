"""Descriptors of clips: statistics of the features of their faces (Savchenko 2021, section 2.2).
Pure functions of NumPy arrays.

A clip of one person: mean, maximum, minimum and standard deviation over its frames, concatenated,
[4D]. A clip of a group: mean and standard deviation over the faces of a frame, concatenated, then
mean and standard deviation of these over the frames, [4D]. Standard deviations are population
deviations (divisor F), so a single frame gives 0.

All frames count equally, however long they are shown. `mtface.features.clips` supplies the
faces.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import numpy as np

STATISTICS = ('mean', 'max', 'min', 'std')  # of clips, in the paper's order
GROUP_STATISTICS = ('mean', 'std')  # of the faces of a frame, and of the frames
LEVELS = ('clip', 'group')


class StreamingMoments:
  """Mean, maximum, minimum and standard deviation of any number of vectors, in one pass and bounded
  memory.

  Batches of any size are merged with the update of Chan, Golub & LeVeque 1979 in float64, which
  avoids the cancellation of sums of squares when a small deviation surrounds a large mean.
  """

  def __init__(self) -> None:
    self.count = 0

  def add(self, vectors: np.ndarray) -> None:
    """Adds vectors, [B, D]; B may be 0."""
    wide = np.asarray(vectors, np.float64)
    if not len(wide):
      return
    n, mean = len(wide), wide.mean(axis=0)
    squares = np.square(wide - mean).sum(axis=0)
    if not self.count:
      self._mean, self._squares, self._max, self._min = (
        mean,
        squares,
        wide.max(axis=0),
        wide.min(axis=0),
      )
    else:  # nothing is modified in place, so a shallow copy is enough
      total, delta = self.count + n, mean - self._mean
      self._mean = self._mean + delta * (n / total)
      self._squares = self._squares + squares + np.square(delta) * (self.count * n / total)
      self._max, self._min = (
        np.maximum(self._max, wide.max(axis=0)),
        np.minimum(self._min, wide.min(axis=0)),
      )
    self.count += n

  def values(self, statistics: Sequence[str] = STATISTICS) -> np.ndarray:
    """float64 [len(statistics) * D]: the given statistics (of mean, max, min, std), concatenated.

    Raises:
      ValueError: no vectors were added, or a statistic is unknown.
    """
    if not self.count:
      raise ValueError('statistics of no vectors')
    known = {
      'mean': self._mean,
      'max': self._max,
      'min': self._min,
      'std': np.sqrt(self._squares / self.count),
    }
    unknown = sorted(set(statistics) - set(known))
    if unknown or not statistics:
      raise ValueError(f'statistics {unknown or "are empty"}; there are {", ".join(known)}')
    return np.concatenate([known[name] for name in statistics])


class Moments(Protocol):
  """Accumulates a descriptor as the faces of a clip arrive."""

  def add(self, features: np.ndarray, frames: np.ndarray) -> None:
    """Adds faces: features [B, D], and int [B], their frames; frames must come in order."""

  def descriptor(self) -> np.ndarray:
    """float64 [4D], of the faces so far; there must be at least one."""


class ClipMoments:
  """The descriptor of a clip, in which every face is a frame."""

  def __init__(self, statistics: Sequence[str] = STATISTICS):
    self._moments, self._statistics = StreamingMoments(), statistics

  def add(self, features: np.ndarray, frames: np.ndarray) -> None:
    """See `Moments`; the frame numbers do not matter."""
    self._moments.add(features)

  def descriptor(self) -> np.ndarray:
    """float64 [len(statistics) * D]."""
    return self._moments.values(self._statistics)


class GroupMoments:
  """The descriptor of a group. The faces of a frame may arrive in several batches."""

  def __init__(self) -> None:
    self._frames, self._frame = StreamingMoments(), StreamingMoments()
    self._index: int | None = None

  def add(self, features: np.ndarray, frames: np.ndarray) -> None:
    """See `Moments`."""
    for index in np.unique(frames):
      if index != self._index:
        self._frames, self._frame, self._index = self._closed(), StreamingMoments(), index
      self._frame.add(features[frames == index])

  def descriptor(self) -> np.ndarray:
    """float64 [4D]."""
    return self._closed().values(GROUP_STATISTICS)

  def _closed(self) -> StreamingMoments:
    """The moments over the frames, including the last one."""
    closed = copy.copy(self._frames)
    if self._frame.count:
      closed.add(self._frame.values(GROUP_STATISTICS)[None])
    return closed


def new_moments(level: str) -> Moments:
  """The accumulator for a level of LEVELS."""
  return GroupMoments() if level == 'group' else ClipMoments()
