"""EfficientNet (Tan & Le 2019): B0, the backbone of Savchenko 2021 that does best, and the family
by width and depth.

B0 to B7 have (width, depth): (1.0, 1.0) (1.0, 1.1) (1.1, 1.2) (1.2, 1.4) (1.4, 1.8) (1.6, 2.2)
(1.8, 2.6) (2.0, 3.1); with images of 224, 240, 260, 300, 380, 456, 528, 600 pixels and dropout 0.2,
0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5 (the authors' code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.models.backbone import Backbone, check_fields
from mtface.models.convolution import ConvNorm, Make
from mtface.models.mobile import InvertedResidual, Shape, round_channels
from mtface.tasks import Task

STEM, TOP = 32, 1280
# Table 1: expansion, channels, blocks, stride of the first, kernel size.
STAGES = (
  (1, 16, 1, 1, 3),
  (6, 24, 2, 2, 3),
  (6, 40, 2, 2, 5),
  (6, 80, 3, 2, 3),
  (6, 112, 3, 1, 5),
  (6, 192, 4, 2, 5),
  (6, 320, 1, 1, 3),
)
_SQUEEZE = 0.25  # of a block's input channels


def block_shapes(width: float, depth: float, drop_path: float) -> list[list[Shape]]:
  """The blocks of each stage; the rate of stochastic depth grows linearly from 0 towards
  `drop_path`.
  """
  counts = [math.ceil(blocks * depth) for _, _, blocks, _, _ in STAGES]
  features, done, stages = round_channels(STEM * width), 0, []
  for count, (expansion, channels, _, first_stride, size) in zip(counts, STAGES, strict=True):
    stage = []
    for stride in [first_stride] + [1] * (count - 1):
      out, reduced = round_channels(channels * width), max(1, round(features * _SQUEEZE))
      rate = drop_path * done / sum(counts)
      stage.append(Shape(features, features * expansion, out, size, stride, reduced, rate))
      features, done = out, done + 1
    stages.append(stage)
  return stages


class Trunk(nnx.Module):
  """Images [B, H, W, in_channels] -> [B, H/32, W/32, `features`], sizes rounded up."""

  def __init__(self, in_channels: int, width: float, depth: float, drop_path: float, make: Make):
    shapes = block_shapes(width, depth, drop_path)
    self.features = round_channels(TOP * width)
    self.stem = ConvNorm(
      in_channels, shapes[0][0].in_features, 3, make, activation='silu', stride=2
    )
    self.stages = nnx.List(
      [nnx.List([InvertedResidual(shape, make) for shape in stage]) for stage in shapes]
    )
    self.top = ConvNorm(shapes[-1][-1].out_features, self.features, 1, make, activation='silu')

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    x = self.stem(x, train)
    for stage in self.stages:
      for block in stage:
        x = block(x, train, rngs)
    return self.top(x, train)


class EfficientNet(Backbone):
  """EfficientNet with a linear layer a task; by default the trunk of timm's `efficientnet_b0`,
  4.008 M parameters.

  Args:
    tasks: one head each, in this order.
    image_shape: (H, W, C) of the input in pixels, at least 32x32.
    width: factor on channels, rounded to multiples of 8.
    depth: factor on the blocks of each stage, rounded up.
    dropout: rate before each last layer.
    drop_path: rate of stochastic depth that the last blocks come near to.
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
    depth: float,
    dropout: float,
    drop_path: float,
    age_hidden: Sequence[int],
    branch: Sequence[int],
    input: str,
    dtype: jnp.dtype | None,
  ):
    numbers: dict[str, Any] = {
      'width': width,
      'depth': depth,
      'dropout': dropout,
      'drop_path': drop_path,
    }
    check_fields(
      'efficientnet', image_shape, age_hidden=age_hidden, branch=branch, input=input, **numbers
    )
    make = Make(rngs, dtype)
    trunk = Trunk(image_shape[-1], width, depth, drop_path, make)
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
