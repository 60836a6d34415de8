"""A paper's table of results with ours beside it. The papers' figures stand in the config files, as `TABLE`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mtface.crossval import CROSSVAL_FILE, read_crossval
from mtface.errors import UserError
from mtface.files import local_path
from mtface.papers import Column, PaperRow, PaperTable
from mtface.results import markdown_table, read_results
from mtface.run_config import read_config


@dataclasses.dataclass(frozen=True)
class Measured:
  """What is known of a run or a cross-validation.

  Attributes:
    workdir: where it is.
    config: its configuration.
    folds: number of rounds, 1 for a single run.
    counts: (checkpoint, set, task) -> (correct, n), a list over the rounds each.
  """

  workdir: pathlib.Path
  config: ConfigDict
  folds: int
  counts: dict[tuple[str, str, str], tuple[list[int], list[int]]]


@dataclasses.dataclass(frozen=True)
class Cell:
  """Ours in a cell of the table: accuracy in percent, its deviation over the rounds (None for one), test images of each round, the sets."""

  mean: float
  std: float | None
  n: tuple[int, ...]
  sets: tuple[str, ...]


def read_measured(workdir: str | os.PathLike) -> Measured:
  """Reads the workdir of a cross-validation, or of a single run that was evaluated."""
  workdir = local_path(workdir)
  config = read_config(workdir)
  if (workdir / CROSSVAL_FILE).exists():
    content = read_crossval(workdir)
    rows, folds = content['results'], content['folds']
    counts = {(r['checkpoint'], r['set'], r['task']): (r['correct'], r['n']) for r in rows}
  else:
    rows, folds = read_results(workdir), 1
    counts = {(r['checkpoint'], r['set'], r['task']): ([r.get('correct')], [r['n']]) for r in rows}
  if not rows:
    raise UserError(f'{workdir}: nothing was measured there; run `mtface evaluate` or `mtface crossval` first')
  return Measured(workdir, config, folds, {key: value for key, value in counts.items() if None not in value[0]})


def fill(table: PaperTable, runs: Sequence[Measured]) -> dict[tuple[str, str], Cell]:
  """{(row, column): ours} for the cells that one of `runs` measured.

  Raises:
    UserError: two of the runs would fill the same cell.
  """
  cells: dict[tuple[str, str], Cell] = {}
  origin: dict[tuple[str, str], Measured] = {}
  for row_name, row in table.rows.items():
    for run in runs:
      for column in table.columns if _is_of(row, run.config) else ():
        cell = _cell(row, table.columns[column], row.stand_ins.get(column), run)
        if cell is None:
          continue
        if (row_name, column) in cells:
          raise UserError(
            f'{origin[row_name, column].workdir} and {run.workdir} both fill {column} of {row_name}; name one of them'
          )
        cells[row_name, column], origin[row_name, column] = cell, run
  return cells


def _is_of(row: PaperRow, config: ConfigDict) -> bool:
  return all(config.arguments.get(key) in values for key, values in row.arguments.items())


def _cell(row: PaperRow, column: Column, stand_in: Column | None, run: Measured) -> Cell | None:
  for choice in filter(None, (column, stand_in)):
    keys = [(row.checkpoint, name, choice.task) for name in choice.sets]
    if all(key in run.counts for key in keys):
      correct, n = (
        [sum(of_fold) for of_fold in zip(*(run.counts[key][i] for key in keys), strict=True)] for i in (0, 1)
      )
      accuracies = [100 * c / total for c, total in zip(correct, n, strict=True)]
      std = statistics.stdev(accuracies) if len(accuracies) > 1 else None
      return Cell(statistics.mean(accuracies), std, tuple(n), choice.sets)
  return None


def paper_table(table: PaperTable, runs: Sequence[Measured], *, only_filled: bool = False) -> str:
  """The paper's table as Markdown: for each row ours, the paper's and the difference in points; then what stands behind our figures.

  Args:
    table: the paper's.
    runs: what we measured.
    only_filled: leave out the rows of which nothing was measured.
  """
  cells = fill(table, runs)
  lines = []
  for name, row in table.rows.items():
    ours = [cells.get((name, column)) for column in table.columns]
    if any(ours) or not only_filled:
      lines += _lines(name, row, ours, list(table.columns))
  parts = [table.title, '', markdown_table(['', '', *table.columns], lines), '', *_notes(table, cells)]
  return '\n'.join(parts + [_about(run) for run in runs])


def _lines(name: str, row: PaperRow, ours: Sequence[Cell | None], columns: Sequence[str]) -> list[list[str]]:
  theirs = [row.paper.get(column) for column in columns]
  lines = [[name, 'ours', *('' if cell is None else _text(cell.mean, cell.std) for cell in ours)]]
  if row.paper:
    lines.append(['', 'paper', *('' if value is None else _text(*value) for value in theirs)])
  if row.paper and any(ours):
    pairs = zip(ours, theirs, strict=True)
    lines.append(
      ['', 'difference', *(f'{o.mean - t[0]:+.2f}' if o is not None and t is not None else '' for o, t in pairs)]
    )
  return lines


def _text(mean: float, std: float | None) -> str:
  return f'{mean:.2f}' + ('' if std is None else f' ± {std:.2f}')


def _notes(table: PaperTable, cells: Mapping[tuple[str, str], Cell]) -> list[str]:
  """What our figures were measured on: test images, and the sets that stand in for the paper's."""
  notes = []
  for column, meant in table.columns.items():
    here = [cell for (_, of_column), cell in cells.items() if of_column == column]
    for sets in dict.fromkeys(cell.sets for cell in here):
      counts = sorted({n for cell in here if cell.sets == sets for n in cell.n})
      n = f'{counts[0]:,}' + (f' to {counts[-1]:,}' if len(counts) > 1 else '')
      other = (
        '' if sets == meant.sets else f'; {" and ".join(sets)} in place of {" and ".join(meant.sets)}: not comparable'
      )
      notes.append(f'- {column}: {n} test images a round{other}')
  return notes


def _about(run: Measured) -> str:
  config: Any = run.config
  rounds = f'{run.folds} folds' if run.folds > 1 else 'one run'
  return f'- {config.name}: {rounds}, {config.duration} each, width {config.model.width:g} ({run.workdir})'
