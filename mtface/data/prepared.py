"""What a prepared set holds, as its build wrote it down: for configs that are made for a set."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

from mtface import tasks
from mtface.data.index import damaged, prepared_dir
from mtface.errors import UserError
from mtface.files import local_path
from mtface.tasks import SHIPPED, Task

_SUMMARY = 'build_summary.json'


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A prepared set.

  Attributes:
    tasks: what it labels, also in words of its own.
    splits: {split: images}.
    image_shape: (H, W, C) of the images.
  """

  tasks: tuple[Task, ...]
  splits: dict[str, int]
  image_shape: tuple[int, int, int]


def described(set_name: str, data_dir: str | os.PathLike) -> Prepared:
  """What the set `image_csv/NAME` holds.

  Raises:
    UserError: it is not prepared, or is damaged.
  """
  folder = prepared_dir(set_name, local_path(data_dir))
  try:
    summary = json.loads((folder / _SUMMARY).read_text(encoding='utf-8'))
    features = json.loads((folder / 'features.json').read_text(encoding='utf-8'))
    features = features['featuresDict']['features']
    labels = features['labels']['featuresDict']['features']
    splits = dict(summary['records'])
    by_task = next(iter(summary['labels'].values()))
    labelled = tuple(
      _task(name, counts, 'classLabel' not in labels[name]) for name, counts in by_task.items()
    )
    shape = _image_shape(features['image'])
  except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
    raise damaged(folder, set_name, error) from error
  return Prepared(labelled, splits, shape)


def check_words(set_name: str, names: Sequence[str], data_dir: str | os.PathLike) -> None:
  """Raises a UserError where a set has other classes of a task that is not mtface's own than are
  registered: two sets can call different words `mood`, and a label is only the place of a word.
  """
  own = [tasks.TASKS[name] for name in names if name in tasks.TASKS and name not in SHIPPED]
  if not own or not (prepared_dir(set_name, local_path(data_dir)) / _SUMMARY).is_file():
    return
  there = {task.name: task for task in described(set_name, data_dir).tasks}
  for task in own:
    classes = there[task.name].classes if task.name in there else task.classes
    if classes != task.classes:
      raise UserError(
        f'{set_name}: its classes of {task.name} are {", ".join(classes)}; expected '
        f'{", ".join(task.classes)}, which the run has'
      )


def _task(name: str, classes: dict[str, int], multi_label: bool) -> Task:
  """The registered task, which may know more of its classes, unless the set's words are others."""
  found = Task(name, tuple(classes), multi_label=multi_label)
  known = tasks.TASKS.get(name, found)
  same = (known.classes, known.multi_label) == (found.classes, found.multi_label)
  return known if same else found


def _image_shape(of: dict[str, Any]) -> tuple[int, int, int]:
  shape = (of['tensor'] if 'tensor' in of else of['image'])['shape']['dimensions']
  h, w, c = (int(x) for x in shape)
  return h, w, c
