"""The layers of BKNet-like networks, written so that XLA is fast on a CPU too.

Parameters and results are those of `nnx.Conv`, `nnx.BatchNorm` and `nnx.max_pool`; only the way
they are computed differs. On a CPU, XLA is good at matrix products and at elementwise loops over
channels, and bad at the gradients of a kernel and of a max pool, and at sums. GPUs and TPUs keep
XLA's own operators (`platforms.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mtface.models import winograd
from mtface.models.platforms import by_platform, channel_sums, has_choice

MOMENTUM = 0.9  # of the running statistics of every batch normalisation


class Conv3x3(nnx.Module):
  """A 3x3 convolution with bias, stride 1 and SAME padding: float [B, H, W, in_features] -> [B, H,
  W, out_features].

  Attributes:
    kernel: [3, 3, in_features, out_features].
    bias: [out_features].
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    rngs: nnx.Rngs,
    kernel_init: Callable = nnx.initializers.lecun_normal(),  # noqa: B008  (flax's own default)
    dtype: jax.typing.DTypeLike | None = None,
  ):
    self.kernel = nnx.Param(
      kernel_init(rngs.params(), (3, 3, in_features, out_features), jnp.float32)
    )
    self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32))
    self.dtype = dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    """Convolves and adds the bias, in `dtype` (None: that of the arguments)."""
    y = self.without_bias(x)
    return y + self.bias[...].astype(y.dtype)

  def without_bias(self, x: jax.Array) -> jax.Array:
    """Only convolves: a batch normalisation behind it takes the bias as its `shift`."""
    dtype = self.dtype or jnp.result_type(x, self.kernel[...])
    return conv3x3(x.astype(dtype), self.kernel[...].astype(dtype))


class BatchNorm(nnx.Module):
  """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithm 1), with the
  gradient in closed form.

  Under `jit` the statistics are those of the global batch, however it is sharded. They are computed
  and kept in float32.

  Attributes:
    scale, bias: [features], trained.
    mean, var: [features], running averages: momentum * old + (1 - momentum) * batch; of the biased
      variance, or with `unbiased` of n / (n - 1) times it, as PyTorch keeps it (where n is small, a
      network with weights from there wants the same).
    frozen: in training, use the running averages too, and leave them as they are
      (`network.abstract_network` sets it).
  """

  def __init__(
    self,
    features: int,
    *,
    rngs: nnx.Rngs | None = None,
    momentum: float = MOMENTUM,
    epsilon: float = 1e-5,
    unbiased: bool = False,
    dtype: jax.typing.DTypeLike | None = None,
  ):
    del rngs  # taken so that all layers are built alike; nothing here is random
    self.scale = nnx.Param(jnp.ones((features,), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))
    self.mean = nnx.BatchStat(jnp.zeros((features,), jnp.float32))
    self.var = nnx.BatchStat(jnp.ones((features,), jnp.float32))
    self.momentum, self.epsilon, self.unbiased, self.dtype = momentum, epsilon, unbiased, dtype
    self.frozen = False

  def __call__(
    self, x: jax.Array, train: bool, *, relu: bool = False, shift: jax.Array | None = None
  ) -> jax.Array:
    """Normalises x + shift, and applies ReLU if asked to: a pass less over memory for each than one
    of its own.

    A shift [features] is the bias of the layer before. It moves the mean and nothing else, so that
    with the batch's statistics the result does not depend on it, and its gradient is zero.
    """
    x = x.astype(self.dtype or jnp.result_type(x, jnp.bfloat16))
    scale, bias = self.scale[...], self.bias[...]
    moved = 0.0 if shift is None else shift
    if self.frozen or not train:
      normalise = _normalise if has_choice() else _scaled
      return normalise(x, self.mean[...] - moved, self.var[...], scale, bias, self.epsilon, relu)
    y, mean, var = batch_norm(x, scale, bias, self.epsilon, relu)
    mean += moved
    if self.unbiased:
      n = x.size // x.shape[-1]
      var *= n / max(n - 1, 1)
    for running, batch in ((self.mean, mean), (self.var, var)):
      running[...] = self.momentum * running[...] + (1 - self.momentum) * lax.stop_gradient(batch)
    return y


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """The maximum of each 2x2 square, [B, H, W, C] -> [B, H // 2, W // 2, C]; a last odd row or
  column is left out.

  On a CPU the gradient of a tie is shared among the equal pixels; elsewhere the first of them gets
  it. After a ReLU it is the same.
  """
  return _max_pool(x) if has_choice() else _window_max(x)


