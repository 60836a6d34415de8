"""Crop schemes: which part of a picture around a face is stored, and how it is turned.

`CLIPPED` is the detector's box as most sets store it; `SCHEMES` are the five crops of Zhang 2016
(section 3.3, figure 3 (b) to (f), tables 3 (gender) and (smile)). The paper gives no numbers, so
the geometry below is ours. Its unit is the distance of the eyes, d; in pictures of GENKI-4K and
CelebA, medians of MTCNN's landmarks and boxes, of people looking at the camera, are:

    eyes at (-0.5, 0) and (0.5, 0), nose at (0, 0.6), mouth corners at (-0.45, 1.04), (0.45, 1.04)
    the box is 3/4 as wide as high; made a square about its centre, its side is 2.85 d, and it
    reaches from 1.10 d above the eyes (the hairline) to 1.75 d below them (the chin).

A face is not stretched by the five: the box is first made a square about its centre. What lies
outside the picture is filled by repeating its edge, so that the geometry is the same everywhere.
"""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from mtface.faces import align, crop

Box = tuple[int, int, int, int]

# Landmarks of a frontal face in units of d, the middle of the eyes being (0, 0): see above.
FRONTAL = np.array([(-0.5, 0), (0.5, 0), (0, 0.6), (-0.45, 1.04), (0.45, 1.04)])


class Cut(NamedTuple):
  """A face as it is stored.

  Attributes:
    image: uint8 [size, size, channels].
    landmarks: float32 [5, 2] in pixels of `image`; None if they were not given.
    aligned: False where the scheme aligns and the landmarks did not allow it.
  """

  image: np.ndarray
  landmarks: np.ndarray | None
  aligned: bool = True


class Scheme(Protocol):
  """A way of cutting out a face."""

  @property
  def description(self) -> str:
    """What is stored, in words."""

  @property
  def aligns(self) -> bool:
    """Whether the face is turned upright by its landmarks."""

  def cut(
    self, image: np.ndarray, box: Box, landmarks: np.ndarray | None, size: int, channels: int
  ) -> Cut:
    """Cuts a face out of an RGB uint8 [H, W, 3] picture.

    Args:
      image: the picture.
      box: left, top, right, bottom of the face; some of it is in the picture.
      landmarks: [5, 2] in pixels of the picture, which move along; None where not known.
      size: height and width of the result.
      channels: 3 for RGB, 1 for grey.
    """


@dataclasses.dataclass(frozen=True)
class Clipped:
  """The part of the box that is inside the picture, stretched to a square."""

  description: str = "the detector's box, without margin"
  aligns: bool = False

  def cut(
    self, image: np.ndarray, box: Box, landmarks: np.ndarray | None, size: int, channels: int
  ) -> Cut:
    """As of `Scheme`."""
    box = crop.clip_box(box, *image.shape[:2])
    moved = None if landmarks is None else crop.move_landmarks(landmarks, box, size)
    return Cut(crop.crop_face(image, box, size, channels), moved)


