"""What a prepared set holds, as its build wrote it down: for configs that are made for a set."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from mtface.data.index import damaged, prepared_dir
from mtface.files import local_path
from mtface.tasks import TASKS, Task, get_task

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
    tasks = tuple(
      _task(name, counts, 'classLabel' not in labels[name]) for name, counts in by_task.items()
    )
    shape = _image_shape(features['image'])
  except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
    raise damaged(folder, set_name, error) from error
  return Prepared(tasks, splits, shape)


def _task(name: str, classes: dict[str, int], multi_label: bool) -> Task:
  return get_task(name) if name in TASKS else Task(name, tuple(classes), multi_label=multi_label)


def _image_shape(of: dict[str, Any]) -> tuple[int, int, int]:
  shape = (of['tensor'] if 'tensor' in of else of['image'])['shape']['dimensions']
  h, w, c = (int(x) for x in shape)
  return h, w, c
