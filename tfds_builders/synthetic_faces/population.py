"""Who is in the pictures: draws the parameters of faces, from which the labels follow exactly.

A face is a column of numbers: `sample` returns a dict of arrays with one value a face, which
`render.render` draws and `labels` reads. Lengths are in face units (half a head is about 0.95 wide,
the eyes lie at y = 0, the chin at y = 1.32, y points down); action units and strengths run from 0
to 1.
"""

from __future__ import annotations

import numpy as np

from mtface import tasks
from tfds_builders.synthetic_faces.draws import Draws

Parameters = dict[str, np.ndarray]

EMOTIONS = tasks.get_task('emotion7').classes
COMPOUND = tasks.get_task('compound8').classes
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 17, 20, 23, 25, 26)
SMILE_THRESHOLD = 0.3  # AU12 from here on is labelled as a smile

# How often an action unit takes part in an emotion. The sets are EMFACS's (Friesen & Ekman 1983),
# as Ekman, Friesen & Hager 2002 list them; the frequencies are ours, chosen so that the emotions
# overlap as they do in photographs.
PROTOTYPES: dict[str, dict[int, float]] = {
  'angry': {4: 0.97, 5: 0.35, 7: 0.9, 23: 0.9, 17: 0.3, 25: 0.15},
  'disgust': {9: 0.97, 15: 0.5, 17: 0.45, 4: 0.3, 25: 0.15},
  'fear': {1: 0.95, 2: 0.85, 4: 0.75, 5: 0.9, 20: 0.9, 25: 0.6, 26: 0.45},
  'happy': {12: 1.0, 6: 0.85, 25: 0.55, 26: 0.12},
  'sad': {1: 0.93, 4: 0.7, 15: 0.95, 17: 0.5},
  'surprise': {1: 0.95, 2: 0.95, 5: 0.8, 25: 0.85, 26: 0.9},
  'neutral': {},
}
# The two emotions of a compound one; its units are those of either (Du, Tao & Martinez 2014).
PARENTS: dict[str, tuple[str, str]] = {
  'angrily_disgusted': ('angry', 'disgust'),
  'angrily_surprised': ('angry', 'surprise'),
  'fearfully_angry': ('fear', 'angry'),
  'fearfully_surprised': ('fear', 'surprise'),
  'happily_disgusted': ('happy', 'disgust'),
  'happily_surprised': ('happy', 'surprise'),
  'sadly_angry': ('sad', 'angry'),
  'sadly_disgusted': ('sad', 'disgust'),
}
EXTRA_UNIT = 0.015  # how often a unit that is not in the emotion's set moves as well

# Emotions (in the order of EMOTIONS, then COMPOUND) and age groups of each source.
EMOTION_MIX: dict[str, tuple[float, ...]] = {
  'smile': (0.09, 0.06, 0.06, 0.47, 0.09, 0.08, 0.15),
  'emotion': (0.15, 0.11, 0.13, 0.18, 0.15, 0.13, 0.15),
  'people': (0.06, 0.04, 0.04, 0.30, 0.08, 0.06, 0.42),
  'units': (0.12, 0.10, 0.11, 0.17, 0.12, 0.11, 0.11, *[0.02] * 8),
  'compound': (0.0,) * 7 + (0.125,) * 8,
}
AGE_MIX: dict[str, tuple[float, ...]] = {
  'smile': (0.12, 0.24, 0.24, 0.17, 0.13, 0.10),
  'emotion': (0.15, 0.20, 0.22, 0.17, 0.14, 0.12),
  'people': (0.18, 0.16, 0.18, 0.16, 0.17, 0.15),
  'units': (0.15, 0.20, 0.22, 0.17, 0.14, 0.12),
  'compound': (0.15, 0.20, 0.22, 0.17, 0.14, 0.12),
}
_AGE_EDGES = (1, *(bound + 1 for bound in tasks.AGE_GROUP_BOUNDS), 91)

