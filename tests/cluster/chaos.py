"""Kills processes of a training run at random moments until it has survived enough, and compares its end with an undisturbed run's.

    python -m tests.cluster.chaos --kills=20 [--processes=2] [--devices=2] [--seed=0] [--folder=...]

Every kill is a SIGKILL of a random rank (the coordinator included), at a moment drawn from three: while the processes start, while they
train, and while a checkpoint is being written. All ranks are started again until the run is done. Prints a line a kill (what, when, where
it had begun, the newest checkpoint, seconds) and ends with exit code 1 if a run was lost, or the parameters differ by a single bit.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from mtface.checkpoints import Checkpoints
from mtface.evaluate import Evaluator
from mtface.logs import read_metrics
from tests.command import ROOT
from tests.end_to_end.test_processes import free_port
from tests.fakes import write_tiny

MOMENTS = ('start-up', 'steps', 'checkpoint')
OVERRIDES = ('--config.duration=400 steps', '--config.checkpoint.every=10 steps', '--config.log_every=5 steps')
_PATIENCE = 300.0  # seconds without an end: the run hangs, which counts as lost


def start_ranks(folder: pathlib.Path, data_dir: pathlib.Path, processes: int, devices: int) -> list[subprocess.Popen]:
  """Starts all ranks of the run in `folder`/run; what they print goes to `folder`/rank*.log."""
  port, ranks = free_port(), []
  for k in range(processes):
    place = [f'--coordinator=localhost:{port}', f'--processes={processes}', f'--process={k}']
    line = ['train', f'--config={ROOT}/tests/tiny_wide.py', f'--workdir={folder}/run', f'--data_dir={data_dir}']
    env = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    env |= {'PATH': '/usr/bin:/bin', 'JAX_COMPILATION_CACHE_DIR': str(folder / 'xla')}
    with (folder / f'rank{k}.log').open('a') as log:
      command = [sys.executable, '-m', 'mtface', *line, *OVERRIDES, *place]
      ranks.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log))
  return ranks


def newest_step(folder: pathlib.Path) -> int:
  """The step of the newest committed checkpoint; 0 without one."""
  committed = (folder / 'run/checkpoints/main').glob('[0-9]' * 9)
  return max((int(path.name) for path in committed), default=0)


def wait_for(moment: str, folder: pathlib.Path, ranks: list[subprocess.Popen], rng: random.Random) -> None:
  """Returns at the moment, or when a rank has ended by itself."""
  since, lines = time.monotonic(), len(read_metrics(folder / 'run'))
  delay = rng.uniform(0.5, 6)

  def is_time() -> bool:
    if moment == 'start-up':
      return time.monotonic() - since > delay
    if len(read_metrics(folder / 'run')) < lines + 3:  # training again
      return False
    return moment == 'steps' or any((folder / 'run/checkpoints/main').glob('*tmp*'))

  while not is_time() and all(rank.poll() is None for rank in ranks):
    if time.monotonic() - since > _PATIENCE:
      raise SystemExit(f'lost: the run stands still (waiting for {moment})')
    time.sleep(0.002)


def end_all(ranks: list[subprocess.Popen]) -> list[int]:
  """Waits for all ranks, which must not take long once one is gone; returns their exit codes."""
  try:
    return [rank.wait(timeout=60) for rank in ranks]
  except subprocess.TimeoutExpired:
    raise SystemExit('lost: a rank hangs after another was killed') from None


def disturbed(folder: pathlib.Path, data_dir: pathlib.Path, args: argparse.Namespace) -> None:
  """Runs to the end, killing on the way."""
  rng, killed, starts = random.Random(args.seed), 0, 0
  while True:
    begun, since = newest_step(folder), time.monotonic()
    ranks = start_ranks(folder, data_dir, args.processes, args.devices)
    starts += 1
    if killed < args.kills:
      moment, victim = rng.choice(MOMENTS), rng.randrange(args.processes)
      wait_for(moment, folder, ranks, rng)
      ranks[victim].send_signal(signal.SIGKILL)
      killed += 1
    codes = end_all(ranks)
    if codes == [0] * args.processes:
      print(f'done after {starts} starts and {killed} kills')
      return
    if 2 in codes:
      raise SystemExit(f'lost: a rank took its input for bad ({folder}/rank*.log)')
    print(
      f'kill {killed}: rank {victim} during {moment}; exit codes {codes}; began at step {begun}, newest checkpoint {newest_step(folder)}, '
      f'{time.monotonic() - since:.1f} s',
      flush=True,
    )


def final(folder: pathlib.Path, data_dir: pathlib.Path) -> list[np.ndarray]:
  """All arrays of the last checkpoint."""
  evaluator = Evaluator(folder / 'run', data_dir)
  return jax.tree.leaves(jax.device_get(evaluator._restore(Checkpoints(folder / 'run').steps[-1])))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--processes', type=int, default=2)
  parser.add_argument('--devices', type=int, default=2, help='virtual devices of each process')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--folder', default='', help='default: a temporary one')
  args = parser.parse_args()
  folder = pathlib.Path(args.folder or tempfile.mkdtemp(prefix='mtface-chaos-'))
  for name in ('disturbed', 'undisturbed'):
    (folder / name).mkdir(parents=True, exist_ok=True)
  write_tiny(folder / 'data')
  if any(end_all_patiently(start_ranks(folder / 'undisturbed', folder / 'data', args.processes, args.devices))):
    raise SystemExit(f'the undisturbed run failed: {folder}/undisturbed/rank*.log')
  disturbed(folder / 'disturbed', folder / 'data', args)
  pairs = zip(final(folder / 'disturbed', folder / 'data'), final(folder / 'undisturbed', folder / 'data'), strict=True)
  if not all(np.array_equal(a, b) for a, b in pairs):
    raise SystemExit('lost: the parameters differ from those of the undisturbed run')
  print(f'the final state is that of the undisturbed run, bit for bit ({folder})')


def end_all_patiently(ranks: list[subprocess.Popen]) -> list[int]:
  """Exit codes of ranks that nobody disturbs."""
  return [rank.wait(timeout=1800) for rank in ranks]


if __name__ == '__main__':
  main()
