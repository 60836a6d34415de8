import math

import pytest

from mtface.config.checks import check, check_stages
from mtface.config.schema import experiment, flat, model, switched, task
from mtface.config.stages import stage
from mtface.errors import UserError
from tests.tiny import get_config
from tests.tiny_stages import get_config as get_stages


def test_the_tiny_config_is_in_order():
  check(get_config(), devices=1)
  check(get_config(), devices=8)


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('batch_size', 12, '12 cannot be split evenly over 8 devices; take a multiple of 8'),
    ('evaluation.batch_size', 4, '4 cannot be split evenly over 8 devices'),
    ('ghost_batch', 3, '3 does not divide the batch of 8'),
    ('batch_size', 0, '0 is out of range; it must be from 1'),
    ('optimizer.rate', math.nan, 'nan is out of range; it must be more than 0'),
    ('optimizer.rate', math.inf, 'inf is out of range'),
    ('optimizer.momentum', 1.0, '1.0 is out of range; it must be at least 0 and less than 1'),
    ('augment.rotate', 181.0, '181.0 is out of range; it must be from 0 to 180'),
    ('blend.name', 'cut', "'cut' is unknown; there are none, mixup, cutmix"),
    ('loss.over', 'some', "'some' is unknown; there are all, labelled"),
    ('tasks.smile.class_weights', 'heavy', "'heavy' is unknown; there are none, balanced"),
    ('image_shape', (16, 16), '(16, 16); it must be (height, width, channels)'),
    (
      'evaluation.best_on',
      ('faces',),
      "'faces' is not among config.evaluation.sets (people, smiles)",
    ),
  ],
)
def test_what_cannot_work_is_named(field, value, words):
  config = get_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError) as error:
    check(config, devices=8)
  assert str(error.value).startswith(f'config.{field}')
  assert words in str(error.value)


def test_shares_are_for_a_mixture_that_knows_them():
  config = get_config()
  config.tasks.smile.share = 0.5
  check(config, devices=1)
  config.mixture = 'proportional'
  with pytest.raises(UserError, match='which the mixture proportional does not know'):
    check(config, devices=1)
  config.tasks.gender.share = 0.5
  check(config, devices=1)


def test_a_config_without_tasks():
  with pytest.raises(UserError, match='no tasks or no sources'):
    check(experiment(), devices=1)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'optimizer.rate': '1e-4'}, "config.optimizer.rate: '1e-4'; it must be a number"),
    ({'batch_size': 8.5}, 'config.batch_size: 8.5; it must be a whole number'),
    ({'augment.flip': 1}, 'config.augment.flip: 1; it must be True or False'),
    ({'augment.pad': True}, 'config.augment.pad: True; it must be a whole number'),
    ({'duration': 20}, 'config.duration: 20; it must be text'),
    (
      {'freeze.params': 'blocks'},
      "config.freeze.params: 'blocks'; it must be text in brackets, such as ('trunk',)",
    ),
    (
      {'image_shape': ('16', '16', '1')},
      "config.image_shape: ['16', '16', '1']; it must be numbers in brackets",
    ),
    (
      {'image_shape': (16, 0, 1)},
      'config.image_shape: (16, 0, 1); it must be (height, width, channels)',
    ),
    ({'freeze.norms': 'both'}, "config.freeze.norms 'both' is unknown; there are running, batch"),
    (
      {'evaluation.checkpoints': ('last', 'best')},
      'config.evaluation.checkpoints: best is asked for, and config.eval',
    ),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_what_a_stage_says_is_of_the_type_of_its_default(changes, words):
  config = get_stages()
  config.stage.both = stage(changes)  # which takes anything
  with pytest.raises(UserError) as error:
    check_stages(config, devices=1)
  assert str(error.value).startswith(f'stage both: {words}')


def test_a_whole_number_is_a_number():
  config = get_config()
  with config.ignore_type():
    config.optimizer.rate = 1
  check(config, devices=1)


@pytest.mark.parametrize(
  ('group', 'field', 'words'),
  [
    (
      'optimizer',
      'ratio',
      'config.optimizer.ratio: there is no such field; the fields here are: accumulate, clip, '
      'decay, decay_steps, f',
    ),
    (
      'model',
      'depth',
      'config.model.depth: there is no such field; the fields here are: dropout, dtype, init, '
      'join, name, width',
    ),
    (
      'tasks.smile',
      'wait',
      'config.tasks.smile.wait: there is no such field; the fields here are: class_weights, loss, '
      'share, smoothing, top, votes, weight',
    ),
  ],
)
def test_fields_that_nothing_reads(group, field, words):
  config = get_config()
  part = config
  for name in group.split('.'):
    part = part[name]
  part[field] = 1.0
  with pytest.raises(UserError) as error:
    check(config, devices=1)
  assert str(error.value).startswith(words)


def test_fields_are_those_of_the_network():
  config = get_config()
  config.model = model('efficientnet', depth=1.1)
  check(config, devices=1)


def test_all_stages_are_checked_and_named():
  config = get_stages()
  assert list(check_stages(config, devices=8)) == ['smiles', 'genders', 'both']
  config.stage.both.batch_size = 12
  with pytest.raises(
    UserError, match=r'^stage both: config.batch_size: 12 cannot be split evenly over 8 devices'
  ):
    check_stages(config, devices=8)


