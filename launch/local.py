"""`python -m launch.local`: runs several processes of one job on this host, each with its own log.

They live and die together: when one fails, all are stopped; Ctrl-C and SIGTERM go to all. Every
start is N new processes with a new coordinator, since a broken group cannot be rejoined.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import math
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NoReturn, cast

from absl import flags

from launch import exits
from launch.job import Args, Job, check_processes, run_launcher
from mtface.errors import EXIT_PEER_LOST, EXIT_PREEMPTED, UserError

POLL_SECONDS = 0.05
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
TAIL_LINES = 5
ABOUT = """Runs several processes of one job on this host.
When one fails, all are stopped; on Ctrl-C or SIGTERM all save their state.
Rank 0 also prints to this terminal; all log to WORKDIR/logs/rank0.log, rank1.log, ..."""


def define_flags(args: Args) -> None:
  """The flags of this launcher."""
  number = functools.partial(flags.DEFINE_integer, flag_values=args)
  number('processes', 1, 'number of processes', lower_bound=1)
  text = 'virtual CPU devices per process; default: one GPU each, or the CPU'
  number('devices_per_process', None, text, lower_bound=1)
  number(
    'restarts',
    0,
    'how often to restart after a rank saved its state, lost a peer or was killed',
    lower_bound=0,
  )
  number(
    'grace',
    60,
    'seconds for a rank to save its state and exit before it is killed',
    lower_bound=0,
  )


def launch(args: Args, job: Job) -> int:
  """Runs the job; returns the exit code."""
  check_processes(job, args.processes * (args.devices_per_process or 1))
  environments = rank_environments(args.processes, args.devices_per_process)
  command = [sys.executable, '-m', args.module, *job.mtface()]
  return run_with_restarts(
    command, environments, job.workdir / 'logs', restarts=args.restarts, grace=args.grace
  )


# --- Where a rank computes ------------------------------------------------------------------------


def rank_environments(processes: int, devices: int | None) -> list[dict[str, str]]:
  """The environment of each rank.

  Args:
    processes: number of ranks.
    devices: number of virtual CPU devices per rank; None: one GPU each if there are GPUs, else the
      CPU.
  """
  base = os.environ | {'PYTHONUNBUFFERED': '1'}
  if devices is not None:
    option = f'--xla_force_host_platform_device_count={devices}'
    base |= {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'{base.get("XLA_FLAGS", "")} {option}'.strip()}
    return [dict(base) for _ in range(processes)]
  gpus = visible_gpus()
  if not gpus or processes == 1:
    return [dict(base) for _ in range(processes)]
  if len(gpus) < processes:
    raise UserError(
      f'--processes={processes}: this host has {len(gpus)} GPUs; to use CPUs, pass '
      '--devices_per_process=1'
    )
  return [base | {'CUDA_VISIBLE_DEVICES': gpu} for gpu in gpus[:processes]]


def visible_gpus() -> list[str]:
  """The GPUs that this process may use, as named in CUDA_VISIBLE_DEVICES."""
  if (chosen := os.environ.get('CUDA_VISIBLE_DEVICES')) is not None:
    return [name for name in chosen.split(',') if name]
  if shutil.which('nvidia-smi') is None:
    return []
  listed = subprocess.run(['nvidia-smi', '--list-gpus'], capture_output=True, text=True)
  lines = listed.stdout.splitlines() if listed.returncode == 0 else []
  return [str(i) for i, _ in enumerate(line for line in lines if line.startswith('GPU '))]


def free_port() -> int:
  """A currently free TCP port."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


# --- Running --------------------------------------------------------------------------------------


class StopSignals:
  """A context manager that catches Ctrl-C, SIGTERM and SIGUSR1 for the launcher to pass on."""

  def __init__(self):
    self.seen: list[int] = []

  def __enter__(self) -> StopSignals:
    self._before = {number: signal.signal(number, self._note) for number in PASSED_ON}
    return self

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number: int, _: Any) -> None:
    self.seen.append(number)

  @property
  def impatient(self) -> bool:
    """Ctrl-C was pressed again."""
    return self.seen.count(signal.SIGINT) > 1


