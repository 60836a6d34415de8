"""`mtface evaluate --predictions`: what the networks say of each image, for other people's tools."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np

from mtface.data.sources import Source
from mtface.results import file_name, write_csv
from mtface.scoring import Scores
from mtface.tasks import Task


def write_predictions(
  workdir: pathlib.Path, checkpoint: str, set_name: str, tasks: Mapping[str, Task], source: Source, found: Scores
) -> pathlib.Path:
  """Writes `workdir`/predictions/<checkpoint>/<set>.csv, one line an image, in the order of the source.

  Columns: `image_id`; for each task `<task>` (the label's name, empty where it is unknown or the source does not label the task),
  `<task> predicted`, and `<task>/<class>`, the class's probability (or score, see `scoring.comparable`). A multi-label task has for each
  class `<task>/<class> label` (1, 0 or empty) and `<task>/<class>`.
  """
  columns: dict[str, np.ndarray] = {'image_id': source.image_ids}
  for name, task in tasks.items():
    columns |= (
      _multi_label_columns(task, source, found[name]) if task.multi_label else _columns(task, source, found[name])
    )
  path = workdir / 'predictions' / file_name(checkpoint) / f'{file_name(set_name)}.csv'
  write_csv(path, list(columns), zip(*(column.tolist() for column in columns.values()), strict=True))
  return path


def _columns(task: Task, source: Source, scores: np.ndarray) -> dict[str, np.ndarray]:
  classes = np.array(task.classes)
  label = np.full(len(source), '', dtype=classes.dtype)
  if task.name in source.labels:
    label = np.where(source.mask[task.name], classes[source.labels[task.name]], '')
  head = {task.name: label, f'{task.name} predicted': classes[scores.argmax(axis=1)]}
  return head | {f'{task.name}/{name}': scores[:, i] for i, name in enumerate(task.classes)}


def _multi_label_columns(task: Task, source: Source, scores: np.ndarray) -> dict[str, np.ndarray]:
  label = np.full(scores.shape, '', dtype=object)
  if task.name in source.labels:
    label = np.where(source.mask[task.name], source.labels[task.name].astype(str), '')
  columns: dict[str, np.ndarray] = {}
  for i, name in enumerate(task.classes):
    columns |= {f'{task.name}/{name} label': label[:, i], f'{task.name}/{name}': scores[:, i]}
  return columns