@dataclasses.dataclass(frozen=True)
class Margins:
  """The box and a margin around it, upright.

  Attributes:
    description: what is stored, in words.
    margins: left, top, right, bottom, as shares of the box's width and height; negative ones cut
      off a part of the box.
    square: whether the box is first extended to a square about its centre. If not, what is cut out
      is stretched to one.
  """

  description: str
  margins: tuple[float, float, float, float]
  square: bool = True
  aligns: bool = False

  def region(self, box: Box) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of what is stored, as of boxes in the picture."""
    corners = np.array(box, np.float64).reshape(2, 2)
    middle, sides = corners.mean(axis=0), corners[1] - corners[0]
    if self.square:
      sides[:] = sides.max()
    start, end = np.array(self.margins).reshape(2, 2) + 0.5  # from the middle
    left, top = middle - start * sides
    right, bottom = middle + end * sides
    return left, top, right, bottom

  def cut(
    self, image: np.ndarray, box: Box, landmarks: np.ndarray | None, size: int, channels: int
  ) -> Cut:
    """As of `Scheme`."""
    left, top, right, bottom = self.region(box)
    scale = np.array([size / (right - left), size / (bottom - top)])
    # The corner of the region, (left, top), goes to the corner of the result; pixel centres are
    # half a pixel from the corners.
    offset = (0.5 - np.array([left, top])) * scale - 0.5
    return _warped(image, np.column_stack([np.diag(scale), offset]), landmarks, size, channels)


@dataclasses.dataclass(frozen=True)
class Aligned:
  """The face turned, scaled and moved so that its landmarks come closest to a template.

  Attributes:
    description: what is stored, in words.
    eyes: distance of the eyes, as a share of the side.
    eye_line: how far below the top the eyes are, as a share of the side; they are in the middle
      between left and right.
    instead: what is stored where the landmarks allow no alignment: about the same part of an
      upright face.
  """

  description: str
  eyes: float
  eye_line: float
  instead: Margins
  aligns: bool = True

  @property
  def template(self) -> np.ndarray:
    """Where the landmarks are to be, float64 [5, 2] in the unit square."""
    return FRONTAL * self.eyes + (0.5, self.eye_line)

  def cut(
    self, image: np.ndarray, box: Box, landmarks: np.ndarray | None, size: int, channels: int
  ) -> Cut:
    """As of `Scheme`."""
    matrix = None
    if landmarks is not None:
      matrix = align.similarity(landmarks, self.template * size - 0.5)
    if matrix is None:
      return self.instead.cut(image, box, landmarks, size, channels)._replace(aligned=False)
    return _warped(image, matrix, landmarks, size, channels)


def _warped(
  image: np.ndarray, matrix: np.ndarray, landmarks: np.ndarray | None, size: int, channels: int
) -> Cut:
  grey = image if channels == 3 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  face = align.warp(grey, matrix, size).reshape(size, size, channels)
  return Cut(face, None if landmarks is None else align.move_points(landmarks, matrix))


CLIPPED = Clipped()

SCHEMES: dict[str, Scheme] = {
  # (b), "overall face ... with alignment": from the hairline to the chin, and the cheeks up to the
  # ears, which are 1.1 to 1.2 d from the middle: 3 d wide, 1.14 d above the eyes, 1.86 d below.
  'crop1': Aligned(
    'aligned, the whole face with the cheeks',
    eyes=1 / 3,
    eye_line=0.38,
    instead=Margins('', (0.025, 0.01, 0.025, 0.04)),
  ),
  # (c), not aligned and otherwise only a picture: the widest here, with hair, ears and neck, since
  # "without neck" is what sets (d) apart.
  'crop2': Margins('not aligned, with hair, ears and neck', (0.3, 0.25, 0.3, 0.35)),
  # (d), "overall face without neck": ends at the chin, where the box ends, and has room for some
  # hair.
  'crop3': Margins('not aligned, the whole face without the neck', (0.075, 0.15, 0.075, 0)),
  # (e), not aligned and otherwise only a picture: the detector's box itself, which the other three
  # leave room for.
  'crop4': Margins("not aligned, the detector's box made a square", (0, 0, 0, 0)),
  # (f), "around cheek with alignment": 2 d wide, from just above the eyes, whose corners narrow
  # when one smiles, to the chin.
  'crop5': Aligned(
    'aligned, around cheeks and mouth',
    eyes=1 / 2,
    eye_line=0.06,
    instead=Margins('', (-0.15, -0.345, -0.15, 0.045)),
  ),
}

_MARGIN = re.compile(r'margin([1-9]\d?|100)')


def get_scheme(name: str) -> Scheme | None:
  """Returns the scheme of a name: '' is `CLIPPED`, crop1 ... crop5 are `SCHEMES`, and marginN is
  the box with N percent of its width and height (1 to 100) on each side; None if it is no such
  name.
  """
  if found := _MARGIN.fullmatch(name):
    share = int(found[1]) / 100
    what = f"the detector's box with {found[1]}% of it on each side"
    return Margins(what, (share, share, share, share), square=False)
  return SCHEMES.get(name) if name else CLIPPED
