"""What Zhang 2016 states (sections 3.1 to 3.4, tables 2 and 3), against the config; its rows train,
and its steps go on after a kill.
"""

import os
import re
import signal

import numpy as np
import pytest

from mtface.config.files import config_folder, load_module
from mtface.config.stages import stages_of
from mtface.errors import UserError
from mtface.evaluation.evaluate import evaluate
from mtface.models.network import make_network
from mtface.models.weights import export_weights
from mtface.report.describe import describe
from mtface.tasks import get_task
from mtface.training.checkpoints import Checkpoints
from mtface.training.loop import train
from mtface.training.optim import factor_of, make_schedule, rate_factors
from tests.command import ROOT, python
from tests.configs import rows
from tests.end_to_end.killed import STAGE_MOMENTS

SIZE = 32
TASKS = {
  'celeba': ('celeba_attributes', 'gender', 'smile'),
  'fotw': ('gender', 'smile'),
  'lfw': ('identity:158',),
  'utkface': ('gender',),
  'genki4k': ('smile',),
}


def get(argument=None):
  return rows.get('zhang2016', argument)


def test_four_steps():
  stages = stages_of(get('gender,vggface=face.mat'))
  assert {
    name: (of.start.weights, list(of.tasks), next(iter(of.sources.values())).name)
    for name, of in stages.items()
  } == {
    'attributes': ('face.mat', ['celeba_attributes'], 'celeba/rgb224_crop3:train'),
    'attribute': ('stage:attributes', ['gender'], 'celeba/rgb224_crop3:train'),
    'target': ('stage:attribute', ['gender'], 'fotw/rgb224_crop3:train'),
  }
  assert {name: of.optimizer.rate for name, of in stages.items()} == {
    'attributes': 0.001,
    'attribute': 0.01,
    'target': 0.01,
  }
  for of in stages.values():
    assert (of.optimizer.momentum, of.loss.l2, of.loss.decay) == (0.9, 0.0005, 'caffe')
    assert (of.batch_size, of.duration) == (120, '110000 steps')
    assert (of.model.name, of.model.input, of.image_shape) == ('vgg', 'vggface', (224, 224, 3))
    factors = rate_factors(of.optimizer.factors)
    found = [
      factor_of(f'{path}/kernel', factors)
      for path in (
        'trunk/conv1_1',
        'trunk/conv5_3',
        'trunk/fc6',
        'trunk/fc7',
        'heads/gender/scores',
      )
    ]
    assert found == [0.1, 0.1, 0.1, 0.5, 1.0]
  assert stages['attributes'].tasks.celeba_attributes.mean_over == 'none'  # eq. 2 sums


@pytest.mark.parametrize(
  ('without', 'stages'),
  [
    ('2', ['attribute', 'target']),
    ('3', ['attributes', 'target']),
    ('2+3', ['target']),
  ],
)
def test_steps_left_out(without, stages):
  config = get(f'gender,vggface=face.mat,without={without}')
  assert list(config.stages) == stages
  assert stages_of(config)[stages[0]].start.weights == 'face.mat'


def test_from_scratch_and_without_the_released_network():
  config = get('smile,without=1+2+3')
  assert list(config.stages) == ['target']
  target = stages_of(config)['target']
  assert (target.start.weights, target.optimizer.rate, target.model.input) == ('', 0.01, 'half')
  for argument in ('gender', 'gender,without=2', 'gender,without=1+2+3,vggface=face.mat'):
    with pytest.raises(UserError, match=r'give its file as vggface=FILE, or leave the step out'):
      get(argument)


@pytest.mark.parametrize('power', [1.0, 0.1, 0.0])
def test_the_polynomial_decay(power):
  config = get(f'gender,vggface=face.mat,power={power}')
  rate = make_schedule(config.optimizer, 110_000)
  steps = np.array([0, 55_000, 100_000])
  expected = 0.01 * (1 - steps / 110_000) ** power
  np.testing.assert_allclose([float(rate(step)) for step in steps], expected, rtol=1e-4)


def test_crops_and_faces():
  assert get('gender,vggface=a.mat').arguments.crop == 3
  assert get('smile,vggface=a.mat').arguments.crop == 1
  target = stages_of(get('smile,vggface=a.mat,crop=5,face=centre'))['target']
  assert target.sources.fotw.name == 'fotw/rgb224_crop5:train'
  assert target.evaluation.sets.fotw.name == 'fotw/rgb224_crop5_centre:validation'


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    ('gender,data=local,vggface=a.mat', 'data=local and vggface=a.mat contradict each other'),
    ('gender,data=local,face=centre', 'data=local and face=centre contradict each other'),
  ],
)
def test_arguments_that_exclude_each_other(argument, expected):
  with pytest.raises(UserError, match=f'configs/zhang2016.py: {re.escape(expected)}'):
    get(argument)


