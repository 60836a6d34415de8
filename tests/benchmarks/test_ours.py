"""What our contestants hand over to be compared: against losses and gradients that are reckoned
here without mtface's step; a weight that is changed shows. And sets that both sides read.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import ours
from benchmarks.figures import agrees, distances
from benchmarks.networks import L2, spec
from benchmarks.pixels import batch, write_sets
from mtface.config.schema import outputs_of
from mtface.data.sources import load_source
from mtface.models.network import make_network
from mtface.models.paths import by_path


@pytest.fixture(scope='module')
def of(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  return spec('bknet', (16, 16, 1), 4, tiny=True) | {'weights': str(folder / 'w.safetensors')}


@pytest.fixture(scope='module')
def check(of):
  return ours._gradients(of)


def reckoned(of, change=0.0):
  """Loss and gradients of the same batch; the first kernel's first weight is changed."""
  config = ours.config_of(of, dropout=0.0)
  network, params, stats = make_network(config.model, outputs_of(config), of['image'], config.seed)
  kernel = params['blocks'][0]['convolutions'][0]['kernel']
  params['blocks'][0]['convolutions'][0]['kernel'] = kernel.at[0, 0, 0, 0].add(change)
  made = batch(of['batch'], of['image'], of['tasks'])
  images = made['image'] / np.float32(127.5) - 1

  def loss(params):
    scores, _ = network.train_scores(params, stats, images, jax.random.key(0))
    total = sum(L2 * jnp.sum(x**2) for x in jax.tree.leaves(params) if x.ndim > 1)
    for task, rows in scores.items():
      log = jax.nn.log_softmax(rows)[np.arange(len(rows)), made['labels'][task]]
      total -= jnp.sum(log * made['mask'][task]) / len(rows)
    return total

  value, gradients = jax.jit(jax.value_and_grad(loss))(params)
  arrays = {f'gradients/{name}': np.asarray(x) for name, x in by_path(gradients).items()}
  return {'loss': np.asarray(value), **arrays}


def test_loss_and_gradients_are_those_of_the_config(of, check):
  distance = distances(check, reckoned(of))
  assert set(distance) == {'loss', 'gradients'} and agrees(distance), distance


def test_a_weight_that_is_changed_is_noticed(of, check):
  distance = distances(check, reckoned(of, change=0.05))
  assert not agrees(distance), distance


def test_a_batch_labels_each_sample_for_one_task():
  made = batch(7, (4, 4, 1), ('smile', 'gender'))
  assert np.stack(list(made['mask'].values())).sum(0).tolist() == [1] * 7
  again = batch(7, (4, 4, 1), ('smile', 'gender'))
  np.testing.assert_array_equal(made['image'], again['image'])


def test_both_sides_read_the_same_pixels(tmp_path):
  write_sets(tmp_path, {'genki4k': 6, 'fer2013': 12, 'utkface': 9}, test=5)
  arrays = np.load(tmp_path / 'peer.npz')
  source = load_source('fer2013/gray48:private_test', tmp_path, ('emotion7',))
  order = np.argsort(source.image_ids)
  np.testing.assert_array_equal(source.gather(order), arrays['test/images'])
  np.testing.assert_array_equal(source.labels['emotion7'][order], arrays['test/labels'])
  assert len(np.unique(arrays['test/images'], axis=0)) == 5
  folds = load_source('genki4k/gray48:train[fold!=0/4]', tmp_path, ('smile',))
  assert len(folds) == len(arrays['genki4k/images']) == 6
