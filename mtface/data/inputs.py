"""What a network is fed: sizes that must agree, and the scale of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from mtface.data.names import SourceName
from mtface.errors import UserError

if TYPE_CHECKING:  # which reads images: scaling them needs no such library
  from mtface.data.sources import Source


def scale_images(images: jax.Array) -> jax.Array:
  """Returns images of 0..255, uint8 or float, as float32 in [-1, 1]: what the networks take."""
  return images.astype(jnp.float32) / 127.5 - 1.0


def check_images(source: Source, image_shape: Sequence[int]) -> None:
  """Raises a `UserError` for a source whose images are not of `image_shape` (H, W, C); it names the
  configs of the set that are.
  """
  if source.image_shape == tuple(image_shape):
    return
  have, want = ('x'.join(map(str, shape)) for shape in (source.image_shape, image_shape))
  fitting = _configs_of(SourceName.parse(source.name).set_name, image_shape)
  what = (
    f'take {" or ".join(fitting)}' if fitting else f'no config of this set has images of {want}'
  )
  raise UserError(
    f'{source.name}: its images are {have}, config.image_shape says {want}; {what}, or change '
    'config.image_shape'
  )


def _configs_of(set_name: str, image_shape: Sequence[int]) -> list[str]:
  """The configs of a set that is built here, as SET/CONFIG, whose images are of a shape."""
  from mtface.data.build import (
    find_builder,
  )  # which imports TFDS, a second that only an error takes

  name = set_name.partition('/')[0]
  try:
    configs_there = find_builder(name)[0].builder_configs
  except UserError:
    return []
  shapes = {
    key: (config.size, config.size, config.channels) for key, config in configs_there.items()
  }
  return [f'{name}/{key}' for key, shape in shapes.items() if shape == tuple(image_shape)]
