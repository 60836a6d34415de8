"""Compares programs side by side: contestants take turns in one run, each in a process of its own.

A subject (`python -m benchmarks.train_step`) has cases, and a case has contestants, ours first.
Each is warmed up; then they take turns, A B C, B C A, ..., so that other work on the machine falls
on all of them. While one runs, the processes of the others are stopped (SIGSTOP), with their
threads and workers. A ratio is that of two contestants in the same round, and its spread is over
the rounds. What must be equal (losses, gradients, scores) is compared first, and a contestant that
computes something else is not timed.

Results are JSON, a file a subject, with every round; `benchmarks.tables` makes tables of them. A
case that is there already is not measured again, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import psutil

from benchmarks.child import versions
from mtface.files import write_json

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / 'benchmarks' / 'results'
# Largest distance, as a share of the whole, that contestants may be apart. Gradients of BKNet at
# full width, batch of 128, are from double precision 3e-3 in mtface, 1.3e-2 in PyTorch's eager mode
# and 2e-3 when compiled, since rounding turns ReLUs and maxima that are nearly ties; losses are
# within 1e-6.
TOLERANCE = {'loss': 1e-5, 'gradients': 2e-2, 'scores': 1e-3, 'accuracy': 5e-3}
UNFINISHED = 75  # exit code of a subject whose time was over (sysexits.h: try again later)
_LOG_LINES = 15
_SET_CHILD_SUBREAPER = 36  # prctl's PR_SET_CHILD_SUBREAPER
_ORPHANS_SECONDS = 10  # that are waited for them


# --- What is measured ---------------------------------------------------------------------------


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


@dataclasses.dataclass(frozen=True)
class Case:
  """Contestants that do the same.

  Attributes:
    name: of the case in tables.
    contestants: ours first: ratios are to it.
    count: images a step (or a process) handles.
    show: `rate` (images/s), `milliseconds` a step, or `seconds` a process.
    prepare: makes what the contestants need, in the case's folder; gets the Python of ours too.
    rounds: fewest rounds; 0: as the command line says.
    notes: what stands beside the figures, such as a paper's.
  """

  name: str
  contestants: Sequence[Program | Command]
  count: int = 1
  show: str = 'rate'
  prepare: Callable[[pathlib.Path, str], None] = lambda folder, python: None
  rounds: int = 0
  notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Own:
  """A case that takes its turns by itself, in this process.

  Attributes:
    name, show, notes: as of a `Case`.
    turns: {contestant: its turns, one a round}, in the order of the table.
  """

  name: str
  turns: Callable[[Options], dict[str, list[dict[str, float]]]]
  show: str = 'milliseconds'
  notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Runner(Protocol):
  """What takes turns."""

  name: str

  def turn(self) -> dict[str, float]:
    """`wall` and `cpu`, in seconds a step, and further figures."""


# --- Processes ----------------------------------------------------------------------------------


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


# --- Turns and figures --------------------------------------------------------------------------


def rotated(items: Sequence[Any], by: int) -> list[Any]:
  """The same, beginning with another one in every round."""
  by %= max(len(items), 1)
  return [*items[by:], *items[:by]]


def alternate(
  runners: Sequence[Runner], rounds: int, seconds: float
) -> dict[str, list[dict[str, float]]]:
  """{name: its turns, one a round}: at least so many rounds, and for so many seconds."""
  found: dict[str, list[dict[str, float]]] = {runner.name: [] for runner in runners}
  start, done = time.monotonic(), 0
  while runners and (done < rounds or time.monotonic() - start < seconds):
    for runner in rotated(runners, done):
      found[runner.name].append(runner.turn())
    done += 1
  return found


def middle(values: Iterable[float]) -> tuple[float, float, float]:
  """(median, lower quartile, upper quartile)."""
  low, median, high = np.percentile(list(values), (25, 50, 75))
  return float(median), float(low), float(high)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
  """How many times as long theirs takes, as (median, lower, upper quartile) over the rounds: pairs
  of one round are divided, since both had the same company on the machine.
  """
  return middle(b / a for a, b in zip(ours, theirs, strict=True))


def distances(
  expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """{group: how far `found` is from `expected`, as a share of the length of the latter}.

  The first part of a name is its group. An array `scale/GROUP` of `expected` is the length that
  counts instead. What one has and the other has not, or in another shape, is infinitely far.
  """
  groups: dict[str, list[str]] = {}
  for name in dict.fromkeys((*expected, *found)):
    groups.setdefault(name.partition('/')[0], []).append(name)
  groups.pop('scale', None)
  result = {}
  for group, names in groups.items():
    pairs = [(expected.get(name), found.get(name)) for name in names]
    if any(a is None or b is None or a.shape != b.shape for a, b in pairs):
      result[group] = float('inf')
      continue
    off = _length(b.astype(float) - a for a, b in pairs)
    scale = float(expected.get(f'scale/{group}', _length(a for a, _ in pairs)))
    result[group] = off / max(scale, 1e-30)
  return result


def _length(arrays: Iterator[np.ndarray]) -> float:
  return float(np.sqrt(sum(float(np.sum(np.square(x, dtype=float))) for x in arrays)))


def agrees(distance: Mapping[str, float]) -> bool:
  """Whether contestants compute the same; what is no number does not."""
  return all(x <= TOLERANCE[group] for group, x in distance.items())


# --- The machine --------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
  """What figures depend on: processor, cores that may be used, memory in 10^9 bytes, system."""
  return {
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'memory_gb': round(psutil.virtual_memory().total / 1e9, 1),
    'system': f'{platform.system()} {platform.machine()}',
  }


def _processor() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  names = re.findall(r'^model name\s*: (.*)$', info.read_text(), re.M) if info.exists() else []
  return ' '.join(names[0].split()) if names else platform.processor() or platform.machine()


def moment() -> dict[str, Any]:
  """Date, state of the checkout, and load averages of 1, 5 and 15 minutes."""
  described = subprocess.run(
    ['git', 'describe', '--always', '--dirty'], cwd=ROOT, capture_output=True, text=True
  )
  return {
    'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
    'commit': described.stdout.strip() or importlib.metadata.version('mtface'),
    'load_before': [round(x, 2) for x in os.getloadavg()],
  }


def stolen(since: Any) -> float:
  """The share of all processor time since `psutil.cpu_times()` that the host gave to other
  machines: it is work beside ours that no load average shows. 0 where the system does not say.
  """
  used = {name: after - before for name, before, after in _times(since, psutil.cpu_times())}
  return used.get('steal', 0.0) / max(sum(used.values()), 1e-9)


def _times(before: Any, after: Any) -> list[tuple[str, float, float]]:
  """Without what is counted twice: guests' time is also their users'."""
  names = [name for name in before._fields if not name.startswith('guest')]
  return [(name, getattr(before, name), getattr(after, name)) for name in names]


# --- Measuring ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options:
  """What the command line says, see `parser`."""

  python: str
  peers: str
  rounds: int
  seconds: float
  turn: float


def measure(case: Case | Own, options: Options) -> dict[str, Any]:
  """The row of a case: every contestant's turns, or why it has none."""
  since = psutil.cpu_times()
  row: dict[str, Any] = {**moment(), 'show': case.show, 'notes': dict(case.notes)}
  if isinstance(case, Own):
    turns = case.turns(options)
    row |= {'count': 1, 'contestants': {name: _figures(of) for name, of in turns.items()}}
    row['contestants'][next(iter(turns))]['versions'] = versions()
  else:
    row |= {'count': case.count, 'contestants': {}}
    _take_turns(case, options, row['contestants'])
  row['load_after'] = [round(x, 2) for x in os.getloadavg()]
  row['steal'] = round(stolen(since), 4)
  return row


