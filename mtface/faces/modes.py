"""Converts the pixel formats of image files to 8-bit RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

_BEHIND = (255, 255, 255)  # background of transparent pictures: white, as on a page
_WITH_ALPHA = ('RGBA', 'RGBa', 'LA', 'La', 'PA')


def to_rgb(image: Image.Image) -> np.ndarray:
  """Returns a picture as RGB uint8 [H, W, 3]: the same picture, not the same numbers.

  16-bit values are divided by 257, so that white stays white. Floating-point values are taken as 0
  to 1, or 0 to 255 if they exceed 1. Transparent pictures are composited on white, so that hidden
  pixels are not stored.

  Raises:
    ValueError: the white value is ambiguous, or the whole picture is transparent.
  """
  if image.mode.startswith('I') or image.mode == 'F':
    grey = _eight_bits(np.asarray(image), image.mode, image.format)
    return np.repeat(grey[:, :, None], 3, axis=2)
  if image.mode not in _WITH_ALPHA and 'transparency' not in image.info:
    return np.asarray(image.convert('RGB'))
  rgba = image.convert('RGBA')
  if rgba.getchannel('A').getextrema() == (0, 0):
    raise ValueError('the whole picture is transparent')
  return np.asarray(
    Image.alpha_composite(Image.new('RGBA', rgba.size, (*_BEHIND, 255)), rgba).convert('RGB')
  )


def _eight_bits(pixels: np.ndarray, mode: str, form: str | None) -> np.ndarray:
  """Converts 16-bit or floating-point grey values to uint8 [H, W]."""
  low, high = float(pixels.min()), float(pixels.max())
  if mode == 'F':
    scale = 255.0 if high <= 1 else 1.0
    if not (low >= 0 and high * scale <= 255):  # also catches NaN
      raise ValueError(
        f'its floating-point values range from {low:g} to {high:g}; expected 0 to 1, or 0 to 255'
      )
    return np.rint(pixels * scale).astype(np.uint8)
  if mode == 'I' and form not in ('PNG', 'PPM'):  # Pillow reads their 16 bits as 32
    raise ValueError(
      'its values are 32-bit integers, whose white value is unknown; expected 8 or 16 bits'
    )
  if 0 < high < 256:
    raise ValueError(
      f'its 16-bit values end at {high:g} of 65535, as if 8 bits had been copied; expected a '
      'picture'
    )
  return np.rint(pixels / 257).astype(np.uint8)
