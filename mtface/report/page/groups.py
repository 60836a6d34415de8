"""The audit by group (mtface/evaluation/audit.py) of the predictions that lie in the workdir."""

from __future__ import annotations

import numpy as np

from mtface.data.groupings import groups_of
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.evaluation.answers import Answers
from mtface.evaluation.audit import LEVEL, Audit, GroupRow, audit
from mtface.evaluation.audit_table import figure_text, rule_text, worst_text
from mtface.evaluation.resampling import Figure
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import Cell, Missing, Part, Table, Text, Value, count
from mtface.report.page.predicted import Predicted
from mtface.tasks import Task


def audits(run: Gathered) -> tuple[list[Audit], list[str]]:
  """(the audits of each single-label task of each set, why others could not be made)."""
  found: list[Answers] = []
  reasons, silent = [], []
  for name, task, predicted in run.labelled():
    if task.multi_label:  # `mtface audit --task=TASK/CLASS` takes a class of it
      continue
    try:
      answers = _answers(run, name, task, predicted)
      if answers.groups:
        found.append(answers)
      else:
        silent.append(name)
    except UserError as error:
      reasons.append(str(error))
  if silent:
    names = ', '.join(dict.fromkeys(silent))
    reasons.append(f'{names}: no other gender, age or ethnicity is annotated there')
  try:  # their flags hold for all of them together
    return [audit(of, level=LEVEL / len(found)) for of in found], list(dict.fromkeys(reasons))
  except UserError as error:  # Fairlearn is missing
    return [], [str(error)]


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
    task.values,
    run.config.tasks[task.name].top if task.values else 1,
  )


def section(run: Gathered) -> list[Part]:
  """The figures of each annotated group, the worst ones, and which differ by more than chance."""
  found, reasons = audits(run)
  parts: list[Part] = [part for of in found for part in _audit(of)]
  if found:
    parts.append(Text(rule_text(LEVEL)))
  if reasons:
    command = run.command('audit', f' --data_dir={run.data_dir} --groups=...')
    parts.append(Missing(f'Not audited: {"; ".join(reasons)}.', command))
  return parts


def _audit(found: Audit) -> list[Part]:
  title, names = f'{found.answers.task} on {found.answers.set_name}', list(found.overall)
  columns = ('group of', 'group', 'n', *names, 'differs from all others in')
  everyone = [_figure(name, found.overall[name]) for name in names]
  everyone = ['all', '', count(len(found.answers)), *everyone, '']
  alone = [everyone, *(_row(row, names) for row in found.rows if ' x ' not in row.by)]
  pairs = [_row(row, names) for row in found.rows if ' x ' in row.by]
  parts: list[Part] = [Table(f'{title}, by group as annotated', columns, alone)]
  if pairs:
    parts.append(Table(f'{title}, by two of them at once', columns, pairs, closed=True))
  return [*parts, *(Text(f'{title}: {line}.') for line in worst_text(found))]


def _row(row: GroupRow, names: list[str]) -> list[Cell]:
  figures = [_figure(name, row.figures.get(name)) for name in names]
  return [row.by, row.group, count(row.n), *figures, _flags(row)]


def _flags(row: GroupRow) -> str:
  if row.too_small:
    return 'too small to compare'
  how = {name: 'lower' if row.differences[name][0] < 0 else 'higher' for name in row.flagged}
  return ', '.join(f'{name} {than}' for name, than in how.items())


def _figure(name: str, figure: Figure | None) -> Cell:
  return '' if figure is None else Value(figure_text(name, figure), figure.value)
