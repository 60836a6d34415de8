"""Paints the front of the face, unturned: skin, hairline, brows, eyes, nose, mouth, folds, beard,
make-up, glasses.

Each function paints one thing on a `Canvas` from the positions of `geometry.arrange`. Left and
right are the same
function: the left side is painted through a mirrored window, in which x points outwards.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tfds_builders.synthetic_faces.canvas import (
  Canvas,
  Window,
  bump,
  coverage,
  ellipse,
  noise,
  rounded_box,
)

STUBBLE, MOUSTACHE, FULL_BEARD, GOATEE = 1, 2, 3, 4  # 0: none
_WHITE = np.array([0.93, 0.91, 0.89], np.float32)[None, :, None, None]
_TEETH = np.array([0.90, 0.87, 0.80], np.float32)[None, :, None, None]
_INSIDE = np.array([0.16, 0.06, 0.06], np.float32)[None, :, None, None]
_TONGUE = np.array([0.60, 0.27, 0.26], np.float32)[None, :, None, None]
_BLACK = np.array([0.03, 0.03, 0.03], np.float32)[None, :, None, None]
_REDDER = np.array([1.0, 0.62, 0.60], np.float32)[None, :, None, None]


def paint_face(canvas: Canvas, g: SimpleNamespace) -> None:
  """Paints everything that lies on the face, in order from the skin outwards."""
  _skin(canvas, g)
  _relief(canvas, g)
  _forehead(canvas, g)
  _beard(canvas, g)
  for side, mirror in ((1, False), (-1, True)):
    _cheek(canvas.window(0.05, 1.15, -0.15, 1.35, mirror), g, side)
    _eye(canvas.window(0.0, 0.95, -0.4, 0.55, mirror), g, side)
    _brow(canvas.window(0.0, 0.95, -0.75, 0.3, mirror), g, side)
  _nose(canvas.window(-0.5, 0.5, -0.4, 0.9), g)
  _mouth(canvas.window(-0.65, 0.65, 0.4, 1.5), g)
  _chin(canvas.window(-0.6, 0.6, 0.8, 1.55), g)
  _hairline(canvas, g)
  _glasses(canvas, g)


def _skin(canvas: Canvas, g: SimpleNamespace) -> None:
  canvas.colour[:] = g.skin
  shape = canvas.shade.shape[1:]
  fine = noise(g.noise_key[:, 0, 0], 1, canvas.resolution, (16, 16), shape)
  coarse = noise(g.noise_key[:, 0, 0], 2, canvas.resolution, (5, 5), shape)
  canvas.shade += (0.008 + 0.045 * g.mottled) * (fine + coarse)


def _relief(canvas: Canvas, g: SimpleNamespace) -> None:
  """What gives a face its light and dark: brow ridge, sockets, cheekbones, muzzle."""
  window = canvas.window(-1.0, 1.0, -0.9, 1.4)
  x, y = np.abs(window.x), window.y
  ridge = 0.05 + 0.015 * g.dimorphism + 0.03 * g.au4 - 0.03 * g.child
  window.height += ridge * bump(((x - 0.3) / 0.42) ** 2 + ((y - g.brow_mid) / 0.22) ** 2)
  socket = bump(((x - g.eye_x + 0.03) / 0.33) ** 2 + ((y - g.eye_y + 0.02) / 0.24) ** 2)
  window.height -= 0.09 * (1.0 - 0.5 * g.child) * socket
  window.shade *= 1.0 - (0.16 - 0.08 * g.child) * socket
  cheek = 0.07 + 0.07 * g.au6 + 0.06 * g.au12
  window.height += cheek * bump(
    ((x - 0.54) / 0.36) ** 2 + ((y - g.eye_y - 0.36 + 0.05 * g.au6) / 0.3) ** 2
  )
  window.height += 0.08 * bump((x / 0.5) ** 2 + ((y - g.mouth_y) / 0.4) ** 2)
  blush = (0.10 + 0.5 * g.make_up + 0.25 * g.child) * bump(
    ((x - 0.55) / 0.3) ** 2 + ((y - g.eye_y - 0.4) / 0.25) ** 2
  )
  window.paint(g.skin * _REDDER, 0.5 * blush)


def _forehead(canvas: Canvas, g: SimpleNamespace) -> None:
  """Lines across it from AU1 (middle), AU2 (sides) and age; upright ones between the brows from
  AU4; AU9 on the nose.
  """
  window = canvas.window(-0.75, 0.75, -1.05, 0.3)
  x, y = window.x, window.y
  middle, sides = bump((x / 0.42) ** 2), bump(((np.abs(x) - 0.45) / 0.3) ** 2)
  raised = g.au1 * middle + g.au2 * sides * 0.9
  strength = np.clip(
    (0.5 + 0.5 * (1.0 - g.child)) * raised * 0.75 + 0.9 * g.forehead_lines * (middle + sides),
    0.0,
    1.0,
  )
  wave = 0.03 * np.cos(5.0 * x + g.parting * 6.0) - 0.05 * g.au1 * middle
  for line in range(3):
    window.crease(
      y - (g.eye_y - g.brow_rise - 0.19 - 0.12 * line + wave), 0.036, strength * (1.0 - 0.22 * line)
    )
  frown = np.clip(g.au4 * 0.95 + 0.45 * g.frown_lines, 0.0, 1.0)
  between = bump(((y - g.brow_in + 0.01) / 0.19) ** 2)
  window.crease(np.abs(x - 0.03 * g.asymmetry) - 0.065, 0.036, frown * between)
  across = bump((x / 0.17) ** 2)
  for line in range(3):
    window.crease(y - (g.eye_y - 0.06 + 0.085 * line) + 0.8 * x * x, 0.036, g.au9 * across)


def _brow(window: Window, g: SimpleNamespace, side: int) -> None:
  along = (window.x - g.brow_in_x) / (g.brow_out_x - g.brow_in_x)
  t = np.clip(along, 0.0, 1.0)
  line = (
    g.brow_in * (1 - t)
    + g.brow_out * t
    - g.brow_bend * 4.0 * t * (1 - t)
    + side * 0.6 * g.asymmetry
  )
  half = 0.5 * g.brow_thick * (1.25 - 0.75 * t * t)
  length = g.brow_out_x - g.brow_in_x
  ends = np.maximum(-along, along - 1.0) * length
  alpha = coverage(np.abs(window.y - line) - half, window.soft + 0.5 * half) * coverage(ends, 0.05)
  window.paint(g.brow_colour, alpha * g.brow_dense)


def _eye(window: Window, g: SimpleNamespace, side: int) -> None:
  x, y = window.x - g.eye_x, window.y - g.eye_y
  t = x / g.eye_w
  inside = np.maximum(1.0 - t * t, 0.0)
  axis = -g.eye_tilt * t
  upper = axis - g.lid_upper * inside ** np.float32(0.7) * (1.0 - 0.12 * t)
  lower = axis + g.lid_lower * inside ** np.float32(0.8)
  ends = coverage((np.abs(t) - 1.0) * g.eye_w, window.soft)
  opening = coverage(np.maximum(upper - y, y - lower), window.soft) * ends
  window.shade *= 1.0 - opening * (
    1.0 - 1.0 / np.maximum(window.shade, 0.6)
  )  # the eyeball does not take the folds' shade
  window.paint(_WHITE, opening)
  _iris(window, g, x - side * g.gaze_x, y - g.gaze_y + 0.1 * g.lid_upper, opening)
  under_lid = coverage(y - upper - 0.35 * g.lid_upper, 0.6 * g.eye_open) * opening
  window.paint(_BLACK, 0.32 * under_lid)
  lash = 0.011 + 0.010 * (g.make_up > 0) + 0.004 * (1.0 - g.male)
  lash_ends = coverage((np.abs(t) - 1.08) * g.eye_w, window.soft)
  window.paint(
    _BLACK,
    coverage(np.abs(y - upper) - lash, window.soft) * lash_ends * (0.62 + 0.3 * (g.make_up > 0)),
  )
  window.paint(_BLACK, coverage(np.abs(y - lower) - 0.005, window.soft) * ends * 0.32)
  _around_eye(window, g, x, y, upper, lower)


def _iris(
  window: Window, g: SimpleNamespace, x: np.ndarray, y: np.ndarray, opening: np.ndarray
) -> None:
  radius = 0.083 * (g.eye_w / 0.185)
  distance = np.sqrt(x * x + y * y)
  window.paint(g.iris * 0.8, coverage(distance - radius, window.soft) * opening)
  window.paint(_BLACK, coverage(distance - 0.45 * radius, window.soft) * opening * 0.95)
  spark = coverage(np.sqrt((x + 0.03) ** 2 + (y + 0.035) ** 2) - 0.018, window.soft)
  window.paint(_WHITE, spark * opening * 0.9)


def _around_eye(
  window: Window,
  g: SimpleNamespace,
  x: np.ndarray,
  y: np.ndarray,
  upper: np.ndarray,
  lower: np.ndarray,
) -> None:
  """The fold of the upper lid, crow's feet, the bag below; AU6 and AU7 deepen them."""
  near = bump((x / (1.25 * g.eye_w)) ** 2)
  lid = 0.055 - 0.025 * g.droop
  window.crease(y - (upper - lid), 0.022, (0.55 + 0.3 * g.au5) * np.minimum(3.0 * near, 1.0))
  bag = np.clip(0.75 * g.eye_bags + 0.5 * g.au6 + 0.25 * g.au7, 0.0, 1.0)
  window.crease(y - (lower + 0.075 - 0.02 * g.au6), 0.045, bag * np.minimum(2.0 * near, 1.0))
  window.shade *= 1.0 - 0.32 * g.eye_bags * bump((x / 0.22) ** 2 + ((y - 0.13) / 0.1) ** 2)
  feet = np.clip(
    0.85 * g.crows_feet + 0.75 * g.au6 * (0.3 + 0.7 * np.minimum(g.age / 30.0, 1.0)), 0.0, 1.0
  )
  out = x - g.eye_w
  fade = bump(((out - 0.13) / 0.13) ** 2) * feet
  for slope in (-0.5, 0.0, 0.5):
    window.crease(y - 0.02 - slope * out, 0.03, fade)


