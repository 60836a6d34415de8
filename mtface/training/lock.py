"""One training run per workdir: the file `lock` in it names the process that is training there.

Two things show that its holder is alive. If the file system supports locks (`fcntl`), the holder
keeps one on the file, which is released when the process ends for any reason, also on another host
over NFS. But some file systems have no locks, and others keep them local to one host. So the file
is also rewritten every few seconds: if another host's file stays unchanged for long enough, its
holder is dead. Without locks, a holder on the same machine is dead if no process with that number
and start time exists.

A holder that finds another name in the file was considered dead (suspended, perhaps), and exits.
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
BEAT = 2.0  # seconds between two heartbeats
# seconds without a heartbeat after which a holder on another host is dead; other processes of the
# run wait as long
PATIENCE = 10.0
_TAKEN = (errno.EACCES, errno.EAGAIN)
_ROOM = 512  # bytes of the file, so that each heartbeat overwrites the previous one in one write


@dataclasses.dataclass(frozen=True)
class Holder:
  """The training process: its number, its start time (numbers are reused), and its machine: boot
  and process namespace.
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
    """Whether no such process exists; for holders on this machine."""
    try:
      os.kill(self.process, 0)
    except ProcessLookupError:
      return True
    except PermissionError:
      pass
    return _started(self.process) != self.started


class Lock:
  """A context manager that locks a workdir; the run's first process does it for all.

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
      self._thread.join()  # so as not to write to whatever reuses the file descriptor
      with contextlib.suppress(OSError):
        self.path.unlink()
      os.close(self._file)
      self._remove_empty()

  def _acquire(self) -> None:
    # Closing any file of that path releases this process's lock, so this comes before locking.
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
        time.sleep(PATIENCE / 10)  # of two that start at once, the last writer wins
        if _read(self._file)[0] != self._me:
          raise _refusal(self.path)
    except BaseException as error:
      if isinstance(error, OSError):
        self.path.unlink(missing_ok=True)  # it has no owner
      os.close(self._file)
      raise

  def _beats(self, holder: Holder, beat: str) -> bool:
    """Whether a holder on another host is still sending heartbeats."""
    process.say(
      f'{self.path.parent}: process {holder.process} on {holder.host} was training here; checking '
      'whether it is alive'
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
    """Sends heartbeats until the lock is released."""
    while not self._leaving.wait(BEAT):
      with contextlib.suppress(OSError):  # the disk is full or temporarily unavailable
        if _read(self._file)[0] not in (self._me, None):
          print(f'mtface: error: {_refusal(self.path)}', file=sys.stderr)
          leave(EXIT_BAD_INPUT)
        self._write()

  def _remove_empty(self) -> None:
    with contextlib.suppress(OSError):
      self.path.parent.rmdir()


def _open_locked(path: pathlib.Path) -> tuple[int, bool]:
  """(the open file, whether the file system locked it for this process); a `UserError` if another
  process holds it.
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
      ):  # not one that its holder has removed meanwhile
        return file, True
    os.close(file)


def read_holder(path: pathlib.Path) -> tuple[Holder | None, str]:
  """(the holder named in a lock file, its last heartbeat); (None, '') if there is none."""
  try:
    file = os.open(path, os.O_RDONLY)  # NFS revalidates whenever a file is opened
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
  since = f' since {holder.since} (last heartbeat {beat})' if holder else ''
  return UserError(
    f'{path.parent}: {who} is training here{since}; wait for it, stop it, or choose another '
    f'--workdir (if it is dead, remove {path})'
  )


def _machine() -> str:
  """Distinguishes machines that share a name, and containers that have their own process
  numbers.
  """
  try:
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {os.readlink("/proc/self/ns/pid")}'
  except OSError:  # not Linux
    return socket.gethostname()


def _started(number: int) -> str:
  """The start time of a process, in ticks since boot; '' if unknown."""
  try:
    return pathlib.Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[19]
  except OSError:
    return ''


def _now() -> str:
  return datetime.datetime.now().isoformat(' ', 'seconds')