@jax.custom_vjp
def _max_pool(x: jax.Array) -> jax.Array:
  return lax.platform_dependent(
    x, cpu=lambda x: functools.reduce(jnp.maximum, _corners(x)), default=_window_max
  )


def _window_max(x: jax.Array) -> jax.Array:
  return nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))


def _corners(x: jax.Array) -> list[jax.Array]:
  """The four pixels of each square, [B, H // 2, W // 2, C] each."""
  squares = _squares(x)
  return [squares[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]


def _squares(x: jax.Array) -> jax.Array:
  b, h, w, c = x.shape
  return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)


def _shared_gradient(x: jax.Array, y: jax.Array, dy: jax.Array) -> jax.Array:
  """Each square's gradient, shared by the pixels that are its maximum; in one pass, where JAX's own
  may write four images and add them.
  """
  share = dy / functools.reduce(jnp.add, [(corner == y).astype(dy.dtype) for corner in _corners(x)])
  y, share = (a[:, :, None, :, None] for a in (y, share))
  dx = jnp.where(_squares(x) == y, share, 0)
  b, h, _, w, _, c = dx.shape
  return jnp.pad(
    dx.reshape(b, 2 * h, 2 * w, c),
    ((0, 0), (0, x.shape[1] - 2 * h), (0, x.shape[2] - 2 * w), (0, 0)),
  )


def _max_pool_forward(x):
  y = _max_pool(x)
  return y, (x, y)


def _max_pool_backward(saved, dy):
  first = lambda x, y, dy: jax.vjp(_window_max, x)[1](dy)[0]  # noqa: E731
  return (lax.platform_dependent(*saved, dy, cpu=_shared_gradient, default=first),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool):
  """Normalises x [..., C] by its own statistics; returns (y, mean [C], var [C]). No gradient flows
  through mean and var.
  """
  return _batch_norm_forward(x, scale, bias, epsilon, relu)[0]


def _batch_norm_forward(x, scale, bias, epsilon, relu):
  def powers(x):
    x = x.astype(jnp.float32)
    return x, x * x

  n = x.size // x.shape[-1]
  mean, square = (total / n for total in channel_sums(powers, x))
  var = jnp.maximum(square - mean * mean, 0)  # rounding may make it negative
  y = _normalise(x, mean, var, scale, bias, epsilon, relu)
  return (y, mean, var), (x, mean, lax.rsqrt(var + epsilon), scale, bias)


def _batch_norm_backward(epsilon, relu, saved, cotangents):
  """The gradient as in section 3 of the paper, simplified: two sums, then one pass; only x is
  saved.
  """
  del epsilon
  x, mean, inverse_std, scale, bias = saved

  def standard_and_gradient(x, dy):
    standard, dy = (x.astype(jnp.float32) - mean) * inverse_std, dy.astype(jnp.float32)
    return standard, jnp.where(standard * scale + bias > 0, dy, 0) if relu else dy

  def terms(x, dy):
    standard, dy = standard_and_gradient(x, dy)
    return dy, dy * standard

  n = x.size // x.shape[-1]
  dbias, dscale = channel_sums(terms, x, cotangents[0])
  standard, dy = standard_and_gradient(x, cotangents[0])
  dx = (scale * inverse_std) * (dy - dbias / n - standard * (dscale / n))
  return dx.astype(x.dtype), dscale, dbias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _normalise(x, mean, var, scale, bias, epsilon, relu):
  y = (x.astype(jnp.float32) - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
  return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


def _scaled(x, mean, var, scale, bias, epsilon, relu):
  """The same as one product and one sum, which other programs join with the convolution before."""
  factor = scale * (var + epsilon) ** -0.5
  y = x * factor + (bias - mean * factor)
  return jax.nn.relu(y) if relu else y


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [3, 3, C, D], stride 1, SAME padding."""
  if x.dtype == kernel.dtype == jnp.float32:
    return _conv3x3(x, kernel)
  return winograd.xla_conv3x3(x, kernel)


_conv3x3 = by_platform(winograd.conv3x3, winograd.xla_conv3x3)
