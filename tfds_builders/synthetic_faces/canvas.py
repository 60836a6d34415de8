"""Where faces are painted: a grid in face units, windows into it, and the soft shapes that
everything is made of.

All arrays hold a batch of faces: coordinates are [1, 1, W] and [1, H, 1], parameters [N, 1, 1],
layers [N, H, W], colour [N, 3, H, W]. Shapes have edges about one pixel wide, so nothing needs
supersampling.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np

from tfds_builders.synthetic_faces import draws

HALF_WIDTH, TOP, BOTTOM = 1.5, -1.5, 1.7  # what the canvas covers, in face units
_TILE = 6.4  # face units after which the noise repeats


def coverage(distance: np.ndarray, softness: float | np.ndarray) -> np.ndarray:
  """1 where a signed distance is negative, 0 where it is positive, a ramp of width `softness` in
  between.
  """
  alpha = distance * (-1.0 / softness)
  alpha += 0.5
  return np.clip(alpha, 0.0, 1.0, out=alpha)


def bump(squared: np.ndarray) -> np.ndarray:
  """A smooth hill: 1 where the normalised squared radius is 0, falling to 0 at 1."""
  hill = 1.0 - squared
  np.maximum(hill, 0.0, out=hill)
  hill *= hill
  return hill


def ellipse(
  x: np.ndarray, y: np.ndarray, rx: np.ndarray | float, ry: np.ndarray | float
) -> np.ndarray:
  """Signed distance (exact on the edge to first order) to an ellipse around the origin."""
  radius = np.sqrt((x / rx) ** 2 + (y / ry) ** 2)
  return (radius - 1.0) * np.minimum(rx, ry)


def rounded_box(
  x: np.ndarray,
  y: np.ndarray,
  half_w: np.ndarray | float,
  half_h: np.ndarray | float,
  radius: np.ndarray | float,
) -> np.ndarray:
  """Signed distance to a box with rounded corners around the origin."""
  outside_x = np.abs(x) - (half_w - radius)
  outside_y = np.abs(y) - (half_h - radius)
  corner = np.sqrt(np.maximum(outside_x, 0.0) ** 2 + np.maximum(outside_y, 0.0) ** 2)
  return corner + np.minimum(np.maximum(outside_x, outside_y), 0.0) - radius


@dataclasses.dataclass
class Window:
  """A rectangle of a canvas, or its mirror image; writing into the layers
  writes into the canvas.
  """

  x: np.ndarray
  y: np.ndarray
  soft: float  # one pixel, in face units
  colour: np.ndarray
  shade: np.ndarray
  height: np.ndarray

  def paint(self, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Lays a colour ([N, 3, 1, 1]) over what is there."""
    for channel in range(3):
      layer = self.colour[:, channel]
      layer += alpha * (colour[:, channel] - layer)

  def crease(
    self, distance: np.ndarray, width: float, strength: np.ndarray, dark: float = 0.52
  ) -> None:
    """Folds the skin along a line: `distance` to it, half the fold's `width`, `strength` [N, 1, 1]
    or a layer.
    """
    width = max(width, 0.8 * self.soft)
    fold = 1.0 - np.abs(distance) * (1.0 / width)
    np.maximum(fold, 0.0, out=fold)
    fold = fold * strength
    self.height -= fold * 0.02
    fold *= -dark
    fold += 1.0
    self.shade *= fold


class Canvas:
  """The layers of `n` faces at `resolution` pixels a face unit.

  Attributes:
    colour: what the surface reflects, [n, 3, H, W], 0..1.
    shade: what folds and hollows take from it, [n, H, W], a factor.
    height: relief that catches the light, [n, H, W], face units.
  """

  def __init__(self, n: int, resolution: float):
    self.resolution = resolution
    self.soft = 1.0 / resolution
    width, height = round(2 * HALF_WIDTH * resolution), round((BOTTOM - TOP) * resolution)
    self.x = ((np.arange(width, dtype=np.float32) + 0.5 - 0.5 * width) / resolution)[None, None, :]
    self.y = ((np.arange(height, dtype=np.float32) + 0.5) / resolution + TOP)[None, :, None]
    self.colour = np.zeros((n, 3, height, width), np.float32)
    self.shade = np.ones((n, height, width), np.float32)
    self.height = np.zeros((n, height, width), np.float32)

  def window(self, x0: float, x1: float, y0: float, y1: float, mirror: bool = False) -> Window:
    """The part with x0 <= x < x1 and y0 <= y < y1; with `mirror` its mirror image, seen with the
    same coordinates.
    """
    columns = slice(*(max(round((x - self.x[0, 0, 0]) * self.resolution), 0) for x in (x0, x1)))
    rows = slice(*(max(round((y - self.y[0, 0, 0]) * self.resolution), 0) for y in (y0, y1)))
    flip = slice(None, None, -1 if mirror else 1)
    layers = [
      layer[..., flip][..., rows, columns] for layer in (self.colour, self.shade, self.height)
    ]
    return Window(self.x[..., columns], self.y[:, rows], self.soft, *layers)

  @property
  def whole(self) -> Window:
    """The canvas as one window."""
    return Window(self.x, self.y, self.soft, self.colour, self.shade, self.height)


@functools.lru_cache(maxsize=16)
def _tile(resolution: float, cells_x: int, cells_y: int, shape: tuple[int, int]) -> np.ndarray:
  """Every window [H, W] of a periodic noise field of about unit variance, as a
  view [Y, X, H, W].
  """
  key = np.array([cells_x * 1009 + cells_y], np.uint64)
  lattice = draws.pixel_noise(key, (round(_TILE * cells_y), round(_TILE * cells_x)))[0]
  side = round(_TILE * resolution)
  field = cv2.resize(np.tile(lattice, (3, 3)), (3 * side, 3 * side), interpolation=cv2.INTER_LINEAR)
  field = field[side : 2 * side + shape[0], side : 2 * side + shape[1]]
  return np.lib.stride_tricks.sliding_window_view(field / field.std(), shape)


def noise(
  keys: np.ndarray, salt: int, resolution: float, cells: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
  """A smooth random field a face, [N, *shape]: `cells` (x, y) grains a face unit; the place depends
  on the key alone.

  The same key and salt give the same field at every resolution, but for sampling.
  """
  windows = _tile(resolution, *cells, shape)
  bits = draws.mix64(keys + np.uint64(salt) * np.array(draws.GAMMA))
  unit = np.stack([bits >> np.uint64(40), (bits >> np.uint64(16)) & np.uint64(0xFFFFFF)]) / 2.0**24
  rows, columns = ((unit[axis] * (windows.shape[axis] - 1)).astype(np.int64) for axis in (0, 1))
  return windows[rows, columns]
