"""Bad input, through the entry point: one clear line that names what is wrong and what to do, exit
code 2, nothing half-written.

Most cases run in this process (`mtface` of tests/conftest.py; `error` of tests/command.py checks
the line and the code). Here are flags, configs and workdirs; data are in test_bad_data.py, and what
takes real disks or processes in test_full_disk.py and test_devices.py.
"""

import json
import shutil

import jax.numpy as jnp
import pytest

from mtface.training import optim
from mtface.training.checkpoints import Checkpoints
from tests.command import TINY
from tests.fakes import flip_bytes, write_prepared

# --- Flags and configs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('arguments', 'pieces'),
  [
    (['trian'], ["'trian' is not a command", 'train, evaluate']),
    (['train', '--workdir=w'], ['--config is missing', '--config=demo']),
    (['train', f'--config={TINY}'], ['--workdir is missing', 'pass the folder']),
    (['train', f'--config={TINY}', '--workdir=w', '--steps=3'], ['steps', 'mtface train --help']),
    (
      ['train', f'--config={TINY}', '--workdir=w', 'now'],
      ["'now': train takes only flags", 'mtface train --help'],
    ),
    (
      ['evaluate', f'--config={TINY}', '--workdir=w'],
      ['--config: evaluate does not take a config', 'mtface evaluate --help'],
    ),
    (['train', '--config=sang2071', '--workdir=w'], ['--config=sang2071', 'there are', 'sang2017']),
    (['params', '--config=sang2017:A9'], ['argument row', "'A9' is not one of A1, A2, A3, A4"]),
    (['params', '--config=sang2017:A2,fold=x'], ['argument fold', "'x' is not of type int"]),
    (
      ['params', '--config=sang2017:A2,colour=red'],
      ["argument 'colour=red' is unknown", 'row=A1|A2|A3|A4'],
    ),
    (['params', '--config=demo:A2'], ["demo.py: takes no argument, 'A2' was given", 'leave out']),
    (['build'], ['build: name a set', 'docs/datasets.md']),
  ],
  ids=lambda value: (
    ' '.join(value[:3]).replace(TINY, 'tiny') if value and value[0].isalpha() else ''
  ),
)
def test_flags(mtface, arguments, pieces):
  error = mtface(*arguments).error
  assert all(piece in error for piece in pieces), error


