"""3x3 convolutions in float32 for CPUs, as matrix products over transformed tiles.

Lavin & Gray 2016, "Fast algorithms for convolutional neural networks". F(4x4, 3x3) takes a quarter
of the multiplications of the direct sum. What is left is matrix products, which XLA runs on a CPU
at the speed of the machine; its own gradient of a kernel runs at a tenth of that on large maps.
Results differ from `lax.conv_general_dilated` by about 1e-5 of the largest one.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.polynomial import polynomial

from mtface.models.platforms import is_alone, may_loop

# Elements of an activation that are transformed at a time: small enough that all transforms of them
# stay in a CPU's cache. Cores that share each product want more of them; the gradient by the kernel
# keeps more of them at a time, and takes fewer.
_CHUNK_ELEMENTS, _CORE_ELEMENTS, _GRADIENT_ELEMENTS = 1 << 20, 1 << 18, 1 << 18
# With fewer channels the transforms cost more than the products save (and tests of tiny models
# would wait for their compilation).
_MIN_CHANNELS = 32
# With fewer tiles, as in single images, the kernel's transform costs more than the products save.
_MIN_TILES = 32
_POINTS = {2: (0, 1, -1), 3: (0, 1, -1, 2), 4: (0, 1, -1, 2, -2)}


@jax.custom_vjp
def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [3, 3, C, D], stride 1, SAME padding -> [B, H, W, D]."""
  tile = _tile(x, kernel)
  if tile is None:
    return xla_conv3x3(x, kernel)
  g = _kernel_transform(tile)
  kernel = jnp.dot(g, kernel.reshape(9, -1), precision='highest').reshape(
    tile + 2, tile + 2, *kernel.shape[2:]
  )
  chunks = _chunks(x, kernel.shape[-1])
  if len(chunks) == 1:
    return _conv_tiles(x, kernel, tile)
  return lax.map(lambda part: _conv_tiles(part, kernel, tile), chunks).reshape(*x.shape[:3], -1)


def xla_conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """The same convolution as XLA computes it."""
  return lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
  """The gradient by the kernel, [3, 3, C, D], of the sum of conv3x3(x, kernel) * dy."""
  c, d = x.shape[-1], dy.shape[-1]
  kernel = jnp.zeros((3, 3, c, d), x.dtype)
  tile = _tile(x, kernel)
  if tile is None:
    return (
      _patches_gradient(x, dy) if c < 8 else jax.vjp(lambda k: xla_conv3x3(x, k), kernel)[1](dy)[0]
    )
  limit = max(
    _GRADIENT_ELEMENTS, (tile + 2) ** 2 * c * d // 2
  )  # what is added up is read each time
  chunks = _chunks(x, d, limit), _chunks(dy, c, limit)
  if len(chunks[0]) == 1:
    total = _tiles_gradient(x, dy, tile)
  else:
    total = jnp.zeros((tile + 2, tile + 2, c, d), x.dtype)
    total, _ = lax.scan(
      lambda total, part: (total + _tiles_gradient(*part, tile), None), total, chunks
    )
  g = _kernel_transform(tile)
  return jnp.dot(g.T, total.reshape(len(g), -1), precision='highest').reshape(kernel.shape)


def _backward(saved, dy):
  x, kernel = saved
  return conv3x3(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3)), kernel_gradient(x, dy)


conv3x3.defvjp(lambda x, kernel: (conv3x3(x, kernel), (x, kernel)), _backward)


def _tile(x: jax.Array, kernel: jax.Array) -> int | None:
  """The largest tile that divides the image; None where XLA's own convolution is to be used."""
  batch, h, w, _ = x.shape
  tile = next((m for m in (4, 3, 2) if h % m == 0 and w % m == 0), None)
  if tile is None or min(kernel.shape[2:]) < _MIN_CHANNELS or batch * h * w < _MIN_TILES * tile**2:
    return None
  return tile


def _kernel_transform(tile: int) -> np.ndarray:
  """What turns a kernel into G g G' in one product, [(tile + 2)^2, 9].

  As an einsum over one side after the other it takes ten times as long.
  """
  _, g, _ = matrices(tile)
  return np.kron(g, g)


