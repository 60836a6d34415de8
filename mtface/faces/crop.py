"""From a picture to a stored face: read, crop, convert to grey and resize, transforming landmarks
accordingly.
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

JPEG_QUALITY = 95  # of stored images


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
  """Returns an image file as RGB uint8 [H, W, 3], turned upright if its EXIF data says so.

  Reads with Pillow rather than OpenCV, which silently returns a truncated JPEG with its lower part
  grey.

  16 bits, floating point, palettes and transparency are handled by `modes.to_rgb`.

  Raises:
    UserError: the file is missing, empty, truncated, larger than Pillow's safety limit, or not an
      image.
  """
  path = pathlib.Path(path)
  try:
    if path.stat().st_size == 0:
      raise errors.UserError(f'{path}: the file is empty (0 bytes); expected an image')
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      warnings.simplefilter('error', Image.DecompressionBombWarning)
      with Image.open(path) as image:
        return modes.to_rgb(upright(image))
  except FileNotFoundError:
    raise errors.UserError(f'{path}: no such file; expected an image') from None
  except (errors.UserError, MemoryError):
    raise
  except Exception as error:  # Pillow's readers raise many types for damaged files
    raise errors.UserError(
      f'{path}: cannot be read as an image ({errors.first_line(error)}); the file may be damaged'
    ) from None


def upright(image: Image.Image) -> Image.Image:
  """Returns a picture turned as its EXIF data says."""
  turned = ImageOps.exif_transpose(image)
  turned.format = image.format  # rotated copies lose it
  return turned


def content_digest(image: np.ndarray) -> bytes:
  """Returns a 16-byte digest of an image's shape and pixels."""
  digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
  digest.update(np.ascontiguousarray(image).data)
  return digest.digest()


def clip_box(box: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
  """Returns the part of a box (left, top, right, bottom; right and bottom exclusive) that is inside
  the picture.

  Raises:
    ValueError: no part of it is.
  """
  left, top, right, bottom = box
  clipped = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
  if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
    raise ValueError(f'box {box} is outside the picture, which is {width} wide and {height} high')
  return clipped


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
  """Returns the intersection over union of two boxes: 0 to 1."""
  width = min(one[2], other[2]) - max(one[0], other[0])
  height = min(one[3], other[3]) - max(one[1], other[1])
  if width <= 0 or height <= 0:
    return 0.0
  area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
  return width * height / (area - width * height)


def central_square(height: int, width: int, share: float = 1.0) -> tuple[int, int, int, int]:
  """Returns the central square of a picture as a box; its side is `share` times the picture's
  shorter side.
  """
  side = max(round(min(height, width) * share), 1)
  left, top = (width - side) // 2, (height - side) // 2
  return (left, top, left + side, top + side)


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """Resizes [H, W] or [H, W, C] to [size, size(, C)], ignoring the aspect ratio: area averaging to
  shrink, bilinear to enlarge.
  """
  shrinks = min(image.shape[:2]) >= size
  return cv2.resize(
    image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  )


def crop_face(
  image: np.ndarray, box: tuple[int, int, int, int], size: int, channels: int
) -> np.ndarray:
  """Crops a box from a picture and returns it as stored.

  No margin is added (Savchenko 2021: the detector's box, without any margins), and boxes that are
  not square are stretched, as in Sang 2017.

  Args:
    image: RGB uint8 [H, W, 3].
    box: left, top, right, bottom in pixels; parts outside the picture are cut off.
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
  """Converts float32 [5, 2] landmarks from picture to crop coordinates, for the crop that
  `crop_face` makes of a clipped box.

  Pixel centres have integer coordinates, as in `cv2.resize`: x becomes (x - left + 1/2) * size /
  width - 1/2.
  """
  left, top, right, bottom = box
  scale = np.array([size / (right - left), size / (bottom - top)])
  return ((np.asarray(landmarks) - (left, top) + 0.5) * scale - 0.5).astype(np.float32)


def encode_jpeg(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
  """Returns a uint8 image, RGB [H, W, 3] or grey [H, W, 1], as JPEG bytes."""
  pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[-1] == 3 else image
  ok, encoded = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
  if not ok:
    raise ValueError(f'OpenCV could not encode an image of shape {image.shape}')
  return encoded.tobytes()


def decode_jpeg(stored: bytes, channels: int) -> np.ndarray:
  """Returns JPEG bytes as uint8 [H, W, channels], as they are stored: EXIF data turns nothing.

  Raises:
    ValueError: they are no JPEG.
  """
  how = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
  decoded = cv2.imdecode(np.frombuffer(stored, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
  if decoded is None:
    raise ValueError('a stored image is not a JPEG')
  return decoded.reshape(*decoded.shape[:2], channels)
