"""Submits jobs by `python -m launch.slurm`, watches them, and reads what they leave."""

from __future__ import annotations

import dataclasses
import functools
import getpass
import hashlib
import pathlib
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.command import ROOT, TINY, Result, python
from tests.launch.stand_in import chain, read_state
from tests.states import saved_state

STAND_IN, MTFACE = 'stand-in', 'mtface'
STAND_IN_STEPS = 120  # six seconds
MTFACE_STEPS = 500


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
  """The first true value of `condition`."""
  deadline = time.monotonic() + seconds
  while not (found := condition()):
    assert time.monotonic() < deadline, f'{what}: not in {seconds} seconds'
    time.sleep(0.1)
  return found


class Cluster:
  """Slurm's own commands."""

  def run(self, *command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert not done.returncode, f'{command}: {done.stderr}'
    return done.stdout.strip()

  def set_node(self, node: str, state: str) -> None:
    self.run('scontrol', 'update', f'NodeName={node}', f'State={state}', 'Reason=test')

  def wake(self) -> None:
    """Nodes that are down are up again; those that are alive may have come back by themselves."""
    for node in self.run('sinfo', '-h', '-p', 'low', '-N', '-t', 'down,drain', '-o', '%N').split():
      subprocess.run(
        ['scontrol', 'update', f'NodeName={node}', 'State=RESUME'], capture_output=True
      )

  def clear(self) -> None:
    """No jobs, all nodes up."""
    self.run('scancel', '--quiet', f'--user={getpass.getuser()}')
    self.wake()
    wait_for(lambda: not self.run('squeue', '-h'), 'no jobs')
    wait_for(
      lambda: self.run('sinfo', '-h', '-p', 'low', '-t', 'idle', '-o', '%D') == '2',
      'two idle nodes',
    )

  def job(self, number: str) -> dict[str, str]:
    """What `scontrol show job` says: JobState, ExitCode, Restarts, ..."""
    return dict(re.findall(r'(\S+?)=(\S*)', self.run('scontrol', 'show', 'job', '-o', number)))

  def wait(self, number: str, *states: str, seconds: float = 300) -> dict[str, str]:
    """The job once it is in one of these states."""
    return wait_for(
      lambda: (job := self.job(number))['JobState'] in states and job,
      f'job {number} {states}',
      seconds,
    )

  def ended(self, number: str) -> dict[str, str]:
    return self.wait(
      number, 'COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'PREEMPTED'
    )


def launch(*flags: object) -> Result:
  return python('launch.slurm', *flags)


def submit(*flags: object) -> list[str]:
  """The numbers of the jobs that a launch submitted."""
  done = launch(*flags)
  assert done.code == 0, done.err
  return re.findall(r'^submitted .*?: job (\d+)', done.out, re.MULTILINE)


@dataclasses.dataclass
class Runs:
  """A program to launch on two nodes, that runs for some seconds.

  Attributes:
    flags: of the launcher.
    final: workdir -> what it has computed in the end.
    undisturbed: the same, of a run on two nodes that nothing happened to.
    a_while: so many steps are done before something happens.
  """

  flags: tuple[str, ...]
  final: Callable[[pathlib.Path], Any]
  undisturbed: Callable[[], Any]
  a_while: int

  @staticmethod
  def of_stand_in(cluster: Cluster) -> Runs:
    flags = (
      '--module=tests.launch.stand_in',
      f'--config={TINY}',
      f'--env=STAND_IN_STEPS={STAND_IN_STEPS}',
    )
    return Runs(
      flags, lambda workdir: read_state(workdir)['value'], lambda: chain(STAND_IN_STEPS), a_while=10
    )

  @staticmethod
  def of_mtface(cluster: Cluster, data_dir: pathlib.Path, ends: pathlib.Path) -> Runs:
    fields = {
      'duration': f'{MTFACE_STEPS} steps',
      'checkpoint.every': '100 steps',
      'log_every': '10 steps',
    }
    overrides = [f'--config.{field}={value}' for field, value in fields.items()]
    flags = (f'--config={TINY}', f'--data_dir={data_dir}', *overrides)

    def undisturbed():
      if not ends.joinpath('run').exists():
        (number,) = submit(*flags, '--nodes=2', f'--workdir={ends}/run')
        assert cluster.ended(number)['JobState'] == 'COMPLETED', read_log(ends / 'run')
      return checksum(ends / 'run', data_dir)

    return Runs(flags, lambda workdir: checksum(workdir, data_dir), undisturbed, a_while=50)

  def start(self, workdir: pathlib.Path, *flags: str) -> str:
    """Submits a run on two nodes and waits until it has done some steps;
    returns the job's number.
    """
    (number,) = submit(*self.flags, '--nodes=2', f'--workdir={workdir}', *flags)
    wait_for(lambda: steps_done(workdir) >= self.a_while, f'{self.a_while} steps in {workdir}')
    return number


def steps_done(workdir: pathlib.Path) -> int:
  """How far a run is, from the log."""
  return max(map(int, re.findall(r'\bstep (\d+)', read_log(workdir).replace(',', ''))), default=0)


def read_log(workdir: pathlib.Path) -> str:
  """What the jobs of a workdir wrote."""
  return ''.join(path.read_text() for path in sorted((workdir / 'slurm').glob('*.log')))


@functools.cache
def checksum(workdir: pathlib.Path, data_dir: pathlib.Path) -> str:
  """Of all bits of the checkpoint after the last step: parameters, statistics, state of the
  optimiser.
  """
  import jax

  from mtface.evaluation.evaluator import Evaluator

  found = hashlib.sha256()
  for leaf in jax.tree.leaves(saved_state(Evaluator(workdir, data_dir), MTFACE_STEPS)):
    found.update(np.asarray(leaf).tobytes())
  return found.hexdigest()
