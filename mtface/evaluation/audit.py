"""`mtface audit`: accuracy, error rates and calibration by group, and which differences are more
than chance.

Groups are annotators' perceptions, as all labels are. Figures are those of Fairlearn's MetricFrame.
Intervals are of a bootstrap over people (over images, where it is not known who they show). A group
is flagged where the interval of its difference to all others leaves out zero. That interval is as
wide as the number of comparisons asks for (Bonferroni): with groups drawn by lot, an audit flags
anything at all with a probability of at most LEVEL.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from mtface.errors import UserError
from mtface.evaluation.answers import Answers
from mtface.evaluation.calibration import BINS, bin_of, reliability

LEVEL = 0.05
SMALLEST = 30  # faces, on either side of a comparison
REPLICATES = 1000
_TESTED = ('accuracy', 'missed ')  # shares of faces; a calibration error is not one


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of a group: its value with a 95% bootstrap interval, over `n` faces."""

  value: float
  low: float
  high: float
  n: int


@dataclasses.dataclass(frozen=True)
class GroupRow:
  """One group.

  Attributes:
    by: what it is a group of, as in `gender` or `gender x age_group`.
    group: its name, as in `female` or `female, 0-15`.
    n: faces.
    figures: {name: figure}; those that nobody of the group counts for are left out.
    differences: {figure: (value, low, high)}: the group's share minus that of all other faces,
      with the interval that decides on the flag; only where both sides have 30 faces.
  """

  by: str
  group: str
  n: int
  figures: Mapping[str, Figure]
  differences: Mapping[str, tuple[float, float, float]]

  @property
  def flagged(self) -> tuple[str, ...]:
    """The figures whose interval leaves out zero."""
    return tuple(name for name, (_, low, high) in self.differences.items() if low > 0 or high < 0)


@dataclasses.dataclass(frozen=True)
class Audit:
  """An audit of one task on one set.

  Attributes:
    answers: what it is of.
    overall: the figures of all faces together.
    rows: the groups, in the order of what they are groups of.
    comparisons: how many differences were tested; each at `LEVEL` / comparisons.
  """

  answers: Answers
  overall: Mapping[str, Figure]
  rows: tuple[GroupRow, ...]
  comparisons: int

  @property
  def flagged(self) -> tuple[GroupRow, ...]:
    """The rows of which some figure is flagged."""
    return tuple(row for row in self.rows if row.flagged)

  def worst(self, by: str) -> GroupRow | None:
    """The group of lowest accuracy among those that are large enough; None where none is."""
    rows = [row for row in self.rows if row.by == by and 'accuracy' in row.differences]
    return min(rows, key=lambda row: row.figures['accuracy'].value, default=None)


def audit(answers: Answers, *, seed: int = 0, replicates: int = REPLICATES) -> Audit:
  """Audits the answers by each of their groupings and each pair of groupings.

  Figures: `accuracy`; of a task with two classes `missed CLASS`, the share of the faces labelled so
  that are taken for the other class (its two error rates); `calibration error` (ECE, 15 bins) where
  there are probabilities.

  Args:
    answers: of one task on one set, with groups.
    seed: of the bootstrap.
    replicates: of the bootstrap.

  Raises:
    UserError: Fairlearn is missing, or there are no groups.
  """
  if not answers.groups:
    raise UserError(
      f'{answers.set_name}, {answers.task}: there is nothing to group by (gender, age_group and '
      'ethnicity5 are taken where a set labels them); name labels or columns as --groups=...'
    )
  measures, people = _measures(answers), _people(answers.subjects)
  groupings = _groupings(answers.groups)
  tested = [
    (of.by, group, name)
    for of in groupings
    for group in of.groups
    for name, measure in measures.items()
    if _is_tested(measure, name, of.names == group)
  ]
  drawn = _Bootstrap(people, seed, replicates)
  rows = []
  for of in groupings:
    figures = _figures(answers, measures, of, drawn)
    for group in of.groups:
      inside = of.names == group
      differences = {
        name: _difference(measures[name], inside, people, LEVEL / len(tested))
        for name in measures
        if (of.by, group, name) in tested
      }
      rows.append(GroupRow(of.by, group, int(inside.sum()), figures[group], differences))
  everyone = _Grouping('', np.full(len(answers), 'all'), ('all',))
  overall = _figures(answers, measures, everyone, drawn)['all']
  return Audit(answers, overall, tuple(rows), len(tested))


