import json

import numpy as np
import pytest

from mtface.faces.detect import Detection
from mtface.inference.answers import INTERVAL_SHARE, Question, answers_of, faces_of, interval
from mtface.tasks import get_task

YEARS = get_task('age_years')


def said(task, seed=0, n=3):
  rng = np.random.default_rng(seed)
  return rng.dirichlet(np.ones(get_task(task).num_classes), size=n)


def test_the_most_probable_class_is_the_label():
  rows = np.array([[0.1, 0.9], [0.7, 0.3]])
  first, second = answers_of(Question(get_task('gender'), 'softmax'), rows)
  assert (first.label, first.probability) == ('male', 0.9)
  assert (second.label, second.probabilities) == ('female', {'female': 0.7, 'male': 0.3})
  assert first.value is None and first.interval is None


def test_each_class_of_a_multi_label_task_is_there_or_not():
  task = get_task('action_units')
  rows = np.full((1, task.num_classes), 0.2)
  rows[0, [2, 5]] = 0.8, 0.51
  (answer,) = answers_of(Question(task, 'sigmoid'), rows)
  assert answer.label is None and answer.probability is None
  assert answer.present == ('AU4', 'AU9')


def test_margins_are_no_probabilities():
  rows = np.array([[-0.4, 1.3]])
  (answer,) = answers_of(Question(get_task('smile'), 'margins'), rows)
  assert (answer.label, answer.probability, answer.present) == ('smile', None, ('smile',))
  assert answer.to_json() == {'label': 'smile', 'margins': {'no_smile': -0.4, 'smile': 1.3}}
  (age,) = answers_of(Question(YEARS, 'margins'), np.eye(117)[[30]])
  assert (age.value, age.interval) == (30.0, None)


@pytest.mark.parametrize('top', [1, 4, 117])
def test_an_age_is_the_mean_of_the_most_probable_years(top):
  rows = said('age_years')
  for answer, row in zip(answers_of(Question(YEARS, 'softmax', top), rows), rows, strict=True):
    best = sorted(range(117), key=lambda year: -row[year])[:top]
    mean = sum(year * row[year] for year in best) / sum(row[year] for year in best)
    assert answer.value == pytest.approx(mean)
    assert answer.label == str(row.argmax())


def test_an_interval_holds_its_share_and_leaves_as_much_on_each_side():
  for row in said('age_years', n=20):
    low, high = (int(x) for x in interval(row, np.arange(117.0)))
    assert row[low : high + 1].sum() >= INTERVAL_SHARE
    outside = (1 - INTERVAL_SHARE) / 2
    assert row[:low].sum() < outside <= row[: low + 1].sum()
    assert row[high + 1 :].sum() <= outside < row[high:].sum()


def test_the_interval_of_a_sure_age_is_that_year():
  assert interval(np.eye(117)[41], np.arange(117.0)) == (41, 41)


def test_the_interval_of_probabilities_that_do_not_sum_to_one():
  row = said('age_years')[0]
  assert interval(row, np.arange(117.0)) == interval(row * 0.01, np.arange(117.0))


def test_the_json_of_a_face():
  questions = {
    'smile': Question(get_task('smile'), 'softmax'),
    'age_years': Question(YEARS, 'softmax', 1),
    'action_units': Question(get_task('action_units'), 'sigmoid'),
  }
  points = np.arange(10, dtype=np.float32).reshape(5, 2)
  found = [Detection((10, 20, 40, 70), 0.987654321, points)]
  scores = {
    'smile': np.array([[0.25, 0.75]]),
    'age_years': np.eye(117)[[41]],
    'action_units': np.full((1, 11), 0.5),
  }
  (face,) = faces_of(found, questions, scores)
  printed = json.loads(json.dumps(face.to_json()))
  assert list(printed) == ['box', 'confidence', 'landmarks', 'answers']
  assert printed['box'] == [10, 20, 30, 50]  # width and height
  assert printed['confidence'] == 0.987654
  assert printed['landmarks'] == points.tolist()
  assert printed['answers']['smile'] == {
    'label': 'smile',
    'probabilities': {'no_smile': 0.25, 'smile': 0.75},
  }
  assert printed['answers']['age_years']['value'] == 41
  assert printed['answers']['age_years']['interval'] == [41, 41]
  assert printed['answers']['action_units']['label'] is None
