"""FER-2013: 35,887 grey 48x48 faces with one of seven emotions, and optionally FERPlus' votes. See
README.md here.
"""

from __future__ import annotations

import functools
import mmap
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, folders
from tfds_builders import base, lists

SIDE = 48
FILES = (
  'fer2013.csv',
  'icml_face_data.csv',
)  # Kaggle's archive has the same rows under both names, with other columns' order
COLUMNS = ('emotion', 'pixels', 'Usage')
SPLITS = {'Training': 'train', 'PublicTest': 'public_test', 'PrivateTest': 'private_test'}
FERPLUS_FILE = 'fer2013new.csv'
VOTE_COLUMNS = (
  'neutral', 'happiness', 'surprise', 'sadness', 'anger', 'disgust', 'fear', 'contempt', 'unknown',
  'NF',
)  # fmt: skip
# Which column of the votes each class of emotion8 is; what is left, unknown and NF (not a face), is
# no emotion.
_EMOTION8_NAMES = {
  'angry': 'anger',
  'disgust': 'disgust',
  'fear': 'fear',
  'happy': 'happiness',
  'sad': 'sadness',
  'surprise': 'surprise',
  'neutral': 'neutral',
  'contempt': 'contempt',
}
_COLUMN_TO_EMOTION8 = {
  VOTE_COLUMNS.index(_EMOTION8_NAMES[name]): i
  for i, name in enumerate(tasks.get_task('emotion8').classes)
}
_BLOCK = 64  # rows in an item
_PIXEL = {str(value).encode(): value for value in range(256)}


class Table(NamedTuple):
  """How the csv is to be read.

  Attributes:
    path: the file.
    encoding: of Python's names.
    header: its columns.
  """

  path: pathlib.Path
  encoding: str
  header: lists.Header


class Row(NamedTuple):
  """Where a row of the csv lies, and its votes if FERPlus is there."""

  number: int  # the first row after the header is 0, as in FERPlus' image names
  start: int  # bytes
  end: int
  votes: tuple[int, ...] | None


class Builder(base.FaceBuilder):
  """Checks and stores the rows of fer2013.csv."""

  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {
    '1.1.0': 'has the votes of emotion8 in the order of its classes'
  }
  BUILDER_CONFIGS = (
    base.gray48('48x48 grey: the images as they are'),
    base.rgb32('32x32: made smaller by averaging areas, the grey in all three channels'),
    base.rgb64('64x64: enlarged, the grey in all three channels'),
    base.rgb96('96x96: enlarged, the grey in all three channels'),
    base.rgb224('224x224: enlarged, the grey in all three channels'),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download fer2013.tar.gz from https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-'
    'recognition-challenge/data (an account is needed), unpack it, and give the folder that holds '
    'fer2013.csv;'
    ' fer2013new.csv from https://github.com/microsoft/FERPlus beside it adds the emotion8 labels;'
    ' pass that folder'
  )
  OTHER_LAYOUTS = (
    (
      '[Tt]rain*/[Aa]ng*/*.*',
      'FER-2013 as folders of classes, whose pictures were compressed again and whose two test '
      'splits are one: fer2013.csv is'
      ' needed',
    ),
    (
      'FER2013Train/*.*',
      'the pictures that FERPlus makes of FER-2013, without its labels: fer2013.csv is needed',
    ),
  )
  TASKS = ('emotion7', 'emotion8')
  GREY = True
  NOTES = (
    ('ferplus_without_majority', 'no majority, or one for unknown or NF: emotion8 is masked'),
  )

  def attributes(self) -> dict[str, Any]:
    """FERPlus' votes in the order of VOTE_COLUMNS, all 0 where they are not known; and
    `emotion_votes` of them.
    """
    sizes = {'votes': len(VOTE_COLUMNS), 'votes_emotion8': len(_COLUMN_TO_EMOTION8)}
    return {
      name: tfds.features.Tensor(shape=(size,), dtype=np.int32) for name, size in sizes.items()
    }

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns fer2013.csv in `manual_dir` or in a folder in it, as the archive unpacks."""
    folder = self.find_in(manual_dir, 'fer2013.csv', lambda folder: _csv_of(folder) is not None)
    return _csv_of(folder) or folder

  def items(self, source: Any) -> dict[str, Sequence[Any]]:
    """Returns blocks of rows by split."""
    ferplus = source.parent / FERPLUS_FILE
    votes = read_votes(ferplus) if folders.is_file_there(ferplus) else None
    table, rows = index_rows(source, votes)
    return {
      split: [(table, of_split[i : i + _BLOCK]) for i in range(0, len(of_split), _BLOCK)]
      for split, of_split in rows.items()
    }

  def images_in(self, item: Any) -> int:
    """Returns the number of rows of a block."""
    return len(item[1])

  def converter(self) -> Callable[[Any], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that reads one block of rows."""
    config = self.builder_config
    return functools.partial(convert_block, size=config.size, channels=config.channels)


