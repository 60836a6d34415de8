import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.evaluation import evaluate as evaluate_module
from mtface.evaluation.results import read_results
from mtface.evaluation.sweep import jobs, sweep_checkpoints, sweep_configs
from tests.tiny import get_config


def read_csv(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def swept(tiny_run, tiny_data, tmp_path_factory):
  """(workdir, rows) of a sweep over the three checkpoints on both sets. Not to be changed."""
  workdir = shutil.copytree(tiny_run, tmp_path_factory.mktemp('swept') / 'run')
  return workdir, sweep_checkpoints(workdir, tiny_data)


def test_every_checkpoint_is_measured_on_every_set(swept, tiny_data):
  workdir, rows = swept
  assert [(row['steps'], row['set']) for row in rows] == [
    ([step], name) for step in (4, 8, 12) for name in ('people', 'smiles')
  ]
  alone = evaluate_module.evaluate(workdir, tiny_data, checkpoints=['8'])
  of_step_8 = [row for row in rows if row['steps'] == [8]]
  assert [row['confusion'] for row in alone] == [row['confusion'] for row in of_step_8]


def test_files(swept):
  workdir, rows = swept
  table = read_csv(workdir / 'sweep/sweep.csv')
  assert [(int(r['step']), r['set'], float(r['accuracy'])) for r in table] == [
    (row['steps'][0], row['set'], row['accuracy']) for row in rows
  ]
  assert json.loads((workdir / 'sweep/sweep.json').read_text()) == rows
  assert (workdir / 'sweep/sweep.md').read_text().count('\n') == 2 + len(rows)


def test_the_command_draws(mtface, swept, tiny_data, tmp_path):
  workdir = shutil.copytree(swept[0], tmp_path / 'run')
  assert mtface('sweep', f'--workdir={workdir}', f'--data_dir={tiny_data}').code == 0
  assert cv2.imread(str(workdir / 'sweep/sweep.png')).std() > 10, 'something is drawn'


def test_an_interrupted_sweep_measures_only_what_is_missing(
  swept, tiny_data, tmp_path, monkeypatch
):
  workdir = shutil.copytree(swept[0], tmp_path / 'run')
  results = json.loads((workdir / 'results.json').read_text())
  results['results'] = [r for r in results['results'] if (r['steps'], r['set']) != ([8], 'smiles')]
  (workdir / 'results.json').write_text(json.dumps(results))
  measured, measure_set = [], evaluate_module._measure_set
  monkeypatch.setattr(
    evaluate_module,
    '_measure_set',
    lambda e, chosen, faces, head, *args: (
      measured.append((head['steps'], head['set'])) or measure_set(e, chosen, faces, head, *args)
    ),
  )
  again = sweep_checkpoints(workdir, tiny_data)
  assert measured == [([8], 'smiles')]
  assert [r['confusion'] for r in again] == [r['confusion'] for r in swept[1]]


def test_a_checkpoint_that_was_trained_anew_is_measured_again(swept, tiny_data, tmp_path):
  workdir = shutil.copytree(swept[0], tmp_path / 'run')
  results = json.loads((workdir / 'results.json').read_text())
  for row in results['results']:
    row['accuracy'] = -1.0
    if row['steps'] == [12]:
      row['checksums'] = [1]  # of the checkpoint of another run
  (workdir / 'results.json').write_text(json.dumps(results))
  again = sweep_checkpoints(workdir, tiny_data)
  assert [row['accuracy'] < 0 for row in again] == [row['steps'] != [12] for row in again]


def test_a_sweep_of_nothing(tiny_run, tiny_data, tmp_path):
  (tmp_path / 'checkpoints/main').mkdir(parents=True)
  shutil.copy(tiny_run / 'config.json', tmp_path)
  with pytest.raises(UserError, match=r'holds no checkpoint yet; train first'):
    sweep_checkpoints(tmp_path, tiny_data)


# --- Configs --------------------------------------------------------------------------------------


def test_all_combinations():
  found = jobs([get_config()], 'optimizer.rate=0.01,3e-2; seed=0,1,2')
  assert [(c.optimizer.rate, c.seed) for _, c in found] == [
    (r, s) for r in (0.01, 0.03) for s in (0, 1, 2)
  ]
  assert found[4][0] == 'tiny_optimizer.rate_3e-2_seed_1'
  assert found[4][1].name == 'tiny,optimizer.rate=3e-2,seed=1'
  assert [name for name, _ in jobs([get_config()])] == ['tiny']
  assert jobs([get_config()], 'optimizer.rate=1')[0][1].optimizer.rate == 1.0
  assert jobs([get_config()], 'duration=20 steps')[0][1].duration == '20 steps'
  assert jobs([get_config()], 'config.augment.flip=False')[0][1].augment.flip is False


@pytest.mark.parametrize(
  ('over', 'message'),
  [
    ('seed', r'--over=seed: expected FIELD=VALUE,VALUE'),
    ('seed=', r'--over=seed=: expected FIELD=VALUE,VALUE'),
    ('lr=0.1', r"--over: tiny has no field 'lr'"),
    ('optimizer.lr=0.1', r"--over: tiny has no field 'optimizer.lr'"),
    ('seed.x=1', r"--over: tiny has no field 'seed.x'"),
    ('optimizer.rate=fast', r'--over: optimizer.rate=fast: expected float, as 0.01'),
    ('seed=1.9', r'--over: seed=1.9: expected int, as 0'),
    ('seed=True', r'--over: seed=True: expected int, as 0'),
    ('augment.flip=maybe', r'--over: augment.flip=maybe: expected bool, as True'),
    ('augment.flip=2', r'--over: augment.flip=2: expected bool, as True'),
    ('optimizer.rate=None', r'--over: optimizer.rate=None: expected float'),
    ('optimizer=adam', r'--over: optimizer=adam: expected ConfigDict'),
    ('seed=0,0', r'two jobs would share the folder tiny_seed_0'),
  ],
)
def test_expressions_that_mean_nothing(over, message):
  with pytest.raises(UserError, match=message):
    jobs([get_config()], over)


def test_all_jobs_are_checked_before_the_first(tiny_data, tmp_path):
  with pytest.raises(UserError, match=r"config.optimizer.name 'adagrad' is unknown"):
    sweep_configs([get_config()], 'optimizer.name=sgd,adagrad', tmp_path / 'sweep', tiny_data)
  assert not (tmp_path / 'sweep').exists()


def test_each_job_is_a_run(tiny_data, tmp_path):
  config = get_config()
  config.duration = '4 steps'
  rows = sweep_configs([config], 'seed=0,1', tmp_path / 'sweep', tiny_data)
  assert [(row['job'], row['set'], row['steps']) for row in rows] == [
    (f'tiny_seed_{seed}', name, [4]) for seed in (0, 1) for name in ('people', 'smiles')
  ]
  assert [row['confusion'] for row in rows[2:]] == [
    row['confusion'] for row in read_results(tmp_path / 'sweep/tiny_seed_1')
  ]
  table = read_csv(tmp_path / 'sweep/sweep.csv')
  assert [(row['job'], row['checkpoint']) for row in table][::2] == [
    ('tiny_seed_0', 'last'),
    ('tiny_seed_1', 'last'),
  ]
  spread = json.loads((tmp_path / 'sweep/seeds.json').read_text())
  for name, row in zip(('people', 'smiles'), spread, strict=True):
    of_seeds = [one['accuracy'] for one in rows if one['set'] == name]
    assert (row['job'], row['set'], row['accuracies']) == ('tiny', name, of_seeds)
    assert row['mean'] == pytest.approx(np.mean(of_seeds))
    assert row['std'] == pytest.approx(np.std(of_seeds, ddof=1))
    assert row['mae'] is None
  assert f'{100 * spread[0]["mean"]:.2f} ± ' in (tmp_path / 'sweep/sweep.md').read_text()
