"""When a run ends before its last step: its time is over (`duration='2 hours'`), or it no longer
gets better (`evaluation.patience`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from mtface.training.run import Run

STOP_ASKED, STOP_TIME = 1, 2  # what a batch's `stop` says, see `parallel.feed.to_devices`
_SECONDS, _BEST, _STALE = 'train_seconds', 'best_so_far', 'checkpoints_since_best'


class Ending:
  """Counts the time and the checkpoints of a run; what it counts is kept with each checkpoint, so
  that a run which is continued goes on counting.

  Attributes:
    behind: whether others of a search are better (mtface/evaluation/search.py).
  """

  behind = False

  def __init__(self, run: Run, saved: Mapping[str, float]):
    """`saved` are the metrics of the checkpoint that the run continues from; none: it begins."""
    self._limit, self._patience = run.seconds or math.inf, run.config.evaluation.patience
    self._duration = run.config.duration
    self._before, self._begun = saved.get(_SECONDS, 0.0), time.monotonic()
    self._best, self._stale = saved.get(_BEST, -math.inf), int(saved.get(_STALE, 0))

  @property
  def seconds(self) -> float:
    """How long the run has been trained, evaluation and saving included."""
    return self._before + time.monotonic() - self._begun

  @property
  def out_of_time(self) -> bool:
    """Whether its time is over, by this process's clock."""
    return self.seconds >= self._limit

  @property
  def seconds_left(self) -> float:
    """Until its time is over; infinity where that is not limited."""
    return self._limit - self.seconds

  def measured(self, score: float | None) -> None:
    """Notes the score of a checkpoint; only a strictly higher one than before is better."""
    if score is not None and score > self._best:
      self._best, self._stale = score, 0
    else:
      self._stale += 1

  @property
  def stale(self) -> bool:
    """Whether it has not got better for long enough; the same in all processes."""
    return 0 < self._patience <= self._stale

  @property
  def over(self) -> bool:
    """Whether the run had ended when it was saved; the same in all processes."""
    return self._before >= self._limit or self.stale

  @property
  def why(self) -> str:
    """Why the run ends now."""
    if self.behind:
      return 'other trials are better'
    if self.stale:
      best = f'; the best one has {self._best:.4f}' if self._best > -math.inf else ''
      return f'no better for {self._stale} checkpoints (config.evaluation.patience){best}'
    return f'config.duration: {self._duration} are over'

  def notes(self) -> dict[str, float]:
    """What is kept with a checkpoint."""
    notes = {_SECONDS: self.seconds, _STALE: float(self._stale)}
    return notes if self._best == -math.inf else notes | {_BEST: self._best}
