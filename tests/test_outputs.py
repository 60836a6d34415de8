"""Where the scores of tasks are in a network's layers: heads, or a union of label spaces."""

import jax.numpy as jnp
import numpy as np
import pytest

from mtface.config import tables
from mtface.config.schema import outputs_of, task
from mtface.errors import UserError
from mtface.outputs import Outputs
from mtface.tasks import get_task
from mtface.training.objective import union_labels
from tests.tiny import get_config

TASKS = [get_task(name) for name in ('action_units', 'compound_emotion', 'emotion7')]


def scores(outputs, seed=0):
  rng = np.random.default_rng(seed)
  return {of.name: rng.normal(size=(5, of.num_classes)) for of in outputs.layers}


def by_name(outputs, layers, name):
  """A task's scores, picked class by class by the name of the output."""
  classes = list(outputs.layers[0].classes)
  return np.stack([layers['union'][:, classes.index(c)] for c in name], axis=1)


def test_a_head_for_each_task_is_its_scores():
  outputs = Outputs.heads(TASKS)
  layers = scores(outputs)
  assert list(layers) == ['action_units', 'compound_emotion', 'emotion7']
  assert all(outputs.split(layers)[name] is x for name, x in layers.items())


def test_equal_names_are_one_output():
  outputs = Outputs.union(TASKS)
  assert outputs.layers[0].num_classes == 11 + 16 + 1  # emotion7 adds neutral alone
  layers = scores(outputs)
  found = outputs.split(layers)
  for of in TASKS:
    np.testing.assert_array_equal(found[of.name], by_name(outputs, layers, of.classes))
  np.testing.assert_array_equal(found['emotion7'][:, :6], found['compound_emotion'][:, :6])
  assert outputs.shared() == dict.fromkeys(
    get_task('emotion7').classes[:6], ('compound_emotion', 'emotion7')
  )


def test_tasks_that_are_apart_share_nothing():
  outputs = Outputs.union(TASKS, apart=('emotion7',))
  assert outputs.layers[0].num_classes == 11 + 16 + 7
  assert outputs.shared() == {}
  layers = scores(outputs)
  own = [f'emotion7/{name}' for name in get_task('emotion7').classes]
  np.testing.assert_array_equal(outputs.split(layers)['emotion7'], by_name(outputs, layers, own))


@pytest.mark.parametrize('make', [Outputs.heads, Outputs.union])
def test_views_are_answered_by_columns_of_others(make):
  outputs = make([get_task('compound_emotion')], {'compound_emotion': 'sigmoid'})
  assert list(outputs.answered) == ['compound_emotion', 'compound8']
  found = outputs.answers(scores(outputs))
  names = get_task('compound_emotion').classes
  columns = [names.index(name) for name in get_task('compound8').classes]
  np.testing.assert_array_equal(found['compound8'], found['compound_emotion'][:, columns])
  assert outputs.readout('compound8') == 'sigmoid'


def test_what_two_label_sets_say_of_one_output():
  outputs = Outputs.union(TASKS)
  names = list(outputs.layers[0].classes)
  emotions, compound = get_task('emotion7').classes, get_task('compound_emotion').classes
  labels = {
    'emotion7': np.array([emotions.index('happy')] * 3 + [-1]),
    'compound_emotion': np.array([compound.index('awed')] * 2 + [255, 255]),
  }
  mask = {
    'emotion7': np.array([True, False, True, False]),
    'compound_emotion': np.array([True, True, False, False]),
  }
  yes, known = map(np.asarray, union_labels(outputs, list(labels), labels, mask))
  assert [[names[j] for j in np.flatnonzero(row)] for row in yes] == [
    ['happy', 'awed'],  # in the order of the outputs
    ['awed'],
    ['happy'],
    [],
  ]
  assert known.sum(axis=1).tolist() == [17, 16, 7, 0]
  assert not known[:, :11].any()


def test_single_classes_that_are_masked_stay_unknown():
  outputs = Outputs.union(TASKS)
  mask = {'action_units': np.zeros((1, 11), bool)}
  mask['action_units'][0, [2, 5]] = True
  labels = {'action_units': jnp.ones((1, 11), jnp.int32)}
  yes, known = map(np.asarray, union_labels(outputs, ['action_units'], labels, mask))
  assert np.flatnonzero(known[0]).tolist() == np.flatnonzero(yes[0]).tolist() == [2, 5]


def test_how_scores_are_read_follows_from_the_losses():
  config = get_config()
  config.tasks = {
    'smile': task('sigmoid_cross_entropy'),
    'gender': task('multiclass_squared_hinge'),
    'emotion8': task('softmax_cross_entropy'),
    'action_units': task('sigmoid_cross_entropy'),
  }
  outputs = outputs_of(config)
  assert {name: outputs.readout(name) for name in outputs.answered} == {
    'smile': 'sigmoid',
    'gender': 'margins',
    'emotion8': 'softmax',
    'emotion7': 'softmax',
    'action_units': 'sigmoid',
  }


def test_classes_that_are_called_by_numbers_share_nothing():
  people, ages, emotions = map(get_task, ('identity:30', 'age_years', 'emotion7'))
  outputs = Outputs.union([people, ages, emotions])
  assert outputs.layers[0].num_classes == 30 + 117 + 7
  assert outputs.shared() == {}
  assert outputs.layers[0].classes[20] == 'identity:30/20'


def test_unions_of_other_tasks_are_other_layers():
  smile, gender, emotions = map(get_task, ('smile', 'gender', 'emotion7'))
  one, other = Outputs.union([emotions, smile]), Outputs.union([emotions, gender])
  assert one.layers[0].num_classes == other.layers[0].num_classes == 9
  assert one.other_layers(other) == {'union'}
  assert not one.other_layers(Outputs.union([emotions, smile]))
  heads = Outputs.heads([emotions, smile])
  assert not heads.other_layers(Outputs.heads([emotions, gender]))
  assert not heads.other_layers(one)


def test_unknown_layers_and_tasks_that_are_not_there():
  config = get_config()
  config.outputs.layer = 'tree'
  with pytest.raises(UserError, match=r"config.outputs.layer 'tree' is unknown; there are heads"):
    outputs_of(config)
  config.outputs.layer, config.outputs.apart = 'union', ('emotion8',)
  with pytest.raises(
    UserError, match=r"config.outputs.apart: 'emotion8' is not among config.tasks"
  ):
    outputs_of(config)
  config.outputs.layer, config.outputs.apart = 'heads', ('smile',)
  with pytest.raises(UserError, match=r'config.outputs.apart: .* heads share nothing, so leave it'):
    outputs_of(config)


def test_a_loss_of_the_users_own_with_an_unknown_readout(monkeypatch):
  monkeypatch.setattr(tables.LOSSES, '_entries', dict(tables.LOSSES._entries))
  tables.LOSSES.add('mine', lambda *_: None, readout='logistic')
  config = get_config()
  config.tasks = {'smile': task('mine')}
  with pytest.raises(UserError, match=r"readout 'logistic'; there are softmax, sigmoid, margins"):
    outputs_of(config)
