"""The answers in a csv, one line a face: what `mtface evaluate --predictions` writes, or any other
tool.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtface.data.groupings import check_groups
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.answers import Answers
from mtface.files import local_path


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns of a csv say what.

  Attributes:
    label: what is labelled, in words or numbers; lines where it is empty are left out.
    predicted: what was answered, in the same words; '': the column `LABEL predicted`, or the most
      probable class where there is none.
    probabilities: a column a class, called CLASS or anything/CLASS, or named as COLUMN=CLASS; or a
      single one, the probability of `positive`. None: the columns `LABEL/CLASS`, if there are any.
    positive: which of two classes is the positive one; '': the last one.
    groups: to group by.
    subject: who it is; '': unknown.
    image_id: by which faces are found in a prepared set.
  """

  label: str
  predicted: str = ''
  probabilities: Sequence[str] = ()
  positive: str = ''
  groups: Sequence[str] = ()
  subject: str = ''
  image_id: str = 'image_id'


@dataclasses.dataclass(frozen=True)
class Beside:
  """A prepared set that has the same images, and what these are grouped by, {name: text [N]}."""

  source: Source
  groups: Mapping[str, np.ndarray]


def answers_of_csv(
  path: str | os.PathLike, columns: Columns, beside: Beside | None = None
) -> Answers:
  """The answers in a csv with a header.

  Args:
    path: of the file.
    columns: which columns to read.
    beside: a set that says more of the images: groups, and subjects if `columns` names none.

  Raises:
    UserError: the file cannot be read, lacks a column, or has a bad cell; it names the line.
  """
  table = _Table(local_path(path), columns.label)
  given = _probability_columns(table, columns)
  predicted = columns.predicted or f'{columns.label} predicted'
  if not columns.predicted and predicted not in table.header and given:
    predicted = ''
  labels = table.text(columns.label)
  answered = table.filled(predicted) if predicted else None
  classes = _classes(table, columns, [*given.values()], labels, answered)
  probabilities = _probabilities(table, given, classes)
  if answered is None:
    assert probabilities is not None
    found = probabilities.argmax(axis=1)
  else:
    found = table.indices(predicted, classes)
  groups = {name: table.text(name) for name in columns.groups}
  subjects = table.text(columns.subject) if columns.subject else np.full(len(labels), '')
  if beside:
    rows = table.rows_in(columns.image_id, beside.source)
    groups |= {name: values[rows] for name, values in beside.groups.items()}
    subjects = subjects if columns.subject else beside.source.subjects[rows]
  check_groups(groups, str(table.path))
  return Answers(
    table.path.name,
    columns.label,
    tuple(classes),
    table.indices(columns.label, classes),
    found,
    probabilities,
    groups,
    subjects,
  )


def _probability_columns(table: _Table, columns: Columns) -> dict[str, str]:
  """{column: class}."""
  found = {}
  for text in columns.probabilities:
    column, _, name = (text, '', '') if text in table.header else text.rpartition('=')
    found[table.has(column or text)] = name or column.rpartition('/')[2]
  if columns.probabilities:
    return found
  start = f'{columns.label}/'
  return {name: name.removeprefix(start) for name in table.header if name.startswith(start)}


def _classes(
  table: _Table,
  columns: Columns,
  named: Sequence[str],
  labels: np.ndarray,
  answered: np.ndarray | None,
) -> list[str]:
  """The class names; of two, the positive one is the last."""
  there = sorted({*labels.tolist(), *(answered.tolist() if answered is not None else ())})
  if answered is not None and not {*labels.tolist()} & {*answered.tolist()}:
    raise UserError(
      f'{table.path}: no label of column {columns.label!r} ({_some(labels)}) is among the answers '
      f'({_some(answered)}); write both in the same words'
    )
  classes = list(named) if len(named) > 1 else there
  if len(set(classes)) < len(classes):
    raise UserError(f'{table.path}: two columns of probabilities are of one class: {_some(named)}')
  if len(named) == 1 and not columns.positive:
    raise UserError(
      f'--probabilities={next(iter(columns.probabilities), f"{columns.label}/{named[0]}")}: one '
      f'column is the probability of one of two classes; say of which: --positive={there[-1]}'
    )
  if len(named) == 1 and named[0] in classes and named[0] != columns.positive:
    raise UserError(
      f'--positive={columns.positive}: the only column of probabilities is of {named[0]}; pass '
      f'--positive={named[0]}, or name the column as COLUMN={columns.positive}'
    )
  if columns.positive or len(named) == 1:
    if len(classes) != 2 or columns.positive not in classes:
      raise UserError(
        f'--positive={columns.positive}: expected one of two classes; {table.path} has '
        f'{", ".join(classes[:10])}'
      )
    classes.sort(key=lambda name: name == columns.positive)
  return classes


