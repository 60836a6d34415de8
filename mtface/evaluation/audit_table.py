"""An audit as text, and as the rows of a csv or JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mtface.evaluation.audit import Audit, GroupRow
from mtface.evaluation.resampling import SMALLEST, Figure
from mtface.evaluation.results import markdown_table

COLUMNS = (
  'set',
  'task',
  'by',
  'group',
  'figure',
  'value',
  'low',
  'high',
  'faces',
  'people',
  'difference',
  'difference_low',
  'difference_high',
  'flag',
)


def audit_text(of: Audit) -> str:
  """The table of an audit, what is flagged, and the worst groups."""
  answers, names = of.answers, list(of.overall)
  title = f'{answers.task} on {answers.set_name}: {len(answers):,} labelled faces'
  lines = [['all', f'{len(answers):,}', *(figure_text(n, of.overall.get(n)) for n in names), '']]
  lines += [
    [row.group, f'{row.n:,}', *(figure_text(n, row.figures.get(n)) for n in names), flag_text(row)]
    for row in of.rows
  ]
  table = markdown_table(['group', 'faces', *names, 'differs from all others in'], lines)
  return '\n\n'.join([title, *_rates(of), table, *worst_text(of)])


def _rates(of: Audit) -> Iterator[str]:
  if 'false positive rate' in of.overall or 'false negative rate' in of.overall:
    no, yes = of.answers.classes
    yield (
      f'false positive rate: of those labelled {no}, the share answered {yes}; false negative '
      f'rate: of those labelled {yes}, the share answered {no}'
    )


def figure_text(name: str, figure: Figure | None) -> str:
  """A figure with its interval; '' for none."""
  if figure is None:
    return ''
  if name == 'mean error':
    return f'{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})'
  return f'{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})'


def flag_text(row: GroupRow) -> str:
  """What a group is flagged for, or that it is too small."""
  if row.too_small:
    return f'too small to compare (fewer than {SMALLEST} people, or all others are)'
  return '; '.join(f'{name} {_difference(name, row)}' for name in row.flagged)


def _difference(name: str, row: GroupRow) -> str:
  value, low, high = row.differences[name]
  if name == 'mean error':
    return f'{value:+.2f} ({low:+.2f} to {high:+.2f})'
  return f'{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})'


def worst_text(of: Audit) -> Iterator[str]:
  """A line for each grouping that has a worst group."""
  figure = 'mean error' if 'mean error' in of.overall else 'accuracy'
  for by in dict.fromkeys(row.by for row in of.rows):
    row = of.worst(by, figure)
    if row:
      chance = 'flagged' if figure in row.flagged else 'no more than chance'
      value = figure_text(figure, row.figures[figure])
      yield f'worst {figure} by {by}: {row.group}, {value}, {row.n:,} faces: {chance}'


def rule_text(level: float) -> str:
  """What a flag means."""
  return (
    f'Flagged are differences whose interval leaves out zero. These intervals hold for all '
    f'comparisons above at once: of audits like this one by groups drawn by lot, at most '
    f'{level:.0%} would flag anything. Others are 95% intervals of single figures. Groups are as '
    f'annotators perceived them.'
  )


def audit_rows(of: Audit) -> Iterator[dict[str, Any]]:
  """A row a group and figure, of all `COLUMNS`; those of all faces have no `by`."""
  everyone = GroupRow('', 'all', len(of.answers), of.overall, {})
  for row in (everyone, *of.rows):
    for name, figure in row.figures.items():
      difference = row.differences.get(name, (None, None, None))
      values = dataclasses.asdict(figure)
      yield dict(
        zip(
          COLUMNS,
          (
            of.answers.set_name,
            of.answers.task,
            row.by,
            row.group,
            name,
            *(values[key] for key in ('value', 'low', 'high', 'n', 'people')),
            *difference,
            _flag(of, row, name),
          ),
          strict=True,
        )
      )


def _flag(of: Audit, row: GroupRow, name: str) -> str:
  if not row.by or name not in of.compared:
    return ''
  if name not in row.differences:
    return 'too small' if row.figures[name].too_small else 'no others'
  if name not in row.flagged:
    return ''
  return 'lower' if row.differences[name][0] < 0 else 'higher'


def audit_json(of: Audit) -> dict[str, Any]:
  """All of it, with the rule."""
  return {
    'set': of.answers.set_name,
    'task': of.answers.task,
    'classes': list(of.answers.classes),
    'level': of.level,
    'comparisons': of.comparisons,
    'reach': of.reach,
    'smallest': SMALLEST,
    'rule': rule_text(of.level),
    'worst': [
      {'by': by, 'figure': name, 'group': row.group, 'flagged': name in row.flagged}
      for by in dict.fromkeys(row.by for row in of.rows)
      for name in of.compared
      if (row := of.worst(by, name))
    ],
    'rows': list(audit_rows(of)),
  }
