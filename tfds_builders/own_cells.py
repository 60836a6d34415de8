"""What one cell of a csv of the user's own says: a class by its name or number, a year, 1 or 0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from mtface import errors, tasks
from tfds_builders.lists import shown

# What programs write where nothing is known: in a task's own words it would become a class.
_NOT_KNOWN = ('nan', 'na', 'n/a', '#n/a', 'null', '<na>')
_YES_NO = {'1': 1, '1.0': 1, 'yes': 1, 'true': 1, '0': 0, '0.0': 0, 'no': 0, 'false': 0}
_MOST_SHOWN = 20  # classes in a message

Key = float | str


def key_of(text: str) -> Key:
  """What a word is compared by: 1, 1.0 and 01 are one number, Calm and calm one word."""
  try:
    number = float(text)
  except ValueError:
    return text.casefold()
  return number if math.isfinite(number) else text.casefold()


def is_not_known(text: str) -> bool:
  """Whether a cell is a program's way to say that nothing is known, such as NaN."""
  return text.casefold() in _NOT_KNOWN


def own_words(cells: Iterable[tuple[int, str]], where: str) -> tuple[str, ...]:
  """The classes of a task in its own words: numbers by their value, then words by the alphabet.

  Args:
    cells: (line, text) of the column; '' is passed over.
    where: begins messages; the line is put after it.

  Raises:
    UserError: a word is spelled in two ways, or stands for 'not known'.
  """
  first: dict[Key, tuple[int, str]] = {}
  for line, text in cells:
    if not text:
      continue
    if is_not_known(text):
      raise errors.UserError(
        f'{where}, line {line}: found {shown(text)}; expected a class, or nothing where it is not '
        'known (if it is a class, name all classes under [classes] in the .toml)'
      )
    before, word = first.setdefault(key_of(text), (line, text))
    if word != text:
      raise errors.UserError(
        f'{where}, line {line}: found {shown(text)}, which line {before} spells {shown(word)}; '
        'expected one spelling'
      )
  ordered = sorted(first, key=lambda key: (isinstance(key, str), key))
  return tuple(first[key][1] for key in ordered)


def label_in(text: str, task: tasks.Task, where: str) -> int | None:
  """The class that a cell of a single-label task names, by its name or its number from 0; None of
  an empty cell. Where classes are called by numbers, a number is such a name. Years of age may have
  a fraction: those that are completed count.

  Raises:
    UserError: it names none; `where` begins the message.
  """
  if not text:
    return None
  names = {key_of(name): i for i, name in enumerate(task.classes)}
  if task.classes[0] == f'no_{task.classes[-1]}':  # a question of yes or no, such as smile
    names |= {key_of(word): i for word, i in _YES_NO.items()}
  key = key_of(text)
  index = names[key] if key in names else _index(key, task, names)
  if index is None:
    raise errors.UserError(f'{where}: found {shown(text)}; expected {_expected(task, names)}')
  return index


def _index(key: Key, task: tasks.Task, names: Mapping[Key, int]) -> int | None:
  """Of a number that is no name."""
  if isinstance(key, str) or not 0 <= key < task.num_classes:
    return None
  if task.values is None and (_are_numbers(names) or not key.is_integer()):
    return None
  return int(key)


def _are_numbers(names: Mapping[Key, int]) -> bool:
  return any(isinstance(name, float) for name in names)


def _expected(task: tasks.Task, names: Mapping[Key, int]) -> str:
  few = task.num_classes <= _MOST_SHOWN
  classes = ', '.join(task.classes) if few else f'{task.classes[0]} to {task.classes[-1]}'
  number = '' if _are_numbers(names) else f', their numbers 0 to {task.num_classes - 1}'
  return f'{classes}{number}, or nothing where it is not known'


def yes_or_no(text: str, where: str) -> int:
  """1 or 0 of a class of a multi-label task; -1 of an empty cell.

  Raises:
    UserError: it is neither; `where` begins the message.
  """
  if not text:
    return -1
  if text.casefold() not in _YES_NO:
    raise errors.UserError(f'{where}: found {shown(text)}; expected 1, 0 or nothing')
  return _YES_NO[text.casefold()]
