"""`python -m launch.slurm` on a real Slurm with two nodes: whatever happens to a job, it ends with
what an undisturbed one ends with.
"""

import json
import time

import pytest

from tests.cluster.jobs import STAND_IN_STEPS, Runs, launch, read_log, submit, wait_for
from tests.command import ROOT, TINY, python
from tests.launch.stand_in import chain, notes, read_state

pytestmark = pytest.mark.timeout(900)  # a loaded machine trains slowly
FOLDS = (
  '--module=tests.launch.stand_in',
  f'--config={ROOT}/tests/tiny_folds.py',
  f'--env=STAND_IN_STEPS={STAND_IN_STEPS}',
)


def check_end(runs, cluster, workdir, number, restarts):
  job = cluster.ended(number)
  assert (job['JobState'], job['ExitCode']) == ('COMPLETED', '0:0'), read_log(workdir)
  assert int(job['Restarts']) == restarts
  assert runs.final(workdir) == runs.undisturbed()


def test_two_nodes(runs, cluster, tmp_path):
  number = runs.start(tmp_path)
  assert cluster.job(number)['NumNodes'] == '2'
  check_end(runs, cluster, tmp_path, number, restarts=0)


def test_requeued_by_an_administrator(runs, cluster, tmp_path):
  number = runs.start(tmp_path)
  cluster.run('scontrol', 'requeue', number)
  check_end(runs, cluster, tmp_path, number, restarts=1)


def test_preempted_by_a_higher_partition(runs, cluster, tmp_path):
  number = runs.start(tmp_path, '--partition=low')
  other = cluster.run(
    'sbatch',
    '--parsable',
    '-p',
    'high',
    '-N2',
    '--exclusive',
    '-o',
    '/dev/null',
    '--wrap',
    'sleep 1',
  )
  assert cluster.ended(other)['JobState'] == 'COMPLETED'
  check_end(runs, cluster, tmp_path, number, restarts=1)
  assert 'launch: code 75: requeued' in read_log(tmp_path), 'it saved in the time that it was given'


def test_a_signal_to_the_ranks(runs, cluster, tmp_path):
  number = runs.start(tmp_path)
  cluster.run('scancel', '--signal=TERM', number)
  check_end(runs, cluster, tmp_path, number, restarts=1)


def test_a_node_goes_down(runs, cluster, tmp_path, node='node2'):
  number = runs.start(tmp_path)
  cluster.set_node(node, 'DOWN')
  wait_for(lambda: cluster.job(number)['JobState'] == 'PENDING', 'requeued')
  cluster.wake()
  check_end(runs, cluster, tmp_path, number, restarts=1)


# --- What happens is the launcher's doing: the stand-in is enough ---------------------------------


@pytest.fixture
def stand_in(cluster):
  return Runs.of_stand_in(cluster)


def test_the_node_of_the_script_goes_down(stand_in, cluster, tmp_path):
  test_a_node_goes_down(stand_in, cluster, tmp_path, 'node1')


@pytest.mark.parametrize('options', [('--signal=USR1',), ('--batch', '--signal=USR1')])
def test_other_ways_to_stop_it(stand_in, cluster, tmp_path, options):
  number = stand_in.start(tmp_path)
  cluster.run('scancel', *options, number)
  check_end(stand_in, cluster, tmp_path, number, restarts=1)


def test_the_time_limit(stand_in, cluster, tmp_path):
  # Slurm counts a limit in minutes, and may warn up to a minute early.
  number = stand_in.start(tmp_path, '--time=1', '--warning=45', '--env=STAND_IN_SECONDS=0.45')
  check_end(stand_in, cluster, tmp_path, number, restarts=int(cluster.ended(number)['Restarts']))
  assert int(cluster.job(number)['Restarts']) >= 1


def test_a_killed_rank(stand_in, cluster, tmp_path):
  number = stand_in.start(tmp_path, '--env=STAND_IN_FAIL=1:40:-9')
  check_end(stand_in, cluster, tmp_path, number, restarts=1)


def test_scancel_is_final(stand_in, cluster, tmp_path):
  number = stand_in.start(tmp_path)
  cluster.run('scancel', number)
  assert cluster.ended(number)['JobState'] == 'CANCELLED'
  assert [note['code'] for note in notes(tmp_path, 'ends')] == [75, 75], 'but it saved'
  time.sleep(8)
  assert cluster.job(number)['JobState'] == 'CANCELLED'


@pytest.mark.parametrize('code', [1, 2])
def test_bad_input_of_one_rank_is_final(stand_in, cluster, tmp_path, code):
  (number,) = submit(
    *stand_in.flags, '--nodes=2', f'--workdir={tmp_path}', f'--env=STAND_IN_FAIL=1:20:{code}'
  )
  job = cluster.ended(number)
  assert (job['JobState'], job['ExitCode'], job['Restarts']) == ('FAILED', f'{code}:0', '0'), (
    read_log(tmp_path)
  )


def test_restarts_are_limited(stand_in, cluster, tmp_path):
  number = stand_in.start(tmp_path, '--restarts=1', '--env=STAND_IN_SECONDS=0.2')
  for starts in (2, 4):
    wait_for(lambda starts=starts: len(notes(tmp_path, 'starts')) == starts, 'two ranks started')
    time.sleep(1)
    cluster.run('scancel', '--signal=TERM', number)
  job = cluster.ended(number)
  assert (job['JobState'], job['ExitCode'], job['Restarts']) == ('FAILED', '75:0', '1')
  assert 'launch: code 75: not requeued, limit of 1 reached' in read_log(tmp_path)


