"""`mtface card`: the sections of Mitchell et al. 2019 ("Model Cards for Model Reporting", section
4), filled in from what a run left. What the run does not know is said to be unknown.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import re
from typing import Any

from mtface.data.names import SourceName
from mtface.data.terms import terms_of
from mtface.evaluation.calibration import confidences, reliability
from mtface.evaluation.results import markdown_table
from mtface.files import local_path, write_text
from mtface.report.card.front import front_matter
from mtface.report.page import data, groups, results, single
from mtface.report.page.gathered import Gathered, gather
from mtface.report.page.parts import Cell, Missing, Table, Text
from mtface.report.words import in_words, of_source

# Tasks whose classes are what a face expresses; see the card's out-of-scope uses.
_EXPRESSIONS = (
  'smile',
  'emotion7',
  'emotion8',
  'compound_emotion',
  'compound8',
  'group_emotion',
  'action_units',
)


def write_card(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  to: str | os.PathLike = '',
  checkpoint: str = '',
  stage: str = '',
) -> pathlib.Path:
  """Writes the model card of a run; returns its path.

  Args:
    workdir: of the run.
    data_dir: of the prepared sets, for groups and duplicates; what is not there is said so.
    to: the file; '': report/model_card.md in the workdir.
    checkpoint: the selection that the card is of, see `gather`.
    stage: of the run; '' is the last one.

  Raises:
    UserError: there is no run, or a file is damaged.
  """
  run = gather(workdir, data_dir, checkpoint, stage)
  path = local_path(to) if to else run.folder / 'report' / 'model_card.md'
  write_text(path, card(run))
  return path


def card(run: Gathered) -> str:
  """The card as text."""
  import jinja2

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('mtface.report.card'),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
  )
  environment.filters['table'] = _markdown
  text = environment.get_template('card.md').render(_facts(run))
  # a card is passed on, and the paths of this machine mean nothing elsewhere
  text = _without_path(_without_path(text, run.workdir, 'WORKDIR'), run.data_dir, 'DATA_DIR')
  start = run.config.start.weights
  whole = os.path.isabs(os.path.expanduser(start))
  return text.replace(start, pathlib.PurePath(start).name) if whole else text


def _without_path(text: str, path: pathlib.Path, word: str) -> str:
  """Where a path is the value of a flag, and anywhere if it is absolute: `data` is a word too."""
  flags = re.sub(rf'={re.escape(str(path))}(?![\w./-])', f'={word}', text)
  return re.sub(rf'{re.escape(str(path.absolute()))}(?![\w-]|\.\w)', word, flags)


def _facts(run: Gathered) -> dict[str, Any]:
  """What the template asks for."""
  expressions = [name for name in run.tasks if name in _EXPRESSIONS]
  identities = [name for name in run.tasks if name.startswith('identity')]
  return {
    'front': front_matter(run),
    'run': run,
    'name': run.config.name or run.title,
    'version': importlib.metadata.version('mtface'),
    'words': in_words(run.config),
    'expressions': ', '.join(expressions),
    'identities': ', '.join(identities),
    'start': run.config.start.weights,
    'trained': _when(run),
    'research': ', '.join(_research_only(run)),
    'training': _sources(run, 'training'),
    'evaluation': _sources(run, 'measuring'),
    'terms': data.terms_table(run),
    'results': _results(run),
    'groups': _groups(run),
    'calibration': _calibration(run),
    'duplicates': _duplicates(run),
    'hardware': run.content.get('hardware', {}),
    'versions': run.content.get('versions', {}),
    'evaluate': run.evaluation(),
  }


def _when(run: Gathered) -> str:
  """The days of the first and the last line of the log, in UTC; '' where there is none."""
  times = [line['time'] for line in run.log if 'time' in line]
  days = [datetime.datetime.fromtimestamp(t, datetime.UTC).date() for t in times]
  return ' to '.join(dict.fromkeys(str(day) for day in (days[0], days[-1]))) if days else ''


def _research_only(run: Gathered) -> list[str]:
  """The sets that are trained on whose terms allow research alone."""
  trained = [name for name, use in data.sources(run).items() if 'training' in use]
  sets = dict.fromkeys(SourceName.parse(name).set_name.partition('/')[0] for name in trained)
  return [name for name in sets if terms_of(name).research_only]


def _sources(run: Gathered, use: str) -> Table:
  known = data.fingerprints(run)
  rows: list[list[Cell]] = [
    [of_source(name), known.get(name, 'unknown')]
    for name, of in data.sources(run).items()
    if use in of
  ]
  return Table('', ('source', 'fingerprint'), rows)


def _results(run: Gathered) -> list[Table]:
  if not run.chosen:
    return []
  return [
    part for part in results.results(run) if isinstance(part, Table) and not _other(run, part)
  ]


def _other(run: Gathered, table: Table) -> bool:
  """Whether a table is of another selection of checkpoints."""
  return table.columns[:2] == ('set', 'task') and not table.caption.startswith(f'{run.checkpoint}:')


def _groups(run: Gathered) -> list[Table | Text | Missing]:
  parts = single.needs_predictions(run) or groups.section(run)
  return [part for part in parts if isinstance(part, Table | Text | Missing)]


def _calibration(run: Gathered) -> Table | None:
  """The expected calibration error of each task and set; None where no predictions were written."""
  if single.needs_predictions(run):
    return None
  rows = []
  for name, task, found in run.labelled():
    if run.outputs.readout(task.name) != 'margins':
      ece = reliability(*confidences(found.scores[task.name], found.labels[task.name])).ece
      rows.append([name, task.name, f'{ece:.2%}'])
  return Table('Expected calibration error', ('set', 'task', 'ECE, 15 bins'), rows)


def _duplicates(run: Gathered) -> list[Table | Text | Missing]:
  parts = [part for part in data.duplicates(run) if not getattr(part, 'closed', False)]
  return [part for part in parts if isinstance(part, Table | Text | Missing)]


def _markdown(table: Table) -> str:
  rows = [[_plain(cell) for cell in row] for row in table.rows]
  return markdown_table([_plain(name) for name in table.columns], rows)


def _plain(cell: Cell) -> str:
  text = cell if isinstance(cell, str) else cell.text
  return text.replace('|', '\\|')
