"""RexNet (Han et al. 2021, "Rethinking channel dimensions for efficient model design"), the largest
backbone of Savchenko 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.models.backbone import Backbone, check_fields
from mtface.models.convolution import ConvNorm, Make
from mtface.models.mobile import InvertedResidual, Shape, round_channels
from mtface.tasks import Task

STEM, FIRST, LAST, TOP = 32, 16, 180, 1280
BLOCKS, STRIDES = (1, 2, 2, 3, 3, 5), (1, 2, 2, 2, 1, 2)  # of each stage (the authors' code)
_UNSQUEEZED = 3  # the first blocks, without squeeze-excite
_EXPANSION, _SQUEEZE = 6, 12


def block_shapes(width: float, drop_path: float) -> list[Shape]:
  """Channels grow by the same amount from block to block (Han 2021, section 4.2), which `width`
  scales.

  A network narrower than 1 keeps the stem and the first block as they are.
  """
  strides = [
    stride if i == 0 else 1 for n, stride in zip(BLOCKS, STRIDES, strict=True) for i in range(n)
  ]
  first, shapes, features = FIRST / min(width, 1.0), [], stem_features(width)
  for i, stride in enumerate(strides):
    out = round(width * (first + i * LAST / len(strides)))
    inside = features * (_EXPANSION if i else 1)
    reduced = max(1, inside // _SQUEEZE) if i >= _UNSQUEEZED else 0
    shapes.append(
      Shape(features, inside, out, 3, stride, reduced, drop_path * i / (len(strides) - 1))
    )
    features = out
  return shapes


def stem_features(width: float) -> int:
  """Channels of the first convolution."""
  return round(STEM * max(width, 1.0))


class Trunk(nnx.Module):
  """Images [B, H, W, in_channels] -> [B, H/32, W/32, `features`], sizes rounded up."""

  def __init__(self, in_channels: int, width: float, drop_path: float, make: Make):
    shapes = block_shapes(width, drop_path)
    self.features = round_channels(TOP * width, 1)
    self.stem = ConvNorm(in_channels, shapes[0].in_features, 3, make, activation='silu', stride=2)
    blocks = []
    for shape in shapes:
      own = {'early': 'none', 'late': 'relu6', 'squeeze': 'relu'}
      blocks.append(InvertedResidual(shape, make, squeeze_norm=True, widening=True, **own))
    self.blocks = nnx.List(blocks)
    self.top = ConvNorm(shapes[-1].out_features, self.features, 1, make, activation='silu')

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    x = self.stem(x, train)
    for block in self.blocks:
      x = block(x, train, rngs)
    return self.top(x, train)


class RexNet(Backbone):
  """RexNet with a linear layer a task; by default the trunk of timm's `rexnet_150`, 7.808 M
  parameters.

  Args:
    tasks: one head each, in this order.
    image_shape: (H, W, C) of the input in pixels, at least 32x32.
    width: factor on channels; 1.5 is RexNet-150.
    dropout: rate before each last layer.
    drop_path: rate of stochastic depth in the last block, which grows linearly from 0 in the first.
    age_hidden: widths of layers before the last one of tasks with years (`Task.values`).
    branch: widths of the layers of every head (`heads.Branch`).
    input: see `backbone.rescaled`.
    dtype: of the computation; parameters stay float32. None: float32.

  Raises:
    UserError: a field out of its range, or an image too small.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    image_shape: tuple[int, int, int],
    *,
    rngs: nnx.Rngs,
    width: float,
    dropout: float,
    drop_path: float,
    age_hidden: Sequence[int],
    branch: Sequence[int],
    input: str,
    dtype: jnp.dtype | None,
  ):
    numbers: dict[str, Any] = {'width': width, 'dropout': dropout, 'drop_path': drop_path}
    check_fields(
      'rexnet', image_shape, age_hidden=age_hidden, branch=branch, input=input, **numbers
    )
    make = Make(rngs, dtype)
    trunk = Trunk(image_shape[-1], width, drop_path, make)
    super().__init__(
      trunk,
      trunk.features,
      tasks,
      make,
      dropout=dropout,
      age_hidden=age_hidden,
      branch=branch,
      input=input,
    )
