"""What a config file says about its paper's tables, in `TABLES`: columns, rows, and the published
figures.

Our cells are filled from the rows that commands leave in a run's workdir: `mtface evaluate`
(results.json, or crossval.json), `identify`, `classify` and `video`. Figures of other authors,
which none of our runs fills, are rows too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mtface.errors import UserError

COMMANDS = ('evaluate', 'identify', 'classify', 'video')
_POOLED = ('accuracy', 'mae')  # figures defined over several sets taken together


@dataclasses.dataclass(frozen=True)
class Column:
  """A column: one figure of one task, over one set or several sets taken together.

  Attributes:
    task: the task of the rows to use; '': any (rows of `identify` have none).
    sets: names in the config's `evaluation.sets`; for other commands, the measured source.
    figure: a field of those rows: accuracy, balanced_accuracy, macro_f1, mae, accuracies (one per
      gallery) ...
    command: the one of COMMANDS that left the rows.
    where: field -> allowed values, in addition to those of the table's row.
    stage: the stage whose rows to use; None: that of the table's row.
    of_class: the class whose value to take of a figure that has one for each (per_class_accuracy).
    best: if several rows match, take the one with the highest figure (for papers that show the best
      of several classifiers).
  """

  task: str
  sets: tuple[str, ...]
  figure: str = 'accuracy'
  command: str = 'evaluate'
  where: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  best: bool = False
  of_class: str = ''
  stage: str | None = None

  def __post_init__(self) -> None:
    if self.command not in COMMANDS:
      raise UserError(
        f'TABLES: unknown command {self.command!r} of a column; expected {", ".join(COMMANDS)}'
      )
    if self.figure.startswith('per_class_') != bool(self.of_class):
      raise UserError(
        f'TABLES: figure {self.figure} with of_class={self.of_class!r}: a figure per_class_... '
        'needs a class, and no other has one'
      )
    if len(self.sets) > 1 and self.figure not in _POOLED:
      raise UserError(
        f'TABLES: {self.figure} of {" and ".join(self.sets)} together is not defined; name one '
        'set, '
        f'or use {" or ".join(_POOLED)}'
      )


@dataclasses.dataclass(frozen=True)
class PaperRow:
  """A row of a table.

  Attributes:
    arguments: the config arguments (and their values) of the runs that fill it; None: no run does,
      the figures are other authors'.
    checkpoint: the selection to show, see `mtface.evaluation.evaluate`.
    paper: column -> (mean, standard deviation or None), as published: percent, or years; empty for
      a row that is not in the paper.
    stand_ins: column -> what to show instead, named as such, if a run lacks the paper's data; of
      several, the first that a run has.
    stage: the runs' stage, unless a column names another; '': runs without stages.
    where: field -> allowed values of a measured row, such as {'classifier': ('svm',)}.
    columns: columns that are defined differently in this row.
    label: the text before the published figures.
    members: of a row that averages several runs, the arguments of each of the others, of which the
      same selection takes part.
  """

  arguments: Mapping[str, tuple[Any, ...]] | None
  checkpoint: str = 'last'
  paper: Mapping[str, tuple[float, float | None]] = dataclasses.field(default_factory=dict)
  stand_ins: Mapping[str, Column | Sequence[Column]] = dataclasses.field(default_factory=dict)
  stage: str = ''
  where: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  columns: Mapping[str, Column] = dataclasses.field(default_factory=dict)
  label: str = 'paper'
  members: Sequence[Mapping[str, tuple[Any, ...]]] = ()


@dataclasses.dataclass(frozen=True)
class PaperTable:
  """A paper's table.

  Attributes:
    title: the title, including the table's number.
    columns: by name; None: a column that none of our runs fills.
    rows: by name, in order.
    notes: lines below the table.
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
