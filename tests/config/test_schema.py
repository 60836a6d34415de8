import pytest
from ml_collections import ConfigDict

from mtface.config.arguments import Option, parse_arg, use_size
from mtface.config.durations import to_seconds, to_steps
from mtface.config.recipes import use_fast_recipe
from mtface.config.saved import with_defaults
from mtface.config.schema import (
  check_fields,
  check_shareable,
  complete,
  experiment,
  flat,
  source,
  switched,
  task,
)
from mtface.errors import UserError
from tests.tiny import get_config

OPTIONS = {
  'row': Option('A2', ('A1', 'A2')),
  'fold': Option(0, (0, 1, 2, 3)),
  'rate': Option(0.5),
  'big': Option(False),
}


@pytest.mark.parametrize(
  ('text', 'changed'),
  [
    (None, {}),
    ('', {}),
    ('A1', {'row': 'A1'}),
    ('row=A1', {'row': 'A1'}),
    ('A1,fold=3,rate=2', {'row': 'A1', 'fold': 3, 'rate': 2.0}),
    ('fold=2,big', {'fold': 2, 'big': True}),
    ('big=False,rate=1e-3', {'rate': 1e-3}),
  ],
)
def test_arguments(text, changed):
  found = parse_arg(text, 'c.py', first='row', **OPTIONS)
  assert found.to_dict() == {'row': 'A2', 'fold': 0, 'rate': 0.5, 'big': False} | changed
  assert type(found.rate) is float


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('A3', "c.py: argument row: 'A3' is not one of A1, A2"),
    ('fold=4', "c.py: argument fold: '4' is not one of 0, 1, 2, 3"),
    ('fold=one', "c.py: argument fold: 'one' is not of type int"),
    ('big=yes', "c.py: argument big: 'yes' is not of type bool"),
    (
      'A1,A2',
      "c.py: argument 'A2' is unknown; there are row=A1|A2, fold=0|1|2|3, rate=0.5, big=False",
    ),
    ('colour=red', "c.py: argument 'colour=red' is unknown"),
  ],
)
def test_wrong_arguments(text, message):
  with pytest.raises(UserError) as error:
    parse_arg(text, 'c.py', first='row', **OPTIONS)
  assert str(error.value).startswith(message)


@pytest.mark.parametrize(
  ('text', 'steps'),
  [
    ('2000 steps', 2000),
    ('1 step', 1),
    ('10 epochs', 100),  # 1000 samples in batches of 100
    ('0.25 epochs', 3),
    ('0.3 epochs', 3),  # 3 exactly, although 0.3 * 1000 / 100 is a little less in binary
    ('300_000 examples', 3000),
    (' 101  examples ', 2),
    ('0.001 steps', 1),
  ],
)
def test_durations(text, steps):
  assert to_steps(text, batch_size=100, epoch_size=1000, field='duration') == steps


@pytest.mark.parametrize(
  'text',
  [
    '',
    '10',
    'ten epochs',
    '-1 steps',
    '10 days',
    '1 hours or so',
    '0 hours',
    'inf steps',
    'nan epochs',
    '1e3 steps',
    '0 steps',
    '0.0 epochs',
  ],
)
def test_what_is_no_duration(text):
  with pytest.raises(UserError, match=r'^config\.log_every: '):
    to_steps(text, 100, 1000, 'log_every')


def test_the_longest_run_fits_the_step_counter():
  assert to_steps(f'{2**31 - 2} steps', 1, 1, 'duration') == 2**31 - 2
  with pytest.raises(UserError, match='at most'):
    to_steps(f'{2**31 - 1} steps', 1, 1, 'duration')


# The fields of the first release's runs: all options stood side by side, whatever was named.
# fmt: off
FIRST = (
  'name', 'seed', 'tasks', 'sources', 'image_shape', 'batch_size', 'duration', 'mixture',
  'model.name', 'model.width', 'model.join', 'model.dropout', 'model.init', 'model.dtype',
  'augment.pad', 'augment.flip', 'augment.rotate', 'loss.over', 'loss.l2', 'optimizer.momentum',
  'optimizer.nesterov', 'optimizer.schedule', 'optimizer.rate', 'optimizer.decay',
  'optimizer.decay_steps', 'evaluation.sets', 'evaluation.during_training', 'evaluation.best_on',
  'evaluation.batch_size', 'checkpoint.every', 'checkpoint.keep_last', 'log_every',
)
# fmt: on


def test_a_run_of_the_first_release_is_read_as_it_was():
  old = ConfigDict({'optimizer': {'warmup': 0.3, 'beta2': 0.9}})  # of other entries than are named
  for field, value in flat(get_config().to_dict()).items():
    entry = field.startswith(('tasks.', 'sources.', 'evaluation.sets.'))
    if (entry and not field.endswith('.top')) or field in FIRST:
      *groups, last = field.split('.')
      group = old
      for name in groups:
        group[name] = group.get(name) or ConfigDict()
        group = group[name]
      group[last] = value
  found = with_defaults(old)
  check_fields(found, 'x')
  assert flat(found.to_dict()) == flat(get_config().to_dict())


def test_what_an_older_run_says_is_kept():
  config = get_config()
  config.tasks.gender.top, config.optimizer.sam, config.freeze.params = 7, 0.5, ('blocks',)
  config.stages, config.stage.one = ('one',), ConfigDict({'duration': '1 steps'})
  before = flat(config.to_dict())
  assert flat(with_defaults(config).to_dict()) == before


