"""CelebA's lists: as text in the official copies, as csv in Kaggle's.

The official ones, of which each line is a file's name and values with any number of blanks between
them, differ in what comes first: a line with the number of images and a line with the columns
(without one for the name, except in list_bbox_celeba.txt), or nothing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence

from mtface import errors, tasks
from tfds_builders import lists

ATTRIBUTES = 'list_attr_celeba'
PARTITION = 'list_eval_partition'
IDENTITY = 'identity_CelebA'
BOXES = 'list_bbox_celeba'
LANDMARKS = 'list_landmarks_celeba'
ALIGNED_LANDMARKS = 'list_landmarks_align_celeba'

_POINTS = ('lefteye', 'righteye', 'nose', 'leftmouth', 'rightmouth')
_LANDMARK_COLUMNS = tuple(f'{point}_{axis}' for point in _POINTS for axis in 'xy')
COLUMNS: dict[str, tuple[str, ...]] = {
  ATTRIBUTES: tasks.get_task('celeba_attributes').classes,
  PARTITION: ('partition',),
  IDENTITY: ('identity',),
  BOXES: ('x_1', 'y_1', 'width', 'height'),
  LANDMARKS: _LANDMARK_COLUMNS,
  ALIGNED_LANDMARKS: _LANDMARK_COLUMNS,
}
_FOLDERS = ('', 'Anno', 'Eval')  # where the official copies have them

Row = tuple[int, str, list[str]]


def path_of(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """Returns the file of a list, such as ATTRIBUTES, in any layout; None if there is none."""
  paths = (folder / inner / f'{name}{ending}' for ending in ('.txt', '.csv') for inner in _FOLDERS)
  return next((path for path in paths if path.is_file()), None)


def read(path: pathlib.Path, low: int, high: int) -> dict[str, list[int]]:
  """Returns the values of a list by image id, which is the file's name without its ending.

  Args:
    path: a file of `path_of`.
    low: smallest possible value.
    high: largest possible value.

  Raises:
    UserError: the file has not the list's columns, a line has another number of values, a value is
      not a whole number from `low` to `high`, or an image is named twice.
  """
  columns = COLUMNS[path.stem]
  rows = _csv_rows(path, columns) if path.suffix == '.csv' else _text_rows(path, columns)
  known = {str(value): value for value in range(low, high + 1)} if high - low < 100 else {}
  found: dict[str, list[int]] = {}
  for line, name, texts in rows:
    image_id = name.rpartition('.')[0] or name
    try:
      values = [known[text] if text in known else _integer(text, low, high) for text in texts]
    except ValueError as error:
      raise errors.UserError(
        f'{path}: line {line} ({name}) has the value {lists.shown(str(error))}; expected whole '
        f'numbers from {low} to {high}'
      ) from None
    if image_id in found:
      raise errors.UserError(
        f'{path}: line {line} names {name} again; expected each image once: download the list again'
      )
    found[image_id] = values
  return found


def _integer(text: str, low: int, high: int) -> int:
  """A whole number, also as programs write it that have seen a missing value: 120.0."""
  try:
    number = float(text)
  except ValueError:
    raise ValueError(text) from None
  if not (low <= number <= high and number.is_integer()):
    raise ValueError(text)
  return int(number)


def _csv_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  for line, row in lists.rows(path, ('image_id', *columns)):
    yield line, row['image_id'], [row[name] for name in columns]


def _text_rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  rows = [(line, text.split()) for line, text in lists.lines(path)]
  count = None
  if rows and len(rows[0][1]) == 1 and rows[0][1][0].isdecimal():
    count = int(rows.pop(0)[1][0])
  order = None
  if rows and _is_header(rows[0][1], columns):
    order = _order(path, rows.pop(0)[1], columns)
  if count not in (None, len(rows)):
    raise errors.UserError(
      f'{path}: the first line says {count:,} images, but {len(rows):,} lines follow; expected as '
      'many: download the list again, or correct its first line'
    )
  width = len(columns) if order is None else order[1]
  for line, (name, *values) in rows:
    if len(values) != width:
      raise errors.UserError(
        f'{path}: line {line} has {len(values)} values after {lists.shown(name)}; expected {width}'
      )
    yield line, name, values if order is None else [values[place] for place in order[0]]


def _is_header(fields: Sequence[str], columns: Sequence[str]) -> bool:
  return bool({field.casefold() for field in fields} & {name.casefold() for name in columns})


def _order(
  path: pathlib.Path, header: Sequence[str], columns: Sequence[str]
) -> tuple[list[int], int]:
  """Where each of `columns` is among the values of a line, and how many values there are."""
  names = [name.casefold() for name in header if name.casefold() != 'image_id']
  missing = [name for name in columns if name.casefold() not in names]
  if missing:
    raise errors.UserError(
      f'{path}: the column {missing[0]} is missing: the header is '
      f'{lists.shown(" ".join(header))}; expected {" ".join(columns)}'
    )
  return [names.index(name.casefold()) for name in columns], len(names)
