"""Clips of drawn faces whose expression comes and goes while head and light move, and stills to
train a network on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtface.data.sources import Source
from tfds_builders.synthetic_faces import population, render
from tfds_builders.synthetic_faces.draws import Draws

EMOTIONS = ('angry', 'happy', 'surprise')
_HIDING = ('occluder', 'sunglasses', 'jpeg', 'blur')


def expressive(
  draws: Draws, emotions: Sequence[str], strength: np.ndarray
) -> population.Parameters:
  """Parameters of people who show just the usual action units of an emotion, [N] names, with a
  strength [N] from 0 to 1.
  """
  parameters = population.sample(draws, 'people')
  for unit in population.ACTION_UNITS:
    shown = [population.PROTOTYPES[emotion].get(unit, 0.0) > 0.5 for emotion in emotions]
    parameters[f'au{unit}'] = (strength * shown).astype(np.float32)
  return parameters | {name: np.zeros_like(parameters[name]) for name in _HIDING}


def stills(split: str, size: int, side: int) -> Source:
  """`size` grey faces [side, side, 1] labelled `emotion7`; nobody in them is in a clip."""
  draws = Draws(0, 'stills', split, range(size))
  emotions = [EMOTIONS[i % len(EMOTIONS)] for i in range(size)]
  images, _ = render.render(expressive(draws, emotions, draws.uniform('strength', 0.4, 1.0)), side)
  labels = np.array([population.EMOTIONS.index(emotion) for emotion in emotions], np.int32)
  ids = np.array([f'{split}_{i:05d}' for i in range(size)])
  return Source(
    split, images, np.arange(size), ids, {'emotion7': labels}, {'emotion7': np.ones(size, bool)}
  )


def moving_face(emotion: str, person: int, frames: int, side: int) -> np.ndarray:
  """RGB uint8 [frames, side, side, 3]: one person, whose neutral face takes on an expression and
  loses it again.
  """
  time = np.linspace(0, 1, frames, dtype=np.float32)
  strength = np.sin(np.pi * time) if frames > 1 else np.ones(1)
  parameters = expressive(
    Draws(1, 'clips', emotion, [person] * frames), [emotion] * frames, strength
  )
  phase = 0.7 * person
  parameters['yaw'] = (12 * np.sin(2 * np.pi * time + phase)).astype(np.float32)
  parameters['pitch'] = (5 * np.cos(3 * time + phase)).astype(np.float32)
  parameters['light_angle'] = (np.pi * np.sin(2 * time + phase)).astype(np.float32)
  return render.render(parameters, side, channels=3)[0]


def in_a_scene(faces: Sequence[np.ndarray], height: int = 120) -> np.ndarray:
  """RGB uint8 [frames, height, W, 3]: clips of faces side by side in front of a grey wall."""
  frames, side = faces[0].shape[:2]
  width = 40 + len(faces) * (side + 20)
  wall = np.linspace(60, 120, width, dtype=np.float32)[None, None, :, None]
  scene = np.broadcast_to(wall, (frames, height, width, 3)).astype(np.uint8)
  for place, clip in enumerate(faces):
    left = 30 + place * (side + 20)
    scene[:, 10 : 10 + side, left : left + side] = clip
  return scene
