"""What a config file says of its paper's table of results: columns, rows, and the figures that were published."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Column:
  """A column is the accuracy of one task over some of the config's `evaluation.sets`, taken together."""

  task: str
  sets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PaperRow:
  """A row of the table.

  Attributes:
    arguments: the config arguments (and the values of each) of runs that fill it.
    checkpoint: the selection that it shows, see `mtface.evaluate`.
    paper: column -> (mean, standard deviation or None), in percent, as published; empty for a row that the paper has not.
    stand_ins: column -> what is shown, and named as such, where a run has not the paper's data.
  """

  arguments: Mapping[str, tuple[str, ...]]
  checkpoint: str = 'last'
  paper: Mapping[str, tuple[float, float | None]] = dataclasses.field(default_factory=dict)
  stand_ins: Mapping[str, Column] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PaperTable:
  """A paper's table: its title, its columns and its rows in order."""

  title: str
  columns: Mapping[str, Column]
  rows: Mapping[str, PaperRow]
