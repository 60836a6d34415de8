"""The parts that mobile networks share, against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import signal, special

from mtface.models import mobile
from mtface.models.convolution import Make
from tests.models.networks import images

MAKE = Make(nnx.Rngs(0))


def _normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_squeeze_excite_weighs_channels_by_the_whole_image():
  layer = mobile.SqueezeExcite(4, 3, MAKE, activation='relu')
  layer.reduce.bias[...], layer.expand.bias[...] = _normal(1, 3), _normal(2, 4)
  x = _normal(0, 2, 5, 3, 4)
  reduce, expand = np.asarray(layer.reduce.kernel[0, 0]), np.asarray(layer.expand.kernel[0, 0])
  inside = np.maximum(x.mean((1, 2)) @ reduce + _normal(1, 3), 0)
  weights = special.expit(inside @ expand + _normal(2, 4))
  np.testing.assert_allclose(layer(x, False), x * weights[:, None, None], rtol=1e-5, atol=1e-6)


def test_stochastic_depth_leaves_out_whole_samples_and_keeps_the_mean():
  layer = mobile.StochasticDepth(0.25)
  x = jnp.ones((4000, 2, 1, 3))
  y = np.asarray(layer(x, True, nnx.Rngs(dropout=0)))
  assert (y == y[:, :1, :, :1]).all()
  np.testing.assert_allclose(np.unique(y), [0, 1 / 0.75], rtol=1e-6)
  assert y.mean() == pytest.approx(1, abs=0.03)
  other = layer(x, True, nnx.Rngs(dropout=1))
  assert (np.asarray(other) != y).any()


def test_stochastic_depth_is_off_in_evaluation_and_while_frozen():
  layer, x = mobile.StochasticDepth(0.5), jnp.ones((100, 1, 1, 1))
  assert (layer(x, False, None) == 1).all()
  with pytest.raises(ValueError, match='stream'):
    layer(x, True, None)
  layer.frozen = True
  assert (layer(x, True, nnx.Rngs(dropout=0)) == 1).all()


def _block(out_features, **kinds):
  shape = mobile.Shape(
    in_features=2, inside=4, out_features=out_features, size=3, stride=1, reduced=0, drop_path=0.0
  )
  return mobile.InvertedResidual(shape, MAKE, **kinds)


def test_a_block_adds_its_input_where_the_channels_allow_it():
  x = images(1, 4, 4, 2)
  for block, added in (
    (_block(2), 2),
    (_block(3), 0),
    (_block(3, widening=True), 2),
    (_block(1, widening=True), 0),
  ):
    block.project.norm.scale[...] = jnp.zeros_like(
      block.project.norm.scale[...]
    )  # what remains is the input
    y = np.asarray(block(x, False, None))
    np.testing.assert_array_equal(y[..., :added], x[..., :added])
    assert (y[..., added:] == 0).all()


def test_a_block_in_evaluation_is_its_published_sum():
  """Expand, depthwise, project with all normalisations as they start: a division by sqrt(1 +
  epsilon) each.
  """
  block, x, unit = _block(3), images(1, 4, 4, 2), np.sqrt(1 + 1e-5)
  silu = lambda x: x * special.expit(x)  # noqa: E731
  y = silu(np.asarray(x[0]) @ np.asarray(block.expand.conv.kernel[0, 0]) / unit)
  kernel = np.asarray(block.depthwise.conv.kernel[:, :, 0])
  y = np.stack([signal.correlate2d(y[..., c], kernel[..., c], 'same') for c in range(4)], -1)
  y = silu(y / unit) @ np.asarray(block.project.conv.kernel[0, 0]) / unit
  np.testing.assert_allclose(block(x, False, None)[0], y, rtol=1e-4, atol=1e-5)


def test_round_channels():
  # B1 to B7's stems in timm: 32, 32, 40, 48, 48, 56, 64.
  assert [mobile.round_channels(32 * w) for w in (1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0)] == [
    32,
    32,
    40,
    48,
    48,
    56,
    64,
  ]
  assert mobile.round_channels(3.2) == 8
  assert mobile.round_channels(11.9) == 16  # 8 would be less than nine tenths of it
