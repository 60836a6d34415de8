"""Finds the face in a picture of one person and crops it, for sets whose images are not yet cropped
faces.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface.faces import crop, detect

Box = tuple[int, int, int, int]


def notes_with(fallback: str, taken: str = 'the largest one') -> tuple[tuple[str, str], ...]:
  """Returns the notes about a detection: `fallback` is stored where no face is found, `taken` where
  there are several.
  """
  return (
    ('face_not_found', f'no face was found; {fallback} is stored'),
    ('face_found_at_second_look', 'found with lower thresholds only'),
    ('several_faces_found', f'{taken} is stored'),
  )


NOTES = notes_with('the central square of the photograph')


class CutOut(NamedTuple):
  """The face of a picture.

  Attributes:
    image: uint8 [size, size, channels].
    landmarks: float32 [5, 2] in pixels of `image`; None if no face was found.
    attributes: `box` and `confidence`, as `features` declares them.
    notes: names of NOTES.
  """

  image: np.ndarray
  landmarks: np.ndarray | None
  attributes: dict[str, Any]
  notes: tuple[str, ...]


def features() -> dict[str, Any]:
  """What the detector said: box (left, top, right, bottom in pixels of the picture) and confidence
  (0: none found).
  """
  box = tfds.features.Tensor(shape=(4,), dtype=np.int32)
  return {'box': box, 'confidence': tfds.features.Scalar(np.float32)}


def cut_out(
  image: np.ndarray,
  *,
  size: int,
  channels: int,
  place: Box | None = None,
  fallback: Box | None = None,
) -> CutOut:
  """Returns the main face of an RGB uint8 [H, W, 3] picture without margin.

  With `place`, the face that is there (`detect.find_main_face`). Where none is found: `fallback`,
  without which it is `place`, without which it is the central square.
  """
  found = detect.find_main_face(image, place)
  face = found.face
  instead = fallback or place or crop.central_square(*image.shape[:2])
  box = crop.clip_box(face.box if face else instead, *image.shape[:2])
  return CutOut(
    crop.crop_face(image, box, size, channels),
    crop.move_landmarks(face.landmarks, box, size) if face else None,
    {'box': np.array(box, np.int32), 'confidence': face.confidence if face else 0.0},
    _notes(found),
  )


def cut_at(image: np.ndarray, box: Box, *, size: int, channels: int) -> CutOut:
  """Returns a box of a picture as if it were a face that was found there: without landmarks, of
  confidence 0.
  """
  box = crop.clip_box(box, *image.shape[:2])
  about = {'box': np.array(box, np.int32), 'confidence': 0.0}
  return CutOut(crop.crop_face(image, box, size, channels), None, about, ())


def _notes(found: detect.MainFace) -> tuple[str, ...]:
  notes = {
    'face_not_found': found.face is None,
    'face_found_at_second_look': found.second_look,
    'several_faces_found': found.others > 0,
  }
  return tuple(name for name, holds in notes.items() if holds)