def _figures(turns: Sequence[Mapping[str, float]]) -> dict[str, Any]:
  """{figure: its values, one a round}."""
  return {key: [turn[key] for turn in turns] for key in turns[0]}


def _take_turns(case: Case, options: Options, rows: dict[str, Any]) -> None:
  """Starts the contestants, compares them, and fills their rows."""
  with tempfile.TemporaryDirectory(prefix='mtface-benchmark-') as temporary:
    folder, runners = pathlib.Path(temporary), []
    case.prepare(folder, options.python)
    try:
      for contestant in case.contestants:
        say(f'  {contestant.name}: starts')
        try:
          runner = _started(contestant, folder, options)
        except Failed as error:
          _failed(contestant.name, error, rows, first=not rows)
          continue
        runners.append(runner)
        rows[runner.name] = runner.facts | {'unavailable': runner.unavailable}
      able = _agreeing([x for x in runners if not x.unavailable], folder, rows)
      turns = alternate(able, case.rounds or options.rounds, options.seconds)
      for runner in able:
        rows[runner.name] |= runner.facts | _figures(turns[runner.name]) | {'steps': runner.steps}
    finally:
      for runner in runners:
        runner.close()


def _started(
  contestant: Program | Command, folder: pathlib.Path, options: Options
) -> Child | Whole:
  python = options.peers if contestant.peer else options.python
  if isinstance(contestant, Program):
    return Child(contestant, python, folder, options.turn)
  return Whole(contestant, python, folder)


