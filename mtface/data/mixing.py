"""Mixtures: how sources share an epoch.

`equal` (Sang 2017, section 4.2) gives every task the same number of labelled samples an epoch. With
one task a source that is simple: the smaller sources are repeated. Here a source may label several
tasks, and each of its samples only some of them, so the samples are grouped by *pattern*: (source,
the tasks that the sample is labelled for). How often each pattern is drawn is a small linear
programme (`_solve`):

    every task is labelled at least K times, K being the count of the task that has most labels;
    every sample is drawn at least once; as few draws as possible, and then repeats as even as
    possible.

Where equal is not what is needed, tasks have shares (`config.tasks.TASK.share`): task t is labelled
s_t K times, K being the largest count / s_t, so that a set of 3,000 need not be shown ten times
while one of 28,000 waits.

With `config.balance`, the draws of a pattern are shared equally among the groups of its faces, such
as the classes of `ethnicity5`: a small group is repeated, and of a large one fewer are drawn. It is
meant for a stage that trains the heads again (docs/audit.md), the cheap answer to groups that a
network serves worse (Kang et al. 2020, "Decoupling representation and classifier", section 4.2;
Kirichenko et al. 2023).

Inside a pattern every sample is drawn floor or ceil (draws / samples) times an epoch, and which
samples get the extra draw rotates from epoch to epoch. Some sets of labels cannot be made equal by
repeating alone: where each sample with task a also has task b, but not the other way round, b
always stays ahead. The surplus labels are then hidden (masked): exactly as many a task as are over
K, rotating over the samples; the image still serves its other tasks. What cannot be had is
equality, all labels used, and all samples drawn, at once.

Everything is a function of (sources, seed, position in the global stream): there is no state to
save, and any host can compute any slice.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mtface.config.tables import MIXTURES
from mtface.data.sources import Source
from mtface.errors import UserError


@dataclasses.dataclass(frozen=True)
class Draws:
  """Consecutive samples of the global stream.

  Attributes:
    source: int32 [n], which source each sample comes from.
    row: int [n], which sample of that source.
    hidden: task -> bool [n], labels that are masked to keep the counts equal. Only tasks with any
      are present.
  """

  source: np.ndarray
  row: np.ndarray
  hidden: dict[str, np.ndarray]

  def __getitem__(self, part: slice | np.ndarray) -> Draws:
    return Draws(self.source[part], self.row[part], {t: h[part] for t, h in self.hidden.items()})


@dataclasses.dataclass(frozen=True)
class Pattern:
  """Samples of one source that are labelled for the same tasks."""

  source: int
  tasks: frozenset[str]
  rows: np.ndarray


class Mixture:
  """A mixture over sources: an endless stream of samples, cut into epochs.

  Attributes:
    epoch_size: samples an epoch.
    counts: task -> labelled samples an epoch, after hiding.
    draws: source index -> samples drawn from it an epoch.
  """

  def __init__(
    self,
    epoch_size: int,
    counts: dict[str, int],
    draws: list[int],
    make_epoch: Callable[[int], Draws],
  ):
    self.epoch_size = epoch_size
    self.counts = counts
    self.draws = draws
    self._lock = (
      threading.Lock()
    )  # the loader's threads ask at once; an epoch's order is made only once
    self._epoch = functools.lru_cache(maxsize=2)(make_epoch)

  def epoch(self, number: int) -> Draws:
    """All draws of one epoch, in order."""
    with self._lock:
      return self._epoch(number)

  def at(self, start: int, stop: int) -> Draws:
    """The samples at positions [start, stop) of the stream, which may cross epochs."""
    pieces = []
    while start < stop:
      number, first = divmod(start, self.epoch_size)
      last = min(self.epoch_size, first + stop - start)
      pieces.append(self.epoch(number)[first:last])
      start += last - first
    if len(pieces) == 1:
      return pieces[0]
    hidden = {t: np.concatenate([p.hidden[t] for p in pieces]) for t in pieces[0].hidden}
    return Draws(
      np.concatenate([p.source for p in pieces]), np.concatenate([p.row for p in pieces]), hidden
    )


def make_mixture(
  kind: str,
  sources: Sequence[Source],
  *,
  seed: int,
  batch_size: int,
  shares: Mapping[str, float] | None = None,
  groups: Mapping[int, np.ndarray] | None = None,
) -> Mixture:
  """Builds a mixture.

  Args:
    kind: a name in `tables.MIXTURES`.
    sources: what is mixed.
    seed: orders and rotations depend on it.
    batch_size: of the global batch.
    shares: {task: its share}, for the mixtures that know them; 1 where none is given.
    groups: {index of a source: int [N]}, its faces' groups, which are drawn equally often; -1 where
      it is not known, and those keep their part.

  Raises:
    UserError: there are groups, and the mixture cannot balance them.
  """
  entry = MIXTURES.entry(kind, 'config.mixture')
  further: dict[str, Any] = {'shares': shares or {}} if entry.traits['shares'] else {}
  if groups:
    if not entry.traits['groups']:
      able = [name for name, of in MIXTURES.items() if of.traits['groups']]
      raise UserError(
        f'config.balance: the mixture {kind} knows no groups; take config.mixture='
        f'{" or ".join(able)}'
      )
    further['groups'] = groups
  return entry.load()(sources, seed=seed, batch_size=batch_size, **further)


def equal(
  sources: Sequence[Source],
  *,
  seed: int,
  batch_size: int,
  shares: Mapping[str, float] | None = None,
  groups: Mapping[int, np.ndarray] | None = None,
) -> Mixture:
  """Equal labelled samples a task, or as many as its share, see the module's docstring."""
  del batch_size
  patterns = find_patterns(sources)
  targets, draws = _solve(patterns, shares or {})
  return _mixed(sources, *balanced(patterns, draws, groups or {}), targets, seed)


