"""Every hyper-parameter that the papers state, against the configs (Sang 2017, section 4.2; Rohani
2023, section 4.2).
"""

import dataclasses
import itertools

import pytest

from mtface.config.files import config_folder, load_config_file
from mtface.data.names import Draw, SourceName
from mtface.errors import UserError
from mtface.report.describe import describe
from mtface.training.loop import train
from tests.fakes import write_prepared


def get(name, argument=None):
  return load_config_file(config_folder() / f'{name}.py', argument)


@pytest.mark.parametrize(
  ('name', 'argument', 'decay_steps'),
  [('sang2017', 'A2', 10000), ('sang2017', 'A1', 10000), ('rohani2023', 'C', 2000)],
)
def test_published_recipe(name, argument, decay_steps):
  config = get(name, argument)
  assert config.batch_size == 128
  assert (config.optimizer.momentum, config.optimizer.nesterov) == (0.9, False)
  assert (config.optimizer.rate, config.optimizer.decay, config.optimizer.decay_steps) == (
    0.01,
    0.8,
    decay_steps,
  )
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


SANG_ROWS = [f'{letter}{number}' for letter in 'AB' for number in '1234']


@pytest.mark.parametrize('row', SANG_ROWS)
def test_sang_rows(row):
  config = get('sang2017', row)
  loss = 'multiclass_squared_hinge' if row[1] in '13' else 'softmax_cross_entropy'
  assert {name: task.loss for name, task in config.tasks.items()} == dict.fromkeys(
    ('smile', 'emotion7', 'gender'), loss
  )
  assert config.sources.fer2013.name == 'fer2013/gray48:train'
  assert config.evaluation.sets.fer2013_private.name == 'fer2013/gray48:private_test'
  assert config.evaluation.best_on == ('fer2013_public',)
  # Trained on one of Wiki (30000 / 4200) and IMDB (150000 / 20000), tested on both.
  assert ('wiki' in config.sources, 'imdb' in config.sources) == (row[0] == 'A', row[0] == 'B')
  trained = (
    'wiki/gray48:train[take=30000,seed=0]'
    if row[0] == 'A'
    else 'imdb/gray48:train[take=150000,seed=0]'
  )
  assert trained in [source.name for source in config.sources.values()]
  tested = {entry.name for entry in config.evaluation.sets.values()}
  assert {
    'wiki/gray48:train[take=4200,after=30000,seed=0]',
    'imdb/gray48:train[take=20000,after=150000,seed=0]',
  } <= tested


def test_sang_lasts_ten_epochs_at_least_and_averages_ten_checkpoints():
  config = get('sang2017', 'A4')
  assert config.duration == '100 epochs'
  assert config.checkpoint.every == '1 epochs'
  assert config.checkpoint.keep_last == 10
  assert 'ensemble:10' in config.evaluation.checkpoints


@pytest.mark.parametrize('fold', range(4))
def test_folds_rotate_and_test_sets_are_what_training_leaves_out(fold):
  config = get('sang2017', f'A2,fold={fold},gender=utkface')
  for name in ('genki4k', 'utkface'):
    assert config.sources[name].name.endswith(f'[fold!={fold}/4]')
    assert config.evaluation.sets[name].name == config.sources[name].name.replace('!=', '=')
  assert get('sang2017', f'A2,fold={fold}').sources.wiki.name.endswith(f'seed={fold}]')


def test_rohani_configs():
  for letter, tasks in itertools.product('BC', [{'smile', 'age_group', 'gender'}]):
    config = get('rohani2023', letter)
    assert set(config.tasks) == tasks
    assert config.model.join == (letter == 'C')
  assert config.duration == '500 epochs'
  single = get('rohani2023', 'A,task=gender')
  assert set(single.tasks) == {'gender'}
  assert list(single.sources) == ['imdb', 'wiki']
  assert list(get('rohani2023', 'A,task=gender,people=utkface').sources) == ['utkface']
  assert set(get('rohani2023', 'A').tasks) == {'smile'}


