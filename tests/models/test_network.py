"""What a network is to the rest: functions of parameters; names, patterns and
frozen parts of them.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mtface.config.schema import model
from mtface.config.tables import NETWORKS, Entry
from mtface.errors import UserError
from mtface.models import efficientnet, mobilenet
from mtface.models.network import Network, abstract_network, make_network
from mtface.models.paths import by_path, check_patterns, head_of, is_batch_norm, matches
from mtface.tasks import get_task
from tests.models.networks import images, random_network


@pytest.mark.parametrize(
  ('pattern', 'name', 'expected'),
  [
    ('trunk', 'trunk/stem/conv/kernel', True),
    ('trunk', 'trunks/stem', False),
    ('trunk/stages/1', 'trunk/stages/1/0/kernel', True),
    ('trunk/stages/1', 'trunk/stages/12/0/kernel', False),
    ('stem', 'trunk/stem', False),  # it begins with it
    ('heads/(age|gender)', 'heads/gender/scores/bias', True),
    ('heads/age|heads/gender', 'heads/gender_of_all/scores/bias', False),
    ('.*/bias', 'heads/gender/scores/bias', True),
  ],
)
def test_patterns_match_whole_words_from_the_beginning(pattern, name, expected):
  assert matches([pattern], name) is expected
  assert matches(['nothing', pattern], name) is expected
  assert not matches([], name)


def test_patterns_that_match_nothing_are_named():
  names = ['trunk/stem/kernel', 'heads/smile/bias']
  check_patterns(['trunk', 'heads/.*/bias'], names, 'field')
  for pattern, words in (
    ('stem', "field: 'stem' matches no parameter; parameter names start with trunk, heads"),
    ('(', 'not a reg'),
  ):
    with pytest.raises(UserError, match=words):
      check_patterns(['trunk', pattern], names, 'field')


@pytest.mark.parametrize(
  ('name', 'task'),
  [
    ('branches/smile/scores/kernel', 'smile'),
    ('heads/identity:5/hidden/0/bias', 'identity:5'),
    ('trunk/heads/0', None),
    ('blocks/0/norms/1/scale', None),
    ('heads', None),
  ],
)
def test_the_task_of_a_head(name, task):
  assert head_of(name) == task


def test_weights_follow_from_the_seed(monkeypatch):
  monkeypatch.setattr(mobilenet, 'STAGES', ((64, 1, 1),))  # what is drawn is quick to compile
  made = [
    make_network(model('mobilenet', width=0.1), [get_task('smile')], (32, 32, 1), seed)
    for seed in (3, 4)
  ]
  one, other = (by_path(params) for _, params, _ in made)
  for path, x in one.items():
    assert path.endswith('kernel') == bool((x != other[path]).any()), path
  assert all(
    (x == (1 if path.endswith('var') else 0)).all() for path, x in by_path(made[0][2]).items()
  )
  first = {
    path: float(x.reshape(-1)[0] / x.std()) for path, x in one.items() if path.endswith('kernel')
  }
  assert len(set(first.values())) == len(first), 'none is drawn as another'


SHAPES = {'bknet': (16, 16, 1), 'efficientnet': (32, 32, 1)}
FIELDS = {
  'bknet': {'width': 1 / 32, 'dropout': 0.0},
  'efficientnet': {'width': 0.1, 'drop_path': 0.9, 'dropout': 0.0},
}


@pytest.fixture
def two_stages(monkeypatch):
  """An EfficientNet that is quick to compile, with one block that adds its input."""
  monkeypatch.setattr(efficientnet, 'STAGES', ((1, 16, 1, 2, 3), (1, 16, 2, 1, 3)))


@pytest.mark.parametrize(
  ('name', 'frozen'), [('bknet', ('blocks/0', 'branches/gender')), ('efficientnet', ('trunk',))]
)
def test_frozen_parts_compute_in_training_as_in_evaluation(name, frozen, two_stages):
  tasks, shape = ['smile', 'gender'], SHAPES[name]
  network, params, stats = random_network(name, tasks, shape, **FIELDS[name])
  partly = abstract_network(
    model(name, **FIELDS[name]), [get_task(t) for t in tasks], shape, frozen
  )[0]
  x, key = images(4, *shape), jax.random.key(0)
  scores, new = jax.jit(partly.train_scores)(params, stats, x, key)
  moved = {
    path
    for path, value in by_path(new).items()
    if (np.asarray(value) != by_path(stats)[path]).any()
  }
  assert moved == {path for path in by_path(stats) if not matches(frozen, path)}
  if frozen == ('trunk',):  # its stochastic depth too, and the heads have nothing that is random
    np.testing.assert_allclose(
      scores['smile'], jax.jit(network.scores)(params, stats, x)['smile'], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('name', list(FIELDS))
def test_features_are_those_of_evaluation(name, two_stages):
  shape = SHAPES[name]
  network, params, stats = random_network(name, ['smile'], shape, **FIELDS[name])
  x = images(4, *shape)
  whole, alone = (jax.jit(network.features)(params, stats, part) for part in (x, x[:1]))
  np.testing.assert_allclose(
    alone, whole[:1], rtol=1e-4, atol=1e-5, err_msg='of a batch`s own statistics'
  )


def test_the_type_of_the_computation():
  for dtype, expected in (('float32', jnp.float32), ('bfloat16', jnp.bfloat16)):
    network, params, stats = random_network(
      'bknet', ['smile'], (16, 16, 1), width=1 / 32, dtype=dtype
    )
    assert isinstance(network, Network)
    found = jax.eval_shape(lambda x: network.features(params, stats, x), images(1, 16, 16, 1))  # noqa: B023
    assert found.dtype == expected
    assert {x.dtype for x in jax.tree.leaves((params, stats))} == {np.dtype(np.float32)}
  with pytest.raises(
    UserError, match=r"config.model.dtype 'float16' is unknown; there are float32, bfloat16"
  ):
    abstract_network(model('bknet', dtype='float16'), [get_task('smile')], (16, 16, 1))


@pytest.mark.parametrize('name', NETWORKS)
def test_the_options_of_a_network_are_those_that_its_class_takes(name):
  # One place has their defaults: the table.
  parameters = inspect.signature(NETWORKS[name].load().__init__).parameters
  options = {key for key, of in parameters.items() if of.kind is of.KEYWORD_ONLY}
  assert options - {'rngs', 'dtype'} == set(NETWORKS[name].options)
  assert all(parameters[key].default is inspect.Parameter.empty for key in NETWORKS[name].options)


class Moving(nnx.Module):
  """A network of the user's whose running mean knows nothing of frozen parts."""

  def __init__(self, tasks, image_shape, *, rngs, dtype):
    self.heads = nnx.Dict({task.name: nnx.Linear(1, task.num_classes, rngs=rngs) for task in tasks})
    self.trunk = nnx.BatchNorm(1, rngs=rngs)

  def __call__(self, images, train=False, rngs=None):
    x = self.trunk(images.mean((1, 2, 3))[:, None], use_running_average=not train)
    return {name: head(x) for name, head in self.heads.items()}


