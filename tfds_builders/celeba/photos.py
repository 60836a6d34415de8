"""Which images a copy of CelebA has, and what its lists say about each."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtface import errors
from mtface.faces import folders
from mtface.progress import warn
from tfds_builders.celeba import tables

PEOPLE = 10177
SPLITS = ('train', 'validation', 'test')  # 0, 1, 2 of list_eval_partition
IN_THE_WILD = 'img_celeba'
IMAGE_FOLDERS = (IN_THE_WILD, 'img_align_celeba', 'img_align_celeba_png')

_OPTIONAL = ('box', 'landmarks')  # columns that a copy need not have
_FARTHEST = 100_000  # pixels: no coordinate is farther from the corner


class Photo(NamedTuple):
  """One image of the lists.

  Attributes:
    image_id: the file's name without its ending: 000001.
    path: the file; None if this copy does not have it.
    attributes: the 40, 1 or 0.
    identity: 1 to PEOPLE; 0 where it is not known.
    box: left, top, width and height as annotated, in the picture in the wild; None without a list.
    landmarks: x and y of the five points as annotated, in the same order as ours; None without.
  """

  image_id: str
  path: pathlib.Path | None
  attributes: tuple[int, ...]
  identity: int
  box: tuple[int, ...] | None
  landmarks: tuple[int, ...] | None


class Photos(Sequence[Photo]):
  """Two hundred thousand photos as columns: each is made up when it is asked for."""

  def __init__(self, folder: pathlib.Path, columns: Mapping[str, Any]):
    """`columns` are those of `Photo`, arrays but for the names; `box` and `landmarks` may lack."""
    self._folder = folder
    self._columns = columns

  def __len__(self) -> int:
    return len(self._columns['name'])

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return Photos(self._folder, {name: column[index] for name, column in self._columns.items()})
    of = {name: column[index] for name, column in self._columns.items()}
    attributes, box, landmarks = (
      tuple(of[name].tolist()) if name in of else None
      for name in ('attributes', 'box', 'landmarks')
    )
    path = self._folder / of['name'] if of['name'] else None
    return Photo(of['image_id'], path, attributes or (), int(of['identity']), box, landmarks)


def image_folder(root: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of images in any of the layouts; the pictures in the wild, if there are both
  they and the aligned ones.

  Kaggle's archive unpacks to img_align_celeba/img_align_celeba, the official parts to Img/ or to
  Img/img_celeba.7z/.
  """
  return next(iter(_image_folders(root)), None)


def _image_folders(root: pathlib.Path) -> list[pathlib.Path]:
  found = [_image_folder(root, name) for name in IMAGE_FOLDERS]
  return [folder for folder in found if folder is not None]


def _image_folder(root: pathlib.Path, name: str) -> pathlib.Path | None:
  for pattern in (name, f'*/{name}', f'*/*/{name}'):
    for folder in sorted(root.glob(pattern)):
      if folder.is_dir() and _has_images(folder):
        return folder
  return None


def _has_images(folder: pathlib.Path) -> bool:
  with os.scandir(folder) as entries:
    return any(folders.has_ending(entry.name, folders.IMAGES) for entry in entries)


def is_in_the_wild(folder: pathlib.Path) -> bool:
  """Returns whether a folder of images has the original photographs, not the aligned ones."""
  return folder.name == IN_THE_WILD


def list_photos(root: pathlib.Path) -> dict[str, Photos]:
  """Returns the photos of the lists by split, in their order. A split of which this copy has no
  image is left out; in the others, images that it does not have have no path.

  Raises:
    UserError: a list is missing or damaged, or the lists do not go together.
  """
  folder, *others = _image_folders(root)
  for other in others:
    warn(f'{other}: not read, since {folder} is there')
  names = _names(folder)
  columns = _columns(root, names, is_in_the_wild(folder))
  partition = columns.pop('partition')
  of_splits = {}
  for number, split in enumerate(SPLITS):
    places = np.flatnonzero(partition == number)
    if any(columns['name'][place] for place in places):
      of_split = {
        name: column[places] if isinstance(column, np.ndarray) else [column[i] for i in places]
        for name, column in columns.items()
      }
      of_splits[split] = Photos(folder, of_split)
  _tell(folder, names, columns)
  return of_splits


def _names(folder: pathlib.Path) -> dict[str, str]:
  """The files of images by image id."""
  paths = folders.files(folder, folders.IMAGES)
  return {key: path.name for key, path in folders.by_id((p.stem, p) for p in paths).items()}


def _columns(root: pathlib.Path, names: Mapping[str, str], wild: bool) -> dict[str, Any]:
  attributes = _read(root, tables.ATTRIBUTES, -1, 1)
  image_ids = list(attributes)
  partition = _read(root, tables.PARTITION, 0, len(SPLITS) - 1)
  if lacks := next((image_id for image_id in image_ids if image_id not in partition), None):
    raise errors.UserError(
      f'{tables.path_of(root, tables.PARTITION)}: does not name {lacks}, which '
      f'{tables.path_of(root, tables.ATTRIBUTES)} does; expected all of its images: download both '
      'lists again'
    )
  columns: dict[str, Any] = {
    'image_id': image_ids,
    'name': [names.get(image_id, '') for image_id in image_ids],
    'attributes': (np.array(list(attributes.values())) > 0).astype(np.int8),
    'partition': np.array([partition[image_id][0] for image_id in image_ids]),
  }
  columns['identity'] = _optional(root, tables.IDENTITY, image_ids, 1, PEOPLE)
  if columns['identity'] is None:
    columns['identity'] = np.zeros((len(image_ids), 1), np.int32)
  columns['identity'] = columns['identity'][:, 0]
  points = tables.LANDMARKS if wild else tables.ALIGNED_LANDMARKS
  columns['landmarks'] = _optional(root, points, image_ids, -_FARTHEST, _FARTHEST)
  if wild:
    columns['box'] = _optional(root, tables.BOXES, image_ids, -_FARTHEST, _FARTHEST)
  return {name: column for name, column in columns.items() if column is not None}


def _read(root: pathlib.Path, name: str, low: int, high: int) -> dict[str, list[int]]:
  path = tables.path_of(root, name)
  if path is None:
    raise errors.UserError(
      f'{root / name}.txt: no such file, nor a .csv, here or in Anno/ or Eval/; expected '
      "CelebA's list: download it too"
    )
  return tables.read(path, low, high)


def _optional(
  root: pathlib.Path, name: str, image_ids: Sequence[str], low: int, high: int
) -> np.ndarray | None:
  """The values of a list that a copy need not have, int32 [N, C]: 0 for images that it does not
  name; None without the list.
  """
  if tables.path_of(root, name) is None:
    warn(f'{root}: no {name}.txt or .csv; what it says is not known')
    return None
  found = _read(root, name, low, high)
  nothing = [0] * len(tables.COLUMNS[name])
  return np.array([found.get(image_id, nothing) for image_id in image_ids], np.int32)


def _tell(folder: pathlib.Path, names: Mapping[str, str], columns: Mapping[str, Any]) -> None:
  """Says what does not go together: listed images that are not there, and the other way round."""
  missing = sum(not name for name in columns['name'])
  if missing:
    warn(
      f'{folder}: does not have {missing:,} of the {len(columns["name"]):,} images of the list; '
      'they are left out'
    )
  listed = set(columns['image_id'])
  read = [folder / name for image_id, name in names.items() if image_id in listed]
  folders.tell_unread(folder, read, 'not in the list')
