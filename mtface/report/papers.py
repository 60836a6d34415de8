"""What a config file says of its paper's tables, in `TABLES`: columns, rows, and the figures that
were published.

A cell of ours is found among the rows that commands leave in a run's workdir: of `mtface evaluate`
(results.json, or crossval.json), `identify`, `classify` and `video`. Figures of other authors,
which no run of ours fills, are rows too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mtface.errors import UserError

COMMANDS = ('evaluate', 'identify', 'classify', 'video')
_POOLED = ('accuracy', 'mae')  # figures that several sets taken together have


@dataclasses.dataclass(frozen=True)
class Column:
  """A column: one figure of one task, over one or some sets taken together.

  Attributes:
    task: whose rows count; '': any (rows of `identify` have none).
    sets: names in the config's `evaluation.sets`; of other commands the source that was measured.
    figure: a field of those rows: accuracy, balanced_accuracy, macro_f1, mae, accuracies (one a
      gallery) ...
    command: of COMMANDS, which left the rows.
    where: field -> the values that it may have, beside what the table's row asks.
    best: of several rows that fit, take the one with the highest figure (a paper that shows the
      best of several classifiers).
  """

  task: str
  sets: tuple[str, ...]
  figure: str = 'accuracy'
  command: str = 'evaluate'
  where: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  best: bool = False

  def __post_init__(self) -> None:
    if self.command not in COMMANDS:
      raise UserError(
        f'TABLES: a column has the command {self.command!r}; there are {", ".join(COMMANDS)}'
      )
    if len(self.sets) > 1 and self.figure not in _POOLED:
      raise UserError(
        f'TABLES: {self.figure} of {" and ".join(self.sets)} together is not known; name one set, '
        f'or take {" or ".join(_POOLED)}'
      )


@dataclasses.dataclass(frozen=True)
class PaperRow:
  """A row of a table.

  Attributes:
    arguments: the config arguments (and the values of each) of runs that fill it; None: no run
      does, the figures are others'.
    checkpoint: the selection that it shows, see `mtface.evaluation.evaluate`.
    paper: column -> (mean, standard deviation or None), as published: percent, or years; empty for
      a row that the paper has not.
    stand_ins: column -> what is shown, and named as such, where a run has not the paper's data.
    stage: of the runs; '': runs without stages.
    where: field -> the values that a measured row may have, such as {'classifier': ('svm',)}.
    columns: columns that are another thing in this row.
    label: what stands before the published figures.
  """

  arguments: Mapping[str, tuple[Any, ...]] | None
  checkpoint: str = 'last'
  paper: Mapping[str, tuple[float, float | None]] = dataclasses.field(default_factory=dict)
  stand_ins: Mapping[str, Column] = dataclasses.field(default_factory=dict)
  stage: str = ''
  where: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
  label: str = 'paper'


@dataclasses.dataclass(frozen=True)
class PaperTable:
  """A paper's table.

  Attributes:
    title: with its number.
    columns: by name; None: one that no run of ours fills.
    rows: by name, in order.
    notes: lines below it.
  """

  title: str
  columns: Mapping[str, Column | None]
  rows: Mapping[str, PaperRow]
  notes: tuple[str, ...] = ()


def others(
  figures: Mapping[str, Mapping[str, float | tuple[float, float | None]]],
) -> dict[str, PaperRow]:
  """Rows of other authors' figures: {row: {column: mean, or (mean, deviation)}}."""
  return {
    name: PaperRow(
      None, paper={column: x if isinstance(x, tuple) else (x, None) for column, x in of_row.items()}
    )
    for name, of_row in figures.items()
  }
