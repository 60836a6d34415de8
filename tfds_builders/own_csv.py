"""A csv of labels of the user's own: paths of images, a column a task, in known label spaces or in
its own words.

    path,person,split,smile,mood
    a/1.jpg,ann,train,yes,calm

`NAME.csv` lies in the folder that its paths start from. A column is a task of mtface if it is
called so (`smile`, `gender`, `age_years`), and columns `action_units/AU1`, `action_units/AU2` ...
are the classes of a multi-label one. Any other column is a task of the set's own, whose classes are
its words in alphabetical order. An optional `NAME.toml` says otherwise:

    path = "file"                     # columns of other names: path, subject, split
    subject = "person"
    [tasks]                           # task = column; columns that are not named are left out
    gender = "sex"
    mood = "feeling"
    [classes]                         # the order of a task's own words
    mood = ["calm", "glad", "cross"]

An optional `NAME.corrections.csv` (path,task,label) has labels that replace those of the csv.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtface import errors, tasks
from tfds_builders import lists

_ROLES = {
  'path': ('path', 'file', 'filename', 'image'),
  'subject': ('subject', 'person'),
  'split': ('split',),
}
_MOST_CLASSES = 100  # of a task in its own words: with more the column is no label
_SPLIT = re.compile(r'[a-z][a-z0-9_]*')
_YES_NO = {'1': 1, '1.0': 1, 'yes': 1, 'true': 1, '0': 0, '0.0': 0, 'no': 0, 'false': 0}
CORRECTED = 'label_corrected'

Label = int | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the csv.

  Attributes:
    line: its number.
    path: of the image, as written.
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
  """The whole csv: its rows, its tasks, and whether it says who is who."""

  path: pathlib.Path
  tasks: tuple[tasks.Task, ...]
  rows: tuple[Row, ...]
  has_subject: bool


def read(path: pathlib.Path) -> Table:
  """Reads a csv and the files beside it.

  Raises:
    UserError: a file cannot be read, lacks a column or has a bad cell; it names the file, the line
      and the column, what was found, what was expected.
  """
  words = _Words.beside(path)
  header = _header(path, words)
  numbered = list(lists.rows(path, [words.roles(header.names, path)['path']]))
  if not numbered:
    raise errors.UserError(f'{path}: has no lines below its header; expected a line an image')
  columns = list(numbered[0][1])
  roles = words.roles(columns, path)
  labelled = words.labelled(path, columns, set(roles.values()))
  found = [_task(path, name, of, numbered, words) for name, of in labelled.items()]
  corrections = _corrections(path, {task.name: task for task in found})
  rows = [
    _row(path, line, cells, roles, dict(zip(labelled.values(), found, strict=True)), corrections)
    for line, cells in numbered
  ]
  _check_rows(path, rows, corrections)
  return Table(path, tuple(found), tuple(rows), 'subject' in roles)


def _header(path: pathlib.Path, words: _Words) -> lists.Header:
  """The columns, divided by whatever divides them so that there is one of paths."""
  with lists.open_text(path, 'a csv with a column of paths') as file:
    first = file.readline()
  names = words.names('path')
  headers = [lists.header_of(path, first, [name], may_lack=True) for name in names]
  header = next((found for found in headers if found.is_there), None)
  if header is None:
    raise errors.UserError(
      f'{path}: has no column of paths: {lists.shown(first.strip())}; call it path, or name it in '
      f'{words.path.name}: path = "COLUMN"'
    )
  columns = header.names
  if twice := next((name for name in columns if columns.count(name) > 1), None):
    raise errors.UserError(f'{path}: the column {twice} occurs twice')
  return header


# --- Columns --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Words:
  """What NAME.toml says; without one, nothing."""

  path: pathlib.Path
  content: Mapping[str, Any]

  @classmethod
  def beside(cls, csv_path: pathlib.Path) -> _Words:
    path = csv_path.with_suffix('.toml')
    if not path.exists():
      return cls(path, {})
    try:
      content = tomllib.loads(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
      raise errors.UserError(f'{path}: cannot be read as TOML ({error})') from error
    unknown = [name for name in content if name not in (*_ROLES, 'tasks', 'classes')]
    if unknown:
      raise errors.UserError(
        f'{path}: {unknown[0]!r} is not known; expected {", ".join(_ROLES)}, [tasks], [classes]'
      )
    for table in ('tasks', 'classes'):
      if not isinstance(content.get(table, {}), dict):
        raise errors.UserError(f'{path}: {table} has to be a table, [{table}]')
    return cls(path, content)

  def names(self, role: str) -> tuple[str, ...]:
    """What the column of a role may be called."""
    return (str(self.content[role]),) if role in self.content else _ROLES[role]

  def roles(self, columns: Sequence[str], csv_path: pathlib.Path) -> dict[str, str]:
    """{role: column} of those that are there."""
    found = {}
    for role in _ROLES:
      wanted = {name.casefold() for name in self.names(role)}
      there = [name for name in columns if name.casefold() in wanted]
      if there:
        found[role] = there[0]
      elif role in self.content:
        self._check(str(self.content[role]), columns, csv_path)
    return found

  def labelled(
    self, csv_path: pathlib.Path, columns: Sequence[str], others: set[str]
  ) -> dict[str, tuple[str, ...]]:
    """{task: its columns}: one, or one a class of a multi-label task."""
    named = self.content.get('tasks')
    if named is None:
      pairs = [(name, name) for name in columns if name not in others]
    else:
      pairs = [(name, str(column)) for name, column in named.items()]
    found: dict[str, tuple[str, ...]] = {}
    for name, column in pairs:
      several = [other for other in columns if other.startswith(f'{column}/')]
      if column in columns or not several:
        self._check(column, columns, csv_path)
      task, slash, _ = name.partition('/')
      found[task] = (
        (*found.get(task, ()), *(several or [column])) if slash or several else (column,)
      )
    if not found:
      raise errors.UserError(f'{csv_path}: has no column of labels beside {", ".join(others)}')
    return found

  def _check(self, column: str, columns: Sequence[str], csv_path: pathlib.Path) -> None:
    if column not in columns:
      raise errors.UserError(
        f'{self.path}: names the column {column!r}, which {csv_path.name} does not have; it has '
        f'{", ".join(columns)}'
      )


def _task(
  path: pathlib.Path,
  name: str,
  columns: tuple[str, ...],
  numbered: Sequence[tuple[int, Mapping[str, str]]],
  words: _Words,
) -> tasks.Task:
  """mtface's own task of that name, or a new one."""
  if name in tasks.TASKS and name not in words.content.get('classes', {}):
    return tasks.get_task(name)
  several = '/' in columns[0]
  if several:
    classes = [column.partition('/')[2] for column in columns]
  elif name in words.content.get('classes', {}):
    classes = [str(x) for x in words.content['classes'][name]]
  else:
    classes = sorted({cells[columns[0]] for _, cells in numbered if cells[columns[0]]})
  if not several and not 2 <= len(classes) <= _MOST_CLASSES:
    raise errors.UserError(
      f'{path}: the column {columns[0]!r} has {len(classes)} different words; a label has 2 to '
      f'{_MOST_CLASSES} (ages: call the column age_years); leave it out by naming the others in '
      f'{words.path.name} under [tasks]'
    )
  try:
    return tasks.register(tasks.Task(name, tuple(classes), multi_label=several))
  except (errors.UserError, ValueError) as error:
    raise errors.UserError(f'{path}: the column {columns[0]!r}: {error}') from error


