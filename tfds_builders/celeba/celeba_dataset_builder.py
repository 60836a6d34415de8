"""CelebA: 202,599 photographs of 10,177 people with 40 attributes. See README.md in this folder."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, detect, schemes
from tfds_builders import base, detected
from tfds_builders.celeba import photos as photos_lib
from tfds_builders.celeba import tables

SMALLEST = 20  # pixels: MTCNN looks for no smaller face
ALIGNED_SIZE = (178, 218)  # width and height of the aligned images as published

# Where the face is in an aligned image, as shares of its width and height: the median of MTCNN's
# boxes in 713 of them (5% and 95%: 0.19 to 0.35, 0.28 to 0.36, 0.66 to 0.82, 0.81 to 0.87).
_FACE_PLACE = (0.265, 0.31, 0.735, 0.835)

_ATTRIBUTES = tasks.get_task('celeba_attributes').classes
# The attributes that are tasks of their own; 1 is male and 1 is smiling in both.
_OWN_TASKS = {'gender': _ATTRIBUTES.index('Male'), 'smile': _ATTRIBUTES.index('Smiling')}


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it, without margin unless the config's name has a crop."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb224("224x224 colour: the detector's box, without margin"),
    base.rgb64("64x64 colour: the detector's box, without margin"),
    base.rgb32("32x32 colour: the detector's box, without margin"),
    base.gray48("48x48 grey: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download img_celeba (in the wild) or img_align_celeba and the lists from '
    'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unpack them, and give the folder that '
    'holds list_attr_celeba.txt (or Anno/) and the folder of images (or Img/)'
  )
  OTHER_LAYOUTS = (
    ('img_*celeba*.zip', 'the images are not unpacked'),
    ('img_*celeba*.7z*', 'the images are not unpacked (the first part unpacks all)'),
  )
  TASKS = ('celeba_attributes', 'gender', 'smile', f'identity:{photos_lib.PEOPLE}')
  FROM_PHOTOGRAPHS = True
  HAS_SUBJECT = True
  HAS_LANDMARKS = True
  CROPS = True
  RESUMABLE = True
  NOTES = (
    *detected.notes_with(
      'the annotated box, or the central part of an aligned image,',
      'the one closest to the annotated box, or in the middle of an aligned image,',
    ),
    ('box_unusable', 'the annotated box has no area in the picture; the largest face is stored'),
  )

  def notes(self) -> tuple[tuple[str, str], ...]:
    """With that of a scheme that aligns."""
    return self.NOTES + detected.scheme_notes(self.scheme)

  def attributes(self) -> dict[str, Any]:
    """The landmarks as annotated, in pixels of the source picture (NaN: not known), and what the
    detector said.
    """
    points = tfds.features.Tensor(shape=(5, 2), dtype=np.float32)
    return {'annotated_landmarks': points} | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the lists and the images, or with Anno/ and Img/: `manual_dir` or a
    folder in it.
    """
    return self.find_in(
      manual_dir,
      f'{tables.ATTRIBUTES}.txt (or .csv) and {" or ".join(photos_lib.IMAGE_FOLDERS[:2])}/',
      lambda folder: (
        tables.path_of(folder, tables.ATTRIBUTES) is not None
        and photos_lib.image_folder(folder) is not None
      ),
    )

  def items(self, source: Any) -> dict[str, Sequence[photos_lib.Photo]]:
    """Returns the photos by the official split; a split that has no image here is left out."""
    images = photos_lib.image_folder(source)
    assert images is not None  # `locate` has seen it
    self._wild = photos_lib.is_in_the_wild(images)
    return dict(photos_lib.list_photos(source))

  def converter(self) -> Callable[[photos_lib.Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one photo."""
    config = self.builder_config
    return functools.partial(
      convert, size=config.size, channels=config.channels, scheme=self.scheme, wild=self._wild
    )


class Place(NamedTuple):
  """Where the face is.

  Attributes:
    choice: which of several faces is meant.
    landmarks: as annotated, float32 [5, 2] in pixels of the picture; None where not known.
    notes: names of NOTES.
  """

  choice: detect.Choice
  landmarks: np.ndarray | None
  notes: tuple[str, ...] = ()


def convert(
  photo: photos_lib.Photo, *, size: int, channels: int, scheme: schemes.Scheme, wild: bool
) -> list[base.Face | base.LeftOut]:
  """Turns one photo into a face."""
  if photo.path is None:
    return [base.LeftOut(photo.image_id, 'not in this copy', damaged=False)]
  try:
    image = crop.read_image(photo.path)
  except errors.UserError as error:
    return [base.LeftOut(photo.image_id, 'damaged image', str(error))]
  if min(image.shape[:2]) < SMALLEST:
    return [base.LeftOut(photo.image_id, 'damaged image', f'smaller than {SMALLEST} pixels')]
  place = (_place_in_the_wild if wild else _place_of_aligned)(photo, image)
  face = detected.cut_out(
    image,
    size=size,
    channels=channels,
    scheme=scheme,
    choice=place.choice,
    landmarks=place.landmarks,
  )
  unknown = np.full((5, 2), np.nan, np.float32)
  points = unknown if place.landmarks is None else place.landmarks
  return [
    base.Face(
      photo.image_id,
      face.image,
      labels=labels(photo),
      subject=str(photo.identity) if photo.identity else None,
      landmarks=face.landmarks,
      attributes={'annotated_landmarks': points, **face.attributes},
      digest=crop.content_digest(image),
      notes=face.notes + place.notes,
    )
  ]


def labels(photo: photos_lib.Photo) -> dict[str, Any]:
  """Returns what is known by task; identities are numbered from 1 in the list, classes from 0."""
  known: dict[str, Any] = {'celeba_attributes': np.array(photo.attributes)}
  known |= {task: photo.attributes[place] for task, place in _OWN_TASKS.items()}
  return known | ({'identity': photo.identity - 1} if photo.identity else {})


def _place_in_the_wild(photo: photos_lib.Photo, image: np.ndarray) -> Place:
  landmarks = _landmarks(photo)
  if photo.box is None:
    return Place(detect.LARGEST, landmarks)
  left, top, width, height = photo.box
  box = detected.box_in((left, top, left + width, top + height), image)
  return Place(detect.closest_to(box), landmarks, ('box_unusable',) if box is None else ())


def _place_of_aligned(photo: photos_lib.Photo, image: np.ndarray) -> Place:
  """Copies of another size are resized ones, so that the landmarks are moved accordingly."""
  height, width = image.shape[:2]
  left, top, right, bottom = _FACE_PLACE
  box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
  landmarks = _landmarks(photo)
  if landmarks is not None:
    scale = np.array([width, height]) / ALIGNED_SIZE
    landmarks = ((landmarks + 0.5) * scale - 0.5).astype(np.float32)
  return Place(detect.inside(box), landmarks)


def _landmarks(photo: photos_lib.Photo) -> np.ndarray | None:
  """As annotated, the left of the picture first; all 0 where the list does not name the image."""
  if photo.landmarks is None or not any(photo.landmarks):
    return None
  return np.array(photo.landmarks, np.float32).reshape(5, 2)