def _probabilities(
  table: _Table, given: Mapping[str, str], classes: Sequence[str]
) -> np.ndarray | None:
  if not given:
    return None
  values = {name: table.probabilities(column) for column, name in given.items()}
  if len(values) == 1:
    (yes,) = values.values()
    return np.stack([1 - yes, yes], axis=1)
  return np.stack([values[name] for name in classes], axis=1)


def _some(values: Sequence[str] | np.ndarray) -> str:
  there = sorted(set(np.asarray(values).tolist()))
  return ', '.join(there[:5]) + (', ...' if len(there) > 5 else '')


class _Table:
  """The lines of a csv that have a label, and their numbers in the file."""

  def __init__(self, path: pathlib.Path, label: str):
    self.path = path
    self.header, lines = _read(path)
    self.has(label)
    self._lines = [(i, line) for i, line in lines if line[label].strip()]
    if not self._lines:
      raise UserError(f'{path}: no line has a label in column {label!r}')

  def has(self, column: str) -> str:
    """The column, which must be there."""
    if column not in self.header:
      raise UserError(f'{self.path}: has no column {column!r}; it has {", ".join(self.header)}')
    return column

  def text(self, column: str) -> np.ndarray:
    """text [N]."""
    self.has(column)
    return np.array([line[column].strip() for _, line in self._lines])

  def filled(self, column: str) -> np.ndarray:
    """text [N], of which none may be empty."""
    found = self.text(column)
    if (empty := np.flatnonzero(found == '')).size:
      raise self._wrong(int(empty[0]), column, 'is empty, but the line has a label')
    return found

  def indices(self, column: str, classes: Sequence[str]) -> np.ndarray:
    """int [N]."""
    place = {name: i for i, name in enumerate(classes)}
    text = self.text(column).tolist()
    for k, name in enumerate(text):
      if name not in place:
        expected = ', '.join(classes[:10])
        raise self._wrong(k, column, f'{name!r} is none of the classes {expected}')
    return np.array([place[name] for name in text])

  def probabilities(self, column: str) -> np.ndarray:
    """float [N], each from 0 to 1."""
    values = []
    for k, text in enumerate(self.text(column).tolist()):
      try:
        values.append(float(text))
      except ValueError:
        values.append(np.nan)
      if not 0 <= values[-1] <= 1:
        raise self._wrong(k, column, f'expected a probability from 0 to 1, found {text!r}')
    return np.array(values)

  def rows_in(self, column: str, source: Source) -> np.ndarray:
    """int [N]: where each image is in a set."""
    place = {image_id: row for row, image_id in enumerate(source.image_ids.tolist())}
    ids = self.filled(column).tolist()
    for k, image_id in enumerate(ids):
      if image_id not in place:
        raise self._wrong(k, column, f'{image_id!r} is no image of {source.name}')
    return np.array([place[image_id] for image_id in ids])

  def _wrong(self, k: int, column: str, what: str) -> UserError:
    return UserError(f'{self.path}: line {self._lines[k][0]}, column {column!r}: {what}')


def _read(path: pathlib.Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
  """(header, [(line's number, its cells)])."""
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      reader = csv.DictReader(file, strict=True)
      header = [name or '' for name in reader.fieldnames or ()]
      lines = [(reader.line_num, line) for line in reader]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'{path}: cannot be read as a csv in UTF-8 with commas ({reason})') from error
  if repeated := [name for i, name in enumerate(header) if name in header[:i]]:
    raise UserError(f'{path}: column {repeated[0]!r} is there twice; rename one')
  if not lines:
    raise UserError(f'{path}: has no line below its header')
  for i, line in lines:
    if None in line or None in line.values():
      cells = sum(value is not None for key, value in line.items() if key is not None)
      found = cells + len(line.get(None) or ())  # type: ignore[call-overload]
      raise UserError(f'{path}: line {i}: has {found} cells, the header has {len(header)}')
  return header, lines
