"""Several processes as one run: the same numbers, an orderly stop, a quick end when one is lost,
and another number of them afterwards.
"""

import json
import math
import os
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from mtface.evaluation.evaluator import Evaluator
from mtface.training.checkpoints import Checkpoints
from mtface.training.logs import read_metrics
from tests.command import ROOT, free_port, start
from tests.states import saved_state

WIDE = str(ROOT / 'tests' / 'tiny_wide.py')
SECONDS = 15  # within which the others of a lost process have ended; they take a tenth of a second


def launch(folder, data_dir, processes, devices, *argv, command='train'):
  """Starts `processes` of `devices` virtual devices each on the run in `folder`/run."""
  folder.mkdir(exist_ok=True)
  line = [command, f'--workdir={folder}/run', f'--data_dir={data_dir}', *argv]
  line += [f'--config={WIDE}'] if command == 'train' else []
  port, started = free_port(), []
  for k in range(processes):
    place = (
      [f'--coordinator=localhost:{port}', f'--processes={processes}', f'--process={k}']
      if processes > 1
      else []
    )
    started.append(start('tests.end_to_end.on_processes', folder, *line, *place, devices=devices))
  return started


def ended(started, seconds=240):
  """[(exit code, stderr)] of the processes."""
  found = []
  for process in started:
    _, err = process.communicate(timeout=seconds)
    found.append((process.returncode, err))
  return found


def run(folder, data_dir, processes, devices, *argv, **kwargs):
  results = ended(launch(folder, data_dir, processes, devices, *argv, **kwargs))
  assert [code for code, _ in results] == [0] * processes, results
  return folder


def batches(folder, processes):
  """The global batches: for each step the samples of all processes in their order."""
  shares = [
    [json.loads(line) for line in (folder / f'batches-{k}.jsonl').read_text().splitlines()]
    for k in range(processes)
  ]
  return [[sample for part in parts for sample in part] for parts in zip(*shares, strict=True)]


def losses(folder):
  return [
    (line['step'], name, value)
    for line in read_metrics(folder / 'run')
    for name, value in line.items()
    if name.endswith('/loss')
  ]


@pytest.fixture(scope='module')
def two(tiny_data, tmp_path_factory):
  """Two processes of four devices each, 50 steps. Not to be changed."""
  return run(tmp_path_factory.mktemp('two') / 'x', tiny_data, 2, 4)


@pytest.fixture(scope='module')
def one(tiny_data, tmp_path_factory):
  """One process of eight devices."""
  return run(tmp_path_factory.mktemp('one') / 'x', tiny_data, 1, 8)


def test_two_processes_compute_what_one_does(one, two):
  assert batches(two, 2) == batches(one, 1)
  assert len(batches(one, 1)) == 50
  a, b = losses(one), losses(two)
  assert len(a) >= 50 * 3
  for (step, name, x), (other_step, other_name, y) in zip(a, b, strict=True):
    assert (step, name) == (other_step, other_name)
    # Rounding: 5e-6 after 50 steps with jax 0.10.1, 1.4e-5 with 0.12.
    assert math.isclose(x, y, rel_tol=3e-5), (step, name, x, y)


def test_several_processes_measure_what_one_does(one, two, tiny_data, tmp_path):
  folder = shutil.copytree(two, tmp_path / 'x')
  argv = ['--checkpoint=last,average:2,ensemble:2']
  run(folder, tiny_data, 2, 4, *argv, command='evaluate')
  found = json.loads((folder / 'run/results.json').read_text())['results']
  rows = {(r['checkpoint'], r['set']): r['confusion'] for r in found}
  assert len(rows) == 6
  alone = shutil.copytree(two, tmp_path / 'y')
  run(alone, tiny_data, 1, 8, *argv, command='evaluate')
  expected = json.loads((alone / 'run/results.json').read_text())['results']
  assert rows == {(r['checkpoint'], r['set']): r['confusion'] for r in expected}


def test_large_parameters_may_be_sharded(one, tiny_data, tmp_path):
  sharded = run(
    tmp_path / 'x', tiny_data, 2, 4, '--config.mesh.fsdp=4', '--config.mesh.shard_from=500'
  )
  for (_, name, x), (_, _, y) in zip(losses(one), losses(sharded), strict=True):
    assert math.isclose(x, y, rel_tol=1e-4), (
      name,
      x,
      y,
    )  # other sums than without: they round differently
  # What was written by shards is read whole.
  weights = [
    np.concatenate(
      [
        np.ravel(leaf)
        for leaf in jax.tree.leaves(saved_state(Evaluator(folder / 'run', tiny_data), 50).params)
      ]
    )
    for folder in (sharded, one)
  ]
  assert np.linalg.norm(weights[0] - weights[1]) < 1e-4 * np.linalg.norm(weights[1])


def wait_for_step(folder, step, started):
  """Waits until the run has logged a step."""
  deadline = time.monotonic() + 200
  while not any(line['step'] >= step for line in read_metrics(folder / 'run')):
    assert time.monotonic() < deadline
    assert all(process.poll() is None for process in started), ended(started)
    time.sleep(0.02)