def _cheek(window: Window, g: SimpleNamespace, side: int) -> None:
  """The fold from nose to mouth: age, AU12, AU9; the one from the mouth down and the jowl: age."""
  x, y = window.x, window.y
  corner_x, corner_y = g.mouth_half + side * g.mouth_shift, g.mouth_y + g.corner
  x0, y0 = g.nose_wide + 0.03, g.nose_y - 0.06
  x1, y1 = corner_x + 0.085 + 0.02 * g.au12, corner_y + 0.06
  s = (y - y0) / (y1 - y0)
  t = np.clip(s, 0.0, 1.0)
  line = x0 + (x1 - x0) * t + (0.03 + 0.06 * g.au12) * 4.0 * t * (1.0 - t)
  strength = np.clip(
    0.06 + 0.9 * g.folds + 0.6 * g.au12 * (1 - 0.4 * g.child) + 0.6 * g.au9, 0.0, 1.0
  )
  window.crease(x - line, 0.055, strength * coverage((np.abs(s - 0.5) - 0.5) * 0.4, 0.12))
  down = (y - corner_y - 0.04) / 0.26
  line = corner_x + 0.015 + 0.05 * down
  strength = np.clip(0.7 * g.folds * g.folds + 0.5 * g.au15, 0.0, 1.0) * bump(
    (2.0 * down - 1.0) ** 2
  )
  window.crease(x - line, 0.04, strength)
  jowl = bump(((x - 0.62) / 0.2) ** 2 + ((y - 1.0) / 0.2) ** 2)
  window.height += 0.11 * g.jowls * jowl
  hollow = bump(((x - 0.66) / 0.22) ** 2 + ((y - 0.62) / 0.3) ** 2)
  window.shade *= 1.0 - (0.10 * (1.0 - g.child) + 0.22 * g.jowls) * hollow


