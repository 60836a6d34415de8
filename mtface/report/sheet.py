"""Sheets of test faces with their labels and predictions, the wrong ones marked.

They show faces, so they are written into the run's workdir and nowhere else.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mtface.config.stages import stage_folder
from mtface.data.sources import Source
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.files import file_name, whole
from mtface.outputs import Scores
from mtface.tasks import Task

ROWS, COLUMNS = 4, 8
_RIGHT, _WRONG = '#1a7f37', '#cf222e'


def write_sheets(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str = 'last',
  on: Sequence[str] = (),
  stage: str = '',
) -> list[pathlib.Path]:
  """Draws one sheet per set, `workdir`/sheets/<set>.png, of randomly chosen faces; returns the
  paths.

  Args:
    workdir: folder of a run.
    data_dir: folder of the prepared sets.
    checkpoint: a selection, see `mtface.evaluation.chosen`.
    on: names in the run's `config.evaluation.sets`, or sources; if empty, all of those sets.
    stage: a stage of the run; '' is the last one.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir)
  folder = stage_folder(evaluator.workdir, evaluator.stage) / 'sheets'
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name in on or list(evaluator.config.evaluation.sets):
    faces = chosen.faces(name)
    sample = np.random.default_rng(0).permutation(len(faces.own))[: ROWS * COLUMNS]
    shown, path = faces.take(sample), folder / f'{file_name(name)}.png'
    draw_sheet(path, f'{name}, {checkpoint}', shown.own, chosen.tasks, chosen.predictions(shown))
    paths.append(path)
  return paths


def write_galleries(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str = 'last',
  on: Sequence[str] = (),
  stage: str = '',
) -> list[pathlib.Path]:
  """Draws the wrong predictions, most confident first: `workdir`/report/wrong_<set>_<task>.png
  (Sang 2017, figure 9; Rohani 2023, figure 7).

  Takes the arguments of `write_sheets` and returns the paths. There is no picture for a set and
  task without wrong predictions.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir)
  folder = stage_folder(evaluator.workdir, evaluator.stage) / 'report'
  folder.mkdir(parents=True, exist_ok=True)
  paths = []
  for name in on or list(evaluator.config.evaluation.sets):
    faces = chosen.faces(name)
    source = faces.own
    wrong = {task.name: Mistakes() for task in chosen.tasks.values() if not task.multi_label}
    for scores, rows in chosen.stream(faces, show=f'{checkpoint} on {name}'):
      for task in wrong.keys() & source.labels.keys():
        wrong[task].add(source, task, scores[task], rows)
    for task, mistakes in wrong.items():
      if mistakes.count:
        path = folder / f'wrong_{file_name(name)}_{task}.png'
        title = f'{name}, {checkpoint}: most confident of {mistakes.count:,} mistakes'
        shown = faces.take(mistakes.surest(ROWS * COLUMNS))
        draw_sheet(path, title, shown.own, {task: chosen.tasks[task]}, chosen.predictions(shown))
        paths.append(path)
  return paths


class Mistakes:
  """The wrongly predicted samples of a single-label task, and by how much the score of the
  prediction exceeds that of the label.
  """

  def __init__(self) -> None:
    self._rows: list[np.ndarray] = []
    self._leads: list[np.ndarray] = []

  def add(self, source: Source, task: str, scores: np.ndarray, rows: np.ndarray) -> None:
    """Adds the mistakes among the samples `rows`, int [b], with scores [b, C]."""
    labels, known, every = source.labels[task][rows], source.mask[task][rows], np.arange(len(rows))
    predicted = scores.argmax(axis=1)
    lead = scores[every, predicted] - scores[every, np.where(known, labels, 0)]
    wrong = known & (predicted != labels)
    self._rows.append(rows[wrong])
    self._leads.append(lead[wrong])

  @property
  def count(self) -> int:
    """The number of mistakes."""
    return sum(map(len, self._rows))

  def surest(self, most: int) -> np.ndarray:
    """int [M]: the samples with the largest leads, at most `most`."""
    return np.concatenate(self._rows)[np.argsort(-np.concatenate(self._leads), kind='stable')][
      :most
    ]


def draw_sheet(
  path: pathlib.Path, title: str, source: Source, tasks: Mapping[str, Task], found: Scores
) -> None:
  """Draws the faces of `source`, each with its labels below, or `label > prediction` in red where
  they differ.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  shown = [task for name, task in tasks.items() if name in source.labels and not task.multi_label]
  rows = -(-len(source) // COLUMNS)
  figure = Figure(figsize=(1.55 * COLUMNS, (1.45 + 0.17 * len(shown)) * rows + 0.6))
  FigureCanvasAgg(figure)
  right = {task.name: 0 for task in shown}
  known = {task.name: 0 for task in shown}
  for i in range(len(source)):
    axes = figure.add_subplot(rows, COLUMNS, i + 1)
    image = source.gather(np.array([i]))[0]
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap='gray', vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    wrong = False
    for line, task in enumerate(shown):
      text, is_right = _caption(task, source, found, i)
      if is_right is not None:
        known[task.name] += 1
        right[task.name] += is_right
        wrong |= not is_right
      colour = _WRONG if is_right is False else _RIGHT
      axes.text(
        0.5,
        -0.06 - 0.13 * line,
        text,
        transform=axes.transAxes,
        ha='center',
        va='top',
        fontsize=8,
        color=colour,
      )
    for spine in axes.spines.values():
      spine.set(color=_WRONG if wrong else 'none', linewidth=3)
  counts = ', '.join(f'{name}: {right[name]} of {known[name]} right' for name in right)
  figure.suptitle(f'{title}    {counts}    (red: label > prediction)', fontsize=11)
  figure.tight_layout(rect=(0, 0, 1, 0.99))
  with whole(path) as partial:
    figure.savefig(partial, dpi=110, format='png')


def _caption(task: Task, source: Source, found: Scores, i: int) -> tuple[str, bool | None]:
  """(text, whether the prediction is right); None if the label is unknown."""
  predicted = task.classes[int(found[task.name][i].argmax())]
  if not source.mask[task.name][i]:
    return f'? > {predicted}', None
  label = task.classes[int(source.labels[task.name][i])]
  return (label, True) if label == predicted else (f'{label} > {predicted}', False)
