"""Video as a stream of frames, and the faces in a frame. Only one frame at a time is in memory,
however long the video is.

for frame in video.frames('clip.mp4', every=5):
  for face in video.faces_of(frame.image):
    ...
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# FFmpeg, inside OpenCV, prints every problem to stderr; `frames` reports it in one line. Read when
# a file is first opened.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

import cv2

from mtface import errors
from mtface.faces import crop, detect

# No warning from this share of the promised frames on: decoders drop frames at either end that
# depend on others.
LEAST_SHARE = 0.8
USUAL_RATE = 25.0  # frames a second

# By the endings of files; OpenCV's wheels write these without any other software. VP9, which
# browsers would show, takes most of a second for each frame.
CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG', '.mkv': 'FFV1'}

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


class Frame(NamedTuple):
  """One frame of a video.

  Attributes:
    index: its position among all frames of the video, from 0.
    seconds: its time after the first frame, by the container's timestamps, so it is right even if
      the frame rate varies.
    image: RGB uint8 [H, W, 3], turned upright if the container says so.
  """

  index: int  # type: ignore[assignment]  # tuples have a method with this name
  seconds: float
  image: np.ndarray


class Form(NamedTuple):
  """What a container says of its video, which need not be so.

  Attributes:
    frames: how many there are; 0 if it does not say.
    rate: frames a second; 25 if it does not say.
  """

  frames: int
  rate: float


def form_of(path: str | os.PathLike[str]) -> Form:
  """Returns what a video's container says.

  Raises:
    UserError: the file does not exist or is not a video.
  """
  with _opened(pathlib.Path(path)) as capture:
    return Form(max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0), _rate(capture))


def _rate(capture: cv2.VideoCapture) -> float:
  rate = capture.get(cv2.CAP_PROP_FPS)
  return float(rate) if 0 < rate < 1000 else USUAL_RATE


def camera(index: int, every: int = 1) -> Iterator[Frame]:
  """Yields every `every`-th frame of a camera, until it ends or the caller stops; their times are
  when they arrive.

  Raises:
    UserError: there is no such camera.
  """
  with _quiet():
    capture = cv2.VideoCapture(index)
  try:
    if not capture.isOpened():
      raise errors.UserError(
        f'camera {index}: cannot be opened; expected the number of a camera of this machine, from '
        '0, that no other program uses'
      )
    start = time.monotonic()
    for number in itertools.count():
      ok, image = capture.read()
      if not ok:
        return
      if number % every == 0:
        seconds = time.monotonic() - start
        yield Frame(number, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
  finally:
    capture.release()


def frames(
  path: str | os.PathLike[str], every: int = 1, on_fewer: Callable[[int, int], None] | None = None
) -> Iterator[Frame]:
  """Yields frames 0, `every`, 2 * `every`, ... of a video. Skipped frames are decoded, but not
  converted.

  All readable frames count. A container may promise more: it was cut without re-encoding, states a
  nominal rate, or is truncated; these cases cannot be told apart.

  Args:
    path: any file that FFmpeg reads: AVI, MP4, MKV, WebM, ...
    every: yield every `every`-th frame.
    on_fewer: called at the end with the number of readable and of promised frames, if their ratio
      is below LEAST_SHARE.

  Raises:
    UserError: the file does not exist, is not a video, or has no readable frame.
  """
  if every < 1:
    raise errors.UserError(f'every={every}: expected 1 (all frames) or more')
  path = pathlib.Path(path)
  with _opened(path) as capture:
    promised = max(
      int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    )  # negative if the length is unknown
    index = read = 0
    for index, seconds in enumerate(_times(capture)):
      if index % every == 0:
        ok, image = capture.retrieve()
        if ok:
          read += 1
          yield Frame(index, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
  if not read:
    raise errors.UserError(
      f'{path}: none of {max(promised, 1)} frames can be read; the file may be damaged'
    )
  if index + 1 < LEAST_SHARE * promised and on_fewer:
    on_fewer(index + 1, promised)


def _times(capture: cv2.VideoCapture) -> Iterator[float]:
  """Grabs the frames in order and yields their times in seconds."""
  fps = capture.get(cv2.CAP_PROP_FPS)
  index, seconds = 0, 0.0
  while capture.grab():
    seconds = _seconds(capture, index, fps, seconds)
    yield seconds
    index += 1


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[cv2.VideoCapture]:
  if not path.is_file():
    raise errors.UserError(f'{path}: no such file; expected a video')
  with _quiet():
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
  try:
    if not capture.isOpened():
      raise errors.UserError(f'{path}: cannot be read as a video; the file may be damaged')
    yield capture
  finally:
    capture.release()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """OpenCV warns about each of its readers that cannot read a file or camera."""
  level = cv2.utils.logging.getLogLevel()
  cv2.utils.logging.setLogLevel(0)
  try:
    yield
  finally:
    cv2.utils.logging.setLogLevel(level)


def _seconds(capture: cv2.VideoCapture, index: int, fps: float, before: float) -> float:
  """The timestamp of the frame just grabbed; computed from the frame rate if timestamps are missing
  (constant).
  """
  seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
  if index == 0 or seconds > before:
    return max(seconds, 0.0)
  return before + (1 / fps if 0 < fps < np.inf else 0.0)


def faces_of(image: np.ndarray, min_face: int = 20) -> list[detect.Detection]:
  """Returns the faces of at least `min_face` pixels in a frame, RGB uint8 [H, W, 3], largest first.

  Unlike for photographs, there is no second look with lower thresholds: a frame need not contain a
  face, and the next frame follows soon. A box may extend beyond the frame's right and lower edges
  (`crop.clip_box`).
  """
  inside = (image.shape[1], image.shape[0])
  found = detect.cached_detector(min_face)(image)
  return [face for face in found if face.box[0] < inside[0] and face.box[1] < inside[1]]


def follow(faces: Sequence[detect.Detection], before: Box | None) -> detect.Detection | None:
  """Returns the main face of a frame: the largest, but preferring the previous frame's face while
  it is nearly as large.

  Savchenko 2021 takes the largest face of each frame. With two faces of similar size, that would
  switch from frame to frame; so among faces with at least half the largest one's area, the one that
  overlaps most with `before` is chosen.

  Args:
    faces: the faces of this frame, largest first.
    before: the box in the previous frame; None if there is none.

  Returns:
    None if there are no faces.
  """
  if not faces or before is None:
    return faces[0] if faces else None
  near = [face for face in faces if 2 * face.area >= faces[0].area]
  return max(
    near, key=lambda face: crop.overlap(face.box, before)
  )  # ties go to the first, which is the largest


class Writer:
  """Writes a video frame by frame. The file has its name when it is whole, after `close`."""

  def __init__(self, path: pathlib.Path, rate: float):
    """`path` ends in one of `CODECS`; `rate` is frames a second."""
    self._path, self._rate = path, rate
    self._partial = path.with_name(f'.{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}')
    self._writer: cv2.VideoWriter | None = None

  def add(self, image: np.ndarray) -> None:
    """Adds a frame, RGB uint8 [H, W, 3]; all have the size of the first.

    Raises:
      UserError: the file cannot be written.
    """
    if self._writer is None:
      self._writer = self._open(image.shape[1], image.shape[0])
    self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

  def _open(self, width: int, height: int) -> cv2.VideoWriter:
    codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
    with _quiet():
      writer = cv2.VideoWriter(str(self._partial), codec, self._rate, (width, height))
    if not writer.isOpened():
      raise errors.UserError(
        f'{self._path}: cannot be written as a video of {width}x{height} pixels; make its folder '
        f'writable, or write another format ({", ".join(CODECS)})'
      )
    return writer

  def close(self, whole: bool = True) -> None:
    """Ends the file; if it is not `whole`, nothing is left of it."""
    if self._writer is None:
      return
    self._writer.release()
    if whole:
      self._partial.replace(self._path)
    else:
      self._partial.unlink(missing_ok=True)
