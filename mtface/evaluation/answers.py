"""What was answered on a set, task by task, beside what is labelled and the groups that the faces
belong to: from a run, or from a csv that any tool wrote.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.files import local_path
from mtface.tasks import AGE_GROUP_BOUNDS, Task, get_task

GROUPS = ('gender', 'age_group', 'ethnicity5')  # what a run is audited by, where a set labels it


@dataclasses.dataclass(frozen=True)
class Answers:
  """The labelled answers to one task on one set.

  Attributes:
    set_name: the set; of a csv, its path.
    task: the task's name.
    classes: [C], the class names.
    labels: int [N].
    predicted: int [N].
    probabilities: float [N, C]; None where there are none (a csv without, margins).
    readout: how the probabilities were made of scores: softmax or sigmoid.
    groups: {what they are grouped by: text [N]}, '' where it is not known.
    subjects: text [N], who it is; '' where that is not known.
  """

  set_name: str
  task: str
  classes: tuple[str, ...]
  labels: np.ndarray
  predicted: np.ndarray
  probabilities: np.ndarray | None
  groups: Mapping[str, np.ndarray]
  subjects: np.ndarray
  readout: str = 'softmax'

  def __len__(self) -> int:
    return len(self.labels)


# --- Of a run -------------------------------------------------------------------------------------


def answers_of_run(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoint: str = 'last',
  on: Sequence[str] = (),
  stage: str = '',
  groups: Sequence[str] = (),
) -> list[Answers]:
  """The answers of a run to each single-label task of each set.

  Args:
    workdir: of the run.
    data_dir: of the prepared sets.
    checkpoint: a selection, see `mtface.evaluation.chosen`.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    stage: of the run; '' is the last one.
    groups: labels or attributes of the sets to group by; none: gender, age group and ethnicity,
      those of them that a set has.

  Raises:
    UserError: there is no set, or a set has none of the groups named.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir)
  names = list(on) or list(evaluator.config.evaluation.sets)
  if not names:
    raise UserError('--on: the run names no evaluation sets; give some, as sources')
  faces = {name: chosen.faces(name) for name in names}
  found = []
  for name in names:
    own = faces[name].own
    by = groups_of(own, data_dir, groups)
    scores = chosen.predictions(faces[name])
    for task in chosen.tasks.values():
      if task.name in own.labels and not task.multi_label:
        readout = evaluator.outputs.readout(task.name)
        found.append(_answers(name, task, own, scores[task.name], by, readout))
  return found


def _answers(
  name: str,
  task: Task,
  source: Source,
  scores: np.ndarray,
  groups: Mapping[str, np.ndarray],
  readout: str,
) -> Answers:
  known = np.flatnonzero(source.mask[task.name])
  return Answers(
    name,
    task.name,
    task.classes,
    source.labels[task.name][known],
    scores.argmax(axis=1)[known],
    None if readout == 'margins' else scores[known],
    {by: values[known] for by, values in groups.items() if by != task.name},
    source.subjects[known],
    readout,
  )