def _figures(
  answers: Answers, measures: Mapping[str, _Measure], of: _Grouping, drawn: _Bootstrap
) -> dict[str, dict[str, Figure]]:
  """{group: {name: figure}}, with intervals."""
  values = _by_group(answers, measures, of)
  intervals = {name: drawn.intervals(measure, of) for name, measure in measures.items()}
  return {
    group: {
      name: Figure(values[group][name], *intervals[name][i], int(n))
      for name, measure in measures.items()
      if (n := ((of.names == group) & measure.counts).sum())
    }
    for i, group in enumerate(of.groups)
  }


# --- Figures --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Measure:
  """A figure of faces: the mean of `hits` over those that count; with `confidence`, the calibration
  error of answers that are right where `hits` is.
  """

  hits: np.ndarray  # bool [N]
  counts: np.ndarray  # bool [N]
  confidence: np.ndarray | None = None

  def of(self, inside: np.ndarray) -> float:
    """The figure of some of the faces, bool [N]; NaN where none of them counts."""
    chosen = inside & self.counts
    if not chosen.any():
      return float('nan')
    if self.confidence is not None:
      return reliability(self.confidence[chosen], self.hits[chosen]).ece
    return float(self.hits[chosen].mean())


def _measures(answers: Answers) -> dict[str, _Measure]:
  right, everyone = answers.predicted == answers.labels, np.ones(len(answers), bool)
  found = {'accuracy': _Measure(right, everyone)}
  if len(answers.classes) == 2:
    for i, name in enumerate(answers.classes):
      found[f'missed {name}'] = _Measure(~right, answers.labels == i)
  if answers.probabilities is not None:
    rows = np.arange(len(answers))
    confidence = answers.probabilities[rows, answers.predicted]
    found['calibration error'] = _Measure(right, everyone, confidence)
  return found


def _by_group(
  answers: Answers, measures: Mapping[str, _Measure], of: _Grouping
) -> dict[str, dict[str, float]]:
  """{group: {figure: value}} as Fairlearn's MetricFrame has them."""
  try:
    from fairlearn.metrics import MetricFrame
  except ImportError as error:
    raise UserError("audit: needs Fairlearn; pip install 'mtface[audit]'") from error
  frame = MetricFrame(
    metrics={name: _metric(measure) for name, measure in measures.items()},
    y_true=answers.labels,
    y_pred=answers.predicted,
    sensitive_features=of.names,
    sample_params={name: {'rows': np.arange(len(answers))} for name in measures},
  )
  return {
    group: {name: float(frame.by_group.loc[group, name]) for name in measures}
    for group in of.groups
  }


def _metric(measure: _Measure) -> Callable[..., float]:
  def value(y_true: Any, y_pred: Any, rows: Any) -> float:
    inside = np.zeros(len(measure.counts), bool)
    inside[np.asarray(rows)] = True
    return measure.of(inside)

  return value


# --- Groups ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Grouping:
  """What the faces are grouped by: each face's group, text [N], '' where a part of it is not known;
  and the groups that occur, in order.
  """

  by: str
  names: np.ndarray
  groups: tuple[str, ...]


def _groupings(columns: Mapping[str, np.ndarray]) -> list[_Grouping]:
  """By each column alone, and by each pair."""
  chosen = [(name,) for name in columns] + list(itertools.combinations(columns, 2))
  return [_grouping({name: columns[name] for name in names}) for names in chosen]


def _grouping(of: Mapping[str, np.ndarray]) -> _Grouping:
  lines = list(zip(*(column.tolist() for column in of.values()), strict=True))
  names = np.array([', '.join(line) if all(line) else '' for line in lines])
  there = set(names.tolist())
  return _Grouping(' x '.join(of), names, tuple(x for x in _in_order(of) if x in there))


def _in_order(of: Mapping[str, np.ndarray]) -> list[str]:
  """The names of the groups, sorted as the columns' values are: numbers by number."""
  values = [sorted(set(column.tolist()) - {''}, key=_sorting) for column in of.values()]
  return [', '.join(parts) for parts in itertools.product(*values)]