def test_rohani_draws_150000_and_20000_from_imdb_and_wiki_by_their_sizes():
  drawn = {
    name: SourceName.parse(entry.name).part
    for name, entry in get('rohani2023', 'C').sources.items()
  }
  tested = {
    n: SourceName.parse(e.name).part for n, e in get('rohani2023', 'C').evaluation.sets.items()
  }
  images = {'imdb': 460723, 'wiki': 62328}
  for name, count in images.items():
    assert drawn[name].take == round(150000 * count / sum(images.values()))
    assert tested[name].take == round(20000 * count / sum(images.values()))
    assert tested[name].after == drawn[name].take


def test_single_task_runs_of_sang():
  config = get('sang2017', 'A2,tasks=emotion')
  assert (list(config.tasks), list(config.sources)) == (['emotion7'], ['fer2013'])


def test_demo_names_its_tasks():
  config = get('demo')
  assert set(config.tasks) == {'smile', 'emotion7', 'gender', 'age_group'}
  assert config.name == 'demo'


@pytest.mark.parametrize(
  'argument', ['C1', 'A2,fold=4', 'A2,fold=x', 'A2,lr=1', 'A2,gender=wiki', 'A2,cross=maybe']
)
def test_unknown_arguments_name_what_there_is(argument):
  with pytest.raises(UserError, match=r'configs/sang2017.py: argument'):
    get('sang2017', argument)


@pytest.mark.parametrize(
  ('name', 'argument', 'expected'),
  [
    (
      'sang2017',
      'A2,gender=utkface,cross=True',
      'gender=utkface and cross=True contradict each other',
    ),
    (
      'rohani2023',
      'C,task=gender',
      'C and task=gender contradict each other: B and C train all three tasks',
    ),
    ('rohani2023', 'task=smile,network=B', 'B and task=smile contradict each other'),
  ],
)
def test_arguments_that_exclude_each_other(name, argument, expected):
  with pytest.raises(UserError, match=f'configs/{name}.py: {expected}'):
    get(name, argument)


# --- Every one of them describes itself and trains two steps --------------------------------------

EVERY_CONFIG = [('sang2017', f'{row},size=smoke') for row in SANG_ROWS] + [
  ('sang2017', 'A2,tasks=smile,gender=utkface,recipe=fast,size=smoke'),
  *(('rohani2023', f'A,task={task},size=smoke') for task in ('smile', 'gender', 'age_group')),
  ('rohani2023', 'B,size=smoke'),
  ('rohani2023', 'C,people=utkface,size=smoke'),
]


@pytest.fixture(scope='module')
def tiny_sets(tmp_path_factory):
  """Noise under the names of the real sets."""
  folder = tmp_path_factory.mktemp('sets')
  people = {'age_years': 1.0, 'age_group': 1.0, 'gender': 1.0}
  write_prepared(folder, 'genki4k/gray48', {'train': 16}, {'smile': 1.0}, shape=(48, 48, 1))
  splits = dict.fromkeys(('train', 'public_test', 'private_test'), 12)
  write_prepared(folder, 'fer2013/gray48', splits, {'emotion7': 1.0}, shape=(48, 48, 1))
  for name in ('utkface', 'imdb', 'wiki'):
    write_prepared(folder, f'{name}/gray48', {'train': 16}, people, shape=(48, 48, 1))
  return folder


def fitted(config):
  """The config with draws of 8 and 4 faces, 2 steps of 8 samples."""
  for entry in [*config.sources.values(), *config.evaluation.sets.values()]:
    name = SourceName.parse(entry.name)
    if isinstance(name.part, Draw):
      part = Draw(4, 8, name.part.seed) if name.part.after else Draw(8, 0, name.part.seed)
      entry.name = str(dataclasses.replace(name, part=part))
  config.duration = config.checkpoint.every = '2 steps'
  config.batch_size = config.evaluation.batch_size = 8
  return config


@pytest.mark.parametrize(('name', 'argument'), EVERY_CONFIG)
def test_every_config_describes_itself_and_trains(tiny_sets, tmp_path, name, argument):
  config = fitted(get(name, argument))
  text = describe(config, tiny_sets)
  assert text.startswith(f'{name}:{argument}: tasks ')
  assert 'run: 2 steps = 2 steps' in text
  assert int(train(config, tmp_path / 'run', tiny_sets).step) == 2
