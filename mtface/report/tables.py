"""A paper's result tables with our results alongside. The papers' figures are in the config files,
as `TABLES`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from mtface.config.saved import read_config
from mtface.errors import UserError
from mtface.evaluation.crossval import CROSSVAL_FILE, read_crossval
from mtface.evaluation.results import Row, markdown_table, read_results, read_rows
from mtface.features.classify import CLASSIFY_FILE
from mtface.features.classify_clips import VIDEO_FILE
from mtface.features.identify import IDENTIFY_FILE
from mtface.files import local_path, split_selection
from mtface.report.papers import Column, PaperRow, PaperTable

# For each command: its file, the field that names what was measured, and the field that counts it.
_FILES = {
  'evaluate': ('', 'set', 'n'),
  'identify': (IDENTIFY_FILE, 'source', 'probes'),
  'classify': (CLASSIFY_FILE, 'test', 'n'),
  'video': (VIDEO_FILE, 'test', 'n'),
}
_UNITS = {'mae': 1.0}  # for figures that are not proportions
_RESULT = ('seconds', 'checksums', 'steps')  # fields that do not distinguish two measurements


@dataclasses.dataclass(frozen=True)
class Measured:
  """The results of a run or a cross-validation.

  Attributes:
    workdir: its folder.
    config: its configuration.
    folds: number of rounds, 1 for a single run.
    rows: command -> the rows that it left; for a cross-validation, figures and counts are lists
      over the rounds.
  """

  workdir: pathlib.Path
  config: ConfigDict
  folds: int
  rows: Mapping[str, Sequence[Row]]


@dataclasses.dataclass(frozen=True)
class Cell:
  """Our entry in a cell of the table.

  Attributes:
    values: the figure in percent (age errors in years), one a round or seed.
    n: how many images, probes or clips each round has.
    sets: what was measured.
  """

  values: tuple[float, ...]
  n: tuple[int, ...]
  sets: tuple[str, ...]

  @property
  def mean(self) -> float:
    """Over the rounds and seeds."""
    return statistics.mean(self.values)

  @property
  def std(self) -> float | None:
    """Their deviation (of the sample); None for a single one."""
    return statistics.stdev(self.values) if len(self.values) > 1 else None

  def __add__(self, other: Cell) -> Cell:
    """The cell of more runs, of other seeds."""
    return Cell(self.values + other.values, self.n + other.n, self.sets)


def tables_of(module: ModuleType | None) -> dict[str, PaperTable]:
  """The tables of a config file, by number; empty if it defines none."""
  return dict(getattr(module, 'TABLES', {}))


def read_measured(workdir: str | os.PathLike) -> Measured:
  """Reads the workdir of a cross-validation, or of a single evaluated run.

  Raises:
    UserError: the workdir has no results, or a file is damaged.
  """
  workdir = local_path(workdir)
  config = read_config(workdir)
  rows, folds = {}, 1
  for command, (file, measured, _) in _FILES.items():
    rows[command] = (
      read_rows(workdir / file, ('checkpoint', measured), command)
      if file
      else read_results(workdir)
    )
  if (workdir / CROSSVAL_FILE).exists():
    content = read_crossval(workdir)
    rows['evaluate'], folds = content['results'], content['folds']
  if not any(rows.values()):
    raise UserError(f'{workdir}: has no results; run `mtface evaluate` or `mtface crossval` first')
  return Measured(workdir, config, folds, rows)


def fill(table: PaperTable, runs: Sequence[Measured]) -> dict[tuple[str, str], Cell]:
  """{(row, column): ours} for the cells that one of `runs` measured. Runs that differ in nothing
  but their seed fill a cell together.

  Raises:
    UserError: two other runs, seeds on different sets, or two measurements of one would fill the
      same cell.
  """
  cells: dict[tuple[str, str], Cell] = {}
  origin: dict[tuple[str, str], list[Measured]] = {}
  for row_name, row in table.rows.items():
    for run in runs:
      for name, column in table.columns.items() if _is_of(row, run.config) else ():
        cell = _cell(row, _choices(row, name, column), run)
        if cell is None:
          continue
        before = origin.setdefault((row_name, name), [])
        if before and not _differ_in_seed_alone([*before, run]):
          raise UserError(
            f'{before[0].workdir} and {run.workdir} both fill the cell {name} of {row_name}, and '
            'differ in more than their seed; pass only one of them'
          )
        if before and cell.sets != cells[row_name, name].sets:
          raise UserError(
            f'{before[0].workdir} was measured on {_and(cells[row_name, name].sets)}, '
            f'{run.workdir} on {_and(cell.sets)}: they cannot fill the cell {name} of {row_name} '
            'together; evaluate both on the same sets'
          )
        cells[row_name, name] = cells[row_name, name] + cell if before else cell
        before.append(run)
  return cells


def _differ_in_seed_alone(runs: Sequence[Measured]) -> bool:
  """Whether runs are the same experiment with as many seeds."""
  seeds = [run.config.seed for run in runs]
  rest = [run.config.to_dict() | {'seed': 0, 'name': ''} for run in runs]
  return len(set(seeds)) == len(runs) and all(of == rest[0] for of in rest)


def _is_of(row: PaperRow, config: ConfigDict) -> bool:
  return row.arguments is not None and _are_of(row.arguments, config.arguments)


def _are_of(wanted: Mapping[str, tuple[Any, ...]], arguments: Any) -> bool:
  return all(arguments.get(name) in values for name, values in wanted.items())


def _choices(row: PaperRow, name: str, column: Column | None) -> list[Column]:
  """What may fill a row's cell of a column: the paper's sets, or else those that stand in."""
  of_row, instead = row.columns.get(name, column), row.stand_ins.get(name, ())
  stand_ins = [instead] if isinstance(instead, Column) else list(instead)
  return [*([of_row] if of_row else []), *stand_ins]


def _cell(row: PaperRow, choices: Sequence[Column], run: Measured) -> Cell | None:
  for choice in choices:
    found = [_measurement(row, choice, name, run) for name in choice.sets]
    measured = [one for one in found if one is not None]
    if len(measured) == len(found):
      values, n = _together(choice, measured)
      return Cell(tuple(values), tuple(n), choice.sets)
  return None


def _measurement(row: PaperRow, column: Column, name: str, run: Measured) -> Row | None:
  """The measured row that a cell shows; None if there is none."""
  measured = _FILES[column.command][1]
  wanted = dict(row.where) | dict(column.where) | {measured: (name,)}
  if column.task:
    wanted['task'] = (column.task,)
  found = [
    _of_class(one, column)
    for one in run.rows[column.command]
    if one.get('stage', '') == (row.stage if column.stage is None else column.stage)
    and _is_selected(one, row)
    and all(one.get(field) in values for field, values in wanted.items())
  ]
  found = [one for one in found if None not in _values(one.get(column.figure))]
  if column.best:
    return max(found, key=lambda one: statistics.mean(_values(one[column.figure])), default=None)
  if len(found) > 1:
    fields = [k for k in found[0] if k not in _RESULT and not isinstance(found[0][k], float | list)]
    differ = next((k for k in fields if found[0][k] != found[1].get(k)), column.figure)
    raise UserError(
      f'{run.workdir}: {len(found)} results of `mtface {column.command}` for {name} match one '
      f'cell; they differ in {differ} '
      f'({found[0].get(differ)}, {found[1].get(differ)}): the table cannot choose'
    )
  return found[0] if found else None


def _is_selected(one: Row, row: PaperRow) -> bool:
  """Whether a measured row is of the selection that the table's row shows, and of its runs."""
  own, *others = one['checkpoint'].split('+')
  members = one.get('members', [])  # which rows of a cross-validation do not have
  return (
    own == row.checkpoint
    and len(others) == len(members) == len(row.members)
    and all(split_selection(of['checkpoint'])[1] == row.checkpoint for of in members)
    and all(any(_are_of(of, member['arguments']) for member in members) for of in row.members)
  )


