import cv2
import matplotlib.axes
import pytest

from mtface.errors import UserError
from mtface.report.curves import draw_curves, draw_sweep, read_curves
from mtface.run_config import write_config
from tests.tiny import get_config


def test_curves_are_taken_from_the_lines():
  lines = [
    {'step': 2, 'epoch': 0.5, 'train/loss': 3.0, 'train/smile/loss': 1.0, 'train/smile/accuracy': 0.5},
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


def coloured(path):
  """How many pixels of a picture are neither grey, black nor white: lines and their legend."""
  picture = cv2.imread(str(path)).astype(int)
  return int((picture.max(axis=2) - picture.min(axis=2) > 60).sum())


def test_a_run_is_drawn(run_copy, monkeypatch):
  path = draw_curves(run_copy)
  picture = cv2.imread(str(path))
  assert picture.shape[1] > picture.shape[0] > 300
  lines = coloured(path)
  monkeypatch.setattr(matplotlib.axes.Axes, 'plot', lambda self, epochs, values, **how: plot(self, [], [], **how))
  assert lines > coloured(draw_curves(run_copy)) + 300, 'more than axes and a legend'


plot = matplotlib.axes.Axes.plot


def test_a_run_that_logged_nothing(tmp_path):
  write_config(get_config(), tmp_path)
  with pytest.raises(UserError, match=r'metrics.jsonl: holds no accuracies yet; train first'):
    draw_curves(tmp_path)


def test_a_sweep_of_a_multi_label_task_has_no_intervals(tmp_path):
  rows = [{'task': 'action_units', 'set': 'a', 'steps': [s], 'accuracy': 0.5} for s in (1, 2)]
  assert coloured(draw_sweep(tmp_path / 'x/sweep.png', rows)) > 300, 'a line'