def _sorting(text: str) -> tuple[float, str]:
  """61+ comes after 0-15, and both before words."""
  head = text.partition('-')[0].rstrip('+')
  return (float(head) if head.isdigit() else float('inf')), text


# --- Chance ---------------------------------------------------------------------------------------


def _people(subjects: np.ndarray) -> np.ndarray:
  """int [N]: a number for each person; each face of an unknown one has its own."""
  names = np.where(subjects == '', [f'\0{i}' for i in range(len(subjects))], subjects)
  return np.unique(names, return_inverse=True)[1]


class _Bootstrap:
  """Resamples of people, with all their faces."""

  def __init__(self, people: np.ndarray, seed: int, replicates: int):
    self._people, count = people, people.max() + 1
    rng = np.random.default_rng(seed)
    self._weights = [
      np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(replicates)
    ]

  def intervals(self, measure: _Measure, of: _Grouping) -> list[tuple[float, float]]:
    """(2.5%, 97.5%) quantiles of a figure of each group; NaN where nobody counts for it."""
    place = {group: i for i, group in enumerate(of.groups)}
    code = np.array([place.get(name, -1) for name in of.names.tolist()])
    rows = np.flatnonzero((code >= 0) & measure.counts)
    resampled = _Resampled(measure, code[rows], rows, len(place))
    values = np.array([resampled.values(x[self._people[rows]]) for x in self._weights])
    with warnings.catch_warnings(action='ignore', category=RuntimeWarning):  # columns of NaN
      low, high = np.nanquantile(values, (0.025, 0.975), axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


class _Resampled:
  """A figure of all groups at once, under weights of the faces."""

  def __init__(self, measure: _Measure, code: np.ndarray, rows: np.ndarray, groups: int):
    self._hits = measure.hits[rows].astype(np.float64)
    self._code, self._groups = code, groups
    self._confidence = None
    if measure.confidence is not None:
      self._confidence = measure.confidence[rows]
      self._cell = code * BINS + bin_of(self._confidence)

  def values(self, weights: np.ndarray) -> np.ndarray:
    """float [groups]; NaN where no face of a group was drawn."""
    total = np.bincount(self._code, weights, self._groups)
    if self._confidence is None:
      sums = np.bincount(self._code, weights * self._hits, self._groups)
    else:
      gaps = weights * (self._hits - self._confidence)
      cells = np.bincount(self._cell, gaps, self._groups * BINS)
      sums = np.abs(cells.reshape(self._groups, BINS)).sum(axis=1)
    return np.divide(sums, total, out=np.full(self._groups, np.nan), where=total > 0)


def _is_tested(measure: _Measure, name: str, inside: np.ndarray) -> bool:
  sizes = (inside & measure.counts).sum(), (~inside & measure.counts).sum()
  return name.startswith(_TESTED) and min(sizes) >= SMALLEST


def _difference(
  measure: _Measure, inside: np.ndarray, people: np.ndarray, level: float
) -> tuple[float, float, float]:
  """(difference, low, high) of the share in a group and outside of it.

  Agresti and Caffo 2000: one hit and one miss more on each side, which keeps the interval honest
  for few faces and for shares near 0 and 1, widened by how much faces of one person go together.
  """
  share, spread = [], 0.0
  for side in (inside, ~inside):
    chosen = side & measure.counts
    hits, n = measure.hits[chosen].astype(np.float64), int(chosen.sum())
    smoothed = (hits.sum() + 1) / (n + 2)
    share.append((hits.mean(), smoothed))
    spread += smoothed * (1 - smoothed) / (n + 2) * _design_effect(hits, people[chosen])
  (a, near_a), (b, near_b) = share
  reach = stats.norm.isf(level / 2) * np.sqrt(spread)
  return float(a - b), float(near_a - near_b - reach), float(near_a - near_b + reach)


def _design_effect(hits: np.ndarray, people: np.ndarray) -> float:
  """The variance of the mean with faces of one person together, over that of single faces; at least
  1.
  """
  errors = hits - hits.mean()
  alone = np.sum(errors**2)
  together = np.sum(np.bincount(people, errors) ** 2)
  return max(1.0, float(together / alone)) if alone > 0 else 1.0