@pytest.mark.parametrize(
  ('text', 'pieces'),
  [
    ('def get_config(:', ['mine.py:1: SyntaxError', 'correct the config file']),
    ('x = 1\nfrom mtface.config.schema import experimnt', ['mine.py:2: ImportError', 'experimnt']),
    ('config = 3', ['mine.py: has no function get_config', 'get_config(arg=None) -> ConfigDict']),
    ('def get_config():\n  return {}[5]', ['mine.py:2: KeyError: 5']),
    ('def get_config():\n  return {}', ['mine.py: get_config returned dict', 'experiment()']),
    (
      'import ml_collections\nget_config = ml_collections.ConfigDict',
      ['mine.py: the field', 'is missing', 'experiment()'],
    ),
    (
      'from mtface.config.schema import experiment\ndef get_config():\n  c = experiment()\n  '
      'c.batch_size = "many"\n  return c',
      ['mine.py:4: TypeError', 'batch_size'],
    ),
    (
      'from mtface.config.schema import *\ndef get_config():\n  c = experiment()\n  c.tasks.smile '
      '= {"weight": 1.0}\n  return c',
      ['mine.py: the field tasks.smile.class_weights is missing', 'task()'],
    ),
    (
      'from mtface.config.schema import *\nget_config = experiment',
      ['config: no tasks or no sources'],
    ),
  ],
)
def test_config_files(mtface, tiny_data, tmp_path, text, pieces):
  (tmp_path / 'mine.py').write_text(text)
  error = mtface(
    'train', f'--config={tmp_path}/mine.py', f'--workdir={tmp_path}/w', f'--data_dir={tiny_data}'
  ).error
  assert all(piece in error for piece in pieces), error
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  ('override', 'pieces'),
  [
    ('batch_size=abc', ['--config.batch_size=abc', 'int']),
    ('batch_sise=8', ['--config.batch_sise', 'the fields here are: ', 'batch_size']),
    ('tasks.laugh.weight=1', ['--config.tasks.laugh.weight', 'gender, smile']),
    ('augment.flip=maybe', ['--config.augment.flip=maybe', 'boolean']),
    ('batch_size=0', ['config.batch_size: 0', 'from 1 to']),
    ('evaluation.batch_size=-8', ['config.evaluation.batch_size: -8', 'from 1 to']),
    ('seed=-1', ['config.seed: -1', 'from 0 to']),
    ('optimizer.rate=nan', ['config.optimizer.rate: nan', 'more than 0']),
    ('loss.l2=inf', ['config.loss.l2: inf', 'at least 0']),
    ('tasks.smile.weight=nan', ['config.tasks.smile.weight: nan', 'at least 0']),
    ('model.dropout=1.5', ['config.model.dropout: 1.5', 'less than 1']),
    ('model.width=-1', ['config.model.width: -1.0', 'more than 0']),
    ('augment.pad=-1', ['config.augment.pad: -1', 'at least 0']),
    ('checkpoint.keep_last=0', ['config.checkpoint.keep_last: 0', 'at least 1']),
    ('duration=0 steps', ["config.duration: '0 steps'", 'more than 0']),
    ('log_every=soon', ["config.log_every: 'soon'", '2000 steps']),
    ('checkpoint.every=-1 epochs', ["config.checkpoint.every: '-1 epochs'", '10 epochs']),
    ('duration=99999999999999 steps', ['config.duration', 'at most 2^31']),
    ('model.name=vgg19', ["config.model.name 'vgg19'", 'bknet']),
    ('model.dtype=float17', ["config.model.dtype 'float17'", 'float32, bfloat16']),
    ('model.init=zeros', ["config.model.init 'zeros'", 'gaussian, he']),
    ('mixture=equally', ["mixture 'equally'", 'equal, proportional, alternate']),
    ('loss.over=some', ["config.loss.over 'some'", 'all, labelled']),
    ('tasks.smile.loss=hinge', ["config.tasks.smile.loss 'hinge'", 'multiclass_squared_hinge']),
    (
      'tasks.smile.class_weights=heavy',
      ["config.tasks.smile.class_weights 'heavy'", 'none, balanced'],
    ),
    ('optimizer.schedule=linear', ["config.optimizer.schedule 'linear'", 'exponential, pol']),
    ('image_shape=(16,16)', ['config.image_shape: (16, 16)', '(height, width, channels)']),
    (
      'image_shape=(48,48,1)',
      ['tiny/people:train: its images are 16x16x1', 'change config.image_shape'],
    ),
    ('evaluation.best_on=("x",)', ["config.evaluation.best_on: 'x'", 'people, smiles']),
    (
      'evaluation.best_on=("people",)',
      ['config.evaluation.best_on: people', 'during_training too'],
    ),
    ('evaluation.sets.smiles.name=tiny/smile', ["source 'tiny/smile'", 'genki4k/gray48:train']),
    ('sources.smiles.name=tiny/smile', ["source 'tiny/smile'", 'genki4k/gray48:train']),
    ('sources.smiles.name=tiny:train', ["source 'tiny'", 'lacks the config']),
    (
      'sources.smiles.name=tiny/none:train',
      ['tiny/none: no prepared set', 'mtface build tiny/none'],
    ),
    ('sources.smiles.name=tiny/smile:validation', ["no split 'validation'", 'test, train']),
    ('sources.smiles.name=tiny/smile:train[fold=4/4]', ['fold 4/4 does not exist', '0 to N-1']),
    ('sources.smiles.name=tiny/smile:train[fold=-1/4]', ['[fold=-1/4]', '[fold=K/N]']),
    ('sources.smiles.name=tiny/smile:train[fold=0/99]', ['folds=99', 'only 24 images']),
    (
      'sources.smiles.tasks=("gender",)',
      ["tiny/smile:train: has no labels for task 'gender'", 'it has smile'],
    ),
    ('sources.smiles.tasks=("laugh",)', ["task 'laugh' is unknown", 'smile, emotion7']),
  ],
  ids=lambda value: value if isinstance(value, str) else '',
)
def test_overrides(mtface, tiny_data, tmp_path, override, pieces):
  workdir = tmp_path / 'w'
  error = mtface(
    'train',
    f'--config={TINY}',
    f'--workdir={workdir}',
    f'--data_dir={tiny_data}',
    f'--config.{override}',
  ).error
  assert all(piece in error for piece in pieces), error
  assert not workdir.exists(), 'the corrected command would find a run with the bad config there'


