"""The audit by group (mtface/evaluation/audit.py) of the predictions that lie in the workdir."""

from __future__ import annotations

import numpy as np

from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.evaluation.answers import Answers, groups_of
from mtface.evaluation.audit import Audit, Figure, GroupRow, audit
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import Cell, Missing, Part, Table, Text, Value, count, interval
from mtface.report.page.predicted import Predicted
from mtface.tasks import Task

_FIGURES = ('accuracy', 'calibration error')


def audits(run: Gathered) -> tuple[list[Audit], list[str]]:
  """(the audits of each single-label task of each set, why others could not be made)."""
  found, reasons, silent = [], [], []
  for name, task, predicted in run.labelled():
    if task.multi_label or task.values is not None:
      continue
    try:
      answers = _answers(run, name, task, predicted)
      if answers.groups:
        found.append(audit(answers))
      else:
        silent.append(name)
    except UserError as error:
      reasons.append(str(error))
  if silent:
    names = ', '.join(dict.fromkeys(silent))
    reasons.append(f'{names}: no gender, age or ethnicity is annotated there')
  return found, list(dict.fromkeys(reasons))


def _answers(run: Gathered, name: str, task: Task, predicted: Predicted) -> Answers:
  source = load_source(run.sets[name], run.data_dir)
  place = {image_id: row for row, image_id in enumerate(source.image_ids.tolist())}
  known = np.flatnonzero(predicted.known(task.name))
  if missing := [x for x in predicted.image_ids[known].tolist() if x not in place]:
    raise UserError(
      f'{name}: the predictions name {missing[0]}, which {run.sets[name]} in {run.data_dir} does '
      'not have; evaluate again with --predictions'
    )
  rows = np.array([place[x] for x in predicted.image_ids[known].tolist()], np.int64)
  scores, readout = predicted.scores[task.name][known], run.outputs.readout(task.name)
  return Answers(
    name,
    task.name,
    task.classes,
    predicted.labels[task.name][known],
    scores.argmax(axis=1),
    None if readout == 'margins' else scores,
    {by: values[rows] for by, values in groups_of(source, run.data_dir).items() if by != task.name},
    source.subjects[rows],
    readout,
  )


def section(run: Gathered) -> list[Part]:
  """Accuracy and calibration by annotated group, with the worst one, and which differ by more than
  chance.
  """
  found, reasons = audits(run)
  parts: list[Part] = [part for of in found for part in _audit(of)]
  if reasons:
    command = run.command('audit', f' --data_dir={run.data_dir} --groups=...')
    parts.append(Missing(f'Not audited: {"; ".join(reasons)}.', command))
  return parts


def _audit(found: Audit) -> list[Part]:
  title = f'{found.answers.task} on {found.answers.set_name}'
  names = [name for name in _FIGURES if name in found.overall]
  columns = (
    'group of',
    'group',
    'n',
    *(c for name in names for c in (name, '95% interval')),
    'differs by more than chance in',
  )
  everyone: list[Cell] = ['all', '', count(len(found.answers))]
  everyone += [cell for name in names for cell in _cells(found.overall.get(name))]
  alone = [[*everyone, ''], *(_row(row, names) for row in found.rows if ' x ' not in row.by)]
  pairs = [_row(row, names) for row in found.rows if ' x ' in row.by]
  worst = [of for by in dict.fromkeys(row.by for row in found.rows) if (of := found.worst(by))]
  text = '; '.join(
    f'of {of.by}, {of.group} ({of.figures["accuracy"].value:.1%} of {of.n:,})' for of in worst
  )
  parts: list[Part] = [Table(f'{title}, by group as annotated', columns, alone)]
  if pairs:
    parts.append(Table(f'{title}, by two of them at once', columns, pairs, closed=True))
  return [*parts, Text(f'Lowest accuracy on {title}: {text}.')] if text else parts


def _row(row: GroupRow, names: list[str]) -> list[Cell]:
  cells: list[Cell] = [row.by, row.group, count(row.n)]
  cells += [cell for name in names for cell in _cells(row.figures.get(name))]
  return [*cells, ', '.join(row.flagged)]


def _cells(figure: Figure | None) -> list[Cell]:
  if figure is None:
    return ['', '']
  return [Value(f'{figure.value:.1%}', figure.value), interval(figure.low, figure.high)]
