"""The figures of results.json: tables with intervals, by class, and which classes are taken for
which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mtface.evaluation.results import Row
from mtface.metrics import wilson_interval
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import (
  Cell,
  Heat,
  Missing,
  Part,
  Table,
  Value,
  count,
  interval,
  number,
  share,
  wilson,
)

_MOST_CLASSES = 20  # of a table of confusions; of more, the most frequent are listed
_MOST_PAIRS = 15


def results(run: Gathered) -> list[Part]:
  """A row for each selection of checkpoints, set and task; then, of the chosen one, by class."""
  if not run.rows:
    text = 'Nothing has been measured yet.'
    return [Missing(text, run.command('evaluate', f' --data_dir={run.data_dir} --predictions'))]
  others = dict.fromkeys(row['checkpoint'] for row in run.rows if row not in run.chosen)
  return [
    *([_table(run, run.checkpoint)] if run.chosen else []),
    *(_by_class(row) for row in run.chosen if 'classes' in row),
    *(_table(run, name, closed=True) for name in others),
  ]


def _table(run: Gathered, checkpoint: str, *, closed: bool = False) -> Table:
  chosen = [row for row in run.rows if row['checkpoint'] == checkpoint]
  errors = any(row.get('mae') is not None for row in chosen)
  columns = ('set', 'task', 'accuracy', '95% interval', 'n', 'balanced', 'macro F1')
  caption = f'{checkpoint}: accuracy with its 95% Wilson interval'
  rows = [_cells(row, errors) for row in chosen]
  return Table(caption, (*columns, 'MAE, years') if errors else columns, rows, closed)


def _cells(row: Row, errors: bool) -> list[Cell]:
  within = interval(row['low'], row['high']) if 'low' in row else ''
  cells: list[Cell] = [row['set'], row['task'], share(row['accuracy']), within, count(row['n'])]
  cells += [share(row.get('balanced_accuracy')), share(row.get('macro_f1'))]
  return cells + ([number(row.get('mae'), 2)] if errors else [])


def _by_class(row: Row) -> Table:
  title = f'{row["task"]} on {row["set"]}, by class'
  if 'per_class_f1' in row:
    columns = ('class', 'n', 'yes', 'accuracy', '95% interval', 'F1')
    return Table(title, columns, list(_yes_or_no(row)), closed=True)
  ours = ('class', 'n', 'of these right', '95% interval', 'precision')
  return Table(title, ours, list(_of_classes(row)), closed=True)


def _yes_or_no(row: Row) -> Iterator[list[Cell]]:
  lists = (row[key] for key in ('classes', 'per_class_n', 'tp', 'tn', 'fn', 'per_class_f1'))
  for name, n, tp, tn, fn, f1 in zip(*lists, strict=True):
    right = share((tp + tn) / n if n else None)
    yield [name, count(n), count(tp + fn), right, wilson(tp + tn, n), share(f1)]


def _of_classes(row: Row) -> Iterator[list[Cell]]:
  confusion = np.array(row['confusion'])
  labelled, predicted, right = confusion.sum(1), confusion.sum(0), np.diagonal(confusion)
  for i, name in enumerate(row['classes']):
    n, hits = int(labelled[i]), int(right[i])
    precision = hits / predicted[i] if predicted[i] else None
    recall = row['per_class_accuracy'][i]
    yield [name, count(n), share(recall), wilson(hits, n), share(precision)]


def confusions(run: Gathered) -> list[Part]:
  """For each single-label task and set: which labels are taken for which."""
  rows = [
    row
    for row in run.chosen
    if row.get('confusion') and 'classes' in row and row.get('mae') is None  # ages have a section
  ]
  if not rows:
    text = 'No single-label task of few classes has been measured.'
    return [Missing(text, '' if run.rows else run.command('evaluate'))]
  return [_confusion(row) for row in rows]


def _confusion(row: Row) -> Part:
  counts, names = np.array(row['confusion']), row['classes']
  title = f'{row["task"]} on {row["set"]}: labelled (rows), predicted (columns)'
  if len(names) > _MOST_CLASSES:
    return _most_confused(title, counts, names)
  totals = counts.sum(axis=1)
  rows = [
    (f'{name} ({total:,})', [(f'{n:,}', n, n / total if total else 0.0) for n in line.tolist()])
    for name, line, total in zip(names, counts, totals.tolist(), strict=True)
  ]
  return Heat(title, 'labelled', names, rows, diagonal=True)


def _most_confused(title: str, counts: np.ndarray, names: Sequence[str]) -> Table:
  wrong = counts * (1 - np.eye(len(counts), dtype=int))
  order = np.argsort(-wrong, axis=None, kind='stable')[:_MOST_PAIRS]
  pairs = [divmod(int(place), len(names)) for place in order]
  rows: list[list[Cell]] = [
    [names[i], names[j], count(int(wrong[i, j])), share(wrong[i, j] / counts[i].sum())]
    for i, j in pairs
    if wrong[i, j]
  ]
  columns = ('labelled', 'predicted', 'faces', 'of all labelled so')
  return Table(f'{title}; the most frequent of {len(names)} classes', columns, rows)


def side_by_side(runs: Sequence[Gathered]) -> list[Part]:
  """Accuracies of several runs, a column each."""
  found = {run.title: {(r['checkpoint'], r['set'], r['task']): r for r in run.rows} for run in runs}
  keys = dict.fromkeys(key for rows in found.values() for key in rows)
  if not keys:
    return [Missing('Nothing has been measured of any of these runs.')]
  rows: list[list[Cell]] = [
    [*key, *(_beside(of.get(key)) for of in found.values())] for key in keys
  ]
  caption = 'Accuracy, its 95% Wilson interval, and how many faces'
  return [Table(caption, ('checkpoint', 'set', 'task', *found), rows)]


def _beside(row: Row | None) -> Cell:
  if row is None or row['accuracy'] is None:
    return ''
  text = f'{row["accuracy"]:.2%}'
  if 'correct' in row:
    low, high = wilson_interval(row['correct'], row['n'])
    text += f' ({low:.1%} to {high:.1%})'
  return Value(f'{text}, n {row["n"]:,}', row['accuracy'])
