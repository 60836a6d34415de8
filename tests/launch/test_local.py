"""`python -m launch.local`, with tests/launch/stand_in.py in place of mtface, real processes and
real signals.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from launch import local
from launch.local import first_failure, rank_environments, run_with_restarts
from mtface.errors import UserError
from tests.command import ROOT, TINY, Result
from tests.launch.stand_in import chain, notes, read_state
from tests.states import saved_state

STEPS = 40
STAND_IN = ('--module=tests.launch.stand_in', f'--config={TINY}')


def begin(workdir, *flags, **env):
  command = [sys.executable, '-m', 'launch.local', *STAND_IN, f'--workdir={workdir}', *flags]
  env = {**os.environ, 'STAND_IN_STEPS': str(STEPS), 'STAND_IN_SECONDS': '0.02', **env}
  return subprocess.Popen(
    command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def end(process) -> Result:
  out, err = process.communicate(timeout=400)
  return Result(process.returncode, out, err)


def run(workdir, *flags, **env) -> Result:
  return end(begin(workdir, *flags, **env))


def wait_for(condition, seconds=20):
  deadline = time.monotonic() + seconds
  while not (found := condition()):
    assert time.monotonic() < deadline, 'did not happen'
    time.sleep(0.01)
  return found


def pids_in_step(workdir, ranks, step=15):
  """The process ids of the ranks, once they are so far."""
  wait_for(lambda: f'step {step}\n' in read(workdir / 'logs' / 'rank0.log'))
  started = wait_for(lambda: (found := notes(workdir, 'starts')) and len(found) >= ranks and found)
  return {note['rank']: note['pid'] for note in started}


def read(path: pathlib.Path) -> str:
  return path.read_text() if path.exists() else ''


def lives(pid):
  try:
    return 'Z' not in pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
  except FileNotFoundError:
    return False


def test_every_rank_knows_the_others_and_has_a_log(tmp_path):
  done = run(
    tmp_path,
    '--processes=3',
    '--devices_per_process=1',
    '--config.batch_size=6',
    '--config.evaluation.batch_size=6',
  )
  assert done.code == 0, done.err
  started = notes(tmp_path, 'starts')
  assert sorted((note['rank'], note['size']) for note in started) == [(0, 3), (1, 3), (2, 3)]
  assert len({note['start'] for note in started}) == 1, 'one coordinator'
  assert read_state(tmp_path)['value'] == chain(STEPS)
  assert done.out == read(tmp_path / 'logs' / 'rank0.log'), "rank 0's output is shown"
  assert {path.name for path in (tmp_path / 'logs').iterdir()} == {
    'rank0.log',
    'rank1.log',
    'rank2.log',
  }


def test_one_process_needs_no_coordinator(tmp_path):
  assert run(tmp_path).code == 0
  assert '-' not in notes(tmp_path, 'starts')[0]['start']


@pytest.mark.parametrize('victim', [0, 1])
def test_a_killed_rank_takes_the_others_with_it(tmp_path, victim):
  launcher = begin(tmp_path, '--processes=2', STAND_IN_STEPS='100000')
  pids = pids_in_step(tmp_path, 2)
  os.kill(pids[victim], signal.SIGKILL)
  done = end(launcher)
  assert done.code == 128 + signal.SIGKILL
  assert (
    f'launch: rank {victim} was killed by SIGKILL; all ranks are stopped; rerun the same '
    'command to resume' in done.err
  )
  assert not any(map(lives, pids.values()))
  assert [note['code'] for note in notes(tmp_path, 'ends')] == [75], (
    'the other one was asked to stop, and saved'
  )


def test_restarts_continue_to_the_same_end(tmp_path):
  launcher = begin(tmp_path, '--processes=2', '--restarts=2')
  os.kill(pids_in_step(tmp_path, 2)[1], signal.SIGKILL)
  done = end(launcher)
  assert done.code == 0, done.err
  assert 'launch: rank 1 was killed by SIGKILL; restarting all ranks, 1 of --restarts=2' in done.err
  first, second = (notes(tmp_path, 'starts')[i : i + 2] for i in (0, 2))
  assert {note['start'] for note in first}.isdisjoint({note['start'] for note in second}), (
    'a new coordinator'
  )
  assert second[0]['step'] > 0
  assert read_state(tmp_path)['value'] == chain(STEPS)


@pytest.mark.parametrize(
  'code, starts, says',
  [(75, 2, 'its state is saved'), (76, 2, 'it lost a peer'), (2, 1, 'bad input'), (1, 1, 'code 1')],
)
def test_which_exit_codes_start_again(tmp_path, code, starts, says):
  done = run(tmp_path, '--restarts=3', STAND_IN_FAIL=f'0:15:{code}')
  assert done.code == (0 if starts == 2 else code)
  assert len(notes(tmp_path, 'starts')) == starts
  assert says in done.err
  assert 'rerun the same command' not in done.err, 'it would not, or there is no need'


def test_restarts_are_counted(tmp_path):
  command = [sys.executable, '-c', 'import sys; sys.exit(76)']
  assert run_with_restarts(command, [{}], tmp_path, restarts=2, grace=1) == 76
  command = [sys.executable, '-c', 'open("count", "a").write("x"); raise SystemExit(75)']
  code = run_with_restarts(
    ['env', '-C', str(tmp_path), *command], [{}], tmp_path, restarts=2, grace=1
  )
  assert (code, read(tmp_path / 'count')) == (75, 'xxx')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_what_stops_the_launcher_stops_the_ranks(tmp_path, number):
  launcher = begin(tmp_path, '--processes=2', '--restarts=3')
  pids = pids_in_step(tmp_path, 2)
  launcher.send_signal(number)
  done = end(launcher)
  assert done.code == 75, done.err
  assert 'its state is saved; all ranks are stopped; rerun the same command to resume' in done.err
  assert not any(map(lives, pids.values()))
  assert [note['code'] for note in notes(tmp_path, 'ends')] == [75, 75], (
    'no --restarts: it was asked to stop'
  )
  assert run(tmp_path, '--processes=2').code == 0
  assert notes(tmp_path, 'starts')[2]['step'] > 0
  assert read_state(tmp_path)['value'] == chain(STEPS)


def test_ranks_of_a_killed_launcher_stop_and_save(tmp_path):
  launcher = begin(tmp_path, '--processes=2', STAND_IN_STEPS='100000')
  pids = pids_in_step(tmp_path, 2)
  launcher.kill()
  wait_for(lambda: not any(map(lives, pids.values())))
  assert [note['code'] for note in notes(tmp_path, 'ends')] == [75, 75]
  launcher.communicate()


DEAF = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(['sleep', '1000'])
print(child.pid, flush=True)
if sys.argv[-1] == '--process=1':
  time.sleep(0.5)
  sys.exit(2)
time.sleep(1000)
"""


