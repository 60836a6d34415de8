"""Small real videos, encoded by OpenCV, MP4 files of which frames last unequally long, and
descriptors of whole clips at once.
"""

from __future__ import annotations

import pathlib
import struct
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from mtface.features.descriptors import STATISTICS, ClipMoments, GroupMoments

CODECS = {'.avi': 'MJPG', '.mp4': 'mp4v', '.mkv': 'FFV1'}


def write_video(
  path: pathlib.Path, images: Iterable[np.ndarray], fps: float = 25.0
) -> pathlib.Path:
  """Encodes RGB uint8 [H, W, 3] images, with the codec that goes with the ending."""
  images = list(images)
  path.parent.mkdir(parents=True, exist_ok=True)
  height, width = images[0].shape[:2]
  writer = cv2.VideoWriter(
    str(path), cv2.VideoWriter.fourcc(*CODECS[path.suffix]), fps, (width, height)
  )
  assert writer.isOpened()
  for image in images:
    writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
  writer.release()
  return path


def set_durations(path: pathlib.Path, seconds: Sequence[float]) -> None:
  """Says in an MP4 file how long each frame lasts: writes its table of durations (the box `stts`)
  anew.

  What OpenCV writes has this table behind the frames (moov after mdat), so nothing that points to
  them moves.
  """
  data = bytearray(path.read_bytes())
  assert data.find(b'mdat') < data.find(b'moov')
  scale = struct.unpack('>I', data[data.find(b'mdhd') + 16 :][:4])[
    0
  ]  # ticks a second; after version and two dates
  ticks = [round(s * scale) for s in seconds]
  at = data.find(b'stts') - 4
  old_size = struct.unpack('>I', data[at : at + 4])[0]
  table = struct.pack('>I', len(ticks)) + b''.join(
    struct.pack('>II', 1, of_frame) for of_frame in ticks
  )
  new = struct.pack('>I4sI', 12 + len(table), b'stts', 0) + table
  data[at : at + old_size] = new
  for name in (b'moov', b'trak', b'mdia', b'minf', b'stbl'):  # the boxes around it have grown
    start = data.find(name) - 4
    size = struct.unpack('>I', data[start : start + 4])[0] + len(new) - old_size
    data[start : start + 4] = struct.pack('>I', size)
  path.write_bytes(data.replace(b'edts', b'free'))  # the list of edits still has the old length


def clip_descriptor(features: np.ndarray, statistics: Sequence[str] = STATISTICS) -> np.ndarray:
  """float64 [len(statistics) * D]: the descriptor of a clip with the features [F, D] of its frames'
  faces; zeros if F is 0.
  """
  moments = ClipMoments(statistics)
  if not len(features):
    return np.zeros(len(statistics) * features.shape[1])
  moments.add(features, np.arange(len(features)))
  return moments.descriptor()


def group_descriptor(frames: Iterable[np.ndarray]) -> np.ndarray:
  """float64 [4D]: the descriptor of a clip of a group; each frame has the features [faces, D].
  Frames without a face say nothing.

  Raises:
    ValueError: no frame has a face.
  """
  moments = GroupMoments()
  for index, features in enumerate(frames):
    moments.add(features, np.full(len(features), index))
  return moments.descriptor()
