"""Scores of one task by predictions of another, against NumPy on what the network says."""

import csv
import json

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.evaluation.associate import Association, associate, association_table
from mtface.evaluation.evaluator import Evaluator
from mtface.report.heatmap import write_heatmap
from mtface.tasks import get_task
from mtface.training.selection import Selection
from tests.fakes import write_prepared


def test_means_by_predicted_class(tiny_run, tiny_data):
  (found,) = associate(tiny_run, tiny_data, by='gender', of='smile', on=['smiles'])
  evaluator = Evaluator(tiny_run, tiny_data)
  said = evaluator.predictions(
    evaluator.networks(Selection.parse('last')), evaluator.source('smiles')
  )
  predicted = said['gender'].argmax(1)
  assert found.counts.tolist() == [(predicted == 0).sum(), (predicted == 1).sum()]
  for k in (0, 1):
    rows = said['smile'][predicted == k]
    expected = rows.mean(0) if len(rows) else np.full(2, np.nan)
    np.testing.assert_allclose(found.means[k], expected)


def test_faces_need_no_label(tiny_run, tmp_path):
  write_prepared(tmp_path, 'tiny/groups', {'test': 6}, {'age_group': 1.0})
  (found,) = associate(tiny_run, tmp_path, by='gender', of='smile', on=['tiny/groups:test'])
  assert found.counts.sum() == 6


def test_tasks_that_do_not_fit(tiny_run, tiny_data):
  with pytest.raises(UserError, match=r'--of=action_units: the run predicts gender, smile'):
    associate(tiny_run, tiny_data, by='smile', of='action_units')
  with pytest.raises(UserError, match=r'--by=smile: expected a single-label task other than'):
    associate(tiny_run, tiny_data, by='smile', of='smile')


def test_without_a_set_and_with_two_selections(mtface, run_copy, tiny_data):
  flags = [f'--workdir={run_copy}', f'--data_dir={tiny_data}', '--by=gender', '--of=smile']
  result = mtface('associate', *flags, '--checkpoint=4,last')
  assert (result.code, result.out) == (2, '')
  assert '--checkpoint=4,last: this command takes one at a time' in result.error
  content = json.loads((run_copy / 'config.json').read_text())
  content['config']['evaluation'] |= {'sets': {}, 'during_training': [], 'best_on': []}
  (run_copy / 'config.json').write_text(json.dumps(content))
  result = mtface('associate', *flags)
  assert result.code == 2
  assert '--on: the run names no evaluation sets' in result.error


@pytest.fixture
def found():
  """Figure 2 of Pons 2018, rows fear and happy; nobody is said to be anything else."""
  means = np.full((7, 11), np.nan)
  means[2] = [0.21, 0.16, 0.06, 0.91, 0.16, 0.01, 0.02, 0.02, 0.13, 0.98, 0.43]
  means[3] = [0.00, 0.05, 0.06, 0.04, 0.82, 0.12, 0.93, 0.00, 0.01, 0.98, 0.10]
  counts = np.array([0, 0, 5, 9, 0, 0, 0])
  return Association('sfew', get_task('emotion7'), get_task('action_units'), counts, means)


def test_the_rule_of_the_papers_table_3(found):
  present = found.present(0.4)
  # Its table has fear 5 25 and happy 6 12 25: by its own figure 2, fear has 26 too.
  assert present['fear'] == ('AU5', 'AU25', 'AU26')
  assert present['happy'] == ('AU6', 'AU12', 'AU25')
  assert present['sad'] == ()
  lines = association_table(found, 0.4).splitlines()
  assert lines[0].startswith('| predicted emotion7 | n | AU1 | AU2 |')
  assert lines[5] == (
    '| happy | 9 | 0.00 | 0.05 | 0.06 | 0.04 | 0.82 | 0.12 | 0.93 | 0.00 | 0.01 | 0.98 | 0.10 '
    '| AU6 AU12 AU25 |'
  )
  assert lines[2] == '| angry | 0 |' + '  |' * 11 + '  |'


def test_picture_and_numbers(found, tmp_path):
  picture, numbers = write_heatmap(tmp_path / 'report', found)
  assert picture.read_bytes()[:4] == b'\x89PNG'
  with numbers.open() as file:
    rows = list(csv.DictReader(file))
  assert rows[2]['predicted'] == 'fear'
  assert (float(rows[2]['AU5']), rows[2]['n'], rows[0]['AU5']) == (0.91, '5', '')
