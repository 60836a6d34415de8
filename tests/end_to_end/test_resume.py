"""kill -9 at any moment, the same command again: the parameters of a run that nothing disturbed, to
the last bit.
"""

import signal

import jax
import numpy as np
import pytest

from mtface.evaluation.evaluator import Evaluator
from mtface.training.checkpoints import Checkpoints
from mtface.training.logs import read_metrics
from tests.command import TINY, python
from tests.end_to_end.killed import MOMENTS
from tests.fakes import write_tiny
from tests.states import saved_state


@pytest.fixture(scope='module')
def undisturbed(tiny_run, tiny_data):
  """The state after the last step of the run that nothing disturbed."""
  return saved_state(Evaluator(tiny_run, tiny_data), 12)


def lines(workdir):
  timed = ('time', 'health/step_seconds', 'health/input_wait')
  return [
    {key: value for key, value in line.items() if key not in timed}
    for line in read_metrics(workdir)
  ]


def assert_same_run(workdir, tiny_run, undisturbed):
  checkpoints = Checkpoints(workdir)
  assert checkpoints.steps == [4, 8, 12]
  jax.tree.map(np.testing.assert_array_equal, checkpoints.restore(12, undisturbed), undisturbed)
  assert [line['step'] for line in lines(workdir)] == [2, 4, 6, 8, 10, 12], 'each step once'
  assert lines(workdir) == lines(tiny_run)


@pytest.mark.parametrize('moment', MOMENTS)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
  mtface, tiny_data, tiny_run, undisturbed, tmp_path, moment
):
  command = ['train', f'--config={TINY}', f'--workdir={tmp_path}/run', f'--data_dir={tiny_data}']
  killed = python('tests.end_to_end.killed', moment, *command)
  assert killed.code == -signal.SIGKILL, killed.err
  committed = Checkpoints(tmp_path / 'run').steps
  assert committed == {
    'before the first checkpoint': [],
    'while the first checkpoint is written': [],
    'after a checkpoint is committed': [4, 8],
  }.get(moment, [4])

  again = mtface(*command)
  assert again.code == 0, again.err
  assert not again.warnings
  assert_same_run(tmp_path / 'run', tiny_run, undisturbed)
  assert not list((tmp_path / 'run').rglob('*tmp*')), 'what was half-written is cleared away'


def test_a_finished_run_is_left_alone(mtface, tiny_data, run_copy):
  before = {path: path.stat().st_mtime_ns for path in run_copy.rglob('*') if path.is_file()}
  result = mtface('train', f'--config={TINY}', f'--workdir={run_copy}', f'--data_dir={tiny_data}')
  assert (result.code, result.err) == (0, '')
  assert 'already trained to step 12' in result.out
  assert before == {path: path.stat().st_mtime_ns for path in run_copy.rglob('*') if path.is_file()}


def test_the_order_of_the_records_and_the_number_of_files_do_not_matter(
  mtface, tiny_data, tiny_run, undisturbed, tmp_path
):
  write_tiny(tmp_path / 'data', shards=3, salt='another order')
  result = mtface(
    'train', f'--config={TINY}', f'--workdir={tmp_path}/run', f'--data_dir={tmp_path}/data'
  )
  assert result.code == 0, result.err
  assert_same_run(tmp_path / 'run', tiny_run, undisturbed)
