"""A csv of labels of the user's own: paths of images, a column a task, in known label spaces or in
its own words.

    path,person,split,smile,mood
    a/1.jpg,ann,train,yes,calm

`NAME.csv` lies in the folder that its paths start from. A column is a task of mtface if it is
called so (`smile`, `gender`, `age_years`), and columns `action_units/AU1`, `action_units/AU2` ...
are the classes of a multi-label one. Any other column is a task of the set's own, whose classes are
its words: numbers by their value, then words by the alphabet. An optional `NAME.toml` says
otherwise (own_columns.py reads it):

    path = "file"                     # columns of other names: path, subject, split
    subject = "person"
    [tasks]                           # task = column; columns that are not named are left out
    gender = "sex"
    mood = "feeling"
    [classes]                         # the order of a task's own words
    mood = ["calm", "glad", "cross"]

An optional `NAME.corrections.csv` (path,task,label; other columns are ignored) has labels that
replace those of the csv. Of a multi-label task it says TASK/CLASS, and 1 or 0.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mtface import errors, tasks
from mtface.faces import folders
from tfds_builders import lists, own_cells, own_columns

_SPLIT = re.compile(r'[a-z][a-z0-9_]*')
_NO_SPLITS = ('all',)  # TFDS's name for every split together
CORRECTED = 'label_corrected'

Label = int | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the csv.

  Attributes:
    line: its number.
    path: of the image, from the folder of the csv, with /.
    labels: known labels by task: a class, or one of 1, 0 and -1 for each class of a multi-label
      task.
    subject: who it is; '' where that is not said.
    split: 'train' where nothing is said.
    corrected: whether a correction replaced a label.
  """

  line: int
  path: str
  labels: Mapping[str, Label]
  subject: str = ''
  split: str = 'train'
  corrected: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """The whole csv: its rows, its tasks, the column of each role (path, subject, split) that there
  is.
  """

  path: pathlib.Path
  tasks: tuple[tasks.Task, ...]
  rows: tuple[Row, ...]
  roles: Mapping[str, str]

  @property
  def has_subject(self) -> bool:
    """Whether the csv says who is who."""
    return 'subject' in self.roles


def read(path: pathlib.Path) -> Table:
  """Reads a csv and the files beside it.

  Raises:
    UserError: a file cannot be read, lacks a column or has a bad cell; it names the file, the line
      and the column, what was found, what was expected.
  """
  words = own_columns.words_beside(path)
  columns = own_columns.header(path, words)
  roles = own_columns.roles(words, columns, path)
  numbered = list(lists.rows(path, [roles['path']]))
  if not numbered:
    raise errors.UserError(f'{path}: has no lines below its header; expected a line an image')
  labelled = own_columns.labelled(words, columns, numbered, path)
  rows = [_row(path, line, cells, roles, labelled) for line, cells in numbered]
  _check_rows(path, rows, roles)
  _check_labelled(path, rows, labelled)
  found = tuple(of.task for of in labelled)
  return Table(path, found, tuple(_corrected(path, rows, found)), roles)


# --- Lines ----------------------------------------------------------------------------------------


def _row(
  path: pathlib.Path,
  line: int,
  cells: Mapping[str, str],
  roles: Mapping[str, str],
  labelled: Sequence[own_columns.Labelled],
) -> Row:
  def of(role: str) -> tuple[str, str]:
    """(the cell, how a message begins)."""
    return cells[roles[role]], f'{path}: line {line}, column {roles[role]!r}'

  labels = {}
  for one in labelled:
    label = _label(one, cells, f'{path}: line {line}, column')
    if label is not None:
      labels[one.task.kind] = label
  return Row(
    line,
    _image(*of('path')),
    labels,
    _subject(*of('subject')) if 'subject' in roles else '',
    _split(*of('split')) if 'split' in roles else 'train',
  )


def _image(text: str, where: str) -> str:
  """The path of an image, with / also where it was written with Windows's \\."""
  if not text:
    raise errors.UserError(f'{where}: is empty; expected the path of an image')
  written = pathlib.PureWindowsPath(text)
  if written.anchor or '..' in written.parts:
    raise errors.UserError(
      f'{where}: {lists.shown(text)} is outside of the folder of the csv; expected a path in it'
    )
  return written.as_posix()


def _subject(text: str, where: str) -> str:
  if own_cells.is_not_known(text):  # all of these would be one person
    raise errors.UserError(
      f'{where}: found {lists.shown(text)}; expected who it is, or nothing where it is not known'
    )
  return text


def _split(text: str, where: str) -> str:
  split = text.casefold() or 'train'
  if not _SPLIT.fullmatch(split) or split in _NO_SPLITS or own_cells.is_not_known(split):
    raise errors.UserError(
      f'{where}: {lists.shown(text)} is no name of a split; expected words such as train or test'
    )
  return split


