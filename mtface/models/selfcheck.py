"""Known answers: does this machine's JAX compute what it should? `mtface doctor` and the tests ask.

Each check computes what training computes, at its shapes, on the default device, and the same in
NumPy in float64. Versions of jaxlib that are known to be wrong are named (`known_bad`); the checks
would find others.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from mtface.models import layers

BATCH = 64
MAPS = ((48, 32), (24, 64), (6, 256))  # BKNet's: pixels a side and channels
SEED = 330
CONVOLUTIONS = ((48, 1, 32), (48, 32, 32), (24, 64, 64), (6, 256, 256))
# What rounding in float32 explains, as a share of the largest value. Winograd's transforms round a
# few times more than sums do.
_OF_SUMS, _OF_CONVOLUTIONS = 2e-5, 1e-4

# jaxlib: what is wrong with it.
_BAD = {
  '0.10.2': 'computes wrong sums on CPUs and can crash (jax issues 39103, 39257, 40412)',
  '0.11': 'computes wrong numbers on a GPU (jax issue 40633)',
}


def known_bad(version: str = jaxlib.__version__) -> str | None:
  """One line on a version of jaxlib that is known to be wrong; None for the others."""
  for bad, what in _BAD.items():
    if f'{version}.'.startswith(f'{bad}.'):
      return (
        f'jaxlib {version} {what}: do not trust its results; install jax 0.10.1, or 0.12 or '
        'newer on Python 3.12 or newer'
      )
  return None


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a check found: its largest error, and how much of it rounding explains, both as shares of
  the largest value.
  """

  name: str
  error: float
  allowed: float

  @property
  def right(self) -> bool:
    """Whether rounding explains the error."""
    return self.error <= self.allowed

  def __str__(self):
    if self.right:
      return f'known answer, {self.name}: right to {self.error:.0e}'
    return (
      f'known answer, {self.name}: WRONG by {self.error:.1g} of the largest value; rounding '
      f'would explain {self.allowed:.0e}'
    )


def selfcheck() -> list[Answer]:
  """Runs all checks, in seconds; matrix products are in full float32 where a device has cheaper
  ones.
  """
  with jax.default_matmul_precision('highest'):
    return [Answer(name, check(), allowed) for name, (check, allowed) in _CHECKS.items()]


def sums_of_products() -> float:
  """Jax issue 39103: the last of 32,769 rows had the sum of another one."""
  rows = np.arange(32769, dtype=np.float32)[:, None] * np.array([1, 0, 0], np.float32)
  identity = jnp.eye(3, dtype=jnp.float32)
  found = jax.jit(jax.vmap(lambda row: jnp.sum((identity @ row) ** 2)))(rows)
  return _error([found], [rows[:, 0].astype(np.float64) ** 2])


def sums_in_seven_dimensions() -> float:
  """Jax issue 40412: a segmentation fault on CPUs. So a process of its own computes it; any other
  end of it is infinitely wrong.
  """
  code = (
    'import jax, jax.numpy as jnp; a = jnp.ones((3, 1, 2, 2, 8, 8, 8)); '
    'print(float(abs(jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(a, 2 * a) - 4).max()))'
  )
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}  # a GPU's memory is this process's
  ended = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, env=environment, timeout=300
  )
  return float(ended.stdout.split()[-1]) if ended.returncode == 0 else float('inf')


def sums_over_pixels() -> float:
  """Sums of a batch's maps, and of their products, by channel, by image and
  channel, and by pixel.
  """
  errors = []
  for size, channels in MAPS:
    x, y = (_normal(seed, BATCH, size, size, channels) for seed in (1, 2))
    for axis in ((0, 1, 2), (1, 2), 3):
      found = jax.jit(lambda x, y, axis=axis: [jnp.sum(a, axis) for a in (x, x * x, x * y)])(x, y)
      x64, y64 = x.astype(np.float64), y.astype(np.float64)
      for total, terms in zip(found, (x64, x64 * x64, x64 * y64), strict=True):
        # Of both signs they may add up to little, but round as what is added does.
        errors.append(
          np.abs(np.asarray(total) - terms.sum(axis)).max() / np.abs(terms).sum(axis).max()
        )
  return max(errors)


def convolutions() -> float:
  """3x3 convolutions, and their gradients by the image and by the kernel."""

  def run(x, kernel, dy):
    y, pull = jax.vjp(layers.conv3x3, x, kernel)
    return y, *pull(dy)

  errors = []
  for size, c, d in CONVOLUTIONS:
    arrays = (
      _normal(1, BATCH, size, size, c),
      _normal(2, 3, 3, c, d),
      _normal(3, BATCH, size, size, d),
    )
    errors.append(_error(jax.jit(run)(*arrays), _convolve(*_doubles(arrays))))
  return max(errors)


def batch_norm() -> float:
  """Batch normalisation with ReLU: the result, the statistics, and the three gradients."""

  def run(x, scale, bias, dy):
    (y, *statistics), pull = jax.vjp(
      lambda x, scale, bias: layers.batch_norm(x, scale, bias, 1e-5, 'relu'), x, scale, bias
    )
    return y, *statistics, *pull((dy, *map(jnp.zeros_like, statistics)))

  errors = []
  for size, channels in MAPS:
    # Halves and a bias that keep off the ReLU's corner, where rounding would decide whether there
    # is a gradient.
    x = np.floor(3 * _normal(1, BATCH, size, size, channels)) + np.float32(2.5)
    scale = np.abs(_normal(2, channels)) + np.float32(0.5)
    arrays = x, scale, scale / np.float32(10), _normal(3, *x.shape)
    errors.append(_error(jax.jit(run)(*arrays), _normalise(*_doubles(arrays))))
  return max(errors)


