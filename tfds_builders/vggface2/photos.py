"""VGGFace2's 3.3 million photographs as columns: what each is, and on which side of the draw."""

from __future__ import annotations

import csv
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtface import errors
from mtface.faces import folders
from tfds_builders import lists

PEOPLE = 9131
PARTITIONS = ('train', 'test')  # the set's own: 8,631 people and 500 others
TRAIN_PHOTOS, TEST_PHOTOS = 3_067_564, 243_722  # Savchenko 2021, of all people
DRAW_SEED = 0

_META = ('Class_ID', 'Name', 'Sample_Num', 'Flag', 'Gender')
_BOX = ('NAME_ID', 'X', 'Y', 'W', 'H')
_GENDERS = {'f': 0, 'm': 1}
_LONGEST_LISTED = 32  # bytes of an image's name in bb_landmark/; published: 15


class Person(NamedTuple):
  """A row of identity_meta.csv: the number among all, and 0 female, 1 male, -1 not known."""

  identity: int
  gender: int


class Photo(NamedTuple):
  """One photograph.

  Attributes:
    image_id: n000002/0001_01, or the person's folder alone, who then has no photograph.
    ending: of the file, `.jpg` in the published set.
    partition: 0 train, 1 test, as the set has it.
    identity: the person's place among all 9,131.
    gender: 0 female, 1 male, -1 not known.
    box: where the face is, as bb_landmark/ says; None where it does not.
  """

  image_id: str
  ending: str
  partition: int
  identity: int
  gender: int
  box: tuple[int, int, int, int] | None


class Photos(Sequence[Photo]):
  """Columns, of which a photograph is made up when it is asked for; a slice is as small when
  pickled.
  """

  def __init__(self, columns: Mapping[str, np.ndarray]):
    """`columns`: image_id and ending bytes [N], partition, identity, gender int [N], box int32 [N,
    4] (no width: none).
    """
    self._columns = columns

  def __len__(self) -> int:
    return len(self._columns['image_id'])

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice | np.ndarray):
      return Photos({name: column[index] for name, column in self._columns.items()})
    of = {name: column[index] for name, column in self._columns.items()}
    left, top, right, bottom = of['box'].tolist()
    numbers = int(of['partition']), int(of['identity']), int(of['gender'])
    names = os.fsdecode(of['image_id']), os.fsdecode(of['ending'])
    return Photo(*names, *numbers, (left, top, right, bottom) if right > left else None)


def read_people(path: pathlib.Path) -> dict[str, Person]:
  """Returns the people of identity_meta.csv by folder; the identity is the folder's place in their
  sorted order.

  Raises:
    UserError: the header or the number of people is wrong, or a row is not a person.
  """
  with lists.open_text(path) as file:
    rows = csv.reader(file, skipinitialspace=True)
    _check_header(path, next(rows, []), _META)
    genders: dict[str, int] = {}
    for row in filter(None, rows):
      name, gender = _person(path, rows.line_num, [field.strip() for field in row])
      if name in genders:
        raise errors.UserError(
          f'{path}: line {rows.line_num} names {name} again; expected each person once'
        )
      genders[name] = gender
  if len(genders) != PEOPLE:
    raise errors.UserError(
      f'{path}: {len(genders):,} people; expected {PEOPLE:,}, since their numbers are the labels: '
      'download it again'
    )
  return {name: Person(i, genders[name]) for i, name in enumerate(sorted(genders))}


def _check_header(path: pathlib.Path, row: Sequence[str], expected: Sequence[str]) -> None:
  header = [name.strip().removeprefix(lists.MARK) for name in row]
  if header != list(expected):
    raise errors.UserError(
      f'{path}: the header is {lists.shown(",".join(header))}; expected {", ".join(expected)}'
    )


def _person(path: pathlib.Path, line: int, row: Sequence[str]) -> tuple[str, int]:
  """Folder and gender; a name may have commas, so the fields after it are counted from the end."""
  if len(row) < len(_META) or not (row[-3].isdecimal() and row[-2].isdecimal()):
    raise errors.UserError(
      f'{path}: line {line} is {lists.shown(", ".join(row))}; expected {", ".join(_META)}, such as '
      'n000002, "Name", 424, 0, f'
    )
  return row[0], _GENDERS.get(row[-1], -1)


