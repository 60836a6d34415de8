"""What the predictions of single images say: calibration, ages, one task by another, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtface.errors import UserError
from mtface.evaluation.associate import Association, association
from mtface.evaluation.calibration import (
  CALIBRATION_FILE,
  Reliability,
  confidences,
  read_temperatures,
  reliability,
  with_temperature,
)
from mtface.evaluation.results import read_rows
from mtface.metrics import expected_value
from mtface.report.page.drawing import GRID, SERIES, drawing, series
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import (
  Cell,
  Faces,
  Figure,
  Heat,
  Missing,
  Part,
  Table,
  Text,
  count,
  number,
  share,
)
from mtface.report.page.predicted import Predicted
from mtface.tasks import Task

_MOST_GROUPS = 32  # classes whose faces are told apart in a map of one task by another
_MOST_MISTAKES = 20
_MOST_AGES = 4000  # points of a scatter
_HEAD = ('checkpoint', 'steps', 'checksums', 'stage', 'members')  # which weights are meant
_TOO_WIDE = 256  # classes: identities, whose confidences and labels are another matter


def needs_predictions(run: Gathered) -> list[Part]:
  """What to say where no predictions lie in the workdir, or others than the results'."""
  if not run.predictions:
    text = f'What the network said of each image ({run.checkpoint}) was not written.'
    return [Missing(text, run.evaluation())]
  if stale := run.stale():
    text = (
      f'The predictions of {", ".join(stale)} are not those of the results: of another checkpoint '
      'or another set. Write them again.'
    )
    return [Missing(text, run.evaluation())]
  return []


# --- Calibration ----------------------------------------------------------------------------------


def calibration(run: Gathered, name: str) -> list[Part]:
  """Reliability curves, and the expected calibration error; with the temperatures that `mtface
  calibrate` fitted, before and after.
  """
  temperatures, missing = _temperatures(run)
  parts: list[Part] = []
  for i, (of_set, task, found) in enumerate(run.labelled()):
    readout = run.outputs.readout(task.name)
    if readout == 'margins' or task.num_classes > _TOO_WIDE:
      why = 'its scores are margins' if readout == 'margins' else 'it has too many classes'
      parts.append(Text(f'{task.name} on {of_set} has no reliability curve: {why}.'))
      continue
    scores, labels = found.scores[task.name], found.labels[task.name]
    curves = {'': reliability(*confidences(scores, labels))}
    if task.name in temperatures:
      temperature, sets = temperatures[task.name]
      scaled = with_temperature(scores, temperature, readout)
      where = ' that was fitted here' if of_set in sets else ''
      curves[f'temperature of {temperature:.2f}{where}'] = reliability(*confidences(scaled, labels))
    parts.append(_reliability(f'{name}-reliability-{i}', f'{task.name} on {of_set}', curves))
  return [*parts, *missing] if parts else [Text('No task is labelled on a set.')]


def _temperatures(run: Gathered) -> tuple[dict[str, tuple[float, list[str]]], list[Missing]]:
  """({task: (temperature, the sets that it was fitted on)}, what to say where there are none)."""
  row = run.chosen[0]
  head = {key: row[key] for key in _HEAD if key in row}
  try:
    found = read_temperatures(run.workdir, head)
  except UserError:
    text = (
      'No temperatures were fitted to these weights. To fit them on a set that is not reported:'
    )
    command = run.command(
      'calibrate', f' --data_dir={run.data_dir} --checkpoint={run.checkpoint} --fit=SET'
    )
    return {}, [Missing(text, command)]
  fits = {
    of['task']: [one['set'] for one in of['fit']]
    for of in read_rows(run.workdir / CALIBRATION_FILE, ('task', 'fit'), 'calibrate')
    if of['checkpoint'] == run.checkpoint and of.get('stage') == row.get('stage')
  }
  return {task: (temperature, fits[task]) for task, temperature in found.items()}, []