def _csv_of(folder: pathlib.Path) -> pathlib.Path | None:
  return next((folder / name for name in FILES if (folder / name).is_file()), None)


def index_rows(
  path: pathlib.Path, votes: Sequence[tuple[str, tuple[int, ...]]] | None
) -> tuple[Table, dict[str, list[Row]]]:
  """Finds where the rows of fer2013.csv start and end, and which split each belongs to, without
  reading the pixels.

  Raises:
    UserError: a column is missing; a row's Usage is unknown; the votes do not go with the rows.
  """
  encoding = lists.encoding_of(path, f'rows of {",".join(COLUMNS)}')
  rows: dict[str, list[Row]] = {split: [] for split in SPLITS.values()}
  with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
    spans = _spans(text, encoding)
    table = Table(
      path, encoding, lists.header_of(path, _line(text, next(spans), encoding).decode(), COLUMNS)
    )
    filled = (
      (span, line) for span in spans if (line := _line(text, span, encoding)).strip(b' "\r')
    )
    for number, ((start, end), line) in enumerate(filled):
      usage = _fields(table, number, line)['Usage'].decode('latin-1')
      if usage not in SPLITS:
        raise errors.UserError(
          f'{path}: row {number} has the Usage {lists.shown(usage)}; expected one of '
          f'{", ".join(SPLITS)}'
        )
      of_row = None if votes is None else _votes_of_row(path, votes, number, usage)
      rows[SPLITS[usage]].append(Row(number, start, end, of_row))
  total = sum(map(len, rows.values()))
  if votes is not None and total != len(votes):
    raise errors.UserError(
      f'{path.parent / FERPLUS_FILE}: {len(votes)} rows, but {path} has {total}; expected as many'
    )
  return table, {split: of_split for split, of_split in rows.items() if of_split}


def _spans(text: mmap.mmap, encoding: str) -> Iterator[tuple[int, int]]:
  """Yields start and end of the lines in bytes; the last one need not end in a newline."""
  newline, start = '\n'.encode(encoding), 0
  while start < len(text):
    end = text.find(newline, start)
    end = len(text) if end < 0 else end
    yield start, end
    start = end + len(newline)


def _line(text: mmap.mmap, span: tuple[int, int], encoding: str) -> bytes:
  """A line in UTF-8, which most files are in already."""
  line = text[slice(*span)]
  return line if encoding in ('utf-8', lists.OTHER) else line.decode(encoding).encode()


def _fields(table: Table, number: int, line: bytes) -> dict[str, bytes]:
  """The fields of a row by column, without blanks and quotation marks around them."""
  fields = line.split(table.header.delimiter.encode())
  if len(fields) != len(table.header.names):
    raise errors.UserError(
      f'{table.path}: row {number} has {len(fields)} fields; expected '
      f'{",".join(table.header.names)}'
    )
  return {
    name: field.strip(b' "\r') for name, field in zip(table.header.names, fields, strict=True)
  }


def _votes_of_row(
  path: pathlib.Path, votes: Sequence[tuple[str, tuple[int, ...]]], number: int, usage: str
) -> tuple[int, ...] | None:
  if number >= len(votes):
    return None  # the count is reported once all rows are known
  ferplus_usage, of_row = votes[number]
  if ferplus_usage != usage:
    raise errors.UserError(
      f'{path.parent / FERPLUS_FILE}: row {number} has the Usage {ferplus_usage!r}, but that row '
      f'of {path} has'
      f' {usage!r}; expected the same rows in the same order'
    )
  return of_row