# --- Cells ----------------------------------------------------------------------------------------

_Corrections = dict[tuple[str, str], tuple[int, Label]]


def _row(
  path: pathlib.Path,
  line: int,
  cells: Mapping[str, str],
  roles: Mapping[str, str],
  labelled: Mapping[tuple[str, ...], tasks.Task],
  corrections: _Corrections,
) -> Row:
  image = cells[roles['path']]
  if not image:
    raise errors.UserError(f'{path}: line {line}: the column {roles["path"]!r} is empty')
  if pathlib.PurePath(image).is_absolute() or '..' in pathlib.PurePath(image).parts:
    raise errors.UserError(
      f'{path}: line {line}: {image!r} is outside of the folder of the csv; expected a path in it'
    )
  labels = {}
  for columns, task in labelled.items():
    label = _label_of(path, line, cells, columns, task)
    if label is not None:
      labels[task.kind] = label
  corrected = {of: label for (name, of), (_, label) in corrections.items() if name == image}
  split = cells[roles['split']] if 'split' in roles else ''
  if split and not _SPLIT.fullmatch(split):
    raise errors.UserError(
      f'{path}: line {line}, column {roles["split"]!r}: {split!r} is no name of a split; expected '
      'words such as train or test'
    )
  subject = cells[roles['subject']] if 'subject' in roles else ''
  return Row(line, image, labels | corrected, subject, split or 'train', bool(corrected))


