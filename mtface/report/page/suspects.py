"""Labels that are probably wrong, by confident learning (Northcutt, Jiang and Chuang 2021) as
cleanlab does it, from what a network says of images that it was not trained on.
"""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from mtface.errors import UserError
from mtface.evaluation.calibrate import trained_on
from mtface.evaluation.calibration import confidences
from mtface.files import write_csv
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import Cell, Missing, Part, Table, Text, number
from mtface.report.page.predicted import Predicted
from mtface.tasks import Task

CORRECTIONS_FILE = 'corrections.csv'
_COLUMNS = ('path', 'task', 'label', 'found', 'set', 'score of found', 'score of label')
_MOST_CLASSES = 256  # identities: confident learning counts pairs of classes
_MOST_SHOWN = 25
_INSTALL = "pip install 'mtface[report]'"


@dataclasses.dataclass(frozen=True)
class Suspect:
  """A label that is probably wrong.

  Attributes:
    image_id: of the image.
    set_name: the set that it is in.
    task: the task, or TASK/CLASS of a multi-label one, whose labels are 1 and 0.
    found: the label as it is.
    suggested: what the network says instead.
    score_found, score_suggested: their probabilities.
  """

  image_id: str
  set_name: str
  task: str
  found: str
  suggested: str
  score_found: float
  score_suggested: float


def find_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
  """int [M]: the rows whose labels are probably wrong, the most probable first.

  Args:
    labels: int [N], each known.
    probabilities: float [N, C], of a network that was not trained on these rows.

  Raises:
    UserError: cleanlab is not installed.
  """
  try:
    from cleanlab.filter import find_label_issues
  except ImportError as error:
    raise UserError(f'suspected label errors need cleanlab: {_INSTALL}') from error
  if not len(labels):
    return np.zeros(0, np.int64)
  with warnings.catch_warnings(action='ignore'):  # of classes with few faces
    return find_label_issues(
      labels, probabilities, return_indices_ranked_by='self_confidence', n_jobs=1
    )


def suspects(name: str, task: Task, found: Predicted) -> list[Suspect]:
  """The suspected labels of a task on a set, the most probable errors first."""
  if task.multi_label:
    of_classes = [
      one for i, of in enumerate(task.classes) for one in _of_class(name, task.name, of, i, found)
    ]
    return sorted(of_classes, key=lambda one: one.score_found)
  labels, scores = found.labels[task.name], found.scores[task.name]
  rows = np.flatnonzero(labels >= 0)
  return list(
    _listed(name, task.name, task.classes, found.image_ids[rows], labels[rows], scores[rows])
  )


def _of_class(name: str, task: str, of: str, i: int, found: Predicted) -> Iterator[Suspect]:
  """A class of a multi-label task is a question of its own, of yes and no."""
  labels, yes = found.labels[task][:, i], found.scores[task][:, i]
  rows = np.flatnonzero(labels >= 0)
  scores = np.stack([1 - yes, yes], axis=1)
  yield from _listed(
    name, f'{task}/{of}', ('0', '1'), found.image_ids[rows], labels[rows], scores[rows]
  )


def _listed(
  name: str,
  task: str,
  classes: Sequence[str],
  ids: np.ndarray,
  labels: np.ndarray,
  scores: np.ndarray,
) -> Iterator[Suspect]:
  for i in find_issues(labels, scores).tolist():
    label, answer = int(labels[i]), int(scores[i].argmax())
    if answer != label:
      yield Suspect(
        str(ids[i]),
        name,
        task,
        classes[label],
        classes[answer],
        float(scores[i, label]),
        float(scores[i, answer]),
      )


def write_corrections(path: pathlib.Path, found: Sequence[Suspect]) -> None:
  """Writes suspected labels as a csv for people to go through: `path` (the image's id), `task`,
  `label` (suggested), `found` (as it is), the set, and the scores of both.

  A build of image_csv takes the first three columns; strike the lines that are right as they are.
  """
  rows = [
    (
      of.image_id,
      of.task,
      of.suggested,
      of.found,
      of.set_name,
      f'{of.score_found:.4f}',
      f'{of.score_suggested:.4f}',
    )
    for of in found
  ]
  write_csv(path, _COLUMNS, rows)


def section(run: Gathered) -> list[Part]:
  """The suspected labels of each set and task; all of them go to report/corrections.csv."""
  every: list[Suspect] = []
  parts: list[Part] = []
  try:
    for name, task, predicted in run.labelled():
      if why := _unfit(run, name, task, predicted):
        parts.append(Text(f'{task.name} on {name} was not looked at: {why}.'))
        continue
      found = suspects(name, task, predicted)
      every += found
      parts.append(_table(name, task, found, predicted))
  except UserError as error:
    return [Missing(str(error), _INSTALL)]
  path = run.folder / 'report' / CORRECTIONS_FILE
  write_corrections(path, every)
  text = (
    f'All {len(every):,} are in {path.relative_to(run.workdir)} with the label suggested, the most '
    'suspicious first. Look at each before a build takes it: the less a network agrees with the '
    'labels of a task, the more of these are its own mistakes.'
  )
  return [Text(text), *parts]


def _unfit(run: Gathered, name: str, task: Task, predicted: Predicted) -> str:
  if trained_on(run.config, run.sets[name], predicted.image_ids, run.data_dir):
    return 'the network was trained on these very images, or some of them'
  if run.outputs.readout(task.name) == 'margins':
    return 'its scores are margins, no probabilities'
  if task.values is not None:
    return 'a year more or less is no error'
  return 'it has too many classes' if task.num_classes > _MOST_CLASSES else ''


def _table(name: str, task: Task, found: Sequence[Suspect], predicted: Predicted) -> Table:
  rows: list[list[Cell]] = [
    [
      of.image_id,
      of.task,
      of.found,
      of.suggested,
      number(of.score_found),
      number(of.score_suggested),
    ]
    for of in found[:_MOST_SHOWN]
  ]
  right = confidences(predicted.scores[task.name], predicted.labels[task.name])[1]
  title = (
    f'{task.name} on {name}: {len(found):,} of {len(right):,} labels are suspected, and the '
    f'network agrees with {right.mean():.1%}'
  )
  rest = '' if len(found) <= _MOST_SHOWN else f'; the first {_MOST_SHOWN}'
  columns = (
    'image',
    'task',
    'labelled',
    'suggested',
    "the label's score",
    "the suggestion's score",
  )
  return Table(title + rest, columns, rows, closed=True)
