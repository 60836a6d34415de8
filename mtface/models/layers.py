"""The layers of BKNet-like networks, written so that XLA is fast on a CPU too.

Parameters and results are those of `nnx.Conv`, `nnx.BatchNorm` and `nnx.max_pool`; only the way they are computed differs, and only where
it pays. On a CPU, XLA is good at matrix products and at elementwise loops over channels, good enough at forward convolutions, and bad
at the gradient of a kernel (a convolution whose "kernel" is a whole feature map) and at that of a max pool (select-and-scatter).
GPUs and TPUs keep XLA's own operators. `benchmarks/layers.py` has the times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from numpy.polynomial import polynomial

# Images whose tiles are transformed at a time: small enough that the transforms stay in a CPU's cache.
_CHUNK_ELEMENTS = 1 << 20
_POINTS = {2: (0, 1, -1), 3: (0, 1, -1, 2), 4: (0, 1, -1, 2, -2)}


class Conv3x3(nnx.Module):
  """A 3x3 convolution with bias, stride 1 and SAME padding: float [B, H, W, in_features] -> [B, H, W, out_features].

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
    self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 3, in_features, out_features), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32))
    self.dtype = dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    dtype = self.dtype or jnp.result_type(x, self.kernel[...])
    x, kernel, bias = (a.astype(dtype) for a in (x, self.kernel[...], self.bias[...]))
    return conv3x3(x, kernel) + bias


class BatchNorm(nnx.Module):
  """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithm 1), with the gradient in closed form.

  Under `jit` the statistics are those of the global batch, however it is sharded. They are computed and kept in float32.

  Attributes:
    scale, bias: [features], trained.
    mean, var: [features], running averages: momentum * old + (1 - momentum) * batch (biased variance).
  """

  def __init__(
    self,
    features: int,
    *,
    rngs: nnx.Rngs | None = None,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    dtype: jax.typing.DTypeLike | None = None,
  ):
    del rngs  # taken so that all layers are built alike; nothing here is random
    self.scale = nnx.Param(jnp.ones((features,), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))
    self.mean = nnx.BatchStat(jnp.zeros((features,), jnp.float32))
    self.var = nnx.BatchStat(jnp.ones((features,), jnp.float32))
    self.momentum, self.epsilon, self.dtype = momentum, epsilon, dtype

  def __call__(self, x: jax.Array, train: bool, *, relu: bool = False) -> jax.Array:
    """Normalises x, and applies ReLU if asked to: one pass less over memory than a ReLU of its own."""
    x = x.astype(self.dtype or jnp.result_type(x, jnp.bfloat16))
    scale, bias = self.scale[...], self.bias[...]
    if not train:
      return _normalise(x, self.mean[...], self.var[...], scale, bias, self.epsilon, relu)
    y, mean, var = batch_norm(x, scale, bias, self.epsilon, relu)
    for running, batch in ((self.mean, mean), (self.var, var)):
      running[...] = self.momentum * running[...] + (1 - self.momentum) * lax.stop_gradient(batch)
    return y


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """The maximum of each 2x2 square, [B, H, W, C] -> [B, H // 2, W // 2, C]; a last odd row or column is left out.

  On a CPU the gradient of a tie is shared among the equal pixels; elsewhere the first of them gets it. After a ReLU it is the same.
  """
  if jax.default_backend() != 'cpu':
    return nnx.max_pool(x, (2, 2), (2, 2))
  b, h, w, c = x.shape
  x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)
  top, bottom = (jnp.maximum(x[:, :, i, :, 0], x[:, :, i, :, 1]) for i in (0, 1))
  return jnp.maximum(top, bottom)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, relu: bool):
  """Normalises x [..., C] by its own statistics; returns (y, mean [C], var [C]). No gradient flows through mean and var."""
  return _batch_norm_forward(x, scale, bias, epsilon, relu)[0]


def _batch_norm_forward(x, scale, bias, epsilon, relu):
  axes, x32 = tuple(range(x.ndim - 1)), x.astype(jnp.float32)
  mean = jnp.mean(x32, axes)
  var = jnp.maximum(jnp.mean(x32 * x32, axes) - mean * mean, 0)  # rounding may make it negative
  y = _normalise(x, mean, var, scale, bias, epsilon, relu)
  return (y, mean, var), (x, mean, lax.rsqrt(var + epsilon), scale, bias)


def _batch_norm_backward(epsilon, relu, saved, cotangents):
  """The gradient as in section 3 of the paper, simplified: two sums, then one pass (autodiff's own takes three times as long)."""
  del epsilon
  x, mean, inverse_std, scale, bias = saved
  axes, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
  standard = (x.astype(jnp.float32) - mean) * inverse_std
  dy = cotangents[0].astype(jnp.float32)
  if relu:
    dy = jnp.where(standard * scale + bias > 0, dy, 0)
  dbias, dscale = jnp.sum(dy, axes), jnp.sum(dy * standard, axes)
  dx = (scale * inverse_std) * (dy - dbias / n - standard * (dscale / n))
  return dx.astype(x.dtype), dscale, dbias


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _normalise(x, mean, var, scale, bias, epsilon, relu):
  y = (x.astype(jnp.float32) - mean) * (lax.rsqrt(var + epsilon) * scale) + bias
  return (jnp.maximum(y, 0) if relu else y).astype(x.dtype)


