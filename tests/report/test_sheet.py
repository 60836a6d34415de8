import cv2
import numpy as np

from mtface.report.sheet import Mistakes, draw_sheet
from mtface.tasks import get_task
from tests.fakes import fake_source


def red(path):
  """How many pixels have the colour of wrong predictions."""
  image = cv2.imread(str(path)).astype(int)
  blue, green, red_ = image[..., 0], image[..., 1], image[..., 2]
  return int(((red_ > 180) & (green < 80) & (blue < 90)).sum())


def test_wrong_predictions_are_marked_and_right_ones_are_not(tmp_path):
  source = fake_source('a', 8, {'smile': 1.0, 'gender': 0.5})
  tasks = {name: get_task(name) for name in ('smile', 'gender')}
  right = {name: np.eye(2)[source.labels[name]] for name in tasks}
  half_wrong = right | {'smile': right['smile'][:, ::-1]}
  draw_sheet(tmp_path / 'right.png', 'right', source, tasks, right)
  draw_sheet(tmp_path / 'wrong.png', 'wrong', source, tasks, half_wrong)
  assert red(tmp_path / 'right.png') == 0
  assert red(tmp_path / 'wrong.png') > 1000


def test_an_unknown_label_is_no_error(tmp_path):
  source = fake_source('a', 4, {'gender': 0.0})
  scores = {'gender': np.ones((4, 2))}
  draw_sheet(tmp_path / 'unknown.png', 'unknown', source, {'gender': get_task('gender')}, scores)
  assert red(tmp_path / 'unknown.png') == 0


def test_the_surest_mistakes_come_first():
  source = fake_source('a', 6, {'smile': 1.0})
  source.mask['smile'][5] = False
  right = source.labels['smile']
  scores = np.zeros((6, 2))
  scores[np.arange(6), right] = [0.9, 0.2, 0.4, 0.1, 0.8, 0.0]
  scores[np.arange(6), 1 - right] = [0.1, 0.8, 0.6, 0.9, 0.2, 1.0]
  mistakes = Mistakes()
  for rows in (np.arange(4), np.arange(4, 6)):
    mistakes.add(source, 'smile', scores[rows], rows)
  assert mistakes.count == 3, 'the last one is not labelled'
  assert mistakes.surest(2).tolist() == [3, 1]
  assert mistakes.surest(9).tolist() == [3, 1, 2]
