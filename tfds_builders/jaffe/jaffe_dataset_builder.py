"""JAFFE: 213 photographs of ten women, each posing one of seven emotions. See README.md in this
folder.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, folders
from tfds_builders import base, detected

EMOTIONS = {
  'AN': 'angry',
  'DI': 'disgust',
  'FE': 'fear',
  'HA': 'happy',
  'SA': 'sad',
  'SU': 'surprise',
  'NE': 'neutral',
}
# KA.AN1.39: who, emotion and take, number in the set. Copies have lost the number or its dot, or
# have blanks, other endings and other cases.
_NAME = re.compile(rf'(?P<who>[A-Z]{{2}})[ ._-]+(?P<emotion>{"|".join(EMOTIONS)})\d*([ ._-]*\d+)?')


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb32("32x32, grey in all three channels: the detector's box, without margin"),
    base.rgb64("64x64, grey in all three channels: the detector's box, without margin"),
    base.rgb224("224x224, grey in all three channels: the detector's box, without margin"),
    base.gray48("48x48 grey: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for JAFFE at https://zenodo.org/records/3451524, unpack it, and give the '
    'folder that holds KA.AN1.39.tiff'
  )
  OTHER_LAYOUTS = (
    (
      '[Aa]nger/*.*',
      'a copy as one folder per class, which does not say who it is: the names of the set are '
      'needed',
    ),
  )
  TASKS = ('emotion7',)
  GREY = True
  FROM_PHOTOGRAPHS = True
  HAS_SUBJECT = True
  HAS_LANDMARKS = True
  NOTES = detected.NOTES

  def attributes(self) -> dict[str, Any]:
    """What the detector said, in pixels of the photograph."""
    return detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the photographs: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'KA.AN1.39.tiff and others',
      lambda folder: any(map(_parts, folders.files(folder, folders.IMAGES))),
    )

  def items(self, source: Any) -> dict[str, Sequence[pathlib.Path]]:
    """Returns the photographs as one split; JAFFE has no division of its own."""
    paths = [path for path in folders.files(source, folders.IMAGES) if _parts(path)]
    folders.tell_unread(source, paths, 'not named as in KA.AN1.39.tiff')
    return {'train': list(folders.by_id((image_id_of(path), path) for path in paths).values())}

  def converter(self) -> Callable[[pathlib.Path], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one photograph."""
    config = self.builder_config
    return functools.partial(convert, size=config.size, channels=config.channels)


def _parts(path: pathlib.Path) -> re.Match[str] | None:
  return _NAME.fullmatch(image_id_of(path))


def image_id_of(path: pathlib.Path) -> str:
  """Returns the file's name in capitals without its ending, of which a converted copy may have two:
  KA.AN1.39.tiff.jpg.
  """
  return path.stem.upper().removesuffix('.TIFF').removesuffix('.TIF').strip()


def convert(path: pathlib.Path, *, size: int, channels: int) -> list[base.Face | base.LeftOut]:
  """Turns one photograph, whose name says who it is and which emotion, into a face."""
  image_id, parts = image_id_of(path), _parts(path)
  if parts is None:
    raise ValueError(f'{path}: not a name of JAFFE')
  try:
    image = crop.read_image(path)
  except errors.UserError as error:
    return [base.LeftOut(image_id, 'damaged image', str(error))]
  face = detected.cut_out(image, size=size, channels=channels)
  emotion = EMOTIONS[parts['emotion']]
  return [
    base.Face(
      image_id,
      face.image,
      labels={'emotion7': tasks.get_task('emotion7').classes.index(emotion)},
      subject=parts['who'],
      landmarks=face.landmarks,
      attributes=face.attributes,
      digest=crop.content_digest(image),
      notes=face.notes,
    )
  ]