def test_a_rank_that_does_not_stop_is_killed_after_the_grace_with_all_that_ranks_have_started(
  tmp_path,
):
  begun = time.monotonic()
  assert (
    run_with_restarts([sys.executable, '-c', DEAF], [{}, {}], tmp_path, restarts=0, grace=0.5) == 2
  )
  assert time.monotonic() - begun < 10
  wait_for(lambda: not any(lives(int(read(tmp_path / f'rank{k}.log'))) for k in (0, 1)))


def test_of_ranks_that_fail_together_the_one_that_lost_a_peer_is_not_the_first():
  class Ended:
    def __init__(self, code):
      self.code = code

  ranks = [Ended(76), Ended(2), Ended(76)]
  assert first_failure(ranks) is ranks[1]
  assert first_failure(ranks[:1]) is ranks[0]
  assert first_failure([]) is None


def test_the_log_of_another_rank_that_failed_is_shown(tmp_path):
  done = run(tmp_path, '--processes=2', STAND_IN_FAIL='1:5:2')
  assert done.code == 2
  assert f'launch: {tmp_path}/logs/rank1.log ends with:\n  rank 1 fails at step 5\n' in done.err


def test_virtual_devices():
  environments = rank_environments(2, 4)
  assert [e['XLA_FLAGS'].split()[-1] for e in environments] == [
    '--xla_force_host_platform_device_count=4'
  ] * 2
  assert {e['JAX_PLATFORMS'] for e in environments} == {'cpu'}


@pytest.fixture
def three_gpus(tmp_path, monkeypatch):
  tool = tmp_path / 'nvidia-smi'
  tool.write_text('#!/bin/sh\nfor i in 0 1 2; do echo "GPU $i: a card (UUID: GPU-$i)"; done\n')
  tool.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)


def test_a_gpu_for_each_rank(three_gpus, monkeypatch):
  assert [e['CUDA_VISIBLE_DEVICES'] for e in rank_environments(2, None)] == ['0', '1']
  assert 'CUDA_VISIBLE_DEVICES' not in rank_environments(1, None)[0], 'one process has them all'
  assert 'CUDA_VISIBLE_DEVICES' not in rank_environments(2, 4)[0]
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,0')
  assert [e['CUDA_VISIBLE_DEVICES'] for e in rank_environments(2, None)] == ['2', '0']
  with pytest.raises(UserError, match=r'--processes=3: this host has 2 GPUs'):
    rank_environments(3, None)


