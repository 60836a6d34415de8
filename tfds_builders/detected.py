"""Finds the face in a picture of one person and crops it, for sets whose images are not yet cropped
faces.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface.faces import crop, detect, schemes

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


def scheme_notes(scheme: schemes.Scheme) -> tuple[tuple[str, str], ...]:
  """Returns the notes that a scheme adds to those of `notes_with`."""
  what = 'the landmarks allow no alignment; about the same part of the face is stored as it is'
  return (('not_aligned', what),) if scheme.aligns else ()


def box_in(box: Box | None, image: np.ndarray) -> Box | None:
  """Returns the part of an annotated box that lies in a picture; None if no part of it does."""
  try:
    return None if box is None else crop.clip_box(box, *image.shape[:2])
  except ValueError:
    return None


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
  scheme: schemes.Scheme = schemes.CLIPPED,
  choice: detect.Choice = detect.LARGEST,
  fallback: Box | None = None,
  landmarks: np.ndarray | None = None,
) -> CutOut:
  """Returns the main face of an RGB uint8 [H, W, 3] picture.

  Args:
    image: the picture.
    size: height and width of the result.
    channels: 3 for RGB, 1 for grey.
    scheme: what is cut out around the face; without one the detector's box without margin.
    choice: which of several faces is the main one.
    fallback: what is stored, without margin, where no face is found; without it the place of
      `choice`, without which it is the central square.
    landmarks: [5, 2] as annotated, which are stored where no face is found.
  """
  found = detect.find_main_face(image, choice)
  face = found.face
  instead = fallback or choice.place or crop.central_square(*image.shape[:2])
  box = face.box if face else instead
  points = face.landmarks if face else landmarks
  cut = (scheme if face else schemes.CLIPPED).cut(image, box, points, size, channels)
  return CutOut(
    cut.image,
    cut.landmarks,
    {
      'box': np.array(crop.clip_box(box, *image.shape[:2]), np.int32),
      'confidence': face.confidence if face else 0.0,
    },
    _notes(found) + (() if cut.aligned else ('not_aligned',)),
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