def test_tables_as_they_are_printed():
  tables = load_module(config_folder() / 'zhang2016.py').TABLES
  two = [row.paper for row in tables['2'].rows.values()]
  gender = [paper['Gender accuracy'][0] for paper in two if paper]
  assert two[5:] == [{}] * 5  # smiles are not in it
  assert gender == [84.04, 91.07, 91.19, 91.30, 91.66]
  three = tables['3'].rows
  assert three['smile, crops 1+5'].paper == {'Smile accuracy': (89.34, None)}
  (member,) = three['smile, crops 1+5'].members
  assert (member['crop'], member['attribute'], member['without']) == ((5,), ('smile',), ('none',))
  # "Table 2 and 3" are of the face closest to the given box, the last figure of the other one.
  assert {row.arguments['face'] for row in (*tables['2'].rows.values(), *three.values())} == {
    ('box',)
  }
  assert (
    max(row.paper['Gender accuracy'][0] for row in three.values() if 'Gender accuracy' in row.paper)
    == gender[-1]
  )  # scheme 3 with all steps stands in both


# --- Every row describes itself; one trains, and all of them in `make test-papers` ----------------


ROWS, EVERYTHING = rows.arguments('zhang2016'), os.environ.get('MTFACE_TEST_PAPERS')
QUICK = ['attribute=gender,face=box,without=none,crop=3']


@pytest.fixture(scope='module')
def released(tmp_path_factory):
  """A file as the released network's, of an eighth of the channels."""
  config = rows.fitted(get('gender,vggface=none,size=smoke'), SIZE)
  path = tmp_path_factory.mktemp('weights') / 'face.safetensors'
  tasks = [get_task('identity:26')]
  _, params, stats = make_network(config.model, tasks, config.image_shape, 5)
  export_weights(params, stats, path, config.model, format='mtface')
  return path


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
  folder = tmp_path_factory.mktemp('zhang')
  for crop in range(1, 6):
    config = get(f'gender,vggface=none,crop={crop}')
    rows.write_sets(folder, rows.fitted(config, SIZE), SIZE, TASKS)
  rows.write_sets(folder, rows.fitted(get('gender,data=local'), SIZE), SIZE, TASKS)
  return folder


def config_of(argument, released):
  file = '' if '1+2+3' in argument or 'local' in argument else f',vggface={released}'
  return rows.fitted(get(f'{argument},size=smoke{file}'), SIZE)


@pytest.mark.parametrize('argument', ROWS)
def test_every_row_describes_itself(sets, released, argument):
  config = config_of(argument, released)
  text = describe(config, sets)
  assert f'weights: {released}' in text or '1+2+3' in argument
  assert 'trunk ' in text or 'learning rate 0.001' in text


@pytest.mark.parametrize('argument', ROWS if EVERYTHING else QUICK)
def test_rows_train(sets, released, tmp_path, argument):
  config = config_of(argument, released)
  train(config, tmp_path, sets)
  (row,) = evaluate(tmp_path, sets)
  assert (row['stage'], row['n']) == ('target', 48)


def steps(workdir, sets):
  config = f'--config={ROOT}/tests/configs/tiny_zhang.py'
  return ['train', config, f'--workdir={workdir}', f'--data_dir={sets}']


@pytest.fixture(scope='module')
def undisturbed(sets, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('steps') / 'run'
  done = python('mtface', *steps(workdir, sets))
  assert done.code == 0, done.err
  return workdir


@pytest.mark.skipif(not EVERYTHING, reason='make test-papers')
@pytest.mark.parametrize('moment', STAGE_MOMENTS)
def test_killed_between_and_inside_of_steps(undisturbed, sets, tmp_path, moment):
  killed = python('tests.end_to_end.killed', moment, *steps(tmp_path / 'run', sets))
  assert killed.code == -signal.SIGKILL, killed.err
  again = python('mtface', *steps(tmp_path / 'run', sets))
  assert again.code == 0, again.err
  for stage in ('identity', 'attributes', 'attribute', 'target'):
    found, expected = (Checkpoints(of, stage) for of in (tmp_path / 'run', undisturbed))
    assert found.steps[-1] == expected.steps[-1] == 6
    # of all parameters, statistics, momentum and the step, bit for bit
    assert found.checksum(6) == expected.checksum(6) is not None
