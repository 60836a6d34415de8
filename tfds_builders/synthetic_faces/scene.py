"""Puts the painted face on a head: outline, light, ears, neck, hair, clothes, things in front, and
what is behind.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace

import cv2
import numpy as np

from tfds_builders.synthetic_faces import geometry
from tfds_builders.synthetic_faces.canvas import (
  TOP,
  Canvas,
  bump,
  coverage,
  ellipse,
  noise,
  rounded_box,
)

HAND, SCARF, HAT, LOCK = 1, 2, 3, 4


class Head:
  """A layer with transparency that grows from back to front: colour [N, 3, H, W] premultiplied,
  alpha [N, H, W].
  """

  def __init__(self, canvas: Canvas):
    self.x, self.y, self.soft, self.resolution = canvas.x, canvas.y, canvas.soft, canvas.resolution
    self.colour = np.zeros_like(canvas.colour)
    self.alpha = np.zeros_like(canvas.shade)

  def below(self, y: float) -> Head:
    """The part of the layer under a height; laying something over it changes this one."""
    part = copy.copy(self)
    first = round((y - TOP) * self.resolution)
    part.y, part.colour, part.alpha = (
      self.y[:, first:],
      self.colour[:, :, first:],
      self.alpha[:, first:],
    )
    return part

  def over(
    self,
    colour: np.ndarray,
    light: np.ndarray | float,
    alpha: np.ndarray,
    rows: np.ndarray | None = None,
  ) -> None:
    """Lays a colour ([N, 3, 1, 1] or a layer) times a brightness over what is there, of all faces
    or of `rows`.
    """
    clear = 1.0 - alpha
    light = light * alpha
    for channel in range(3):
      layer = self.colour[:, channel] if rows is None else self.colour[rows, channel]
      layer *= clear
      layer += light * colour[:, channel]
      if rows is not None:
        self.colour[rows, channel] = layer
    whole = slice(None) if rows is None else rows
    self.alpha[whole] = 1.0 - clear * (1.0 - self.alpha[whole])


def assemble(canvas: Canvas, g: SimpleNamespace) -> Head:
  """Returns the lit head with everything that belongs to it; the picture's roll and framing come
  after.
  """
  head = Head(canvas)
  light = _Light(head, g)
  _behind(head, g, light)
  distance = _outline(head, g)
  _ears(head, g, light)
  face = coverage(distance, head.soft)
  _turned_face(head, canvas, g, light, face)
  _rim(head, face, distance)
  _in_front(head, g, light)
  return head


class _Light:
  """One lamp and light from everywhere, on an ellipsoid the size of the head; `roll` turns the lamp
  with the picture.
  """

  def __init__(self, head: Head, g: SimpleNamespace):
    angle = g.light_angle - g.roll * np.float32(np.pi / 180)
    slant = np.sin(g.light_slant)
    self.x, self.y, self.z = slant * np.cos(angle), slant * np.sin(angle), np.cos(g.light_slant)
    across, along = head.x / 1.08, head.y / 1.5
    depth = np.sqrt(np.maximum(1.0 - across**2 - along**2, 0.0))
    self.ambient, self.lamp = g.ambient, 1.25 * (1.0 - g.ambient)
    self.facing = across * self.x + along * self.y + depth * self.z
    self.on_head = self.amount(self.facing)
    self.tint = g.exposure[:, None] * (
      1.0 + g.warmth[:, None] * np.array([1.0, 0.0, -1.0], np.float32)[None, :, None, None]
    )

  def amount(self, facing: np.ndarray) -> np.ndarray:
    """How bright a surface is that faces the lamp by `facing` (a cosine)."""
    lit = np.maximum(facing, 0.0)
    lit *= self.lamp
    lit += self.ambient
    return lit


def _outline(head: Head, g: SimpleNamespace) -> np.ndarray:
  """Signed distance to the head; when it turns, the chin turns with it."""
  y = head.y
  crown = np.maximum(
    1.0 - np.abs(np.minimum(y, 0.0) / g.top_y) ** np.float32(2.3), 0.0
  ) ** np.float32(0.45)
  toward = np.maximum(y, 0.0) / g.chin
  rest = 1.0 - toward**g.jaw
  jaw = np.sign(rest) * np.abs(rest) ** np.float32(0.52)
  full = 0.05 * g.jowls + 0.045 * g.child + 0.03 * g.au12 * (1.0 - g.child)
  half = g.head_w * np.where(y < 0, crown, jaw) + full * bump(((y - 0.75) / 0.45) ** 2)
  slope = np.gradient(half, head.soft, axis=1)
  middle = 0.20 * g.sin_yaw * np.minimum(toward, 1.2) ** 2
  distance = (np.abs(head.x - middle) - half) / np.sqrt(1.0 + slope * slope)
  return np.maximum(distance, g.top_y - y)


def _turned_face(
  head: Head, canvas: Canvas, g: SimpleNamespace, light: _Light, alpha: np.ndarray
) -> None:
  """Lays the face, wrapped around the turned head and lit, over the head where `alpha` says."""
  canvas.colour *= canvas.shade[:, None]
  detail = _relief_light(canvas, light)
  x, y = geometry.unturn(canvas.x, canvas.y, g)
  to_column = (x - canvas.x[0, 0, 0]) * canvas.resolution
  to_row = (y - canvas.y[0, 0, 0]) * canvas.resolution
  layers = np.concatenate([canvas.colour, detail[:, None]], axis=1)
  layers = np.ascontiguousarray(np.moveaxis(layers, 1, -1))
  turned = np.empty_like(layers)
  for n in range(len(layers)):
    cv2.remap(layers[n], to_column[n], to_row[n], cv2.INTER_LINEAR, turned[n], cv2.BORDER_REPLICATE)
  turned = np.ascontiguousarray(np.moveaxis(turned, -1, 1))
  turned[:, :3] *= light.tint
  head.over(turned, light.amount(light.facing + turned[:, 3]), alpha)


def _relief_light(canvas: Canvas, light: _Light) -> np.ndarray:
  """How much more or less than the smooth head the relief faces the lamp: -gradient of the height
  times the lamp.
  """
  height, scale = canvas.height, 0.5 * canvas.resolution
  detail = np.zeros_like(height)
  detail[:, :, 1:-1] -= (height[:, :, 2:] - height[:, :, :-2]) * (scale * light.x)
  detail[:, 1:-1] -= (height[:, 2:] - height[:, :-2]) * (scale * light.y)
  # A lamp straight ahead still shows slopes, since they turn away from it.
  return np.clip(detail, -0.6, 0.6)


def _behind(head: Head, g: SimpleNamespace, light: _Light) -> None:
  """Long hair, neck, shoulders, and the hair around the skull."""
  x, y = head.x, head.y
  shift = -0.16 * g.sin_yaw
  length = g.eye_y + g.hair_len
  wide = g.head_w + g.hair_vol * np.clip(0.55 + 0.5 * g.hair_len, 0.3, 1.0)
  skull = ellipse(x - shift, y + 0.12, wide, -g.top_y + g.hair_vol)
  sides = np.maximum(
    np.abs(x - shift) - wide - 0.02 * np.sin(9.0 * y), np.maximum(y - length, -0.12 - y)
  )
  shape = np.where(
    y < -0.12, skull, np.where(g.hair_len > 0.5, sides, np.maximum(skull, y - length))
  )
  shape = shape + 0.02 * noise(
    g.noise_key[:, 0, 0], 6, head.resolution, (8, 8), head.alpha.shape[1:]
  )
  strand = 1.0 + 0.3 * g.strands * _strands(head, g)
  dark = np.where((y > 0.3) & (np.abs(x) < g.head_w), 0.45, 0.8)
  head.over(
    g.hair * light.tint,
    light.on_head * strand * dark,
    coverage(shape, 2.0 * head.soft) * (g.bald == 0),
  )
  _body(head, g, light)


def _strands(head: Head, g: SimpleNamespace) -> np.ndarray:
  return noise(g.noise_key[:, 0, 0], 5, head.resolution, (14, 2), head.alpha.shape[1:])


def _body(head: Head, g: SimpleNamespace, light: _Light) -> None:
  head = head.below(0.55)
  x, y = head.x, head.y
  on_head = light.on_head[:, -y.shape[1] :]
  neck = np.maximum(
    np.abs(x + 0.05 * g.sin_yaw) - 0.50 - 0.05 * g.dimorphism + 0.1 * g.child, 0.6 - y
  )
  under_chin = 0.5 + 0.35 * np.clip((y - g.chin) / 0.4, 0.0, 1.0)
  head.over(g.skin * light.tint, on_head * under_chin, coverage(neck, head.soft))
  shoulder = (
    1.42
    + 0.12 * g.child
    + 0.22 * np.maximum(np.abs(x) - 0.42, 0.0) ** 2
    - 0.12 * bump(((np.abs(x) - 0.5) / 0.2) ** 2)
  )
  weave = 0.75 + 0.05 * _strands(head, g)
  head.over(g.cloth * g.exposure[:, None], weave, coverage(shoulder - y, head.soft))


def _ears(head: Head, g: SimpleNamespace, light: _Light) -> None:
  """Both at once: `out` is how far an ear lies from the middle on its own side; turning hides one
  and shows the other.
  """
  hidden = (g.hair_len > 0.5) & (g.hair_vol > 0.1)
  x = np.abs(head.x) - g.head_w * (1.0 + 0.04 * g.ear) + np.sign(head.x) * 0.10 * g.sin_yaw
  y = head.y - g.eye_y - 0.2
  alpha = coverage(ellipse(x, y + 0.3 * x, 0.10 * g.ear, 0.23 * g.ear), head.soft) * (1.0 - hidden)
  hollow = 0.9 - 0.36 * bump((x / 0.07) ** 2 + (y / 0.16) ** 2)
  head.over(g.skin * light.tint, light.on_head * hollow, alpha)


def _rim(head: Head, face: np.ndarray, distance: np.ndarray) -> None:
  """The skin turns away near the outline and darkens."""
  head.colour *= (1.0 - 0.30 * face * np.clip(1.0 + distance / 0.14, 0.0, 1.0) ** 2)[:, None]


def _hair_in_front(head: Head, g: SimpleNamespace, light: _Light, rows: np.ndarray) -> None:
  """Long hair falls over the sides of the face."""
  x, y = head.x, head.y
  shift = -0.10 * g.sin_yaw
  fall = (
    g.head_w * 0.98
    - 0.10 * np.clip(g.hair_len - 0.5, 0.0, 1.0)
    - 0.05 * np.sin(2.2 * y + 3.0 * g.parting)
  )
  side = np.maximum(fall - np.abs(x - shift), y - g.eye_y - g.hair_len)
  skull = ellipse(x - shift, np.minimum(y + 0.12, 0.0), g.head_w + g.hair_vol, g.hair_vol - g.top_y)
  alpha = coverage(np.maximum(side, skull), 2.0 * head.soft)
  head.over(g.hair * light.tint[rows], light.on_head[rows] * _strand_shade(head, g), alpha, rows)


def _strand_shade(head: Head, g: SimpleNamespace) -> np.ndarray:
  return np.clip(1.0 + 0.3 * g.strands * _strands(head, g), 0.4, 1.6)


def _in_front(head: Head, g: SimpleNamespace, light: _Light) -> None:
  """Draws what only some faces have, for those alone."""
  kind = g.occluder[:, 0, 0]
  long_hair = (g.hair_len > 0.5) & (g.bald == 0)
  things = [(long_hair[:, 0, 0], _hair_in_front)]
  things += [
    (kind == k, draw) for k, draw in ((HAND, _hand), (SCARF, _scarf), (HAT, _hat), (LOCK, _lock))
  ]
  for present, draw in things:
    rows = np.flatnonzero(present)
    if len(rows):
      draw(
        head,
        SimpleNamespace(**{name: values[rows] for name, values in vars(g).items()}),
        light,
        rows,
      )


def _hand(head: Head, g: SimpleNamespace, light: _Light, rows: np.ndarray) -> None:
  """A palm and four fingers laid on the cheek or the chin, sometimes over the mouth or an eye."""
  side = g.occluder_side
  angle = side * (0.25 + 1.2 * g.occluder_place)
  px, py = head.x - side * (0.78 - 0.25 * g.occluder_place), head.y - 1.15 + 0.25 * g.occluder_place
  x = px * np.cos(angle) + py * np.sin(angle)
  y = -px * np.sin(angle) + py * np.cos(angle)
  distance = ellipse(x, y - 0.15, 0.33, 0.33)
  gaps = np.zeros_like(distance)
  for finger, length in enumerate((0.52, 0.62, 0.58, 0.42)):
    at = x - (finger - 1.5) * 0.165
    bone = np.sqrt(at**2 + (y - np.clip(y, -length, 0.1)) ** 2) - 0.085
    distance = np.minimum(distance, bone)
    gaps = np.maximum(gaps, bump(((np.abs(at) - 0.085) / 0.035) ** 2) * (y < 0.05) * (y > -length))
  head.over(
    g.skin * light.tint[rows],
    light.on_head[rows] * (0.95 - 0.4 * gaps),
    coverage(distance, head.soft),
    rows,
  )


def _scarf(head: Head, g: SimpleNamespace, light: _Light, rows: np.ndarray) -> None:
  """Cloth over the chin, at most up to the lower lip."""
  top = (
    g.mouth_y
    + 0.06
    + 0.40 * g.occluder_place
    - 0.12 * head.x**2
    + 0.03 * np.sin(4.0 * head.x + 6.0 * g.parting)
  )
  folds = 1.0 + 0.25 * np.sin(14.0 * (head.y + 0.3 * head.x * g.occluder_side + 0.2 * head.x**2))
  distance = np.maximum(top - head.y, np.abs(head.x) - g.head_w - 0.25)
  head.over(
    g.cloth * light.tint[rows], light.on_head[rows] * folds, coverage(distance, head.soft), rows
  )


def _hat(head: Head, g: SimpleNamespace, light: _Light, rows: np.ndarray) -> None:
  """A cap or a woollen hat down to the forehead, perhaps over the brows."""
  line = g.eye_y - 0.42 - 0.35 * g.occluder_place + 0.14 * head.x**2
  shape = np.maximum(ellipse(head.x, head.y + 0.1, g.head_w + 0.12, -g.top_y + 0.22), head.y - line)
  band = 1.0 - 0.35 * (np.abs(head.y - line + 0.12) < 0.12) + 0.08 * np.sin(30.0 * head.x)
  head.over(
    g.cloth * light.tint[rows], light.on_head[rows] * band, coverage(shape, head.soft), rows
  )


def _lock(head: Head, g: SimpleNamespace, light: _Light, rows: np.ndarray) -> None:
  """Hair that has fallen over one side of the forehead and perhaps an eye."""
  x = head.x * g.occluder_side
  along = np.clip((head.y + 1.2) / 1.9, 0.0, 1.0)
  middle = 0.15 + 0.55 * along + 0.25 * (g.occluder_place - 0.5)
  distance = np.maximum(
    np.abs(x - middle) - 0.20 * (1.0 - along) - 0.03, head.y - 0.75 * g.occluder_place
  )
  strand = _strand_shade(head, g)
  alpha = coverage(np.maximum(distance, -1.15 - head.y), 0.05)
  head.over(g.hair * light.tint[rows], light.on_head[rows] * strand, alpha, rows)


def background(g: SimpleNamespace, size: int) -> np.ndarray:
  """What is behind: a gradient between two colours, blurred clutter, stripes or an edge; [N, 3,
  size, size], 0..1.
  """
  x, y = (np.arange(size, dtype=np.float32)[None, None, :] / size - 0.5), None
  y = x.transpose(0, 2, 1)
  along = x * np.cos(g.stripe_angle) + y * np.sin(g.stripe_angle)
  mix = 0.5 + 0.7 * along
  blobs = noise(g.noise_key[:, 0, 0], 7, size / 2.6, (2, 2), (size, size))
  mix = mix + 0.6 * g.clutter * blobs
  edge = coverage(along - 0.4 * g.parting, 2.0 / size)
  mix = mix + (g.clutter > 0.35) * 0.5 * (edge - 0.5)
  mix = mix + (g.clutter > 0.65) * 0.2 * np.sign(
    np.sin(25.0 * (1.0 + g.strands) * (y * np.cos(g.stripe_angle) - x))
  )
  boxes = rounded_box(x - 0.6 * g.parting, y + 0.3 * g.glare, 0.2, 0.3, 0.02)
  mix = mix + (g.clutter > 0.5) * 0.4 * coverage(boxes, 2.0 / size)
  mix = np.clip(mix, 0.0, 1.0)[:, None]
  return (g.backdrop + (g.frontdrop - g.backdrop) * mix) * np.minimum(g.exposure, 1.2)[:, None]
