"""The residual networks for small images of He et al. 2015, section 4.2: ResNet-20, 32, 44, 56, 110
of CIFAR-10, which Pons 2018 trains on faces; and their second version, with normalisations and
ReLUs before convolutions (He et al. 2016, "Identity mappings in deep residual networks").
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mtface.errors import UserError
from mtface.models.backbone import Backbone, check_fields
from mtface.models.convolution import Conv, ConvNorm, Make, scaled
from mtface.models.layers import BatchNorm
from mtface.tasks import Task

STAGES = (16, 32, 64)  # channels; the second and the third halve the image
VERSIONS = ('v1', 'v2')
_LEAST = 4  # pixels, which the last stage sees as one


def shortcut(x: jax.Array, features: int, stride: int) -> jax.Array:
  """The parameter-free shortcut ("option A"): every `stride`-th pixel of x [B, H, W, C], and zeros
  for the channels that are more: [B, ceil(H / stride), ceil(W / stride), `features`].

  Half of the zeros before the channels and half behind, as in TensorFlow's and PyTorch's
  implementations, whose weights want it so; the paper does not say where they are.
  """
  more = features - x.shape[-1]
  if stride > 1:  # not by indices, which other programs have as a gather
    x = lax.slice_in_dim(lax.slice_in_dim(x, 0, None, stride, 1), 0, None, stride, 2)
  return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))


class Block(nnx.Module):
  """Two convolutions 3x3 with batch normalisation beside a shortcut: [B, H, W, C] -> [B, H/stride,
  W/stride, features], sizes rounded up (He 2015, figure 2).
  """

  def __init__(self, in_features: int, features: int, stride: int, make: Make):
    self.first = ConvNorm(in_features, features, 3, make, activation='relu', stride=stride)
    self.second = ConvNorm(features, features, 3, make, activation='none')
    self.features, self.stride = features, stride

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    y = self.second(self.first(x, train), train)
    return jax.nn.relu(y + shortcut(x, self.features, self.stride))


class NormConv(nnx.Module):
  """Batch normalisation and ReLU before a convolution 3x3 without bias."""

  def __init__(self, in_features: int, features: int, stride: int, make: Make):
    self.norm = BatchNorm(in_features, unbiased=True, dtype=make.dtype)
    self.conv = Conv(in_features, features, 3, make, stride=stride)

  def activated(self, x: jax.Array, train: bool) -> jax.Array:
    """What the convolution sees."""
    return self.norm(x, train, activation='relu')

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return self.conv(self.activated(x, train))


class PreactivatedBlock(nnx.Module):
  """The same with normalisations and ReLUs before the convolutions, and nothing behind the sum (He
  2016, figure 1b).

  In the `opening` block of a network the shortcut starts behind the first ReLU (appendix).
  """

  def __init__(self, in_features: int, features: int, stride: int, make: Make, *, opening: bool):
    self.first = NormConv(in_features, features, stride, make)
    self.second = NormConv(features, features, 1, make)
    self.features, self.stride, self.opening = features, stride, opening

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    seen = self.first.activated(x, train)
    y = self.second(self.first.conv(seen), train)
    return y + shortcut(seen if self.opening else x, self.features, self.stride)


class Trunk(nnx.Module):
  """Images [B, H, W, in_channels] -> [B, H/4, W/4, `features`], sizes rounded up."""

  def __init__(self, in_channels: int, blocks: int, width: float, version: str, make: Make):
    features, stages = scaled(STAGES[0], width), []
    self.preactivated = version == 'v2'
    stem = Conv if self.preactivated else functools.partial(ConvNorm, activation='relu')
    self.stem: Any = stem(in_channels, features, 3, make)
    for number, channels in enumerate(STAGES):
      stage = []
      for i in range(blocks):
        shape = features, scaled(channels, width), 2 if number and not i else 1
        stage.append(self._block(shape, make, opening=number == i == 0))
        features = shape[1]
      stages.append(nnx.List(stage))
    self.stages = nnx.List(stages)
    if self.preactivated:
      self.norm = BatchNorm(features, unbiased=True, dtype=make.dtype)
    self.features = features

  def _block(self, shape: tuple[int, int, int], make: Make, *, opening: bool) -> nnx.Module:
    if self.preactivated:
      return PreactivatedBlock(*shape, make, opening=opening)
    return Block(*shape, make)

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    del rngs  # nothing is left out at random
    x = self.stem(x) if self.preactivated else self.stem(x, train)
    for stage in self.stages:
      for block in stage:
        x = block(x, train)
    return self.norm(x, train, activation='relu') if self.preactivated else x


class ResNet(Backbone):
  """ResNet for small images with a linear layer a task; ResNet-32 has 0.464 M parameters with 10
  classes, ResNet-110 1.728 M (He 2015, Table 6: 0.46 M and 1.7 M).

  Args:
    tasks: one head each, in this order.
    image_shape: (H, W, C) of the input in pixels, at least 4x4; published for 32x32.
    depth: 6n + 2 layers.
    version: v1 (2015) or v2 (2016).
    width: factor on channels, rounded up.
    dropout: rate before each last layer.
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
    depth: int,
    version: str,
    width: float,
    dropout: float,
    branch: Sequence[int],
    input: str,
    dtype: jnp.dtype | None,
  ):
    check_fields(
      'resnet', image_shape, branch=branch, input=input, least=_LEAST, width=width, dropout=dropout
    )
    if type(depth) is not int or depth < 8 or depth % 6 != 2:
      raise UserError(
        f'config.model.depth: {depth!r}; a resnet has 6n + 2 layers: 8, 14, 20, 26, 32, ... 110'
      )
    if version not in VERSIONS:
      raise UserError(
        f'config.model.version {version!r} is unknown; expected {", ".join(VERSIONS)}'
      )
    make = Make(rngs, dtype)
    trunk = Trunk(image_shape[-1], (depth - 2) // 6, width, version, make)
    super().__init__(
      trunk, trunk.features, tasks, make, dropout=dropout, branch=branch, input=input
    )
