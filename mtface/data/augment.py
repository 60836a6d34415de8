"""Random changes of a batch of faces, on the device, inside the training step: crop, flip,
rotation and size; light; boxes that are painted over.

What moves pixels is composed into one map of coordinates and read with one bilinear interpolation,
so an image is blurred once and costs four reads a pixel. Every sample is treated by itself: on a
mesh whose `data` axis splits the batch nothing is sent between devices.

A sample's augmentation is a function of (key, position) alone, where position is the sample's place
in the global stream of training. How the stream is cut into batches, which device or host a sample
lands on and a restart change nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
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
    scale: float32 [B, 2], how much larger the face becomes, (down, right).
  """

  shift: jax.Array
  flip: jax.Array
  angle: jax.Array
  scale: jax.Array


class Light(NamedTuple):
  """float32 [B] each: what every pixel gains, and the factor on its distance from the mean."""

  gain: jax.Array
  factor: jax.Array


class Box(NamedTuple):
  """A rectangle of each of B images, float32 [B] each: [top, bottom) and [left, right) in pixels,
  and the value that its pixels get; an empty one changes nothing.
  """

  top: jax.Array
  bottom: jax.Array
  left: jax.Array
  right: jax.Array
  value: jax.Array


# Of a box that is erased: its share of the image, and width / height (Zhong et al. 2020, with a
# smaller largest share, since faces are small).
_SHARES, _RATIOS = (0.02, 0.25), (0.3, 3.3)
_ZOOM, _LIGHT, _BOX = 3, 4, 5  # streams of what a sample draws, beside the first three


def make_augment(config: ConfigDict) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
  """The augmentation that `config.augment` names: (images, positions, key) -> images."""
  entry = AUGMENTATIONS.entry(config.name, 'config.augment.name')
  return functools.partial(entry.load(), **options_of(config, entry))


def augment(
  images: jax.Array,
  positions: jax.Array,
  key: jax.Array,
  *,
  pad: int,
  flip: bool,
  rotate: float,
  zoom: float = 0.0,
  stretch: float = 0.0,
  brightness: float = 0.0,
  contrast: float = 0.0,
  erase: float = 0.0,
) -> jax.Array:
  """Returns augmented images, float32 [B, H, W, C] in 0..255 (Sang 2017, section 3.6: the first
  three).

  Args:
    images: uint8 [B, H, W, C].
    positions: uint32 [B], each sample's place in the global stream.
    key: a JAX random key, the same for the whole run.
    pad: pixels; the image is padded by this many on each side and cropped back at a random place.
      0: off.
    flip: exchange left and right of every other sample, at random.
    rotate: degrees; each sample turns about the crop's centre by an angle drawn from [-rotate,
      rotate]. 0: off.
    zoom: each sample becomes larger by a factor whose logarithm is drawn from [-log(1 + zoom),
      log(1 + zoom)]. 0: off.
    stretch: and wider by such a factor, lower by its inverse. 0: off.
    brightness: each sample gains a share of 255 drawn from [-brightness, brightness]. 0: off.
    contrast: distances from a sample's mean are multiplied by 1 and a number drawn from [-contrast,
      contrast]. 0: off.
    erase: share of the samples in which a rectangle is painted over (Zhong et al. 2020). 0: off.

  What lies outside the image takes its nearest edge pixel. Without rotation, zoom and stretch
  pixels stay whole numbers, and with all off the image comes back exactly.
  """
  moves = draw_parameters(
    positions, key, pad=pad, flip=flip, rotate=rotate, zoom=zoom, stretch=stretch
  )
  result = warp(images, moves)
  if brightness or contrast:
    result = relit(result, draw_light(positions, key, brightness=brightness, contrast=contrast))
  if erase:
    result = painted(result, draw_boxes(positions, key, images.shape[1:3], erase=erase))
  return result


