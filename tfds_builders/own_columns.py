"""The columns of a csv of the user's own: which is of paths, which of a task, and what the optional
NAME.toml beside NAME.csv says of them (own_csv.py has an example).
"""

from __future__ import annotations

import dataclasses
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from mtface import errors, tasks
from tfds_builders import lists, own_cells

ROLES = {
  'path': ('path', 'file', 'filename', 'image'),
  'subject': ('subject', 'person'),
  'split': ('split',),
}
_MOST_CLASSES = 100  # of a task in its own words: with more the column is no label
_TABLES = ('tasks', 'classes')
_of_csvs: dict[str, tasks.Task] = {}  # of csvs that were read before in this process

Numbered = Sequence[tuple[int, Mapping[str, str]]]  # (line, {column: cell})


@dataclasses.dataclass(frozen=True)
class Labelled:
  """A task, and where its labels are: {'': column}, or {class: column} of a multi-label one."""

  task: tasks.Task
  columns: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Words:
  """What NAME.toml says; without one, nothing."""

  path: pathlib.Path
  content: Mapping[str, Any]

  def names(self, role: str) -> tuple[str, ...]:
    """What the column of a role may be called."""
    return (str(self.content[role]),) if role in self.content else ROLES[role]

  def table(self, name: str) -> Mapping[str, Any] | None:
    """[tasks] or [classes]; None where it is not there."""
    return self.content.get(name)


def words_beside(csv_path: pathlib.Path) -> Words:
  """Reads NAME.toml.

  Raises:
    UserError: it is no TOML, or says something else than it may.
  """
  path = csv_path.with_suffix('.toml')
  if not path.exists():
    return Words(path, {})
  try:
    content = tomllib.loads(path.read_text(encoding='utf-8'))
  except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
    raise errors.UserError(f'{path}: cannot be read as TOML ({error})') from error
  unknown = [name for name in content if name not in (*ROLES, *_TABLES)]
  if unknown:
    raise errors.UserError(
      f'{path}: {unknown[0]!r} is not known; expected {", ".join(ROLES)}, [tasks], [classes]'
    )
  for table in _TABLES:
    if not isinstance(content.get(table, {}), dict):
      raise errors.UserError(f'{path}: {table} has to be a table, [{table}]')
  for name, classes in content.get('classes', {}).items():
    if not isinstance(classes, list):
      raise errors.UserError(
        f'{path}: [classes] {name}: found {classes!r}; expected a list, ["calm", "cross"]'
      )
  return Words(path, content)


def header(path: pathlib.Path, words: Words) -> tuple[str, ...]:
  """The columns, divided by whatever divides them so that there is one of paths.

  Raises:
    UserError: there is none, or one has no name or occurs twice.
  """
  if not path.stat().st_size:
    raise errors.UserError(f'{path}: is empty (0 bytes); expected a header and a line an image')
  with lists.open_text(path, 'a csv with a column of paths') as file:
    first = file.readline()
  found = (
    lists.header_of(path, first, [name], may_lack=True).names
    for name in words.names('path')
    if lists.header_of(path, first, [name], may_lack=True).is_there
  )
  columns = next(found, None)
  if columns is None:
    raise errors.UserError(
      f'{path}: has no column of paths in its first line, {lists.shown(first.strip())}; expected '
      f'columns divided by commas, semicolons or tabulators, one of them called path (or named in '
      f'{words.path.name}: path = "COLUMN")'
    )
  for i, name in enumerate(columns, start=1):
    if not name:
      raise errors.UserError(
        f'{path}: column {i} of the first line has no name; give it one, or take it out'
      )
    if columns.count(name) > 1:
      raise errors.UserError(f'{path}: the column {name} occurs twice')
  return columns


def roles(words: Words, columns: Sequence[str], csv_path: pathlib.Path) -> dict[str, str]:
  """{role: column} of those that are there."""
  found = {}
  for role in ROLES:
    wanted = {name.casefold() for name in words.names(role)}
    there = [name for name in columns if name.casefold() in wanted]
    if len(there) > 1:
      raise errors.UserError(
        f'{csv_path}: the columns {" and ".join(there)} both stand for {role}; say which it is in '
        f'{words.path.name}, as in {role} = "{there[0]}"'
      )
    if there:
      found[role] = there[0]
    elif role in words.content:
      _check_there(str(words.content[role]), columns, words, csv_path)
  return found


