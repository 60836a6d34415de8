"""Processes that are stopped except in their turn, and say what ended them."""

import sys
import time

import numpy as np
import psutil
import pytest

from benchmarks.contestants import Child, Command, Failed, Program, Whole, environment, take_orphans
from tests.benchmarks.works import WORKS, contestant


def is_stopped(child):
  """Soon: a signal takes a moment."""
  for _ in range(500):
    if psutil.Process(child._process.pid).status() == psutil.STATUS_STOPPED:
      return True
    time.sleep(0.01)
  return False


def test_a_child_is_stopped_except_in_its_turn(tmp_path):
  child = Child(contestant(tmp_path), sys.executable, tmp_path, 0.001)
  try:
    assert is_stopped(child)
    assert child.facts['facts'] == {'parameters': 7} and child.facts['ready_s'] > 0
    child.steps = 3
    turn = child.turn()
    assert (tmp_path / 'steps').read_text() == 'aaa'
    assert 0 < turn['wall'] < 5 and 0 <= turn['cpu'] < 5
    assert is_stopped(child)
    np.testing.assert_array_equal(child.check(tmp_path)['scores/a'], [1.0, 2.0])
    assert child.facts['versions']['numpy'] == np.__version__
  finally:
    child.close()
  assert child._process.returncode == 0


def test_turns_are_as_long_as_they_should_be(tmp_path):
  child = Child(contestant(tmp_path), sys.executable, tmp_path, 0.05)
  child.warm_up()
  child.close()
  assert child.steps > 10  # of a few microseconds each


def test_a_child_that_cannot_run_here_says_why(tmp_path):
  child = Child(Program('x', f'{WORKS}:missing', {'what': 'torch'}), sys.executable, tmp_path, 1)
  assert child.unavailable == 'torch is not installed'
  child.close()


def test_a_child_that_breaks_shows_what_it_said(tmp_path):
  with pytest.raises(Failed, match='this cannot be prepared'):
    Child(Program('x', f'{WORKS}:broken', {}), sys.executable, tmp_path, 1)


def test_a_command_is_timed_as_a_whole(tmp_path):
  code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'x').write_text(sys.argv[2])"
  read = lambda fresh: {'length': float(len((fresh / 'x').read_text()))}  # noqa: E731
  command = Command('c', ['-c', code, '{fresh}', '{case}'], read=read)
  whole = Whole(command, sys.executable, tmp_path)
  turn = whole.turn()
  assert turn['length'] == len(str(tmp_path))
  assert whole.facts['versions']['numpy'] == np.__version__
  assert turn['wall'] > 0 and turn['cpu'] > 0 and turn['peak_mb'] > 1
  assert not list(tmp_path.glob('turn-*'))


def test_time_of_workers_that_nobody_waited_for_counts(tmp_path):
  busy = 'import time\nwhile time.process_time() < 0.5: pass'
  code = f'import subprocess, sys; subprocess.Popen([sys.executable, "-c", {busy!r}])'
  take_orphans()
  turn = Whole(Command('c', ['-c', code]), sys.executable, tmp_path).turn()
  assert turn['cpu'] > 0.5


def test_a_command_that_fails_shows_what_it_said(tmp_path):
  command = Command('c', ['-c', 'raise SystemExit("no such run")'])
  with pytest.raises(Failed, match=r'code 1\nno such run'):
    Whole(command, sys.executable, tmp_path).turn()


def test_what_is_empty_is_unset(monkeypatch):
  monkeypatch.setenv('SET', 'x')
  monkeypatch.setenv('KEPT', '')
  found = environment({'SET': '', 'NEW': 'y'})
  assert 'SET' not in found and found['KEPT'] == '' and found['NEW'] == 'y'