def draw_parameters(
  positions: jax.Array,
  key: jax.Array,
  *,
  pad: int,
  flip: bool,
  rotate: float,
  zoom: float = 0.0,
  stretch: float = 0.0,
) -> Parameters:
  """Draws each sample's parameters from (key, position); switching one off leaves the others as
  they are.
  """

  def draw(position: jax.Array) -> Parameters:
    own = jax.random.fold_in(key, position)
    shift_key, flip_key, angle_key = jax.random.split(own, 3)
    even = jax.random.uniform(jax.random.fold_in(own, _ZOOM), (2,), minval=-1.0, maxval=1.0)
    larger, wider = jnp.log1p(zoom) * even[0], jnp.log1p(stretch) * even[1]
    return Parameters(
      shift=jax.random.randint(shift_key, (2,), -pad, pad + 1),
      flip=jax.random.bernoulli(flip_key) & flip,
      angle=jnp.deg2rad(rotate) * jax.random.uniform(angle_key, minval=-1.0, maxval=1.0),
      scale=jnp.exp(jnp.stack([larger - wider, larger + wider])),
    )

  return jax.vmap(draw)(positions)


def draw_light(
  positions: jax.Array, key: jax.Array, *, brightness: float, contrast: float
) -> Light:
  """Draws each sample's light from (key, position)."""

  def draw(position: jax.Array) -> Light:
    own = jax.random.fold_in(jax.random.fold_in(key, position), _LIGHT)
    even = jax.random.uniform(own, (2,), minval=-1.0, maxval=1.0)
    return Light(255 * brightness * even[0], 1 + contrast * even[1])

  return jax.vmap(draw)(positions)


def draw_boxes(positions: jax.Array, key: jax.Array, shape: Sequence[int], *, erase: float) -> Box:
  """Draws each sample's box from (key, position), within images of `shape` (H, W)."""
  height, width = shape

  def draw(position: jax.Array) -> Box:
    own = jax.random.fold_in(jax.random.fold_in(key, position), _BOX)
    u = jax.random.uniform(own, (6,))
    area = height * width * (_SHARES[0] + u[0] * (_SHARES[1] - _SHARES[0]))
    ratio = jnp.exp(jnp.log(_RATIOS[0]) + u[1] * jnp.log(_RATIOS[1] / _RATIOS[0]))
    down = jnp.clip(jnp.round(jnp.sqrt(area / ratio)), 1, height)
    right = jnp.clip(jnp.round(jnp.sqrt(area * ratio)), 1, width)
    top, left = jnp.floor(u[2] * (height - down + 1)), jnp.floor(u[3] * (width - right + 1))
    down = jnp.where(u[4] < erase, down, 0.0)
    return Box(top, top + down, left, left + right, jnp.floor(256 * u[5]))

  return jax.vmap(draw)(positions)


def relit(images: jax.Array, light: Light) -> jax.Array:
  """Images [B, H, W, C] in another light, within 0..255."""
  gain, factor = (x[:, None, None, None] for x in light)
  mean = jnp.mean(images, (1, 2, 3), keepdims=True)
  return jnp.clip(mean + (images - mean) * factor + gain, 0, 255)


def painted(images: jax.Array, box: Box) -> jax.Array:
  """Images [B, H, W, C] with a box of each in one colour."""
  _, height, width, _ = images.shape
  top, bottom, left, right, value = (x[:, None, None] for x in box)
  y, x = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
  inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
  return jnp.where(inside[..., None], value[..., None], images)


def warp(images: jax.Array, parameters: Parameters) -> jax.Array:
  """Crops, then flips, then scales, then rotates images [B, H, W, C] as `parameters` say; float32,
  the same shape.
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

  The chain runs backwards: a pixel of the result is turned back, then brought to its own size, then
  flipped back, then moved to the crop's place. Distances are counted from the centre, (H - 1) / 2,
  which float32 holds exactly, as it does whole shifts.
  """
  centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
  y = jnp.arange(height, dtype=jnp.float32)[:, None] - centre_y
  x = jnp.arange(width, dtype=jnp.float32)[None, :] - centre_x
  cosine, sine = jnp.cos(parameters.angle), jnp.sin(parameters.angle)
  source_y = (cosine * y + sine * x) / parameters.scale[0]
  source_x = (cosine * x - sine * y) / parameters.scale[1]
  source_x = jnp.where(parameters.flip, -source_x, source_x)
  return (
    jnp.clip(source_y + centre_y + parameters.shift[0], 0, height - 1),
    jnp.clip(source_x + centre_x + parameters.shift[1], 0, width - 1),
  )
