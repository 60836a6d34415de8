"""`python -m launch.slurm`: what the scripts say, and what bash does with them where srun, squeue
and scontrol are stand-ins.

tests/cluster has the same on a real Slurm.
"""

import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest

from launch import slurm
from launch.job import checked_config
from mtface.config import files as config_files
from mtface.evaluation.sweep import jobs
from tests.command import ROOT, TINY

TINY_FOLDS = f'{ROOT}/tests/tiny_folds.py'


def launch(capsys, *flags):
  with pytest.raises(SystemExit) as exit_code:
    slurm.main(list(map(str, flags)))
  captured = capsys.readouterr()
  return exit_code.value.code or 0, captured.out, captured.err


def dry_run(capsys, *flags):
  """The scripts, by the names of their files."""
  code, out, err = launch(capsys, '--dry_run', *flags)
  assert code == 0, err
  parts = re.split(r'^# (.+), submit with: (.*)\n', out, flags=re.MULTILINE)[1:]
  scripts = {
    os.path.basename(path): text[:-1] for path, text in zip(parts[::3], parts[2::3], strict=True)
  }
  for text in scripts.values():
    subprocess.run(['bash', '-n'], input=text, text=True, check=True)
  return scripts


def options(script):
  return re.findall(r'^#SBATCH (.*)$', script, re.MULTILINE)


def test_options_of_sbatch(capsys):
  flags = (
    '--nodes=2 --gpus_per_node=4 --cpus_per_task=8 --partition=gpu --account=faces '
    '--qos=long --constraint=a100&ib'
  )
  more = [
    '--time=12:00:00',
    '--mem=64G',
    '--sbatch=--exclusive',
    '--sbatch=--reservation=r',
    '--warning=120',
  ]
  scripts = dry_run(capsys, '--config=demo', '--workdir=/w/run', *flags.split(), *more)
  assert list(scripts) == ['demo.sh']
  assert options(scripts['demo.sh']) == [
    '--job-name=demo',
    '--output=/w/run/slurm/demo-%j.log',
    '--open-mode=append',
    '--nodes=2',
    '--ntasks-per-node=4',
    '--gpus-per-node=4',
    '--cpus-per-task=8',
    '--partition=gpu',
    '--account=faces',
    '--qos=long',
    "'--constraint=a100&ib'",
    '--time=12:00:00',
    '--mem=64G',
    '--exclusive',
    '--reservation=r',
    '--requeue',
    '--signal=B:USR1@120',
  ]
  step = (
    'srun --kill-on-bad-exit=1 --nodes=2 --ntasks=8 --ntasks-per-node=4 --cpus-per-task=8 '
    '--label bash -c "$rank" rank "$@" &'
  )
  assert step in scripts['demo.sh']


def test_as_little_as_possible(capsys):
  script = dry_run(capsys, '--config=demo', '--workdir=/w/run', '--norequeue', '--warning=0')[
    'demo.sh'
  ]
  assert options(script) == [
    '--job-name=demo',
    '--output=/w/run/slurm/demo-%j.log',
    '--open-mode=append',
    '--nodes=1',
    '--ntasks-per-node=1',
    '--no-requeue',
  ]
  assert 'JAX_COORDINATOR_ADDRESS' not in script and '--distributed' not in script, (
    'one process has no peers'
  )
  assert 'scontrol requeue' not in script


@pytest.mark.parametrize(
  'tasks, per_node, devices', [(None, 4, None), (4, 4, None), (1, 1, '0,1,2,3')]
)
def test_a_process_a_gpu_or_a_node(capsys, tasks, per_node, devices):
  flags = [f'--tasks_per_node={tasks}'] if tasks else []
  script = dry_run(capsys, '--config=demo', '--workdir=/w', '--gpus_per_node=4', *flags)['demo.sh']
  assert f'--ntasks-per-node={per_node}' in options(script)
  # Under Slurm JAX gives a process one GPU unless this says otherwise.
  assert re.findall(r'JAX_LOCAL_DEVICE_IDS=(.*)', script) == ([devices] if devices else [])


def test_containers(capsys):
  flags = [
    '--config=demo',
    '--workdir=/w',
    '--data_dir=/d',
    '--container=/images/mtface.sif',
    '--gpus_per_node=1',
  ]
  script = dry_run(capsys, *flags)['demo.sh']
  assert (
    'bash -c "$rank" rank apptainer exec --nv --bind=/w:/w,/d:/d /images/mtface.sif "$@" &'
    in script
  )
  assert '\nrun python -m mtface train --config=demo --workdir=/w --data_dir=/d\n' in script
  script = dry_run(capsys, *flags, '--engine=pyxis', f'--config={TINY}', '--python=python3')[
    'tiny.sh'
  ]
  mounts = f'--container-mounts=/w:/w,/d:/d,{ROOT}/tests:{ROOT}/tests'
  assert f' --container-image=/images/mtface.sif {mounts} bash -c "$rank" rank "$@" &' in script
  assert f'\nrun python3 -m mtface train --config={TINY} ' in script