def test_no_gpus(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  assert all('CUDA_VISIBLE_DEVICES' not in e for e in rank_environments(2, None))


def bad_input(capsys, *flags):
  with pytest.raises(SystemExit) as exit_code:
    local.main(list(flags))
  error = capsys.readouterr().err
  assert exit_code.value.code == 2, error
  assert error.count('\n') == 1, error
  return error.removeprefix('launch: error: ')


def test_bad_input(capsys, tmp_path):
  workdir = f'--workdir={tmp_path / "run"}'
  assert bad_input(capsys, '--config=nope', workdir).startswith(
    '--config=nope: no such file, and no shipped config of that name'
  )
  assert bad_input(capsys, workdir).startswith('--config is missing')
  assert bad_input(capsys, '--config=demo').startswith('--workdir is missing')
  assert bad_input(capsys, '--config=demo', workdir, '--config.speed=1').startswith(
    "--config.speed: there is no field 'speed'"
  )
  assert bad_input(capsys, '--config=demo', workdir, '--config.batch_size=big').startswith(
    'flag --config.batch_size=big: invalid'
  )
  assert bad_input(capsys, '--config=demo', workdir, '--config.batch_size').startswith(
    '--config.batch_size: expected'
  )
  assert bad_input(capsys, '--config=demo', workdir, '--processes=3').startswith(
    'config.batch_size: '
  )
  assert '0 is not a positive integer' in bad_input(
    capsys, '--config=demo', workdir, '--processes=0'
  )
  assert bad_input(capsys, '--config=demo', workdir, '--command=fly').startswith(
    '--command=fly: mtface has no such command'
  )
  assert bad_input(capsys, '--config=demo', workdir, 'faster').startswith(
    "'faster': expected only flags"
  )
  assert "Unknown command line flag 'proceses'" in bad_input(
    capsys, '--config=demo', workdir, '--proceses=2'
  )
  assert not (tmp_path / 'run').exists()
  (tmp_path / 'file').touch()
  assert 'cannot be written' in bad_input(capsys, '--config=demo', f'--workdir={tmp_path}/file')


def test_help(capsys):
  with pytest.raises(SystemExit) as exit_code:
    local.main(['--help'])
  assert not exit_code.value.code
  text = capsys.readouterr().out
  assert all(
    f'--{flag} ' in text
    for flag in ('config', 'workdir', 'processes', 'devices_per_process', 'restarts', 'grace')
  )
  assert max(map(len, text.splitlines())) <= 120


def test_flags_of_the_command_go_behind_two_dashes(tmp_path, capfd):
  run_folder = tmp_path / 'run'
  with pytest.raises(SystemExit) as exit_code:
    local.main(['--command=evaluate', f'--workdir={run_folder}', '--', '--checkpoint=best'])
  captured = capfd.readouterr()
  assert exit_code.value.code == 2
  assert str(run_folder) in captured.out, 'mtface evaluate found no run there'


@pytest.mark.timeout(900)  # a loaded machine trains slowly
def test_mtface_itself_with_its_coordinator_killed(tiny_data, tmp_path):
  """To the bits of a run on the same processes that nothing happened to."""
  fields = ('duration=120 steps', 'checkpoint.every=20 steps', 'log_every=5 steps')
  flags = [f'--config.{field}' for field in fields] + [f'--data_dir={tiny_data}', '--module=mtface']
  flags += ['--processes=2', '--devices_per_process=2']
  undisturbed = run(tmp_path / 'a', *flags)
  assert undisturbed.code == 0, undisturbed.err
  launcher = begin(tmp_path / 'b', *flags, '--restarts=2')
  log = tmp_path / 'b' / 'logs' / 'rank0.log'
  wait_for(lambda: re.search(r'step [3-9]\d/120', read(log)), seconds=300)
  rank = wait_for(lambda: children_of(launcher.pid))[0]
  os.kill(rank, signal.SIGKILL)
  done = end(launcher)
  assert done.code == 0, done.err
  assert 'launch: rank 0 was killed by SIGKILL; restarting all ranks, 1 of --restarts=2' in done.err
  assert bits(tmp_path / 'a', tiny_data) == bits(tmp_path / 'b', tiny_data)


def children_of(pid):
  """In the order in which they were started."""
  return sorted(map(int, read(pathlib.Path(f'/proc/{pid}/task/{pid}/children')).split()))


def bits(workdir, data_dir):
  """All that the checkpoint after the last step holds."""
  import jax
  import numpy as np

  from mtface.evaluation.evaluator import Evaluator

  return [
    np.asarray(leaf).tobytes()
    for leaf in jax.tree.leaves(saved_state(Evaluator(workdir, data_dir), 120))
  ]
