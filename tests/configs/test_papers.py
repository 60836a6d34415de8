"""Every hyper-parameter that the papers state, against the configs (Sang 2017, section 4.2; Rohani 2023, section 4.2)."""

import itertools

import pytest

from mtface.cli import config_folder, load_config_file
from mtface.errors import UserError


def get(name, argument=None):
  return load_config_file(config_folder() / f'{name}.py', argument)


@pytest.mark.parametrize(
  ('name', 'argument', 'decay_steps'), [('sang2017', 'A2', 10000), ('sang2017', 'A1', 10000), ('rohani2023', 'C', 2000)]
)
def test_published_recipe(name, argument, decay_steps):
  config = get(name, argument)
  assert config.batch_size == 128
  assert (config.optimizer.momentum, config.optimizer.nesterov) == (0.9, False)
  assert (config.optimizer.rate, config.optimizer.decay, config.optimizer.decay_steps) == (0.01, 0.8, decay_steps)
  assert config.optimizer.schedule == 'exponential'
  assert config.loss.l2 == 0.01
  assert config.loss.over == 'all'
  assert config.model.dropout == 0.5
  assert config.model.init == 'gaussian'
  assert config.model.width == 1.0
  assert (config.augment.flip, config.augment.rotate) == (True, 15.0)
  assert config.augment.pad > 0
  assert config.mixture == 'equal'
  assert config.image_shape == (48, 48, 1)
  assert all(task.weight == 1.0 for task in config.tasks.values())


@pytest.mark.parametrize('row', ['A1', 'A2', 'A3', 'A4'])
def test_sang_rows(row):
  config = get('sang2017', row)
  loss = 'multiclass_squared_hinge' if row in ('A1', 'A3') else 'softmax_cross_entropy'
  assert {name: task.loss for name, task in config.tasks.items()} == dict.fromkeys(
    ('smile', 'emotion7', 'gender'), loss
  )
  assert config.sources.fer2013.name == 'fer2013/gray48:train'
  assert config.evaluation.sets.fer2013_private.name == 'fer2013/gray48:private_test'
  assert config.evaluation.best_on == ('fer2013_public',)


@pytest.mark.parametrize('fold', range(4))
def test_folds_rotate_and_test_sets_are_what_training_leaves_out(fold):
  config = get('sang2017', f'A2,fold={fold}')
  for name in ('genki4k', 'utkface'):
    assert config.sources[name].name.endswith(f'[fold!={fold}/4]')
    assert config.evaluation.sets[name].name == config.sources[name].name.replace('!=', '=')


def test_rohani_configs():
  for letter, tasks in itertools.product('BC', [{'smile', 'age_group', 'gender'}]):
    config = get('rohani2023', letter)
    assert set(config.tasks) == tasks
    assert config.model.join == (letter == 'C')
  assert config.duration == '500 epochs'
  single = get('rohani2023', 'A,task=gender')
  assert set(single.tasks) == {'gender'}
  assert list(single.sources) == ['utkface']
  assert set(get('rohani2023', 'A').tasks) == {'smile'}


def test_single_task_runs_of_sang():
  config = get('sang2017', 'A2,tasks=emotion')
  assert (list(config.tasks), list(config.sources)) == (['emotion7'], ['fer2013'])


def test_demo_names_its_tasks():
  config = get('demo')
  assert set(config.tasks) == {'smile', 'emotion7', 'gender', 'age_group'}
  assert config.name == 'demo'


@pytest.mark.parametrize('argument', ['C1', 'A2,fold=4', 'A2,fold=x', 'A2,lr=1', 'A2,gender=wiki'])
def test_unknown_arguments_name_what_there_is(argument):
  with pytest.raises(UserError, match=r'configs/sang2017.py: argument'):
    get('sang2017', argument)
