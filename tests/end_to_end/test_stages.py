"""Several stages in one run: what they train, what they leave alone, and that a killed one goes on
in the right place.
"""

import json
import signal

import jax
import numpy as np
import pytest

from mtface.models.paths import by_path
from mtface.training.checkpoints import Checkpoints
from mtface.training.logs import read_metrics
from mtface.training.start import saved_weights
from tests.command import ROOT, python
from tests.end_to_end.killed import STAGE_MOMENTS

CONFIG = f'{ROOT}/tests/tiny_stages.py'


def train(workdir, data_dir, *overrides):
  return [
    'train',
    f'--config={CONFIG}',
    f'--workdir={workdir}',
    f'--data_dir={data_dir}',
    *overrides,
  ]


@pytest.fixture(scope='module')
def run(tiny_data, tmp_path_factory):
  """The workdir of tests/tiny_stages.py, trained. Not to be changed."""
  workdir = tmp_path_factory.mktemp('stages') / 'run'
  done = python('mtface', *train(workdir, tiny_data))
  assert done.code == 0, done.err
  return workdir


def weights(workdir, stage):
  """({name: parameters}, {name: statistics}) at the end of a stage."""
  return tuple(by_path(tree) for tree in saved_weights(workdir, stage))


def part(found, prefix):
  return {name: x for name, x in found.items() if name.startswith(prefix)}


def test_each_stage_is_trained_to_its_end(run):
  assert [Checkpoints(run, stage).steps for stage in ('smiles', 'genders', 'both')] == [
    [4, 6],
    [4, 8],
    [4, 6],
  ]
  assert [line['step'] for line in read_metrics(run / 'stages/genders')] == [2, 4, 6, 8]


def test_what_is_frozen_is_bit_identical_afterwards(run):
  before, after = weights(run, 'smiles'), weights(run, 'genders')
  for old, new in zip(before, after, strict=True):  # parameters, and running statistics
    frozen = part(new, 'blocks')
    assert frozen
    jax.tree.map(np.testing.assert_array_equal, frozen, part(old, 'blocks'))
  assert not part(after[0], 'branches/smile')


def test_learning_rate_factors_act(run):
  before, after = weights(run, 'genders')[0], weights(run, 'both')[0]
  for name, x in part(before, 'branches/gender').items():
    np.testing.assert_array_equal(after[name], x)  # a factor of 0
  moved = {
    block: np.mean(
      [
        np.abs(after[name] - x).mean()
        for name, x in part(before, f'blocks/{block}').items()
        if 'kernel' in name
      ]
    )
    for block in (0, 1)
  }
  assert 0 < moved[0] < moved[1]


@pytest.mark.parametrize('moment', STAGE_MOMENTS)
def test_a_killed_run_goes_on_in_the_right_stage(mtface, run, tiny_data, tmp_path, moment):
  command = train(tmp_path / 'run', tiny_data)
  killed = python('tests.end_to_end.killed', moment, *command)
  assert killed.code == -signal.SIGKILL, killed.err
  again = mtface(*command)
  assert again.code == 0, again.err
  assert again.out.count('already trained') == {'in the first stage': 0}.get(moment, 1)
  for stage in ('smiles', 'genders', 'both'):
    for found, expected in zip(weights(tmp_path / 'run', stage), weights(run, stage), strict=True):
      jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_stages_are_measured_by_name(mtface, run, tiny_data):
  for stage, tasks in (('', {'smile', 'gender'}), ('genders', {'gender'})):
    done = mtface(
      'evaluate',
      f'--workdir={run}',
      f'--data_dir={tiny_data}',
      f'--stage={stage}',
      '--checkpoint=last,average:2',
    )
    assert done.code == 0, done.err
    rows = [
      row
      for row in json.loads((run / 'results.json').read_text())['results']
      if row['stage'] == (stage or 'both')
    ]
    assert {row['task'] for row in rows} == tasks
  error = mtface('evaluate', f'--workdir={run}', f'--data_dir={tiny_data}', '--stage=all').error
  assert error == '--stage=all: the run has smiles, genders, both'


