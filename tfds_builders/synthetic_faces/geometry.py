"""How action units move a face: from parameters to where brows, lids, nose and mouth are.

Directions and rough sizes follow the descriptions in FACS (Ekman, Friesen & Hager 2002). y points
down.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

# The ellipsoid that a face's surface is wrapped around, in face units (x and z; y), and how much of
# the head's turning its features follow: a face is flatter than an ellipsoid, and it tilts about
# the neck.
RADIUS_X, RADIUS_Y = 1.12, 1.6
FOLLOW_YAW, FOLLOW_PITCH = 0.9, 0.6


def arrange(p: dict[str, np.ndarray]) -> SimpleNamespace:
  """Returns the parameters with the derived positions added, each [N, 1, 1] (colours [N, 3, 1, 1]),
  by attribute.
  """
  g = SimpleNamespace(**{name: values.reshape(*values.shape, 1, 1) for name, values in p.items()})
  g.sin_yaw, g.cos_yaw = _sin_cos(g.yaw * FOLLOW_YAW)
  g.sin_pitch, g.cos_pitch = _sin_cos(g.pitch * FOLLOW_PITCH)
  _brows(g)
  _eyes(g)
  _nose(g)
  _mouth(g)
  return g


def _sin_cos(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  radians = degrees * np.float32(np.pi / 180)
  return np.sin(radians), np.cos(radians)


def _brows(g: SimpleNamespace) -> None:
  """AU1 lifts the inner end, AU2 the outer one; AU4 lowers and joins them; AU9 pulls the inner end
  down.
  """
  base = g.eye_y - g.brow_rise
  g.brow_in_x = g.eye_x - 0.235 - 0.075 * g.au4
  g.brow_out_x = g.eye_x + 0.275 - 0.02 * g.au4
  g.brow_in = base + 0.01 - 0.155 * g.au1 + 0.165 * g.au4 + 0.09 * g.au9 + 0.04 * g.au1 * g.au2
  g.brow_out = base + 0.03 - 0.15 * g.au2 + 0.02 * g.au4 - 0.01 * g.au1
  g.brow_bend = g.brow_arch + 0.035 * g.au2 - 0.03 * g.au4 * (1.0 - g.au1)
  g.brow_mid = 0.5 * (g.brow_in + g.brow_out) - g.brow_bend


def _eyes(g: SimpleNamespace) -> None:
  """AU5 lifts the upper lid; AU7 tightens both; AU6 and AU9 push the lower one up."""
  lifted = 1.0 + 0.85 * g.au5 - 0.42 * g.au7 - 0.18 * g.au6 - 0.2 * g.au9 - 0.25 * g.droop
  g.lid_upper = g.eye_open * np.maximum(lifted * (1.0 - g.blink), 0.06)
  lowered = 0.78 + 0.12 * g.au5 - 0.5 * g.au7 - 0.45 * g.au6 - 0.25 * g.au9
  g.lid_lower = g.eye_open * np.maximum(lowered * (1.0 - 0.4 * g.blink), 0.02)


def _nose(g: SimpleNamespace) -> None:
  """AU9 lifts the nostrils. What stands out from the face moves more than the face when the head
  turns.
  """
  g.nose_y = g.eye_y + g.nose_len - 0.055 * g.au9
  g.nose_wide = g.nose_w * (1.0 + 0.12 * g.au12 + 0.08 * g.au9)
  g.nose_shift = 1.7 * g.nose_high * g.sin_yaw
  g.nose_tip_y = g.nose_y - 0.075 + 1.4 * g.nose_high * g.sin_pitch


def _mouth(g: SimpleNamespace) -> None:
  """AU12 pulls the corners up and out, AU15 down, AU20 sideways; AU17 pushes the chin up; AU23
  narrows; AU25/26 open.
  """
  g.mouth_y = g.eye_y + g.nose_len + g.mouth_drop - 0.015 * g.au12 - 0.02 * g.au17
  wide = (
    0.115 * g.au12 + 0.10 * g.au20 - 0.04 * g.au23 - 0.04 * g.au26 * (1.0 - g.au20) - 0.015 * g.au17
  )
  g.mouth_half = g.mouth_w + wide
  g.corner = (
    g.mouth_curve - 0.155 * g.au12 + 0.13 * g.au15 + 0.035 * g.au20
  )  # of the corners against the middle
  g.arched = 0.05 * g.au17 + 0.02 * g.au15  # the middle of the line between the lips goes up
  g.gap = g.au25 * (0.045 + 0.075 * g.au12 + 0.07 * g.au20) + 0.26 * g.au26
  thin = 1.0 - 0.7 * g.au23 - 0.25 * g.au12 - 0.3 * g.au20
  g.upper_lip = g.lip_u * np.maximum(thin + 0.25 * g.au9, 0.25)
  g.lower_lip = g.lip_l * np.maximum(thin + 0.1 * g.au17, 0.25)
  g.lift = 0.065 * g.au9  # of the upper lip
  g.chin = g.chin_y + 0.13 * g.au26 - 0.025 * g.au17
  g.mouth_shift = 0.05 * g.sin_yaw


def landmarks(g: SimpleNamespace) -> np.ndarray:
  """Both eyes, the tip of the nose, both corners of the mouth, as painted on the unturned face: [N,
  5, 2] (x, y).
  """
  zero = np.zeros_like(g.eye_x)
  tilt = g.asymmetry
  points = [
    (-g.eye_x, g.eye_y),
    (g.eye_x, g.eye_y),
    (g.nose_shift, g.nose_tip_y),
    (g.mouth_shift - g.mouth_half, g.mouth_y + g.corner - tilt),
    (g.mouth_shift + g.mouth_half, g.mouth_y + g.corner + tilt),
  ]
  return np.stack([np.concatenate([x + zero, y + zero], axis=2)[:, 0] for x, y in points], axis=1)


def unturn(x: np.ndarray, y: np.ndarray, g: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
  """Where a point of the picture (roll taken away) lies on the unturned face: the ellipsoid turned
  back.
  """
  across, along = x / RADIUS_X, y / RADIUS_Y
  depth = np.sqrt(np.maximum(1.0 - across**2 - along**2, 0.0))
  turned = across * g.cos_yaw - depth * g.sin_yaw
  depth = across * g.sin_yaw + depth * g.cos_yaw
  return RADIUS_X * turned, RADIUS_Y * (along * g.cos_pitch - depth * g.sin_pitch)


def turn(points: np.ndarray, g: SimpleNamespace) -> np.ndarray:
  """Where points of the unturned face ([N, K, 2]) are seen: the inverse of `unturn`, for points on
  the near side.
  """
  sin_yaw, cos_yaw, sin_pitch, cos_pitch = (
    a[:, 0] for a in (g.sin_yaw, g.cos_yaw, g.sin_pitch, g.cos_pitch)
  )
  across, along = points[..., 0] / RADIUS_X, points[..., 1] / RADIUS_Y
  depth = np.sqrt(np.maximum(1.0 - across**2 - along**2, 0.0))
  back = depth * cos_pitch - along * sin_pitch
  along = along * cos_pitch + depth * sin_pitch
  return np.stack([RADIUS_X * (across * cos_yaw + back * sin_yaw), RADIUS_Y * along], axis=-1)
