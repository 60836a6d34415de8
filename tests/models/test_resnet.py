"""ResNets for small images against the papers' tables and NumPy."""

import jax
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.models.resnet import shortcut
from tests.models import reference
from tests.models.networks import count, images, random_network, shapes
from tests.models.test_reference import as_float64, assert_close


def test_parameter_counts_are_the_papers():
  # He et al. 2015, Table 6: 0.46 M and 1.7 M. Exactly: of 3x3 kernels 9 * in * out, two numbers a
  # channel of each normalisation, and ten classes.
  for depth, expected in ((32, 464_154), (110, 1_727_962)):
    n = (depth - 2) // 6
    kernels = 3 * 16 + 16 * 16 * 2 * n + 16 * 32 + 32 * 32 * (2 * n - 1)
    kernels += 32 * 64 + 64 * 64 * (2 * n - 1)
    channels = 16 + 2 * n * (16 + 32 + 64)
    assert 9 * kernels + 2 * channels + 650 == expected
    found = shapes('resnet', ['identity:10'], (32, 32, 3), depth=depth)
    assert count(found) == expected
    assert sum(path.endswith('kernel') for path in found) == depth  # the layers that are counted
  v2 = shapes('resnet', ['identity:10'], (32, 32, 3), depth=110, version='v2')
  assert count(v2) == 1_727_962  # the stem's normalisation is behind the last block instead


def test_maps_are_those_of_the_paper():
  found = shapes('resnet', [], (32, 32, 3), depth=20)
  kernels = [shape for path, shape in found.items() if path.endswith('kernel')]
  rows = [(16, 16)] * 6 + [(16, 32)] + [(32, 32)] * 5 + [(32, 64)] + [(64, 64)] * 5 + [(3, 16)]
  assert kernels == [(3, 3, *row) for row in rows]


def test_the_shortcut_takes_every_second_pixel_and_puts_zeros_on_both_sides():
  x = np.arange(2 * 5 * 4 * 2, dtype=np.float32).reshape(2, 5, 4, 2)
  y = np.asarray(shortcut(x, 5, 2))
  assert y.shape == (2, 3, 2, 5)
  np.testing.assert_array_equal(y[:, 1, 1], np.pad(x[:, 2, 2], ((0, 0), (1, 2))))
  np.testing.assert_array_equal(shortcut(x, 2, 1), x)


@pytest.mark.parametrize(
  ('version', 'fields', 'compute'),
  [('v1', {'branch': (5, 4)}, reference.resnet), ('v2', {}, reference.resnet_v2)],
)
def test_a_whole_network_is_the_papers(version, fields, compute):
  network, params, stats = random_network(
    'resnet', ['smile', 'emotion7'], (9, 12, 3), depth=14, version=version, width=0.2, **fields
  )
  x = images(8, 9, 12, 3)
  wide, x64 = as_float64(params), np.asarray(x, np.float64)
  for train, tolerance in ((False, 1e-4), (True, 5e-3)):
    kept = as_float64(stats)
    expected = compute(wide, kept, x64, reference.Norms(train, unbiased=True))
    if train:
      found, new = jax.jit(network.train_scores)(params, stats, x, jax.random.key(0))
      assert_close(new, kept, 1e-3)
    else:
      found = jax.jit(network.scores)(params, stats, x)
    assert_close(found, expected, tolerance)


@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_every_parameter_has_a_gradient(version):
  network, params, stats = random_network(
    'resnet', ['smile'], (8, 8, 1), depth=8, width=0.2, version=version, input='imagenet'
  )

  def loss(params):
    scores, _ = network.train_scores(params, stats, images(4, 8, 8, 1), jax.random.key(0))
    return (scores['smile'] ** 2).sum()

  grads = jax.jit(jax.grad(loss))(params)
  assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
  ('shape', 'fields', 'message'),
  [
    ((32, 32, 3), {'depth': 34}, r'config.model.depth: 34; a resnet has 6n \+ 2 layers'),
    ((32, 32, 3), {'depth': 2}, 'config.model.depth: 2; a'),
    ((32, 32, 3), {'depth': True}, 'config.model.depth: True; a'),
    ((32, 32, 3), {'version': 'v3'}, "config.model.version 'v3' is unknown; expected v1, v2"),
    ((3, 32, 3), {}, 'model resnet: images of 3x32 are too small; expected at least 4x4'),
    ((32, 32, 3), {'width': 0}, 'config.model.width: 0 is out of range'),
    ((32, 32, 3), {'branch': 256}, 'config.model.branch: 256; expected layer widths'),
  ],
)
def test_bad_fields(shape, fields, message):
  with pytest.raises(UserError, match=message):
    shapes('resnet', ['smile'], shape, **fields)