def _nose(window: Window, g: SimpleNamespace) -> None:
  bridge_y = g.eye_y - 0.12
  t = np.clip((window.y - bridge_y) / (g.nose_tip_y - bridge_y), 0.0, 1.0)
  x = window.x - g.nose_shift * t
  y = window.y - g.nose_y
  below = coverage(window.y - g.nose_tip_y - 0.06, 0.14)
  half = 0.11 + (0.75 * g.nose_wide - 0.04) * t
  root = np.clip((window.y - bridge_y + 0.15) / 0.3, 0.0, 1.0)
  window.height += g.nose_high * (0.3 * root * root + 0.7 * t) * below * bump((x / half) ** 2)
  tip = window.y - g.nose_tip_y
  window.height += 0.45 * g.nose_high * bump((x / (0.75 * g.nose_wide)) ** 2 + (tip / 0.11) ** 2)
  wing_x = np.abs(window.x - 0.55 * g.nose_shift)
  wing = bump(
    ((wing_x - 0.8 * g.nose_wide) / (0.42 * g.nose_wide)) ** 2 + ((y + 0.055) / 0.085) ** 2
  )
  window.height += 0.06 * wing
  edge = bump(((wing_x - 1.12 * g.nose_wide) / (0.22 * g.nose_wide)) ** 2 + ((y + 0.05) / 0.1) ** 2)
  window.shade *= 1.0 - 0.38 * edge
  window.shade *= 1.0 - 0.3 * bump((x / (1.15 * g.nose_wide)) ** 2 + ((y - 0.05) / 0.075) ** 2)
  seen = 0.75 - 1.2 * g.sin_pitch
  nostril = ellipse(
    wing_x - 0.47 * g.nose_wide,
    y + 0.005 + 0.1 * (wing_x - 0.47 * g.nose_wide),
    0.3 * g.nose_wide,
    0.024,
  )
  window.paint(_INSIDE, coverage(nostril, window.soft) * np.clip(seen, 0.3, 0.95))


