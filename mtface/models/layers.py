"""The layers of BKNet-like networks, written so that XLA is fast on a CPU too.

Parameters and results are those of `nnx.Conv`, `nnx.BatchNorm` and `nnx.max_pool`; only the way
they are computed differs. On a CPU, XLA is good at matrix products and at elementwise loops over
channels, and bad at the gradients of a kernel and of a max pool, and at sums. GPUs and TPUs keep
XLA's own operators (`platforms.py`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mtface.models import winograd
from mtface.models.platforms import by_platform, channel_sums, has_choice, written

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'relu': jax.nn.relu,
  'relu6': lambda x: jnp.clip(x, 0, 6),  # Howard et al. 2017's code
  'silu': jax.nn.silu,  # "swish", Ramachandran et al. 2017
  'none': lambda x: x,
}
# Their derivatives. Steps are products rather than selections: XLA may write what it selects by to
# memory, as an array of its own.
_DERIVATIVES: dict[str, Callable[[jax.Array], jax.Array]] = {
  'relu': lambda x: _step(x),
  'relu6': lambda x: _step(x) * _step(6 - x),
  'silu': lambda x: jax.nn.sigmoid(x) * (1 + x * (1 - jax.nn.sigmoid(x))),
  'none': jnp.ones_like,
}
# What a pool may be taken before.
_MONOTONE = ('relu', 'relu6', 'none')
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
    ghost_batch: images whose statistics are taken together (`ghost_batch_norm`); 0: the batch's
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
    self.frozen, self.ghost_batch = False, 0

  def __call__(
    self,
    x: jax.Array,
    train: bool,
    *,
    activation: str = 'none',
    pool: bool = False,
    shift: jax.Array | None = None,
  ) -> jax.Array:
    """Normalises x + shift, then applies an activation (a name in ACTIVATIONS) and, with `pool`,
    `max_pool_2x2`: all in one pass over memory, and only x is kept for the gradient.

    A shift [features] is the bias of the layer before. It moves the mean and nothing else, so that
    with the batch's statistics the result does not depend on it, and its gradient is zero.
    """
    return normalised([self], x, train, activation=activation, pool=pool, shift=shift)


def normalised(
  norms: Sequence[BatchNorm],
  x: jax.Array,
  train: bool,
  *,
  activation: str = 'none',
  pool: bool = False,
  shift: jax.Array | None = None,
) -> jax.Array:
  """What batch normalisations make of x [..., C], of whose channels each has its share, in order:
  as one. They are alike but for their numbers.
  """
  norm = norms[0]
  x = x.astype(norm.dtype or jnp.result_type(x, jnp.bfloat16))
  even = x.ndim == 4 and x.shape[1] % 2 == x.shape[2] % 2 == 0
  if pool and not (even and activation in _MONOTONE and has_choice()):
    return max_pool_2x2(normalised(norms, x, train, activation=activation, shift=shift))
  scale, bias = _joined([n.scale for n in norms]), _joined([n.bias for n in norms])
  moved, how = 0.0 if shift is None else shift, (norm.epsilon, activation, pool)
  if norm.frozen or not train:
    mean, var = _joined([n.mean for n in norms]), _joined([n.var for n in norms])
    normalise = _normalise if has_choice() else _scaled
    return normalise(x, mean - moved, var, scale, bias, *how)
  images = norm.ghost_batch or x.shape[0]
  y, mean, var = ghost_batch_norm(x, scale, bias, images, *how)
  mean += moved
  if norm.unbiased:
    n = images * float(math.prod(x.shape[1:-1]))
    var *= n / max(n - 1, 1)
  ends = list(itertools.accumulate(n.scale.shape[0] for n in norms))[:-1]
  for kept, batch in (([n.mean for n in norms], mean), ([n.var for n in norms], var)):
    parts = jnp.split(lax.stop_gradient(batch), ends) if ends else [lax.stop_gradient(batch)]
    for running, part in zip(kept, parts, strict=True):
      running[...] = norm.momentum * running[...] + (1 - norm.momentum) * part
  return y


def _joined(variables: Sequence[nnx.Variable]) -> jax.Array:
  values = [variable[...] for variable in variables]
  return jnp.concatenate(values) if len(values) > 1 else values[0]


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """The maximum of each 2x2 square, [B, H, W, C] -> [B, H // 2, W // 2, C]; a last odd row or
  column is left out. The first of equal pixels, row by row, gets the gradient.
  """
  return _max_pool(x) if has_choice() else _window_max(x)


@jax.custom_vjp
def _max_pool(x: jax.Array) -> jax.Array:
  return functools.reduce(jnp.maximum, _corners(_squares(x)))


def _window_max(x: jax.Array) -> jax.Array:
  return nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))


def _max_pool_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
  """As one loop without a scatter, which XLA's own gradient of a pool is."""
  dx = jnp.where(_is_largest(_squares(x)), dy[:, :, None, :, None], 0)
  height, width = (x.shape[axis] - x.shape[axis] % 2 for axis in (1, 2))
  dx = dx.reshape(x.shape[0], height, width, x.shape[-1])
  rest = ((0, 0), (0, x.shape[1] - height), (0, x.shape[2] - width), (0, 0))
  return (jnp.pad(dx, rest) if max(max(pair) for pair in rest) else dx,)


_max_pool.defvjp(lambda x: (_max_pool(x), x), _max_pool_backward)


def _squares(x: jax.Array) -> jax.Array:
  """[B, H // 2, 2, W // 2, 2, C]; no copy where H and W are even."""
  b, h, w, c = x.shape
  return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)


