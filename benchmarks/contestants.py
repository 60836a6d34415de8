"""Programs that are compared, each in a process of its own, which is stopped (SIGSTOP) with its
threads and workers except while it is asked.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.machine import ROOT

_LOG_LINES = 15
_SET_CHILD_SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
_ORPHANS_SECONDS = 10  # that are waited for them


@dataclasses.dataclass(frozen=True)
class Program:
  """A contestant that stays: it prepares, and then does steps when it is asked (`work.Work`).

  Attributes:
    name: of the contestant in tables.
    target: MODULE:FUNCTION, which gets `options` and gives a `Work`.
    options: JSON. `{case}` in text stands for the case's folder.
    peer: whether it runs in the peers' Python.
    env: further environment variables.
  """

  name: str
  target: str
  options: Mapping[str, Any]
  peer: bool = False
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Command:
  """A contestant that is one whole process a turn.

  Attributes:
    name: of the contestant in tables.
    words: what follows the Python. `{case}` stands for the case's folder, `{fresh}` for one that is
      empty at every turn.
    read: further figures that the process left, from the fresh folder.
    count: images that it handles; 0: the case's.
    peer, env: as of a `Program`.
  """

  name: str
  words: Sequence[str]
  read: Callable[[pathlib.Path], dict[str, float]] = lambda folder: {}
  count: int = 0
  peer: bool = False
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)


# --- What they begin with -----------------------------------------------------------------------


def environment(more: Mapping[str, str]) -> dict[str, str]:
  """This process's, with the project on Python's path; what is empty in `more` is unset."""
  path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
  whole = {**os.environ, 'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1', **more}
  return {name: value for name, value in whole.items() if more.get(name) != ''}


def as_commands(images: int, image: Sequence[int]) -> dict[str, str]:
  """What commands of mtface that compute set for themselves before they begin: how the C library
  takes memory, and that each core is a device, if that is of use for such batches.
  """
  from mtface.cli import start
  from mtface.parallel import cores

  found = cores.settings([cores.Batch(images, image[0] * image[1])], os.environ)
  if not start.reason_not_to(['train'], os.environ):
    found[start.TUNABLES] = start.added(os.environ.get(start.TUNABLES, ''))
  return found


def ours(name: str, target: str, options: Mapping[str, Any], images: int = 0) -> Program:
  """A contestant that is a part of mtface: it runs as its commands do with batches of that size
  (0: that of its options), at 48x48 where these name no size.
  """
  env = as_commands(images or options['batch'], options.get('image', (48, 48)))
  return Program(name, target, options, env=env)


def begin_as_command(images: int, image: Sequence[int]) -> None:
  """Starts this process anew as commands of mtface begin, where it is not so yet."""
  if missing := as_commands(images, image):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def filled(value: Any, names: Mapping[str, str]) -> Any:
  """`{case}` and `{fresh}` replaced in text, wherever it stands in JSON."""
  if isinstance(value, Mapping):
    return {key: filled(x, names) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return [filled(x, names) for x in value]
  if isinstance(value, str):
    return re.sub(r'\{(case|fresh)\}', lambda m: names.get(m[1], m[0]), value)
  return value


class Failed(Exception):
  """A contestant's process ended; the message has the end of what it said."""


