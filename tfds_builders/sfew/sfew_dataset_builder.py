"""SFEW 2.0: frames of films with one of seven emotions. See README.md in this folder."""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, folders
from mtface.progress import warn
from tfds_builders import base

# By split: the folders of aligned faces, and the folder that people unpack their archive into.
# Of two, the first is taken: Val_Aligned_Faces_new replaced Val_Aligned_Faces.
ALIGNED = {
  'train': (('Train_Aligned_Faces',), 'Train'),
  'validation': (('Val_Aligned_Faces_new', 'Val_Aligned_Faces'), 'Val'),
  'test': (('Test_Aligned_Faces',), 'Test'),
}
EMOTIONS = tuple(name.capitalize() for name in tasks.get_task('emotion7').classes)

_NAME = re.compile(r'(?P<film>.+?)_\d+_\d+')  # Airheads_000519240_00000005: film, time, number


class Photo(NamedTuple):
  """One file.

  Attributes:
    image_id: <split>/<Emotion>/<file>, or test/<file>.
    path: the file.
    label: a class of emotion7; -1 in the test set, whose labels are not public.
  """

  image_id: str
  path: pathlib.Path
  label: int


class Builder(base.FaceBuilder):
  """Stores the set's own aligned faces as they are, resized."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb32("32x32 colour: the set's aligned face"),
    base.rgb64("64x64 colour: the set's aligned face"),
    base.rgb224("224x224 colour: the set's aligned face"),
    base.gray48("48x48 grey: the set's aligned face"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for SFEW 2.0 (EmotiW 2015) at https://users.cecs.anu.edu.au/~few_group/AFEW.html (a '
    'signed agreement is needed), unpack Train_Aligned_Faces.zip, Val_Aligned_Faces_new.zip and '
    'Test_Aligned_Faces.zip, and give the folder that holds their folders'
  )
  OTHER_LAYOUTS = (
    (
      '[Tt]rain/Angry/*.*',
      "SFEW's whole frames, or a copy under other names: the set's Train_Aligned_Faces is needed",
    ),
  )
  TASKS = ('emotion7',)
  NOTES = (('film_unknown', 'the name is not FILM_TIME_NUMBER; attributes/film is empty'),)

  def attributes(self) -> dict[str, Any]:
    """The film, as file names spell it."""
    return {'film': tfds.features.Text()}

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the splits' folders: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'Train_Aligned_Faces/Angry/ (or Train/Train_Aligned_Faces/Angry/)',
      lambda folder: aligned_folder(folder, 'train') is not None,
    )

  def items(self, source: Any) -> dict[str, Sequence[Photo]]:
    """Returns the images by split; a copy without the test set, which has no labels, has two."""
    splits: dict[str, Sequence[Photo]] = {
      split: labelled_photos(source, split) for split in ('train', 'validation')
    }
    test = aligned_folder(source, 'test')
    if test is None:
      warn(f'{source}: found no Test_Aligned_Faces/; building without a test split')
      return splits
    named = ((f'test/{path.stem}', path) for path in folders.files(test, folders.IMAGES))
    return splits | {'test': [Photo(i, path, -1) for i, path in folders.by_id(named).items()]}

  def converter(self) -> Callable[[Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that resizes one image."""
    config = self.builder_config
    return functools.partial(convert, size=config.size, channels=config.channels)


def aligned_folder(folder: pathlib.Path, split: str) -> pathlib.Path | None:
  """Returns the folder of a split's aligned faces: NAME or Train/NAME, and where an archive was
  unpacked into a folder of its own, NAME_new/NAME; None if there is none.
  """
  names, wrapper = ALIGNED[split]
  for path in (parent / name for parent in (folder, folder / wrapper) for name in names):
    inner = [path / name for name in names if (path / name).is_dir()]
    if found := next((each for each in (*inner, path) if _has_faces(each, split)), None):
      return found
  return None


def _has_faces(folder: pathlib.Path, split: str) -> bool:
  if split != 'test':
    return (folder / 'Angry').is_dir()
  return folder.is_dir() and bool(folders.files(folder, folders.IMAGES))


def labelled_photos(folder: pathlib.Path, split: str) -> list[Photo]:
  """Returns the images of a split, class by class.

  Raises:
    UserError: the split or one of its seven emotions is missing, there is a folder of another name,
      or two files have one id.
  """
  found = aligned_folder(folder, split)
  if found is None:
    raise errors.UserError(
      f'{folder}: found no {ALIGNED[split][0][0]}/Angry/; expected both labelled splits of SFEW: '
      'unpack the archive of this split too'
    )
  there = {path.name for path in folders.folders(found)}
  if there != set(EMOTIONS):
    wrong = min(there.symmetric_difference(EMOTIONS))
    what = 'no such folder' if wrong in EMOTIONS else 'not the folder of an emotion'
    raise errors.UserError(f'{found / wrong}: {what}; expected exactly {", ".join(EMOTIONS)}')
  photos: list[Photo] = []
  for label, name in enumerate(EMOTIONS):
    files = folders.files(found / name, folders.IMAGES)
    named = folders.by_id((f'{split}/{name}/{path.stem}', path) for path in files)
    photos += [Photo(image_id, path, label) for image_id, path in named.items()]
  return photos


def film_of(image_id: str) -> str:
  """Returns the film of .../FILM_TIME_NUMBER; '' of another name."""
  found = _NAME.fullmatch(image_id.rpartition('/')[2])
  return found['film'] if found else ''


def convert(photo: Photo, *, size: int, channels: int) -> list[base.Face | base.LeftOut]:
  """Turns one image into a face: all of it, resized."""
  try:
    image = crop.read_image(photo.path)
  except errors.UserError as error:
    return [base.LeftOut(photo.image_id, 'damaged image', str(error))]
  height, width = image.shape[:2]
  film = film_of(photo.image_id)
  return [
    base.Face(
      photo.image_id,
      crop.crop_face(image, (0, 0, width, height), size, channels),
      labels={'emotion7': photo.label} if photo.label >= 0 else {},
      attributes={'film': film},
      digest=crop.content_digest(image),
      notes=() if film else ('film_unknown',),
    )
  ]
