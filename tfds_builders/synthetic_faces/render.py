"""Draws faces from parameters: `render(parameters, size)` returns pictures and where the landmarks
are in them.

The way of a picture: `geometry.arrange` (where action units put things) -> `surface.paint_face`
(the face from the front) -> `scene.assemble` (wrapped around the turned head, lit, with hair and
what is in front) -> the camera here (roll, framing, background, blur, tone, noise, compression). No
file is read; nothing depends on the batch.
"""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np

from tfds_builders.synthetic_faces import draws, geometry, population, scene, surface
from tfds_builders.synthetic_faces.canvas import Canvas

# painted together: enough to hide the overhead of NumPy's calls, few enough for the cache
CHUNK_PIXELS = 101_000
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what OpenCV and Pillow call grey
_FACE_UNIT = 0.425  # of the picture's side, for an average face


def render(
  parameters: population.Parameters, size: int = 48, channels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
  """Draws faces.

  Args:
    parameters: what `population.sample` returns: one value a face.
    size: side of the pictures in pixels.
    channels: 3 for colour (RGB), 1 for grey, which is the luma of the colour picture.

  Returns: Pictures, uint8 [N, size, size, channels], and landmarks, float32 [N, 5, 2]: x and y in
    pixels (the middle of the first pixel is 0, 0) of the eye at the left, the eye at the right, the
    tip of the nose, the mouth's left and right corner. Hidden landmarks are given where they would
    be.
  """
  if channels not in (1, 3):
    raise ValueError(f'channels is {channels}; expected 1 or 3')
  n = len(parameters['noise_key'])
  images = np.empty((n, size, size, channels), np.uint8)
  landmarks = np.empty((n, 5, 2), np.float32)
  chunk = max(1, int(CHUNK_PIXELS / (size * _oversampling(size)) ** 2))
  for start in range(0, n, chunk):
    part = slice(start, start + chunk)
    images[part], landmarks[part] = _render(
      {k: v[part] for k, v in parameters.items()}, size, channels
    )
  return images, landmarks


def _render(
  parameters: population.Parameters, size: int, channels: int
) -> tuple[np.ndarray, np.ndarray]:
  g = geometry.arrange(parameters)
  canvas = Canvas(len(g.yaw), size * _FACE_UNIT * _oversampling(size))
  surface.paint_face(canvas, g)
  head = scene.assemble(canvas, g)
  matrices = _framing(g, size)
  pictures = _compose(head, matrices, scene.background(g, size), size)
  pictures = _expose(pictures, g, size)
  images = _develop(pictures, g, channels)
  return images, _project(geometry.turn(geometry.landmarks(g), g), matrices)


def _oversampling(size: int) -> float:
  """Small pictures are painted too fine and averaged by the framing; large ones are fine enough as
  they are.
  """
  return 1.6 if size <= 96 else 1.0


def _framing(g: SimpleNamespace, size: int) -> np.ndarray:
  """Face units to pixels, [N, 2, 3]: size, roll, shift. Detectors frame a face about like that: the
  middle is at y=0.1.
  """
  angle = g.roll[:, 0, 0] * np.float32(np.pi / 180)
  scale = g.face_size[:, 0, 0] * size
  cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
  x0 = size * (0.5 + g.shift_x[:, 0, 0]) + sin * 0.1 - 0.5
  y0 = size * (0.5 + g.shift_y[:, 0, 0]) - cos * 0.1 - 0.5
  return np.stack([np.stack([cos, -sin, x0], -1), np.stack([sin, cos, y0], -1)], axis=1)


def _project(points: np.ndarray, matrices: np.ndarray) -> np.ndarray:
  return (np.einsum('nij,nkj->nki', matrices[:, :, :2], points) + matrices[:, None, :, 2]).astype(
    np.float32
  )


def _compose(head: scene.Head, matrices: np.ndarray, behind: np.ndarray, size: int) -> np.ndarray:
  """The head in the picture over what is behind it, [N, size, size, 3]."""
  layers = np.concatenate([head.colour, head.alpha[:, None]], axis=1)
  layers = np.ascontiguousarray(np.moveaxis(layers, 1, -1))
  framed = np.empty((len(layers), size, size, 4), np.float32)
  step = head.soft
  grid = np.array(
    [[step, 0, head.x[0, 0, 0]], [0, step, head.y[0, 0, 0]], [0, 0, 1]]
  )  # canvas pixels to face units
  for n in range(len(layers)):
    matrix = matrices[n].astype(np.float64) @ grid
    cv2.warpAffine(
      layers[n], matrix, (size, size), framed[n], cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
    )
  return framed[..., :3] + (1.0 - framed[..., 3:]) * np.moveaxis(behind, 1, -1)


def _expose(pictures: np.ndarray, g: SimpleNamespace, size: int) -> np.ndarray:
  """Blur, tone and noise; values 0..255."""
  for n, sigma in enumerate(g.blur[:, 0, 0] * size):
    if sigma > 0:
      pictures[n] = cv2.GaussianBlur(
        pictures[n], (0, 0), float(sigma), borderType=cv2.BORDER_REPLICATE
      )
  column = [
    values[:, 0, 0, None, None, None] for values in (g.gamma, g.contrast, g.brightness, g.noise)
  ]
  gamma, contrast, brightness, strength = column
  toned = (np.clip(pictures, 0.0, 1.5) ** gamma - 0.5) * contrast + 0.5 + brightness
  grain = draws.pixel_noise(g.noise_key[:, 0, 0], pictures.shape[1:3])[..., None]
  return np.clip(255.0 * (toned + strength * grain), 0.0, 255.0)


def _develop(pictures: np.ndarray, g: SimpleNamespace, channels: int) -> np.ndarray:
  """To bytes; some pictures have been through JPEG."""
  if channels == 1:
    red, green, blue = (pictures[..., c, None] * share for c, share in enumerate(_LUMA))
    pictures = red + green + blue
  images = np.round(pictures).astype(np.uint8)
  for n, quality in enumerate(g.jpeg[:, 0, 0]):
    if quality > 0:
      _, data = cv2.imencode('.jpg', images[n], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
      images[n] = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)).reshape(images[n].shape)
  return images
