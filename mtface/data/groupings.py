"""What faces are grouped by: labels or attributes, and several of them at a time. For the audit
(mtface/evaluation/audit.py), and for training on groups of equal weight (mtface/data/mixing.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.tasks import AGE_GROUP_BOUNDS, Task, get_task

# What a run is audited by where nothing else is asked for, as far as a set labels it.
GROUPS = ('gender', 'age_group', 'age_decades', 'ethnicity5', 'ethnicity7')
MOST_GROUPS = 50  # more different values are no groups: years, ids, scores


@dataclasses.dataclass(frozen=True)
class Grouping:
  """What faces are grouped by.

  Attributes:
    by: its name.
    groups: the names of the groups.
    codes: int [N], the group of each face; -1 where it is not known.
  """

  by: str
  groups: tuple[str, ...]
  codes: np.ndarray


def everyone(n: int) -> Grouping:
  """All N faces as one group."""
  return Grouping('', ('all',), np.zeros(n, np.int64))


def groupings_of(columns: Mapping[str, np.ndarray], together: int) -> list[Grouping]:
  """By each column alone, by each pair, and so on up to `together` of them.

  Args:
    columns: {name: text [N]}, '' where it is not known.
    together: at least 1.

  Raises:
    UserError: nothing is known of a column, or of two together.
  """
  sizes = range(1, min(together, len(columns)) + 1)
  chosen = itertools.chain.from_iterable(itertools.combinations(columns, size) for size in sizes)
  found = [_grouping({name: columns[name] for name in names}) for names in chosen]
  if empty := [of.by for of in found if not of.groups]:
    raise UserError(f'--groups: nothing is known of {", ".join(empty)} for the labelled faces')
  return found


def _grouping(columns: Mapping[str, np.ndarray]) -> Grouping:
  lines = np.stack([values.astype(str) for values in columns.values()], axis=1)
  known = (lines != '').all(axis=1)
  there = sorted({tuple(line) for line in lines[known].tolist()}, key=lambda of: [*map(_rank, of)])
  place = {names: k for k, names in enumerate(there)}
  codes = np.array([place.get(tuple(line), -1) for line in lines.tolist()], np.int64)
  return Grouping(' x '.join(columns), tuple(map(', '.join, there)), codes)


def _rank(name: str) -> tuple[float, str]:
  """Numbers and ranges of them in their order, words behind them: 3-9, 10-19, 61+, female."""
  start = re.match(r'\d+', name)
  return (float(start[0]) if start else np.inf), name


# --- Of a prepared set ----------------------------------------------------------------------------


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
  several = [name for of in tasks if of.multi_label for name in class_names(of)]
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


def class_names(task: Task) -> list[str]:
  """What the classes of a multi-label task are called where each is asked for by itself."""
  return [f'{task.name}/{name}' for name in task.classes]


def balanced_groups(
  sources: Sequence[Source], data_dir: str | os.PathLike, names: Sequence[str]
) -> dict[int, np.ndarray]:
  """{index of a source: int [N], the group of each of its faces by all of these names that it has};
  -1 where one is not known. Sources that have none of the names are not in it.

  Args:
    sources: what is trained on.
    data_dir: where the sets' other labels are.
    names: labels or attributes, as in `groups_of`.

  Raises:
    UserError: no source has one of the names.
  """
  found, missing = {}, set(names)
  for i, source in enumerate(sources):
    whole = _as_it_is(source, data_dir)
    if there := [name for name in names if name in _names(whole)]:
      found[i] = _grouping({name: _column(whole, name) for name in there}).codes
      missing -= set(there)
  for name in names:
    if name in missing:
      raise UserError(f'config.balance: no source has a label or attribute {name!r}')
  return found
