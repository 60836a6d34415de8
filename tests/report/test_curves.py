import json

import cv2
import matplotlib.axes
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.report import curves
from mtface.report.curves import draw_curves, draw_sweep, read_curves
from mtface.training.workdir import write_config
from tests.tiny import get_config
from tests.tiny_stages import get_config as get_stages


def test_curves_are_taken_from_the_lines():
  lines = [
    {
      'step': 2,
      'epoch': 0.5,
      'train/loss': 3.0,
      'train/smile/loss': 1.0,
      'train/smile/accuracy': 0.5,
    },
    {
      'step': 4,
      'epoch': 1.0,
      'train/smile/loss': 0.9,
      'train/smile/accuracy': 0.6,
      'eval/a/b:train[fold=0/4]/smile/accuracy': 0.55,
      'eval/genki4k/smile/loss': 0.7,
      'train/learning_rate': 0.01,
    },
  ]
  assert read_curves(lines) == {
    ('smile', 'loss', 'training'): ([0.5, 1.0], [1.0, 0.9]),
    ('smile', 'accuracy', 'training'): ([0.5, 1.0], [0.5, 0.6]),
    ('smile', 'accuracy', 'a/b:train[fold=0/4]'): ([1.0], [0.55]),
    ('smile', 'loss', 'genki4k'): ([1.0], [0.7]),
  }


def test_a_checkpoint_between_log_lines_has_its_epoch_too():
  lines = [
    {'step': 100, 'eval/faces/smile/accuracy': 0.4},
    {'step': 200, 'epoch': 0.5, 'train/smile/accuracy': 0.5},
    {'step': 300, 'eval/faces/smile/accuracy': 0.6},
  ]
  assert read_curves(lines)['smile', 'accuracy', 'faces'] == ([0.25, 0.75], [0.4, 0.6])
  assert read_curves(lines[:1]) == {}, 'how long an epoch is, nobody has said'


def coloured(path):
  """How many pixels of a picture are neither grey, black nor white: lines and their legend."""
  picture = cv2.imread(str(path)).astype(int)
  return int((picture.max(axis=2) - picture.min(axis=2) > 60).sum())


def test_a_run_is_drawn(run_copy, monkeypatch):
  path = draw_curves(run_copy)
  picture = cv2.imread(str(path))
  assert picture.shape[1] > picture.shape[0] > 300
  lines = coloured(path)
  monkeypatch.setattr(
    matplotlib.axes.Axes, 'plot', lambda self, epochs, values, **how: plot(self, [], [], **how)
  )
  assert lines > coloured(draw_curves(run_copy)) + 300, 'more than axes and a legend'


plot = matplotlib.axes.Axes.plot


def test_a_run_that_logged_nothing(tmp_path):
  write_config(get_config(), tmp_path)
  with pytest.raises(UserError, match=r'metrics.jsonl: has no accuracies yet; train first'):
    draw_curves(tmp_path)


def test_a_sweep_of_a_multi_label_task_has_no_intervals(tmp_path):
  rows = [{'task': 'action_units', 'set': 'a', 'steps': [s], 'accuracy': 0.5} for s in (1, 2)]
  assert coloured(draw_sweep(tmp_path / 'x/sweep.png', rows)) > 300, 'a line'


# --- What is drawn, read out of the figure --------------------------------------------------------


@pytest.fixture
def figures(monkeypatch):
  """The figures in place of their files, as (figure, path)."""
  drawn = []
  monkeypatch.setattr(curves, '_save', lambda figure, path: drawn.append((figure, path)) or path)
  return drawn


def lines_of(axes):
  return {
    line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()
  }


@pytest.mark.filterwarnings('error')
def test_each_panel_has_its_task_and_part_over_epochs(tmp_path, figures):
  write_config(get_stages(), tmp_path)
  for stage, accuracy in (('smiles', 0.5), ('both', 0.9)):
    line = {
      'step': 7,
      'epoch': 1.5,
      'train/smile/accuracy': accuracy,
      'train/smile/loss': 2.0,
      'train/gender/loss': 3.0,
    }
    folder = tmp_path / 'stages' / stage
    folder.mkdir(parents=True)
    (folder / 'metrics.jsonl').write_text(
      json.dumps(line | {'eval/faces/smile/accuracy': accuracy / 2}) + '\n'
    )
  draw_curves(tmp_path)
  draw_curves(tmp_path, 'smiles')
  for (figure, path), stage, accuracy in zip(figures, ('both', 'smiles'), (0.9, 0.5), strict=True):
    assert path == tmp_path / 'stages' / stage / 'report/curves.png'
    assert {axes.get_title(): lines_of(axes) for axes in figure.axes} == {
      'gender: accuracy': {},
      'smile: accuracy': {'training': ([1.5], [accuracy]), 'faces': ([1.5], [accuracy / 2])},
      'gender: loss': {'training': ([1.5], [3.0])},
      'smile: loss': {'training': ([1.5], [2.0])},
    }


def test_a_sweep_is_drawn_by_step_in_percent_with_its_intervals(tmp_path, figures):
  steps = (12, 4, 8)  # as they happen to stand in the results
  rows = [
    {
      'task': task,
      'set': name,
      'steps': [1, s],
      'accuracy': s / 20,
      'low': s / 20 - 0.1,
      'high': s / 20 + 0.2,
    }
    for task, name in (('smile', 'a'), ('smile', 'b'), ('gender', 'a'))
    for s in steps
  ]
  draw_sweep(tmp_path / 'sweep.png', rows)
  ((figure, _),) = figures
  smile, gender = figure.axes
  assert list(lines_of(smile)) == ['a', 'b']
  assert lines_of(gender) == {'a': ([4, 8, 12], pytest.approx([20, 40, 60]))}
  band = np.array(gender.collections[0].get_paths()[0].vertices)
  assert {(x, round(y)) for x, y in band} == {
    (4, 10),
    (8, 30),
    (12, 50),
    (4, 40),
    (8, 60),
    (12, 80),
  }