def _mouth(window: Window, g: SimpleNamespace) -> None:
  """Lips as bands between curves over x; what is between them, the line or the opening, on top."""
  x = window.x - g.mouth_shift
  t = x / g.mouth_half
  inside = np.maximum(1.0 - t * t, 0.0)
  side = np.abs(np.clip(t, -1.3, 1.3)) ** np.float32(1.7)
  between = g.mouth_y + g.corner * side - g.arched * inside + g.asymmetry * t
  opening = inside ** np.float32(0.75) * g.gap
  upper, lower = between - 0.25 * opening - g.lift * inside, between + 0.75 * opening
  bow = 1.0 - 0.28 * bump((t / 0.22) ** 2)
  top = upper - g.upper_lip * inside ** np.float32(0.7) * bow
  foot = lower + g.lower_lip * inside ** np.float32(0.6)
  ends = coverage((np.abs(t) - 1.0) * g.mouth_half, 1.5 * window.soft)
  y = window.y
  lips = coverage(np.maximum(top - y, y - foot), window.soft) * ends
  red = (g.lip_red + (0.9 - g.lip_red) * g.make_up)[:, None]
  window.paint(g.skin * (1.0 - red + red * _REDDER) * (0.86 - 0.12 * g.make_up[:, None]), lips)
  middle = 0.5 * (lower + foot)
  window.height += 0.03 * lips * bump(((y - middle) / (0.6 * g.lower_lip + 0.01)) ** 2)
  _between_lips(window, g, y, upper, lower, t, ends)
  corners = bump(
    ((np.abs(x) - g.mouth_half) / 0.07) ** 2 + ((y - g.mouth_y - g.corner) / 0.07) ** 2
  )
  window.shade *= 1.0 - (0.22 + 0.3 * g.au12 + 0.25 * g.au15) * corners
  shadow = bump((x / 0.24) ** 2 + ((y - foot - 0.05) / 0.07) ** 2)
  window.shade *= 1.0 - (0.25 + 0.2 * g.au17) * shadow