@dataclasses.dataclass
class Rank:
  """A process of the job."""

  number: int
  process: subprocess.Popen[bytes]
  log: pathlib.Path

  @property
  def code(self) -> int:
    """Its exit code, or -SIGNAL; 0 while it runs."""
    return self.process.returncode or 0

  def stop(self) -> None:
    """Sends SIGTERM, on which the rank saves its state; only to the rank, which stops its own
    children.
    """
    with contextlib.suppress(ProcessLookupError):
      os.kill(self.process.pid, signal.SIGTERM)

  def kill(self) -> None:
    """Sends SIGKILL to the rank and its children, even if the rank itself has exited."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.process.pid, signal.SIGKILL)


def run_with_restarts(
  command: Sequence[str],
  environments: Sequence[Mapping[str, str]],
  logs: pathlib.Path,
  *,
  restarts: int,
  grace: float,
) -> int:
  """Runs a command as one rank per environment, and restarts it after failures that allow it.

  Args:
    command: gets --coordinator, --processes and --process if there are several ranks.
    environments: one per rank.
    logs: folder of rank0.log, rank1.log ..., which are appended to.
    restarts: the maximum number of restarts.
    grace: seconds from SIGTERM to SIGKILL.

  Returns:
    0, or the exit code of the rank that failed first; 128 + SIGNAL if a signal killed it.
  """
  with StopSignals() as stops:
    for start in range(1, restarts + 2):
      failed = run_once(command, environments, logs, grace=grace, stops=stops)
      if failed is None:
        return 0
      _show_end_of_log(failed)
      what, code = f'rank {failed.number} {exits.describe(failed.code)}', failed.code
      if stops.seen or start > restarts or not exits.starts_again(code):
        break
      _say(f'{what}; restarting all ranks, {start} of --restarts={restarts}')
  _say(
    f'{what}; all ranks are '
    f'stopped{"; rerun the same command to resume" if exits.starts_again(code) else ""}'
  )
  return 128 - code if code < 0 else code


def run_once(
  command: Sequence[str],
  environments: Sequence[Mapping[str, str]],
  logs: pathlib.Path,
  *,
  grace: float,
  stops: StopSignals,
) -> Rank | None:
  """Starts all ranks and waits for them to exit; returns the one that failed first."""
  ranks: list[Rank] = []
  try:
    with _open_log(logs / 'rank0.log', 'rb') as output:
      output.seek(0, os.SEEK_END)
      for rank in _start(command, environments, logs):
        ranks.append(rank)
      return _wait(ranks, output, grace, stops)
  finally:
    for rank in ranks:
      rank.kill()
      rank.process.wait()


def _open_log(path: pathlib.Path, mode: str) -> BinaryIO:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return cast(BinaryIO, open(path, mode))
  except OSError as error:
    raise UserError(
      f'{path}: cannot be written ({error.strerror}); choose another --workdir'
    ) from error


def _start(
  command: Sequence[str], environments: Sequence[Mapping[str, str]], logs: pathlib.Path
) -> Iterator[Rank]:
  count = len(environments)
  peers = [] if count == 1 else [f'--coordinator=127.0.0.1:{free_port()}', f'--processes={count}']
  for number, environment in enumerate(environments):
    rank = [*command, *peers, *([f'--process={number}'] if peers else [])]
    path = logs / f'rank{number}.log'
    with _open_log(path, 'ab') as log:
      # In its own session, so that Ctrl-C in the terminal reaches only the launcher, which passes
      # it on once.
      process = subprocess.Popen(
        rank,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_end_with_the_launcher,
      )
    yield Rank(number, process, path)


def _end_with_the_launcher() -> None:
  """Runs in a rank before its program: if the launcher is killed, Linux sends the rank SIGTERM."""
  if sys.platform == 'linux':
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _wait(ranks: Sequence[Rank], output: BinaryIO, grace: float, stops: StopSignals) -> Rank | None:
  failed, deadline = None, math.inf
  running = list(ranks)
  while running:
    time.sleep(POLL_SECONDS)
    ended = [rank for rank in running if rank.process.poll() is not None]
    running = [rank for rank in running if rank not in ended]
    _copy(output)
    failed = failed or first_failure([rank for rank in ended if rank.code])
    if (failed or stops.seen) and deadline == math.inf:
      deadline = time.monotonic() + grace
      for rank in running:
        rank.stop()
    if stops.impatient or time.monotonic() > deadline:
      for rank in running:
        rank.kill()
  return failed


def first_failure(ranks: Sequence[Rank]) -> Rank | None:
  """Of ranks that failed at about the same time, the one that caused the others to fail."""
  return min(ranks, key=lambda rank: rank.code == EXIT_PEER_LOST, default=None)


# --- What is shown --------------------------------------------------------------------------------


def _copy(output: BinaryIO) -> None:
  """Prints what rank 0 has written to its log since the last call."""
  if data := output.read():
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _show_end_of_log(rank: Rank) -> None:
  if rank.number and rank.code != EXIT_PREEMPTED:  # rank 0's output was already shown
    lines = rank.log.read_text(errors='replace').splitlines()[-TAIL_LINES:]
    _say(f'{rank.log} ends with:')
    print('\n'.join(f'  {line}' for line in lines), file=sys.stderr, flush=True)


def _say(text: str) -> None:
  print(f'launch: {text}', file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> NoReturn:
  """The entry point."""
  run_launcher('python -m launch.local', ABOUT, define_flags, launch, argv)


if __name__ == '__main__':
  main()
