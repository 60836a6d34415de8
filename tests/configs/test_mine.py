"""configs/mine.py: what it makes of a set, and of the run that it goes on from."""

import json
import re

import pytest

from mtface import tasks
from mtface.config import experiment, model, source, task
from mtface.config.files import load_config
from mtface.config.schema import outputs_of
from mtface.data import prepared
from mtface.errors import UserError
from mtface.models.network import abstract_network
from mtface.models.paths import by_path
from mtface.tasks import Task, get_task
from mtface.training.optim import factor_of, rate_factors

MOOD = Task('mood', ('calm', 'cross'))
WORN = Task('worn', ('hat', 'mask'), multi_label=True)


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
  monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))


@pytest.fixture
def a_set(monkeypatch):
  """Says what the prepared set holds."""

  def holds(*labelled, splits=('train',), images=1000, shape=(48, 48, 1)):
    found = prepared.Prepared(labelled, dict.fromkeys(splits, images), shape)
    monkeypatch.setattr(prepared, 'described', lambda *_: found)

  return holds


def parts(config):
  """(parts trained on, {set: part} tested on)."""
  training = [of.name.partition(':')[2] for of in config.sources.values()]
  return training, {key: of.name.partition(':')[2] for key, of in config.evaluation.sets.items()}


@pytest.mark.parametrize(
  ('splits', 'argument', 'expected'),
  [
    (('train',), 'trip', (['train[fold!=0/5]'], {'trip_test': 'train[fold=0/5]'})),
    (('train', 'test'), 'trip', (['train'], {'trip_test': 'test'})),
    (('train', 'val'), 'trip', (['train'], {'trip_val': 'val'})),
    (('train', 'a', 'b'), 'trip', (['train'], {'trip_a': 'a', 'trip_b': 'b'})),
    (('train', 'a', 'b'), 'trip,test=b', (['train'], {'trip_b': 'b'})),
  ],
)
def test_what_is_trained_and_tested_on(a_set, splits, argument, expected):
  a_set(MOOD, splits=splits)
  assert parts(load_config(f'mine:{argument}')) == expected


def test_tasks_of_ones_own_are_in_the_config(a_set):
  a_set(get_task('smile'), MOOD, WORN)
  config = load_config('mine:trip')
  assert {key: (of.classes, of.multi_label) for key, of in config.classes.items()} == {
    'mood': (('calm', 'cross'), False),
    'worn': (('hat', 'mask'), True),
  }
  assert [of.loss for of in config.tasks.values()] == [
    'softmax_cross_entropy',
    'softmax_cross_entropy',
    'sigmoid_cross_entropy',
  ]
  assert tasks.get_task('mood') == MOOD


def a_run(folder, network, shape, *names):
  """A workdir with a config and no checkpoint."""
  config = experiment()
  config.model, config.image_shape = network, shape
  for name in names:
    config.tasks[name] = task()
  config.sources.some = source('some/set:train', *names)
  folder.mkdir()
  (folder / 'config.json').write_text(
    json.dumps({'config': json.loads(config.to_json_best_effort()), 'versions': {}})
  )
  return folder


NETWORKS = {
  'bknet': (model('bknet', width=0.25), r'blocks/', r'^branches/.*/(hidden|norms)/'),
  'resnet': (model('resnet', depth=20), r'trunk/', None),
  'mobilenet': (model('mobilenet', width=0.25), r'trunk/', None),
  'branches': (model('resnet', depth=20, branch=(16, 16)), r'trunk/', r'^heads/.*/(hidden|norms)/'),
  'ages': (model('mobilenet', width=0.25, age_hidden=(16,)), r'trunk/', r'^heads/.*/hidden/'),
  'vgg': (model('vgg', width=0.125), r'trunk/(conv|fc6)', r'trunk/fc7'),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_layers_of_a_fine_tuned_network_have_their_rates(a_set, tmp_path, name):
  """0.1 of the trunk's convolutions, 0.5 of hidden layers, 1 of the last ones (Zhang 2016, 3.4)."""
  network, convolutions, hidden = NETWORKS[name]
  shape = (64, 64, 3)
  run = a_run(tmp_path / 'run', network, shape, 'gender')
  a_set(get_task('age_years'), MOOD, shape=shape)
  config = load_config(f'mine:trip,from={run}@best')
  assert config.start.weights == f'{run}@best'
  assert config.model.to_dict() == network.to_dict()
  params = abstract_network(config.model, outputs_of(config), shape)[1]
  found = {
    path: factor_of(path, rate_factors(config.optimizer.factors)) for path in by_path(params)
  }
  for path, factor in found.items():
    is_hidden = hidden and re.search(hidden, path)
    expected = 0.5 if is_hidden else 0.1 if re.match(convolutions, path) else 1.0
    assert factor == expected, path
  assert set(found.values()) == ({0.1, 0.5, 1.0} if hidden else {0.1, 1.0})
  last = {path for path, factor in found.items() if factor == 1}
  assert all('/scores/' in path for path in last), last


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('', 'of which set? --config=mine:NAME'),
    ('trip,test=other', 'test=other: image_csv/trip has no such split; it has train'),
    ('trip,from={run}', 'that run saw images of 64x64x3, these are 48x48x1; build the set in that'),
    ('trip,from={run},network=bknet', 'contradict each other: the network is the one of that run'),
    ('trip,from={run}/none', 'none/config.json: not found'),
    ('trip,network=vgg', "'vgg' is not one of bknet, resnet20, mobilenet"),
  ],
)
def test_mistakes(a_set, tmp_path, argument, expected):
  run = a_run(tmp_path / 'run', model('bknet'), (64, 64, 3), 'gender')
  a_set(MOOD)
  with pytest.raises(UserError, match=r'^configs/mine\.py') as error:
    load_config(f'mine:{argument.format(run=run)}')
  assert expected in str(error.value)


@pytest.mark.parametrize(('images', 'samples'), [(1000, 30_000), (10_000, 200_000)])
def test_a_small_set_is_seen_more_often(a_set, images, samples):
  a_set(MOOD, images=images)
  assert load_config('mine:trip').duration == f'{samples} examples'


def test_the_recipe_is_what_won_with_few_photographs_and_can_be_another(a_set):
  a_set(get_task('smile'), MOOD)
  config = load_config('mine:trip')
  assert (config.augment.rotate, config.augment.zoom, config.ema) == (10.0, 0.1, 0.0)
  assert config.augment.pad == 4
  assert load_config('mine:trip,recipe=fast').augment.zoom == 0
  assert load_config('mine:trip,recipe=fast+ema').ema == 0.999
  with pytest.raises(UserError, match=r'configs/mine.py: recipe=quick: expected best or fast'):
    load_config('mine:trip,recipe=quick')


def test_a_recipe_leaves_the_network_of_another_run_as_it_is(a_set, tmp_path):
  network = model('bknet', width=0.25, dropout=0.3)
  run = a_run(tmp_path / 'run', network, (48, 48, 1), 'gender')
  a_set(get_task('smile'))
  config = load_config(f'mine:trip,recipe=best,from={run}@best')
  assert config.model.to_dict() == network.to_dict()
