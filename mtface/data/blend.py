"""Blends of two samples of a batch, on the device, inside the training step: mixup (Zhang et al.
2018) and cutmix (Yun et al. 2019).

The loss of a blend is that of each of its two labels, by its share: what both papers' mixed labels
come to for every loss that is linear in them, and the same for tasks of which only one of the two
is labelled. Partners are neighbours in the batch, 2k and 2k + 1, whose order the mixture has drawn
at random; so nothing is sent between devices. What is drawn follows from the position of a pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

NONE, MIXUP, CUTMIX = BLENDS = ('none', 'mixup', 'cutmix')

# (images [B, H, W, C], positions [B], key) -> (images, share of each image's own label [B])
Blend = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def make_blend(config: ConfigDict) -> Blend | None:
  """What `config.blend` asks for; None if that is nothing."""
  if config.name == NONE:
    return None
  blend = {MIXUP: mixup, CUTMIX: cutmix}[config.name]
  return lambda images, positions, key: blend(images, draw_shares(positions, key, config.alpha))


def partners(batch: Any) -> Any:
  """A pytree of arrays [B, ...] with neighbours exchanged, B even."""
  return jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape), batch)


def draw_shares(positions: jax.Array, key: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
  """(share of each image's own pixels float32 [B], where a box lies uniform [B, 2]); both are the
  same for the two of a pair.

  The share is Beta(alpha, alpha), or 1 minus it if that is more: its own label is the larger part
  of each of the two, which is what accuracies in training are of.
  """

  def draw(position: jax.Array) -> tuple[jax.Array, jax.Array]:
    share_key, place_key = jax.random.split(jax.random.fold_in(key, position))
    share = jax.random.beta(share_key, alpha, alpha)
    return jnp.maximum(share, 1 - share), jax.random.uniform(place_key, (2,))

  return jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), jax.vmap(draw)(positions[::2]))


def mixup(images: jax.Array, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
  """share * own + (1 - share) * partner, pixel by pixel."""
  share = drawn[0]
  weight = share[:, None, None, None]
  return weight * images + (1 - weight) * partners(images), share


def cutmix(images: jax.Array, drawn: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
  """A rectangle of the image's own shape, 1 - share of its area, is the partner's; the share that
  is returned is that of whole pixels.
  """
  share, place = drawn
  _, height, width, _ = images.shape
  side = jnp.sqrt(1 - share)
  down, right = jnp.round(height * side), jnp.round(width * side)
  top = jnp.floor(place[:, 0] * (height - down + 1))
  left = jnp.floor(place[:, 1] * (width - right + 1))
  y, x = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]

  def between(at: jax.Array, first: jax.Array, size: jax.Array) -> jax.Array:
    return (at >= first[:, None, None]) & (at < (first + size)[:, None, None])

  inside = between(y, top, down) & between(x, left, right)
  blended = jnp.where(inside[..., None], partners(images), images)
  return blended, 1 - down * right / (height * width)