def _failed(name: str, error: Failed, rows: dict[str, Any], first: bool) -> None:
  """A peer that breaks has no figures, and its row says why; ours must not break."""
  if first:
    raise error
  say(f'  {error}')
  rows[name] = rows.get(name, {}) | {'unavailable': f'failed: {str(error).splitlines()[-1]}'}


def _agreeing(
  runners: Sequence[Child | Whole], folder: pathlib.Path, rows: dict[str, Any]
) -> list[Child | Whole]:
  """Those that compute what the first one does, warmed up."""
  able, expected = [], {}
  for runner in runners:
    try:
      runner.warm_up()
      found = runner.check(folder)
    except Failed as error:
      _failed(runner.name, error, rows, first=runner is runners[0])
      continue
    expected = expected or found
    distance = distances(expected, found)
    if runner is not runners[0]:
      rows[runner.name]['distance'] = distance
    if agrees(distance):
      able.append(runner)
    else:
      rows[runner.name]['differs'] = True
      say(f'  {runner.name}: computes something else, so it is not timed: {distance}')
  return able


def say(text: str) -> None:
  """Progress, for whoever waits."""
  print(text, file=sys.stderr, flush=True)


# --- The command line ---------------------------------------------------------------------------


def parser(doc: str | None) -> argparse.ArgumentParser:
  """The flags of every subject."""
  made = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('--cases', default='', help='regular expression: only cases whose name has it')
  made.add_argument('--to', type=pathlib.Path, default=RESULTS, help='folder of the results')
  made.add_argument('--seconds', type=float, default=60, help='of turns, in each case')
  made.add_argument('--rounds', type=int, default=5, help='fewest rounds of a case')
  made.add_argument('--turn', type=float, default=1.0, help='seconds of a turn, about')
  made.add_argument('--minutes', type=float, default=0, help='no case begins after so many; 0: any')
  made.add_argument('--again', action='store_true', help='measures cases that are there already')
  made.add_argument('--tiny', action='store_true', help='small networks: to see that it works')
  made.add_argument('--python', default=sys.executable, help='that runs mtface')
  made.add_argument('--peers', default=sys.executable, help='that runs the others')
  return made


def main(subject: str, doc: str | None, cases: Callable[[bool], Sequence[Case | Own]]) -> None:
  """The command of a subject; `cases` gets whether they shall be tiny."""
  args = parser(doc).parse_args()
  take_orphans()
  options = Options(args.python, args.peers, args.rounds, args.seconds, args.turn)
  path, start = args.to / f'{subject}.json', time.monotonic()
  result = _begun(path, subject, args)
  for case in cases(args.tiny):
    if not re.search(args.cases, case.name) or (case.name in result['cases'] and not args.again):
      continue
    if args.minutes and time.monotonic() - start > 60 * args.minutes:
      say(f'{path}: {args.minutes:g} minutes are over; the same command goes on')
      raise SystemExit(UNFINISHED)
    say(f'{subject}: {case.name}')
    result['cases'][case.name] = measure(case, options)
    write_json(path, result)
  from benchmarks.tables import table

  print(f'{path}\n\n{table(result)}')


def _changed(args: argparse.Namespace) -> list[str]:
  """The flags that figures depend on, where they are not the defaults."""
  names, default = ('seconds', 'rounds', 'turn', 'tiny'), parser(None).parse_args([])
  changed = [name for name in names if getattr(args, name) != getattr(default, name)]
  return ['--tiny' if name == 'tiny' else f'--{name}={getattr(args, name):g}' for name in changed]


def _begun(path: pathlib.Path, subject: str, args: argparse.Namespace) -> dict[str, Any]:
  """What was measured here already, or a result without cases."""
  about = {
    'subject': subject,
    'command': ' '.join(['python -m', f'benchmarks.{subject}', *_changed(args)]),
    'machine': machine(),
    'tiny': args.tiny,
  }
  if not path.exists():
    return {**about, 'cases': {}}
  found = json.loads(path.read_text())
  for key in ('machine', 'tiny'):
    if found[key] != about[key]:
      raise SystemExit(
        f'{path}: measured with {key} {found[key]}, this is {about[key]}: take another --to'
      )
  return found
