import csv

import numpy as np
import pytest
from PIL import Image

from mtface.inference.answers import Face, Question, answers_of
from mtface.publish.timeline import Timeline
from mtface.tasks import get_task

QUESTIONS = {
  'smile': Question(get_task('smile'), 'softmax'),
  'age_years': Question(get_task('age_years'), 'softmax'),
}


def face(p, year=30, box=(0, 0, 50, 50)):
  answers = {
    'smile': answers_of(QUESTIONS['smile'], np.array([[1 - p, p]]))[0],
    'age_years': answers_of(QUESTIONS['age_years'], np.eye(117)[[year]])[0],
  }
  return Face(box, 0.9, None, answers)


def test_rows_are_means_over_frames_with_a_face():
  timeline = Timeline(QUESTIONS)
  for i, faces in enumerate([[face(0.2, 20)], [face(0.6, 40)], [], [face(0.9)], []]):
    timeline.add(0.05 * i, faces)
  first, second, third = timeline.rows()
  assert (first['seconds'], first['frames'], first['share_with_face']) == (0, 2, 1)
  assert first['smile/smile'] == pytest.approx(0.4)
  assert first['age_years'] == pytest.approx(30)
  assert first['age_years/20'] == first['age_years/40'] == pytest.approx(0.5)
  assert (second['seconds'], second['frames'], second['share_with_face']) == (0.1, 2, 0.5)
  assert second['smile/smile'] == pytest.approx(0.9)
  assert (third['frames'], third['share_with_face'], third['smile/smile']) == (1, 0, None)


@pytest.mark.parametrize(
  'seconds, rate, span', [(15, 10, 0.1), (21, 10, 0.2), (190, 5, 1), (3600, 1, 30)]
)
def test_long_clips_have_longer_spans(seconds, rate, span):
  timeline = Timeline(QUESTIONS)
  shown = np.random.default_rng(0).random(seconds * rate)
  for i, p in enumerate(shown):
    timeline.add(i / rate, [face(p)])
  rows = timeline.rows()
  assert len(rows) <= 200
  assert rows[1]['seconds'] == pytest.approx(span)
  of = round(rate * span)
  means = [shown[i : i + of].mean() for i in range(0, len(shown), of)]
  np.testing.assert_allclose([row['smile/smile'] for row in rows], means)


def test_the_main_face_is_followed():
  timeline = Timeline(QUESTIONS)
  one, other = (0, 0, 50, 50), (200, 0, 55, 55)
  timeline.add(0, [face(0.1, box=one)])
  timeline.add(0.1, [face(0.9, box=other), face(0.1, box=one)])
  assert [row['smile/smile'] for row in timeline.rows()] == pytest.approx([0.1, 0.1])


def test_the_files(tmp_path):
  timeline = Timeline(QUESTIONS)
  for i in range(30):
    timeline.add(i / 10, [face(i / 30, 20 + i)] if i % 10 else [])
  numbers, picture = timeline.write(tmp_path / 'clip.timeline.csv', 'clip.mp4')
  rows = list(csv.DictReader(numbers.open(newline='')))
  assert len(rows) == 30 and rows[0]['smile/smile'] == ''
  assert float(rows[5]['smile/smile']) == pytest.approx(5 / 30)
  pixels = np.asarray(Image.open(picture).convert('RGB'))
  assert pixels.shape[1] == 1100 and np.ptp(pixels) == 255


def test_a_clip_without_frames_has_no_rows():
  assert Timeline(QUESTIONS).rows() == []