def test_folds(capsys):
  flags = (
    '--crossval',
    '--folds=3',
    f'--config={TINY_FOLDS}:T2',
    '--workdir=/w',
    '--data_dir=/d',
    '--nodes=2',
    '--at_once=2',
  )
  code, out, _ = launch(capsys, '--dry_run', *flags)
  assert code == 0
  assert (
    'sbatch --parsable --dependency=afterok:JOB --kill-on-invalid-dep=yes '
    '/w/slurm/tiny_folds-folds-gather.sh' in out
  )
  scripts = dry_run(capsys, *flags, '--partition=p', '--', '--checkpoint=best')
  folds, gather = scripts['tiny_folds-folds.sh'], scripts['tiny_folds-folds-gather.sh']
  assert {'--array=0-2%2', '--output=/w/slurm/tiny_folds-folds-%A_%a.log', '--partition=p'} <= set(
    options(folds)
  )
  python = f'run {sys.executable} -m mtface crossval'
  fold = (
    f'{python} --config={TINY_FOLDS}:T2 --workdir=/w --data_dir=/d --checkpoint=best '
    '--folds=3 --distributed'
  )
  assert f'\n{fold} --fold="$SLURM_ARRAY_TASK_ID"\n' in folds
  assert f'\n{python} --gather --folds=3 --workdir=/w\n' in gather
  assert {'--nodes=1', '--partition=p'} <= set(options(gather))


def test_sweep(capsys):
  names = f'{TINY},{TINY_FOLDS}:T2,x=1'
  flags = (
    f'--configs={names}',
    '--over=seed=0,1;optimizer.rate=0.5',
    '--workdir=/a b',
    '--data_dir=/d',
  )
  scripts = dry_run(capsys, *flags)
  assert list(scripts) == ['sweep.sh', 'sweep-gather.sh']
  assert '--array=0-3' in options(scripts['sweep.sh'])
  cases = re.findall(
    r'^  (\d)\) folder=(\S+) config=\((.*)\) ;;$', scripts['sweep.sh'], re.MULTILINE
  )
  assert cases[1] == (
    '1',
    'tiny_seed_1_optimizer.rate_0.5',
    f'--config={TINY} --config.name=tiny,seed=1,optimizer.rate=0.5 --config.optimizer.rate=0.5 '
    '--config.seed=1',
  )
  assert cases[2][2].startswith(f'--config={TINY_FOLDS}:T2,x=1 '), 'seed=0 is what it was before'
  gather = (
    f"-m mtface sweep --configs={names} '--over=seed=0,1;optimizer.rate=0.5' '--workdir=/a "
    "b' --data_dir=/d\n"
  )
  assert gather in scripts['sweep-gather.sh']


def test_the_job_of_a_sweep_trains_what_mtface_sweep_would(capsys):
  base = config_files.load_config(TINY)
  over = 'seed=0,7;optimizer.rate=0.5;checkpoint.every=4 steps,6 steps;tasks.smile.weight=2'
  for _, config in jobs([base], over):
    assert checked_config(TINY, slurm.changes(base, config)).to_dict() == config.to_dict()


# --- What bash does with it -----------------------------------------------------------------------

PROGRAM = """#!/bin/bash
printf '%s\\n' "$@" >> "$HERE/arguments"
echo "$JAX_COORDINATOR_ADDRESS $EXTRA" > "$HERE/environment"
[ -z "$WAIT" ] || { trap 'kill $!; exit ${WARNED:-75}' USR1; sleep 10 & wait; }
exit ${CODE:-0}
"""
SRUN = """#!/bin/bash
# Two ranks, the second of which loses its peer when the first fails.
while [ "$1" != bash ]; do shift; done
"$@" & rank=$!
trap 'kill -USR1 -- $(pgrep -P $rank) ; kill -USR1 $rank' USR1
wait $rank; code=$?; [ $code -lt 129 ] || { wait $rank; code=$?; }
[ $code = 0 ] || WAIT= CODE=76 "$@" || code=$((code > 76 ? code : 76))
exit $code
"""
STAND_INS = {
  'srun': SRUN,
  'program': PROGRAM,
  'squeue': '#!/bin/bash\necho "squeue $*" >> "$HERE/calls"; echo ${STATE:-RUNNING}\n',
  'scontrol': '#!/bin/bash\nif [ "$1" = show ]; then echo "   NodeAddr=10.0.0.$3 x"; else echo '
  '"$*" >> "$HERE/calls"; fi\n',
}


