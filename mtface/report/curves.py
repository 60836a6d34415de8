"""Training curves: accuracy and loss of each task (Rohani 2023, figure 6), and accuracy over
checkpoints.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mtface.config.saved import read_config
from mtface.config.stages import stage_folder, stage_of
from mtface.errors import UserError
from mtface.evaluation.results import Row
from mtface.files import local_path, whole
from mtface.training.logs import METRICS_FILE, read_metrics

_PARTS = ('accuracy', 'loss')


def draw_curves(workdir: str | os.PathLike, stage: str = '') -> pathlib.Path:
  """Draws `report/curves.png`: one column per task, accuracy above and loss below, for training and
  the `evaluation.during_training` sets.

  Training values are means over the (augmented) samples since the previous log line, with dropout
  on; test values cover whole sets.

  Args:
    workdir: folder of a run.
    stage: a stage of the run; '' is the last one.

  Raises:
    UserError: nothing has been logged yet.
  """
  workdir = local_path(workdir)
  workdir = stage_folder(workdir, stage_of(read_config(workdir), stage)[0])
  curves = read_curves(read_metrics(workdir))
  if not curves:
    raise UserError(f'{workdir / METRICS_FILE}: has no accuracies yet; train first')
  tasks = sorted({task for task, _, _ in curves})
  figure = _figure(len(_PARTS), len(tasks))
  for row, part in enumerate(_PARTS):
    for column, task in enumerate(tasks):
      axes = figure.add_subplot(len(_PARTS), len(tasks), row * len(tasks) + column + 1)
      for (of_task, of_part, series), (epochs, values) in curves.items():
        if (of_task, of_part) == (task, part):
          axes.plot(
            epochs,
            values,
            label=series,
            linewidth=1.2,
            linestyle='--' if series == 'training' else '-',
          )
      axes.set(title=f'{task}: {part}', xlabel='epochs')
      axes.grid(alpha=0.3)
      if axes.lines:  # a task may have losses alone
        axes.legend(fontsize=8)
  return _save(figure, workdir / 'report' / 'curves.png')


def read_curves(
  lines: Sequence[Mapping[str, float]],
) -> dict[tuple[str, str, str], tuple[list[float], list[float]]]:
  """Returns {(task, accuracy or loss, 'training' or the set's name): (epochs, values)} from
  metrics.jsonl.

  A checkpoint that lies between two log lines has a line without `epoch`; epochs are in proportion
  to steps, so its epoch follows from any other line.
  """
  a_step = next((line['epoch'] / line['step'] for line in lines if line.get('epoch')), None)
  curves: dict[tuple[str, str, str], tuple[list[float], list[float]]] = {}
  for line in lines:
    for key, value in line.items():
      found = re.fullmatch(r'(train|eval/(?P<set>.+))/(?P<task>[^/]+)/(?P<part>accuracy|loss)', key)
      if found and a_step is not None:
        epochs, values = curves.setdefault(
          (found['task'], found['part'], found['set'] or 'training'), ([], [])
        )
        epochs.append(line['epoch'] if 'epoch' in line else a_step * line['step'])
        values.append(value)
  return curves


def draw_sweep(path: pathlib.Path, rows: Sequence[Row]) -> pathlib.Path:
  """Draws one panel per task: the accuracy of each set over the checkpoints' steps, with its 95%
  interval.
  """
  tasks = list(dict.fromkeys(row['task'] for row in rows))
  figure = _figure(1, len(tasks))
  for column, task in enumerate(tasks):
    axes = figure.add_subplot(1, len(tasks), column + 1)
    for name in dict.fromkeys(row['set'] for row in rows if row['task'] == task):
      series = sorted(
        (row for row in rows if (row['task'], row['set']) == (task, name)),
        key=lambda row: row['steps'],
      )
      steps = [row['steps'][-1] for row in series]
      axes.plot(steps, [100 * row['accuracy'] for row in series], marker='.', label=name)
      if all('low' in row for row in series):
        low, high = ([100 * row[end] for row in series] for end in ('low', 'high'))
        axes.fill_between(steps, low, high, alpha=0.15)
    axes.set(title=task, xlabel='step', ylabel='accuracy, %')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
  return _save(figure, path)


def draw_search(path: pathlib.Path, trials: Sequence[Mapping[str, Any]]) -> pathlib.Path:
  """Draws the scores of a search (`evaluation.search`): over the trials in their order, with the
  best one so far, and over the values of each field.
  """
  done = sorted((of for of in trials if of['score'] is not None), key=lambda of: of['number'])
  fields = list(done[0]['values']) if done else []
  scores = [of['score'] for of in done]
  figure = _figure(1, 1 + len(fields))
  axes = figure.add_subplot(1, 1 + len(fields), 1)
  numbers = [of['number'] for of in done]
  axes.plot(numbers, scores, '.', label='trial')
  best = list(itertools.accumulate(scores, max))
  axes.step(numbers, best, where='post', label='best so far')
  axes.set(xlabel='trial', ylabel='score')
  axes.legend(fontsize=8)
  for column, field in enumerate(fields, 2):
    axes = figure.add_subplot(1, 1 + len(fields), column)
    values = [of['values'][field] for of in done]
    try:
      numbers = [float(value) for value in values]
      axes.plot(numbers, scores, '.')
      if min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
        axes.set_xscale('log')
    except ValueError:  # words
      axes.plot(values, scores, '.')
    axes.set(xlabel=field)
    axes.grid(alpha=0.3)
  return _save(figure, path)


def _figure(rows: int, columns: int) -> Any:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def _save(figure: Any, path: pathlib.Path) -> pathlib.Path:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
      figure.savefig(partial, dpi=110, format='png')
  except OSError as error:
    raise UserError(
      f'{path}: cannot be written ({error.strerror or error}); free up space, or make the workdir '
      'writable'
    ) from error
  return path
