"""`mtface audit`: accuracy, error rates and calibration by group, and which differences are more
than chance.

Groups are annotators' perceptions, as all labels are. Figures are those of Fairlearn's MetricFrame;
what they leave open, how far they can be trusted, is a bootstrap over people (over faces where it
is not known whose they are), in which all faces of a person come along or none.

A group is flagged where the interval of its difference to all other faces leaves out zero. These
intervals hold for all groups and figures of an audit together: their width is the quantile of the
largest of all standardised deviations in the bootstrap ("max-t": Romano and Wolf 2005, Econometrica
73; Dudoit and van der Laan 2008, ch. 4), so that of audits by groups that were drawn by lot a share
of LEVEL flags anything at all, however many groups there are. Unlike Bonferroni's rule it pays
nothing for groups that say the same twice, as women beside men, and both beside their ages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mtface.data.groupings import Grouping, everyone, groupings_of
from mtface.errors import UserError
from mtface.evaluation.answers import Answers
from mtface.evaluation.measures import UNCOMPARED, Measure, fairlearn_metrics, measures_of
from mtface.evaluation.resampling import Block, Figure, Spread, bootstrap

LEVEL = 0.05  # the share of audits by groups drawn by lot that flag anything
REPLICATES = 2000


@dataclasses.dataclass(frozen=True)
class GroupRow:
  """One group.

  Attributes:
    by: what it is a group of, as in `gender` or `gender x age_group`.
    group: its name, as in `female` or `female, 0-15`.
    n: faces.
    figures: {name: figure}; those that none of its faces counts for are left out.
    differences: {figure: (difference, low, high)}: the group's value minus that of the faces in all
      other groups of `by`, with the interval that decides on a flag. Left out where one side has
      fewer than 30 people, and for figures that are not compared (`calibration error`).
  """

  by: str
  group: str
  n: int
  figures: Mapping[str, Figure]
  differences: Mapping[str, tuple[float, float, float]]

  @property
  def flagged(self) -> tuple[str, ...]:
    """The figures whose interval of the difference leaves out zero."""
    return tuple(name for name, (_, low, high) in self.differences.items() if low > 0 or high < 0)

  @property
  def too_small(self) -> bool:
    """Whether nothing of it could be compared."""
    return not self.differences


@dataclasses.dataclass(frozen=True)
class Audit:
  """An audit of one task on one set.

  Attributes:
    answers: what it is of.
    overall: the figures of all faces together.
    rows: the groups, in the order of what they are groups of.
    comparisons: how many differences have an interval.
    level: the share of such audits by groups drawn by lot that flag anything.
    reach: half the width of these intervals, in standard errors; 1.96 would be that of a single
      one.
  """

  answers: Answers
  overall: Mapping[str, Figure]
  rows: tuple[GroupRow, ...]
  comparisons: int
  level: float
  reach: float

  @property
  def flagged(self) -> tuple[GroupRow, ...]:
    """The rows of which some figure is flagged."""
    return tuple(row for row in self.rows if row.flagged)

  @property
  def compared(self) -> tuple[str, ...]:
    """The figures that groups are compared by."""
    return tuple(name for name in self.overall if name != UNCOMPARED)

  def worst(self, by: str, figure: str = 'accuracy') -> GroupRow | None:
    """The group of `by` with the worst value of a figure, of those that could be compared; None
    where none could.
    """
    rows = [row for row in self.rows if row.by == by and figure in row.differences]
    return max(rows, key=lambda row: badness(figure, row.figures[figure].value), default=None)


def badness(figure: str, value: float) -> float:
  """A number that is larger for what is worse: an accuracy that is low, a confidence that is too
  high or too low, any other figure that is high.
  """
  return -value if figure == 'accuracy' else abs(value)


def audit(
  answers: Answers,
  *,
  seed: int = 0,
  replicates: int = REPLICATES,
  level: float = LEVEL,
  together: int = 2,
) -> Audit:
  """Audits the answers by each of their groupings, and by several of them at a time.

  Figures:
    accuracy: the share of right answers.
    false positive rate, false negative rate: of a task with two classes; the second one is the
      positive one.
    mean error: of a task with values (ages), |value answered - value labelled|.
    overconfidence: mean probability of the answers minus accuracy; below 0 they are not sure
      enough.
    calibration error: ECE, 15 bins. It is larger for a smaller group by noise alone, so it is shown
      and not compared.

  Args:
    answers: of one task on one set, with groups.
    seed: of the bootstrap.
    replicates: of the bootstrap.
    level: the share of audits by random groups that flag anything.
    together: by how many of the groupings at a time, at most.

  Raises:
    UserError: Fairlearn is missing, there are no groups, or a number is too small.
  """
  for name, value, least in (
    ('resamples', replicates, 2),
    ('seed', seed, 0),
    ('together', together, 1),
  ):
    if value < least:
      raise UserError(f'--{name}={value}: expected at least {least}')
  if not answers.groups:
    raise UserError(
      f'{answers.set_name}, {answers.task}: there is nothing to group by (gender, age and '
      'ethnicity are taken where a set labels them); name labels, attributes or columns as '
      '--groups=...'
    )
  measures = list(measures_of(answers))
  groupings = [everyone(len(answers)), *groupings_of(answers.groups, together)]
  values = [_by_group(answers, measures, of) for of in groupings]  # what is missing shows first
  blocks = [Block(measure, of, answers.people) for of in groupings for measure in measures]
  errors = bootstrap(blocks, seed, replicates)
  reach = errors.reach(level)
  rows = []
  for i, (of, found) in enumerate(zip(groupings, values, strict=True)):
    spread = errors.blocks[i * len(measures) : (i + 1) * len(measures)]
    rows += [_row(of, k, found[k], spread, reach) for k in range(len(of.groups))]
  return Audit(answers, rows[0].figures, tuple(rows[1:]), errors.comparisons, level, reach)


def _row(
  of: Grouping, k: int, values: Mapping[str, float], spread: Sequence[Spread], reach: float
) -> GroupRow:
  counted = [one for one in spread if one.block.n[k]]
  return GroupRow(
    of.by,
    of.groups[k],
    int((of.codes == k).sum()),
    {one.block.measure.name: one.figure(k, values[one.block.measure.name]) for one in counted},
    {one.block.measure.name: one.difference(k, reach) for one in counted if one.block.compared[k]},
  )


def _by_group(
  answers: Answers, measures: Sequence[Measure], of: Grouping
) -> list[dict[str, float]]:
  """{figure: value} of each group, as Fairlearn's MetricFrame has them."""
  rows = np.flatnonzero(of.codes >= 0)
  frame = fairlearn_metrics().MetricFrame(
    metrics={measure.name: measure.metric for measure in measures},
    y_true=answers.labels[rows],
    y_pred=answers.predicted[rows],
    sensitive_features={'group': of.codes[rows]},  # an array of one face it takes for a number
    sample_params={measure.name: {'rows': rows} for measure in measures},
  )
  table = frame.by_group
  return [
    {measure.name: float(table[measure.name][k]) for measure in measures}
    for k in range(len(of.groups))
  ]
