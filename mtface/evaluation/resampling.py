"""The bootstrap of an audit: people are drawn with replacement, with all their faces, and every
figure of every group is computed from the same draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse, stats

from mtface.data.groupings import Grouping
from mtface.evaluation.measures import Measure
from mtface.progress import progress

SMALLEST = 30  # people on either side of a comparison
_AT_ONCE = 50  # replicates: what is held is a number for each of them and each person
_SURE = float(stats.norm.ppf(0.975))  # standard errors on either side of a 95% interval


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of a group: its value with a 95% bootstrap interval, over `n` faces of `people`."""

  value: float
  low: float
  high: float
  n: int
  people: int

  @property
  def too_small(self) -> bool:
    """Whether it is of too few people to be compared."""
    return self.people < SMALLEST


class Block:
  """One figure of the groups of one grouping.

  Attributes:
    measure: the figure.
    n: int [G], the faces of each group that count for it.
    people: int [G], and the people whose faces these are.
    sums: sparse float [P, G * (K + 1)], the columns of `measure` summed over the faces of each
      person in each group.
    compared: bool [G], whether there is enough on both sides for a comparison.
    least: float [G], the least standard error of a group's value: that of the spread that all faces
      have. A group without a single mistake would have none, and be sure of it.
    least_of_difference: float [G], the same of its difference to the others.
  """

  def __init__(self, measure: Measure, of: Grouping, people: np.ndarray):
    self.measure, self._groups = measure, len(of.groups)
    rows = np.flatnonzero((of.codes >= 0) & (measure.bottom > 0))
    columns, codes = np.column_stack([measure.top, measure.bottom])[rows], of.codes[rows]
    places = codes[:, None] * columns.shape[1] + np.arange(columns.shape[1])
    who = np.broadcast_to(people[rows, None], places.shape)
    shape = people.max() + 1, self._groups * columns.shape[1]
    self.sums = sparse.csr_array((columns.ravel(), (who.ravel(), places.ravel())), shape=shape)
    self.n = np.bincount(codes, minlength=self._groups)
    pairs, of_pair = np.unique(np.stack([codes, people[rows]]), axis=1, return_inverse=True)
    self.people = np.bincount(pairs[0], minlength=self._groups)
    enough = np.minimum(self.people, self._others(*pairs)) >= SMALLEST
    self.compared = enough if measure.compared else np.zeros_like(enough)
    self.least, self.least_of_difference = self._least(columns, of_pair)

  def _others(self, codes: np.ndarray, people: np.ndarray) -> np.ndarray:
    """int [G]: people with faces in other groups, from each pair of a group and one of its
    people.
    """
    groups_of_each = np.bincount(people)
    alone = codes[groups_of_each[people] == 1]
    return np.count_nonzero(groups_of_each) - np.bincount(alone, minlength=self._groups)

  def _least(self, columns: np.ndarray, of_pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`least` and `least_of_difference` from the columns of the faces that count, and the number of
    the pair of a group and a person that each belongs to.
    """
    if columns.shape[1] > 2:  # no ratio: the errors of a sum of absolute values are not known
      return np.zeros(self._groups), np.zeros(self._groups)
    top, bottom = columns.T
    counted = self.by_group(np.asarray(self.sums.sum(axis=0)))[:, 1]
    with np.errstate(divide='ignore', invalid='ignore'):
      residual = top - top.sum() / bottom.sum() * bottom
      spread = np.sum(np.bincount(of_pair, residual) ** 2) / bottom.sum()
      one, others = spread / counted, spread / (bottom.sum() - counted)
    return np.sqrt(one), np.sqrt(one + others)

  def by_group(self, sums: np.ndarray) -> np.ndarray:
    """[..., G, K + 1] from [..., G * (K + 1)]."""
    return sums.reshape(*sums.shape[:-1], self._groups, -1)

  def differences(self, sums: np.ndarray) -> np.ndarray:
    """[..., G]: the value of each group minus that of all others together."""
    found = self.by_group(sums)
    return self.measure.of(found) - self.measure.of(found.sum(axis=-2, keepdims=True) - found)


@dataclasses.dataclass(frozen=True)
class Spread:
  """How a block's figures vary from one bootstrap sample to another.

  Attributes:
    block: whose.
    error: float [G], standard errors of the values.
    of_difference: float [G], and of the differences to all others.
    deviation: float [B], of each sample the largest |difference - that of the data| in standard
      deviations over the samples, of the groups that are compared; 0 where none is.
  """

  block: Block
  error: np.ndarray
  of_difference: np.ndarray
  deviation: np.ndarray

  def figure(self, k: int, value: float) -> Figure:
    """The figure of a group, whose value is given."""
    low, high = self.block.measure.bounds
    reach = _SURE * self.error[k]
    people = int(self.block.people[k])
    return Figure(
      value, max(low, value - reach), min(high, value + reach), int(self.block.n[k]), people
    )

  def difference(self, k: int, reach: float) -> tuple[float, float, float]:
    """(difference, low, high) of a group; `reach` in standard errors."""
    value = float(self.block.differences(np.asarray(self.block.sums.sum(axis=0)))[k])
    width = reach * float(self.of_difference[k])
    return value, value - width, value + width


@dataclasses.dataclass(frozen=True)
class Spreads:
  """Those of all blocks, from the same bootstrap samples."""

  blocks: Sequence[Spread]

  @property
  def comparisons(self) -> int:
    """How many differences are compared."""
    return sum(int(one.block.compared.sum()) for one in self.blocks)

  def reach(self, level: float) -> float:
    """Within how many standard errors all differences are at once, but for a share `level` of the
    samples.
    """
    largest = np.max([one.deviation for one in self.blocks], axis=0)
    return float(np.quantile(largest, 1 - level))


def bootstrap(blocks: Sequence[Block], seed: int, replicates: int) -> Spreads:
  """Draws as many people as there are, with replacement and with all their faces, `replicates`
  times.
  """
  everything = sparse.hstack([block.sums for block in blocks], format='csr')
  count = everything.shape[0]
  rng = np.random.default_rng(seed)
  samples = []
  for start in progress(range(0, replicates, _AT_ONCE), 'bootstrap'):
    size = min(_AT_ONCE, replicates - start)
    drawn = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
    samples.append(weights @ everything)
  ends = np.cumsum([block.sums.shape[1] for block in blocks])[:-1]
  parts = np.split(np.concatenate(samples), ends, axis=1)
  return Spreads([_spread(block, sums) for block, sums in zip(blocks, parts, strict=True)])


def _spread(block: Block, sums: np.ndarray) -> Spread:
  error = np.fmax(_deviation(block.measure.of(block.by_group(sums))), block.least)
  differences, data = block.differences(sums), np.asarray(block.sums.sum(axis=0))
  deviation = _deviation(differences)
  # In their own deviations: in the least ones, groups without a mistake would seem to vary little.
  chosen = np.flatnonzero(block.compared & (deviation > 0))
  gaps = np.abs(differences - block.differences(data))[:, chosen] / deviation[chosen]
  largest = np.nanmax(gaps, axis=1) if len(chosen) else np.zeros(len(sums))
  return Spread(block, error, np.fmax(deviation, block.least_of_difference), largest)


def _deviation(values: np.ndarray) -> np.ndarray:
  """float [G]: the standard deviation of each column of [B, G], of the samples that have it; 0
  where none has.
  """
  known = np.isfinite(values)
  count = np.maximum(known.sum(axis=0), 1)
  mean = np.where(known, values, 0).sum(axis=0) / count
  return np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count)