def _between_lips(
  window: Window,
  g: SimpleNamespace,
  y: np.ndarray,
  upper: np.ndarray,
  lower: np.ndarray,
  t: np.ndarray,
  ends: np.ndarray,
) -> None:
  thick = 0.010 + 0.004 * g.au23
  line = coverage(np.maximum(upper - thick - y, y - lower - thick), window.soft) * ends
  window.paint(_INSIDE, line * np.clip(0.75 + 3.0 * g.gap, 0.0, 0.97))
  show = np.clip(1.2 * g.au12 + g.au20 + 0.6 * g.au9 + 0.25, 0.0, 1.0) * np.clip(
    (g.gap - 0.015) / 0.02, 0.0, 1.0
  )
  reach = np.minimum(0.85 * g.gap, 0.09)
  teeth = coverage(
    np.maximum(upper + 0.006 - y, y - np.minimum(upper + reach, lower - 0.008)), window.soft
  )
  window.paint(_TEETH, teeth * ends * show * (1.0 - 0.35 * np.minimum(t * t, 1.0)))
  low = np.clip(g.au20 - 0.2, 0.0, 1.0) * np.clip((g.gap - 0.08) / 0.04, 0.0, 1.0)
  teeth = coverage(np.maximum(lower - 0.05 - y, y - lower + 0.006), window.soft)
  window.paint(_TEETH * 0.85, teeth * ends * low)
  tongue = bump((t / 0.7) ** 2 + ((y - lower) / (0.45 * g.gap + 0.01)) ** 2) * np.clip(
    (g.gap - 0.1) / 0.1, 0.0, 1.0
  )
  window.paint(_TONGUE, np.minimum(2.0 * tongue, 0.9) * coverage(y - lower, window.soft))


def _chin(window: Window, g: SimpleNamespace) -> None:
  x, y = window.x, window.y - g.chin
  ball = bump((x / 0.3) ** 2 + ((y + 0.17) / 0.17) ** 2)
  window.height += (0.06 + 0.05 * g.au17) * ball
  grain = noise(g.noise_key[:, 0, 0], 3, 1.0 / window.soft, (16, 16), window.shade.shape[1:])
  window.shade *= 1.0 + 0.10 * g.au17 * ball * grain
  cleft = bump((x / 0.32) ** 2)
  window.crease(y + 0.30 + 0.25 * x * x, 0.05, (0.3 * g.folds + 0.75 * g.au17) * cleft)


def _beard(canvas: Canvas, g: SimpleNamespace) -> None:
  """Stubble and full beards along the jaw, a moustache above the lip, a goatee on the chin."""
  kind = g.beard[:, 0, 0]
  rows = np.flatnonzero(kind)
  if not len(rows):
    return
  window, g = (
    canvas.window(-1.2, 1.2, 0.1, 1.65),
    SimpleNamespace(**{k: v[rows] for k, v in vars(g).items()}),
  )
  x, y, kind = np.abs(window.x), window.y, kind[rows][:, None, None]
  cheek = g.mouth_y - 0.02 - 0.75 * np.maximum(x - 0.45, 0.0) - 0.25 * np.maximum(0.45 - x, 0.0)
  jaw = coverage(cheek - y, 0.16) * (
    1.0 - bump((x / (g.mouth_half + 0.12)) ** 2 + ((y - g.mouth_y) / 0.22) ** 2)
  )
  lip = rounded_box(
    x, y - 0.5 * (g.nose_y + 0.06 + g.mouth_y - g.lip_u), g.mouth_half * 1.05, 0.085, 0.05
  )
  moustache = coverage(lip, 0.05)
  chin = coverage(ellipse(x, y - 0.5 * (g.mouth_y + g.chin) - 0.12, 0.26, 0.24), 0.08)
  full = np.isin(kind, (STUBBLE, FULL_BEARD))
  alpha = full * jaw
  alpha = np.maximum(alpha, (kind != GOATEE) * moustache)
  alpha = np.maximum(alpha, (kind == GOATEE) * np.maximum(chin, 0.8 * moustache))
  hair = noise(g.noise_key[:, 0, 0], 4, canvas.resolution, (24, 10), alpha.shape[1:])
  alpha *= np.clip(g.beard_dense * (1.0 + 0.25 * hair), 0.0, 1.0)
  for channel in range(3):
    window.colour[rows, channel] += alpha * (
      g.brow_colour[:, channel] - window.colour[rows, channel]
    )


