"""Planted label errors are found, and what becomes of them."""

import csv
import sys

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.report.page import suspects as module
from mtface.report.page.gathered import gather
from mtface.report.page.predicted import Predicted
from mtface.report.page.suspects import (
  Suspect,
  find_issues,
  section,
  suspects,
  write_corrections,
)
from mtface.report.page.write import write_page
from mtface.tasks import get_task
from tests.report.made import drawn_scores, made_run
from tests.report.read_html import Page
from tfds_builders import own_csv

pytest.importorskip('cleanlab')
IDS = np.array([f'face{i:03d}.jpg' for i in range(300)])


def planted(task, wrong, seed=0):
  """(labels with errors in the rows `wrong`, scores that know better)."""
  rng = np.random.default_rng(seed)
  shape = (300, task.num_classes) if task.multi_label else 300
  true = rng.integers(0, 2 if task.multi_label else task.num_classes, shape)
  scores = drawn_scores(task, true, rng, lean=6.0)
  labels = true.copy()
  if task.multi_label:
    labels[wrong, 0] = 1 - labels[wrong, 0]
  else:
    labels[wrong] = (labels[wrong] + 1) % task.num_classes
  return labels, scores, true


def test_planted_errors_are_found():
  task, wrong = get_task('emotion7'), np.arange(5, 300, 30)
  labels, scores, true = planted(task, wrong)
  found = suspects('mine', task, Predicted(IDS, {'emotion7': labels}, {'emotion7': scores}))
  assert len({one.image_id for one in found} & set(IDS[wrong])) >= 9, 'of 10'
  assert len(found) <= len(wrong) + 6
  rows = [IDS.tolist().index(one.image_id) for one in found]
  np.testing.assert_array_equal(
    [one.score_found for one in found], scores[rows, labels[rows]], 'the least probable first'
  )
  assert sorted(one.score_found for one in found) == [one.score_found for one in found]
  for one, i in zip(found, rows, strict=True):
    assert one.found == task.classes[labels[i]]
    if i in wrong:
      assert one.suggested == task.classes[true[i]]


def test_a_class_of_a_multi_label_task_is_a_question_of_its_own():
  task, wrong = get_task('action_units'), np.arange(3, 300, 40)
  labels, scores, _ = planted(task, wrong)
  labels[100:, 1] = -1
  found = suspects('mine', task, Predicted(IDS, {task.name: labels}, {task.name: scores}))
  first = [one for one in found if one.task == 'action_units/AU1']
  assert len({one.image_id for one in first} & set(IDS[wrong])) >= 7, 'of 8'
  assert {(one.found, one.suggested) for one in found} <= {('0', '1'), ('1', '0')}
  assert all(IDS.tolist().index(one.image_id) < 100 for one in found if one.task.endswith('/AU2'))


def test_unknown_labels_and_classes_that_do_not_occur():
  task = get_task('emotion7')
  labels, scores, _ = planted(task, np.array([], int))
  labels[labels == 4] = -1
  found = suspects('mine', task, Predicted(IDS, {'emotion7': labels}, {'emotion7': scores}))
  assert all(labels[IDS.tolist().index(one.image_id)] >= 0 for one in found)
  assert len(find_issues(np.zeros(9, int), np.ones((9, 2)) / 2)) == 0, 'one class is no question'
  assert len(find_issues(np.zeros(0, int), np.ones((0, 2)))) == 0


def test_the_csv_is_one_that_a_build_can_take(tmp_path):
  task = get_task('smile')
  labels, scores, true = planted(task, np.array([7, 70]))
  found = suspects('mine', task, Predicted(IDS, {'smile': labels}, {'smile': scores}))
  write_corrections(tmp_path / 'corrections.csv', found)
  lines = list(csv.DictReader((tmp_path / 'corrections.csv').open()))
  assert list(lines[0])[:4] == ['path', 'task', 'label', 'found']
  line = next(line for line in lines if line['path'] == 'face007.jpg')
  assert (line['task'], line['set']) == ('smile', 'mine')
  assert line['label'] == task.classes[true[7]] != line['found']


def test_a_build_of_ones_own_photographs_takes_it(tmp_path):
  rows = ''.join(f'{name},{"smile" if i % 2 else "no_smile"}\n' for i, name in enumerate(IDS[:9]))
  (tmp_path / 'holiday.csv').write_text(f'path,smile\n{rows}')
  found = [Suspect('face003.jpg', 'mine', 'smile', 'smile', 'no_smile', 0.1, 0.9)]
  write_corrections(tmp_path / 'holiday.corrections.csv', found)
  table = own_csv.read(tmp_path / 'holiday.csv')
  assert [row.labels['smile'] for row in table.rows] == [0, 1, 0, 0, 0, 1, 0, 1, 0]
  assert [row.path for row in table.rows if row.corrected] == ['face003.jpg']


def test_the_section_of_a_run(tmp_path):
  made_run(tmp_path)
  page = Page(write_page([tmp_path], tmp_path).read_text())
  lines = list(csv.DictReader((tmp_path / 'report/corrections.csv').open()))
  assert f'All {len(lines):,} are in report/corrections.csv' in page.text['labels']
  assert (
    'age_years on faces was not looked at: a year more or less is no error' in (page.text['labels'])
  )
  shown = [row for row in page.cells['labels'] if len(row) == 6 and row[1][0] == 'gender']
  assert [row[0][0] for row in shown] == [x['path'] for x in lines if x['task'] == 'gender'][:25]


def test_images_that_the_network_was_trained_on_are_no_evidence(tmp_path):
  made_run(tmp_path)
  results = tmp_path / 'results.json'
  text = results.read_text().replace('fer2013/gray48:private_test', 'fer2013/gray48:train')
  results.write_text(text)
  said = ' '.join(getattr(part, 'text', '') for part in section(gather(tmp_path, tmp_path)))
  assert 'emotion7 on looks was not looked at: the network was trained on these very images' in said


def test_without_cleanlab(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'cleanlab.filter', None)
  with pytest.raises(UserError, match=r"need cleanlab: pip install 'mtface\[report\]'"):
    find_issues(np.array([0, 1]), np.eye(2))
  made_run(tmp_path)
  page = Page(write_page([tmp_path], tmp_path).read_text())
  assert "pip install 'mtface[report]'" in page.text['labels']
  assert not (tmp_path / 'report' / module.CORRECTIONS_FILE).exists()
  assert page.cells['mistakes'], 'the rest of the page is there'
