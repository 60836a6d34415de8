"""Random crop, flip and rotation of a batch of faces, on the device, inside the training step.

The three are composed into one map of coordinates and read with one bilinear interpolation, so an
image is blurred once and costs four reads a pixel. Every sample is treated by itself: on a mesh
whose `data` axis splits the batch nothing is sent between devices.

A sample's augmentation is a function of (key, position) alone, where position is the sample's place
in the global stream of training. How the stream is cut into batches, which device or host a sample
lands on and a restart change nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mtface.config.schema import options_of
from mtface.config.tables import AUGMENTATIONS


class Parameters(NamedTuple):
  """What was drawn for each of B samples.

  Attributes:
    shift: int32 [B, 2], (down, right): where in the padded image the crop begins, counted from its
      middle.
    flip: bool [B], left and right exchanged.
    angle: float32 [B], radians, counter-clockwise as seen on a screen.
  """

  shift: jax.Array
  flip: jax.Array
  angle: jax.Array


def make_augment(config: ConfigDict) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
  """The augmentation that `config.augment` names: (images, positions, key) -> images."""
  entry = AUGMENTATIONS.entry(config.name, 'config.augment.name')
  return functools.partial(entry.load(), **options_of(config, entry))


def augment(
  images: jax.Array, positions: jax.Array, key: jax.Array, *, pad: int, flip: bool, rotate: float
) -> jax.Array:
  """Returns augmented images, float32 [B, H, W, C] in 0..255 (Sang 2017, section 3.6).

  Args:
    images: uint8 [B, H, W, C].
    positions: uint32 [B], each sample's place in the global stream.
    key: a JAX random key, the same for the whole run.
    pad: pixels; the image is padded by this many on each side and cropped back at a random place.
      0: off.
    flip: exchange left and right of every other sample, at random.
    rotate: degrees; each sample turns about the crop's centre by an angle drawn from [-rotate,
      rotate]. 0: off.

  What lies outside the image takes its nearest edge pixel. With rotate 0 pixels stay whole numbers,
  and with all three off the image comes back exactly.
  """
  return warp(images, draw_parameters(positions, key, pad=pad, flip=flip, rotate=rotate))


def draw_parameters(
  positions: jax.Array, key: jax.Array, *, pad: int, flip: bool, rotate: float
) -> Parameters:
  """Draws each sample's parameters from (key, position); switching one off leaves the other two as
  they are.
  """

  def draw(position: jax.Array) -> Parameters:
    shift_key, flip_key, angle_key = jax.random.split(jax.random.fold_in(key, position), 3)
    return Parameters(
      shift=jax.random.randint(shift_key, (2,), -pad, pad + 1),
      flip=jax.random.bernoulli(flip_key) & flip,
      angle=jnp.deg2rad(rotate) * jax.random.uniform(angle_key, minval=-1.0, maxval=1.0),
    )

  return jax.vmap(draw)(positions)


def warp(images: jax.Array, parameters: Parameters) -> jax.Array:
  """Crops, then flips, then rotates images [B, H, W, C] as `parameters` say; float32, the same
  shape.
  """
  return jax.vmap(_warp_one)(images, parameters)


def _warp_one(image: jax.Array, parameters: Parameters) -> jax.Array:
  height, width, channels = image.shape
  y, x = _source_coordinates(height, width, parameters)
  top, left = jnp.floor(y), jnp.floor(x)
  down, right = (
    (y - top)[..., None],
    (x - left)[..., None],
  )  # weights of the lower and of the right pixel
  top, left = top.astype(jnp.int32), left.astype(jnp.int32)
  bottom, beside = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
  pixels = image.reshape(height * width, channels)

  def read(row: jax.Array, column: jax.Array) -> jax.Array:
    # The coordinates are clipped already; a second check would cost as much as the reads.
    return pixels.at[row * width + column].get(mode='promise_in_bounds').astype(jnp.float32)

  upper = read(top, left) * (1 - right) + read(top, beside) * right
  lower = read(bottom, left) * (1 - right) + read(bottom, beside) * right
  return upper * (1 - down) + lower * down


def _source_coordinates(
  height: int, width: int, parameters: Parameters
) -> tuple[jax.Array, jax.Array]:
  """Where in the source each pixel of the result comes from, (y, x) float32 [H, W], within the
  source.

  The chain runs backwards: a pixel of the result is turned back, then flipped back, then moved to
  the crop's place. Distances are counted from the centre, (H - 1) / 2, which float32 holds exactly,
  as it does whole shifts.
  """
  centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
  y = jnp.arange(height, dtype=jnp.float32)[:, None] - centre_y
  x = jnp.arange(width, dtype=jnp.float32)[None, :] - centre_x
  cosine, sine = jnp.cos(parameters.angle), jnp.sin(parameters.angle)
  source_y = cosine * y + sine * x
  source_x = cosine * x - sine * y
  source_x = jnp.where(parameters.flip, -source_x, source_x)
  return (
    jnp.clip(source_y + centre_y + parameters.shift[0], 0, height - 1),
    jnp.clip(source_x + centre_x + parameters.shift[1], 0, width - 1),
  )