# Anchors of skin colour by melanin 0, 1/3, 2/3, 1, and of hair colours: black, brown, chestnut,
# blond, red.
_SKIN = np.array([[0.95, 0.81, 0.73], [0.84, 0.66, 0.53], [0.60, 0.43, 0.32], [0.33, 0.22, 0.17]])
_HAIR = np.array(
  [
    [0.09, 0.08, 0.08],
    [0.22, 0.15, 0.11],
    [0.36, 0.24, 0.15],
    [0.72, 0.58, 0.36],
    [0.50, 0.25, 0.13],
  ]
)
_GREY_HAIR = np.array([0.78, 0.77, 0.76])
_IRIS = np.array([[0.20, 0.12, 0.08], [0.33, 0.22, 0.12], [0.30, 0.36, 0.22], [0.30, 0.43, 0.55]])


def sample(draws: Draws, source: str) -> Parameters:
  """Returns the parameters of the faces of `draws`, drawn as the source ('smile', 'emotion' or
  'people') has them.
  """
  p: Parameters = {'noise_key': draws.bits('noise_key')}
  _who(draws, source, p)
  _expression(draws, p)
  _skull(draws, p)
  _eyes_and_brows(draws, p)
  _nose_and_mouth(draws, p)
  _signs_of_age(draws, p)
  _colours(draws, p)
  _hair(draws, p)
  _extras(draws, p)
  _pose_and_light(draws, p)
  _camera(draws, p)
  return {name: _narrow(values) for name, values in p.items()}


def labels(p: Parameters) -> dict[str, np.ndarray]:
  """Returns the ground truth by task: int64 [N], and [N, 11] for action_units (present from an
  intensity of 0.2). Of emotion7 and compound8, one is -1.
  """
  units = [int(name.removeprefix('AU')) for name in tasks.get_task('action_units').classes]
  return {
    'smile': (p['au12'] >= np.float32(SMILE_THRESHOLD)).astype(np.int64),
    'emotion7': np.where(p['emotion'] < len(EMOTIONS), p['emotion'], -1).astype(np.int64),
    'compound8': np.maximum(p['emotion'].astype(np.int64) - len(EMOTIONS), -1),
    'gender': p['male'].astype(np.int64),
    'age_years': p['age'].astype(np.int64),
    'age_group': np.array([tasks.age_to_group(age) for age in p['age']], np.int64),
    'action_units': np.stack([p[f'au{unit}'] >= np.float32(0.2) for unit in units], axis=1).astype(
      np.int64
    ),
  }


def _narrow(values: np.ndarray) -> np.ndarray:
  return values.astype(np.float32) if values.dtype in (np.float64, np.bool_) else values


def _who(draws: Draws, source: str, p: Parameters) -> None:
  group = draws.choice('age_group', AGE_MIX[source])
  edges = np.array(_AGE_EDGES)
  p['age'] = np.floor(draws.uniform('age_in_group', edges[group], edges[group + 1]))
  p['male'] = draws.chance('male', 0.5).astype(np.int64)
  p['emotion'] = draws.choice('emotion', EMOTION_MIX[source])
  p['child'] = np.clip((21.0 - p['age']) / 19.0, 0.0, 1.0)
  # +1 male, -1 female, less in children: what sexual dimorphism multiplies.
  p['dimorphism'] = 1.6 * (2.0 * p['male'] - 1.0) * (1.0 - 0.6 * p['child'])


def _expression(draws: Draws, p: Parameters) -> None:
  """Action units: those of the emotion with one common strength, some left out, some foreign ones,
  a little of all.
  """
  strength = draws.uniform('expression', 0.65, 1.0)
  for unit in ACTION_UNITS:
    frequency = np.array([_frequency(unit, name) for name in (*EMOTIONS, *COMPOUND)])[p['emotion']]
    own = frequency > EXTRA_UNIT
    active = draws.chance(f'au{unit}_active', frequency)
    own_intensity = strength * draws.uniform(f'au{unit}_own', 0.85, 1.3)
    intensity = np.where(own, own_intensity, draws.uniform(f'au{unit}_extra', 0.2, 0.7))
    tremor = np.abs(draws.normal(f'au{unit}_tremor', 0.0, 0.04))
    p[f'au{unit}'] = np.clip(np.where(active, intensity, tremor), 0.0, 1.0)
  speaks = draws.chance('speaks', 0.1)
  p['au25'] = np.maximum(p['au25'], speaks * draws.uniform('speaks_how_much', 0.2, 0.8))
  p['au25'] = np.maximum(p['au25'], p['au26'])  # a dropped jaw parts the lips here


