"""What a run answered on a set, task by task, beside what is labelled there and the groups that the
faces belong to. `mtface/evaluation/answers_csv.py` has the same of a csv that any tool wrote.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.tasks import AGE_GROUP_BOUNDS, Task, get_task

# What a run is audited by where nothing else is asked for, as far as a set labels it.
GROUPS = ('gender', 'age_group', 'age_decades', 'ethnicity5', 'ethnicity7')
MOST_GROUPS = 50  # more different values are no groups: years, ids, scores


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

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def confidence(self) -> np.ndarray:
    """float [N]: the probability of what was answered; there must be probabilities."""
    assert self.probabilities is not None
    return self.probabilities[np.arange(len(self)), self.predicted]

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
      found += [part for part in parts if len(part) and task in ('', of.name, part.task)]
  return found


def _wanted(tasks: Mapping[str, Task], source: Source, name: str) -> list[Task]:
  """The tasks that a source labels; with a name, the one that it is or is a class of."""
  return [
    of
    for of in tasks.values()
    if of.name in source.labels
    and (name in ('', of.name) or (of.multi_label and name in _class_names(of)))
  ]


def _class_names(task: Task) -> list[str]:
  return [f'{task.name}/{name}' for name in task.classes]


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
  for i, of_class in enumerate(_class_names(task)):
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


# --- Groups of a set ------------------------------------------------------------------------------


def groups_of(
  source: Source, data_dir: str | os.PathLike, names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
  """{what a set's faces are grouped by: text [N]}, '' where it is not known.

  Groups are the classes of a label with at most 50 of them (age_years count as age_group), a class
  of a multi-label task (`celeba_attributes/Young`: `Young` and `not Young`), or the values of an
  attribute that is a text, a truth value or a whole number.

  Args:
    source: the faces.
    data_dir: where the set's other labels are.
    names: which; none: those of `GROUPS` that the set has.

  Raises:
    UserError: the set does not have one of the names.
  """
  all_labels = _as_it_is(source, data_dir)
  have = _names(all_labels)
  for name in names:
    if name not in have:
      raise UserError(
        f'--groups={name}: {source.name} has no such label or attribute; it has '
        f'{", ".join(have) or "none"}'
      )
  found = {name: _column(all_labels, name) for name in names or [x for x in GROUPS if x in have]}
  check_groups(found, source.name)
  return found


def check_groups(groups: Mapping[str, np.ndarray], where: str) -> None:
  """Checks that what faces are to be grouped by has few values.

  Raises:
    UserError: it has more than 50.
  """
  for name, values in groups.items():
    if (count := len(set(values.tolist()) - {''})) > MOST_GROUPS:
      raise UserError(
        f'--groups={name}: {where} has {count:,} different values of it; name one of at most '
        f'{MOST_GROUPS}, as decades for years'
      )


def _as_it_is(source: Source, data_dir: str | os.PathLike) -> Source:
  """The same faces with every label that the set has, not only those of the run's tasks."""
  whole = load_source(source.name, data_dir)
  place = {image_id: row for row, image_id in enumerate(whole.image_ids.tolist())}
  return whole.take(np.array([place[x] for x in source.image_ids.tolist()], np.int64))


def _names(source: Source) -> list[str]:
  tasks = [get_task(name) for name in source.labels]
  few = [of.name for of in tasks if not of.multi_label and of.num_classes <= MOST_GROUPS]
  years = ['age_group'] if 'age_years' in source.labels and 'age_group' not in few else []
  several = [name for of in tasks if of.multi_label for name in _class_names(of)]
  attributes = [
    name
    for name, values in source.attributes.items()
    if values.ndim == 1 and values.dtype.kind in 'Ubiu'
  ]
  return [*few, *years, *several, *attributes]


def _column(source: Source, name: str) -> np.ndarray:
  """text [N]."""
  if name in source.labels:
    return np.where(source.mask[name], np.array(get_task(name).classes)[source.labels[name]], '')
  if name in source.attributes:
    return source.attributes[name].astype(str)
  if name == 'age_group':
    classes = np.array(get_task('age_group').classes)
    place = np.searchsorted(AGE_GROUP_BOUNDS, source.labels['age_years'])
    return np.where(source.mask['age_years'], classes[place], '')
  task, _, of_class = name.partition('/')
  i = get_task(task).classes.index(of_class)
  text = np.where(source.labels[task][:, i] > 0, of_class, f'not {of_class}')
  return np.where(source.mask[task][:, i], text, '')