def training_step() -> float:
  """A step of gradient descent on a small network: convolution, batch norm, ReLU, pool, dense
  layer, softmax loss.
  """
  x, labels, weights = small_network()

  def loss(weights):
    kernel, scale, bias, dense = weights
    y, _, _ = layers.batch_norm(layers.conv3x3(jnp.asarray(x), kernel), scale, bias, 1e-5, 'relu')
    scores = jax.nn.log_softmax(layers.max_pool_2x2(y).reshape(len(x), -1) @ dense)
    return -jnp.mean(scores[jnp.arange(len(x)), labels])

  value, gradients = jax.jit(jax.value_and_grad(loss))(weights)
  moved = [w - g for w, g in zip(weights, gradients, strict=True)]
  expected = _loss_and_gradients(x.astype(np.float64), labels, *_doubles(weights))
  return _error(
    [value, *moved], [expected[0], *(w - g for w, g in zip(weights, expected[1:], strict=True))]
  )


def small_network() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
  """Images [64, 4, 4, 32], their labels of 7, and weights: of a seed with which no value is next to
  a corner of ReLU or pool.
  """
  size, channels, classes = 4, 32, 7
  x = _normal(SEED, BATCH, size, size, channels)
  kernel, scale = (
    _normal(SEED + 1, 3, 3, channels, channels),
    np.abs(_normal(SEED + 2, channels)) + np.float32(0.5),
  )
  dense = _normal(SEED + 4, size * size // 4 * channels, classes) / np.float32(10)
  return (
    x,
    np.arange(BATCH) % classes,
    [kernel / np.float32(17), scale, _normal(SEED + 3, channels), dense],
  )


_CHECKS: dict[str, tuple[Callable[[], float], float]] = {
  'sums of products': (sums_of_products, _OF_SUMS),
  'sums in seven dimensions': (sums_in_seven_dimensions, 0.0),
  'sums over pixels': (sums_over_pixels, _OF_SUMS),
  'convolutions': (convolutions, _OF_CONVOLUTIONS),
  'batch normalisation': (batch_norm, _OF_SUMS),
  'a training step': (training_step, _OF_CONVOLUTIONS),
}


def _normal(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def _doubles(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
  return [a.astype(np.float64) for a in arrays]


def _error(found: Sequence[jax.Array], expected: Sequence[np.ndarray]) -> float:
  """The largest difference between arrays, as a share of the largest value expected of each; NaN is
  infinitely wrong.
  """
  errors = [
    np.abs(np.asarray(a) - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True)
  ]
  return float(np.nan_to_num(errors, nan=np.inf).max())


def _convolve(x: np.ndarray, kernel: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
  """3x3 SAME convolution and its two gradients: [y, dx, dkernel]."""
  _, h, w, _ = x.shape
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  y, dx, dkernel = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(kernel)
  for i, j in np.ndindex(3, 3):
    place = np.s_[:, i : i + h, j : j + w]
    y += padded[place] @ kernel[i, j]
    dx[place] += dy @ kernel[i, j].T
    dkernel[i, j] = np.tensordot(padded[place], dy, ([0, 1, 2], [0, 1, 2]))
  return [y, dx[:, 1:-1, 1:-1], dkernel]


def _normalise(
  x: np.ndarray, scale: np.ndarray, bias: np.ndarray, dy: np.ndarray
) -> list[np.ndarray]:
  """Batch norm and ReLU (Ioffe & Szegedy 2015, section 3): [y, mean, var, dx, dscale, dbias]."""
  axes = (0, 1, 2)
  mean, var = x.mean(axes), x.var(axes)
  standard = (x - mean) / np.sqrt(var + 1e-5)
  y = standard * scale + bias
  dy = dy * (y > 0)
  dscale, dbias = (dy * standard).sum(axes), dy.sum(axes)
  dx = scale / np.sqrt(var + 1e-5) * (dy - dy.mean(axes) - standard * (dy * standard).mean(axes))
  return [np.maximum(y, 0), mean, var, dx, dscale, dbias]


def _loss_and_gradients(x, labels, kernel, scale, bias, dense) -> list[np.ndarray]:
  """Of `training_step`'s network: [loss, and its gradients by the weights]."""
  n, h, w, _ = x.shape
  convolved = _convolve(x, kernel, np.zeros((n, h, w, kernel.shape[-1])))[0]
  normal = _normalise(convolved, scale, bias, np.zeros_like(convolved))[0]
  squares = normal.reshape(n, h // 2, 2, w // 2, 2, -1)
  pooled = squares.max((2, 4), keepdims=True)
  flat = pooled.reshape(n, -1)
  odds = np.exp(flat @ dense)
  softmax = odds / odds.sum(1, keepdims=True)
  loss = -np.log(softmax[np.arange(n), labels]).mean()
  dscores = (softmax - np.eye(dense.shape[1])[labels]) / n
  dnormal = ((squares == pooled) * (dscores @ dense.T).reshape(pooled.shape)).reshape(normal.shape)
  *_, dconvolved, dscale, dbias = _normalise(convolved, scale, bias, dnormal)
  return [loss, _convolve(x, kernel, dconvolved)[2], dscale, dbias, flat.T @ dscores]
