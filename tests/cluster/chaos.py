"""Kills processes of a training run at random moments until it has survived enough, and compares
its end with an undisturbed run's.

    python -m tests.cluster.chaos --kills=20 [--processes=2] [--devices=2] [--seed=0] [--folder=...]

Every kill is a SIGKILL of one rank (the coordinator included), while the processes start, while
they train, or while a checkpoint is being
written: each pair of rank and moment equally often, in random order. All ranks are started again
until the run is done. Prints a line a kill, then a table; ends with exit code 1 if a run was lost,
a checkpoint was found damaged, or the final state differs by a single bit.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from absl import logging

from mtface.errors import EXIT_PEER_LOST
from mtface.evaluation.evaluator import Evaluator
from mtface.training.checkpoints import Checkpoints
from tests.command import ROOT, free_port
from tests.fakes import write_tiny
from tests.states import saved_state

MOMENTS = ('start-up', 'steps', 'checkpoint')
SAVE_EVERY = 10
_PATIENCE = 300.0  # seconds without an end: the run hangs, which counts as lost
_END = 60.0  # within which the others of a killed rank have ended
# so long they are waited for in start-up: then they are stopped, as launchers do, or they would
# wait `start_timeout`
_LONE = 10.0
# What ranks may end with when one was killed.
_SIGNALLED = (EXIT_PEER_LOST, -signal.SIGABRT, -signal.SIGKILL, -signal.SIGTERM)


@dataclasses.dataclass
class Kill:
  """What happened at one kill."""

  rank: int
  moment: str
  codes: list[int]  # of all ranks
  begun: int  # the step that the start continued from
  reached: int  # the last step that was logged
  newest: int  # the newest committed checkpoint afterwards
  half: bool  # an uncommitted checkpoint was left
  seconds: float  # until the others had ended
  at: float  # seconds since the first start
  took: float  # seconds of this start, to the end of all ranks

  def __str__(self) -> str:
    half = ', and an uncommitted one' if self.half else ''
    return (
      f'at {self.at:.0f} s, rank {self.rank} during {self.moment}: started from {self.begun}, '
      f'reached {self.reached}, '
      f'checkpoint {self.newest} is left{half}; '
      f'exit codes {self.codes} after {self.seconds:.1f} s; the start took {self.took:.0f} s'
    )


class Chaotic:
  """A run in `folder`/run whose ranks are started, killed and started again."""

  def __init__(self, folder: pathlib.Path, data_dir: pathlib.Path, args: argparse.Namespace):
    folder.mkdir(parents=True, exist_ok=True)
    self.folder, self._data_dir, self._args = folder, data_dir, args
    self.starts, self.kills = 0, list[Kill]()
    self._printed = 0  # lines of rank 0 before this start
    self._since = time.monotonic()
    self.start_up = 0.0  # seconds until the first line of the start before

  @contextlib.contextmanager
  def started(self) -> Iterator[list[subprocess.Popen]]:
    """All ranks, none of which outlives the block; what they print goes to `folder`/rank*.log."""
    self._printed, port, ranks = len(self._log().splitlines()), free_port(), []
    self.starts += 1
    line = [
      'train',
      f'--config={ROOT}/tests/tiny_wide.py',
      f'--workdir={self.folder}/run',
      f'--data_dir={self._data_dir}',
    ]
    fields = {
      'duration': f'{self._args.steps} steps',
      'checkpoint.every': f'{SAVE_EVERY} steps',
      'log_every': '2 steps',
    }
    line += [f'--config.{field}={value}' for field, value in fields.items()]
    try:
      for k in range(self._args.processes):
        place = [
          f'--coordinator=localhost:{port}',
          f'--processes={self._args.processes}',
          f'--process={k}',
        ]
        with (self.folder / f'rank{k}.log').open('a') as log:
          command = [sys.executable, '-m', 'mtface', *line, *place]
          ranks.append(
            subprocess.Popen(command, cwd=ROOT, env=self._environment(), stdout=log, stderr=log)
          )
      yield ranks
    finally:
      for rank in ranks:
        rank.kill()
        rank.wait()

  def _environment(self) -> dict[str, str]:
    return {
      'PATH': '/usr/bin:/bin',
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={self._args.devices} '
      '--xla_backend_optimization_level=1',
      'JAX_COMPILATION_CACHE_DIR': str(self.folder.parent / 'xla'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
    }

  def _log(self) -> str:
    return ''.join(path.read_text(errors='replace') for path in self.folder.glob('rank0.log'))

  def reached(self) -> int:
    """The last step that this start has logged; 0 before its first."""
    lines = '\n'.join(self._log().splitlines()[self._printed :])
    return max(map(int, re.findall(r'^step (\d+)/', lines, re.MULTILINE)), default=0)

  def newest(self) -> int:
    """The step of the newest committed checkpoint; 0 without one."""
    return max((int(path.name) for path in self._checkpoints('[0-9]' * 9)), default=0)

  def is_saving(self) -> bool:
    """Whether an uncommitted checkpoint is there."""
    return bool(self._checkpoints('*tmp*'))

  def _checkpoints(self, pattern: str) -> list[pathlib.Path]:
    return list((self.folder / 'run/checkpoints/main').glob(pattern))

  def warned(self) -> list[str]:
    """What the ranks have said of damaged checkpoints."""
    logs = [
      path.read_text(errors='replace').splitlines()
      for path in sorted(self.folder.glob('rank*.log'))
    ]
    return [line for log in logs for line in log if 'damaged' in line]

  def undisturbed(self) -> tuple[float, float]:
    """(seconds until its first line, seconds in all)."""
    since = time.monotonic()
    with self.started() as ranks:
      self._wait(ranks, self.reached, 'the first step')
      first = time.monotonic() - since
      if any(rank.wait(timeout=1800) for rank in ranks):
        raise SystemExit(f'the undisturbed run failed: {self.folder}/rank*.log')
    return first, time.monotonic() - since

  def disturb(self, victim: int, moment: str, share: float) -> bool:
    """One start, in which a rank is killed; False: the run was over before.

    Args:
      victim: the rank.
      moment: when.
      share: of the time that the start before took until its first line, or of a second after that
        line.
    """
    begun, started = self.newest(), time.monotonic()
    with self.started() as ranks:
      if moment == 'start-up':
        until = started + share * self.start_up
        # A start that is quicker than the one before is killed as soon as it trains.
        self._wait(ranks, lambda: time.monotonic() >= until or self.reached(), 'a while')
      else:
        self._wait(ranks, self.reached, 'a step')
        until = time.monotonic() + share
        self.start_up = until - share - started
        self._wait(ranks, lambda: time.monotonic() >= until, 'a while')
      if moment == 'checkpoint':
        self._wait(ranks, self.is_saving, 'a checkpoint')
      ranks[victim].send_signal(signal.SIGKILL)
      since = time.monotonic()
      codes = self._ended(ranks, _END) if self.reached() else self._stopped(ranks)
      ended = time.monotonic()
    if codes[victim] != -signal.SIGKILL:
      self._check(codes)
      print(f'a rank ended before it was killed: {codes}', flush=True)
      return any(codes) and self.disturb(victim, moment, share)
    # What is uncommitted may be left from the start before, until training begins.
    found = 'start-up' if not self.reached() else 'checkpoint' if self.is_saving() else 'steps'
    times = {'seconds': ended - since, 'at': since - self._since, 'took': ended - started}
    self.kills.append(
      Kill(
        victim, found, codes, begun, self.reached(), self.newest(), half=self.is_saving(), **times
      )
    )
    print(f'kill {len(self.kills)}: {self.kills[-1]}', flush=True)
    self._check(codes)
    return True

  def finish(self) -> None:
    """Starts that nobody disturbs, until the run is done."""
    while True:
      with self.started() as ranks:
        codes = self._ended(ranks, 1800)
      self._check(codes)
      if not any(codes):
        return
      print(f'a start that nobody disturbed ended with {codes}', flush=True)

  def _check(self, codes: list[int]) -> None:
    if any(code not in (0, *_SIGNALLED) for code in codes):
      raise SystemExit(f'lost: exit codes {codes} ({self.folder}/rank*.log)')

  def _ended(self, ranks: list[subprocess.Popen], seconds: float) -> list[int]:
    try:
      return [rank.wait(timeout=seconds) for rank in ranks]
    except subprocess.TimeoutExpired:
      raise SystemExit(f'lost: a rank hangs ({self.folder}/rank*.log)') from None

  def _stopped(self, ranks: list[subprocess.Popen]) -> list[int]:
    try:
      return [rank.wait(timeout=_LONE) for rank in ranks]
    except subprocess.TimeoutExpired:
      for rank in ranks:
        rank.send_signal(signal.SIGTERM)
      return self._ended(ranks, _END)

  def _wait(
    self, ranks: list[subprocess.Popen], condition: Callable[[], object], what: str
  ) -> None:
    """Returns when the condition holds, or a rank has ended by itself."""
    since = time.monotonic()
    while not condition() and all(rank.poll() is None for rank in ranks):
      if time.monotonic() - since > _PATIENCE:
        raise SystemExit(f'lost: the run stands still (waiting for {what})')
      time.sleep(0.002)

  def final(self) -> list[np.ndarray]:
    """All arrays of the last checkpoint."""
    evaluator = Evaluator(self.folder / 'run', self._data_dir)
    return jax.tree.leaves(
      jax.device_get(saved_state(evaluator, Checkpoints(self.folder / 'run').steps[-1]))
    )


def disturb(run: Chaotic, args: argparse.Namespace) -> None:
  """Kills as often as is asked for, then lets the run end."""
  rng = random.Random(args.seed)
  pairs = [(rank, moment) for rank in range(args.processes) for moment in MOMENTS]
  plan: list[tuple[int, str]] = []
  while len(plan) < args.kills:
    plan += rng.sample(pairs, len(pairs))
  for rank, moment in plan[: args.kills]:
    if not run.disturb(rank, moment, rng.random()):
      raise SystemExit(f'the run was over after {len(run.kills)} kills: give it more --steps')
  run.finish()


def print_table(kills: list[Kill], step_seconds: float) -> None:
  """A row for each moment. Lost is what a start took, less the time that the steps it has left in a
  checkpoint take undisturbed.
  """
  columns = (
    'killed during',
    'kills',
    'ranks',
    'exit codes of the others',
    'they ended after',
    'steps to do again',
    'time lost',
  )
  print(f'| {" | ".join(columns)} |')
  print('|---' * len(columns) + '|')
  for moment in MOMENTS:
    rows = [kill for kill in kills if kill.moment == moment]
    if not rows:
      continue
    codes = collections.Counter(
      code for kill in rows for k, code in enumerate(kill.codes) if k != kill.rank
    )
    cells = [
      moment,
      len(rows),
      listed(collections.Counter(kill.rank for kill in rows)),
      listed(codes),
    ]
    cells += [
      f'{spread([kill.seconds for kill in rows])} s',
      spread([max(kill.reached - kill.newest, 0) for kill in rows]),
      f'{spread([kill.took - (kill.newest - kill.begun) * step_seconds for kill in rows])} s',
    ]
    print(f'| {" | ".join(map(str, cells))} |')


def spread(values: Sequence[float]) -> str:
  """The median, and the most."""
  return f'{statistics.median(values):.0f}, at most {max(values):.0f}'


def listed(counts: collections.Counter[int]) -> str:
  """As `-6: 2x, 76: 3x`."""
  return ', '.join(f'{value}: {count}x' for value, count in sorted(counts.items()))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--devices', type=int, default=2, help='virtual devices of each process')
  parser.add_argument(
    '--steps', type=int, default=0, help='length of the run; default: enough for the kills'
  )
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--folder', default='', help='default: a temporary one')
  args = parser.parse_args()
  args.steps = args.steps or 2 * SAVE_EVERY * (args.kills + 1)
  folder = pathlib.Path(args.folder or tempfile.mkdtemp(prefix='mtface-chaos-'))
  logging.set_verbosity(logging.ERROR)
  signal.signal(signal.SIGTERM, lambda *_: sys.exit('stopped'))  # and its ranks with it
  with contextlib.redirect_stdout(sys.stderr):
    write_tiny(folder / 'data')
  expected = Chaotic(folder / 'undisturbed', folder / 'data', args)
  start_up, whole = expected.undisturbed()
  print(
    f'undisturbed: {args.steps} steps in {whole:.0f} s, '
    f'of which {start_up:.0f} s to the first line',
    flush=True,
  )
  run, since = Chaotic(folder / 'disturbed', folder / 'data', args), time.monotonic()
  run.start_up = start_up
  disturb(run, args)
  took = time.monotonic() - since
  print_table(run.kills, (whole - start_up) / args.steps)
  print(
    f'{len(run.kills)} kills, {run.starts} starts, {took:.0f} s: '
    f'{(took - whole) / max(len(run.kills), 1):.0f} s lost a kill'
  )
  if run.warned():
    raise SystemExit(f'lost: a checkpoint was damaged: {run.warned()[0]}')
  if not all(np.array_equal(a, b) for a, b in zip(run.final(), expected.final(), strict=True)):
    raise SystemExit('lost: the parameters differ from those of the undisturbed run')
  print(f'the final state is that of the undisturbed run, bit for bit ({folder})')


if __name__ == '__main__':
  main()