def _label(of: own_columns.Labelled, cells: Mapping[str, str], where: str) -> Label | None:
  if not of.task.multi_label:
    column = of.columns['']
    return own_cells.label_in(cells[column], of.task, f'{where} {column!r}')
  given = {
    name: own_cells.yes_or_no(cells[column], f'{where} {column!r}')
    for name, column in of.columns.items()
  }
  found = tuple(given.get(name, -1) for name in of.task.classes)
  return found if any(x >= 0 for x in found) else None


def _check_rows(path: pathlib.Path, rows: Sequence[Row], roles: Mapping[str, str]) -> None:
  """Every image is there once, a person in one split; a split to train on is there, and another
  one.
  """
  lines: dict[str, int] = {}
  splits: dict[str, Row] = {}
  for row in rows:
    if (first := lines.setdefault(_same(row.path), row.line)) != row.line:
      raise errors.UserError(
        f'{path}: lines {first} and {row.line}, column {roles["path"]!r}: both are of '
        f'{row.path!r}; expected each image once'
      )
    other = splits.setdefault(row.subject, row) if row.subject else row
    if other.split != row.split:
      raise errors.UserError(
        f'{path}: lines {other.line} and {row.line}, column {roles["subject"]!r}: {row.subject!r} '
        f'is in {other.split} and in {row.split}; expected all images of a person in one split'
      )
  if 'split' in roles:
    _check_splits(f'{path}: the column {roles["split"]!r}', rows)


def _check_splits(where: str, rows: Sequence[Row]) -> None:
  have = list(dict.fromkeys(row.split for row in rows))
  if 'train' not in have:
    raise errors.UserError(f'{where} says train in no line; found {", ".join(have)}')
  if len(have) == 1:
    raise errors.UserError(
      f'{where} says train in every line; expected another split as well, such as test, or no such '
      'column (then a fifth of the images is tested on)'
    )


def _check_labelled(
  path: pathlib.Path, rows: Sequence[Row], labelled: Sequence[own_columns.Labelled]
) -> None:
  for of in labelled:
    if not any(of.task.kind in row.labels for row in rows):
      column = next(iter(of.columns.values()))
      raise errors.UserError(
        f'{path}: the column {column!r} is empty in every line; fill it in, or take it out'
      )


def _same(path: str) -> str:
  """What paths are compared by: a Mac writes é as e and an accent."""
  return folders.composed(path)


# --- Corrections ----------------------------------------------------------------------------------


class _Correction(NamedTuple):
  """A label that replaces another: of a task, or of the class at `place` in a multi-label one."""

  line: int
  task: tasks.Task
  place: int | None
  label: int


def _corrected(
  path: pathlib.Path, rows: Sequence[Row], found: Sequence[tasks.Task]
) -> Sequence[Row]:
  """The rows with the labels of NAME.corrections.csv, where there is one."""
  file = path.with_suffix('.corrections.csv')
  if not file.exists():
    return rows
  by_image: dict[str, list[_Correction]] = collections.defaultdict(list)
  known = {_same(row.path) for row in rows}
  seen: dict[tuple[str, str], int] = {}
  for line, cells in lists.rows(file, ('path', 'task', 'label')):
    image = _same(_image(cells['path'], f"{file}: line {line}, column 'path'"))
    if image not in known:
      raise errors.UserError(f'{file}: line {line}: {path.name} has no {image!r}')
    if (first := seen.setdefault((image, cells['task']), line)) != line:
      raise errors.UserError(
        f'{file}: lines {first} and {line} are both of {cells["task"]} of {image!r}'
      )
    by_image[image].append(_correction(f'{file}: line {line}', line, cells, found, path.name))
  return [_with(row, by_image.get(_same(row.path), ())) for row in rows]


def _correction(
  where: str, line: int, cells: Mapping[str, str], found: Sequence[tasks.Task], csv_name: str
) -> _Correction:
  known: dict[str, tuple[tasks.Task, int | None]] = {}
  for task in found:
    several = {f'{task.name}/{name}': (task, i) for i, name in enumerate(task.classes)}
    known |= several if task.multi_label else {task.name: (task, None)}
  if cells['task'] not in known:
    raise errors.UserError(
      f"{where}, column 'task': {cells['task']!r} is no task of {csv_name}; expected one of "
      f'{", ".join(known)}'
    )
  task, place = known[cells['task']]
  where = f"{where}, column 'label'"
  if not cells['label']:
    raise errors.UserError(f'{where}: is empty; expected the label that is right')
  if place is not None:
    return _Correction(line, task, place, own_cells.yes_or_no(cells['label'], where))
  label = own_cells.label_in(cells['label'], task, where)
  assert label is not None
  return _Correction(line, task, None, label)


def _with(row: Row, corrections: Sequence[_Correction]) -> Row:
  if not corrections:
    return row
  labels = dict(row.labels)
  for _, task, place, label in corrections:
    if place is None:
      labels[task.kind] = label
      continue
    before = labels.get(task.kind, (-1,) * task.num_classes)
    assert isinstance(before, tuple)
    labels[task.kind] = (*before[:place], label, *before[place + 1 :])
  return dataclasses.replace(row, labels=labels, corrected=True)
