"""`mtface associate`: what a network says of one task by what it predicts of another, on faces that
need no label of either (Pons 2018, figure 2: scores of action units by predicted emotion).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np

from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen, Faces
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import markdown_table
from mtface.outputs import Scores
from mtface.tasks import Task


@dataclasses.dataclass(frozen=True)
class Association:
  """Mean scores by predicted class.

  Attributes:
    name: the set.
    by: the task whose predictions group the faces, of R classes.
    of: the task whose scores are averaged, of C classes.
    counts: int [R], faces of each predicted class.
    means: float [R, C]; NaN where no face is predicted so.
  """

  name: str
  by: Task
  of: Task
  counts: np.ndarray
  means: np.ndarray

  def present(self, threshold: float) -> dict[str, tuple[str, ...]]:
    """{class of `by`: the classes of `of` whose mean score reaches the threshold}: Pons's table 3
    lists those of at least 0.4, but leaves out one (fear's AU26, .43 in its figure 2).
    """
    return {
      name: tuple(self.of.classes[j] for j in np.flatnonzero(row >= threshold))
      for name, row in zip(self.by.classes, self.means, strict=True)
    }


def associate(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  by: str,
  of: str,
  checkpoint: str = 'last',
  on: Sequence[str] = (),
  stage: str = '',
) -> list[Association]:
  """The association of two tasks on each set.

  Args:
    workdir: of a run that predicts both tasks.
    data_dir: of the prepared sets.
    by: a single-label task.
    of: another task; its scores are probabilities, or margins (`readout.comparable`).
    checkpoint: a selection, see `mtface.evaluation.chosen`.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    stage: of the run; '' is the last one.

  Raises:
    UserError: the run does not predict one of the tasks, `by` is multi-label, or there is no set.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir)
  for flag, task in (('by', by), ('of', of)):
    if task not in chosen.tasks:
      raise UserError(f'--{flag}={task}: the run predicts {", ".join(chosen.tasks)}')
  if chosen.tasks[by].multi_label or by == of:
    raise UserError(f'--by={by}: expected a single-label task other than --of={of}')
  names = list(on) or list(evaluator.config.evaluation.sets)
  if not names:
    raise UserError(
      '--on: the run names no evaluation sets; give some, e.g. --on=sfew/rgb32:validation'
    )
  faces = {name: chosen.faces(name, labelled=False) for name in names}  # errors before the work
  return [_association(chosen, name, faces[name], by, of) for name in names]


def _association(chosen: Chosen, name: str, faces: Faces, by: str, of: str) -> Association:
  scores = (scores for scores, _ in chosen.stream(faces, show=f'{by} and {of} on {name}'))
  return association(name, chosen.tasks[by], chosen.tasks[of], scores)


def association(name: str, by: Task, of: Task, batches: Iterable[Scores]) -> Association:
  """The association of two tasks on a set, from scores {task: [b, C]} that come in batches."""
  counts = np.zeros(by.num_classes, np.int64)
  sums = np.zeros((by.num_classes, of.num_classes))
  for scores in batches:
    predicted = scores[by.name].argmax(axis=1)
    counts += np.bincount(predicted, minlength=len(counts))
    np.add.at(sums, predicted, scores[of.name])
  means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)
  return Association(name, by, of, counts, means)


def association_table(found: Association, threshold: float) -> str:
  """The means as a Markdown table, with the classes that reach the threshold."""
  present = found.present(threshold)
  lines = [
    [name, f'{n:,}', *(_text(value) for value in row), ' '.join(present[name])]
    for name, n, row in zip(found.by.classes, found.counts, found.means, strict=True)
  ]
  columns = [f'predicted {found.by.name}', 'n', *found.of.classes, f'at least {threshold:g}']
  return markdown_table(columns, lines)


def _text(value: float) -> str:
  return '' if np.isnan(value) else f'{value:.2f}'