def list_photos(folder: pathlib.Path, people: Mapping[str, Person]) -> Photos:
  """Returns all photographs of train/ and test/ in the order of their ids; people without any come
  as one entry each.

  Raises:
    UserError: a folder is not listed in identity_meta.csv, or two files have the same id.
  """
  found: list[tuple[bytes, bytes, int, int, int]] = []
  there: set[str] = set()
  for name, partition, files in _folders(folder):
    if name not in people:
      raise errors.UserError(
        f'{folder / PARTITIONS[partition] / name}: identity_meta.csv has no entry for this folder; '
        'expected n000001 to'
        ' n009294: is this file from this set?'
      )
    there.add(name)
    for file in files:
      stem, ending = os.path.splitext(file)
      found.append((os.fsencode(f'{name}/{stem}'), os.fsencode(ending), partition, *people[name]))
  found += [(name.encode(), b'', 0, *people[name]) for name in people.keys() - there]
  longest = max((len(image_id) for image_id, *_ in found), default=1)
  columns = np.array(
    found,
    [
      ('image_id', f'S{longest}'),
      ('ending', 'S5'),
      ('partition', 'i1'),
      ('identity', 'i4'),
      ('gender', 'i1'),
    ],
  )
  columns = columns[np.argsort(columns['image_id'], kind='stable')]
  _check_ids(folder, columns)
  boxes = {'box': boxes_of(columns['image_id'], folder / 'bb_landmark')}
  return Photos({name: np.ascontiguousarray(columns[name]) for name in columns.dtype.names} | boxes)


def _check_ids(folder: pathlib.Path, columns: np.ndarray) -> None:
  """Raises UserError if two photographs, in the order of their ids, have one id."""
  again = np.flatnonzero(columns['image_id'][1:] == columns['image_id'][:-1])
  if len(again):
    files = [
      folder / PARTITIONS[of['partition']] / (of['image_id'] + of['ending']).decode()
      for of in columns[again[0] :][:2]
    ]
    raise folders.one_id(columns['image_id'][again[0]].decode(), *files)


def _folders(folder: pathlib.Path) -> Iterator[tuple[str, int, list[str]]]:
  """Yields the people's folders: name, partition, sorted files; those without a photograph are as
  good as missing.
  """
  for partition, of in enumerate(PARTITIONS):
    if not (folder / of).is_dir():
      continue
    for person in folders.folders(folder / of):
      if files := sorted(
        name for name in os.listdir(person) if folders.has_ending(name, folders.IMAGES)
      ):
        yield person.name, partition, files


def boxes_of(image_ids: np.ndarray, folder: pathlib.Path) -> np.ndarray:
  """int32 [N, 4]: left, top, right, bottom from loose_bb_train.csv and loose_bb_test.csv; zeros
  where they say nothing.

  Raises:
    UserError: a row is not an image and four numbers.
  """
  boxes = np.zeros((len(image_ids), 4), np.int32)
  for path in (folder / f'loose_bb_{of}.csv' for of in PARTITIONS):
    if not folders.is_file_there(path):
      continue
    table = np.fromiter(
      _box_rows(path),
      [('id', f'S{_LONGEST_LISTED}'), ('x', 'i4'), ('y', 'i4'), ('w', 'i4'), ('h', 'i4')],
    )
    place = np.searchsorted(image_ids, table['id'])
    listed = np.flatnonzero(
      (place < len(image_ids)) & (image_ids[np.minimum(place, len(image_ids) - 1)] == table['id'])
    )
    x, y, w, h = (table[of][listed] for of in 'xywh')
    boxes[place[listed]] = np.stack([x, y, x + w, y + h], axis=1)
  return boxes


def _box_rows(path: pathlib.Path) -> Iterator[tuple[bytes, int, int, int, int]]:
  with lists.open_text(path) as file:
    rows = csv.reader(file, skipinitialspace=True)
    _check_header(path, next(rows, []), _BOX)
    for line, row in enumerate(rows, start=2):
      if not row:
        continue
      try:
        name, x, y, w, h = row
        yield name.encode(), int(x), int(y), int(w), int(h)
      except ValueError:
        raise errors.UserError(
          f'{path}: line {line} is {lists.shown(",".join(row))}; expected an image and four whole '
          'numbers, such as'
          ' "n000002/0001_01",161,140,224,324'
        ) from None


def in_test(image_ids: Iterable[bytes]) -> np.ndarray:
  """bool [N]: the photographs that are drawn for the test set, by a hash of seed and id, whoever
  they are of.

  Of the whole set 243,722 of 3,311,286, as many as Savchenko 2021 has; of a part, the same share.
  Which ones they drew is not published.
  """
  keys = [
    hashlib.blake2b(b'%d:%b' % (DRAW_SEED, name), digest_size=8).digest() for name in image_ids
  ]
  order = np.argsort(np.frombuffer(b''.join(keys), '>u8'), kind='stable')
  drawn = np.zeros(len(keys), bool)
  drawn[order[: round(len(keys) * TEST_PHOTOS / (TRAIN_PHOTOS + TEST_PHOTOS))]] = True
  return drawn


def split(photos: Photos) -> dict[str, Photos]:
  """Returns train and test by that draw; people without a photograph are listed in train."""
  ids = photos._columns['image_id']
  real = np.flatnonzero(np.char.find(ids, b'/') > 0)
  drawn = np.zeros(len(ids), bool)
  drawn[real[in_test(ids[real].tolist())]] = True
  return {'train': photos[np.flatnonzero(~drawn)], 'test': photos[np.flatnonzero(drawn)]}