def _reliability(name: str, title: str, curves: dict[str, Reliability]) -> Figure:
  said = ', '.join(f'ECE {found.ece:.2%}{_with(label)}' for label, found in curves.items())

  def draw(axes: Any) -> None:
    axes.plot([0, 1], [0, 1], color=GRID, linewidth=1)
    for i, (label, found) in enumerate(curves.items()):
      there = found.count > 0
      axes.plot(
        found.confidence[there],
        found.accuracy[there],
        marker='o',
        markersize=3,
        label=f'{_short(label)}ECE {found.ece:.1%}',
        **series(i),
      )
    axes.set(xlabel='confidence', ylabel='accuracy', xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc='upper left')

  rows: list[list[Cell]] = [
    [label, f'{low:.2f} to {high:.2f}', count(int(n)), share(sure), share(right)]
    for label, found in curves.items()
    for low, high, n, sure, right in zip(
      found.edges[:-1], found.edges[1:], found.count, found.confidence, found.accuracy, strict=True
    )
    if n
  ]
  rows += [[label, 'ECE', '', '', share(found.ece)] for label, found in curves.items()]
  columns = ('', 'confidence from, to', 'answers', 'mean confidence', 'accuracy')
  svg = drawing(name, f'Reliability of {title}; {said}', draw)
  return Figure(f'{title}: {said}', svg, Table('numbers', columns, rows, closed=True))


def _short(label: str) -> str:
  """For the legend, which has less room."""
  return f'{label.partition(" that")[0]}, ' if label else ''


def _with(label: str) -> str:
  return f' with a {label}' if label else ''


# --- Ages -----------------------------------------------------------------------------------------


def ages(run: Gathered, name: str) -> list[Part]:
  """Labelled against predicted age, and the error by decade."""
  found = [(s, t, p) for s, t, p in run.labelled() if t.values is not None]
  if not found:
    return [Text('The run predicts no ages in years on a set that labels them.')]
  return [
    _ages(f'{name}-ages-{i}', f'{task.name} on {of_set}', *_years(run, task, predicted))
    for i, (of_set, task, predicted) in enumerate(found)
  ]


def _years(run: Gathered, task: Task, found: Predicted) -> tuple[np.ndarray, np.ndarray]:
  """(labelled, predicted) float [M], read as the run's configuration says."""
  known, values = found.known(task.name), np.asarray(task.values)
  scores, top = found.scores[task.name][known], run.config.tasks[task.name].top
  read = expected_value(scores, values, top) if top > 1 else values[scores.argmax(axis=1)]
  return values[found.labels[task.name][known]], read