def _frequency(unit: int, emotion: str) -> float:
  """How often a unit moves in an emotion, basic or compound."""
  parents = PARENTS.get(emotion, (emotion,))
  return max(PROTOTYPES[parent].get(unit, EXTRA_UNIT) for parent in parents)


def _skull(draws: Draws, p: Parameters) -> None:
  child, sex = p['child'], p['dimorphism']
  p['head_w'] = draws.normal('head_w', 0.92, 0.03) + 0.03 * child + 0.008 * sex
  p['chin_y'] = draws.normal('chin_y', 1.29, 0.05) - 0.13 * child + 0.03 * sex
  p['top_y'] = draws.normal('top_y', -1.28, 0.04) - 0.02 * child
  p['jaw'] = (
    draws.normal('jaw', 2.35, 0.30) + 0.18 * sex - 0.15 * child
  )  # exponent of the outline: 2 round, 3 square
  p['ear'] = draws.normal('ear', 1.0, 0.12) + 0.004 * np.maximum(p['age'] - 30.0, 0.0)
  p['asymmetry'] = draws.normal('asymmetry', 0.0, 0.012)


def _eyes_and_brows(draws: Draws, p: Parameters) -> None:
  child, sex = p['child'], p['dimorphism']
  old = np.clip((p['age'] - 22.0) / 60.0, 0.0, 1.1)
  p['eye_x'] = draws.normal('eye_x', 0.395, 0.02) + 0.01 * child
  p['eye_y'] = draws.normal('eye_y', 0.0, 0.02) + 0.13 * child
  p['eye_w'] = draws.normal('eye_w', 0.215, 0.011) + 0.028 * child - 0.004 * sex
  p['eye_open'] = draws.normal('eye_open', 0.10, 0.008) + 0.024 * child - 0.005 * sex - 0.028 * old
  p['eye_tilt'] = draws.normal('eye_tilt', 0.012, 0.014) - 0.025 * old
  p['droop'] = np.clip(draws.normal('droop', 0.0, 0.12) + 0.5 * old, 0.0, 1.0)
  p['gaze_x'], p['gaze_y'] = draws.normal('gaze_x', 0.0, 0.03), draws.normal('gaze_y', 0.0, 0.012)
  p['blink'] = draws.chance('blink', 0.03) * draws.uniform('blink_how_far', 0.5, 0.95)
  p['brow_rise'] = (
    draws.normal('brow_rise', 0.265, 0.018) - 0.011 * sex - 0.035 * old + 0.015 * child
  )
  p['brow_thick'] = np.maximum(
    draws.normal('brow_thick', 0.058, 0.012) + 0.0075 * sex - 0.006 * child, 0.016
  )
  p['brow_arch'] = draws.normal('brow_arch', 0.035, 0.012) - 0.0075 * sex
  p['brow_dense'] = np.clip(
    draws.normal('brow_dense', 0.82, 0.10) + 0.06 * sex - 0.25 * child - 0.1 * old, 0.2, 1.0
  )


def _nose_and_mouth(draws: Draws, p: Parameters) -> None:
  child, sex = p['child'], p['dimorphism']
  old = np.clip((p['age'] - 22.0) / 60.0, 0.0, 1.1)
  p['nose_len'] = draws.normal('nose_len', 0.53, 0.02) - 0.11 * child + 0.008 * sex + 0.04 * old
  p['nose_w'] = draws.normal('nose_w', 0.165, 0.016) - 0.025 * child + 0.007 * sex + 0.012 * old
  p['nose_high'] = draws.normal('nose_high', 0.115, 0.018) - 0.04 * child
  p['mouth_drop'] = (
    draws.normal('mouth_drop', 0.285, 0.018) - 0.05 * child + 0.008 * sex
  )  # from the nose's foot
  p['mouth_w'] = draws.normal('mouth_w', 0.34, 0.022) - 0.045 * child
  p['mouth_curve'] = draws.normal('mouth_curve', 0.0, 0.010) + 0.015 * old
  p['lip_u'] = np.maximum(draws.normal('lip_u', 0.065, 0.011) - 0.007 * sex - 0.026 * old, 0.018)
  p['lip_l'] = np.maximum(draws.normal('lip_l', 0.088, 0.011) - 0.008 * sex - 0.030 * old, 0.028)


