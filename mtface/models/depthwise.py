"""Depthwise convolutions: each channel with a kernel of its own (Howard et al. 2017, section 3.1).

XLA has them as grouped convolutions, which it computes on a CPU ten times slower than the machine
could, and their gradients up to seventy times (benchmarks/README.md). There, the result is a sum of
k*k shifted images, each times its weights: one fused loop over channels. So is the gradient by the
image. The gradient by the kernel is k*k sums over all pixels; XLA's own sums are slow too, so that
running totals are kept, row by row. GPUs and TPUs use XLA's operator (`platforms.py`).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from mtface.models.platforms import by_platform, images_at_a_time, over_rows


def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [k, k, 1, C], k odd -> [B, ceil(H / stride), ceil(W /
  stride), C].

  k // 2 zeros on each side, as PyTorch pads (XLA's SAME would pad an even image with stride 2 on
  one side only).
  """
  ours = lambda x, kernel: _shifted_conv(x, kernel, stride)  # noqa: E731
  return by_platform(ours, functools.partial(xla_depthwise_conv, stride=stride))(x, kernel)


def xla_depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The same convolution as XLA computes it."""
  padding, channels = [(kernel.shape[0] // 2,) * 2] * 2, x.shape[-1]
  layout = ('NHWC', 'HWIO', 'NHWC')
  strides = (stride, stride)
  return lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=layout, feature_group_count=channels
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  k = kernel.shape[0]
  padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
  return _shifted_sum(padded, kernel, stride)


def _backward(
  stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """By the image: dy, spread out by the stride, with the kernel turned round."""
  x, kernel = saved
  sides = [
    (kernel.shape[0] // 2, size - stride * (out - 1) - 1 + kernel.shape[0] // 2, stride - 1)
    for size, out in zip(x.shape[1:3], dy.shape[1:3], strict=True)
  ]
  spread = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *sides, (0, 0, 0)])
  dx = _shifted_sum(spread, jnp.flip(kernel, (0, 1)), 1)
  return dx, _kernel_gradient(x, dy, kernel.shape[0], stride).astype(kernel.dtype)


_shifted_conv.defvjp(
  lambda x, kernel, stride: (_shifted_conv(x, kernel, stride), (x, kernel)), _backward
)


def _shifted_sum(padded: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """The convolution of an image that has its zeros already; summed in float32."""
  k = kernel.shape[0]
  h, w = ((size - k) // stride + 1 for size in padded.shape[1:3])
  total: jax.Array | float = 0.0
  for i in range(k):
    for j in range(k):
      shifted = padded[
        :, i : i + stride * (h - 1) + 1 : stride, j : j + stride * (w - 1) + 1 : stride
      ]
      total += shifted.astype(jnp.float32) * kernel[i, j, 0].astype(jnp.float32)
  return jnp.asarray(total, padded.dtype)


def _kernel_gradient(x: jax.Array, dy: jax.Array, k: int, stride: int) -> jax.Array:
  """The gradient by the kernel, float32 [k, k, 1, C]: for each of its k*k places the sum of shifted
  x times dy.
  """
  batch, h, w, c = dy.shape
  padded = jnp.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
  images = images_at_a_time(batch, w * c)

  def add_row(
    first: jax.Array | int, row: jax.Array, totals: list[jax.Array], i: jax.Array
  ) -> list[jax.Array]:
    down = lax.dynamic_slice(dy, (first, row, 0, 0), (images, 1, w, c))[:, 0].astype(jnp.float32)
    across = (images, 1, padded.shape[2], c)
    up = lax.dynamic_slice(padded, (first, row * stride + i, 0, 0), across)[:, 0].astype(
      jnp.float32
    )
    return [t + up[:, j : j + stride * (w - 1) + 1 : stride] * down for j, t in enumerate(totals)]

  def kernel_row(i: jax.Array) -> jax.Array:
    zeros = [jnp.zeros((images, w, c), jnp.float32)] * k
    totals = over_rows(functools.partial(add_row, i=i), zeros, batch, h, images)
    return jnp.stack([jnp.sum(t, (0, 1)) for t in totals])

  return lax.map(kernel_row, jnp.arange(k))[:, :, None]