def _of_class(one: Row, column: Column) -> Row:
  """A measured row with the figure of one class, and how many images it has; without a figure
  where it does not say which class is which, as of a cross-validation.
  """
  if not column.of_class:
    return one
  if 'classes' not in one:
    return one | {column.figure: None}
  if column.of_class not in one['classes']:
    raise UserError(
      f'TABLES: {one["task"]} has no class {column.of_class!r}; it has {", ".join(one["classes"])}'
    )
  place = one['classes'].index(column.of_class)
  counts = one.get('per_class_n') or [sum(of) for of in one['confusion']]
  return one | {column.figure: one[column.figure][place], 'n': counts[place], 'correct': None}


def _together(column: Column, rows: Sequence[Row]) -> tuple[list[float], list[int]]:
  """The figure over several sets taken together, in percent or years, and how many items were
  measured, per round.
  """
  unit = _UNITS.get(column.figure, 100.0)
  counts = [_counts(column, row) for row in rows]
  values = [_values(row[column.figure]) for row in rows]
  if column.figure == 'accuracy' and all(None not in _values(row.get('correct')) for row in rows):
    # from the counts that the command prints, not from rounded proportions
    values = [
      [c / n for c, n in zip(_values(row['correct']), _values(row['n']), strict=True)]
      for row in rows
    ]
  if len(rows) == 1:
    return [unit * value for value in values[0]], counts[0]
  totals = [sum(of_round) for of_round in zip(*counts, strict=True)]
  sums = [
    sum(v * n for v, n in zip(of_round, n_of_round, strict=True))
    for of_round, n_of_round in zip(
      zip(*values, strict=True), zip(*counts, strict=True), strict=True
    )
  ]
  return [unit * total / n for total, n in zip(sums, totals, strict=True)], totals


