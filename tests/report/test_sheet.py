import dataclasses

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from mtface.data.sources import load_source
from mtface.report import sheet
from mtface.report.sheet import Mistakes, draw_sheet, write_galleries, write_sheets
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
  draw_sheet(
    tmp_path / 'a.png', 'a', source, {'smile': smile}, {'smile': np.eye(2)[source.labels['smile']]}
  )
  image = cv2.imread(str(tmp_path / 'a.png'))[..., ::-1].astype(int)
  columns = [
    np.flatnonzero((abs(image - colour) < 10).all(axis=2).any(axis=0)) for colour in colours
  ]
  areas = [int((abs(image - colour) < 10).all(axis=2).sum()) for colour in colours]
  assert min(areas) > 5000, 'each face is a square of about a hundred pixels'
  assert columns[0].max() < columns[1].min() < columns[1].max() < columns[2].min(), 'in their order'


def test_grey_faces_are_grey_from_black_to_white(tmp_path):
  source = fake_source('a', 2, {'smile': 1.0}, shape=(16, 16, 1))
  source = dataclasses.replace(
    source, images=np.stack([np.full((16, 16, 1), value, np.uint8) for value in (60, 140)])
  )
  smile = get_task('smile')
  draw_sheet(
    tmp_path / 'a.png', 'a', source, {'smile': smile}, {'smile': np.eye(2)[source.labels['smile']]}
  )
  image = cv2.imread(str(tmp_path / 'a.png')).astype(int)
  assert [int((image == value).all(axis=2).sum()) > 5000 for value in (60, 140, 0)] == [
    True,
    True,
    False,
  ]


def test_an_unknown_label_is_no_error(tmp_path):
  source = fake_source('a', 4, {'gender': 0.0})
  scores = {'gender': np.ones((4, 2))}
  draw_sheet(tmp_path / 'unknown.png', 'unknown', source, {'gender': get_task('gender')}, scores)
  assert red(tmp_path / 'unknown.png') == 0
  assert cv2.imread(str(tmp_path / 'unknown.png')).std() > 20, 'there are faces of noise'


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


def test_a_face_is_marked_whichever_task_is_wrong(tmp_path):
  source = fake_source('a', 8, {'smile': 1.0, 'gender': 1.0})
  right = {name: np.eye(2)[source.labels[name]] for name in ('smile', 'gender')}
  found = right | {'smile': right['smile'][:, ::-1]}
  for order in (('smile', 'gender'), ('gender', 'smile')):
    draw_sheet(
      tmp_path / f'{order[0]}.png', 'x', source, {name: get_task(name) for name in order}, found
    )
  assert red(tmp_path / 'smile.png') == pytest.approx(red(tmp_path / 'gender.png'), rel=0.05)


def test_words_under_a_face_and_in_the_title(tmp_path, monkeypatch):
  titles, words = [], []
  monkeypatch.setattr(Figure, 'suptitle', lambda self, text, **_: titles.append(text))
  monkeypatch.setattr('matplotlib.axes.Axes.text', lambda self, x, y, text, **_: words.append(text))
  source = fake_source('a', 4, {'gender': 0.75})
  source.labels['gender'][:] = [0, 1, 1, 0]
  draw_sheet(
    tmp_path / 'x.png',
    'faces',
    source,
    {'gender': get_task('gender')},
    {'gender': np.eye(2)[[0, 0, 1, 1]]},
  )
  assert words == ['female', 'male > female', 'male', '? > male']
  assert titles == ['faces    gender: 2 of 3 right    (red: label > prediction)']


@pytest.fixture
def sheets(monkeypatch):
  """(source, tasks, scores) of what is drawn, in place of pictures of one row of four."""
  monkeypatch.setattr(sheet, 'ROWS', 1)
  monkeypatch.setattr(sheet, 'COLUMNS', 4)
  drawn = []
  monkeypatch.setattr(sheet, 'draw_sheet', lambda path, title, *what: drawn.append(what))
  return drawn


def test_galleries_show_wrong_faces_with_their_own_predictions(run_copy, tiny_data, sheets):
  paths = write_galleries(run_copy, tiny_data)
  assert len(paths) == len(sheets) > 0
  for path, (source, tasks, found) in zip(paths, sheets, strict=True):
    ((name, _),) = tasks.items()
    assert path.name.endswith(f'_{name}.png')
    assert 0 < len(source) <= 4
    scores, labels, every = found[name], source.labels[name], np.arange(len(source))
    lead = scores.max(axis=1) - scores[every, labels]
    assert (lead > 0).all()
    assert (np.diff(lead) <= 0).all()


def test_a_sheet_is_of_faces_from_all_over_a_set(run_copy, tiny_data, sheets):
  write_sheets(run_copy, tiny_data, on=['smiles'])
  ((source, _, found),) = sheets
  assert len(source) == len(found['smile']) == 4
  whole = load_source('tiny/smile:test', tiny_data)
  places = [whole.image_ids.tolist().index(name) for name in source.image_ids]
  assert places != [0, 1, 2, 3]
