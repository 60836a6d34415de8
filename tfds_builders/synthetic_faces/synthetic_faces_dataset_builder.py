"""Synthetic faces: partly labelled sources, drawn by the renderer in this folder. See
README.md in this folder.

A number behind a config's name asks for as many faces, nine of ten of them for training:
`people_rgb224_300000`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors
from tfds_builders import base
from tfds_builders.synthetic_faces import population, render
from tfds_builders.synthetic_faces.draws import Draws

SEED = 0  # of version 1.0.0; another seed is another set
BLOCK = 32  # faces that a worker draws at a time
_NUMBERED = re.compile(r'(?P<config>.+)_(?P<faces>\d+)')

# What each source labels, and how many faces it has. The sizes are unequal on purpose: sources are,
# in this field.
SOURCES: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
  'smile': (('smile',), {'train': 1500, 'test': 600}),
  'emotion': (('emotion7',), {'train': 6000, 'test': 1200}),
  'people': (('gender', 'age_years', 'age_group'), {'train': 3500, 'test': 800}),
  'units': (('action_units',), {'train': 6000, 'test': 1200}),
  'compound': (('compound8',), {'train': 400, 'test': 1600}),
}

# Kept for audits, under `attributes`, whatever the source labels.
_TRUTHS = ('smile', 'emotion7', 'gender', 'age_years', 'age_group')
_NUISANCES = (
  *(
    'yaw',
    'pitch',
    'roll',
    'face_size',
    'light_angle',
    'light_slant',
    'ambient',
    'exposure',
    'blur',
    'noise',
    'contrast',
  ),
  *('melanin', 'glasses', 'sunglasses', 'occluder', 'beard', 'make_up', 'hair_len', 'bald', 'grey'),
)


@dataclasses.dataclass(eq=False)
class SyntheticConfig(base.FaceConfig):
  """One source in one form."""

  source: str = 'smile'
  total: int | None = None  # faces of both splits; None: as many as `SOURCES` says

  @property
  def faces(self) -> dict[str, int]:
    """Number of faces by split."""
    if self.total is None:
      return SOURCES[self.source][1]
    return {'train': self.total - self.total // 10, 'test': self.total // 10}


def _configs() -> list[SyntheticConfig]:
  forms = (base.gray48(), base.rgb32(), base.rgb224())
  return [
    SyntheticConfig(
      name=f'{source}_{form.name}',
      description=f'labelled for {", ".join(labelled)}; {form.description}',
      size=form.size,
      channels=form.channels,
      encoded=form.encoded,
      source=source,
    )
    for form in forms
    for source, (labelled, _) in SOURCES.items()
  ]


class Builder(base.FaceBuilder):
  """Draws the faces of one source; nothing is read or downloaded."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = _configs()
  NEEDS_FILES = False
  HAS_LANDMARKS = True
  DIGEST_OF = 'nothing: every face is drawn from numbers of its own'
  PART_SIZE = 8  # blocks

  @classmethod
  def unlisted_config(cls, name: str) -> SyntheticConfig | None:
    """Returns the config of a name such as `people_rgb224_300000`, of as many faces; None if it is
    no such name.
    """
    found = _NUMBERED.fullmatch(name)
    listed = cls.builder_configs.get(found['config']) if found else None
    if not found or listed is None:
      return None
    if int(found['faces']) < 10:
      raise errors.UserError(f'synthetic_faces/{name}: expected at least 10 faces')
    return dataclasses.replace(listed, name=name, total=int(found['faces']))

  @classmethod
  def unlisted_names(cls) -> str:
    """Returns what the names of configs on demand look like."""
    return 'any of these with a number of faces, such as people_rgb224_300000'

  @property
  def RESUMABLE(self) -> bool:  # type: ignore[override]
    """Whether parts are kept: where so many faces are asked for that drawing them takes long."""
    return self.builder_config.total is not None

  @property
  def TASKS(self) -> tuple[str, ...]:  # type: ignore[override]
    """Names of the tasks that this config's source labels."""
    return SOURCES[self.builder_config.source][0]

  def items(self, source: Any) -> dict[str, Sequence[tuple[str, int, int]]]:
    """Returns blocks of faces: (split, first, last + 1)."""
    return {split: _blocks(split, total) for split, total in self.builder_config.faces.items()}

  def images_in(self, item: Any) -> int:
    """Returns how many faces a block has."""
    return item[2] - item[1]

  def converter(self) -> Callable[[tuple[str, int, int]], Iterable[base.Face]]:
    """Returns the function that draws the faces of a block."""
    config = self.builder_config
    return functools.partial(
      draw_block, source=config.source, size=config.size, channels=config.channels
    )

  def attributes(self) -> dict[str, Any]:
    """Returns the features of the ground truth: every label, the action units' intensities, pose,
    light and the rest.
    """
    features: dict[str, Any] = {name: tfds.features.Scalar(np.int64) for name in _TRUTHS}
    features |= {name: tfds.features.Scalar(np.float32) for name in _NUISANCES}
    return features | {
      'au_intensities': tfds.features.Tensor(
        shape=(len(population.ACTION_UNITS),), dtype=np.float32
      )
    }


def _blocks(split: str, total: int) -> list[tuple[str, int, int]]:
  return [(split, start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]


def draw_block(
  block: tuple[str, int, int], *, source: str, size: int, channels: int
) -> list[base.Face]:
  """Draws the faces `first` ... `stop - 1` of (split, first, stop) of a source, with its labels and
  the ground truth.
  """
  split, first, stop = block
  draws = Draws(SEED, source, split, range(first, stop))
  parameters = population.sample(draws, source)
  images, landmarks = render.render(parameters, size, channels)
  truth = population.labels(parameters)
  intensities = np.stack([parameters[f'au{unit}'] for unit in population.ACTION_UNITS], axis=1)
  return [
    base.Face(
      image_id=f'{source}-{split}-{first + n:05d}',
      image=images[n],
      labels={task: truth[task][n] for task in SOURCES[source][0]},
      landmarks=landmarks[n],
      attributes={
        **{name: truth[name][n] for name in _TRUTHS},
        **{name: np.float32(parameters[name][n]) for name in _NUISANCES},
        'au_intensities': intensities[n],
      },
    )
    for n in range(stop - first)
  ]
