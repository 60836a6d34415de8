"""Which columns of which scores answer which task, and how they are read: a head for each task, or
one layer over the union of their classes. Nothing else knows the layout of a network's scores.

In a union (Pons 2018, section 3 and figure 1c) classes of the same name in two tasks are one
output: a face that one set calls happy and another happily surprised teaches the same column. Tasks
that are to be `apart` have outputs of their own, named `TASK/CLASS`. So has every class that is
called by a number: the person 20 of a set is neither that of another set nor 20 years old.

Some tasks are answered by columns of another one's, although nothing is learnt for them (`VIEWS`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtface.tasks import TASKS, Task, get_task

Scores = dict[str, Any]  # task (or layer) -> [B, C], NumPy or JAX

UNION = 'union'  # the layer's name

# How scores become what may be averaged and shown: `readout.comparable`.
READOUTS = ('softmax', 'sigmoid', 'margins')

# Tasks that another one answers too, with the scores of these of its classes: 8 emotions scored on
# 7 (Savchenko 2021, section 2.2), and the compound ones among EmotioNet's 16 (Pons 2018, section
# 4.3).
VIEWS: dict[str, tuple[str, tuple[int, ...]]] = {
  'emotion7': ('emotion8', tuple(range(TASKS['emotion7'].num_classes))),
  'compound8': (
    'compound_emotion',
    tuple(map(TASKS['compound_emotion'].classes.index, TASKS['compound8'].classes)),
  ),
}


class Place(NamedTuple):
  """Where a task's scores are.

  Attributes:
    layer: the name of an output layer.
    columns: the column of each of the task's classes; None: the layer is the task's own.
  """

  layer: str
  columns: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Outputs:
  """The output layers of a network, and the tasks that they answer.

  Attributes:
    tasks: what is learnt, by name.
    layers: a network's heads: a `Task` each, whose classes are the layer's outputs.
    places: where the scores of each learnt task are.
    readouts: {task: one of READOUTS} of the learnt tasks.
  """

  tasks: dict[str, Task]
  layers: tuple[Task, ...]
  places: dict[str, Place]
  readouts: dict[str, str]

  @classmethod
  def heads(cls, tasks: Iterable[Task], readouts: Mapping[str, str] | None = None) -> Outputs:
    """A head for each task. `readouts` of tasks that are not named follow from their form."""
    made = {task.name: task for task in tasks}
    places = {name: Place(name) for name in made}
    return cls(made, tuple(made.values()), places, _readouts(made, readouts))

  @classmethod
  def union(
    cls,
    tasks: Iterable[Task],
    readouts: Mapping[str, str] | None = None,
    apart: Collection[str] = (),
  ) -> Outputs:
    """One layer over the union of the tasks' classes; those of the tasks in `apart` share
    nothing.
    """
    made = {task.name: task for task in tasks}
    names = {name: _output_names(task, name in apart) for name, task in made.items()}
    classes = tuple(dict.fromkeys(name for of_task in names.values() for name in of_task))
    places = {
      name: Place(UNION, tuple(map(classes.index, of_task))) for name, of_task in names.items()
    }
    layer = Task(UNION, classes, multi_label=True)
    return cls(made, (layer,), places, _readouts(made, readouts))

  @property
  def answered(self) -> dict[str, Task]:
    """The learnt tasks, and those that one of them answers too (`VIEWS`)."""
    return self.tasks | {view: get_task(view) for view in self._views()}

  def readout(self, task: str) -> str:
    """How the scores of an answered task are read: a view's as those of the task it is a part
    of.
    """
    return self.readouts[task if task in self.readouts else VIEWS[task][0]]

  def split(self, layers: Scores) -> Scores:
    """{learnt task: [B, C]} from {layer: [B, outputs]}."""
    return {task: _columns(layers[of], columns) for task, (of, columns) in self.places.items()}

  def answers(self, layers: Scores) -> Scores:
    """`split`, and the scores of the views."""
    scores = self.split(layers)
    return scores | {
      view: _columns(scores[VIEWS[view][0]], VIEWS[view][1]) for view in self._views()
    }

  def shared(self) -> dict[str, tuple[str, ...]]:
    """{output: the tasks that share it} of those outputs that several do."""
    owners: dict[str, list[str]] = {}
    for task, (layer, columns) in self.places.items():
      classes = next(of.classes for of in self.layers if of.name == layer)
      for column in columns or ():
        owners.setdefault(classes[column], []).append(task)
    return {name: tuple(of) for name, of in owners.items() if len(of) > 1}

  def other_layers(self, there: Outputs) -> frozenset[str]:
    """The layers of another network that are called as one of these but have other classes, as
    unions of other tasks.
    """
    own = {layer.name: layer.classes for layer in self.layers}
    return frozenset(
      layer.name for layer in there.layers if own.get(layer.name, layer.classes) != layer.classes
    )

  def _views(self) -> list[str]:
    return [view for view, (of, _) in VIEWS.items() if of in self.tasks and view not in self.tasks]


def _output_names(task: Task, apart: bool) -> tuple[str, ...]:
  return tuple(
    f'{task.name}/{name}' if apart or name.isdecimal() else name for name in task.classes
  )


def _readouts(tasks: Mapping[str, Task], given: Mapping[str, str] | None) -> dict[str, str]:
  usual = {name: 'sigmoid' if task.multi_label else 'softmax' for name, task in tasks.items()}
  return usual | {name: of for name, of in (given or {}).items() if name in tasks}


def _columns(scores: Any, columns: Sequence[int] | None) -> Any:
  """Some columns of scores [B, C]; neighbours as a slice, whose gradient is no scatter."""
  if columns is None:
    return scores
  first = columns[0]
  if tuple(columns) == tuple(range(first, first + len(columns))):
    return scores[:, first : first + len(columns)]
  return scores[:, np.asarray(columns)]