def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [3, 3, C, D], stride 1, SAME padding; the gradient is the fast one where there is one."""
  if jax.default_backend() == 'cpu' and x.dtype == kernel.dtype == jnp.float32:
    return _cpu_conv(x, kernel)
  return _xla_conv(x, kernel)


def _xla_conv(x, kernel):
  return lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@jax.custom_vjp
def _cpu_conv(x, kernel):
  return _xla_conv(x, kernel)


def _cpu_conv_backward(saved, dy):
  x, kernel = saved
  dx = _xla_conv(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
  return dx, _kernel_gradient(x, dy)


_cpu_conv.defvjp(lambda x, kernel: (_xla_conv(x, kernel), (x, kernel)), _cpu_conv_backward)


def _kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
  """The gradient [3, 3, C, D] of sum(conv3x3(x, kernel) * dy) by the kernel."""
  batch, h, w, c = x.shape
  tile = next((m for m in (4, 3, 2) if h % m == 0 and w % m == 0), None)
  if c < 8 or tile is None:
    return _kernel_gradient_by_product(x, dy)
  matrices = winograd_matrices(tile)
  images = _chunk(batch, h * w * max(c, dy.shape[-1]))
  if images == batch:
    total = _tile_products(x, dy, tile)
  else:
    # The loop runs over the second axis: a batch that is sharded stays where it is, as each device's images are a part of every chunk.
    x, dy = (a.reshape(images, batch // images, *a.shape[1:]) for a in (x, dy))
    take = functools.partial(lax.dynamic_index_in_dim, axis=1, keepdims=False)
    total = lax.fori_loop(
      0,
      batch // images,
      lambda i, total: total + _tile_products(take(x, i), take(dy, i), tile),
      jnp.zeros(((tile + 2) ** 2, c, dy.shape[-1]), x.dtype),
    )
  g = matrices[1]
  total = total.reshape(tile + 2, tile + 2, c, -1)
  return jnp.einsum('ia,jb,ijcd->abcd', g, g, total, precision='highest')


def _kernel_gradient_by_product(x, dy):
  """One matrix product with the nine shifted images side by side: best for few input channels."""
  _, h, w, c = x.shape
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  patches = jnp.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], -1)
  return (patches.reshape(-1, 9 * c).T @ dy.reshape(-1, dy.shape[-1])).reshape(3, 3, c, -1)


def _chunk(batch: int, elements: int) -> int:
  """How many images go through the loop at a time: a divisor of the batch, or all of it when the divisors are too small."""
  limit = max(_CHUNK_ELEMENTS // elements, 1)
  images = max(d for d in range(1, batch + 1) if batch % d == 0 and d <= limit)
  return images if 4 * images >= limit else batch


def _tile_products(x, dy, tile):
  """Winograd's sum over all tiles of (B' d B) (x) (A e A'), [(tile + 2)^2, C, D] (Lavin & Gray 2016, section 4; its transpose for the kernel)."""
  a, _, b = winograd_matrices(tile)
  n, h, w, _ = x.shape
  steps, size = h // tile, tile + 2
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = _combine(b, [x[:, i : i + tile * (steps - 1) + 1 : tile] for i in range(size)])
  inputs = [v for r in rows for v in _combine(b, [r[:, :, j : j + w - tile + 1 : tile] for j in range(size)])]
  dy = dy.reshape(n, steps, tile, w // tile, tile, -1)
  rows = _combine(a, [dy[:, :, i] for i in range(tile)])
  outputs = [v for r in rows for v in _combine(a, [r[:, :, :, j] for j in range(tile)])]
  products = [u.reshape(-1, u.shape[-1]).T @ v.reshape(-1, v.shape[-1]) for u, v in zip(inputs, outputs, strict=True)]
  return jnp.stack(products)


def _combine(matrix: np.ndarray, terms: Sequence[jax.Array]) -> list[jax.Array]:
  """`matrix @ terms` as sums that leave out the zeros, which XLA fuses into one loop each."""
  return [sum(float(c) * t for c, t in zip(row, terms, strict=True) if c) for row in matrix]


@functools.cache
def winograd_matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A [m+2, m], G [m+2, 3] and B' [m+2, m+2] of F(m, 3): A' [(G g) * (B' d)] are m outputs of the correlation of d with g.

  Lavin & Gray 2016, "Fast algorithms for convolutional neural networks", eq. 8, from the points of Toom and Cook (and infinity).
  """
  points = _POINTS[m]
  a, g, b = np.zeros((m + 2, m)), np.zeros((m + 2, 3)), np.zeros((m + 2, m + 2))
  for i, p in enumerate(points):
    others = [q for q in points if q != p]
    a[i], g[i] = [p**k for k in range(m)], [p**k / np.prod([p - q for q in others]) for k in range(3)]
    b[i, :-1] = polynomial.polyfromroots(others)
  a[-1, -1] = g[-1, -1] = 1
  b[-1] = polynomial.polyfromroots(points)
  return a.astype(np.float32), g.astype(np.float32), b.astype(np.float32)
