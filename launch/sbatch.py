"""The text of an sbatch script. How it reacts to signals and when it requeues itself was tested on
Slurm 22.05 (tests/cluster).
"""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from launch import exits
from mtface.errors import EXIT_PEER_LOST, EXIT_PREEMPTED


@dataclasses.dataclass(frozen=True)
class Resources:
  """The resources that a job requests.

  Attributes:
    nodes: number of nodes.
    tasks_per_node: processes on each.
    gpus_per_node: 0 for CPUs.
    cpus_per_task: CPU cores per process; None: Slurm's default.
    options: further #SBATCH options, including the dashes.
  """

  nodes: int = 1
  tasks_per_node: int = 1
  gpus_per_node: int = 0
  cpus_per_task: int | None = None
  options: tuple[str, ...] = ()

  @property
  def processes(self) -> int:
    """The total over all nodes."""
    return self.nodes * self.tasks_per_node

  @property
  def sbatch(self) -> list[str]:
    """As #SBATCH options."""
    found = [f'--nodes={self.nodes}', f'--ntasks-per-node={self.tasks_per_node}']
    found += [f'--gpus-per-node={self.gpus_per_node}'] if self.gpus_per_node else []
    found += [f'--cpus-per-task={self.cpus_per_task}'] if self.cpus_per_task else []
    return [*found, *self.options]

  @property
  def srun(self) -> list[str]:
    """As srun options, since srun does not inherit all of them from the job."""
    found = [
      f'--nodes={self.nodes}',
      f'--ntasks={self.processes}',
      f'--ntasks-per-node={self.tasks_per_node}',
    ]
    found += [f'--cpus-per-task={self.cpus_per_task}'] if self.cpus_per_task else []
    return found + (['--label'] if self.processes > 1 else [])


@dataclasses.dataclass(frozen=True)
class Script:
  """An sbatch script.

  Attributes:
    name: the job name.
    folder: holds the script, its log, and the exit code of the rank that failed first.
    resources: the resources that the job requests.
    steps: bash commands, each `run PROGRAM ARGUMENTS`, run in order as long as they succeed.
    setup: lines of bash to run first.
    environment: environment variables.
    container: srun options, and words before the program, that run it in a container.
    array: number of tasks of a job array; 0: no array.
    at_once: number of array tasks that run at the same time; 0: no limit.
    requeue: whether the job requeues itself, and how often at most.
    warning: seconds before the time limit at which the job saves its state and stops; 0: never.
  """

  name: str
  folder: pathlib.Path
  resources: Resources
  steps: tuple[str, ...]
  setup: tuple[str, ...] = ()
  environment: tuple[tuple[str, str], ...] = ()
  container: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
  array: int = 0
  at_once: int = 0
  requeue: int = 0
  warning: int = 0

  @property
  def log(self) -> str:
    """The log file, with %j for the job number, or %A_%a for the array job and task numbers."""
    return f'{self.folder}/{self.name}-{"%A_%a" if self.array else "%j"}.log'

  def text(self) -> str:
    """The whole script."""
    return '\n'.join(
      [*self._head(), '', *self._environment(), '', _RUN.format(**self._words()), *self._end(), '']
    )

  def _head(self) -> list[str]:
    options = [
      f'--job-name={self.name}',
      f'--output={self.log}',
      '--open-mode=append',
      *self.resources.sbatch,
    ]
    if self.array:
      options.append(f'--array=0-{self.array - 1}' + (f'%{self.at_once}' if self.at_once else ''))
    options.append('--requeue' if self.requeue else '--no-requeue')
    if self.warning:
      options.append(f'--signal=B:USR1@{self.warning}')
    return ['#!/bin/bash', *(f'#SBATCH {shlex.quote(option)}' for option in options)]

  def _environment(self) -> list[str]:
    lines = ['export PYTHONUNBUFFERED=1']
    if self.resources.processes > 1:
      lines.append(_COORDINATOR)
    if self.resources.gpus_per_node > self.resources.tasks_per_node == 1:
      gpus = ','.join(map(str, range(self.resources.gpus_per_node)))
      lines += [
        '# Under Slurm, JAX gives each process one GPU; this process uses all GPUs of its node.',
        f'export JAX_LOCAL_DEVICE_IDS={gpus}',
      ]
    return [
      *lines,
      *(f'export {name}={shlex.quote(value)}' for name, value in self.environment),
      *self.setup,
    ]

  def _words(self) -> dict[str, str]:
    of_srun, before = self.container
    return {
      'folder': shlex.quote(str(self.folder)),
      'srun': shlex.join(['srun', '--kill-on-bad-exit=1', *self.resources.srun, *of_srun]),
      'container': ''.join(f'{shlex.quote(word)} ' for word in before),
      'saved': str(EXIT_PREEMPTED),
      'lost': str(EXIT_PEER_LOST),
    }

  def _end(self) -> list[str]:
    lines = [' &&\n  '.join(self.steps), 'code=$?']
    if self.requeue:
      lines.append(_REQUEUE.format(again='|'.join(map(str, exits.AGAIN)), most=self.requeue))
    return [*lines, 'exit "$code"']


_COORDINATOR = """\
# JAX would use the first node's name, which need not resolve; this is the address that Slurm itself
# uses.
address=$(scontrol show node "$SLURMD_NODENAME" | grep -o 'NodeAddr=[^ ]*')
export JAX_COORDINATOR_ADDRESS="${address#NodeAddr=}:$((61440 + SLURM_JOB_ID % 4096))\""""

_RUN = """\
# srun returns the highest exit code of all ranks: a rank that lost a peer (76), or was killed
# because another one failed, would hide the bad input (2) of the rank that failed first. So the
# first rank that fails by itself records its exit code.
export FIRST={folder}/first-$SLURM_JOB_ID
rank='trap : TERM USR1; "$@"; code=$?
  case $code in
    0|{lost}) ;;
    *) [ $code -gt 128 ] || (set -C; echo $code >"$FIRST") 2>/dev/null;;
  esac
  exit $code'

# Only this shell gets the early warning of the time limit. On scancel, preemption and requeue,
# Slurm signals the ranks itself.
step=
warned=
caught=
trap 'warned=1 caught=1; [ -z "$step" ] || kill -USR1 "$step"' USR1
trap 'caught=1' TERM

run() {{
  [ -z "$warned" ] || return {saved}
  rm -f "$FIRST"
  {srun} bash -c "$rank" rank {container}"$@" &
  step=$!
  while caught=; wait "$step"; code=$?; [ -n "$caught" ]; do :; done
  step=
  if [ -s "$FIRST" ]; then code=$(cat "$FIRST"); rm -f "$FIRST"; fi
  return "$code"
}}
"""

_REQUEUE = """\

# Slurm does not requeue a job that ends, whatever the reason. An array task is requeued by its own
# number: the job's number may mean all tasks. A job that is not RUNNING is being cancelled, or has
# already been requeued.
job=$SLURM_JOB_ID
[ -z "${{SLURM_ARRAY_JOB_ID:-}}" ] || job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [[ $code == @({again}) || $code -gt 128 ]] && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ]; then
    echo "launch: code $code: requeued"
    scontrol requeue "$job"
  else
    echo "launch: code $code: not requeued, limit of {most} reached (--restarts)"
  fi
fi"""


def command(words: Sequence[str], *raw: str) -> str:
  """One step of a script: words to quote for bash, and others to leave as they are."""
  return ' '.join(['run', shlex.join(words), *raw])
