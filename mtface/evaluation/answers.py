"""What a run answered on a set, task by task, beside what is labelled there and the groups that the
faces belong to. `mtface/evaluation/answers_csv.py` has the same of a csv that any tool wrote.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mtface.data.groupings import class_names, groups_of
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.metrics import expected_value
from mtface.tasks import Task


@dataclasses.dataclass(frozen=True)
class Answers:
  """The labelled answers to one task on one set.

  Attributes:
    set_name: the set; of a csv, its file's name.
    task: the task's name; `TASK/CLASS` of one class of a multi-label task.
    classes: [C], the class names; no and yes of a class of a multi-label task. Of two classes the
      second is the positive one.
    labels: int [N].
    predicted: int [N].
    probabilities: float [N, C]; None where there are none (a csv without, margins).
    groups: {what they are grouped by: text [N]}, '' where it is not known.
    subjects: text [N], who it is; '' where that is not known.
    readout: how the probabilities were made of scores: softmax or sigmoid.
    values: [C], what each class stands for, of a task that has values (ages, in years).
    top: over how many of the most probable values an answer is the mean (`config.tasks.TASK.top`).
  """

  set_name: str
  task: str
  classes: tuple[str, ...]
  labels: np.ndarray
  predicted: np.ndarray
  probabilities: np.ndarray | None
  groups: Mapping[str, np.ndarray]
  subjects: np.ndarray
  readout: str = 'softmax'
  values: tuple[float, ...] | None = None
  top: int = 1

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def confidence(self) -> np.ndarray:
    """float [N]: the probability of what was answered; there must be probabilities."""
    assert self.probabilities is not None
    return self.probabilities[np.arange(len(self)), self.predicted]

  @property
  def values_answered(self) -> np.ndarray:
    """float [N]: the values, as `mtface evaluate` and `predict` read them; there must be some."""
    values = np.asarray(self.values)
    if self.top == 1 or self.probabilities is None:
      return values[self.predicted]
    return expected_value(self.probabilities, values, self.top)

  @property
  def people(self) -> np.ndarray:
    """int [N]: a number for each person; a face of nobody known has one of its own."""
    alone = np.char.add('\x00', np.arange(len(self)).astype(str))
    return np.unique(np.where(self.subjects == '', alone, self.subjects), return_inverse=True)[1]


def answers_of_run(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoint: str = 'last',
  on: Sequence[str] = (),
  stage: str = '',
  groups: Sequence[str] = (),
  task: str = '',
  calibrated: bool = False,
) -> list[Answers]:
  """The answers of a run to each task of each set; to each class of a multi-label task.

  Args:
    workdir: of the run.
    data_dir: of the prepared sets.
    checkpoint: a selection, see `mtface.evaluation.chosen`.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    stage: of the run; '' is the last one.
    groups: labels or attributes of the sets to group by, see `groups_of`; none: `GROUPS`, those of
      them that a set has.
    task: only this one, or TASK/CLASS.
    calibrated: apply the temperatures of `mtface calibrate`.

  Raises:
    UserError: there is no set, a set has none of the groups named, or none labels the task.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir, calibrated=calibrated)
  names = list(on) or list(evaluator.config.evaluation.sets)
  if not names:
    raise UserError(
      '--on: the run names no evaluation sets; give some, e.g. --on=utkface/gray48:train'
    )
  faces = {name: chosen.faces(name) for name in names}
  by = {name: groups_of(of.own, data_dir, groups) for name, of in faces.items()}
  wanted = {name: _wanted(chosen.tasks, of.own, task) for name, of in faces.items()}
  if not any(wanted.values()):
    raise UserError(
      f'--task={task}: the sets {", ".join(names)} label no such task of the run, which predicts '
      f'{", ".join(chosen.tasks)}'
    )
  found = []
  for name, tasks in wanted.items():
    scores = chosen.predictions(faces[name]) if tasks else {}
    for of in tasks:
      split = _classes if of.multi_label else _whole
      readout = chosen.readout(of.name)
      parts = split(name, of, faces[name].own, scores[of.name], readout, by[name])
      top = evaluator.config.tasks[of.name].top if of.name in evaluator.config.tasks else 1
      found += [
        dataclasses.replace(part, top=top)
        for part in parts
        if len(part) and task in ('', of.name, part.task)
      ]
  return found


def _wanted(tasks: Mapping[str, Task], source: Source, name: str) -> list[Task]:
  """The tasks that a source labels; with a name, the one that it is or is a class of."""
  return [
    of
    for of in tasks.values()
    if of.name in source.labels
    and (name in ('', of.name) or (of.multi_label and name in class_names(of)))
  ]


_Groups = Mapping[str, np.ndarray]


def _whole(
  name: str, task: Task, source: Source, scores: np.ndarray, readout: str, groups: _Groups
) -> Iterator[Answers]:
  """Those to a single-label task."""
  known = np.flatnonzero(source.mask[task.name])
  yield Answers(
    name,
    task.name,
    task.classes,
    source.labels[task.name][known],
    scores.argmax(axis=1)[known],
    None if readout == 'margins' else scores[known],
    {by: values[known] for by, values in groups.items()},
    source.subjects[known],
    readout,
    task.values,
  )


def _classes(
  name: str, task: Task, source: Source, scores: np.ndarray, readout: str, groups: _Groups
) -> Iterator[Answers]:
  """Those to each class of a multi-label task."""
  for i, of_class in enumerate(class_names(task)):
    known = np.flatnonzero(source.mask[task.name][:, i])
    yes = scores[known, i]
    yield Answers(
      name,
      of_class,
      ('no', 'yes'),
      source.labels[task.name][known, i],
      (yes > (0 if readout == 'margins' else 0.5)).astype(np.int64),
      None if readout == 'margins' else np.stack([1 - yes, yes], axis=1),
      {by: values[known] for by, values in groups.items()},
      source.subjects[known],
      readout,
    )
