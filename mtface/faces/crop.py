"""From a picture to the face as it is stored: read, cut out, made grey, resized, with the landmarks
moved along.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

from mtface import errors
from mtface.faces import modes


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
  """Returns an image file as RGB uint8 [H, W, 3], turned upright if its EXIF data says so.

  Pillow and not OpenCV reads it: OpenCV returns a truncated JPEG with its lower part grey, and says
  nothing.

  16 bits, floating point, palettes and transparency are understood as `modes.to_rgb` says.

  Raises:
    UserError: the file is missing, empty, truncated, of more pixels than Pillow takes for sound, or
      no image.
  """
  path = pathlib.Path(path)
  try:
    if path.stat().st_size == 0:
      raise errors.UserError(f'{path}: the file is empty (0 bytes); expected an image')
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      warnings.simplefilter('error', Image.DecompressionBombWarning)
      with Image.open(path) as image:
        return modes.to_rgb(_upright(image))
  except FileNotFoundError:
    raise errors.UserError(f'{path}: there is no such file; expected an image') from None
  except (errors.UserError, MemoryError):
    raise
  except Exception as error:  # whatever a damaged file makes one of Pillow's readers stumble over
    raise errors.UserError(
      f'{path}: cannot be read as an image ({errors.first_line(error)}); the file may be damaged'
    ) from None


def _upright(image: Image.Image) -> Image.Image:
  turned = ImageOps.exif_transpose(image)
  turned.format = image.format  # a turned copy has forgotten it
  return turned


def content_digest(image: np.ndarray) -> bytes:
  """Returns 16 bytes that are equal for images of equal shape and pixels."""
  digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
  digest.update(np.ascontiguousarray(image).data)
  return digest.digest()


def clip_box(box: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
  """Returns the part of a box (left, top, right, bottom; right and bottom exclusive) that lies in
  the picture.

  Raises:
    ValueError: nothing of it does.
  """
  left, top, right, bottom = box
  clipped = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
  if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
    raise ValueError(f'box {box} lies outside the picture, which is {width} wide and {height} high')
  return clipped


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
  """Returns the area that two boxes share over the area that they cover together: 0 to 1."""
  width = min(one[2], other[2]) - max(one[0], other[0])
  height = min(one[3], other[3]) - max(one[1], other[1])
  if width <= 0 or height <= 0:
    return 0.0
  area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
  return width * height / (area - width * height)


def central_square(height: int, width: int, share: float = 1.0) -> tuple[int, int, int, int]:
  """Returns the square in the middle of a picture as a box; its side is `share` of the picture's
  shorter one.
  """
  side = max(round(min(height, width) * share), 1)
  left, top = (width - side) // 2, (height - side) // 2
  return (left, top, left + side, top + side)


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """Returns [H, W] or [H, W, C] stretched to [size, size(, C)]: averages areas to shrink, is
  bilinear to enlarge.
  """
  shrinks = min(image.shape[:2]) >= size
  return cv2.resize(
    image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  )


def crop_face(
  image: np.ndarray, box: tuple[int, int, int, int], size: int, channels: int
) -> np.ndarray:
  """Cuts a box out of a picture and returns it as it is stored.

  No margin is added (Savchenko 2021: the detector's box, without any margins), and what is higher
  than wide is stretched, as in Sang 2017.

  Args:
    image: RGB uint8 [H, W, 3].
    box: left, top, right, bottom in pixels; what lies outside the picture is cut off.
    size: height and width of the result.
    channels: 3 for RGB, 1 for grey.

  Returns:
    uint8 [size, size, channels].
  """
  left, top, right, bottom = clip_box(box, *image.shape[:2])
  face = np.ascontiguousarray(image[top:bottom, left:right])
  if channels == 1:
    face = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
  return resize(face, size).reshape(size, size, channels)


def move_landmarks(landmarks: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
  """Returns float32 [5, 2] landmarks of the picture as pixels of the crop that `crop_face` makes of
  a clipped box.

  A pixel's centre has whole coordinates, as in `cv2.resize`: x becomes (x - left + 1/2) * size /
  width - 1/2.
  """
  left, top, right, bottom = box
  scale = np.array([size / (right - left), size / (bottom - top)])
  return ((np.asarray(landmarks) - (left, top) + 0.5) * scale - 0.5).astype(np.float32)