def test_sizes_and_our_own_recipe():
  for size, width, duration in (
    ('full', 1 / 32, '12 steps'),
    ('small', 1 / 128, '12 steps'),
    ('smoke', 1 / 256, '20 steps'),
  ):
    config = get_config()
    use_size(config, size)
    assert (config.model.width, config.duration) == (width, duration)
    assert (config.checkpoint.every, config.log_every) == (
      ('2 steps',) * 2 if size == 'smoke' else ('4 steps', '2 steps')
    )
  before, config = flat(get_config().to_dict()), get_config()
  use_fast_recipe(config)
  changed = {
    field: value for field, value in flat(config.to_dict()).items() if value != before.get(field)
  }
  assert changed == {
    'batch_size': 64,
    'model.dropout': 0.25,
    'loss.over': 'labelled',
    'loss.l2': 2.5e-4,
    'optimizer.schedule': 'one_cycle',
    'optimizer.rate': 0.05,
    'optimizer.nesterov': True,
    'optimizer.warmup': 0.25,
  }  # and he init, which the tiny one has already


def test_runs_of_before_a_field_came_get_its_default():
  config = get_config()
  del config['mesh'], config['arguments']
  del config.optimizer['clip'], config.evaluation['checkpoints']
  config = with_defaults(config)
  check_fields(config, 'x')
  assert (config.mesh.fsdp, config.optimizer.clip, config.evaluation.checkpoints) == (
    1,
    0.0,
    ('last',),
  )
  assert config.arguments.to_dict() == {}


def test_every_field_must_be_there():
  check_fields(get_config(), 'x')
  for field in flat(experiment().to_dict()):
    # What a field names says which others there are.
    if (
      field.endswith('.name')
      or field == 'optimizer.schedule'
      or field in ('arguments', 'classes', 'stage', 'tasks', 'sources', 'evaluation.sets')
    ):
      continue
    config = get_config()
    *group, name = field.split('.')
    del (config[group[0]] if group else config)[name]
    with pytest.raises(UserError, match=rf'^here: the field {field} is missing'):
      check_fields(config, 'here')


@pytest.mark.parametrize(('group', 'field'), [('tasks', 'smile.loss'), ('sources', 'people.tasks')])
def test_tasks_and_sources_have_their_fields(group, field):
  config = get_config()
  name, key = field.split('.')
  del config[group][name][key]
  with pytest.raises(UserError, match=rf'^here: the field {group}.{field} is missing'):
    check_fields(config, 'here')


def test_evaluation_sets_have_their_fields():
  config = get_config()
  del config.evaluation.sets.people['name']
  with pytest.raises(UserError, match=r'^here: the field evaluation.sets.people.name is missing'):
    check_fields(config, 'here')


def test_tasks_and_sources():
  assert task('multiclass_squared_hinge', 2.0).to_dict() == {
    'loss': 'multiclass_squared_hinge', 'weight': 2.0, 'class_weights': 'none', 'top': 1,
    'share': 1.0,
    'votes': False,
  }  # fmt: skip
  assert source('a/b:train', 'smile', 'gender').to_dict() == {
    'name': 'a/b:train',
    'tasks': ('smile', 'gender'),
  }


def test_sharing():
  check_shareable(512, 8, 'batch_size')
  with pytest.raises(
    UserError,
    match=r'^config.batch_size: 100 cannot be split evenly over 8 devices; take a multiple of 8$',
  ):
    check_shareable(100, 8, 'batch_size')


def test_flat_names():
  assert flat({'a': {'b': {'c': 1}, 'd': (2, 3)}, 'e': {}}) == {'a.b.c': 1, 'a.d': [2, 3], 'e': {}}


def test_a_time_is_not_a_number_of_steps():
  assert to_seconds('2 hours', 'duration') == 7200
  assert to_seconds('90 minutes', 'duration') == 5400
  assert to_seconds('2 epochs', 'duration') is None
  assert to_steps('1 hour', 100, 1000, 'duration') == 2**31 - 2


# --- What a field names says which options there are ----------------------------------------------


def options(group):
  return set(group) - {'name', 'rate', 'schedule', 'clip', 'accumulate', 'factors', 'sam', 'dtype'}


def test_naming_another_entry_takes_its_options():
  config = experiment()
  config.model.name = 'mobilenet'
  config.optimizer.name, config.optimizer.schedule = 'adamw', 'one_cycle'
  assert complete(config) == []
  assert options(config.model) == {'width', 'dropout', 'age_hidden', 'branch', 'input'}
  assert options(config.optimizer) == {'momentum', 'beta2', 'weight_decay', 'warmup'}
  # Those of the same name are kept, since a config file may have set them.
  assert config.model.dropout == 0.5
  complete(config)
  check_fields(config, 'x')


def test_an_option_of_an_entry_that_is_not_named_is_told():
  config = experiment()
  config.optimizer.beta2 = 0.9
  assert complete(config) == ['optimizer.beta2']
  assert 'beta2' not in config.optimizer


def test_switching_takes_the_defaults_of_the_new_entry():
  config = get_config()
  config.model.dropout = 0.3
  assert switched(config, 'model.name', 'rexnet')
  assert (config.model.name, config.model.width, config.model.dropout) == ('rexnet', 1.5, 0.2)
  assert switched(config, 'tasks.smile.loss', 'multiclass_squared_hinge')
  assert config.tasks.smile.loss == 'multiclass_squared_hinge'
  for field, name in (('model.name', 'alexnet'), ('tasks.smile.weight', 'rexnet'), ('seed', 'sgd')):
    assert not switched(config, field, name)
  before = flat(config.to_dict())
  assert switched(config, 'model.name', 'rexnet')  # named already: nothing changes
  assert flat(config.to_dict()) == before