def test_a_frozen_norm_that_would_move_is_refused(monkeypatch):
  monkeypatch.setitem(NETWORKS._entries, 'moving', Entry(Moving, {}, {}))
  made = model('moving'), [get_task('smile')], (16, 16, 1)
  abstract_network(*made)
  abstract_network(*made, ['heads'])
  with pytest.raises(UserError, match=r'running statistics of trunk \(BatchNorm\) would move'):
    abstract_network(*made, ['trunk'])


def test_ghost_batches_are_set_in_all_batch_norms_or_refused(monkeypatch):
  tasks = [get_task('smile'), get_task('gender')]
  config = model('bknet', width=1 / 32, dropout=0.0)
  x, key = images(4, 16, 16, 1), jax.random.key(0)
  found = []
  for parts in (1, 2):
    network, params, stats = make_network(config, tasks, (16, 16, 1), 0, ghost_batch=4 // parts)
    found.append(jax.jit(network.train_scores)(params, stats, x, key)[0]['smile'])
  half = jax.jit(network.train_scores)(params, stats, x[:2], key)[0]['smile']
  np.testing.assert_allclose(found[1][:2], half, rtol=1e-4, atol=1e-5)
  assert np.abs(found[0] - found[1]).max() > 1e-3

  monkeypatch.setitem(NETWORKS._entries, 'moving', Entry(Moving, {}, {}))
  with pytest.raises(UserError, match=r'^config.ghost_batch: trunk \(BatchNorm\) takes statistics'):
    abstract_network(model('moving'), tasks, (16, 16, 1), ghost_batch=4)


def test_batch_norms_are_known_by_their_paths():
  assert is_batch_norm('trunk/stem/norm/scale')
  assert is_batch_norm('blocks/0/norms/1/bias')
  assert not is_batch_norm('trunk/stem/conv/kernel')