def _chunks(x: jax.Array, other_channels: int, elements: int = 0) -> jax.Array:
  """x as [chunks, images, H, W, C], each chunk of at most `elements` (one image may be more; 0: as
  the device has one core or all).

  On several devices it is one chunk: a loop over a sharded batch would move it between them.
  """
  batch, h, w, c = x.shape
  elements = elements or (_CORE_ELEMENTS if is_alone() else _CHUNK_ELEMENTS)
  limit = max(elements // (h * w * max(c, other_channels)), 1)
  images = max(n for n in range(1, batch + 1) if batch % n == 0 and n <= limit)
  if (
    not may_loop() or 4 * images < limit
  ):  # a batch of, say, a prime number of images has no good divisor
    images = batch
  return x.reshape(batch // images, images, h, w, c)


def _conv_tiles(x: jax.Array, kernel: jax.Array, tile: int) -> jax.Array:
  """Lavin & Gray's algorithm 1: x [B, H, W, C], transformed kernel [tile + 2, tile + 2, C, D] ->
  [B, H, W, D].
  """
  a, _, _ = matrices(tile)
  n, h, w, _ = x.shape
  size, d = tile + 2, kernel.shape[-1]
  tiles = (size, n, h // tile, w // tile, d)
  products = [
    jnp.einsum('itc,icd->itd', v, kernel[:, j]) for j, v in enumerate(_input_tiles(x, tile))
  ]
  columns = jnp.stack([y.reshape(tiles) for y in _combine(a.T, products)], 4)
  rows = _combine(a.T, list(lax.optimization_barrier(columns.reshape(size, n, h // tile, w, d))))
  return jnp.stack(rows, 2).reshape(n, h, w, d)


def _tiles_gradient(x: jax.Array, dy: jax.Array, tile: int) -> jax.Array:
  """The same by the transformed kernel, [tile + 2, tile + 2, C, D]: the sum over the tiles d of x,
  e of dy of (B' d B) * (A e A').
  """
  a, _, _ = matrices(tile)
  n, h, w, d = dy.shape
  dy = dy.reshape(n, h // tile, tile, w // tile, tile, d)
  rows = jnp.stack(_combine(a, [dy[:, :, i] for i in range(tile)]))
  columns = _combine(a, [rows[:, :, :, :, j] for j in range(tile)])
  pairs = zip(_input_tiles(x, tile), columns, strict=True)
  return jnp.stack([jnp.einsum('itc,itd->icd', v, e.reshape(tile + 2, -1, d)) for v, e in pairs], 1)


def _input_tiles(x: jax.Array, tile: int) -> list[jax.Array]:
  """B' d B of all tiles d of x, as a list over its columns of [rows, tiles, C]."""
  _, _, b = matrices(tile)
  _, h, w, c = x.shape
  size = tile + 2
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = jnp.stack(_combine(b, [x[:, i : i + h - tile + 1 : tile] for i in range(size)]))
  columns = _combine(
    b, [rows[:, :, :, j : j + w - tile + 1 : tile] for j in range(size)], barrier=False
  )
  return [v.reshape(size, -1, c) for v in columns]


def _combine(
  matrix: np.ndarray, terms: Sequence[jax.Array], barrier: bool = True
) -> list[jax.Array]:
  """`matrix @ terms` as sums without the zeros: one fused loop each.

  The barrier keeps XLA from merging these sums into what reads them, which would compute them again
  for each of its terms.
  """
  sums = [
    functools.reduce(operator.add, [float(c) * t for c, t in zip(row, terms, strict=True) if c])
    for row in matrix
  ]
  return lax.optimization_barrier(sums) if barrier else sums


def _patches_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
  """The kernel's gradient as one product with the nine shifted images: best for an image of 1 or 3
  channels, each a plane of its own.
  """
  _, h, w, c = x.shape
  padded = jnp.pad(jnp.moveaxis(x, -1, 0), ((0, 0), (0, 0), (1, 1), (1, 1)))
  patches = jnp.stack([padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)])
  return (patches.reshape(9 * c, -1) @ dy.reshape(-1, dy.shape[-1])).reshape(3, 3, c, -1)


@functools.cache
def matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A [m+2, m], G [m+2, 3] and B' [m+2, m+2] of F(m, 3): A' [(G g) * (B' d)] are the m values of
  the correlation of d with g.

  Lavin & Gray 2016, equations 6 and 7, made from the points of Toom and Cook and from infinity.
  """
  points = _POINTS[m]
  a, g, b = np.zeros((m + 2, m)), np.zeros((m + 2, 3)), np.zeros((m + 2, m + 2))
  for i, p in enumerate(points):
    others = [q for q in points if q != p]
    a[i], g[i] = (
      [p**k for k in range(m)],
      [p**k / np.prod([p - q for q in others]) for k in range(3)],
    )
    b[i, :-1] = polynomial.polyfromroots(others)
  a[-1, -1] = g[-1, -1] = 1
  b[-1] = polynomial.polyfromroots(points)
  return a.astype(np.float32), g.astype(np.float32), b.astype(np.float32)