@pytest.mark.parametrize(('number', 'rank'), [(signal.SIGTERM, 1), (signal.SIGUSR1, 0)])
def test_a_signal_to_one_stops_all_at_one_step_and_they_go_on_as_if_nothing_had_been(
  two, tiny_data, tmp_path, number, rank
):
  started = launch(tmp_path / 'x', tiny_data, 2, 4)
  wait_for_step(tmp_path / 'x', 12, started)
  started[rank].send_signal(number)
  results = ended(started)
  assert [code for code, _ in results] == [75, 75], results
  assert number.name in results[rank][1]
  saved = Checkpoints(tmp_path / 'x' / 'run').steps
  assert 12 <= saved[-1] < 50
  run(tmp_path / 'x', tiny_data, 2, 4)
  assert Checkpoints(tmp_path / 'x' / 'run').steps == [10, 20, 30, 40, 50], (
    'the one between them has served'
  )
  assert_equal_states(tmp_path / 'x', two, tiny_data)


def assert_equal_states(folder, expected, data_dir):
  a, b = (
    jax.device_get(saved_state(Evaluator(x / 'run', data_dir), 50)) for x in (folder, expected)
  )
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('rank', [0, 1])
def test_when_one_is_killed_the_others_end_at_once_and_say_why(two, tiny_data, tmp_path, rank):
  started = launch(tmp_path / 'x', tiny_data, 2, 4)
  wait_for_step(tmp_path / 'x', 12, started)
  started[rank].kill()
  killed = time.monotonic()
  code, err = ended([started[1 - rank]], SECONDS)[0]
  assert time.monotonic() - killed < SECONDS
  # JAX's own abort (SIGABRT) may come first: at once when process 0 dies, or after the heartbeat
  # when a host waits for another one outside of a collective. Launchers start both again.
  assert code in (76, -signal.SIGABRT), err
  if code == 76:
    assert f'process {1 - rank} of 2' in err
    assert 'another process was lost' in err
  started[rank].wait()
  run(tmp_path / 'x', tiny_data, 2, 4)
  assert_equal_states(tmp_path / 'x', two, tiny_data)


@pytest.fixture(scope='module')
def four(tiny_data, tmp_path_factory):
  """Four processes of two devices each, killed after 22 of 50 steps. Not to be changed."""
  folder = tmp_path_factory.mktemp('four') / 'x'
  started = launch(folder, tiny_data, 4, 2)
  wait_for_step(folder, 22, started)
  for process in started:
    process.kill()
  ended(started)
  return folder


EIGHT = pytest.mark.skipif(
  not os.environ.get('MTFACE_TEST_CLUSTER'),
  reason='eight processes start slowly on few cores: make test-cluster',
)


@pytest.mark.parametrize(
  ('processes', 'devices'), [(2, 4), (1, 8), pytest.param(8, 1, marks=EIGHT)]
)
def test_another_number_of_processes_goes_on_with_the_same_batches(
  one, four, tiny_data, tmp_path, processes, devices
):
  shutil.copytree(four / 'run', tmp_path / 'x/run')
  begun = Checkpoints(tmp_path / 'x/run').steps[-1]
  assert begun >= 20
  run(tmp_path / 'x', tiny_data, processes, devices)
  assert batches(tmp_path / 'x', processes) == batches(one, 1)[begun:]
  for (step, name, x), (_, _, y) in zip(losses(tmp_path / 'x'), losses(one), strict=True):
    assert math.isclose(x, y, rel_tol=1e-4), (step, name)  # rounding, as in tiny_wide.py


@pytest.mark.parametrize(
  ('argv', 'expected'),
  [
    (['--processes=2'], '--coordinator, --processes and --process must be given together'),
    (
      ['--coordinator=localhost:1', '--processes=2', '--process=2'],
      '--process=2: expected 0 to 1',
    ),
    (
      ['--distributed'],
      '--distributed: this process was not started by a scheduler that JAX supports',
    ),
  ],
)
def test_a_place_that_is_none(tiny_data, tmp_path, argv, expected):
  (result,) = ended(launch(tmp_path / 'x', tiny_data, 1, 1, *argv))
  assert result[0] == 2, result
  assert [
    line
    for line in result[1].splitlines()
    if line.startswith('mtface: error: ') and expected in line
  ], result


def test_a_process_whose_coordinator_never_comes_asks_to_be_started_again(tiny_data, tmp_path):
  argv = [
    '--coordinator=localhost:1',
    '--processes=2',
    '--process=1',
    '--config.distributed.start_timeout=2',
  ]
  ((code, err),) = ended(launch(tmp_path / 'x', tiny_data, 1, 1, *argv))
  assert code in (76, -signal.SIGABRT), (
    err
  )  # JAX may abort before it raises; launchers start both again
  assert code != 76 or 'the processes did not connect to localhost:1 within 2 s' in err


def test_a_batch_that_the_processes_cannot_share(tiny_data, tmp_path):
  results = ended(launch(tmp_path / 'x', tiny_data, 2, 3))
  assert results[0][0] == 2, results
  assert 'config.batch_size: 16 cannot be split evenly over 6 devices' in results[0][1]