def _counts(column: Column, row: Row) -> list[int]:
  counts = _values(row[_FILES[column.command][2]])
  if column.figure == 'accuracy_with_face':
    return [n - row['no_face_test'] for n in counts]
  return counts


def _values(value: Any) -> list[Any]:
  """The figures over the rounds (or galleries); a single run has one."""
  return list(value) if isinstance(value, list | tuple) else [value]


def paper_table(table: PaperTable, runs: Sequence[Measured], *, only_filled: bool = False) -> str:
  """The paper's table as Markdown: for each row ours, the paper's and the difference; then notes on
  what our figures are based on.

  Args:
    table: the paper's.
    runs: our results.
    only_filled: omit rows without results; returns '' if none is left.
  """
  cells = fill(table, runs)
  lines = []
  for name, row in table.rows.items():
    ours = [cells.get((name, column)) for column in table.columns]
    if any(ours) or not only_filled:
      lines += _lines(name, row, ours, list(table.columns))
  if only_filled and not lines:
    return ''
  parts = [
    table.title,
    '',
    markdown_table(['', '', *table.columns], lines),
    '',
    *_notes(table, cells),
  ]
  return '\n'.join([*parts, *(f'- {note}' for note in table.notes), *(_about(run) for run in runs)])


def _lines(
  name: str, row: PaperRow, ours: Sequence[Cell | None], columns: Sequence[str]
) -> list[list[str]]:
  theirs = [row.paper.get(column) for column in columns]
  published = ['' if value is None else _text(*value) for value in theirs]
  if row.arguments is None:
    return [[name, row.label, *published]]
  lines = [[name, 'ours', *('' if cell is None else _text(cell.mean, cell.std) for cell in ours)]]
  if row.paper:
    lines.append(['', row.label, *published])
  if row.paper and any(ours):
    pairs = zip(ours, theirs, strict=True)
    lines.append(
      [
        '',
        'difference',
        *(f'{o.mean - t[0]:+.2f}' if o is not None and t is not None else '' for o, t in pairs),
      ]
    )
  return lines


def _text(mean: float, std: float | None) -> str:
  if isinstance(mean, int):  # a count
    return f'{mean:,}'
  return f'{mean:.2f}' + ('' if std is None else f' ± {std:.2f}')


def _notes(table: PaperTable, cells: Mapping[tuple[str, str], Cell]) -> list[str]:
  """What our figures were measured on: how many items, and the sets that replace the paper's."""
  notes = []
  for column, meant in table.columns.items():
    here = {row: cell for (row, of_column), cell in cells.items() if of_column == column}
    for sets in dict.fromkeys(cell.sets for cell in here.values()):
      counts = sorted({n for cell in here.values() if cell.sets == sets for n in cell.n})
      n = f'{counts[0]:,}' + (f' to {counts[-1]:,}' if len(counts) > 1 else '')
      own = [
        table.rows[row].columns.get(column, meant)
        for row, cell in here.items()
        if cell.sets == sets
      ]
      other = next(
        (
          f'; {_and(sets)} in place of {_and(m.sets)}: not comparable'
          for m in own
          if m and sets != m.sets
        ),
        '',
      )
      notes.append(f'- {column}: {n} {_noun(meant)} per round{other}')
  return notes


def _noun(column: Column | None) -> str:
  return {'identify': 'probes', 'video': 'test clips'}.get(
    column.command if column else '', 'test images'
  )


def _and(names: Sequence[str]) -> str:
  return ' and '.join(names)


def _about(run: Measured) -> str:
  config: Any = run.config
  rounds = f'{run.folds} folds' if run.folds > 1 else 'one run'
  length = f'{len(config.stages)} stages' if config.stages else f'{config.duration} each'
  return f'- {config.name}: {rounds}, {length}, width {config.model.width:g} ({run.workdir})'
