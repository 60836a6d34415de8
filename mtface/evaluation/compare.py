"""`mtface compare`: two cross-validations, fold by fold."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ml_collections import ConfigDict
from scipy import stats

from mtface.config.saved import read_config
from mtface.data.names import Draw, Each, Fold, Part, SourceName
from mtface.errors import UserError
from mtface.evaluation.crossval import named_sources, read_crossval
from mtface.evaluation.results import Row, markdown_table
from mtface.files import split_selection
from mtface.tasks import get_task


def compare(first: str, second: str, level: float = 0.95) -> list[Row]:
  """The second's accuracy minus the first's, paired by fold, with an interval where one is known.

  The rounds' training sets overlap, so the variance of the mean of k differences is not s^2 / k.
  Nadeau and Bengio ("Inference for the Generalization Error", 2003, section 3) correct it to (1/k +
  n_test/n_train) s^2 where each round divides the same samples anew into a test and a training
  part: Student's interval with that variance is given for a set that is tested on its folds
  (1/(k-1), as Bouckaert and Frank 2004) or on draws, while the rest of it is trained on. There is
  none for a set that is no part of what rotates, such as FER-2013's published splits: all rounds
  share its test samples, so their spread says nothing of another test set, and how much the rounds
  have in common is not known (no estimate of it is unbiased: Bengio and Grandvalet 2004).

  Args:
    first: `WORKDIR@SELECTION` of a cross-validation; without a selection, `last`.
    second: another, of as many folds, measured on the same parts.
    level: of the interval.

  Returns: One row for each set and task that both have: `set`, `task`, `differences`, `mean`,
    `low`, `high` (both None without an interval) and `why` there is none ('' if there is one).
  """
  (rows_a, config_a), (rows_b, config_b) = _selected(first), _selected(second)
  found = [
    _difference(key, rows_a[key], rows_b[key], (config_a, config_b), level)
    for key in rows_a
    if key in rows_b
  ]
  if not found:
    raise UserError(f'{first} and {second}: measured no set and task in common')
  return found


def _selected(operand: str) -> tuple[dict[tuple[str, str], Row], ConfigDict]:
  """({(set, task): row} of one selection, the config) of a cross-validation."""
  workdir, selection = split_selection(operand)
  rows = read_crossval(workdir)['results']
  chosen = {(r['set'], r['task']): r for r in rows if r['checkpoint'] == (selection or 'last')}
  if not chosen:
    have = ', '.join(dict.fromkeys(row['checkpoint'] for row in rows)) or 'nothing'
    raise UserError(f'{operand}: no such selection was measured there; there is {have}')
  return chosen, read_config(workdir)


def _difference(
  key: tuple[str, str], a: Row, b: Row, configs: Sequence[ConfigDict], level: float
) -> Row:
  k = len(a['accuracy'])
  if k != len(b['accuracy']):
    raise UserError(f'{key[0]}: {k} folds and {len(b["accuracy"])} cannot be paired')
  for one, other in zip(a['source'], b['source'], strict=True):
    if one != other:
      raise UserError(
        f'{key[0]}: one was measured on {one}, the other on {other}, which cannot be paired'
      )
  differences = [y - x for x, y in zip(a['accuracy'], b['accuracy'], strict=True)]
  mean = statistics.mean(differences)
  row = {
    'set': key[0],
    'task': key[1],
    'differences': differences,
    'mean': mean,
    'low': None,
    'high': None,
    'why': '',
  }
  tested = [SourceName.parse(source) for source in a['source']]
  if len(set(a['source'])) == 1:
    return row | {'why': 'all rounds have the same test images'}
  ratios = [_test_to_training(tested[0], max(a.get('n', [0])), config) for config in configs]
  if None in ratios:
    return row | {'why': 'the rest of the set is not trained on'}
  ratio = max(ratio for ratio in ratios if ratio is not None)
  half = (
    stats.t.ppf((1 + level) / 2, k - 1) * statistics.stdev(differences) * (1 / k + ratio) ** 0.5
  )
  return row | {'low': mean - half, 'high': mean + half}


def _test_to_training(tested: SourceName, size: int, config: ConfigDict) -> float | None:
  """Test samples over training samples of a set that a config tests on a part of (of `size` faces)
  and trains on the rest of; None if it does not, or the names do not say how many there are.
  """
  for entry in named_sources(config):
    name = SourceName.parse(entry.name)
    if (name.set_name, name.split, name.limits) != (tested.set_name, tested.split, tested.limits):
      continue
    if (ratio := _ratio(tested.part, name.part, size)) is not None:
      return ratio
  return None


def _ratio(tested: Part | None, trained: Part | None, size: int) -> float | None:
  match tested, trained:
    case Fold(), Fold(others=True) if trained.of == tested.of:
      return 1 / (tested.of - 1)
    case Draw(), Draw(after=0) if trained.of == tested.of and trained.take <= tested.after:
      return tested.take / trained.take
    case Each(others=True), Each(others=False) if (trained.of, trained.each) == (
      tested.of,
      tested.each,
    ):
      return size / (trained.each * get_task(trained.of).num_classes)
  return None


def comparison_table(rows: Sequence[Row]) -> str:
  """Differences in percentage points, with their intervals."""
  columns = [
    'set',
    'task',
    'difference',
    '95% interval',
    *(f'fold {k}' for k in range(len(rows[0]['differences']))),
  ]
  return markdown_table(columns, [_difference_cells(row) for row in rows])


def _difference_cells(row: Row) -> list[str]:
  mean, *points = [f'{100 * x:+.2f}' for x in (row['mean'], *row['differences'])]
  interval = (
    f'none: {row["why"]}' if row['why'] else f'{100 * row["low"]:+.2f} to {100 * row["high"]:+.2f}'
  )
  return [row['set'], row['task'], mean, interval, *points]
