"""Views of a face, whose scores are averaged ("test-time augmentation"): the selections `last:flip`
and `last:ten`.

flip: the face and its mirror image. ten: both, each also moved by a twelfth of the image to the
four corners (Krizhevsky et al. 2012, section 4.1: five crops and their reflections). A view costs
as much as a network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mtface.errors import UserError

View = Callable[[jax.Array], jax.Array]  # uint8 [B, H, W, C] -> the same shape
KINDS = ('flip', 'ten')
_SHIFT = 12  # a corner is this part of the image away


def views(kind: str) -> Sequence[View]:
  """The views of a kind; of '', the images themselves."""
  if not kind:
    return (lambda images: images,)
  if kind == 'flip':
    return tuple(_view(0, 0, flip) for flip in (False, True))
  places = ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
  return tuple(_view(down, right, flip) for down, right in places for flip in (False, True))


def _view(down: int, right: int, flip: bool) -> View:
  @jax.jit
  def seen(images: jax.Array) -> jax.Array:
    _, height, width, _ = images.shape
    y, x = height // _SHIFT, width // _SHIFT
    if down or right:  # what lies outside takes its nearest edge pixel, as in training
      padded = jnp.pad(images, ((0, 0), (y, y), (x, x), (0, 0)), mode='edge')
      top, left = y + down * y, x + right * x
      images = padded[:, top : top + height, left : left + width]
    return images[:, :, ::-1] if flip else images

  return seen


def without_views(text: str, kind: str, why: str) -> None:
  """Raises a `UserError` if a selection, `--checkpoint=text`, asks for views; `why` is what cannot
  have any.
  """
  if kind:
    raise UserError(f'--checkpoint={text}: {why}; leave :{kind} out')