def _ages(name: str, title: str, labelled: np.ndarray, predicted: np.ndarray) -> Figure:
  error = np.abs(labelled - predicted)
  shown = np.random.default_rng(0).permutation(len(labelled))[:_MOST_AGES]
  most = float(max(labelled.max(), predicted.max()))

  def draw(axes: Any) -> None:
    axes.plot([0, most], [0, most], color=GRID, linewidth=1)
    axes.plot(
      labelled[shown],
      predicted[shown],
      '.',
      color=SERIES[0],
      markersize=3,
      alpha=0.4,
      rasterized=len(shown) > 500,
    )
    axes.set(xlabel='labelled, years', ylabel='predicted, years')

  decades = (labelled // 10).astype(int)
  rows: list[list[Cell]] = [
    [
      f'{10 * k} to {10 * k + 9}',
      count(int((decades == k).sum())),
      number(float(error[decades == k].mean()), 2),
      number(float((predicted - labelled)[decades == k].mean()), 2),
    ]
    for k in np.unique(decades).tolist()
  ]
  rows.append(
    [
      'all',
      count(len(error)),
      number(float(error.mean()), 2),
      number(float((predicted - labelled).mean()), 2),
    ]
  )
  columns = ('labelled age', 'faces', 'mean error, years', 'mean of predicted less labelled')
  said = (
    f'{title}: mean error {error.mean():.2f} years, {len(shown):,} of {len(error):,} faces drawn'
  )
  return Figure(said, drawing(name, said, draw, (4.4, 4.0)), Table('numbers', columns, rows, True))


# --- One task by another --------------------------------------------------------------------------


def associations(run: Gathered) -> list[Part]:
  """Mean scores of each multi-label task (action units) by the predicted class of each task of few
  classes (emotions): Pons 2018, figure 2.
  """
  pairs = [
    (by, of)
    for by in run.tasks.values()
    for of in run.tasks.values()
    if of.multi_label and not by.multi_label and by.num_classes <= _MOST_GROUPS
  ]
  if not pairs:
    return [Text('The run does not predict both emotions (or the like) and action units.')]
  return [
    _map(association(name, by, of, [dict(predicted.scores)]))
    for name, predicted in run.predictions.items()
    for by, of in pairs
    if {by.name, of.name} <= predicted.scores.keys()
  ]


def _map(found: Association) -> Heat:
  top = max(1.0, float(np.nanmax(found.means, initial=0.0)))
  rows = [
    (
      f'{name} ({n:,})',
      [None if np.isnan(v) else (f'{v:.2f}', v, max(v, 0.0) / top) for v in line],
    )
    for name, n, line in zip(
      found.by.classes, found.counts.tolist(), found.means.tolist(), strict=True
    )
  ]
  caption = f'Mean score of {found.of.name} by predicted {found.by.name}, {found.name}'
  return Heat(caption, f'predicted {found.by.name}', found.of.classes, rows)


# --- Mistakes -------------------------------------------------------------------------------------

Pictures = Callable[[str, list[str]], list[str]]  # (source, ids) -> data URIs


def mistakes(run: Gathered, pictures: Pictures | None = None) -> list[Part]:
  """The wrong answers that the network was surest of: by how much the score of its answer exceeds
  that of the label. With `pictures`, the faces too.
  """
  parts: list[Part] = []
  for of_set, task, found in run.labelled():
    if task.multi_label or task.values is not None:
      continue
    total, lines = _surest(task, found)
    title = f'{task.name} on {of_set}: the surest of {total:,} wrong answers'
    columns = ('image', 'labelled', 'predicted', 'its score', "the label's score")
    rows: list[list[Cell]] = [[*line[:3], number(line[3]), number(line[4])] for line in lines]
    parts.append(Table(title, columns, rows, closed=True))
    if pictures and lines:
      uris = pictures(run.sets[of_set], [line[0] for line in lines])
      captions = [f'{labelled} > {said}' for _, labelled, said, *_ in lines]
      parts.append(Faces(f'{title} (labelled > predicted)', list(zip(uris, captions, strict=True))))
  return parts or [Text('No task has one answer among classes without order.')]


def _surest(task: Task, found: Predicted) -> tuple[int, list[tuple[str, str, str, float, float]]]:
  """(how many are wrong, the surest of them: id, labelled, predicted, their scores)."""
  labels, scores = found.labels[task.name], found.scores[task.name]
  answers = scores.argmax(axis=1)
  wrong = np.flatnonzero((labels >= 0) & (answers != labels))
  lead = scores[wrong, answers[wrong]] - scores[wrong, labels[wrong]]
  order = wrong[np.argsort(-lead, kind='stable')][:_MOST_MISTAKES]
  return len(wrong), list(_lines(task, found, order, answers))


def _lines(
  task: Task, found: Predicted, rows: np.ndarray, answers: np.ndarray
) -> Iterator[tuple[str, str, str, float, float]]:
  labels, scores = found.labels[task.name], found.scores[task.name]
  for i in rows.tolist():
    label, answer = int(labels[i]), int(answers[i])
    yield (
      str(found.image_ids[i]),
      task.classes[label],
      task.classes[answer],
      float(scores[i, answer]),
      float(scores[i, label]),
    )
