"""What all networks but BKNet share: the scale of images, heads, and fields that are refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.models import backbone
from tests.models.networks import images, random_network, shapes


def test_imagenets_mean_becomes_zero_and_its_deviation_one():
  mean, std = (
    np.array([0.485, 0.456, 0.406]),
    np.array([0.229, 0.224, 0.225]),
  )  # torchvision's published values
  pixels = np.stack([mean, mean + std])[:, None, None]
  expected = np.array([0.0, 1.0])[:, None, None, None] * np.ones((1, 1, 3))
  np.testing.assert_allclose(
    backbone.rescaled(jnp.asarray(2 * pixels - 1), 'imagenet'), expected, atol=1e-5
  )
  np.testing.assert_array_equal(backbone.rescaled(jnp.asarray(pixels), 'half'), jnp.asarray(pixels))
  grey = jnp.full((1, 1, 1, 1), 2 * mean.mean() - 1)
  np.testing.assert_allclose(backbone.rescaled(grey, 'imagenet'), 0, atol=1e-5)


def test_a_network_sees_images_as_its_input_says():
  fields, shape = {'depth': 8, 'width': 0.2}, (8, 8, 3)
  network, params, stats = random_network('resnet', ['smile'], shape, input='imagenet', **fields)
  plain, *_ = random_network('resnet', ['smile'], shape, input='half', **fields)
  x = np.asarray(images(2, *shape))
  normalised = (x / 2 + 0.5 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  expected = plain.features(params, stats, jnp.asarray(normalised, jnp.float32))
  np.testing.assert_allclose(network.features(params, stats, x), expected, rtol=1e-4, atol=1e-4)


def test_caffes_means_become_zero_in_the_order_blue_green_red():
  mean = np.array(
    [123.68, 116.779, 103.939], np.float32
  )  # of red, green, blue, as Keras' imagenet_utils has them
  rgb = mean + np.array([1, 10, 100], np.float32)
  found = backbone.rescaled(jnp.asarray(rgb.reshape(1, 1, 1, 3) / 127.5 - 1), 'caffe')
  np.testing.assert_allclose(found[0, 0, 0], [100, 10, 1], atol=1e-4)


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


def test_vgg_faces_means_become_zero_in_the_order_red_green_blue():
  # averageImage of MatConvNet's vgg_face.mat, as its conversions to PyTorch repeat it.
  mean = np.array([129.186279296875, 104.76238250732422, 93.59396362304688])
  rgb = mean + np.array([1, 10, 100])
  pixels = jnp.asarray(rgb.reshape(1, 1, 1, 3) / 127.5 - 1, jnp.float32)
  found = backbone.rescaled(pixels, 'vggface')
  np.testing.assert_allclose(found[0, 0, 0], [1, 10, 100], atol=1e-3)
  grey = jnp.full((1, 1, 1, 1), mean.mean() / 127.5 - 1)
  np.testing.assert_allclose(backbone.rescaled(grey, 'vggface'), 0, atol=1e-3)


def test_a_branch_and_layers_of_ages_are_not_had_together():
  with pytest.raises(UserError, match=r'age_hidden: \(8,\) beside config.model.branch=\(256,\)'):
    shapes('mobilenet', ['smile'], (32, 32, 3), age_hidden=(8,), branch=(256,))
