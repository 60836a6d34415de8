"""What faces are grouped by: labels or attributes, and several of them at a time."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping

import numpy as np

from mtface.errors import UserError


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
