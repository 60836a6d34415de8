"""Video as a stream of frames, and the faces of a frame. One frame at a time is in memory, however
long the video.

for frame in video.frames('clip.mp4', every=5):
  for face in video.faces_of(frame.image):
    ...
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# FFmpeg, inside OpenCV, writes to stderr whatever it stumbles over; `frames` says it in one line.
# Read when a file is first opened.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

import cv2

from mtface import errors
from mtface.faces import crop, detect

# From this share of the frames that the container promises on, nothing is said: decoders drop
# frames at either end that lean on others.
LEAST_SHARE = 0.8

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


class Frame(NamedTuple):
  """One frame of a video.

  Attributes:
    index: its place among all frames of the video, from 0.
    seconds: when it is shown, after the first frame, by the container's time stamp: also right
      where the rate varies.
    image: RGB uint8 [H, W, 3], turned upright if the container says so.
  """

  index: int  # type: ignore[assignment]  # tuples have a method of this name
  seconds: float
  image: np.ndarray


def frames(
  path: str | os.PathLike[str], every: int = 1, on_fewer: Callable[[int, int], None] | None = None
) -> Iterator[Frame]:
  """Yields frames 0, `every`, 2 * `every`, ... of a video. What is skipped is decoded, but not
  converted.

  All frames that can be read count. A container may promise more: it was cut without being encoded
  again, states a nominal rate, or is truncated; which of these it is cannot be told.

  Args:
    path: any file that FFmpeg reads: AVI, MP4, MKV, WebM, ...
    every: take each `every`-th frame.
    on_fewer: called at the end with how many frames can be read and how many are promised, if that
      is less than LEAST_SHARE.

  Raises:
    UserError: there is no such file, it is no video, or not one of its frames can be read.
  """
  if every < 1:
    raise errors.UserError(f'every is {every}; expected 1 (all frames) or more')
  path = pathlib.Path(path)
  with _opened(path) as capture:
    promised = max(
      int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    )  # negative where the length is not known
    index = read = 0
    for index, seconds in enumerate(_times(capture)):
      if index % every == 0:
        ok, image = capture.retrieve()
        if ok:
          read += 1
          yield Frame(index, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
  if not read:
    raise errors.UserError(
      f'{path}: 0 of {max(promised, 1)} frames can be read; the file may be damaged'
    )
  if index + 1 < LEAST_SHARE * promised and on_fewer:
    on_fewer(index + 1, promised)


def _times(capture: cv2.VideoCapture) -> Iterator[float]:
  """Grabs one frame after the other and yields when it is shown, in seconds."""
  fps = capture.get(cv2.CAP_PROP_FPS)
  index, seconds = 0, 0.0
  while capture.grab():
    seconds = _seconds(capture, index, fps, seconds)
    yield seconds
    index += 1


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[cv2.VideoCapture]:
  if not path.is_file():
    raise errors.UserError(f'{path}: there is no such file; expected a video')
  level = cv2.utils.logging.getLogLevel()
  cv2.utils.logging.setLogLevel(
    0
  )  # it warns of every reader that it has and that cannot read the file
  try:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
  finally:
    cv2.utils.logging.setLogLevel(level)
  try:
    if not capture.isOpened():
      raise errors.UserError(f'{path}: cannot be read as a video; the file may be damaged')
    yield capture
  finally:
    capture.release()


def _seconds(capture: cv2.VideoCapture, index: int, fps: float, before: float) -> float:
  """The time stamp of the frame that was just grabbed; where there is none (they stand still), what
  the rate makes of it.
  """
  seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
  if index == 0 or seconds > before:
    return max(seconds, 0.0)
  return before + (1 / fps if 0 < fps < np.inf else 0.0)


def faces_of(image: np.ndarray, min_face: int = 20) -> list[detect.Detection]:
  """Returns the faces in a frame, RGB uint8 [H, W, 3], of at least `min_face` pixels, the largest
  first.

  There is no second look with lower thresholds, as there is for a photograph: a frame need not hold
  a face, and the next frame is soon there. A box may reach over the frame's right and lower edge
  (`crop.clip_box`).
  """
  inside = (image.shape[1], image.shape[0])
  found = detect.cached_detector(min_face)(image)
  return [face for face in found if face.box[0] < inside[0] and face.box[1] < inside[1]]


def follow(faces: Sequence[detect.Detection], before: Box | None) -> detect.Detection | None:
  """Returns the main face of a frame: the largest, but the one of the frame before as long as it is
  nearly as large.

  Savchenko 2021 takes the largest face of each frame. Of two faces of about one size that would
  change from frame to frame; so of those with at least half the largest one's area, the one that
  overlaps most with `before` is taken.

  Args:
    faces: of this frame, the largest first.
    before: the box of the frame before; None: there is none.

  Returns:
    None if there are no faces.
  """
  if not faces or before is None:
    return faces[0] if faces else None
  near = [face for face in faces if 2 * face.area >= faces[0].area]
  return max(
    near, key=lambda face: crop.overlap(face.box, before)
  )  # of equals the first one, which is the largest