def groups_of(
  source: Source, data_dir: str | os.PathLike, names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
  """{what a set's faces are grouped by: text [N]}: the classes of its labels, or its attributes.

  Raises:
    UserError: the set does not have one of the names.
  """
  whole = _as_it_is(source, data_dir)
  have = _groupings(whole)
  for name in names:
    if name not in have:
      raise UserError(
        f'--groups={name}: {source.name} has no such label or attribute; it has '
        f'{", ".join(have) or "none"}'
      )
  return {name: have[name] for name in names or [x for x in GROUPS if x in have]}


def _as_it_is(source: Source, data_dir: str | os.PathLike) -> Source:
  """The same faces with every label that the set has, not only those of the run's tasks."""
  whole = load_source(source.name, data_dir)
  place = {image_id: row for row, image_id in enumerate(whole.image_ids.tolist())}
  return whole.take(np.array([place[x] for x in source.image_ids.tolist()], np.int64))


def _groupings(source: Source) -> dict[str, np.ndarray]:
  found = {}
  for name, labels in source.labels.items():
    task = get_task(name)
    if not task.multi_label and task.kind not in ('identity', 'age_years'):
      found[name] = np.where(source.mask[name], np.array(task.classes)[labels], '')
  if 'age_years' in source.labels and 'age_group' not in found:
    classes = np.array(get_task('age_group').classes)
    place = np.searchsorted(AGE_GROUP_BOUNDS, source.labels['age_years'])
    found['age_group'] = np.where(source.mask['age_years'], classes[place], '')
  for name, values in source.attributes.items():
    if values.ndim == 1 and values.dtype.kind == 'U':
      found[name] = values
  return found


# --- Of a csv -------------------------------------------------------------------------------------


def answers_of_csv(
  path: str | os.PathLike,
  *,
  label: str,
  predicted: str = '',
  groups: Sequence[str] = (),
  subject: str = '',
) -> Answers:
  """The answers in a csv with a header, one line a face, as `mtface evaluate --predictions` or
  another tool writes it.

  Args:
    path: of the csv.
    label: the column of what is labelled, in words or numbers; lines where it is empty are left
      out.
    predicted: the column of what was answered; '' is `LABEL predicted`. Columns `LABEL/CLASS` are
      probabilities.
    groups: columns to group by.
    subject: the column that says who it is, if there is one.

  Raises:
    UserError: the file cannot be read, lacks a column, or has a bad cell; it names the line.
  """
  file = local_path(path)
  predicted = predicted or f'{label} predicted'
  header, lines = _read_csv(file)
  for column in (label, predicted, *groups, *filter(None, (subject,))):
    if column not in header:
      raise UserError(f'{file}: has no column {column!r}; it has {", ".join(header)}')
  rows = [(i, row) for i, row in enumerate(lines, 2) if row[label].strip()]
  if not rows:
    raise UserError(f'{file}: no line has a label in column {label!r}')
  for i, row in rows:
    if not row[predicted].strip():
      raise UserError(f'{file}: line {i}: column {predicted!r} is empty, but {label!r} is not')

  def text(column: str) -> np.ndarray:
    return np.array([row[column].strip() for _, row in rows])

  given = [name for name in header if name.startswith(f'{label}/')]
  classes = [name.partition('/')[2] for name in given] or sorted(
    {*text(label).tolist(), *text(predicted).tolist()}
  )
  return Answers(
    str(file),
    label,
    tuple(classes),
    _indices(file, label, rows, classes),
    _indices(file, predicted, rows, classes),
    _numbers(file, given, rows) if given else None,
    {name: text(name) for name in groups},
    text(subject) if subject else np.full(len(rows), ''),
  )


_Lines = Sequence[tuple[int, Mapping[str, str]]]


def _read_csv(path: pathlib.Path) -> tuple[list[str], list[dict[str, str]]]:
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      reader = csv.DictReader(file, strict=True)
      lines = list(reader)
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'{path}: cannot be read as a csv in UTF-8 ({reason})') from error
  header = list(reader.fieldnames or ())
  if not lines:
    raise UserError(f'{path}: has no lines below its header')
  for i, row in enumerate(lines, 2):
    if None in row or None in row.values():
      raise UserError(f'{path}: line {i}: has another number of cells than the header')
  return header, lines


def _indices(path: pathlib.Path, column: str, rows: _Lines, classes: Sequence[str]) -> np.ndarray:
  place = {name: i for i, name in enumerate(classes)}
  for i, row in rows:
    if row[column].strip() not in place:
      raise UserError(
        f'{path}: line {i}, column {column!r}: {row[column]!r} is none of the classes '
        f'{", ".join(classes)}'
      )
  return np.array([place[row[column].strip()] for _, row in rows])


def _numbers(path: pathlib.Path, columns: Sequence[str], rows: _Lines) -> np.ndarray:
  values = np.zeros((len(rows), len(columns)))
  for k, (i, row) in enumerate(rows):
    for j, column in enumerate(columns):
      try:
        values[k, j] = float(row[column])
        bad = not 0 <= values[k, j] <= 1
      except ValueError:
        bad = True
      if bad:
        raise UserError(
          f'{path}: line {i}, column {column!r}: expected a probability in [0, 1], found '
          f'{row[column]!r}'
        )
  return values