def proportional(
  sources: Sequence[Source],
  *,
  seed: int,
  batch_size: int,
  groups: Mapping[int, np.ndarray] | None = None,
) -> Mixture:
  """Every sample once an epoch; with groups, as many draws, shared among them equally."""
  del batch_size
  patterns = find_patterns(sources)
  draws = [len(p.rows) for p in patterns]
  return _mixed(sources, *balanced(patterns, draws, groups or {}), {}, seed)


def find_patterns(sources: Sequence[Source]) -> list[Pattern]:
  """Groups the samples of each source by the tasks they are labelled for. Samples without any label
  are left out of training.
  """
  patterns = []
  for index, source in enumerate(sources):
    tasks = sorted(source.labels)
    bits = np.stack([source.labelled(t) for t in tasks], axis=1)
    for bit_row in np.unique(bits, axis=0)[::-1]:
      labelled = frozenset(t for t, bit in zip(tasks, bit_row, strict=True) if bit)
      if labelled:
        patterns.append(Pattern(index, labelled, np.flatnonzero((bits == bit_row).all(axis=1))))
  if not patterns:
    raise UserError(
      f'sources {", ".join(s.name for s in sources)}: no sample has a label for any of the tasks'
    )
  return patterns


def balanced(
  patterns: Sequence[Pattern], draws: Sequence[int], groups: Mapping[int, np.ndarray]
) -> tuple[list[Pattern], list[int]]:
  """(patterns, draws), each pattern of a source with groups divided into one for each of them, and
  its draws equally; faces of no known group keep their share.
  """
  found: list[tuple[Pattern, int]] = []
  for pattern, count in zip(patterns, draws, strict=True):
    codes = groups[pattern.source][pattern.rows] if pattern.source in groups else None
    if codes is None or (codes < 0).all():
      found.append((pattern, count))
      continue
    unknown = pattern.rows[codes < 0]
    if len(unknown):
      of_unknown = round(count * len(unknown) / len(codes))
      found.append((dataclasses.replace(pattern, rows=unknown), of_unknown))
      count -= of_unknown
    there = np.unique(codes[codes >= 0])
    each, rest = divmod(count, len(there))
    for i, code in enumerate(there):
      of_group = dataclasses.replace(pattern, rows=pattern.rows[codes == code])
      found.append((of_group, each + (i < rest)))
  return [pattern for pattern, _ in found], [count for _, count in found]


def _solve(
  patterns: Sequence[Pattern], shares: Mapping[str, float]
) -> tuple[dict[str, int], list[int]]:
  """({task: its labels}, draws of each pattern) an epoch: the linear programme of the module's
  docstring.
  """
  from scipy.optimize import linprog

  sizes = np.array([len(p.rows) for p in patterns], float)
  tasks = sorted(frozenset.union(*(p.tasks for p in patterns)))
  serves = np.array([[task in p.tasks for p in patterns] for task in tasks], float)
  wanted = np.array([shares.get(task, 1.0) for task in tasks])
  largest = ((serves @ sizes) / wanted).max()
  targets = np.array([math.ceil(largest * share - 1e-6) for share in wanted])
  # Variables: draws of each pattern in units of its size (repeats), and their maximum, which is
  # worth a little less than a draw.
  cost = np.append(sizes / sizes.sum(), 1e-3)
  enough = np.hstack([-serves * sizes, np.zeros((len(tasks), 1))])
  even = np.hstack([np.eye(len(sizes)), -np.ones((len(sizes), 1))])
  solved = linprog(
    cost,
    A_ub=np.vstack([enough / targets[:, None], even]),
    b_ub=np.append(-np.ones(len(tasks)), np.zeros(len(sizes))),
    bounds=[(1, None)] * len(cost),
  )
  if not solved.success:
    raise RuntimeError(
      f'equal mixing: {solved.message}'
    )  # always feasible: repeating enough reaches K for every task
  draws = [math.ceil(x - 1e-6) for x in solved.x[:-1] * sizes]
  return dict(zip(tasks, targets.tolist(), strict=True)), draws


