"""GENKI-4K: 4,000 photographs of one face each, annotated as smiling or not. See README.md in this
folder.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, folders, schemes
from tfds_builders import base, detected, lists


class Photo(NamedTuple):
  """One line of labels.txt with the file that it is about."""

  image_id: str  # file0001
  path: pathlib.Path
  smile: int
  pose: tuple[float, float, float]  # yaw, pitch, roll in radians


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it, without margin unless the config's name has a crop."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.gray48("48x48 grey: the detector's box, without margin"),
    base.rgb224("224x224 colour: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download genki4k.tar from https://inc.ucsd.edu/mplab/398/, unpack it, and give the folder '
    'that holds labels.txt'
    ' and files/'
  )
  TASKS = ('smile',)
  FROM_PHOTOGRAPHS = True
  HAS_LANDMARKS = True
  CROPS = True
  NOTES = detected.NOTES

  def notes(self) -> tuple[tuple[str, str], ...]:
    """With that of a scheme that aligns."""
    return self.NOTES + detected.scheme_notes(self.scheme)

  def attributes(self) -> dict[str, Any]:
    """Annotated head pose in radians, and what the detector said, in pixels of the source
    photograph.
    """
    pose = {name: tfds.features.Scalar(np.float32) for name in ('yaw', 'pitch', 'roll')}
    return pose | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with labels.txt and files/: `manual_dir` or a folder in it, as the archive
    unpacks.
    """
    return self.find_in(
      manual_dir,
      'labels.txt and files/',
      lambda f: (f / 'labels.txt').is_file() and (f / 'files').is_dir(),
    )

  def items(self, source: Any) -> dict[str, Sequence[Photo]]:
    """Returns the 4,000 photographs as one split; GENKI-4K has no division of its own."""
    return {'train': read_labels(source)}

  def converter(self) -> Callable[[Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one photograph."""
    config = self.builder_config
    return functools.partial(
      convert, size=config.size, channels=config.channels, scheme=self.scheme
    )


def read_labels(folder: pathlib.Path) -> list[Photo]:
  """Reads labels.txt, whose line N is about the Nth file in files/.

  Raises:
    UserError: a line is not a smile label and three angles, lines and files do not go together, or
      two files have one id.
  """
  path = folder / 'labels.txt'
  rows = [(number, line.split()) for number, line in lists.lines(path)]
  files = folders.by_id(
    (file.stem.lower(), file) for file in folders.files(folder / 'files', folders.IMAGES)
  )
  if len(rows) != len(files):
    raise errors.UserError(
      f'{path}: {len(rows)} labels but {len(files)} images in {folder / "files"}; expected one '
      'line per image'
      ' (4,000 in the whole set): unpack genki4k.tar again'
    )
  expected = [f'file{place:04d}' for place in range(1, len(rows) + 1)]
  for (number, _), image_id in zip(rows, expected, strict=True):
    if image_id not in files:
      raise errors.UserError(
        f'{folder / "files" / image_id}.jpg: the image of line {number} of {path} is missing'
      )
  return [
    _photo(path, number, row, image_id, files[image_id])
    for (number, row), image_id in zip(rows, expected, strict=True)
  ]


def _photo(
  path: pathlib.Path, number: int, row: list[str], image_id: str, file: pathlib.Path
) -> Photo:
  try:
    smile, yaw, pitch, roll = row
    pose = (float(yaw), float(pitch), float(roll))
    if not np.isfinite(pose).all():
      raise ValueError
  except ValueError:
    raise errors.UserError(
      f'{path}: line {number} is {lists.shown(" ".join(row))}; expected four numbers: smile yaw '
      'pitch roll'
    ) from None
  if smile not in ('0', '1'):
    raise errors.UserError(f'{path}: line {number} has the smile label {smile!r}; expected 0 or 1')
  return Photo(image_id, file, int(smile), pose)


def convert(
  photo: Photo, *, size: int, channels: int, scheme: schemes.Scheme
) -> list[base.Face | base.LeftOut]:
  """Turns one photograph into a face; where none is found, into the central square of the
  photograph.
  """
  image_id = photo.image_id
  try:
    image = crop.read_image(photo.path)
  except errors.UserError as error:
    return [base.LeftOut(image_id, 'damaged image', str(error))]
  face = detected.cut_out(image, size=size, channels=channels, scheme=scheme)
  yaw, pitch, roll = photo.pose
  return [
    base.Face(
      image_id,
      face.image,
      labels={'smile': photo.smile},
      landmarks=face.landmarks,
      attributes={'yaw': yaw, 'pitch': pitch, 'roll': roll, **face.attributes},
      digest=crop.content_digest(image),
      notes=face.notes,
    )
  ]
