"""EmotioNet: 25,000 faces from the web with manually annotated action units, some of them with one
of 16 emotions. See README.md in this folder.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, folders
from mtface.progress import warn
from tfds_builders import base, detected
from tfds_builders.emotionet import local, tables

UNIT_LISTS = ('emotionet_facs*', 'datafile_*')  # one file, or without it any number of these
EMOTION_LIST = '*emotioncat*'
_TEXTS, _WORKBOOKS = ('.csv', '.txt', '.tsv'), ('.xlsx', '.xls')
SMALLEST = 20  # pixels: MTCNN does not find smaller faces


class Photo(NamedTuple):
  """One image.

  Attributes:
    image_id: see `tables.Row.image_id`.
    path: the file; None if there is none.
    units: 1, 0 or -1 (not known) of each of the action units; None if the list does not have it.
    emotions: those that are marked, in mtface's terms; None if the list does not have it.
    repeated: whether a list has named the image before.
  """

  image_id: str
  path: pathlib.Path | None = None
  units: tuple[int, ...] | None = None
  emotions: tuple[str, ...] | None = None
  repeated: bool = False


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb32("32x32 colour: the detector's box, without margin"),
    base.rgb64("64x64 colour: the detector's box, without margin"),
    base.rgb224("224x224 colour: the detector's box, without margin"),
    base.gray48("48x48 grey: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for the EmotioNet challenge at http://cbcsl.ece.ohio-state.edu/EmotionNetChallenge/ (a '
    'signed agreement is needed), download the images from the URLs of its lists, and give the '
    'folder that holds the images (in folders of any names), EmotioNet_FACS.csv and '
    'URLsWithEmotionCat.csv; pass that folder'
  )
  OTHER_LAYOUTS = (
    ('*[Ff][Aa][Cc][Ss]*.xls*', 'a workbook: open it with its password and save it as CSV (UTF-8)'),
    ('*EmotionCat*.xls*', 'a workbook: open it with its password and save it as CSV (UTF-8)'),
  )
  TASKS = ('action_units', 'compound_emotion', 'compound8', 'emotion7')
  FROM_PHOTOGRAPHS = True
  HAS_LANDMARKS = True
  RESUMABLE = True
  max_left_out = 0.2  # as files come from many servers, some of which send a page that says sorry
  NOTES = (
    *detected.NOTES,
    ('several_emotions', 'more than one is marked: masked'),
    ('no_emotion', 'the list of emotions has the image, but none is marked: masked'),
  )

  def attributes(self) -> dict[str, Any]:
    """What the detector said, in pixels of the image."""
    return detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the lists: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'EmotioNet_FACS.csv (or dataFile_1000.txt) or URLsWithEmotionCat.csv',
      lambda folder: any(_matching(folder, p, _TEXTS) for p in (*UNIT_LISTS, EMOTION_LIST)),
    )

  def items(self, source: Any) -> dict[str, Sequence[Photo]]:
    """Returns the images of the lists as one split; the challenge's test images are not public."""
    return {'train': photos(source)}

  def converter(self) -> Callable[[Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one image."""
    config = self.builder_config
    return functools.partial(convert, size=config.size, channels=config.channels)


def _matching(folder: pathlib.Path, pattern: str, endings: Sequence[str]) -> list[pathlib.Path]:
  paths = folders.files(folder, endings)
  named = [path for path in paths if fnmatch.fnmatch(path.stem.casefold(), pattern)]
  return [path for path in named if folders.is_file_there(path)]


def _only_list(folder: pathlib.Path, pattern: str, what: str) -> list[pathlib.Path]:
  """One list, or none."""
  paths = _matching(folder, pattern, _TEXTS)
  if len(paths) > 1:
    raise errors.UserError(
      f'{paths[0]} and {paths[1]}: two lists of {what}; expected one: remove the other'
    )
  if not paths and (books := _matching(folder, pattern, _WORKBOOKS)):
    raise errors.UserError(
      f'{books[0]}: is a workbook; expected the list of {what} as text: open it with its password '
      'and save it as CSV (UTF-8)'
    )
  return paths


def photos(folder: pathlib.Path) -> list[Photo]:
  """Returns the images of both lists, and once more those that a list repeats.

  Raises:
    UserError: a list is not in order or there twice, or files cannot be told apart.
  """
  unit_lists = _only_list(folder, UNIT_LISTS[0], 'action units') or _matching(
    folder, UNIT_LISTS[1], _TEXTS
  )
  emotion_list = _only_list(folder, EMOTION_LIST, 'emotions')
  for paths, what in ((unit_lists, 'action units'), (emotion_list, 'emotions')):
    if not paths:
      warn(f'{folder}: found no list of {what}; they are masked')
  units, again = tables.by_image(itertools.chain.from_iterable(map(tables.read_units, unit_lists)))
  emotions, also_again = tables.by_image(
    itertools.chain.from_iterable(map(tables.read_emotions, emotion_list))
  )
  paths_of = local.assign((emotions | units).values(), local.files_in(folder))
  listed = [
    Photo(image_id, path, _units(units.get(image_id)), _emotions(emotions.get(image_id)))
    for image_id, path in paths_of.items()
  ]
  return listed + [Photo(image_id, repeated=True) for image_id in (*again, *also_again)]


def _units(row: tables.Row | None) -> tuple[int, ...] | None:
  return None if row is None else tuple(row.values[name] for name in tables.UNITS)


def _emotions(row: tables.Row | None) -> tuple[str, ...] | None:
  if row is None:
    return None
  return tuple(name for column, name in tables.EMOTIONS.items() if row.values[column] == 1)


def labels_of(photo: Photo) -> dict[str, Any]:
  """Returns the known labels by task; an emotion is a class of some of the three tasks."""
  labels: dict[str, Any] = {}
  if photo.units is not None:
    labels['action_units'] = np.array(photo.units, np.int64)
  if photo.emotions is not None and len(photo.emotions) == 1:
    of = {t: tasks.get_task(t).classes for t in ('compound_emotion', 'compound8', 'emotion7')}
    (name,) = photo.emotions
    labels |= {task: classes.index(name) for task, classes in of.items() if name in classes}
  return labels


def convert(photo: Photo, *, size: int, channels: int) -> list[base.Face | base.LeftOut]:
  """Turns one image into a face; where none is found, into its central square.

  Left out by rule: images that are not there, since the web has lost some, and that a list names
  again.
  """
  image_id = photo.image_id
  if photo.repeated:
    return [base.LeftOut(image_id, 'listed twice', damaged=False)]
  if photo.path is None:
    return [base.LeftOut(image_id, 'missing file', damaged=False)]
  try:
    image = crop.read_image(photo.path)
  except errors.UserError as error:
    return [base.LeftOut(image_id, 'damaged image', str(error))]
  if min(image.shape[:2]) < SMALLEST:
    return [base.LeftOut(image_id, f'smaller than {SMALLEST} pixels', damaged=False)]
  return [_face(photo, image, size, channels)]


def _face(photo: Photo, image: np.ndarray, size: int, channels: int) -> base.Face:
  face = detected.cut_out(image, size=size, channels=channels)
  marked = None if photo.emotions is None else len(photo.emotions)
  notes: Mapping[str, bool] = {
    'several_emotions': marked is not None and marked > 1,
    'no_emotion': marked == 0,
  }
  return base.Face(
    photo.image_id,
    face.image,
    labels=labels_of(photo),
    landmarks=face.landmarks,
    attributes=face.attributes,
    digest=crop.content_digest(image),
    notes=face.notes + tuple(note for note, of in notes.items() if of),
  )