TINIEST = 5e-324
# A field's least and greatest good values, and the nearest bad ones; None: there is none.
BOUNDS = {
  'seed': (0, 2**32 - 1, -1, 2**32),
  'batch_size': (8, 1_000_000, 0, 1_000_008),
  'evaluation.batch_size': (8, 1_000_000, 0, 1_000_008),
  'model.width': (TINIEST, 1e300, 0, math.inf),
  'model.dropout': (0, 1 - 2**-53, -TINIEST, 1),
  'augment.pad': (0, None, -1, None),
  'augment.rotate': (0, 180, -TINIEST, 180.0001),
  'loss.l2': (0, 1e300, -TINIEST, math.inf),
  'optimizer.rate': (TINIEST, 1e300, 0, math.inf),
  'optimizer.momentum': (0, 1 - 2**-53, -TINIEST, 1),
  'optimizer.beta2': (0, 1 - 2**-53, -TINIEST, 1),
  'optimizer.sam': (0, 1e300, -TINIEST, math.inf),
  'optimizer.clip': (0, 1e300, -TINIEST, math.inf),
  'optimizer.decay': (TINIEST, 1, 0, 1 + 2**-52),
  'optimizer.decay_steps': (1, None, 0, None),
  'optimizer.warmup': (TINIEST, 1 - 2**-53, 0, 1),
  'optimizer.end': (0, 1, -TINIEST, 1 + 2**-52),
  'optimizer.weight_decay': (0, 1e300, -TINIEST, math.inf),
  'optimizer.accumulate': (1, None, 0, None),
  'evaluation.patience': (0, None, -1, None),
  'ghost_batch': (0, 4, -1, None),
  'augment.zoom': (0.0, 3.0, -0.1, 3.1),
  'augment.stretch': (0.0, 3.0, -0.1, 3.1),
  'augment.brightness': (0.0, 1.0, -0.1, 1.1),
  'augment.contrast': (0.0, 1.0, -0.1, 1.1),
  'augment.erase': (0.0, 1.0, -0.1, 1.1),
  'blend.alpha': (TINIEST, 1e300, 0.0, math.inf),
  'ema': (0.0, 0.9999, -0.1, 1.0),
  'steps_a_call': (0, 1000, -1, 1001),
  'profile.start': (0, None, -1, None),
  'profile.steps': (0, 1000, -1, 1001),
  'mesh.fsdp': (1, None, 0, None),
  'mesh.shard_from': (1, None, 0, None),
  'distributed.start_timeout': (1, None, 0, None),
  'distributed.heartbeat': (2, None, 1, None),
  'checkpoint.keep_last': (1, None, 0, None),
  'tasks.smile.share': (TINIEST, 1e300, 0.0, math.inf),
  'tasks.smile.weight': (0, 1e300, -TINIEST, math.inf),
  'tasks.smile.top': (1, 1, 0, 2),  # of ages alone
  'tasks.age_years.top': (1, 117, 0, 118),
}


# Options of others than the tiny config names.
NAMED = {
  'beta2': ('optimizer.name', 'adam'),
  'weight_decay': ('optimizer.name', 'adamw'),
  'warmup': ('optimizer.schedule', 'one_cycle'),
  'end': ('optimizer.schedule', 'cosine'),
}


def with_value(field, value):
  config = get_config()
  config.tasks.age_years = task()
  config.evaluation.during_training = config.evaluation.best_on = ('people',)
  if named := NAMED.get(field.partition('.')[2]):
    assert switched(config, *named)
  *groups, last = field.split('.')
  group = config
  for name in groups:
    group = group[name]
  with group.ignore_type():
    group[last] = value
  return config


@pytest.mark.parametrize('field', BOUNDS)
def test_a_number_is_good_as_far_as_its_bounds_and_no_further(field):
  least, greatest, below, above = BOUNDS[field]
  for value in (least, greatest):
    if value is not None:
      check(with_value(field, value), devices=8)
  of_integers = (
    [True] if isinstance(least, int) and greatest is None else []
  )  # elsewhere ml_collections makes 1.0 of it
  for value in (below, above, math.nan, '1', *of_integers):
    if value is not None:
      with pytest.raises(UserError, match=rf'^config\.{field}: '):
        check(with_value(field, value), devices=8)


def test_every_number_of_an_experiment_has_bounds():
  # What is checked where it is used: durations and patterns are text.
  numbers = {
    field
    for field, value in flat(get_config().to_dict()).items()
    if type(value) in (int, float) and 'tasks.' not in field
  }
  named = {field for field in BOUNDS if field.partition('.')[2] in NAMED}
  assert numbers == {field for field in BOUNDS if 'tasks.' not in field} - named


def test_the_best_is_chosen_by_what_is_measured():
  config = get_config()
  config.evaluation.during_training, config.evaluation.best_on = ('smiles', 'people'), ('people',)
  check(config, devices=1)
  config.evaluation.during_training = ('smiles',)
  with pytest.raises(
    UserError,
    match=r'^config.evaluation.best_on: people must be in config.evaluation.during_training too$',
  ):
    check(config, devices=1)
  config.evaluation.during_training, config.evaluation.best_on = ('faces',), ()
  with pytest.raises(UserError, match=r"^config.evaluation.during_training: 'faces' is not among"):
    check(config, devices=1)


def test_a_union_has_no_hidden_layers_of_ages():
  config = get_config()
  config.model = model('efficientnet', age_hidden=(8,))
  check(config, devices=1)
  config.outputs.layer = 'union'
  with pytest.raises(
    UserError, match=r'config.model.age_hidden: \(8,\); a union has no head of ages'
  ):
    check(config, devices=1)
  config.model.age_hidden = ()
  check(config, devices=1)
