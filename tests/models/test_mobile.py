"""The parts that mobile networks share, against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import signal, special

from mtface.errors import UserError
from mtface.models import mobile
from mtface.models.layers import BatchNorm
from mtface.models.paths import is_batch_norm
from tests.models.networks import images, shapes

MAKE = mobile.Make(nnx.Rngs(0))


def _normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(('size', 'stride'), [(3, 2), (1, 1)])
def test_convolution_is_scipys(size, stride):
  x, kernel = _normal(0, 1, 6, 7, 2), _normal(1, size, size, 2, 3)
  expected = np.zeros((6, 7, 3))
  for c, d in np.ndindex(2, 3):
    expected[..., d] += signal.correlate2d(x[0, ..., c], kernel[:, :, c, d], 'same')
  np.testing.assert_allclose(
    mobile.conv(x, kernel, stride)[0], expected[::stride, ::stride], atol=2e-6
  )


def test_kernels_are_drawn_by_the_outputs_that_a_value_reaches():
  dense = mobile.Conv(16, 64, 3, MAKE).kernel[...]
  depthwise = mobile.Conv(512, 512, 3, MAKE, depthwise=True).kernel[...]
  assert depthwise.shape == (3, 3, 1, 512)
  assert float(dense.std()) == pytest.approx(
    np.sqrt(2 / (9 * 64)), rel=0.05
  )  # He et al. 2015, eq. 14
  assert float(depthwise.std()) == pytest.approx(np.sqrt(2 / 9), rel=0.05)


def test_squeeze_excite_weighs_channels_by_the_whole_image():
  layer = mobile.SqueezeExcite(4, 3, MAKE, activation='relu')
  layer.reduce.bias[...], layer.expand.bias[...] = _normal(1, 3), _normal(2, 4)
  x = _normal(0, 2, 5, 3, 4)
  reduce, expand = np.asarray(layer.reduce.kernel[0, 0]), np.asarray(layer.expand.kernel[0, 0])
  inside = np.maximum(x.mean((1, 2)) @ reduce + _normal(1, 3), 0)
  weights = special.expit(inside @ expand + _normal(2, 4))
  np.testing.assert_allclose(layer(x, False), x * weights[:, None, None], rtol=1e-5, atol=1e-6)


def test_unbiased_variance_is_numpys():
  norm = BatchNorm(3, unbiased=True)
  x = _normal(0, 2, 2, 1, 3)
  norm(x, True)
  np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * x.reshape(4, 3).var(0, ddof=1), rtol=1e-6)
  norm(x[:1, :1], True)  # of one value there is no estimate, and no infinity either
  assert np.isfinite(np.asarray(norm.var[...])).all()


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


def test_imagenets_mean_becomes_zero_and_its_deviation_one():
  mean, std = (
    np.array([0.485, 0.456, 0.406]),
    np.array([0.229, 0.224, 0.225]),
  )  # torchvision's published values
  pixels = np.stack([mean, mean + std])[:, None, None]
  expected = np.array([0.0, 1.0])[:, None, None, None] * np.ones((1, 1, 3))
  np.testing.assert_allclose(
    mobile.rescaled(jnp.asarray(2 * pixels - 1), 'imagenet'), expected, atol=1e-5
  )
  np.testing.assert_array_equal(mobile.rescaled(jnp.asarray(pixels), 'half'), jnp.asarray(pixels))
  grey = jnp.full((1, 1, 1, 1), 2 * mean.mean() - 1)
  np.testing.assert_allclose(mobile.rescaled(grey, 'imagenet'), 0, atol=1e-5)


def test_caffes_means_become_zero_in_the_order_blue_green_red():
  mean = np.array(
    [123.68, 116.779, 103.939], np.float32
  )  # of red, green, blue, as Keras' imagenet_utils has them
  rgb = mean + np.array([1, 10, 100], np.float32)
  found = mobile.rescaled(jnp.asarray(rgb.reshape(1, 1, 1, 3) / 127.5 - 1), 'caffe')
  np.testing.assert_allclose(found[0, 0, 0], [100, 10, 1], atol=1e-4)


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


def test_only_tasks_with_years_have_hidden_layers():
  found = shapes('mobilenet', ['gender', 'age_years'], age_hidden=(64, 32))
  heads = {
    path: shape
    for path, shape in found.items()
    if path.startswith('heads') and path.endswith('kernel')
  }
  assert heads == {
    'heads/gender/scores/kernel': (1024, 2),
    'heads/age_years/hidden/0/kernel': (1024, 64),
    'heads/age_years/hidden/1/kernel': (64, 32),
    'heads/age_years/scores/kernel': (32, 117),
  }


def test_batch_norms_are_known_by_their_paths():
  assert is_batch_norm('trunk/stem/norm/scale')
  assert is_batch_norm('blocks/0/norms/1/bias')
  assert not is_batch_norm('trunk/stem/conv/kernel')


def test_hidden_layers_are_relus_of_products():
  head = mobile.Head(3, 2, MAKE, hidden=(4,), dropout=0.5)
  x = images(5, 3)
  hidden = np.maximum(np.asarray(x) @ np.asarray(head.hidden[0].kernel[...]), 0)
  expected = hidden @ np.asarray(head.scores.kernel[...])
  np.testing.assert_allclose(head(x, False, None), expected, rtol=1e-4, atol=1e-6)
  assert (np.asarray(head(x, True, nnx.Rngs(dropout=jax.random.key(0)))) != expected).any()


@pytest.mark.parametrize(
  ('name', 'shape', 'fields', 'message'),
  [
    (
      'mobilenet',
      (31, 64, 3),
      {},
      'model mobilenet: images of 31x64 are too small; expected at least 32x32',
    ),
    (
      'rexnet',
      (64, 64, 3),
      {'input': 'full'},
      "config.model.input 'full' is unknown; expected half, imagenet, c",
    ),
    (
      'rexnet',
      (64, 64, 4),
      {'input': 'imagenet'},
      'config.model.input imagenet: needs images with 1 or 3 channels',
    ),
    (
      'efficientnet',
      (64, 64, 3),
      {'depth': 0},
      'config.model.depth: 0 is out of range; expected more than 0',
    ),
    ('efficientnet', (64, 64, 3), {'depth': 'two'}, "config.model.depth: 'two' is out of range"),
    (
      'efficientnet',
      (64, 64, 3),
      {'drop_path': 1.0},
      'config.model.drop_path: 1.0 is out of range; expected at least 0',
    ),
    ('rexnet', (64, 64, 3), {'dropout': float('nan')}, 'config.model.dropout: nan is out of range'),
    ('mobilenet', (64, 64, 3), {'width': True}, 'config.model.width: True is out of range'),
    (
      'mobilenet',
      (64, 64, 3),
      {'age_hidden': (64, 0)},
      r'config.model.age_hidden: \(64, 0\); expected layer widths',
    ),
    (
      'mobilenet',
      (64, 64, 3),
      {'depth': 1.0},
      "network mobilenet: there is no option 'depth'; there are name, width",
    ),
  ],
)
def test_bad_fields(name, shape, fields, message):
  with pytest.raises(UserError, match=message):
    shapes(name, ['smile'], shape, **fields)