# --- Workdirs -------------------------------------------------------------------------------------


def test_a_changed_config_does_not_continue_another_run(mtface, tiny_data, run_copy):
  command = ['train', f'--config={TINY}', f'--workdir={run_copy}', f'--data_dir={tiny_data}']
  error = mtface(*command, '--config.optimizer.rate=0.02', '--config.tasks.smile.weight=2').error
  assert 'optimizer.rate=0.01, the config now says 0.02 (and 1 more fields)' in error
  assert 'another --workdir' in error
  assert mtface(*command).code == 0


@pytest.mark.parametrize('folder', ['/proc/mtface', '{file}/run'])
def test_a_workdir_that_cannot_be_made(mtface, tiny_data, tmp_path, folder):
  (tmp_path / 'file').write_text('')
  folder = folder.format(file=tmp_path / 'file')
  error = mtface(
    'train', f'--config={TINY}', f'--workdir={folder}', f'--data_dir={tiny_data}'
  ).error
  assert error.startswith(f'{folder}: the workdir cannot be written')
  assert 'choose another --workdir' in error


def damage_config(run, text):
  (run / 'config.json').write_text(text)


def drop_field(run):
  config = json.loads((run / 'config.json').read_text())
  del config['config']['optimizer']['rate']
  damage_config(run, json.dumps(config))


WORKDIRS = {
  'absent': (shutil.rmtree, ['config.json: not found', 'mtface train']),
  'a file': (
    lambda run: (shutil.rmtree(run), run.write_text('')),
    ['config.json: not found', 'expected the folder of a run'],
  ),
  'no config': (
    lambda run: (run / 'config.json').unlink(),
    ['config.json: not found', 'expected the folder of a run'],
  ),
  'cut config': (
    lambda run: damage_config(run, '{"config": {"na'),
    ['config.json: is damaged', 'another --workdir'],
  ),
  'config is a list': (
    lambda run: damage_config(run, '[]'),
    ['config.json: is damaged', 'another --workdir'],
  ),
  'binary config': (
    lambda run: (run / 'config.json').write_bytes(b'\xff\xfe\x00'),
    ['config.json: is damaged', '--workdir'],
  ),
  'a field is gone': (drop_field, ['config.json: is damaged', 'optimizer.rate is missing']),
  'no checkpoints': (
    lambda run: shutil.rmtree(run / 'checkpoints'),
    ['checkpoints/main: no checkpoints', 'train first'],
  ),
  'empty folder': (
    lambda run: [shutil.rmtree(path) for path in (run / 'checkpoints/main').iterdir()],
    ['checkpoints/main: holds no checkpoint yet', 'train first'],
  ),
  'cut results': (
    lambda run: (run / 'results.json').write_text('{"resul'),
    ['results.json: is damaged', 'delete it'],
  ),
  'other results': (
    lambda run: (run / 'results.json').write_text('{"results": [3]}'),
    ['results.json: is damaged', 'delete'],
  ),
}


