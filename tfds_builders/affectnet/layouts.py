"""The two layouts of AffectNet: complete lists (training.csv), and a folder with four small files
per image.
"""

from __future__ import annotations

import math
import os
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from mtface import errors
from mtface.faces import folders
from tfds_builders import lists

NUM_EXPRESSIONS = 11
# Of the lists. Other columns, such as facial_landmarks, are not used.
COLUMNS = (
  'subDirectory_filePath', 'face_x', 'face_y', 'face_width', 'face_height', 'facial_landmarks',
  'expression', 'valence', 'arousal',
)  # fmt: skip
LISTS = {'train': 'training.csv', 'validation': 'validation.csv'}
FOLDERS = {'train': 'train_set', 'validation': 'val_set'}
_LIST_FOLDERS = ('.', 'Manually_Annotated_file_lists')
_IMAGE_FOLDERS = (
  'Manually_Annotated_Images',
  'Manually_Annotated/Manually_Annotated_Images',
  'Manually_Annotated',
)


class Entry(NamedTuple):
  """One image.

  Attributes:
    image_id: <split>/<path without its ending>.
    path: the image.
    expression: 0 to 10, in AffectNet's order.
    valence: -1 to 1; NaN where it is not known (AffectNet's -2).
    arousal: the same.
    box: where the face is, as the lists say; None where they say nothing usable.
    repeated: whether the list has named the image before.
  """

  image_id: str
  path: str
  expression: int
  valence: float
  arousal: float
  box: tuple[int, int, int, int] | None = None
  repeated: bool = False


def is_lists(folder: pathlib.Path) -> bool:
  """Returns whether a folder has the layout with lists."""
  return _list_of(folder, 'train') is not None


def is_folders(folder: pathlib.Path) -> bool:
  """Returns whether a folder has the layout with a folder of images and one of annotations."""
  return (folder / 'train_set' / 'annotations').is_dir()


def _list_of(folder: pathlib.Path, split: str) -> pathlib.Path | None:
  paths = [folder / of / LISTS[split] for of in _LIST_FOLDERS]
  return next((path for path in paths if path.is_file()), None)


# --- Lists ----------------------------------------------------------------------------------------


def read_list(folder: pathlib.Path, split: str) -> list[Entry]:
  """Returns the rows of training.csv or validation.csv; the latter has come without a header.

  Raises:
    UserError: the list or the folder of images is missing, a row is not in order, or two files
      would have one id.
  """
  path = _list_of(folder, split)
  if path is None:
    raise errors.UserError(
      f'{folder}: found no {LISTS[split]}; expected both lists: unpack '
      'Manually_Annotated_file_lists'
    )
  images = next((folder / of for of in _IMAGE_FOLDERS if (folder / of).is_dir()), None)
  if images is None:
    raise errors.UserError(
      f'{folder}: found no Manually_Annotated_Images/ beside {LISTS[split]}; expected the images: '
      'unpack'
      ' Manually_Annotated'
    )
  first: dict[str, str] = {}
  entries = []
  for line, row in lists.rows(path, COLUMNS, may_lack=True):
    entry = _entry(path, line, row, split, images)
    repeated = entry.image_id in first
    if (other := first.setdefault(entry.image_id, entry.path)) != entry.path:
      raise folders.one_id(entry.image_id, other, entry.path)
    entries.append(entry._replace(repeated=repeated))
  return entries


def _entry(
  path: pathlib.Path, line: int, row: dict[str, str], split: str, images: pathlib.Path
) -> Entry:
  name = row['subDirectory_filePath'].replace('\\', '/')
  try:
    expression = int(row['expression'])
    # Copies without valence and arousal have nothing there.
    valence, arousal = (float(row[of] or 'nan') for of in ('valence', 'arousal'))
    if not name:
      raise ValueError
  except ValueError:
    found = ', '.join(
      lists.shown(row[of]) for of in ('subDirectory_filePath', 'expression', 'valence', 'arousal')
    )
    raise errors.UserError(
      f'{path}: line {line} is not an image, a box, landmarks and three numbers: found {found}'
    ) from None
  image_id = f'{split}/{os.path.splitext(name)[0]}'
  return checked(
    Entry(image_id, str(images / name), expression, valence, arousal, _box(row)),
    f'{path}: line {line}',
  )


def checked(entry: Entry, where: str) -> Entry:
  """Returns an entry with NaN for what is not known; raises UserError, which says `where`, for an
  expression out of range.
  """
  if not 0 <= entry.expression < NUM_EXPRESSIONS:
    raise errors.UserError(
      f'{where} has the expression {entry.expression}; expected 0 to {NUM_EXPRESSIONS - 1}'
    )
  valence, arousal = (
    value if -1 <= value <= 1 else math.nan for value in (entry.valence, entry.arousal)
  )
  return entry._replace(valence=valence, arousal=arousal)


def _box(row: dict[str, str]) -> tuple[int, int, int, int] | None:
  """The annotated box; None where it is not four numbers (they have been NULL) or holds nothing."""
  try:
    left, top, width, height = (
      round(float(row[f'face_{of}'])) for of in ('x', 'y', 'width', 'height')
    )
  except (ValueError, OverflowError):
    return None
  return (left, top, left + width, top + height) if width > 0 and height > 0 else None


# --- Folders --------------------------------------------------------------------------------------


def list_folder(folder: pathlib.Path, split: str) -> list[str]:
  """Returns the images of train_set/images or val_set/images, whose annotations are not read here:
  there are a million files.

  Raises:
    UserError: a folder is missing, or two files would have one id.
  """
  for of in ('images', 'annotations'):
    if not (folder / FOLDERS[split] / of).is_dir():
      raise errors.UserError(
        f'{folder / FOLDERS[split] / of}: no such folder; expected train_set/ and '
        'val_set/ with images/ and'
        ' annotations/: unpack both archives'
      )
  images = folders.files(folder / FOLDERS[split] / 'images', folders.IMAGES)
  return [
    str(path) for path in folders.by_id((f'{split}/{path.stem}', path) for path in images).values()
  ]


def read_annotations(path: str) -> Entry:
  """Returns the entry of an image <id>.jpg (or .png) from ../annotations/<id>_exp.npy, _val.npy and
  _aro.npy (texts or numbers).

  Raises:
    UserError: one of them is missing or damaged, or out of range.
  """
  image = pathlib.Path(path)
  annotations = image.parents[1] / 'annotations'
  split = next(split for split, folder in FOLDERS.items() if folder == image.parents[1].name)
  expression, valence, arousal = (
    _number(annotations / f'{image.stem}_{of}.npy') for of in ('exp', 'val', 'aro')
  )
  if not expression.is_integer():
    raise errors.UserError(
      f'{annotations / f"{image.stem}_exp.npy"}: found {expression}; expected a whole number'
    )
  entry = Entry(f'{split}/{image.stem}', path, int(expression), valence, arousal)
  return checked(entry, str(annotations / f'{image.stem}_exp.npy'))


def _number(path: pathlib.Path) -> float:
  try:
    return float(np.load(path).item())
  except FileNotFoundError:
    raise errors.UserError(f'{path}: no such file; expected the annotation of an image') from None
  except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
    raise errors.UserError(
      f'{path}: cannot be read as one number ({error}); the file may be damaged'
    ) from None