def _signs_of_age(draws: Draws, p: Parameters) -> None:
  """Each sign follows an apparent age of its own, years off the true one: age is never certain."""

  def sign(name: str, begin: float, end: float, years: float = 3.5) -> np.ndarray:
    apparent = p['age'] + draws.normal(f'{name}_years', 0.0, years)
    return np.clip((apparent - begin) / (end - begin), 0.0, 1.0)

  p['forehead_lines'] = sign('forehead_lines', 22, 72)
  p['crows_feet'] = sign('crows_feet', 24, 68)
  p['eye_bags'] = sign('eye_bags', 22, 75, 8.0)
  p['folds'] = sign('folds', 19, 68)
  p['frown_lines'] = sign('frown_lines', 30, 85, 8.0)
  p['jowls'] = sign('jowls', 38, 85)
  p['mottled'] = sign('mottled', 25, 85)
  p['grey'] = sign('grey', 32, 66, 7.0)
  p['receding'] = sign('receding', 24, 70, 12.0) * np.where(
    p['male'] == 1, draws.uniform('recedes', 0.0, 1.0), 0.12
  )


def _colours(draws: Draws, p: Parameters) -> None:
  melanin = draws.uniform('melanin') ** 1.2
  p['melanin'] = melanin
  place = melanin * (len(_SKIN) - 1)
  skin = np.stack([np.interp(place, range(len(_SKIN)), _SKIN[:, c]) for c in range(3)], axis=1)
  p['skin'] = skin * (
    1.0 + draws.normal('skin_tint', 0.0, 0.04)[:, None] * np.array([0.5, 0.0, -1.0])
  )
  fair = np.array([0.15, 0.30, 0.25, 0.22, 0.08])
  dark = np.array([0.85, 0.12, 0.03, 0.00, 0.00])
  share = np.clip(1.6 * melanin, 0.0, 1.0)[:, None]
  hair = _HAIR[draws.choice('hair_colour', (1.0 - share) * fair + share * dark)]
  p['brow_colour'] = (0.75 * hair + 0.03) * (1 - 0.4 * p['grey'][:, None]) + 0.4 * p['grey'][
    :, None
  ] * _GREY_HAIR
  dyed = draws.chance('dyed', np.where(p['male'] == 1, 0.08, 0.35))
  grey = (p['grey'] * ~dyed)[:, None]
  p['hair'] = (
    hair * (1 - grey) + grey * _GREY_HAIR * draws.uniform('grey_shade', 0.75, 1.05)[:, None]
  )
  light_eyes = (
    np.array([0.15, 0.3, 0.25, 0.3]) * (1.0 - share) + np.array([0.85, 0.15, 0.0, 0.0]) * share
  )
  p['iris'] = _IRIS[draws.choice('iris', light_eyes)]
  p['lip_red'] = draws.uniform('lip_red', 0.3, 0.7) - 0.15 * np.clip(
    (p['age'] - 35.0) / 50.0, 0.0, 1.0
  )


def _hair(draws: Draws, p: Parameters) -> None:
  """Length of the hair below the eyes' line, its volume, the hairline, a fringe; beards."""
  adult = p['age'] >= 18
  male = p['male'] == 1
  long = draws.chance('long_hair', np.where(male, 0.1, np.where(p['age'] > 60, 0.55, 0.78)))
  p['hair_len'] = np.where(
    long, draws.uniform('long_how', 0.8, 2.2), draws.uniform('short_how', -0.1, 0.45)
  )
  p['hair_vol'] = draws.uniform('hair_vol', 0.04, 0.22) + 0.10 * draws.chance('curly', 0.2)
  p['hairline'] = draws.normal('hairline', -0.84, 0.06)
  p['bald'] = draws.chance(
    'bald', np.where(male & (p['age'] > 25), 0.06 + 0.15 * p['receding'], 0.005)
  )
  p['fringe'] = draws.chance('fringe', np.where(male, 0.2, 0.33)) * draws.uniform(
    'fringe_how', 0.25, 0.5
  )
  p['fringe'] *= 1.0 - np.clip(2.0 * p['receding'], 0.0, 1.0)
  p['parting'] = draws.uniform('parting', -0.5, 0.5)
  p['strands'] = draws.uniform('strands', 0.2, 0.6)
  kind = draws.choice(
    'beard', (0.42, 0.26, 0.10, 0.13, 0.09)
  )  # none, stubble, moustache, full, goatee
  p['beard'] = np.where(male & adult, kind, 0)
  p['beard_dense'] = np.where(
    p['beard'] == 1, draws.uniform('stubble', 0.15, 0.4), draws.uniform('dense', 0.6, 0.95)
  )