@pytest.mark.parametrize('damage', WORKDIRS)
def test_evaluate_needs_a_whole_workdir(mtface, tiny_data, run_copy, damage):
  do, pieces = WORKDIRS[damage]
  do(run_copy)
  error = mtface('evaluate', f'--workdir={run_copy}', f'--data_dir={tiny_data}').error
  assert all(piece in error for piece in pieces), error


@pytest.mark.parametrize(
  ('flags', 'pieces'),
  [
    (['--checkpoint=first'], ['--checkpoint=first', 'last, best, a step, average:K or ensemble:K']),
    (['--checkpoint=average:0'], ['--checkpoint=average:0', 'average:K']),
    (['--checkpoint=average:99'], ['holds 3 checkpoints', 'average:99 needs 99']),
    (['--checkpoint=last,ensemble:99'], ['holds 3 checkpoints', 'ensemble:99 needs 99']),
    (['--checkpoint=5'], ['no checkpoint of step 5', 'there are 4, 8, 12']),
    (
      ['--checkpoint=best'],
      ['no checkpoint is marked best', 'config.evaluation.best_on', 'use last'],
    ),
    (['--on=faces'], ["source 'faces'", 'SET/CONFIG:SPLIT']),
    (
      ['--on=tiny/age:train'],
      ['--on=tiny/age:train: labels age_group', 'the network predicts gender, smile; name a set'],
    ),
    (['--sheets'], ['sheets', 'mtface evaluate --help']),
  ],
  ids=lambda value: value[0] if value[0].startswith('--') else '',
)
def test_evaluate_flags(mtface, tiny_data, tiny_run, flags, pieces):
  if '--on=tiny/age:train' in flags:
    write_prepared(tiny_data, 'tiny/age', {'train': 6}, {'age_group': 1.0})
  error = mtface('evaluate', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', *flags).error
  assert all(piece in error for piece in pieces), error
  assert not (tiny_run / 'results.json').exists()


def largest_file(folder):
  return max(
    (path for path in folder.rglob('*') if path.is_file()), key=lambda path: path.stat().st_size
  )


def test_evaluate_says_that_a_checkpoint_is_damaged(mtface, tiny_data, run_copy):
  flip_bytes(largest_file(run_copy / 'checkpoints/main/000000012/state'))
  command = ['evaluate', f'--workdir={run_copy}', f'--data_dir={tiny_data}', '--on=smiles']
  error = mtface(*command).error
  assert 'checkpoints/main: checkpoint 12 is damaged' in error
  assert '--checkpoint' in error
  assert mtface(*command, '--checkpoint=8').code == 0


@pytest.mark.parametrize(
  ('save_every', 'kept', 'what'),
  [('4 steps', [4], 'step 7: the loss is not finite'), ('3 steps', [3], "step 6: state.params['")],
)
def test_nan_names_the_step_and_keeps_the_checkpoints_before(
  mtface, tiny_data, tiny_run, tmp_path, monkeypatch, save_every, kept, what
):
  # The sixth update is infinite. The next loss shows it, unless a checkpoint is due first.
  command = ['train', f'--config={TINY}', f'--workdir={tmp_path}/run', f'--data_dir={tiny_data}']
  command += [f'--config.checkpoint.every={save_every}']
  make_schedule = optim.make_schedule

  def spoilt(config, steps):
    return lambda count: jnp.where(count == 5, jnp.inf, make_schedule(config, steps)(count))

  with monkeypatch.context() as patched:
    patched.setattr(optim, 'make_schedule', spoilt)
    error = mtface(*command).error
  assert error.startswith(what)
  assert 'Lower config.optimizer.rate' in error
  assert Checkpoints(tmp_path / 'run').steps == kept

  assert mtface(*command).code == 0, 'the same workdir, the cause removed'
  assert (
    Checkpoints(tmp_path / 'run')._scores(12)['checksum']
    == Checkpoints(tiny_run)._scores(12)['checksum']
  )
