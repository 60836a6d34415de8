"""VGGFace2: 3.3 million photographs of 9,131 people. See README.md in this folder."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, detect
from tfds_builders import base, detected
from tfds_builders.vggface2 import photos as photos_lib

SMALLEST = 20  # pixels: MTCNN looks for no smaller face


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb224("224x224 colour: the detector's box, without margin"),
    base.rgb64("64x64 colour: the detector's box, without margin"),
    base.rgb96("96x96 colour: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'get vggface2_train.tar.gz, vggface2_test.tar.gz and meta.tar.gz of VGGFace2 '
    '(https://github.com/ox-vgg/vgg_face2; 40 GB),'
    ' unpack them, and give the folder that holds train/, test/ and identity_meta.csv (or '
    'meta/identity_meta.csv); bb_landmark/'
    ' there is used if present; pass that folder'
  )
  TASKS = (f'identity:{photos_lib.PEOPLE}', 'gender')
  DIGEST_OF = 'nothing: three million photographs are not compared'
  FROM_PHOTOGRAPHS = True
  HAS_SUBJECT = True
  HAS_LANDMARKS = True
  RESUMABLE = True
  NOTES = (
    *detected.notes_with(
      'the annotated box, or else the central square,', 'the one in the annotated box'
    ),
    ('gender_missing', 'the gender is masked'),
  )

  def attributes(self) -> dict[str, Any]:
    """Whether the set's own test partition has the person; what the detector said, in pixels of the
    photograph.
    """
    return {'official_test': tfds.features.Scalar(np.bool_)} | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with train/ and the list of people: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'train/, and identity_meta.csv here or in meta/',
      lambda folder: (folder / 'train').is_dir() and _meta(folder) is not None,
    )

  def items(self, source: Any) -> dict[str, Sequence[photos_lib.Photo]]:
    """Returns the photographs of all people by split; a seeded draw makes the splits, photograph by
    photograph.
    """
    self._folder = source
    meta = _meta(source)
    assert meta is not None  # `locate` has seen it
    return dict(photos_lib.split(photos_lib.list_photos(source, photos_lib.read_people(meta))))

  def converter(self) -> Callable[[photos_lib.Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one photograph."""
    config = self.builder_config
    return functools.partial(
      convert, folder=self._folder, size=config.size, channels=config.channels
    )


def _meta(folder: pathlib.Path) -> pathlib.Path | None:
  paths = (folder / 'identity_meta.csv', folder / 'meta' / 'identity_meta.csv')
  return next((path for path in paths if path.is_file()), None)


def convert(
  photo: photos_lib.Photo, *, folder: pathlib.Path, size: int, channels: int
) -> list[base.Face | base.LeftOut]:
  """Turns one photograph into a face; where none is found, into the annotated box or the central
  square.
  """
  subject, _, name = photo.image_id.partition('/')
  if not name:
    return [base.LeftOut(photo.image_id, 'a person without photographs', damaged=False)]
  path = folder / photos_lib.PARTITIONS[photo.partition] / f'{photo.image_id}{photo.ending}'
  try:
    image = crop.read_image(path)
  except errors.UserError as error:
    return [
      base.LeftOut(photo.image_id, 'damaged image' if path.exists() else 'missing file', str(error))
    ]
  if min(image.shape[:2]) < SMALLEST:
    return [base.LeftOut(photo.image_id, f'smaller than {SMALLEST} pixels', damaged=False)]
  choice = detect.inside(detected.box_in(photo.box, image))
  face = detected.cut_out(image, size=size, channels=channels, choice=choice)
  known = {'gender': photo.gender} if photo.gender >= 0 else {}
  return [
    base.Face(
      photo.image_id,
      face.image,
      labels={'identity': photo.identity, **known},
      subject=subject,
      landmarks=face.landmarks,
      attributes={'official_test': np.bool_(photo.partition == 1), **face.attributes},
      notes=face.notes + (() if known else ('gender_missing',)),
    )
  ]
