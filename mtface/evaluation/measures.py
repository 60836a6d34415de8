"""The figures of an audit: each as Fairlearn's MetricFrame calls it, and as the sums that a
bootstrap needs.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtface.errors import UserError
from mtface.evaluation.answers import Answers
from mtface.evaluation.calibration import BINS, bin_of, reliability

UNCOMPARED = 'calibration error'  # larger for a smaller group by noise alone


@dataclasses.dataclass(frozen=True)
class Measure:
  """A figure as a ratio of sums over faces, which is what a bootstrap needs: sum(top) /
  sum(bottom); with several columns of `top`, the sum of the absolute values of their sums.

  Attributes:
    name: of the figure.
    top: float [N, K].
    bottom: float [N]; 0 for a face that does not count.
    metric: the same of (y_true, y_pred, rows), as Fairlearn calls it.
    bounds: what it cannot be below and above.
    compared: whether groups are compared by it.
  """

  name: str
  top: np.ndarray
  bottom: np.ndarray
  metric: Callable[..., float]
  bounds: tuple[float, float] = (0.0, 1.0)
  compared: bool = True

  def of(self, sums: np.ndarray) -> np.ndarray:
    """[...] from sums [..., K + 1] of the columns of `top` and of `bottom`; NaN where nothing
    counts.
    """
    tops, bottom = sums[..., :-1], sums[..., -1]
    top = tops[..., 0] if tops.shape[-1] == 1 else np.abs(tops).sum(axis=-1)
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 1e-9)


def fairlearn_metrics() -> Any:
  """The module `fairlearn.metrics`.

  Raises:
    UserError: Fairlearn is not installed.
  """
  try:
    from fairlearn import metrics
  except ImportError as error:
    raise UserError(
      "audit: Fairlearn is missing; install it: pip install 'mtface[audit]'"
    ) from error
  return metrics


def measures_of(answers: Answers) -> Iterator[Measure]:
  """The figures that are defined for some answers, see `audit.audit`.

  Raises:
    UserError: Fairlearn is not installed.
  """
  from sklearn.metrics import accuracy_score

  right, all_faces = answers.predicted == answers.labels, np.ones(len(answers))
  yield Measure('accuracy', _column(right), all_faces, _of_labels(accuracy_score))
  if len(answers.classes) == 2:
    yield from _error_rates(answers)
  if answers.values is not None:
    answered, values = answers.values_answered, np.asarray(answers.values)
    error = np.abs(answered - values[answers.labels])

    def mean_error(y_true: Any, y_pred: Any, rows: Any) -> float:
      return float(np.mean(np.abs(values[y_true] - answered[rows])))

    yield Measure('mean error', _column(error), all_faces, mean_error, (0.0, np.inf))
  if answers.probabilities is not None:
    yield from _calibration(answers.confidence, right)


def _error_rates(answers: Answers) -> Iterator[Measure]:
  wrong, metrics = answers.predicted != answers.labels, fairlearn_metrics()
  rates = (metrics.false_positive_rate, metrics.false_negative_rate)
  for label, (kind, rate) in enumerate(zip(('positive', 'negative'), rates, strict=True)):
    of = answers.labels == label
    metric = _of_labels(functools.partial(rate, pos_label=1))
    yield Measure(f'false {kind} rate', _column(of & wrong), of.astype(np.float64), metric)


def _calibration(confidence: np.ndarray, right: np.ndarray) -> Iterator[Measure]:
  all_faces, gaps = np.ones(len(right)), confidence - right
  bins = np.zeros((len(right), BINS))
  bins[np.arange(len(right)), bin_of(confidence)] = gaps

  def overconfidence(y_true: Any, y_pred: Any, rows: Any) -> float:
    return float(np.mean(confidence[rows]) - np.mean(right[rows]))

  def error(y_true: Any, y_pred: Any, rows: Any) -> float:
    return reliability(confidence[rows], right[rows]).ece

  yield Measure('overconfidence', _column(gaps), all_faces, overconfidence, (-1.0, 1.0))
  yield Measure(UNCOMPARED, bins, all_faces, error, compared=False)


def _column(values: np.ndarray) -> np.ndarray:
  return values.astype(np.float64)[:, None]


def _of_labels(metric: Callable[..., float]) -> Callable[..., float]:
  return lambda y_true, y_pred, rows: metric(y_true, y_pred)