def _extras(draws: Draws, p: Parameters) -> None:
  """Make-up, glasses, things in front of the face, clothes."""
  grown_woman = (p['male'] == 0) & (p['age'] >= 16)
  made_up = draws.chance('made_up', np.where(grown_woman, 0.6, 0.0))
  p['make_up'] = made_up * draws.uniform('make_up', 0.3, 1.0)
  p['glasses'] = draws.chance(
    'glasses', np.clip(0.10 + 0.004 * p['age'], 0.0, 0.4)
  ) * draws.uniform('frame', 0.4, 1.0)
  p['frame_w'], p['frame_h'] = (
    draws.uniform('frame_w', 0.25, 0.32),
    draws.uniform('frame_h', 0.16, 0.25),
  )
  p['frame_dark'] = draws.uniform('frame_dark', 0.02, 0.5)
  p['sunglasses'] = draws.chance('sunglasses', 0.012)
  p['glare'] = draws.chance('glare', 0.3) * draws.uniform('glare_how', 0.2, 0.7)
  p['occluder'] = draws.choice(
    'occluder', (0.82, 0.05, 0.03, 0.05, 0.05)
  )  # none, hand, scarf, hat, lock of hair
  p['occluder_side'] = np.where(draws.chance('occluder_side', 0.5), 1.0, -1.0)
  p['occluder_place'] = draws.uniform('occluder_place')
  p['cloth'] = np.stack([draws.uniform(f'cloth_{c}', 0.05, 0.9) for c in 'rgb'], axis=1)


def _pose_and_light(draws: Draws, p: Parameters) -> None:
  p['yaw'] = draws.normal(
    'yaw', 0.0, 10.0, 2.2
  )  # degrees; positive turns the face to the right of the picture
  p['pitch'] = draws.normal('pitch', 0.0, 6.0, 2.2)  # positive looks down
  p['roll'] = draws.normal('roll', 0.0, 7.0, 2.2)  # positive is clockwise in the picture
  p['light_angle'] = draws.uniform('light_angle', -np.pi, np.pi)
  p['light_slant'] = draws.uniform('light_slant', 0.2, 1.15)  # radians off the axis of the camera
  p['ambient'] = draws.uniform('ambient', 0.4, 0.85)
  # Cameras expose for the face, but not fully.
  face_luma = (p['skin'] @ np.array([0.299, 0.587, 0.114])) * (
    p['ambient'] + 0.8 * (1.0 - p['ambient'])
  )
  p['exposure'] = np.exp(draws.normal('exposure', 0.0, 0.18)) * (0.5 / face_luma) ** 0.55
  p['warmth'] = draws.normal('warmth', 0.0, 0.05)


def _camera(draws: Draws, p: Parameters) -> None:
  """Framing, sharpness, noise and tone. Lengths in shares of the picture's side."""
  p['face_size'] = draws.normal('face_size', 0.45, 0.022)  # of one face unit
  p['shift_x'], p['shift_y'] = (
    draws.normal('shift_x', 0.0, 0.018),
    draws.normal('shift_y', 0.0, 0.018),
  )
  p['blur'] = np.where(draws.chance('blurred', 0.25), draws.uniform('blur', 0.006, 0.018), 0.0)
  p['noise'] = draws.uniform('noise') ** 2 * 0.03
  p['gamma'] = np.exp(draws.normal('gamma', 0.0, 0.2))
  p['contrast'] = draws.uniform('contrast', 0.8, 1.2)
  p['brightness'] = draws.normal('brightness', 0.0, 0.06)
  p['jpeg'] = np.where(draws.chance('jpeg', 0.4), draws.uniform('jpeg_quality', 25.0, 90.0), 0.0)
  p['clutter'] = draws.uniform('clutter') ** 1.5
  p['stripe_angle'] = draws.uniform('stripe_angle', 0.0, np.pi)
  for layer in ('back', 'front'):
    grey = draws.uniform(f'{layer}drop', 0.05, 0.95)[:, None]
    p[f'{layer}drop'] = grey + 0.12 * np.stack(
      [draws.normal(f'{layer}drop_{c}') for c in 'rgb'], axis=1
    )
