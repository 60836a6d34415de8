"""`python -m launch.slurm`: writes sbatch scripts into WORKDIR/slurm and submits them.

One job, or a job array over the folds of a cross-validation or the configs of a sweep, followed by
a job that gathers the results. A job that was preempted, ran out of time or crashed requeues itself
and resumes from its newest checkpoint (`launch/sbatch.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict

from launch import sbatch
from launch.job import Args, Job, check_processes, job_config, parse_variable, run_launcher
from mtface.config import files as config_files
from mtface.config.checks import check_stages
from mtface.config.schema import flat
from mtface.errors import UserError
from mtface.files import file_name, write_text

ENGINES = ('apptainer', 'pyxis')
ABOUT = """Submits a job, or with --crossval or --configs a job array and a job that gathers its
results. Scripts and logs: WORKDIR/slurm. A job that was preempted, ran out of time or crashed
requeues itself and resumes from its newest checkpoint."""


def define_flags(args: Args) -> None:
  """The flags of this launcher."""
  number = functools.partial(flags.DEFINE_integer, lower_bound=1, flag_values=args)
  text = functools.partial(flags.DEFINE_string, flag_values=args)
  several = functools.partial(flags.DEFINE_multi_string, flag_values=args)
  switch = functools.partial(flags.DEFINE_bool, flag_values=args)
  number('nodes', 1, 'number of nodes')
  number('gpus_per_node', 0, 'GPUs per node; 0: use CPUs', lower_bound=0)
  number(
    'tasks_per_node',
    None,
    'processes per node; default: one per GPU, or one without GPUs',
  )
  number('cpus_per_task', None, 'CPU cores per process')
  for name in ('partition', 'account', 'qos', 'constraint'):
    text(name, None, f"Slurm's --{name}")
  text(
    'time', None, "Slurm's --time, as in 12:00:00; longer runs continue in a new job automatically"
  )
  text('mem', None, "Slurm's --mem: memory per node, as in 64G")
  several(
    'sbatch',
    [],
    'any other sbatch option; repeatable, as in --sbatch=--exclusive --sbatch=--reservation=faces',
  )
  text('job_name', None, "name of the job; default: the config's name")
  several('env', [], 'NAME=VALUE for the environment; repeatable')
  several(
    'setup', [], "a line of bash to run before the program, as in 'module load cuda'; repeatable"
  )
  text(
    'python', None, 'Python interpreter on the nodes; default: this one, or `python` in a container'
  )
  text(
    'container', None, 'a container image to run in, with mtface installed (launch/Containerfile)'
  )
  flags.DEFINE_enum('engine', ENGINES[0], ENGINES, 'what runs the container', flag_values=args)
  switch('requeue', True, 'requeue automatically; --norequeue turns it off')
  number('restarts', 100, 'maximum number of requeues')
  number(
    'warning',
    90,
    'seconds before the end of --time at which to save the state; 0: never',
    lower_bound=0,
  )
  switch('evaluate', False, 'also evaluate the run, in the same job')
  switch('crossval', False, 'run one job per fold, and one to gather the results')
  number('folds', 4, 'number of folds, with --crossval', lower_bound=2)
  text(
    'configs',
    None,
    'instead of --config: a sweep over comma-separated configs, one job each and one to gather',
  )
  text(
    'over',
    '',
    "with --configs: fields to vary and their values, as in 'optimizer.rate=0.01,0.03;seed=0,1'",
  )
  number(
    'at_once',
    0,
    'how many jobs of --crossval or --configs run at a time; 0: no limit',
    lower_bound=0,
  )
  switch('dry_run', False, 'print the scripts; write and submit nothing')


def launch(args: Args, job: Job) -> int:
  """Writes and submits the scripts, or prints them; returns the exit code."""
  scripts = plan(args, job)
  if args.dry_run:
    for i, script in enumerate(scripts):
      print(f'# {_path(script)}, submit with: {shlex.join(_sbatch(script, "JOB" if i else None))}')
      print(script.text())
    return 0
  if shutil.which('sbatch') is None:
    raise UserError(
      'sbatch: not found; run this on a login node of a Slurm cluster, or print the script '
      'with --dry_run'
    )
  first = None
  for script in scripts:
    write_text(_path(script), script.text())
    number = submit(_sbatch(script, first))
    log = script.log.replace('%j', number).replace('%A', number).replace('%a', '*')
    print(f'submitted {script.name}: job {number}' + (f', after {first}' if first else ''))
    print(f'  script: {_path(script)}\n  log: {log}')
    first = first or number
  print(
    f'watch: squeue --me   stop: scancel {first}   save and stop: scancel --signal=TERM {first}'
  )
  return 0


def submit(command: Sequence[str]) -> str:
  """Runs sbatch; returns the job number."""
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise UserError(f'{" ".join(done.stderr.split())} ({shlex.join(command)})')
  return done.stdout.strip().partition(';')[0]


def _path(script: sbatch.Script) -> pathlib.Path:
  return script.folder / f'{script.name}.sh'


def _sbatch(script: sbatch.Script, after: str | None) -> list[str]:
  behind = [f'--dependency=afterok:{after}', '--kill-on-invalid-dep=yes'] if after else []
  return ['sbatch', '--parsable', *behind, str(_path(script))]


# --- What to submit -------------------------------------------------------------------------------


def plan(args: Args, job: Job) -> list[sbatch.Script]:
  """The scripts to submit: a job, or an array and a job that gathers its results."""
  if args.crossval and args.configs:
    raise UserError(
      '--crossval works on one --config and cannot be combined with --configs; drop one of the two'
    )
  if args.over and not args.configs:
    raise UserError('--over varies fields of the configs in --configs; pass --configs too')
  if args.configs and job.config:
    raise UserError('--config and --configs cannot be combined; pass one of them')
  if args.crossval:
    return _plan_crossval(args, job)
  if args.configs:
    return _plan_sweep(args, job)
  resources = make_resources(args)
  check_processes(job, resources.processes)
  steps = [_step(args, job.mtface(*_distributed(resources)))]
  if args.evaluate:
    steps.append(_step(args, _evaluate(job, resources)))
  return [_script(args, job, job.name, resources, steps)]


def _plan_crossval(args: Args, job: Job) -> list[sbatch.Script]:
  from mtface.evaluation.crossval import round_config  # imports JAX

  if job.settings is None or job.command not in ('train', 'crossval'):
    raise UserError('--crossval trains and evaluates the folds of a config; pass it with --config')
  round_config(job.settings, 0, args.folds)
  resources = make_resources(args)
  check_processes(job, resources.processes)
  job = dataclasses.replace(job, command='crossval')
  name = f'{job.name}-folds'
  folds = f'--folds={args.folds}'
  fold = _step(args, job.mtface(folds, *_distributed(resources)), '--fold="$SLURM_ARRAY_TASK_ID"')
  together = ['crossval', '--gather', folds, f'--workdir={job.workdir}']
  return [
    _script(args, job, name, resources, [fold], array=args.folds),
    _script(args, job, f'{name}-gather', make_resources(args, one=True), [_step(args, together)]),
  ]


def _plan_sweep(args: Args, job: Job) -> list[sbatch.Script]:
  from mtface.evaluation.sweep import jobs  # imports JAX

  if job.command != 'train':
    raise UserError(
      f'--command={job.command}: a sweep over --configs trains and evaluates; drop --command'
    )
  resources = make_resources(args)
  names = config_files.split_names(args.configs)
  bases = [config_files.load_config(name) for name in names]
  table = jobs(bases, args.over)
  each = len(table) // len(bases)
  cases = []
  for number, (folder, config) in enumerate(table):
    check_stages(config, resources.processes)
    changed = [
      f'--config={job_config(names[number // each])}',
      *changes(bases[number // each], config),
    ]
    cases.append(f'  {number}) folder={shlex.quote(folder)} config=({shlex.join(changed)}) ;;')
  find = [
    '# The job of the sweep that this task runs.',
    'case $SLURM_ARRAY_TASK_ID in',
    *cases,
    'esac',
  ]
  workdir = f'--workdir={shlex.quote(str(job.workdir))}/"$folder"'
  more = [f'--data_dir={job.data_dir}', *_distributed(resources)]
  steps = [
    _step(args, ['train'], '"${config[@]}"', workdir, shlex.join(more)),
    _step(args, ['evaluate'], workdir, shlex.join(more)),
  ]
  configs = ','.join(map(job_config, names))
  together = [
    'sweep',
    f'--configs={configs}',
    f'--over={args.over}',
    f'--workdir={job.workdir}',
    f'--data_dir={job.data_dir}',
  ]
  name = 'sweep'
  return [
    _script(args, job, name, resources, steps, array=len(table), setup=find),
    _script(args, job, f'{name}-gather', make_resources(args, one=True), [_step(args, together)]),
  ]


def changes(base: ConfigDict, config: ConfigDict) -> list[str]:
  """The --config.FIELD=VALUE overrides that turn one config into another."""
  before, after = flat(base.to_dict()), flat(config.to_dict())
  return [f'--config.{field}={value}' for field, value in after.items() if value != before[field]]


# --- Flags to scripts -----------------------------------------------------------------------------


def make_resources(args: Args, *, one: bool = False) -> sbatch.Resources:
  """The resources from the flags; `one`: a single process without GPUs, for jobs that only read
  results.
  """
  options = [
    f'--{name}={args[name].value}'
    for name in ('partition', 'account', 'qos', 'constraint', 'time', 'mem')
    if args[name].value
  ]
  options += args.sbatch
  if one:
    return sbatch.Resources(options=tuple(options))
  tasks = args.tasks_per_node or args.gpus_per_node or 1
  if args.gpus_per_node and tasks not in (1, args.gpus_per_node):
    raise UserError(
      f'--tasks_per_node={tasks}: expected 1 (one process with all GPUs of a node) or '
      f'{args.gpus_per_node} (one per GPU)'
    )
  return sbatch.Resources(args.nodes, tasks, args.gpus_per_node, args.cpus_per_task, tuple(options))


def _distributed(resources: sbatch.Resources) -> list[str]:
  return ['--distributed'] if resources.processes > 1 else []


def _evaluate(job: Job, resources: sbatch.Resources) -> list[str]:
  return [
    'evaluate',
    f'--workdir={job.workdir}',
    f'--data_dir={job.data_dir}',
    *_distributed(resources),
  ]


def _step(args: Args, mtface: Sequence[str], *raw: str) -> str:
  python = args.python or ('python' if args.container else sys.executable)
  return sbatch.command([python, '-m', args.module, *mtface], *raw)


def _script(
  args: Args,
  job: Job,
  name: str,
  resources: sbatch.Resources,
  steps: Sequence[str],
  *,
  array: int = 0,
  setup: Sequence[str] = (),
) -> sbatch.Script:
  return sbatch.Script(
    name=file_name(args.job_name + name.removeprefix(job.name) if args.job_name else name),
    folder=job.workdir / 'slurm',
    resources=resources,
    steps=tuple(steps),
    setup=(f'cd {shlex.quote(os.getcwd())}', *args.setup, *setup),
    environment=tuple(map(parse_variable, args.env)),
    container=_container(args, job, resources),
    array=array,
    at_once=args.at_once,
    requeue=args.restarts if args.requeue else 0,
    warning=args.warning,
  )


def _container(
  args: Args, job: Job, resources: sbatch.Resources
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  if not args.container:
    return (), ()
  folders = [job.workdir, job.data_dir, *([job.file.parent] if job.file else [])]
  mounts = ','.join(f'{folder}:{folder}' for folder in dict.fromkeys(folders))
  if args.engine == 'pyxis':
    return (f'--container-image={args.container}', f'--container-mounts={mounts}'), ()
  gpus = ['--nv'] if resources.gpus_per_node else []
  return (), ('apptainer', 'exec', *gpus, f'--bind={mounts}', args.container)


def main(argv: Sequence[str] | None = None) -> NoReturn:
  """The entry point."""
  run_launcher('python -m launch.slurm', ABOUT, define_flags, launch, argv)


if __name__ == '__main__':
  main()
