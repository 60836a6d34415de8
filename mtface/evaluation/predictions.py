"""`mtface evaluate --predictions`: what the networks say of each image, for
other people's tools.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtface.data.sources import Source
from mtface.files import file_name, write_csv
from mtface.outputs import Scores
from mtface.tasks import Task


def write_predictions(
  workdir: pathlib.Path,
  checkpoint: str,
  set_name: str,
  tasks: Mapping[str, Task],
  source: Source,
  batches: Iterable[tuple[Scores, np.ndarray]],
) -> pathlib.Path:
  """Writes `workdir`/predictions/<checkpoint>/<set>.csv, one line an image, in the order of the
  batches ({task: [b, C]}, rows int [b]).

  Columns: `image_id`; for each task `<task>` (the label's name, empty where it is unknown or the
  source does not label the task), `<task> predicted`, and `<task>/<class>`, the class's probability
  (or score, see `readout.comparable`). A multi-label task has for each class `<task>/<class> label`
  (1, 0 or empty) and `<task>/<class>`.
  """
  path = workdir / 'predictions' / file_name(checkpoint) / f'{file_name(set_name)}.csv'
  names = itertools.chain.from_iterable(_names(task) for task in tasks.values())
  write_csv(path, ['image_id', *names], _lines(tasks, source, batches))
  return path


def _lines(
  tasks: Mapping[str, Task], source: Source, batches: Iterable[tuple[Scores, np.ndarray]]
) -> Iterator[Sequence[Any]]:
  for scores, rows in batches:
    columns = [source.image_ids[rows]]
    for name, task in tasks.items():
      columns += (_multi_label_columns if task.multi_label else _columns)(
        task, source, rows, scores[name]
      )
    yield from zip(*(column.tolist() for column in columns), strict=True)


def _names(task: Task) -> list[str]:
  if task.multi_label:
    return [
      text for name in task.classes for text in (f'{task.name}/{name} label', f'{task.name}/{name}')
    ]
  return [task.name, f'{task.name} predicted', *(f'{task.name}/{name}' for name in task.classes)]


def _columns(task: Task, source: Source, rows: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
  classes = np.array(task.classes)
  label = np.full(len(rows), '', dtype=classes.dtype)
  if task.name in source.labels:
    label = np.where(source.mask[task.name][rows], classes[source.labels[task.name][rows]], '')
  return [label, classes[scores.argmax(axis=1)], *scores.T]


def _multi_label_columns(
  task: Task, source: Source, rows: np.ndarray, scores: np.ndarray
) -> list[np.ndarray]:
  label = np.full(scores.shape, '', dtype=object)
  if task.name in source.labels:
    label = np.where(source.mask[task.name][rows], source.labels[task.name][rows].astype(str), '')
  return [column for i in range(len(task.classes)) for column in (label[:, i], scores[:, i])]
