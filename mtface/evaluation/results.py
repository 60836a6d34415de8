"""results.json: what was measured of a run, one row for each selection of checkpoints, set and
task.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtface.errors import UserError
from mtface.files import write_json
from mtface.metrics import wilson_interval

RESULTS_FILE = 'results.json'
_KEY = ('checkpoint', 'source', 'task')
Row = dict[str, Any]


def read_results(workdir: pathlib.Path) -> list[Row]:
  """The rows of results.json; none where nothing was evaluated yet."""
  return read_rows(workdir / RESULTS_FILE, _KEY, 'evaluate')


def read_rows(path: pathlib.Path, key: Sequence[str], command: str) -> list[Row]:
  """The rows that `mtface COMMAND` left in a file; none where there is no such file. `key`: fields
  that each row must have.
  """
  if not path.exists():
    return []
  try:
    rows = json.loads(path.read_text())['results']
    for row in rows:
      _values(row, key)
    return rows
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: is damaged ({error}); delete it and run `mtface {command}` again'
    ) from error


def write_results(workdir: pathlib.Path, name: str, rows: Sequence[Row]) -> None:
  """Adds rows to the results.json of the run of config `name`; a row measured again replaces the
  old one.
  """
  write_rows(workdir / RESULTS_FILE, name, _KEY, 'evaluate', rows)


def write_rows(
  path: pathlib.Path, name: str, key: Sequence[str], command: str, rows: Sequence[Row]
) -> None:
  """Adds rows to such a file of the run of config `name`; a row whose fields `key` are those of an
  old one replaces it.
  """
  merged = {_values(row, key): row for row in [*read_rows(path, key, command), *rows]}
  write_json(path, {'name': name, 'results': list(merged.values())})


def _values(row: Mapping[str, Any], key: Sequence[str]) -> tuple[Any, ...]:
  values = tuple(row[field] for field in key)
  return row.get('stage'), *values


def results_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows as a table for a terminal or a Markdown file."""
  columns = [
    'checkpoint',
    'set',
    'task',
    'n',
    'accuracy',
    '95% interval',
    'balanced',
    'macro F1',
    'MAE',
  ]
  return markdown_table(columns, [_cells(row) for row in rows])


def class_tables(rows: Sequence[Mapping[str, Any]]) -> str:
  """A table for each row of a multi-label task, with a line for each of its classes; '' where there
  is no such row.

  Its columns: labelled samples, those labelled yes, the accuracy of Pons 2018, eq. 3, with its 95%
  Wilson interval, and F1.
  """
  tables = []
  for row in rows:
    if 'per_class_f1' in row:
      title = f'{row["checkpoint"]} on {row["set"]}, {row["task"]}:'
      columns = ['class', 'n', 'yes', 'accuracy', '95% interval', 'F1']
      tables.append(f'{title}\n\n{markdown_table(columns, list(_class_lines(row)))}')
  return '\n\n'.join(tables)


def _class_lines(row: Mapping[str, Any]) -> Iterator[list[str]]:
  names = row.get('classes') or map(str, range(len(row['per_class_n'])))
  lists = (row[key] for key in ('per_class_n', 'tp', 'tn', 'fn', 'per_class_f1'))
  for name, n, tp, tn, fn, f1 in zip(names, *lists, strict=True):
    low, high = wilson_interval(tp + tn, n)
    interval = f'{low:.1%} - {high:.1%}' if n else ''
    accuracy = (tp + tn) / n if n else None
    yield [name, f'{n:,}', f'{tp + fn:,}', percent(accuracy), interval, percent(f1)]


def _cells(row: Mapping[str, Any]) -> list[str]:
  interval = f'{row["low"]:.1%} - {row["high"]:.1%}' if 'low' in row else ''
  cells = [
    row['checkpoint'],
    row['set'],
    row['task'],
    f'{row["n"]:,}',
    percent(row['accuracy']),
    interval,
  ]
  cells += [percent(row.get('balanced_accuracy')), percent(row.get('macro_f1'))]
  return [*cells, f'{row["mae"]:.2f}' if row.get('mae') is not None else '']


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table."""
  lines = ['| ' + ' | '.join(columns) + ' |', '|' + '---|' * len(columns)]
  return '\n'.join(lines + ['| ' + ' | '.join(cells) + ' |' for cells in rows])


def percent(value: float | None) -> str:
  """A share in percent with two decimals; empty for None."""
  return '' if value is None else f'{value:.2%}'