class Child:
  """The process of a `Program`, stopped except while it is asked."""

  def __init__(self, program: Program, python: str, folder: pathlib.Path, turn_seconds: float):
    """Waits until it is ready.

    Args:
      turn_seconds: how long a turn takes about.
    """
    self.name, self._turn = program.name, turn_seconds
    self._log = folder / f'{_file_name(program.name)}.log'
    with self._log.open('w') as log:
      self._process = subprocess.Popen(
        [python, '-m', 'benchmarks.child', program.target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=ROOT,
        env=environment(program.env),
        start_new_session=True,
      )
    ready = self._ask(filled(program.options, {'case': str(folder)}))
    self.unavailable: str = ready.get('unavailable', '')
    self.facts: dict[str, Any] = {key: ready[key] for key in ready if key != 'unavailable'}
    self._stop()

  def _ask(self, request: Any) -> dict[str, Any]:
    assert self._process.stdin and self._process.stdout
    try:
      self._process.stdin.write(json.dumps(request) + '\n')
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ''
    if not line:
      last = self._log.read_text().splitlines()[-_LOG_LINES:]
      raise Failed(f'{self.name}: ended with code {self._process.wait()}\n' + '\n'.join(last))
    return json.loads(line)

  def ask(self, request: Any) -> dict[str, Any]:
    """Wakes it for one request."""
    self._signal(signal.SIGCONT)
    try:
      return self._ask(request)
    finally:
      self._stop()

  def _stop(self) -> None:
    if not self.unavailable:
      self._signal(signal.SIGSTOP)

  def _signal(self, number: int) -> None:
    if self._process.poll() is None:
      os.killpg(self._process.pid, number)

  def warm_up(self) -> None:
    """Twice a step, and as many as fill a turn."""
    self.ask({'run': 1})
    once = self.ask({'run': 1})['wall']
    self.steps = max(1, round(self._turn / max(once, 1e-9)))
    if self.steps > 1:  # a first step says little of many short ones
      together = self.ask({'run': self.steps})['wall']
      self.steps = max(1, round(self.steps * self._turn / max(together, 1e-9)))

  def turn(self) -> dict[str, float]:
    """Seconds a step."""
    return {key: x / self.steps for key, x in self.ask({'run': self.steps}).items()}

  def check(self, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What must be equal among contestants."""
    path = folder / f'{_file_name(self.name)}.npz'
    self.facts |= self.ask({'check': str(path)})
    with np.load(path) as arrays:
      return dict(arrays)

  def close(self) -> None:
    """Ends the process, and its workers."""
    self._signal(signal.SIGCONT)
    assert self._process.stdin
    self._process.stdin.close()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._signal(signal.SIGKILL)
      self._process.wait()
    self._process.stdout.close()


def take_orphans() -> None:
  """Makes this process the parent of what its children leave behind, as workers whose own parent
  did not wait for them: their time can be asked for then. Only Linux can say so.
  """
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


def _of_orphans(group: int) -> float:
  """Processor seconds of what a process left behind in its group, which ends soon after it."""
  seconds, until = 0.0, time.monotonic() + _ORPHANS_SECONDS
  while time.monotonic() < until:
    try:
      found, _, used = os.wait4(-group, os.WNOHANG)
    except ChildProcessError:  # none is left
      break
    if found:
      seconds += used.ru_utime + used.ru_stime
    else:
      time.sleep(0.01)
  return seconds


@functools.cache
def installed(python: str) -> dict[str, str]:
  """The versions of the packages of a Python."""
  code = 'import json; from benchmarks.child import installed; print(json.dumps(installed()))'
  found = subprocess.run(
    [python, '-c', code], cwd=ROOT, env=environment({}), check=True, capture_output=True
  )
  return json.loads(found.stdout)


class Whole:
  """The processes of a `Command`, one a turn."""

  unavailable = ''

  def __init__(self, command: Command, python: str, folder: pathlib.Path):
    self.name, self.facts, self.steps = command.name, {}, 1
    self._command, self._python, self._folder = command, python, folder
    self.facts['versions'] = installed(python)
    if command.count:
      self.facts['facts'] = {'images': command.count}

  def warm_up(self) -> None:
    """One process: it fills the caches of the disk, and of compiled programs where there is one."""
    self._first = self.turn()

  def turn(self) -> dict[str, float]:
    """Seconds of a process, its peak of memory, and what it left."""
    fresh = pathlib.Path(tempfile.mkdtemp(prefix='turn-', dir=self._folder))
    names = {'case': str(self._folder), 'fresh': str(fresh)}
    log = self._folder / f'{_file_name(self.name)}.log'
    start = time.perf_counter()
    with log.open('w') as output:
      process = subprocess.Popen(
        [self._python, *filled(self._command.words, names)],
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=environment(filled(self._command.env, names)),
        start_new_session=True,
      )
      _, status, used = os.wait4(process.pid, 0)
      process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    cpu = used.ru_utime + used.ru_stime + _of_orphans(process.pid)
    if process.returncode:
      last = log.read_text().splitlines()[-_LOG_LINES:]
      raise Failed(f'{self.name}: ended with code {process.returncode}\n' + '\n'.join(last))
    figures = self._command.read(fresh)
    shutil.rmtree(fresh)
    return {'wall': wall, 'cpu': cpu, 'peak_mb': used.ru_maxrss * 1024 / 1e6, **figures}

  def check(self, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """What the first process left that must be equal: its figures named `accuracy/...`."""
    del folder
    return {key: np.array(x) for key, x in self._first.items() if key.startswith('accuracy/')}

  def close(self) -> None:
    """Nothing is left."""


def _file_name(name: str) -> str:
  return re.sub(r'\W+', '_', name)