def labelled(
  words: Words, columns: Sequence[str], numbered: Numbered, csv_path: pathlib.Path
) -> list[Labelled]:
  """The tasks that the columns label, in the order of the columns or of [tasks].

  Raises:
    UserError: there is none, or one cannot be.
  """
  others = set(roles(words, columns, csv_path).values())
  pairs = words.table('tasks') or _tasks_of([x for x in columns if x not in others], csv_path)
  found: dict[str, dict[str, str]] = {}
  for name, column in pairs.items():
    task, slash, of = name.partition('/')
    if slash and not of:
      raise errors.UserError(f'{csv_path}: the column {column!r} names no class behind the /')
    for ending, there in _columns_of(str(column), columns, words, csv_path).items():
      found.setdefault(task, {})[of or ending] = there
  if not found:
    raise errors.UserError(f'{csv_path}: has no column of labels beside {", ".join(others)}')
  if strange := [name for name in words.table('classes') or () if name not in found]:
    raise errors.UserError(
      f'{words.path}: [classes] names {strange[0]!r}, which is no task; there are '
      f'{", ".join(found)}'
    )
  return [Labelled(_task(name, of, numbered, words, csv_path), of) for name, of in found.items()]


def _tasks_of(columns: Sequence[str], csv_path: pathlib.Path) -> dict[str, str]:
  """{task: column}: a column is mtface's task of that name in whatever case, `Smile` that of
  smiles, or else a task of its own.
  """
  own = {name.casefold(): name for name in tasks.SHIPPED}
  found: dict[str, str] = {}
  for column in columns:
    task, slash, of = column.partition('/')
    name = own.get(task.casefold(), task) + slash + of
    if name in found:
      raise errors.UserError(
        f'{csv_path}: the columns {found[name]} and {column} are both of the task {name}; rename '
        'one'
      )
    found[name] = column
  return found


def _columns_of(
  column: str, columns: Sequence[str], words: Words, csv_path: pathlib.Path
) -> dict[str, str]:
  """{'': COLUMN}, or {CLASS: COLUMN/CLASS} of several where there is none of that name."""
  several = {name.partition('/')[2]: name for name in columns if name.startswith(f'{column}/')}
  if not several or column in columns:
    _check_there(column, columns, words, csv_path)
    return {'': column}
  return several


def _check_there(column: str, columns: Sequence[str], words: Words, csv_path: pathlib.Path) -> None:
  if column not in columns:
    raise errors.UserError(
      f'{words.path}: names the column {column!r}, which {csv_path.name} does not have; it has '
      f'{", ".join(columns)}'
    )


def _task(
  name: str,
  columns: Mapping[str, str],
  numbered: Numbered,
  words: Words,
  csv_path: pathlib.Path,
) -> tasks.Task:
  """mtface's own task of that name, or a new one."""
  where = f'{csv_path}: the column {next(iter(columns.values()))!r}'
  own = (words.table('classes') or {}).get(name)
  several = set(columns) != {''}
  if own is None and name in tasks.TASKS and tasks.TASKS[name] != _of_csvs.get(name):
    task = tasks.TASKS[name]
  else:
    classes = [str(x) for x in own] if own else _classes(columns, numbered, csv_path)
    task = _own_task(name, classes, several, where, words)
  _check_columns(task, columns, where)
  return task


def _classes(
  columns: Mapping[str, str], numbered: Numbered, csv_path: pathlib.Path
) -> Sequence[str]:
  """The words of a column, or those behind the / of several."""
  if set(columns) != {''}:
    return tuple(columns)
  cells = ((line, cells[columns['']]) for line, cells in numbered)
  return own_cells.own_words(cells, f'{csv_path}: column {columns[""]!r}')


def _own_task(
  name: str, classes: Sequence[str], several: bool, where: str, words: Words
) -> tasks.Task:
  """A task in the csv's own words."""
  if not several and not 2 <= len(classes) <= _MOST_CLASSES:
    raise errors.UserError(
      f'{where} has {len(classes)} different words; a label has 2 to {_MOST_CLASSES} (ages: call '
      f'the column age_years); leave it out by naming the others in {words.path.name} under [tasks]'
    )
  try:
    task = tasks.register(tasks.Task(name, tuple(classes), multi_label=several))
  except (errors.UserError, ValueError) as error:
    raise errors.UserError(f'{where}: {error}') from error
  _of_csvs[name] = task
  return task


def _check_columns(task: tasks.Task, columns: Mapping[str, str], where: str) -> None:
  """A single-label task has one column, a multi-label one a column for each class that is known."""
  if not task.multi_label and set(columns) != {''}:
    raise errors.UserError(f'{where}: {task.name} has one column, {task.name}, with a class')
  if not task.multi_label:
    return
  for name, column in columns.items():
    if name not in task.classes:
      raise errors.UserError(
        f'{where}: {column!r} names no class of {task.name}; expected columns '
        f'{", ".join(f"{task.name}/{of}" for of in task.classes)}'
      )