def _hairline(canvas: Canvas, g: SimpleNamespace) -> None:
  """The hair above the forehead, at the temples and in front of the ears, with a parting and
  perhaps a fringe.
  """
  window = canvas.window(-1.5, 1.5, -1.5, 0.6)
  x, y = window.x, window.y
  far = np.abs(x)
  back = 0.32 * g.receding * (0.6 + 0.7 * bump(((far - 0.45) / 0.3) ** 2))
  top = g.hairline - back + 0.12 * (x / 0.7) ** 2
  low = g.eye_y - g.brow_rise - 0.12 + 0.35 * (x - g.parting * 0.6) ** 2
  top = np.where(g.fringe > 0, top + (low - top) * np.minimum(g.fringe * 2.0, 1.0), top)
  side = g.eye_y + 0.15 + 0.2 * np.minimum(g.hair_len, 0.4)
  temple = np.clip((far - 0.66) / 0.2, 0.0, 1.0)
  line = top + (side - top) * temple * temple
  around = np.minimum(side, 1.6 * (far - 0.95))  # what is left to the bald
  line = np.where(g.bald > 0, np.where(y > -0.35 - 0.5 * (far - 0.8), around, -9.0), line)
  strand = noise(
    g.noise_key[:, 0, 0], 5, canvas.resolution, (14, 2), (window.y.shape[1], window.x.shape[2])
  )
  alpha = coverage(y - line - 0.03 * strand, 0.07)
  window.paint(g.hair, alpha)
  window.shade += alpha * (np.clip(1.0 + 0.3 * g.strands * strand, 0.4, 1.6) - window.shade)
  window.height *= 1.0 - alpha


def _glasses(canvas: Canvas, g: SimpleNamespace) -> None:
  rows = np.flatnonzero((g.glasses > 0) | (g.sunglasses > 0))
  if not len(rows):
    return
  g = SimpleNamespace(**{k: v[rows] for k, v in vars(g).items()})
  window = canvas.window(-1.2, 1.2, -0.5, 0.7)
  x, y = window.x - 0.35 * g.nose_shift, window.y - g.eye_y - 0.03
  lens = rounded_box(np.abs(x) - g.eye_x - 0.01, y, g.frame_w * 0.93, g.frame_h, 0.6 * g.frame_h)
  wire = 0.012 + 0.028 * np.maximum(g.glasses - 0.4, 0.0)
  bar = np.maximum(np.abs(y + 0.06) - wire, np.abs(np.abs(x) - 0.0) - g.eye_x + 0.2)
  temple = np.maximum(np.abs(y + 0.05) - wire, g.eye_x + g.frame_w - np.abs(x))
  frame = coverage(np.minimum(np.abs(lens) - wire, np.minimum(bar, temple)), window.soft)
  inside = coverage(lens, window.soft)
  shine = inside * g.glare * bump(((x - 0.5 * y) % 0.75 - 0.3) ** 2 / 0.03)
  dark = np.float32(1.0) - inside * np.where(g.sunglasses > 0, 0.93, 0.06)
  for channel in range(3):
    layer = window.colour[rows, channel] * dark
    layer += (1.0 - layer) * shine * 0.7
    window.colour[rows, channel] = layer + frame * (g.frame_dark - layer)
  window.height[rows] *= 1.0 - np.maximum(frame, inside * (g.sunglasses > 0))