def test_without_requeue(stand_in, cluster, tmp_path):
  number = stand_in.start(tmp_path, '--norequeue')
  cluster.run('scancel', '--signal=TERM', number)
  assert cluster.ended(number)['ExitCode'] == '75:0'


def test_folds_as_an_array_and_their_gathering(cluster, tmp_path):
  array, gather = submit(*FOLDS, '--crossval', '--folds=4', f'--workdir={tmp_path}')
  wait_for(lambda: len(list(tmp_path.glob('fold*/starts.jsonl'))) == 4, 'all folds run')
  assert cluster.job(gather)['JobState'] == 'PENDING'
  # The last task's job has the number of the array; by that number all of its tasks would be
  # requeued.
  for task in (1, 3):
    cluster.run('scancel', '--signal=TERM', f'{array}_{task}')
  assert cluster.ended(gather)['JobState'] == 'COMPLETED', read_log(tmp_path)
  folds = json.loads((tmp_path / 'crossval.json').read_text())
  assert folds == {
    f'fold{k}of4': {'step': STAND_IN_STEPS, 'value': chain(STAND_IN_STEPS)} for k in range(4)
  }
  starts = [len(notes(tmp_path / f'fold{k}of4', 'starts')) for k in range(4)]
  assert starts == [1, 2, 1, 2], 'only those that were stopped started again'


def test_mtface_folds_as_an_array_are_those_of_one_process(cluster, tiny_data, tmp_path):
  flags = (f'--config={ROOT}/tests/tiny_folds.py', f'--data_dir={tiny_data}', '--folds=2')
  _, gather = submit(*flags, '--crossval', f'--workdir={tmp_path}/array')
  assert cluster.ended(gather)['JobState'] == 'COMPLETED', read_log(tmp_path / 'array')
  alone = python('mtface', 'crossval', *flags, f'--workdir={tmp_path}/alone')
  assert alone.code == 0, alone.err
  tables = [
    json.loads((tmp_path / name / 'crossval.json').read_text()) for name in ('array', 'alone')
  ]
  assert tables[0] == tables[1]
  assert alone.out.splitlines()[-5] in read_log(tmp_path / 'array'), 'a line of the table'


def test_mtface_sweep_as_an_array_is_that_of_one_process(cluster, tiny_data, tmp_path):
  flags = (f'--configs={TINY}', '--over=seed=0,1', f'--data_dir={tiny_data}')
  _, gather = submit(*flags, f'--workdir={tmp_path}/array')
  assert cluster.ended(gather)['JobState'] == 'COMPLETED', read_log(tmp_path / 'array')
  alone = python('mtface', 'sweep', *flags, f'--workdir={tmp_path}/alone')
  assert alone.code == 0, alone.err
  tables = [json.loads((tmp_path / name / 'sweep.json').read_text()) for name in ('array', 'alone')]
  timeless = [
    [{k: v for k, v in row.items() if k != 'seconds'} for row in table] for table in tables
  ]
  assert timeless[0] == timeless[1]
  log = read_log(tmp_path / 'array')
  assert log.count('training ') == 2, 'the gathering job trained nothing'


def test_nothing_is_gathered_when_a_fold_failed(cluster, tmp_path):
  flags = (*FOLDS, '--crossval', '--folds=2', f'--workdir={tmp_path}', '--env=STAND_IN_FAIL=0:5:2')
  _, gather = submit(*flags)
  assert cluster.ended(gather)['JobState'] == 'CANCELLED'
  assert not (tmp_path / 'crossval.json').exists()


def test_a_sweep_as_an_array(cluster, tmp_path):
  flags = (
    '--module=tests.launch.stand_in',
    f'--configs={ROOT}/tests/tiny.py',
    '--over=seed=0,1;optimizer.rate=0.01',
  )
  _, gather = submit(*flags, f'--workdir={tmp_path}', '--env=STAND_IN_STEPS=20')
  assert cluster.ended(gather)['JobState'] == 'COMPLETED', read_log(tmp_path)
  names = [f'tiny_seed_{seed}_optimizer.rate_0.01' for seed in (0, 1)]
  assert json.loads((tmp_path / 'sweep.json').read_text()) == {
    n: {'step': 20, 'value': chain(20)} for n in names
  }
  assert all((tmp_path / name / 'evaluate.json').exists() for name in names)


def test_what_sbatch_refuses(cluster, tmp_path):
  done = launch(*FOLDS, f'--workdir={tmp_path}', '--partition=nowhere')
  assert done.code == 2
  assert done.err.startswith('launch: error: sbatch: error: invalid partition specified: nowhere')
  assert done.err.count('\n') == 1


def test_a_workdir_with_spaces(stand_in, cluster, tmp_path):
  workdir = tmp_path / "it's a run"
  (number,) = submit(
    *stand_in.flags, '--nodes=2', f'--workdir={workdir}', '--env=STAND_IN_SECONDS=0'
  )
  assert cluster.ended(number)['JobState'] == 'COMPLETED'
  assert read_state(workdir)['step'] == STAND_IN_STEPS
