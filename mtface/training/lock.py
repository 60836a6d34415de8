"""One training a workdir: the file `lock` in it, which names the process that trains there.

Two things say that its holder lives. Where the file system has locks (`fcntl`), the holder has one
on the file, which ends with the process whatever ends it: also that of another host, on NFS. But
some file systems have none, and others keep them on one host. So the file is also written anew
every few seconds: one of another host that stays as it is for long enough is a dead holder's. Where
there are no locks, a holder on the same machine is dead if no process of that number and starting
time is there.

A holder that finds somebody else's name in the file has been taken for dead, asleep perhaps, and
ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import pathlib
import socket
import sys
import threading
import time
from typing import Any

from mtface import process
from mtface.errors import EXIT_BAD_INPUT, UserError
from mtface.parallel.distributed import leave

LOCK_FILE = 'lock'
BEAT = 2.0  # seconds between two signs of life
# seconds without one after which a holder on another host is dead; other processes of the run wait
# as long
PATIENCE = 10.0
_TAKEN = (errno.EACCES, errno.EAGAIN)
_ROOM = 512  # bytes of the file, so that each sign of life overwrites the one before, in one write


@dataclasses.dataclass(frozen=True)
class Holder:
  """Who trains: the process, its starting time (a number is used again), and its machine: boot and
  process namespace.
  """

  process: int
  host: str
  started: str
  machine: str
  since: str

  @classmethod
  def me(cls) -> Holder:
    """This process."""
    return cls(os.getpid(), socket.gethostname(), _started(os.getpid()), _machine(), _now())

  @property
  def is_dead(self) -> bool:
    """Whether no such process is here; for holders of this machine."""
    try:
      os.kill(self.process, 0)
    except ProcessLookupError:
      return True
    except PermissionError:
      pass
    return _started(self.process) != self.started


class Lock:
  """Holds a workdir while it is entered; the run's first process does it for all.

  Raises:
    UserError: another process holds it, or the workdir cannot be written.
  """

  def __init__(self, workdir: pathlib.Path):
    self.path = workdir / LOCK_FILE
    self._me = Holder.me()
    self._file = -1
    self._leaving = threading.Event()
    self._thread = threading.Thread(target=self._keep, daemon=True, name='lock')

  def __enter__(self) -> Lock:
    if process.is_first():
      try:
        self._acquire()
      except OSError as error:
        self._remove_empty()
        raise UserError(
          f'{self.path.parent}: the workdir cannot be written ({error.strerror or error}); choose '
          'another --workdir'
        ) from error
      self._thread.start()
    return self

  def __exit__(self, *_: Any) -> None:
    if self._thread.is_alive():
      self._leaving.set()
      self._thread.join()  # not to write into whatever gets the file's number next
      with contextlib.suppress(OSError):
        self.path.unlink()
      os.close(self._file)
      self._remove_empty()

  def _acquire(self) -> None:
    # A lock of this process ends when any file of that path is closed: so this comes before there
    # is one.
    holder, beat = read_holder(self.path)
    if holder and holder.machine != self._me.machine and self._beats(holder, beat):
      raise _refusal(self.path)
    self._file, locked = _open_locked(self.path)
    try:
      holder, _ = _read(self._file)
      if not locked and holder and holder.machine == self._me.machine and not holder.is_dead:
        raise _refusal(self.path)
      self._write()
      if not locked:
        time.sleep(PATIENCE / 10)  # of two that come at once, the one that wrote last stays
        if _read(self._file)[0] != self._me:
          raise _refusal(self.path)
    except BaseException as error:
      if isinstance(error, OSError):
        self.path.unlink(missing_ok=True)  # it is nobody's
      os.close(self._file)
      raise

  def _beats(self, holder: Holder, beat: str) -> bool:
    """Whether a holder on another host gives a sign of life."""
    process.say(
      f'{self.path.parent}: process {holder.process} on {holder.host} trained here; looking '
      'whether it lives'
    )
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
      time.sleep(PATIENCE / 10)
      found = read_holder(self.path)
      if found != (holder, beat):
        return found[0] is not None
    return False

  def _write(self) -> None:
    text = json.dumps(dataclasses.asdict(self._me) | {'beat': _now()})
    os.pwrite(self._file, f'{text:<{_ROOM - 1}}\n'.encode(), 0)
    os.fsync(self._file)  # so that other hosts see it

  def _keep(self) -> None:
    """Gives signs of life until the lock is let go."""
    while not self._leaving.wait(BEAT):
      with contextlib.suppress(OSError):  # a full disk, or one that is away for a while
        if _read(self._file)[0] not in (self._me, None):
          print(f'mtface: error: {_refusal(self.path)}', file=sys.stderr)
          leave(EXIT_BAD_INPUT)
        self._write()

  def _remove_empty(self) -> None:
    with contextlib.suppress(OSError):
      self.path.parent.rmdir()


def _open_locked(path: pathlib.Path) -> tuple[int, bool]:
  """(the open file, whether the file system has locked it for this process); a `UserError` where it
  is another's.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  while True:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno not in _TAKEN:
        return file, False  # this file system has no locks
      os.close(file)
      raise _refusal(path) from error
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(
        os.fstat(file), os.stat(path)
      ):  # not one that its holder removed in between
        return file, True
    os.close(file)


def read_holder(path: pathlib.Path) -> tuple[Holder | None, str]:
  """(whom a lock file names, its last sign of life); (None, '') where there is none."""
  try:
    file = os.open(path, os.O_RDONLY)  # NFS looks anew whenever a file is opened
  except OSError:
    return None, ''
  try:
    return _read(file)
  finally:
    os.close(file)


def _read(file: int) -> tuple[Holder | None, str]:
  try:
    content = json.loads(os.pread(file, _ROOM, 0))
    beat = content.pop('beat')
    return Holder(**content), beat
  except (ValueError, KeyError, TypeError, AttributeError):
    return None, ''


def _refusal(path: pathlib.Path) -> UserError:
  holder, beat = read_holder(path)
  who = f'process {holder.process} on {holder.host}' if holder else 'another process'
  since = f' since {holder.since}, with a sign of life at {beat}' if holder else ''
  return UserError(
    f'{path.parent}: {who} trains here{since}; wait for its end or stop it, or choose another '
    f'--workdir (should it be dead: remove {path})'
  )


def _machine() -> str:
  """What tells machines apart that have one name, and containers that have process numbers of their
  own.
  """
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:  # not Linux
    return socket.gethostname()


def _started(number: int) -> str:
  """When a process started, in ticks since the boot; '' where that cannot be known."""
  try:
    return pathlib.Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[19]
  except OSError:
    return ''


def _now() -> str:
  return datetime.datetime.now().isoformat(' ', 'seconds')
