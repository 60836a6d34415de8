import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtface.config.schema import experiment
from mtface.errors import UserError
from mtface.models.heads import INITS
from mtface.models.network import abstract_network, make_network
from mtface.models.paths import is_batch_norm, parameter_table
from mtface.tasks import get_task

SANG = ['smile', 'emotion7', 'gender']
ROHANI = ['smile', 'age_group', 'gender']


def model_config(**fields):
  config = experiment().model
  config.update(fields)
  return config


def shapes(tasks, shape=(48, 48, 1), **fields):
  """{path: shape} without computing anything."""
  _, params, _ = abstract_network(model_config(**fields), [get_task(t) for t in tasks], shape)
  return {path: shape for path, shape, _ in parameter_table(params)}


def random_network(tasks, shape, **fields):
  """A network with random numbers for parameters: JAX's own initialisation takes seconds to
  compile.
  """
  network, params, stats = abstract_network(
    model_config(**fields), [get_task(t) for t in tasks], shape
  )
  rng = np.random.default_rng(0)
  draw = lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype)  # noqa: E731
  return network, jax.tree.map(draw, params), jax.tree.map(lambda x: 1 + draw(x) ** 2, stats)


def count(found, norms=False):
  return sum(
    int(np.prod(shape)) for path, shape in found.items() if norms or not is_batch_norm(path)
  )


# Rohani 2023, Table 3: the number of parameters without batch normalisation fixes every shape.
@pytest.mark.parametrize(
  ('tasks', 'join', 'published'),
  [(['smile'], False, 2_418_146), (ROHANI, False, 3_731_946), (ROHANI, True, 3_953_130)],
)
def test_parameter_counts_are_the_published_ones(tasks, join, published):
  assert count(shapes(tasks, join=join)) == published


def test_shapes_are_those_of_the_paper():
  found = shapes(SANG)
  kernels = [
    found[f'blocks/{b}/convolutions/{c}/kernel']
    for b, n in enumerate((2, 2, 2, 3))
    for c in range(n)
  ]
  channels = [1, 32, 32, 64, 64, 128, 128, 256, 256, 256]
  assert kernels == [(3, 3, a, b) for a, b in itertools.pairwise(channels)]
  for task, classes in zip(SANG, (2, 7, 2), strict=True):
    branch = [
      found[f'branches/{task}/{layer}/kernel'] for layer in ('hidden/0', 'hidden/1', 'scores')
    ]
    assert branch == [(2304, 256), (256, 256), (256, classes)]


def test_the_join_pools_the_first_block_to_the_last_ones_size():
  network, params, stats = random_network(['smile'], (32, 32, 1), width=0.0625, join=True)
  model = nnx.merge(network.graph, params, stats)
  images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)), jnp.float32)
  early = np.asarray(model.blocks[0](images, False))  # 16x16x2
  features = np.asarray(model.features(images)).reshape(2, 2, 2, 16 + 2)
  np.testing.assert_array_equal(
    features[..., 16:], early.reshape(2, 2, 8, 2, 8, 2).max(axis=(2, 4))
  )


def test_published_init_is_gaussian_with_std_001():
  _, params, _ = make_network(model_config(), [get_task('emotion7')], (48, 48, 1), 3)
  kernels = [x for x in jax.tree.leaves(params) if x.ndim > 1 and x.size > 10_000]
  assert len(kernels) == 9  # all but the first convolution and the scores
  for kernel in map(np.asarray, kernels):
    assert abs(kernel.std() - 0.01) < 4e-4
    assert abs(kernel.mean()) < 4e-4


def test_modern_init_keeps_the_scale_of_the_signal():
  kernel = np.asarray(INITS['he'](jax.random.key(0), (3, 3, 64, 64)))
  assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)  # He et al. 2015, eq. 10


@pytest.fixture(scope='module')
def tiny():
  return random_network(SANG, (16, 16, 1), width=0.03125)


def test_scores_of_any_set_of_tasks(tiny):
  network, params, stats = tiny
  images = jnp.zeros((4, 16, 16, 1))
  scores = network.scores(params, stats, images)
  assert {task: s.shape for task, s in scores.items()} == {
    'smile': (4, 2),
    'emotion7': (4, 7),
    'gender': (4, 2),
  }
  assert all(s.dtype == jnp.float32 for s in scores.values())


def test_training_uses_dropout_and_moves_the_statistics_and_evaluation_does_neither(tiny):
  network, params, stats = tiny
  images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 1)), jnp.float32)
  train = jax.jit(network.train_scores)
  one, new = train(params, stats, images, jax.random.key(0))
  same, _ = train(params, stats, images, jax.random.key(0))
  other, _ = train(params, stats, images, jax.random.key(1))
  np.testing.assert_array_equal(one['smile'], same['smile'])
  assert np.abs(np.asarray(one['smile']) - np.asarray(other['smile'])).max() > 0
  assert any(
    np.any(np.asarray(a) != np.asarray(b))
    for a, b in zip(*map(jax.tree.leaves, (stats, new)), strict=True)
  )


def test_a_sample_does_not_touch_the_branch_of_a_task_it_has_no_label_for(tiny):
  network, params, stats = tiny
  images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 1)), jnp.float32)
  from mtface.losses import reduce_terms, softmax_cross_entropy

  def loss(params):
    scores, _ = network.train_scores(params, stats, images, jax.random.key(0))
    labels, mask = jnp.zeros(8, jnp.int32), jnp.ones(8, bool)
    terms = {'smile': mask, 'emotion7': ~mask, 'gender': ~mask}
    return sum(
      reduce_terms(softmax_cross_entropy(scores[t], labels, m), m) for t, m in terms.items()
    )

  grads = jax.jit(jax.grad(loss))(params)['branches']
  assert all(
    (np.asarray(g) == 0).all() for g in jax.tree.leaves([grads['emotion7'], grads['gender']])
  )
  assert any((np.asarray(g) != 0).any() for g in jax.tree.leaves(grads['smile']))


def test_bad_input():
  with pytest.raises(UserError, match='8x48 are too small'):
    shapes(['smile'], shape=(8, 48, 1))
  with pytest.raises(
    UserError, match=r"config.model.init 'xavier' is unknown; there are gaussian, he"
  ):
    make_network(model_config(init='xavier'), [get_task('smile')], (16, 16, 1), 0)
  with pytest.raises(UserError, match=r"config.model.name 'vgg19' is unknown"):
    make_network(model_config(name='vgg19'), [get_task('smile')], (16, 16, 1), 0)
