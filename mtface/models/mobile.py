"""Building blocks of MobileNet, EfficientNet and RexNet."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.models.convolution import Conv, ConvNorm, Make, image_mean
from mtface.models.layers import ACTIVATIONS, BatchNorm


class SqueezeExcite(nnx.Module):
  """Squeeze-and-excitation: weighs channels by the whole image (Hu et al. 2018, section 3): [B, H,
  W, C] -> the same.

  Global mean, layer to `reduced` values, activation, layer back to C values, sigmoid. RexNet adds a
  batch normalisation (`norm`) inside.
  """

  def __init__(
    self, features: int, reduced: int, make: Make, *, activation: str, norm: bool = False
  ):
    self.reduce = Conv(features, reduced, 1, make, bias=True)
    self.norm = BatchNorm(reduced, unbiased=True, dtype=make.dtype) if norm else None
    self.expand = Conv(reduced, features, 1, make, bias=True)
    self.activation = activation

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    squeezed = self.reduce(image_mean(x)[:, None, None])
    if self.norm is not None:
      squeezed = self.norm(squeezed, train)
    return x * jax.nn.sigmoid(self.expand(ACTIVATIONS[self.activation](squeezed)))


class StochasticDepth(nnx.Module):
  """Drops a branch with probability `rate`, independently for each sample, and scales it up where
  it is kept (Huang et al. 2016).

  Only in training; never while `frozen` (set by `network.abstract_network`).
  """

  def __init__(self, rate: float):
    self.rate, self.frozen = rate, False

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    if not train or self.frozen or self.rate == 0:
      return x
    if rngs is None:
      raise ValueError('stochastic depth needs a `dropout` stream in rngs during training')
    stays = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, (len(x), *[1] * (x.ndim - 1)))
    return jnp.where(stays, x / (1 - self.rate), 0).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Shape:
  """The shape of an inverted residual: channels in, inside and out, kernel size and stride;
  `reduced`: channels of squeeze-excite, 0 for none.
  """

  in_features: int
  inside: int
  out_features: int
  size: int
  stride: int
  reduced: int
  drop_path: float = 0.0


class InvertedResidual(nnx.Module):
  """Expand 1x1, depthwise, squeeze-excite, project 1x1 without activation (Sandler et al. 2018; Tan
  & Le 2019; Han et al. 2021).

  If stride is 1 and the output has as many channels as the input, the input is added, and
  `shape.drop_path` is the rate at which the rest is dropped. There is no expansion if `inside`
  equals `in_features`. RexNet differs: its activation comes after the squeeze (`late`), not before
  it (`early`), the squeeze has a batch normalisation, and the input is also added to the first
  channels of a wider output (`widening`).
  """

  def __init__(
    self,
    shape: Shape,
    make: Make,
    *,
    activation: str = 'silu',
    early: str = 'silu',
    late: str = 'none',
    squeeze: str = 'silu',
    squeeze_norm: bool = False,
    widening: bool = False,
  ):
    inside, more = shape.inside, shape.out_features - shape.in_features
    self.skip = shape.stride == 1 and (more == 0 or (widening and more > 0))
    expands = inside != shape.in_features
    self.expand = (
      ConvNorm(shape.in_features, inside, 1, make, activation=activation) if expands else None
    )
    self.depthwise = ConvNorm(
      inside, inside, shape.size, make, activation=early, stride=shape.stride, depthwise=True
    )
    self.squeeze = (
      SqueezeExcite(inside, shape.reduced, make, activation=squeeze, norm=squeeze_norm)
      if shape.reduced
      else None
    )
    self.project = ConvNorm(inside, shape.out_features, 1, make, activation='none')
    self.drop = StochasticDepth(shape.drop_path)
    self.late = late

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    y = x if self.expand is None else self.expand(x, train)
    y = self.depthwise(y, train)
    if self.squeeze is not None:
      y = self.squeeze(y, train)
    y = self.project(ACTIVATIONS[self.late](y), train)
    if not self.skip:
      return y
    y = self.drop(y, train, rngs)
    more = y.shape[-1] - x.shape[-1]
    return y + (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more))) if more else x)


def round_channels(channels: float, divisor: int = 8) -> int:
  """The multiple of `divisor` nearest to a number of channels, at least `divisor` and at least 90%
  of the number.

  All three networks scale their widths by this rule (Sandler et al. 2018's code).
  """
  rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
  return rounded + divisor if rounded < 0.9 * channels else rounded
