"""Locks of workdirs. A process of its own holds one; what file systems without locks do is played
by a `lockf` that fails.
"""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mtface import process
from mtface.errors import UserError
from mtface.training import lock
from mtface.training.lock import LOCK_FILE, Holder, Lock, read_holder

HOLD = """
import pathlib, sys, time
from mtface.training.lock import Lock
with Lock(pathlib.Path(sys.argv[1])):
  print(1, flush=True)
  time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
  """A process that holds `tmp_path`/run."""
  started = subprocess.Popen([sys.executable, '-c', HOLD, tmp_path / 'run'], stdout=subprocess.PIPE)
  assert started.stdout.readline() == b'1\n'
  yield started
  started.kill()
  started.communicate()


@pytest.fixture
def no_locks(monkeypatch):
  """A file system without locks."""

  def lockf(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'lockf', lockf)
  monkeypatch.setattr(lock, 'PATIENCE', 0.5)


def leave_name(workdir, **changes):
  """A lock file that a dead process left."""
  workdir.mkdir(exist_ok=True)
  name = (
    {field: getattr(Holder.me(), field) for field in Holder.__dataclass_fields__}
    | {'beat': 'a while ago'}
    | changes
  )
  (workdir / LOCK_FILE).write_text(json.dumps(name))


def test_nothing_is_left_of_a_lock(tmp_path):
  workdir = tmp_path / 'new' / 'run'
  for _ in range(2):
    with Lock(workdir):
      assert read_holder(workdir / LOCK_FILE)[0].process == os.getpid()
    assert not workdir.exists()
  with Lock(workdir):
    (workdir / 'config.json').write_text('')
  assert os.listdir(workdir) == ['config.json']


def test_the_second_is_refused_and_told_who_holds_it(other, tmp_path):
  with pytest.raises(UserError) as error, Lock(tmp_path / 'run'):
    pass
  assert str(error.value).startswith(
    f'{tmp_path}/run: process {other.pid} on {socket.gethostname()} is training here since '
  )
  assert 'wait for it, stop it, or choose another --workdir' in str(error.value)
  assert '\n' not in str(error.value)


def test_what_a_killed_one_held_is_free_at_once(other, tmp_path, monkeypatch):
  other.send_signal(signal.SIGKILL)
  other.wait()
  monkeypatch.setattr(time, 'sleep', None)
  with Lock(tmp_path / 'run'):
    assert read_holder(tmp_path / 'run' / LOCK_FILE)[0].process == os.getpid()


def test_without_locks_a_holder_here_is_known_by_its_process(other, tmp_path, no_locks):
  with pytest.raises(UserError, match=rf'process {other.pid} on '), Lock(tmp_path / 'run'):
    pass
  other.kill()
  other.wait()
  with Lock(tmp_path / 'run'):
    pass


def test_without_locks_a_number_that_is_used_again_is_another_process(tmp_path, no_locks):
  leave_name(tmp_path / 'run', started='1')  # this very process's number
  with Lock(tmp_path / 'run'):
    pass


def test_without_locks_the_last_of_two_that_come_at_once_stays(tmp_path, monkeypatch, no_locks):
  monkeypatch.setattr(time, 'sleep', lambda _: leave_name(tmp_path / 'run', process=12))
  with pytest.raises(UserError, match=r'process 12 on '), Lock(tmp_path / 'run'):
    pass


@pytest.mark.parametrize('locks', [True, False], ids=['locks on each host', 'no locks'])
def test_a_holder_on_another_host_is_known_by_its_signs_of_life(
  tmp_path, monkeypatch, request, locks
):
  if not locks:
    request.getfixturevalue('no_locks')
  monkeypatch.setattr(lock, 'PATIENCE', 0.5)
  leave_name(tmp_path / 'run', machine='another', host='node7', process=12)
  sleep = time.sleep

  def write_meanwhile(seconds):
    leave_name(tmp_path / 'run', machine='another', host='node7', process=12, beat='now')
    sleep(seconds)

  with monkeypatch.context() as patched:
    patched.setattr(time, 'sleep', write_meanwhile)
    with (
      pytest.raises(UserError, match=r'process 12 on node7 is training here'),
      Lock(tmp_path / 'run'),
    ):
      pass
  with Lock(tmp_path / 'run'):  # which says nothing more
    assert read_holder(tmp_path / 'run' / LOCK_FILE)[0].process == os.getpid()


def test_a_holder_gives_signs_of_life_and_ends_when_another_has_taken_over(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, 'BEAT', 0.01)
  codes, beats = [], iter(range(10_000))
  monkeypatch.setattr(lock, 'leave', codes.append)
  monkeypatch.setattr(lock, '_now', lambda: f'{next(beats)}')
  with Lock(tmp_path / 'run'):
    first = read_holder(tmp_path / 'run' / LOCK_FILE)[1]
    while read_holder(tmp_path / 'run' / LOCK_FILE)[1] == first:
      time.sleep(0.01)
    assert not codes
    leave_name(tmp_path / 'run', process=1)
    deadline = time.monotonic() + 10
    while not codes and time.monotonic() < deadline:
      leave_name(tmp_path / 'run', process=1)
      time.sleep(0.001)
  assert set(codes) == {2}


def test_a_file_that_names_nobody_is_nobodys(tmp_path, no_locks):
  (tmp_path / LOCK_FILE).write_text('{"half')
  with Lock(tmp_path):
    pass


def test_a_file_that_its_holder_removes_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
  lockf, calls, path = fcntl.lockf, [], tmp_path / LOCK_FILE

  def late(file, how):
    lockf(file, how)
    calls.append(file)
    if len(calls) == 1:
      path.unlink()

  monkeypatch.setattr(fcntl, 'lockf', late)
  with Lock(tmp_path):
    assert path.exists()
    assert len(calls) == 2


def test_the_first_process_holds_for_all(tmp_path, monkeypatch):
  monkeypatch.setattr(process, 'index', 1)
  with Lock(tmp_path / 'run'):
    assert not (tmp_path / 'run').exists()


def test_a_workdir_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('')
  with (
    pytest.raises(UserError, match=r'file/run: the workdir cannot be written \(Not a directory\)'),
    Lock(tmp_path / 'file/run'),
  ):
    pass
