"""EmotioNet's lists: one row per image, with its URL and its action units, or with its URL and its
emotion. They have been distributed with and without a header, with commas and with tabs, and with
apostrophes around values.
"""

from __future__ import annotations

import csv
import itertools
import os
import pathlib
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mtface import errors, tasks
from mtface.faces import folders
from tfds_builders import lists

ALL_UNITS = tuple(f'au{n}' for n in range(1, 61))
UNITS = tuple(name.lower() for name in tasks.get_task('action_units').classes)
_UNIT_VALUES = {0.0: 0, 1.0: 1, 999.0: -1}  # 999: the annotators could not tell

# The columns of the emotion file in its order, and what mtface calls them.
EMOTIONS = {
  name.replace('_', ''): {
    'disgusted': 'disgust', 'fearful': 'fear', 'surprised': 'surprise',
  }.get(name, name)
  for name in (
    'angrily_disgusted', 'angrily_surprised', 'angry', 'appalled', 'awed', 'disgusted', 'fearful',
    'fearfully_angry', 'fearfully_surprised', 'happily_disgusted', 'happily_surprised', 'happy',
    'sad', 'sadly_angry', 'sadly_disgusted', 'surprised',
  )
}  # fmt: skip
_EMOTION_VALUES = {1.0: 1, 0.0: 0, -1.0: 0, 999.0: 0}

_SERVER_NAME = re.compile(r'N_\d+_\d+')  # the names of the set's own server number its images


class Row(NamedTuple):
  """One row of a list.

  Attributes:
    url: where the image was.
    original: where it was before the set's own server had it; '' if the list does not say.
    values: by column name in lower case without blanks and underscores; 1, 0 or -1 (not known).
  """

  url: str
  original: str
  values: Mapping[str, int]

  @property
  def image_id(self) -> str:
    """What is the same image in all lists: the name on the set's server, which has moved; or else
    the URL without its scheme and ending.
    """
    name = stem_of(self.url)
    return name if _SERVER_NAME.fullmatch(name) else _without_ending(_address(self.url))


class _Header(NamedTuple):
  """The number of fields, whether the second one is a URL too, and where the values are."""

  fields: int
  has_original: bool
  places: Mapping[str, int]


def stem_of(url: str) -> str:
  """Returns the name of the file that a URL names, without its ending."""
  path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
  return folders.composed(_without_ending(path.rpartition('/')[2]))


def folder_of(url: str) -> str:
  """Returns the name of the folder of the file that a URL names."""
  return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition('/')[0].rpartition('/')[2]


def _address(url: str) -> str:
  return url.partition('://')[2]


def _without_ending(name: str) -> str:
  stem, ending = os.path.splitext(name)
  return stem if ending.lower() in folders.IMAGES else name


def read_units(path: pathlib.Path) -> Iterator[Row]:
  """Yields the rows of a list of action units: 0, 1 or 999.

  Raises:
    UserError: as `_rows`.
  """
  return _rows(path, ALL_UNITS, UNITS, _UNIT_VALUES)


def read_emotions(path: pathlib.Path) -> Iterator[Row]:
  """Yields the rows of the list of emotions, with a 1 in the column of the image's emotion.

  Raises:
    UserError: as `_rows`.
  """
  return _rows(path, tuple(EMOTIONS), tuple(EMOTIONS), _EMOTION_VALUES)


def by_image(rows: Iterable[Row]) -> tuple[dict[str, Row], list[str]]:
  """Returns the first row of every image, and the images of the others.

  Raises:
    UserError: two URLs have one name of the set's server, so that files could not be told apart.
  """
  first: dict[str, Row] = {}
  repeated = []
  for row in rows:
    known = first.setdefault(row.image_id, row)
    if _address(known.url) != _address(row.url):
      raise errors.UserError(
        f'{known.url} and {row.url}: two URLs of one name, {row.image_id}; expected each name of '
        "the set's server once: remove one of the rows"
      )
    if known is not row:
      repeated.append(row.image_id)
  return first, repeated


def _rows(
  path: pathlib.Path,
  columns: Sequence[str],
  needed: Sequence[str],
  values: Mapping[float, int],
) -> Iterator[Row]:
  """Yields the rows of a list.

  Args:
    path: the file.
    columns: those of a file without a header, after one or two URLs.
    needed: those of `columns` to read.
    values: what numbers mean. An empty field means -1.

  Raises:
    UserError: a column is missing or there twice, or a row is not a URL and such values.
  """
  with lists.open_text(path, 'rows of a URL and numbers') as file:
    first = file.readline().removeprefix(lists.MARK)
    delimiter = max(lists.DELIMITERS, key=first.count)
    reader = csv.reader(itertools.chain([first], file), delimiter=delimiter, skipinitialspace=True)
    header = None
    for fields in reader:
      cells = _cells(fields)
      if not cells:
        continue
      if header is None:
        header = _header(path, cells, columns, needed)
        if '://' not in cells[0]:
          continue
      yield _row(path, reader.line_num, cells, header, values)


def _cells(fields: Sequence[str]) -> list[str]:
  """Fields without blanks, quotation marks and apostrophes around them; none of an empty row."""
  cells = [field.strip().strip('\'"').strip() for field in fields]
  return cells if any(cells) else []


def _header(
  path: pathlib.Path, cells: list[str], columns: Sequence[str], needed: Sequence[str]
) -> _Header:
  if '://' in cells[0]:
    urls = len(cells) - len(columns)
    if urls not in (1, 2):
      raise errors.UserError(
        f'{path}: line 1 has {len(cells)} fields; expected a header, or one or two URLs and '
        f'{len(columns)} numbers'
      )
    return _Header(len(cells), urls == 2, {name: columns.index(name) + urls for name in needed})
  names = [_plain(cell) for cell in cells]
  for name in needed:
    if names.count(name) != 1:
      what = 'missing' if name not in names else 'there twice'
      raise errors.UserError(
        f'{path}: the column {name} is {what}: the header is {lists.shown(", ".join(cells))}; '
        f'expected URL, URL orig, {", ".join(columns[:2])}, ...'
      )
  has_original = len(names) > 1 and 'url' in names[1]
  return _Header(len(cells), has_original, {name: names.index(name) for name in needed})


def _plain(name: str) -> str:
  """'AU 01' as au1, Happily_Surprised as happilysurprised."""
  plain = re.sub(r'[^a-z0-9]', '', name.casefold())
  return re.sub(r'^au0+', 'au', plain)


def _row(
  path: pathlib.Path, line: int, cells: list[str], header: _Header, values: Mapping[float, int]
) -> Row:
  if len(cells) != header.fields:
    raise errors.UserError(
      f'{path}: line {line} has {len(cells)} fields; expected {header.fields}, as in its first line'
    )
  if '://' not in cells[0]:
    raise errors.UserError(
      f'{path}: line {line} starts with {lists.shown(cells[0])}; expected the URL of an image'
    )
  found = {
    name: _value(path, line, name, cells[place], values) for name, place in header.places.items()
  }
  return Row(cells[0], cells[1] if header.has_original else '', found)


def _value(path: pathlib.Path, line: int, name: str, text: str, values: Mapping[float, int]) -> int:
  if not text:
    return -1
  try:
    return values[float(text)]
  except (ValueError, KeyError):
    expected = ', '.join(f'{value:g}' for value in values)
    raise errors.UserError(
      f'{path}: line {line} has {name} = {lists.shown(text)}; expected one of {expected}'
    ) from None
