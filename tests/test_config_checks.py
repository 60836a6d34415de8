import math

import pytest

from mtface.config import experiment, model
from mtface.config_checks import check, check_stages
from mtface.errors import UserError
from mtface.stages import stage
from tests.tiny import get_config
from tests.tiny_stages import get_config as get_stages


def test_the_tiny_config_is_in_order():
  check(get_config(), devices=1)
  check(get_config(), devices=8)


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('batch_size', 12, '12 cannot be shared equally by 8 devices; take a multiple of 8'),
    ('evaluation.batch_size', 4, '4 cannot be shared equally by 8 devices'),
    ('batch_size', 0, '0 is out of range; it must be from 1'),
    ('optimizer.rate', math.nan, 'nan is out of range; it must be more than 0'),
    ('optimizer.rate', math.inf, 'inf is out of range'),
    ('optimizer.momentum', 1.0, '1.0 is out of range; it must be at least 0 and less than 1'),
    ('augment.rotate', 181.0, '181.0 is out of range; it must be from 0 to 180'),
    ('loss.over', 'some', "'some' is unknown; there are all, labelled"),
    ('tasks.smile.class_weights', 'heavy', "'heavy' is unknown; there are none, balanced"),
    ('image_shape', (16, 16), '(16, 16); it must be (height, width, channels)'),
    ('evaluation.best_on', ('faces',), "'faces' is not among config.evaluation.sets (people, smiles)"),
  ],
)
def test_what_cannot_work_is_named(field, value, words):
  config = get_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError) as error:
    check(config, devices=8)
  assert str(error.value).startswith(f'config.{field}')
  assert words in str(error.value)


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
    ({'freeze.params': 'blocks'}, "config.freeze.params: 'blocks'; it must be text in brackets, such as ('trunk',)"),
    ({'image_shape': ('16', '16', '1')}, "config.image_shape: ['16', '16', '1']; it must be numbers in brackets"),
    ({'image_shape': (16, 0, 1)}, 'config.image_shape: (16, 0, 1); it must be (height, width, channels)'),
    ({'freeze.norms': 'both'}, "config.freeze.norms 'both' is unknown; there are running, batch"),
    ({'evaluation.checkpoints': ('last', 'best')}, 'config.evaluation.checkpoints: best is asked for, and config.eval'),
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
      'config.optimizer.ratio: there is no such field; the fields here are: beta2, clip, decay, decay_steps, f',
    ),
    (
      'model',
      'depth',
      'config.model.depth: there is no such field; the fields here are: dropout, dtype, init, join, name, width',
    ),
    (
      'tasks.smile',
      'wait',
      'config.tasks.smile.wait: there is no such field; the fields here are: class_weights, loss, top, weight',
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
  with pytest.raises(UserError, match=r'^stage both: config.batch_size: 12 cannot be shared equally by 8 devices'):
    check_stages(config, devices=8)
