"""Mistakes in the last of three stages are refused in seconds, before the first one trains; nothing
is written, or in the way later.
"""

import subprocess
import sys
import time

import pytest

from mtface.config import files as config_files
from mtface.config.saved import read_config
from mtface.config.schema import source, task
from mtface.config.stages import stage
from mtface.training.checkpoints import Checkpoints
from tests import tiny_stages
from tests.command import ROOT, TINY
from tests.fakes import write_prepared, write_tiny
from tests.training.test_lock import HOLD

CONFIG = f'{ROOT}/tests/tiny_stages.py'

# What is changed of the last stage, and how the refusal begins.
MISTAKES = {
  'a source that is not there': (
    {
      'sources': {
        'smiles': source('tiny/smil:train', 'smile'),
        'people': source('tiny/people:train', 'gender'),
      }
    },
    '{data}/tiny/smil: no prepared set found',
  ),
  'a split': (
    {'sources': {'all': source('tiny/smile:validation', 'smile')}},
    "tiny/smile: has no split 'validation'; it has test, train",
  ),
  'a draw': (
    {'sources': {'all': source('tiny/smile:train[take=25,seed=0]', 'smile')}},
    'tiny/smile:train[take=25,seed=0]: ',
  ),
  'a range': (
    {'sources': {'all': source('tiny/smile:train[smile=2-3]', 'smile')}},
    'tiny/smile:train[smile=2-3]: no face is in this range',
  ),
  'a frozen part': (
    {'freeze.params': ('trunk',)},
    "config.freeze.params: 'trunk' matches no parameter",
  ),
  'a factor': (
    {'optimizer.factors': ('blocks=fast',)},
    "config.optimizer.factors: 'blocks=fast': expected PATTERN=FACTOR",
  ),
  'a fresh part': ({'start.fresh': ('heads',)}, "config.start.fresh: 'heads' matches no parameter"),
  'a file of weights': (
    {'start.weights': 'faces.safetensors'},
    'faces.safetensors: no such weight file',
  ),
  'a run of weights': ({'start.weights': 'runs/faces@best'}, 'runs/faces/config.json: not found'),
  'a selection of a stage': (
    {'start.weights': 'stage:genders@best'},
    'config.start.weights=stage:genders@best: that stage marks no best checkpoint',
  ),
  'a step of a stage': (
    {'start.weights': 'stage:genders@7'},
    'config.start.weights=stage:genders@7: that stage will not keep a checkpoint of step 7; it '
    'keeps '
    '4, 8',
  ),
  'a network that the weights do not fit': (
    {'model.width': 1 / 16},
    'config.start.weights=stage:genders: blocks/0/convolutions/0/bias is (1,), the network expects '
    '(2,); list it in config.start.fresh',
  ),
  'an optimiser': (
    {'optimizer.name': 'adagrad'},
    "config.optimizer.name 'adagrad' is unknown; there are sgd, adam",
  ),
  'a schedule': ({'optimizer.schedule': 'linear'}, "config.optimizer.schedule 'linear' is unknown"),
  'a loss': (
    {'tasks.smile': {'loss': 'hinge'}},
    "config.tasks.smile.loss 'hinge' is unknown; there are softmax_cross_entropy",
  ),
  'a loss of another form': (
    {'tasks': ('smile', 'gender', 'action_units')},
    'config.tasks.action_units.loss: softmax_cross_entropy is for single-label tasks; action_units '
    'is multi-label: sigmoid_cross_entropy',
  ),
  'class weights': (
    {'tasks.smile': {'class_weights': 'heavy'}},
    "config.tasks.smile.class_weights 'heavy' is unknown",
  ),
  'norms': (
    {'freeze.norms': 'still'},
    "config.freeze.norms 'still' is unknown; there are running, batch",
  ),
  'a mixture': ({'mixture': 'equally'}, "config.mixture 'equally' is unknown"),
  'a duration': ({'duration': 'a week'}, "config.duration: 'a week' is not a duration"),
  'a cadence': (
    {'checkpoint.every': '2 days'},
    "config.checkpoint.every: '2 days' is not a duration",
  ),
  'images': (
    {'image_shape': (48, 48, 1)},
    'tiny/people:train: its images are 16x16x1, config.image_shape says 48x48x1',
  ),
  'images that it is measured on': (
    {'evaluation.sets': {'large': source('tiny/large:train', 'smile')}},
    'tiny/large:train: its images are 32x32x3, config.image_shape says 16x16x1; no config of this '
    'set',
  ),
  'a set that it is measured on': (
    {'evaluation.sets': {'smiles': source('tiny/smile:private_test', 'smile')}},
    "tiny/smile: has no split 'private_test'; it has test, train",
  ),
  'a set of other tasks': (
    {'evaluation.sets': {'ages': source('tiny/age:train')}},
    'config.evaluation.sets.ages: tiny/age:train labels age_group, the network predicts gender, '
    'smile; name a set with one',
  ),
  'a set that chooses the best': (
    {'evaluation.best_on': ('smile',)},
    "config.evaluation.best_on: 'smile' is not among config.evaluation.sets (people, smiles)",
  ),
  'a set without labels that chooses the best': (
    {
      'evaluation.sets': {'none': source('tiny/none:train', 'smile')},
      'evaluation.during_training': ('none',),
      'evaluation.best_on': ('none',),
    },
    'config.evaluation.best_on: none (tiny/none:train) has no label for gender, smile',
  ),
  'a selection to measure': (
    {'evaluation.checkpoints': ('last', 'mean:10')},
    'config.evaluation.checkpoints: mean:10: expected last, best',
  ),
  'a task without a label': (
    {
      'sources': {
        'smiles': source('tiny/smile:train', 'smile'),
        'people': source('tiny/none:train', 'smile'),
      }
    },
    'config.tasks: no source labels gender; add one, or remove the task',
  ),
  'a multi-label task with the default loss': (
    {
      'tasks': {'action_units': {}},
      'sources': {'units': source('tiny/units:train')},
      'evaluation.sets': {'units': source('tiny/units:train')},
    },
    'config.tasks.action_units.loss: softmax_cross_entropy is for single-label tasks; action_units '
    'is multi-label: sigmoid_cross_entropy',
  ),
  'a type': ({'optimizer.rate': 'slow'}, "config.optimizer.rate: 'slow'; it must be a number"),
  'a number': ({'optimizer.momentum': 1.5}, 'config.optimizer.momentum: 1.5 is out of range'),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """The tiny sets, and some that do not fit."""
  data_dir = tmp_path_factory.mktemp('data')
  write_tiny(data_dir)
  write_prepared(data_dir, 'tiny/age', {'train': 6}, {'age_group': 1.0})
  write_prepared(data_dir, 'tiny/none', {'train': 6}, {'smile': 0.0})
  write_prepared(data_dir, 'tiny/large', {'train': 6}, {'smile': 1.0}, shape=(32, 32, 3))
  write_prepared(data_dir, 'tiny/units', {'train': 6}, {'action_units': 1.0})
  return data_dir


def with_mistake(changes):
  """The config, with these fields of its last stage."""
  config = tiny_stages.get_config()
  last = {'start.weights': 'stage:genders', 'duration': '6 steps'} | changes
  tasks = (
    {'smile': task(), 'gender': task()}
    if 'tasks' not in changes
    else {name: task() for name in changes['tasks']}
  )
  for field in [field for field in last if field.startswith('tasks.')]:
    for key, value in last.pop(field).items():
      tasks[field.partition('.')[2]][key] = value
  config.stage.both = stage(last | {'tasks': tasks})
  return config


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_in_the_last_stage(mtface, data, tmp_path, monkeypatch, mistake):
  changes, words = MISTAKES[mistake]
  monkeypatch.setattr(config_files, 'load_config', lambda *_: with_mistake(changes))
  words = f'stage both: {words.format(data=data)}'
  start = time.process_time()
  command = [f'--config={CONFIG}', f'--data_dir={data}']
  error = mtface('train', *command, f'--workdir={tmp_path}/run').error
  seconds = time.process_time() - start
  assert error.startswith(words), error
  assert not list(tmp_path.iterdir()), 'nothing is written'
  assert seconds < 10
  assert mtface('describe', *command).error == error


def test_a_run_that_never_began_does_not_stand_in_the_way(mtface, tiny_data, tmp_path, monkeypatch):
  def no_step(*_, **__):
    raise RuntimeError('out of memory')

  monkeypatch.setattr('mtface.training.loop.to_devices', no_step)
  command = ['train', f'--config={TINY}', f'--workdir={tmp_path}/run', f'--data_dir={tiny_data}']
  for size in (8, 4):
    with pytest.raises(RuntimeError):
      mtface(*command, f'--config.evaluation.batch_size={size}')
    assert read_config(tmp_path / 'run').evaluation.batch_size == size


def test_a_later_stage_is_corrected_and_the_run_goes_on(mtface, tiny_data, tmp_path):
  command = ['train', f'--config={CONFIG}', f'--workdir={tmp_path}/run', f'--data_dir={tiny_data}']
  first = mtface(*command, '--config.stages=("smiles",)')
  assert first.code == 0, first.err
  checksum = Checkpoints(tmp_path / 'run', 'smiles').checksum(6)
  both = mtface(*command, '--config.stages=("smiles", "genders")')
  assert both.code == 0, both.err
  assert 'already trained to step 6' in both.out
  assert Checkpoints(tmp_path / 'run', 'smiles').checksum(6) == checksum
  assert Checkpoints(tmp_path / 'run', 'genders').steps == [4, 8]
  error = mtface(*command, '--config.stage.smiles.duration=4 steps').error
  assert error.startswith("stage smiles: config.duration: '4 steps' is 4 steps, and "), error


def test_a_longer_run_ends_as_if_it_had_been_planned_so(mtface, tiny_data, run_copy, tmp_path):
  command = ['train', f'--config={TINY}', f'--data_dir={tiny_data}', '--config.duration=16 steps']
  assert mtface(*command, f'--workdir={tmp_path}/long').code == 0
  longer = mtface(*command, f'--workdir={run_copy}')
  assert longer.code == 0, longer.err
  found, expected = Checkpoints(run_copy), Checkpoints(tmp_path / 'long')
  assert found.steps == expected.steps == [4, 8, 12, 16]
  assert found.checksum(16) == expected.checksum(16)
  error = mtface(*command[:-1], f'--workdir={run_copy}').error
  assert error.startswith("config.duration: '12 steps' is 12 steps, and ")
  assert error.endswith('/run holds step 16 already; a run may be made longer, not shorter')


def test_two_do_not_train_in_one_workdir(mtface, tiny_data, tmp_path):
  command = ['train', f'--config={TINY}', f'--workdir={tmp_path}/run', f'--data_dir={tiny_data}']
  other = subprocess.Popen([sys.executable, '-c', HOLD, tmp_path / 'run'], stdout=subprocess.PIPE)
  try:
    assert other.stdout.readline() == b'1\n'
    assert mtface(*command).error.startswith(f'{tmp_path}/run: process {other.pid} on ')
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['lock']
  finally:
    other.kill()
    other.communicate()
  assert mtface(*command, '--config.duration=2 steps').code == 0


def test_a_set_that_has_changed_does_not_go_on_unnoticed(mtface, tiny_data, run_copy, monkeypatch):
  command = ['train', f'--config={TINY}', f'--workdir={run_copy}', f'--data_dir={tiny_data}']
  assert mtface(*command).code == 0
  monkeypatch.setattr('mtface.data.sources.fingerprint', lambda name, data_dir: 'b' * 16)
  error = mtface(*command).error
  assert error.startswith(
    f'{run_copy}/config.json: the set tiny/people is no longer the one that this run has read'
  )
