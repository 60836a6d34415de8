import dataclasses

import cv2
import numpy as np

from mtface.report.sheet import draw_sheet
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


def test_the_faces_are_in_the_picture(tmp_path):
  source = fake_source('a', 3, {'smile': 1.0}, shape=(16, 16, 3))
  colours = np.array([(250, 10, 10), (10, 250, 10), (10, 10, 250)], np.uint8)
  plain = np.broadcast_to(colours[:, None, None], source.images.shape).copy()
  source = dataclasses.replace(source, images=plain)
  smile = get_task('smile')
  draw_sheet(tmp_path / 'a.png', 'a', source, {'smile': smile}, {'smile': np.eye(2)[source.labels['smile']]})
  image = cv2.imread(str(tmp_path / 'a.png'))[..., ::-1].astype(int)
  columns = [np.flatnonzero((abs(image - colour) < 10).all(axis=2).any(axis=0)) for colour in colours]
  areas = [int((abs(image - colour) < 10).all(axis=2).sum()) for colour in colours]
  assert min(areas) > 5000, 'each face is a square of about a hundred pixels'
  assert columns[0].max() < columns[1].min() < columns[1].max() < columns[2].min(), 'in their order'


def test_grey_faces_are_grey_from_black_to_white(tmp_path):
  source = fake_source('a', 2, {'smile': 1.0}, shape=(16, 16, 1))
  source = dataclasses.replace(source, images=np.stack([np.full((16, 16, 1), value, np.uint8) for value in (60, 140)]))
  smile = get_task('smile')
  draw_sheet(tmp_path / 'a.png', 'a', source, {'smile': smile}, {'smile': np.eye(2)[source.labels['smile']]})
  image = cv2.imread(str(tmp_path / 'a.png')).astype(int)
  assert [int((image == value).all(axis=2).sum()) > 5000 for value in (60, 140, 0)] == [True, True, False]


def test_an_unknown_label_is_no_error(tmp_path):
  source = fake_source('a', 4, {'gender': 0.0})
  scores = {'gender': np.ones((4, 2))}
  draw_sheet(tmp_path / 'unknown.png', 'unknown', source, {'gender': get_task('gender')}, scores)
  assert red(tmp_path / 'unknown.png') == 0
  assert cv2.imread(str(tmp_path / 'unknown.png')).std() > 20, 'there are faces of noise'