def _corners(squares: jax.Array) -> list[jax.Array]:
  """The four pixels of each square [..., 2, w, 2, C], row by row: [..., w, C] each."""
  return [squares[..., i, :, j, :] for i in (0, 1) for j in (0, 1)]


def _is_largest(squares: jax.Array, factor: jax.Array | float = 1.0) -> jax.Array:
  """bool [B, h, 2, w, 2, C]: whether a pixel times factor [C] is the (first) largest of its square.

  Each pixel is compared with the three others, so that nothing but the pixels is read: an index of
  the largest is an array that XLA writes to memory.
  """

  def wins(axes: tuple[int, ...]) -> jax.Array:
    other = jnp.flip(squares, axes)
    first = lax.broadcasted_iota(jnp.int8, (1, 1, 2, 1, 2, 1), axes[0]) == 0
    larger = jnp.where(factor < 0, squares < other, squares > other)
    return larger | first & (squares == other)

  return wins((4,)) & wins((2,)) & wins((2, 4))


def ghost_batch_norm(
  x: jax.Array, scale: jax.Array, bias: jax.Array, images: int, *how: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`batch_norm` of every `images` images of x [B, ..., C] by themselves (Hoffer et al. 2017,
  algorithm 1); returns (y, the means of their means and of their variances [C]).

  A device that has whole parts of the batch waits for no other one.
  """
  if images == x.shape[0]:
    return batch_norm(x, scale, bias, *how)
  parts = x.reshape(-1, images, *x.shape[1:])
  y, mean, var = jax.vmap(lambda part: batch_norm(part, scale, bias, *how, True))(parts)
  return y.reshape(x.shape[0], *y.shape[2:]), mean.mean(0), var.mean(0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def batch_norm(
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
  epsilon: float,
  activation: str = 'none',
  pool: bool = False,
  is_part: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises x [..., C] by its own statistics, then applies the activation and, with `pool`, a
  maximum pool of 2x2 to x [B, H, W, C] of even H and W; returns (y, mean [C], var [C]). A pooled
  activation is monotone. `is_part`: x are not the images of a batch, but some of them.

  No gradient flows through mean and var. What the gradient needs is computed again from x.
  """
  return _batch_norm_forward(x, scale, bias, epsilon, activation, pool, is_part)[0]


def _batch_norm_forward(x, scale, bias, epsilon, activation, pool, is_part):
  def powers(x):
    x = x.astype(jnp.float32)
    return x, x * x

  n = float(x.size // x.shape[-1])  # an integer may be too large for int32
  mean, square = (total / n for total in channel_sums(powers, x, is_part=is_part))
  var = jnp.maximum(square - mean * mean, 0)  # rounding may make it negative
  how = mean, lax.rsqrt(var + epsilon) * scale, bias, activation
  largest = _pooled(x, how[1]) if pool else x
  y = _activated(largest, *how).astype(x.dtype)
  return (y, mean, var), (x, largest, mean, lax.rsqrt(var + epsilon), scale, bias)


def _batch_norm_backward(epsilon, activation, pool, is_part, saved, cotangents):
  """The gradient as in section 3 of the paper, simplified: two sums, then one pass. The sums are
  over what the pool left.
  """
  del epsilon
  (x, largest, mean, inverse_std, scale, bias), dy = saved, cotangents[0]
  n, factor = float(x.size // x.shape[-1]), inverse_std * scale

  def gradient(x, dy, activation):
    return dy.astype(jnp.float32) * _DERIVATIVES[activation](x)

  def backward(x, largest, dy, activation=activation):
    def terms(x, dy):
      standard = (x.astype(jnp.float32) - mean) * inverse_std
      dy = gradient(standard * scale + bias, dy, activation)
      return dy, dy * standard

    dbias, dscale = channel_sums(terms, largest, dy, is_part=is_part)
    shape, dtype = x.shape, x.dtype
    # Not written as in the sums: XLA would find them again, and keep what is the same in memory.
    if pool:
      x = _squares(x)
      dy = jnp.where(_is_largest(x, factor), dy[:, :, None, :, None], 0)
    centred = x.astype(jnp.float32) - mean
    dx = factor * (gradient(centred * factor + bias, dy, activation) - dbias / n)
    dx -= centred * (factor * inverse_std * dscale / n)
    return dx.astype(dtype).reshape(shape), dscale, dbias

  def once(x, largest, dy):
    """Its exponentials are computed once, for the sums and for the pass."""

    def activated(x, dy):
      x = (x.astype(jnp.float32) - mean) * factor + bias
      return gradient(x, dy, activation)

    dy = written(activated, x, dy.astype(jnp.float32), is_part=is_part)
    return backward(x, largest, dy, 'none')

  if activation in _MONOTONE:  # a comparison or less
    return backward(x, largest, dy)
  return lax.platform_dependent(x, largest, dy, cpu=once, default=backward)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _step(x: jax.Array) -> jax.Array:
  """1 where x > 0, else 0."""
  return jnp.clip(jnp.sign(x), 0, 1)


def _activated(x, mean, factor, bias, activation):
  return ACTIVATIONS[activation]((x.astype(jnp.float32) - mean) * factor + bias)


def _normalise(x, mean, var, scale, bias, epsilon, activation, pool):
  how = mean, lax.rsqrt(var + epsilon) * scale, bias, activation
  return _activated(_pooled(x, how[1]) if pool else x, *how).astype(x.dtype)


def _pooled(x: jax.Array, factor: jax.Array) -> jax.Array:
  """Of each 2x2 square of x [B, H, W, C] the pixel that is largest times factor [C]."""
  pixels = _corners(_squares(x))
  least, largest = (functools.reduce(of, pixels) for of in (jnp.minimum, jnp.maximum))
  return jnp.where(factor < 0, least, largest)


def _scaled(x, mean, var, scale, bias, epsilon, activation, pool):
  """The same as one product and one sum, which other programs join with the convolution before."""
  del pool  # there, one of its own
  factor = scale * (var + epsilon) ** -0.5
  return ACTIVATIONS[activation](x * factor + (bias - mean * factor))


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [3, 3, C, D], stride 1, SAME padding."""
  if x.dtype == kernel.dtype == jnp.float32:
    return _conv3x3(x, kernel)
  return winograd.xla_conv3x3(x, kernel)


_conv3x3 = by_platform(winograd.conv3x3, winograd.xla_conv3x3)