def read_votes(path: pathlib.Path) -> list[tuple[str, tuple[int, ...]]]:
  """Returns the Usage and the ten votes of every row of FERPlus' fer2013new.csv.

  Raises:
    UserError: a column is missing, or a vote is not a whole number of 0 or more.
  """
  rows = (row for _, row in lists.rows(path, ('Usage', *VOTE_COLUMNS)))
  return [(row['Usage'], _parse_votes(path, number, row)) for number, row in enumerate(rows)]


def _parse_votes(path: pathlib.Path, number: int, row: dict[str, str]) -> tuple[int, ...]:
  texts = [row[name] for name in VOTE_COLUMNS]
  wrong = [
    f'{name} = {text!r}'
    for name, text in zip(VOTE_COLUMNS, texts, strict=True)
    if not text.isdecimal()
  ]
  if wrong:
    raise errors.UserError(f'{path}: row {number} has {wrong[0]}; expected a number of votes')
  return tuple(map(int, texts))


def majority(votes: Sequence[int]) -> int | None:
  """Returns the class of emotion8 that most annotators chose, or None if there is none.

  The rule of Barsoum et al. 2016 (https://arxiv.org/abs/1608.01041) as FERPlus' own code has it: a
  column's single vote is dropped; then one column must have more than half of what remains. If that
  is unknown or NF, there is no emotion.
  """
  heard = [count if count > 1 else 0 for count in votes]
  most = max(heard)
  if 2 * most <= sum(heard):
    return None
  return _COLUMN_TO_EMOTION8.get(heard.index(most))


def emotion_votes(votes: Sequence[int]) -> list[int]:
  """Returns how many annotators chose each class of emotion8; all 0 where most of them chose
  unknown or NF, and the face, if it is one, shows none that they could name.
  """
  chosen = [0] * len(_COLUMN_TO_EMOTION8)
  for column, emotion in _COLUMN_TO_EMOTION8.items():
    chosen[emotion] = votes[column]
  return chosen if 2 * sum(chosen) >= sum(votes) else [0] * len(chosen)


def convert_block(
  block: tuple[Table, Sequence[Row]], *, size: int = SIDE, channels: int = 1
) -> list[base.Face | base.LeftOut]:
  """Turns a block of rows of the csv into faces of uint8 [size, size, channels]; three channels are
  equal.
  """
  table, rows = block
  with table.path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
    return [
      _face(table, row, _line(text, (row.start, row.end), table.encoding), size, channels)
      for row in rows
    ]


def _face(table: Table, row: Row, line: bytes, size: int, channels: int) -> base.Face:
  emotion, pixels = _parse_row(table, row.number, line)
  votes = row.votes or (0,) * len(VOTE_COLUMNS)
  labels = {'emotion7': emotion}
  if row.votes is not None and (emotion8 := majority(row.votes)) is not None:
    labels['emotion8'] = emotion8
  return base.Face(
    f'fer2013_{row.number:05d}',
    _stored(pixels, size, channels),
    labels=labels,
    attributes={
      'votes': np.array(votes, np.int32),
      'votes_emotion8': np.array(emotion_votes(votes), np.int32),
    },
    digest=crop.content_digest(pixels),
    notes=('ferplus_without_majority',)
    if row.votes is not None and 'emotion8' not in labels
    else (),
  )


def _stored(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
  """[48, 48, 1] as [size, size, channels]: areas are averaged to shrink, bilinear to enlarge."""
  grey = pixels if size == SIDE else crop.resize(pixels, size).reshape(size, size, 1)
  return np.repeat(grey, channels, axis=2)


def _parse_row(table: Table, number: int, line: bytes) -> tuple[int, np.ndarray]:
  path, fields = table.path, _fields(table, number, line)
  emotion = fields['emotion'].decode('latin-1')
  if emotion not in ('0', '1', '2', '3', '4', '5', '6'):
    raise errors.UserError(
      f'{path}: row {number} has the emotion {lists.shown(emotion)}; expected a label from 0 to 6'
    )
  words = fields['pixels'].split()
  if len(words) != SIDE * SIDE:
    raise errors.UserError(
      f'{path}: row {number} has {len(words)} pixels; expected {SIDE * SIDE} (48x48)'
    )
  try:
    pixels = bytes(map(_PIXEL.__getitem__, words))  # a table is three times as fast as int()
  except KeyError as error:
    raise errors.UserError(
      f'{path}: row {number} has the pixel {lists.shown(error.args[0].decode("latin-1"))}; '
      'expected 0 to 255'
    ) from None
  return int(emotion), np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 1)