def _label_of(
  path: pathlib.Path,
  line: int,
  cells: Mapping[str, str],
  columns: tuple[str, ...],
  task: tasks.Task,
) -> Label | None:
  where = f'{path}: line {line}, column'
  if not task.multi_label:
    return label_in(cells[columns[0]], task, f'{where} {columns[0]!r}')
  given = {column.partition('/')[2]: column for column in columns}
  if unknown := [name for name in given if name not in task.classes]:
    raise errors.UserError(
      f'{path}: the column {given[unknown[0]]!r}: {task.name} has no class {unknown[0]!r}; it has '
      f'{", ".join(task.classes)}'
    )
  found = []
  for name in task.classes:
    text = cells[given[name]].casefold() if name in given else ''
    if text and text not in _YES_NO:
      raise errors.UserError(
        f'{where} {given[name]!r}: found {lists.shown(text)}; expected 1, 0 or nothing'
      )
    found.append(_YES_NO[text] if text else -1)
  return tuple(found) if any(x >= 0 for x in found) else None


def label_in(text: str, task: tasks.Task, where: str) -> int | None:
  """The class that a cell of a single-label task names, by its name or its number; None of an empty
  cell. Years of age may have a fraction: those that are completed count.

  Raises:
    UserError: it names none; `where` begins the message.
  """
  if not text:
    return None
  names = {name.casefold(): i for i, name in enumerate(task.classes)}
  if task.classes[0] == f'no_{task.classes[-1]}':  # a question of yes or no, such as smile
    names |= _YES_NO
  if text.casefold() in names:
    return names[text.casefold()]
  try:
    number = float(text)
    index = (
      int(number) if task.values is not None else {float(i): i for i in names.values()}[number]
    )
    if 0 <= index < task.num_classes:
      return index
  except (ValueError, KeyError, OverflowError):
    pass
  shown = ', '.join(task.classes) if task.num_classes <= 20 else f'0 to {task.num_classes - 1}'
  raise errors.UserError(
    f'{where}: found {lists.shown(text)}; expected {shown}, a number of these classes from 0, or '
    'nothing where it is not known'
  )


def _corrections(path: pathlib.Path, found: Mapping[str, tasks.Task]) -> _Corrections:
  """{(path, task): (line, label)}; none where there is no such file."""
  file = path.with_suffix('.corrections.csv')
  corrections: _Corrections = {}
  if not file.exists():
    return corrections
  for line, cells in lists.rows(file, ('path', 'task', 'label')):
    task = found.get(cells['task'])
    if task is None or task.multi_label:
      raise errors.UserError(
        f'{file}: line {line}: {cells["task"]!r} is no single-label task of {path.name}'
      )
    label = label_in(cells['label'], task, f'{file}: line {line}, column label')
    if label is None:
      raise errors.UserError(f'{file}: line {line}: the column label is empty')
    corrections[cells['path'], task.kind] = line, label
  return corrections


def _check_rows(path: pathlib.Path, rows: Sequence[Row], corrections: _Corrections) -> None:
  """Every image is there once, a person in one split; there is a split `train`; corrections are of
  images that are there.
  """
  lines: dict[str, int] = {}
  splits: dict[str, Row] = {}
  for row in rows:
    if (first := lines.setdefault(row.path, row.line)) != row.line:
      raise errors.UserError(f'{path}: lines {first} and {row.line} are both of {row.path!r}')
    other = splits.setdefault(row.subject, row) if row.subject else row
    if other.split != row.split:
      raise errors.UserError(
        f'{path}: lines {other.line} and {row.line}: {row.subject!r} is in {other.split} and in '
        f'{row.split}; expected all images of a person in one split'
      )
  if 'train' not in (have := _in_order(row.split for row in rows)):
    raise errors.UserError(f'{path}: no line is of the split train; found {", ".join(have)}')
  for (image, _), (line, _) in corrections.items():
    if image not in lines:
      raise errors.UserError(
        f'{path.with_suffix(".corrections.csv")}: line {line}: {path.name} has no {image!r}'
      )


def _in_order(names: Iterable[str]) -> list[str]:
  return list(dict.fromkeys(names))