def test_a_run_begins_with_the_weights_of_another(mtface, run, tiny_data, tmp_path):
  tiny = [
    'train',
    f'--config={ROOT}/tests/tiny.py',
    f'--workdir={tmp_path}/run',
    f'--data_dir={tiny_data}',
  ]
  held = ['--config.freeze.params=("blocks",)', '--config.duration=2 steps']
  done = mtface(*tiny, *held, f'--config.start.weights={run}@last')
  assert done.code == 0, done.err
  new, old = weights(tmp_path / 'run', 'main'), weights(run, 'both')
  jax.tree.map(np.testing.assert_array_equal, part(new[0], 'blocks'), part(old[0], 'blocks'))


def test_a_run_begins_with_a_file_of_weights(mtface, tiny_run, tiny_data, tmp_path):
  file = tmp_path / 'tiny.safetensors'
  assert mtface('export', f'--workdir={tiny_run}', '--format=mtface', f'--to={file}').code == 0
  held = [
    '--config.freeze.params=("blocks", "branches/smile")',
    '--config.start.fresh=("branches/gender",)',
  ]
  tiny = [
    'train',
    f'--config={ROOT}/tests/tiny.py',
    f'--workdir={tmp_path}/run',
    f'--data_dir={tiny_data}',
  ]
  done = mtface(*tiny, *held, '--config.duration=2 steps', f'--config.start.weights={file}')
  assert done.code == 0, done.err
  new, old = weights(tmp_path / 'run', 'main'), weights(tiny_run, 'main')
  for prefix in ('blocks', 'branches/smile'):
    jax.tree.map(np.testing.assert_array_equal, part(new[0], prefix), part(old[0], prefix))
  kernel = 'branches/gender/hidden/0/kernel'
  assert (new[0][kernel] != old[0][kernel]).all(), 'drawn again'
  damaged = tmp_path / 'cut.safetensors'
  damaged.write_bytes(file.read_bytes()[:1000])
  error = mtface(
    *tiny[:2], f'--workdir={tmp_path}/other', tiny[3], f'--config.start.weights={damaged}'
  ).error
  assert error.startswith(f'{damaged}: '), error
  assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize(
  ('overrides', 'words'),
  [
    (
      ['--config.stage.genders.freeze.params=("trunk",)'],
      "stage genders: config.freeze.params: 'trunk' matches no parameter",
    ),
    (
      ['--config.stage.genders.freeze.params=(".*",)'],
      'stage genders: config.freeze.params: nothing is left to train',
    ),
    (
      ['--config.stage.both.optimizer.factors=("blocks",)'],
      "stage both: config.optimizer.factors: 'blocks': expected PATTERN=FACTOR",
    ),
    (
      ['--config.stage.genders.optimizer.name=adagrad'],
      "stage genders: config.optimizer.name 'adagrad' is unknown; there are sgd, adam",
    ),
    (
      ['--config.stages=("genders",)'],
      "config.stage.genders.start.weights: 'smiles' is not an earlier stage",
    ),
    (
      ['--config.stage.genders.start.weights=nowhere'],
      'stage genders: nowhere/config.json: not found',
    ),
  ],
)
def test_stages_that_cannot_work(mtface, tiny_data, tmp_path, overrides, words):
  error = mtface(*train(tmp_path / 'run', tiny_data, *overrides)).error
  assert error.startswith(words), error


def test_describe_says_what_is_trained_and_at_what_rate(mtface, tiny_data):
  found = mtface('describe', f'--config={CONFIG}', f'--data_dir={tiny_data}').out
  stages = dict(zip(('name', 'smiles', 'genders', 'both'), found.split('stage '), strict=True))
  assert 'weights: initialised at random; sgd, learning rate 0.01' in stages['smiles']
  assert (
    'weights: stage:smiles; adam with SAM of radius 0.05, learning rate 0.01' in stages['genders']
  )
  lines = {
    line.split()[0]: line for line in stages['genders'].splitlines() if 'parameters  ' in line
  }
  assert lines['blocks'].endswith('frozen (batch norms use running statistics)')
  assert lines['branches/gender'].endswith('learning rate 0.01')
  lines = [
    line.split('parameters  ')[1]
    for line in stages['both'].splitlines()
    if line.startswith('  blocks')
  ]
  assert lines == ['learning rate 0.001', 'learning rate 0.01']
