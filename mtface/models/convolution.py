"""Convolutions as PyTorch has them, and what a network is built with.

Shapes, padding and statistics follow PyTorch's layers, since the published weights of most networks
come from there: k // 2 zeros on each side of an image, and an unbiased running variance.
tests/parity compares the networks with PyTorch's.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mtface.models.depthwise import depthwise_conv
from mtface.models.layers import BatchNorm, conv3x3
from mtface.models.platforms import by_platform, has_choice

# Normal with variance 2 / fan-out (He et al. 2015, eq. 14), as the published networks are drawn.
_INIT = nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal')


@dataclasses.dataclass(frozen=True)
class Make:
  """What all layers of a network share: the `dtype` of the computation (None: float32) and the
  random streams for initial weights.
  """

  rngs: nnx.Rngs
  dtype: Any = None


class Conv(nnx.Module):
  """A convolution with an odd kernel size: float [B, H, W, in_features] -> [B, ceil(H / stride),
  ceil(W / stride), out_features].

  Attributes:
    kernel: [size, size, in_features, out_features], or [size, size, 1, features] for a `depthwise`
      one.
    bias: [out_features]; None if a batch normalisation follows.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    size: int,
    make: Make,
    *,
    stride: int = 1,
    depthwise: bool = False,
    bias: bool = False,
  ):
    if depthwise:  # each value reaches size * size outputs; the published networks initialise it so
      kernel = jnp.swapaxes(
        _INIT(make.rngs.params(), (size, size, out_features, 1), jnp.float32), 2, 3
      )
    else:
      kernel = _INIT(make.rngs.params(), (size, size, in_features, out_features), jnp.float32)
    self.kernel = nnx.Param(kernel)
    self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if bias else None
    self.stride, self.depthwise, self.dtype = stride, depthwise, make.dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    dtype = self.dtype or jnp.float32
    x, kernel = x.astype(dtype), self.kernel[...].astype(dtype)
    y = depthwise_conv(x, kernel, self.stride) if self.depthwise else conv(x, kernel, self.stride)
    return y if self.bias is None else y + self.bias[...].astype(dtype)


def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [k, k, C, D], k // 2 zeros on each side; 1x1 as a matrix
  product, 3x3 as `layers.conv3x3`.
  """
  size = kernel.shape[0]
  if size == 1 and stride == 1 and has_choice():
    return by_platform(_pointwise, jnp.matmul)(x, kernel[0, 0])
  if size == 3 and stride == 1:
    return conv3x3(x, kernel)

  def product(x, kernel):
    return _pointwise(_patches(x, size, stride), kernel.reshape(-1, kernel.shape[-1]))

  def xla(x, kernel):
    padding, layout = [(size // 2, size // 2)] * 2, ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout)

  return by_platform(product, xla)(x, kernel)


@jax.custom_vjp
def _pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x [B, H, W, C] @ kernel [C, D]. On a CPU, the product that is the kernel's gradient needs one
  of its two sides transposed, and XLA writes that from within the loop that computes it, across
  memory: here it is the side with fewer channels.
  """
  return x @ kernel


def _pointwise_backward(
  saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, kernel = saved
  rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  over_rows = (((0,), (0,)), ((), ()))
  if x.shape[-1] <= dy.shape[-1]:
    gradient = lax.dot_general(*rows, over_rows)
  else:
    gradient = lax.dot_general(*rows[::-1], over_rows).T
  return dy @ kernel.T, gradient


_pointwise.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _pointwise_backward)


def _patches(x: jax.Array, size: int, stride: int) -> jax.Array:
  """[B, H', W', size * size * C]: the patch that the kernel sees at each position. XLA's kernel
  gradient is slow on CPUs, a matrix product's is not.
  """
  half, (_, h, w, _) = size // 2, x.shape
  padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  shifted = [
    padded[:, i : i + h : stride, j : j + w : stride] for i in range(size) for j in range(size)
  ]
  return jnp.concatenate(shifted, -1)


class ConvNorm(nnx.Module):
  """A convolution without bias, batch normalisation, and an activation, a name in
  `layers.ACTIVATIONS`."""

  def __init__(
    self,
    in_features: int,
    out_features: int,
    size: int,
    make: Make,
    *,
    activation: str,
    stride: int = 1,
    depthwise: bool = False,
  ):
    self.conv = Conv(in_features, out_features, size, make, stride=stride, depthwise=depthwise)
    self.norm = BatchNorm(out_features, unbiased=True, dtype=make.dtype)
    self.activation = activation

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return self.norm(self.conv(x), train, activation=self.activation)


def image_mean(x: jax.Array) -> jax.Array:
  """The mean over each image, [B, H, W, C] -> [B, C], summed in float32."""
  return jnp.mean(x, (1, 2), dtype=jnp.float32)


def scaled(features: int, width: float) -> int:
  """A number of channels or features times a width factor, rounded up."""
  return max(1, math.ceil(features * width))