def _mixed(
  sources: Sequence[Source],
  patterns: Sequence[Pattern],
  draws: Sequence[int],
  targets: Mapping[str, int],
  seed: int,
) -> Mixture:
  """Shuffled epochs in which pattern p is drawn draws[p] times; labels over a task's target are
  hidden.
  """
  labelled = _tasks_of(sources)
  counts = {
    t: sum(d for p, d in zip(patterns, draws, strict=True) if t in p.tasks) for t in labelled
  }
  surplus = {t: n - targets[t] for t, n in counts.items() if n > targets.get(t, n)}
  source = np.repeat([p.source for p in patterns], draws).astype(np.int32)
  served = {t: np.flatnonzero(np.repeat([t in p.tasks for p in patterns], draws)) for t in surplus}
  fixed = [_generator(seed, 0, i).permutation(p.rows) for i, p in enumerate(patterns)]

  def make_epoch(number: int) -> Draws:
    rows = np.concatenate(
      [_floor_or_ceil(order, d, number) for order, d in zip(fixed, draws, strict=True)]
    )
    hidden = {}
    for i, (task, over) in enumerate(surplus.items()):
      hidden[task] = np.zeros(len(rows), bool)
      among = _generator(seed, 1, i).permutation(served[task])
      hidden[task][_rotating(among, over, number)] = True
    return Draws(source, rows, hidden)[_generator(seed, 2, number).permutation(len(rows))]

  counts |= {t: targets[t] for t in surplus}
  per_source = [int((source == i).sum()) for i in range(len(sources))]
  return Mixture(len(source), counts, per_source, make_epoch)


def _floor_or_ceil(order: np.ndarray, draws: int, epoch: int) -> np.ndarray:
  """`draws` of the samples in `order`: each of them floor(draws / n) times, and a window that
  rotates with the epoch once more.
  """
  repeats, rest = divmod(draws, len(order))
  return np.concatenate([np.tile(order, repeats), _rotating(order, rest, epoch)])


def _rotating(order: np.ndarray, count: int, epoch: int) -> np.ndarray:
  return order[(epoch * count + np.arange(count)) % len(order)]


def alternate(sources: Sequence[Source], *, seed: int, batch_size: int) -> Mixture:
  """Batch k comes from source k mod S alone (Pons 2018's classical multi-task training).

  Each source is walked through at its own pace and in its own order, which is reshuffled at each
  pass; an epoch is as long as the largest needs.
  """
  usable = [np.flatnonzero(np.any([s.labelled(t) for t in s.labels], axis=0)) for s in sources]
  for source, rows in zip(sources, usable, strict=True):
    if not len(rows):
      raise UserError(f'{source.name}: no sample has a label for any of {", ".join(source.labels)}')
  rounds = math.ceil(max(map(len, usable)) / batch_size)
  each = rounds * batch_size

  def make_epoch(number: int) -> Draws:
    rows = [
      _walk(order, number * each, each, seed, i).reshape(rounds, batch_size)
      for i, order in enumerate(usable)
    ]
    source = np.broadcast_to(
      np.arange(len(sources), dtype=np.int32)[None, :, None], (rounds, len(sources), batch_size)
    )
    return Draws(source.reshape(-1), np.stack(rows, axis=1).reshape(-1), {})

  counts = dict.fromkeys(_tasks_of(sources), 0)
  for source, rows in zip(sources, usable, strict=True):
    for task in source.labels:
      counts[task] += round(each * source.labelled(task)[rows].mean())
  return Mixture(each * len(sources), counts, [each] * len(sources), make_epoch)


def _walk(rows: np.ndarray, start: int, count: int, seed: int, stream: int) -> np.ndarray:
  """Positions [start, start + count) of the stream that shuffles `rows` anew at each pass."""
  first, last = start // len(rows), (start + count - 1) // len(rows)
  passes = [
    _generator(seed, 3, stream, number).permutation(rows) for number in range(first, last + 1)
  ]
  return np.concatenate(passes)[start - first * len(rows) :][:count]


def _tasks_of(sources: Sequence[Source]) -> list[str]:
  return list(dict.fromkeys(task for source in sources for task in sorted(source.labels)))


def _generator(*key: int) -> np.random.Generator:
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