@pytest.fixture
def bash(tmp_path, capsys):
  """Runs a script as Slurm's node 7 would; returns the exit code and what it asked Slurm for."""
  for name, text in STAND_INS.items():
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o755)
  (tmp_path / 'run' / 'slurm').mkdir(parents=True)

  def start(*flags, **env):
    flags = (f'--workdir={tmp_path}/run', f'--python={tmp_path}/program', '--nodes=2', *flags)
    (script,) = dry_run(capsys, *flags).values()
    (tmp_path / 'script').write_text(script)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    env = {
      **os.environ,
      'PATH': path,
      'HERE': str(tmp_path),
      'SLURM_JOB_ID': '5000',
      'SLURMD_NODENAME': '7',
      **env,
    }
    return subprocess.Popen(
      ['bash', tmp_path / 'script'], env=env, stdout=subprocess.PIPE, text=True
    )

  def run(*flags, **env):
    process = start(*flags, **env)
    out, _ = process.communicate(timeout=20)
    return process.returncode, out

  run.start = start
  run.calls = lambda: (
    (tmp_path / 'calls').read_text().splitlines() if (tmp_path / 'calls').exists() else []
  )
  run.folder = tmp_path
  return run


def test_the_program_gets_its_arguments_and_the_coordinator(bash):
  flags = (
    '--config=demo',
    '--config.duration=10 steps',
    "--config.name=it's",
    '--env=EXTRA=$HOME "x"',
    '--setup=EXTRA+=!',
  )
  assert bash(*flags, '--evaluate') == (0, '')
  train, evaluate = (bash.folder / 'arguments').read_text().split('-m\nmtface\n')[1:]
  assert train.splitlines()[:4] == [
    'train',
    '--config=demo',
    '--config.duration=10 steps',
    "--config.name=it's",
  ]
  assert evaluate.splitlines()[0] == 'evaluate'
  assert train.splitlines()[-1] == evaluate.splitlines()[-1] == '--distributed'
  # JAX's own choice of a port: 65535 - 4096 + 1 + job % 4096; node 7's address as scontrol has it.
  assert (bash.folder / 'environment').read_text() == '10.0.0.7:62344 $HOME "x"!\n'
  assert bash.calls() == []


@pytest.mark.parametrize(
  'code, again',
  [
    ('0', False),
    ('1', False),
    ('2', False),
    ('75', True),
    ('76', True),
    ('137', True),
    ('139', True),
  ],
)
def test_which_codes_requeue(bash, code, again):
  ended, out = bash('--config=demo', CODE=code)
  assert str(ended) == code, 'the second rank, with its 76, does not hide it'
  assert bash.calls() == (['squeue -h -j 5000 -o %T', 'requeue 5000'] if again else [])
  assert (f'launch: code {code}: requeued' in out) == again


def test_a_step_that_failed_is_the_last(bash):
  assert bash('--config=demo', '--evaluate', CODE='75')[0] == 75
  assert 'evaluate' not in (bash.folder / 'arguments').read_text()


def test_a_job_that_is_being_cancelled_is_not_requeued(bash):
  assert bash('--config=demo', CODE='75', STATE='COMPLETING')[0] == 75
  assert bash.calls() == ['squeue -h -j 5000 -o %T']


def test_requeues_are_counted(bash):
  code, out = bash('--config=demo', '--restarts=3', CODE='76', SLURM_RESTART_COUNT='3')
  assert (code, out) == (76, 'launch: code 76: not requeued, limit of 3 reached (--restarts)\n')
  bash('--config=demo', '--restarts=3', CODE='76', SLURM_RESTART_COUNT='2')
  assert bash.calls()[-1] == 'requeue 5000'


def test_a_task_of_an_array_is_requeued_by_its_own_number(bash):
  bash('--config=demo', CODE='75', SLURM_ARRAY_JOB_ID='5000', SLURM_ARRAY_TASK_ID='3')
  assert bash.calls() == ['squeue -h -j 5000_3 -o %T', 'requeue 5000_3']


def test_the_early_warning_is_passed_on(bash):
  process = bash.start('--config=demo', WAIT='1')
  while not (bash.folder / 'environment').exists():
    time.sleep(0.05)
  time.sleep(0.2)
  process.send_signal(signal.SIGUSR1)
  process.communicate(timeout=20)
  assert process.returncode == 75
  assert bash.calls()[-1] == 'requeue 5000'


