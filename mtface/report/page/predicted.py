"""The CSV files of `mtface evaluate --predictions`, read back."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtface.errors import UserError
from mtface.tasks import Task

_MOST_BYTES = 1 << 29  # a page is no place for more


@dataclasses.dataclass(frozen=True)
class Predicted:
  """What a network says of N images, and their labels.

  Attributes:
    image_ids: text [N].
    labels: task -> int [N], of a multi-label task [N, C]; -1 where nothing is known.
    scores: task -> float [N, C], probabilities or margins.
  """

  image_ids: np.ndarray
  labels: Mapping[str, np.ndarray]
  scores: Mapping[str, np.ndarray]

  def known(self, task: str) -> np.ndarray:
    """bool [N]: whether anything is labelled of a task."""
    found = self.labels[task] >= 0
    return np.any(found.reshape(len(found), -1), axis=1)


def read_predictions(path: pathlib.Path, tasks: Mapping[str, Task]) -> Predicted:
  """Reads one file; of the tasks, those that it has.

  Raises:
    UserError: it cannot be read, is too large for a page, or a cell is not what it should be.
  """
  if path.stat().st_size > _MOST_BYTES:
    raise UserError(
      f'{path}: has {path.stat().st_size >> 20:,} MB, more than a page can show; evaluate a part '
      'of the set, as in --on=SET/CONFIG:SPLIT[take=10000,seed=0]'
    )
  try:
    with path.open(newline='', encoding='utf-8') as file:
      lines = list(csv.reader(file))
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise _damaged(path, f'cannot be read as a csv in UTF-8 ({error})') from error
  header, *rows = lines or [[]]
  if 'image_id' not in header:
    raise UserError(f'{path}: has no column image_id; write it with mtface evaluate --predictions')
  if bad := next((i for i, row in enumerate(rows, 2) if len(row) != len(header)), None):
    raise UserError(
      f'{path}, line {bad}: {len(rows[bad - 2])} cells, the header has {len(header)}; write the '
      'file again with mtface evaluate --predictions'
    )
  columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
  there = {name: task for name, task in tasks.items() if _columns(task)[0] in columns}
  return Predicted(
    np.array(columns.get('image_id', ())),
    {name: _labels(path, task, columns) for name, task in there.items()},
    {name: _scores(path, task, columns) for name, task in there.items()},
  )


def _columns(task: Task) -> list[str]:
  return [f'{task.name}/{name}' for name in task.classes]


def _scores(path: pathlib.Path, task: Task, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
  try:
    return np.stack([np.array(columns[name], np.float64) for name in _columns(task)], axis=1)
  except KeyError as error:
    raise _damaged(path, f'has no column {error}') from error
  except ValueError as error:
    raise _damaged(path, f'{task.name}: {error}') from error


def _labels(path: pathlib.Path, task: Task, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
  try:
    if task.multi_label:
      places = {'': -1, '0': 0, '1': 1}
      cells = [columns[f'{name} label'] for name in _columns(task)]
      return np.stack([np.array([places[cell] for cell in column]) for column in cells], axis=1)
    places = {'': -1} | {name: i for i, name in enumerate(task.classes)}
    return np.array([places[cell] for cell in columns[task.name]])
  except KeyError as error:
    raise _damaged(path, f'{task.name}: {error} is no label or column of it') from error


def _damaged(path: pathlib.Path, what: str) -> UserError:
  return UserError(f'{path}: {what}; write the file again with mtface evaluate --predictions')
