"""BKNet (Sang 2017) and MBKNet (Rohani 2023): a small VGG-like trunk that all tasks share, and a
branch of dense layers for each task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.errors import UserError
from mtface.models.convolution import Make, scaled
from mtface.models.heads import INITS, Branch, all_scores, check_init
from mtface.models.layers import BatchNorm, Conv3x3, max_pool_2x2
from mtface.tasks import Task

BLOCKS = (
  (32, 32),
  (64, 64),
  (128, 128),
  (256, 256, 256),
)  # channels of each convolution; a pool after each block
BRANCH = (256, 256)
_POOLING = 2 ** len(BLOCKS)


class Block(nnx.Module):
  """Convolutions 3x3, each with batch normalisation and ReLU, then a 2x2 maximum pool: [B, H, W, C]
  -> [B, H//2, W//2, C'].
  """

  def __init__(
    self, channels: Sequence[int], in_channels: int, *, kernel_init, dtype, rngs: nnx.Rngs
  ):
    convolutions, norms = [], []
    for out_channels in channels:
      convolutions.append(
        Conv3x3(in_channels, out_channels, kernel_init=kernel_init, dtype=dtype, rngs=rngs)
      )
      norms.append(BatchNorm(out_channels, dtype=dtype, rngs=rngs))
      in_channels = out_channels
    self.convolutions, self.norms = nnx.List(convolutions), nnx.List(norms)

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    layers = list(zip(self.convolutions, self.norms, strict=True))
    for convolution, norm in layers:
      y, last = convolution.without_bias(x), norm is layers[-1][1]
      x = norm(y, train, activation='relu', pool=last, shift=convolution.bias[...])
    return x


class BKNet(nnx.Module):
  """Images float [B, H, W, C] in [-1, 1] -> {task: scores float32 [B, classes of the task]}.

  Four blocks and a branch a task (Sang 2017, section 3; digest: 2x32, 2x64, 2x128, 3x256 channels,
  FC 256 twice). With `join`, MBKNet (Rohani 2023, section 3.2): the first block's output is pooled
  to the last one's size and joined to it by channel.

  Args:
    tasks: one branch each, in this order.
    image_shape: (H, W, C) of the input in pixels; H and W at least 16, so that the four pools leave
      something.
    width: factor on all channel counts; 1 is the published network.
    join: MBKNet's join.
    dropout: rate after each hidden dense layer (published: 0.5).
    init: `gaussian` (published, std 0.01) or `he`.
    dtype: of the computation; parameters stay float32. None: float32.

  Raises:
    UserError: an image too small for the pools, or an unknown `init`.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    image_shape: tuple[int, int, int],
    *,
    rngs: nnx.Rngs,
    width: float,
    join: bool,
    dropout: float,
    init: str,
    dtype: jnp.dtype | None,
  ):
    height, breadth, channels = image_shape
    if min(height, breadth) < _POOLING:
      raise UserError(
        f'model bknet: images of {height}x{breadth} are too small for {len(BLOCKS)} pools; at '
        'least 16x16'
      )
    check_init(init)
    made: dict[str, Any] = {'kernel_init': INITS[init], 'dtype': dtype, 'rngs': rngs}
    blocks = []
    for block in BLOCKS:
      widths = [scaled(c, width) for c in block]
      blocks.append(Block(widths, channels, **made))
      channels = widths[-1]
    self.blocks = nnx.List(blocks)
    self.join = join
    joined = channels + (scaled(BLOCKS[0][-1], width) if join else 0)
    features = (height // _POOLING) * (breadth // _POOLING) * joined
    widths, make = [scaled(c, width) for c in BRANCH], Make(rngs, dtype)
    more: dict[str, Any] = {'widths': widths, 'dropout': dropout, 'kernel_init': INITS[init]}
    branches = {
      task.name: Branch(features, task.num_classes, make, unbiased=False, **more) for task in tasks
    }
    self.branches: Any = nnx.Dict(branches)

  def features(self, images: jax.Array, train: bool = False) -> jax.Array:
    """What the branches see: [B, H/16 * W/16 * C] (2304 for 48x48, 2592 with the join)."""
    x = early = self.blocks[0](images, train)
    for block in list(self.blocks)[1:]:
      x = block(x, train)
    if self.join:
      for _ in BLOCKS[1:]:
        early = max_pool_2x2(early)
      x = jnp.concatenate([x, early], axis=-1)
    return x.reshape(x.shape[0], -1)

  def __call__(
    self, images: jax.Array, train: bool = False, rngs: nnx.Rngs | None = None
  ) -> dict[str, jax.Array]:
    """Scores of each task. In training, `rngs` needs a `dropout` stream, and the running statistics
    are updated.
    """
    x = self.features(images, train)
    return all_scores(self.branches, x, train, rngs)
