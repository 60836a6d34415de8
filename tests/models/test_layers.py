"""Every layer against an independent one: SciPy's or XLA's convolution, flax's BatchNorm,
reduce_window.
"""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from scipy import signal

from mtface.models import layers, platforms, winograd


def _normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _close(actual, expected, tolerance=5e-5):
  """Equal to `tolerance` of the largest expected value: Winograd's errors are relative to the sum's
  terms, not to each sum.
  """
  np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def _correlate(x, kernel):
  """3x3 SAME correlation in float64 by SciPy, one image and channel at a time."""
  y = np.zeros((*x.shape[:3], kernel.shape[3]))
  for n, c, d in np.ndindex(x.shape[0], x.shape[3], kernel.shape[3]):
    y[n, :, :, d] += signal.correlate2d(
      x[n, :, :, c].astype(np.float64), kernel[:, :, c, d], 'same'
    )
  return y


def _xla(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


@pytest.mark.parametrize('shape', [(6, 12, 8), (16, 6, 3), (8, 2, 10), (1, 12, 8), (1, 5, 5)])
def test_convolution_is_scipys(shape):
  x, kernel = _normal(0, *shape, 32), _normal(1, 3, 3, 32, 32)
  _close(jax.jit(layers.conv3x3)(x, kernel), _correlate(x, kernel))


@pytest.mark.parametrize(
  ('batch', 'size', 'c', 'd'),
  [
    (2, 48, 1, 32),
    (32, 48, 32, 32),
    (2, 24, 32, 48),
    (5, 12, 32, 64),
    (16, 6, 64, 32),
    (33, 3, 32, 32),
    (5, 3, 32, 32),
    (2, 7, 32, 32),
    (3, 8, 4, 8),
  ],
)
def test_convolution_and_its_gradients_are_xlas(batch, size, c, d):
  x, kernel, dy = (
    _normal(0, batch, size, size, c),
    _normal(1, 3, 3, c, d) / np.sqrt(9 * c),
    _normal(2, batch, size, size, d),
  )

  def run(convolve):
    y, pull = jax.vjp(convolve, x, kernel)
    return y, *pull(dy)

  for actual, expected in zip(
    jax.jit(run, static_argnums=0)(layers.conv3x3), run(_xla), strict=True
  ):
    _close(actual, expected)


@pytest.mark.parametrize(
  ('shape', 'tile'),
  [
    ((8, 8, 8, 32), 4),
    ((8, 6, 6, 32), 3),
    ((7, 2, 10, 32), 2),
    ((7, 8, 8, 32), None),
    ((8, 8, 8, 31), None),
    ((99, 5, 5, 32), None),
    ((0, 8, 8, 32), None),
  ],
)
def test_few_tiles_and_few_channels_are_left_to_xla(shape, tile):
  assert winograd._tile(jnp.zeros(shape), jnp.zeros((3, 3, shape[-1], 32))) == tile


def test_large_batches_go_through_in_chunks():
  assert winograd._chunks(jnp.zeros((64, 48, 48, 32)), 32).shape == (8, 8, 48, 48, 32)
  assert winograd._chunks(jnp.zeros((67, 48, 48, 32)), 32).shape == (
    1,
    67,
    48,
    48,
    32,
  )  # a prime: all at once


@pytest.mark.parametrize('m', [2, 3, 4])
def test_winograd_matrices_compute_a_correlation(m):
  a, g, b = winograd.matrices(m)
  signal_, taps = _normal(0, m + 2), _normal(1, 3)
  np.testing.assert_allclose(
    a.T @ ((g @ taps) * (b @ signal_)), np.correlate(signal_, taps, 'valid'), atol=1e-5
  )


def test_conv_layer_has_the_parameters_and_results_of_flax():
  ours, flax = layers.Conv3x3(32, 32, rngs=nnx.Rngs(0)), nnx.Conv(32, 32, (3, 3), rngs=nnx.Rngs(1))
  flax.bias[...] = _normal(3, 32)
  state = nnx.state(flax, nnx.Param)
  assert jax.tree.map(jnp.shape, nnx.state(ours, nnx.Param)) == jax.tree.map(jnp.shape, state)
  nnx.update(ours, state)
  x = _normal(0, 2, 12, 12, 32)
  _close(nnx.jit(lambda layer: layer(x))(ours), flax(x))


def test_conv_layer_in_bfloat16_keeps_float32_parameters():
  layer = layers.Conv3x3(32, 32, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
  x = _normal(0, 2, 12, 12, 32)
  assert layer.kernel.dtype == jnp.float32
  assert layer(x).dtype == jnp.bfloat16
  _close(layer(x).astype(jnp.float32), _correlate(x, np.asarray(layer.kernel[...])), 2e-2)


def _flax_activation(name, y):
  of_flax = {'relu': nnx.relu, 'silu': nnx.silu, 'none': lambda y: y}
  return jnp.minimum(nnx.relu(y), 6) if name == 'relu6' else of_flax[name](y)


@pytest.mark.parametrize(
  ('shape', 'pool'),
  [
    ((4, 6, 5, 8), False),
    ((16, 8), False),
    ((4, 6, 4, 8), True),
    ((3, 5, 7, 8), True),
    ((6, 8, 128, 8), False),  # in pieces
  ],
)
@pytest.mark.parametrize('activation', layers.ACTIVATIONS)
@pytest.mark.parametrize('core', ['shared', 'alone'])
def test_batch_norm_and_its_gradients_are_flaxs(shape, pool, activation, core, monkeypatch):
  monkeypatch.setattr(platforms, 'is_alone', lambda: core == 'alone')
  x = 3 * _normal(0, *shape) + 2
  out = (shape[0], shape[1] // 2, shape[2] // 2, shape[3]) if pool else shape
  weights = _normal(1, *out)
  scale, bias = _normal(2, shape[-1]), _normal(3, shape[-1])

  def run(kind):
    def loss(x, scale, bias):
      layer = (
        layers.BatchNorm(8, rngs=nnx.Rngs(0))
        if kind == 'ours'
        else nnx.BatchNorm(8, momentum=0.9, rngs=nnx.Rngs(0))
      )
      layer.scale[...], layer.bias[...] = scale, bias
      if kind == 'ours':
        y = layer(x, True, activation=activation, pool=pool)
      else:
        y = _flax_activation(activation, layer(x, use_running_average=False))
        y = nnx.max_pool(y, (2, 2), (2, 2)) if pool else y
      return jnp.sum(y * weights), (y, layer.mean[...], layer.var[...])

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(x, scale, bias)

  for actual, expected in zip(
    jax.tree.leaves(run('ours')), jax.tree.leaves(run('flax')), strict=True
  ):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5 * max(1, x.size / 1000))


@pytest.mark.parametrize(('shape', 'pool'), [((6, 4, 6, 8), True), ((6, 8), False)])
def test_ghost_batches_are_batches_of_their_own(shape, pool):
  x = _normal(0, *shape)
  scale, bias = _normal(2, 8), _normal(3, 8)

  def run(parts, ghost_batch):
    def loss(parts, scale, bias):
      found, statistics = [], []
      for part in parts:
        layer = layers.BatchNorm(8, unbiased=True)
        layer.scale[...], layer.bias[...], layer.ghost_batch = scale, bias, ghost_batch
        found.append(layer(part, True, activation='relu', pool=pool))
        statistics.append((layer.mean[...], layer.var[...]))
      y = jnp.concatenate(found)
      total = jnp.sum(y * _normal(1, *y.shape))
      return total, (y, *(sum(of) / len(parts) for of in zip(*statistics, strict=True)))

    (_, values), (dx, *grads) = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
      parts, scale, bias
    )
    return *values, jnp.concatenate(dx), *grads

  for actual, expected in zip(run([x], 2), run([x[:2], x[2:4], x[4:]], 0), strict=True):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_in_evaluation_uses_the_running_statistics():
  layer = layers.BatchNorm(3, rngs=nnx.Rngs(0))
  layer.mean[...], layer.var[...] = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 9.0, 16.0])
  x = _normal(0, 5, 3)
  np.testing.assert_allclose(
    layer(x, False), (x - [1, 2, 3]) / np.sqrt(np.array([4, 9, 16]) + 1e-5), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_array_equal(layer.mean[...], [1, 2, 3])


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
  layer = layers.BatchNorm(4, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
  x = _normal(0, 64, 4)
  assert layer(x, True).dtype == jnp.bfloat16
  assert layer.mean.dtype == layer.var.dtype == jnp.float32
  rounded = np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)
  np.testing.assert_allclose(layer.mean[...], 0.1 * rounded.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('size', [48, 6, 7, 3])
def test_max_pool_and_its_gradient_are_reduce_windows(size):
  x = _normal(0, 2, size, size, 4)
  expected, pull = jax.vjp(lambda x: nnx.max_pool(x, (2, 2), (2, 2)), x)
  actual, our_pull = jax.vjp(layers.max_pool_2x2, x)
  np.testing.assert_array_equal(actual, expected)
  dy = _normal(1, *expected.shape)
  np.testing.assert_array_equal(our_pull(dy)[0], pull(dy)[0])


def test_the_first_of_equal_pixels_gets_the_gradient_of_a_pool():
  x = jnp.array([[[1, 1], [0, 1]], [[0, 2], [2, 2]]], jnp.float32)[..., None]
  pool = lambda x: nnx.max_pool(x, (2, 2), (2, 2)).sum()  # noqa: E731
  np.testing.assert_array_equal(
    jax.grad(lambda x: layers.max_pool_2x2(x).sum())(x), jax.grad(pool)(x)
  )

  def of_norm(x, pooled):
    y = layers.BatchNorm(1, rngs=nnx.Rngs(0))(x, True, activation='relu', pool=pooled)
    return (y if pooled else nnx.max_pool(y, (2, 2), (2, 2))).sum()

  ours, xlas = (jax.grad(of_norm)(x, pooled) for pooled in (True, False))
  np.testing.assert_allclose(ours, xlas, rtol=1e-5, atol=1e-6)


def test_batch_norm_in_evaluation_pools_what_it_activates():
  layer, x = layers.BatchNorm(3, rngs=nnx.Rngs(0)), _normal(0, 2, 4, 6, 3)
  layer.mean[...], layer.var[...] = jnp.array([1.0, 0.0, -1.0]), jnp.array([4.0, 1.0, 9.0])
  layer.scale[...] = jnp.array([1.0, -2.0, 0.5])
  normal = (x - [1, 0, -1]) / np.sqrt(np.array([4, 1, 9]) + 1e-5) * [1, -2, 0.5]
  expected = np.maximum(normal, 0).reshape(2, 2, 2, 3, 2, 3).max((2, 4))
  found = layer(x, False, activation='relu', pool=True)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_unbiased_variance_is_numpys():
  norm = layers.BatchNorm(3, unbiased=True)
  x = np.random.default_rng(0).normal(size=(2, 2, 1, 3)).astype(np.float32)
  norm(x, True)
  np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * x.reshape(4, 3).var(0, ddof=1), rtol=1e-6)
  norm(x[:1, :1], True)  # of one value there is no estimate, and no infinity either
  assert np.isfinite(np.asarray(norm.var[...])).all()


_SHARDED = """
  import jax, jax.numpy as jnp, numpy as np
  from flax import nnx
  from jax.sharding import NamedSharding, PartitionSpec
  from mtface.models import depthwise, layers

  conv, norm = layers.Conv3x3(32, 32, rngs=nnx.Rngs(0)), layers.BatchNorm(32)

  def loss(kernel, scale, x):
    y = depthwise.depthwise_conv(layers.conv3x3(x, kernel), kernel[:, :, :1], 2)
    y, *statistics = layers.batch_norm(y, scale, jnp.zeros(32), 1e-5, 'relu')
    return jnp.mean(layers.max_pool_2x2(y) ** 3), statistics

  x = np.random.default_rng(0).normal(size=(16, 12, 12, 32)).astype(np.float32)
  step = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
  kernel, scale = conv.kernel[...], norm.scale[...]
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
  kernel8, scale8 = jax.device_put((kernel, scale), NamedSharding(mesh, PartitionSpec()))
  compiled = step.lower(kernel8, scale8, sharded).compile()
  text = compiled.as_text()
  assert 'all-reduce' in text
  assert not any(name in text for name in ('all-gather', 'all-to-all', 'collective-permute'))
  alone, together = step(kernel, scale, x), compiled(kernel8, scale8, sharded)
  for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())
"""


def test_sharded_batch_gives_the_same_and_stays_where_it_is():
  environment = {
    **os.environ,
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    'JAX_PLATFORMS': 'cpu',
  }
  subprocess.run([sys.executable, '-c', textwrap.dedent(_SHARDED)], env=environment, check=True)
