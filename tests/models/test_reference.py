"""Whole networks, in evaluation and in training, against the same in NumPy
(tests/models/reference.py).
"""

import copy

import jax
import numpy as np
import pytest

from mtface.models import bknet, efficientnet, mobilenet, rexnet
from tests.models import reference
from tests.models.networks import images, random_network

# A block of each kind; the published networks have more of the same.
STAGES = {
  'mobilenet': (mobilenet, {'STAGES': ((64, 1, 1), (128, 3, 2))}),
  'efficientnet': (efficientnet, {'STAGES': ((1, 16, 1, 1, 3), (6, 24, 2, 2, 5))}),
  'rexnet': (rexnet, {'BLOCKS': (1, 2, 2), 'STRIDES': (1, 2, 1)}),
}
NETWORKS = {
  'bknet': ('bknet', (17, 33, 1), {'width': 1 / 32}, {}),
  'bknet joined': ('bknet', (33, 17, 1), {'width': 1 / 32, 'join': True}, {'join': True}),
  'mobilenet': (
    'mobilenet',
    (33, 36, 3),
    {'width': 0.1, 'age_hidden': (5, 4)},
    {'strides': (1, 2)},
  ),
  'efficientnet': (
    'efficientnet',
    (32, 35, 3),
    {'width': 0.1, 'drop_path': 0.0},
    {'strides': (1, 2)},
  ),
  'rexnet': ('rexnet', (34, 33, 1), {'width': 0.1}, {'strides': (1, 2, 1, 1, 1)}),
}


def as_float64(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def assert_close(found, expected, tolerance):
  """Equal to `tolerance` of an array's largest value; in training, a batch norm of few samples
  makes a rounding larger.
  """
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max()),
    found,
    expected,
  )


@pytest.mark.parametrize('kind', NETWORKS)
def test_a_whole_network_is_the_papers(kind, monkeypatch):
  name, shape, fields, more = NETWORKS[kind]
  module, parts = STAGES.get(name, (bknet, {}))
  for constant, value in parts.items():
    monkeypatch.setattr(module, constant, value)
  tasks = ['smile', 'emotion7'] if name == 'bknet' else ['smile', 'age_years']
  network, params, stats = random_network(name, tasks, shape, dropout=0.0, **fields)
  x = images(8, *shape)
  compute = getattr(reference, name)
  wide = as_float64(params)

  found = jax.jit(network.scores)(params, stats, x)
  kept = as_float64(stats)
  expected = compute(
    wide, kept, np.asarray(x, np.float64), reference.Norms(False, name != 'bknet'), **more
  )
  assert_close(found, expected, 1e-4)
  jax.tree.map(np.testing.assert_array_equal, kept, as_float64(stats))

  found, new = jax.jit(network.train_scores)(params, stats, x, jax.random.key(0))
  kept = copy.deepcopy(kept)
  expected = compute(
    wide, kept, np.asarray(x, np.float64), reference.Norms(True, name != 'bknet'), **more
  )
  assert_close(found, expected, 5e-3)
  assert_close(new, kept, 2e-5)
