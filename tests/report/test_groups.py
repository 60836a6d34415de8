"""An audit on the command line and as files."""

import csv
import json
import re

import numpy as np
import pytest

from mtface.evaluation.audit import audit
from mtface.report.groups import write_audit
from tests.evaluation.test_audit import made


@pytest.fixture
def predictions(tmp_path):
  """A csv of 400 answers, and how many of each group are right."""
  rng = np.random.default_rng(0)
  labels, groups = rng.choice(['cat', 'dog'], 400), rng.choice(['day', 'night'], 400)
  right = rng.random(400) < np.where(groups == 'day', 0.95, 0.6)
  predicted = np.where(right, labels, np.where(labels == 'cat', 'dog', 'cat'))
  path = tmp_path / 'answers.csv'
  with path.open('w', newline='') as file:
    csv.writer(file).writerows([['y', 'z', 'light'], *zip(labels, predicted, groups, strict=True)])
  return path, {name: float(right[groups == name].mean()) for name in ('day', 'night')}


def test_of_a_csv(mtface, predictions):
  path, expected = predictions
  flags = ['--label=y', '--predicted=z', '--groups=light', '--resamples=200']
  result = mtface('audit', f'--csv={path}', *flags)
  assert result.code == 0, result.error
  assert re.search(rf'\| night \| \d+ \| {expected["night"]:.1%} \(', result.out)
  assert 'worst accuracy by light: night' in result.out and 'at most 5% would flag' in result.out
  folder = path.parent / 'answers_audit'
  with (folder / 'answers.csv_y.csv').open() as file:
    rows = list(csv.DictReader(file))
  found = {r['group']: float(r['value']) for r in rows if r['figure'] == 'accuracy' and r['by']}
  assert found == pytest.approx(expected)
  assert {r['flag'] for r in rows if r['group'] == 'night' and r['figure'] == 'accuracy'} == {
    'lower'
  }
  content = json.loads((folder / 'answers.csv_y.json').read_text())
  worst = content['worst'][0]
  assert (worst['figure'], worst['group'], worst['flagged']) == ('accuracy', 'night', True)
  assert len(content['rows']) == len(rows)
  assert (folder / 'answers.csv_y.png').read_bytes()[:4] == b'\x89PNG'


def test_of_a_run(mtface, run_copy, tiny_data):
  flags = [f'--workdir={run_copy}', f'--data_dir={tiny_data}', '--resamples=20']
  result = mtface('audit', *flags)
  assert result.code == 0, result.error
  assert 'gender on people: 15 labelled faces' in result.out
  assert 'too small to compare' in result.out
  assert 'smiles: labels neither gender nor age nor ethnicity' in result.err
  assert (run_copy / 'audit/last/people_gender.json').exists()
  result = mtface('audit', *flags, '--on=smiles')
  assert (result.code, result.out) == (2, '')
  assert 'smiles, smile: there is nothing to group by' in result.error


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--csv=x.csv'], '--label is missing'),
    (['--csv=x.csv', '--label=y', '--workdir=r'], '--workdir: is of a run'),
    (['--csv=x.csv', '--label=y', '--calibrated'], '--calibrated: is of a run'),
    (['--csv=x.csv', '--label=y'], 'x.csv: cannot be read'),
    (['--workdir=r', '--label=y'], '--label: is of a csv; pass --csv=FILE too'),
    ([], '--workdir is missing'),
  ],
)
def test_flags_that_do_not_fit(mtface, flags, message):
  result = mtface('audit', *flags)
  assert (result.code, result.out) == (2, '')
  assert message in result.error and len(result.error.splitlines()) == 1


def test_figures_that_are_missing_are_drawn_as_gaps(tmp_path):
  answers = made(200)
  answers.groups['gender'][:] = np.where(answers.labels == 0, 'female', 'male')
  found = audit(answers, replicates=20)
  paths = write_audit(tmp_path, found)
  assert [path.suffix for path in paths] == ['.csv', '.json', '.png']
  with paths[0].open() as file:
    rows = [r for r in csv.DictReader(file) if r['group'] == 'female']
  flags = {r['figure']: r['flag'] for r in rows}
  assert flags['false positive rate'] == 'no others' and 'false negative rate' not in flags
