"""MobileNet-v1 (Howard et al. 2017), the smallest backbone of Savchenko 2021."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.models.backbone import Backbone, check_fields
from mtface.models.convolution import ConvNorm, Make
from mtface.models.mobile import round_channels
from mtface.tasks import Task

STEM = 32
STAGES = (
  (64, 1, 1),
  (128, 2, 2),
  (256, 2, 2),
  (512, 6, 2),
  (1024, 2, 2),
)  # channels, blocks, stride of the first (Table 1)


class Separable(nnx.Module):
  """A depthwise convolution 3x3 and a 1x1 one, each with batch normalisation and ReLU6 (Howard
  2017, figure 3).
  """

  def __init__(self, in_features: int, out_features: int, stride: int, make: Make):
    self.depthwise = ConvNorm(
      in_features, in_features, 3, make, activation='relu6', stride=stride, depthwise=True
    )
    self.pointwise = ConvNorm(in_features, out_features, 1, make, activation='relu6')

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return self.pointwise(self.depthwise(x, train), train)


class Trunk(nnx.Module):
  """Images [B, H, W, in_channels] -> [B, H/32, W/32, `features`], sizes rounded up."""

  def __init__(self, in_channels: int, width: float, make: Make):
    features = round_channels(STEM * width)
    self.stem = ConvNorm(in_channels, features, 3, make, activation='relu6', stride=2)
    stages = []
    for channels, blocks, stride in STAGES:
      stage = []
      for i in range(blocks):
        stage.append(
          Separable(features, round_channels(channels * width), 1 if i else stride, make)
        )
        features = round_channels(channels * width)
      stages.append(nnx.List(stage))
    self.stages = nnx.List(stages)
    self.features = features

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    del rngs  # nothing is left out at random
    x = self.stem(x, train)
    for stage in self.stages:
      for block in stage:
        x = block(x, train)
    return x


class MobileNet(Backbone):
  """MobileNet-v1 with a linear layer a task; the trunk of timm's `mobilenetv1_100`, 3.207 M
  parameters.

  Args:
    tasks: one head each, in this order.
    image_shape: (H, W, C) of the input in pixels, at least 32x32.
    width: the paper's width multiplier.
    dropout: rate before each last layer.
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
    age_hidden: Sequence[int],
    branch: Sequence[int],
    input: str,
    dtype: jnp.dtype | None,
  ):
    check_fields(
      'mobilenet',
      image_shape,
      age_hidden=age_hidden,
      branch=branch,
      input=input,
      width=width,
      dropout=dropout,
    )
    make = Make(rngs, dtype)
    trunk = Trunk(image_shape[-1], width, make)
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