def test_a_job_that_was_warned_begins_no_further_step(bash):
  process = bash.start(
    '--config=demo', '--evaluate', WAIT='1', WARNED='0'
  )  # its training was at its end just then
  while not (bash.folder / 'environment').exists():
    time.sleep(0.05)
  time.sleep(0.2)
  process.send_signal(signal.SIGUSR1)
  process.communicate(timeout=20)
  assert process.returncode == 75, 'what is left is for the next start'
  assert 'evaluate' not in (bash.folder / 'arguments').read_text()
  assert bash.calls()[-1] == 'requeue 5000'


# --- Submitting -----------------------------------------------------------------------------------

SBATCH = """#!/bin/bash
echo "$*" >> "$HERE/calls"
[ -z "$REFUSE" ] || {
  echo 'sbatch: error: invalid partition' >&2; echo 'sbatch: error: no' >&2; exit 1
}
echo "$(wc -l < "$HERE/calls");cluster"
"""


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
  (tmp_path / 'sbatch').write_text(SBATCH)
  (tmp_path / 'sbatch').chmod(stat.S_IRWXU)
  monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
  monkeypatch.setenv('HERE', str(tmp_path))
  return lambda: (tmp_path / 'calls').read_text().splitlines()


def test_submits_what_it_wrote(sbatch, capsys, tmp_path):
  flags = ('--crossval', f'--config={TINY_FOLDS}', f'--workdir={tmp_path}/run')
  code, out, _ = launch(capsys, *flags)
  assert code == 0
  folder = tmp_path / 'run' / 'slurm'
  assert sbatch() == [
    f'--parsable {folder}/tiny_folds-folds.sh',
    '--parsable --dependency=afterok:1 --kill-on-invalid-dep=yes '
    f'{folder}/tiny_folds-folds-gather.sh',
  ]
  assert (
    'submitted tiny_folds-folds: job 1\n' in out
    and 'submitted tiny_folds-folds-gather: job 2, after 1\n' in out
  )
  assert f'log: {folder}/tiny_folds-folds-1_*.log' in out
  assert 'stop: scancel 1 ' in out, 'with the array what waits for it ends too'
  assert {path.name: path.read_text() for path in folder.glob('*.sh')} == dry_run(capsys, *flags)


def test_what_sbatch_refuses(sbatch, capsys, tmp_path, monkeypatch):
  monkeypatch.setenv('REFUSE', '1')
  code, _, err = launch(capsys, '--config=demo', f'--workdir={tmp_path}')
  assert code == 2
  assert (
    err == 'launch: error: sbatch: error: invalid partition sbatch: error: no (sbatch --parsable '
    f'{tmp_path}/slurm/demo.sh)\n'
  )


def test_no_slurm_here(capsys, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  code, _, err = launch(capsys, '--config=demo', f'--workdir={tmp_path}/run')
  assert (code, err.startswith('launch: error: sbatch: not found')) == (2, True)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'flags, message',
  [
    (('--config=nope',), '--config=nope: no such file'),
    (('--config=demo', '--config.speed=1'), "--config.speed: there is no field 'speed'"),
    (('--config=demo', '--nodes=3'), 'config.batch_size: 64 cannot be split evenly'),
    (
      ('--config=demo', '--gpus_per_node=4', '--tasks_per_node=2'),
      '--tasks_per_node=2: expected 1 (',
    ),
    (('--config=demo', '--crossval'), 'crossval: no source of the config has folds'),
    (('--config=demo', '--crossval', '--configs=demo'), '--crossval works on one --config'),
    (('--config=demo', '--configs=demo'), '--config and --configs cannot be combined'),
    (('--config=demo', '--over=seed=1'), '--over varies fields of the configs'),
    (('--configs=demo', '--over=speed=1'), "--over: demo has no field 'speed'"),
    (('--configs=demo,nope',), '--config=nope: no such file'),
    (
      ('--configs=demo', '--config.seed=1'),
      '--config.seed=1: overrides a field of --config, which is missing',
    ),
    (('--crossval',), '--config is missing'),
    (('--config=demo', '--env=X'), '--env=X: expected NAME=VALUE'),
    (('--config=demo', '--nodes=0'), 'flag --nodes=0'),
  ],
)
def test_bad_input(capsys, flags, message):
  code, out, err = launch(capsys, '--dry_run', '--workdir=/w', *flags)
  assert (code, out) == (2, '')
  assert err.startswith(f'launch: error: {message}'), err
  assert err.count('\n') == 1
