"""The data of a run: which sets, whose, their fingerprints, and pictures that are in two splits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mtface.data.index import prepared_dir
from mtface.data.names import SourceName
from mtface.data.terms import terms_of
from mtface.errors import UserError
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import Cell, Missing, Part, Table, Text, count
from mtface.report.words import of_source

SUMMARY_FILE = 'build_summary.json'  # that every builder of mtface leaves beside the records
_MOST_GROUPS = 20


def sources(run: Gathered) -> dict[str, tuple[str, ...]]:
  """{source: what it is for} of all that the run is trained and measured on."""
  found: dict[str, tuple[str, ...]] = {
    source.name: ('training',) for source in run.config.sources.values()
  }
  measured = [source.name for source in run.config.evaluation.sets.values()]
  for name in dict.fromkeys([*measured, *(row['source'] for row in run.rows)]):
    found[name] = (*found.get(name, ()), 'measuring')
  return found


def fingerprints(run: Gathered) -> dict[str, str]:
  """{source: fingerprint} as config.json and results.json have noted them."""
  noted = run.content.get('data', {}).get(run.stage, {})
  found = {name: of['fingerprint'] for name, of in noted.items()}
  return found | {row['source']: row['data'] for row in run.rows if row.get('data')}


def section(run: Gathered) -> list[Part]:
  """Sources with their fingerprints; the sets' terms; duplicates across splits."""
  known = fingerprints(run)
  rows: list[list[Cell]] = [
    [of_source(name), ' and '.join(use), known.get(name, 'not noted')]
    for name, use in sources(run).items()
  ]
  columns = ('source', 'for', 'fingerprint of the split')
  table = Table(
    'What was read: a set that is built anew with another content has another fingerprint',
    columns,
    rows,
  )
  return [table, terms_table(run), *duplicates(run)]


def sets_of(run: Gathered) -> list[str]:
  """The prepared sets (SET/CONFIG) that the run is trained and measured on."""
  return list(dict.fromkeys(SourceName.parse(name).set_name for name in sources(run)))


def terms_table(run: Gathered) -> Table:
  """Whose the sets are."""
  names = dict.fromkeys(name.partition('/')[0] for name in sets_of(run))
  rows = [[name, terms_of(name).terms, terms_of(name).url] for name in names]
  return Table('Terms of the sets', ('set', 'terms', 'from'), rows)


# --- Duplicates -----------------------------------------------------------------------------------


def read_summary(run: Gathered, set_name: str) -> dict[str, Any]:
  """The account of a set's build.

  Raises:
    UserError: the set is not in the data folder, or its builder left no account, or a damaged one.
  """
  path = prepared_dir(set_name, run.data_dir) / SUMMARY_FILE
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise UserError(f'{path}: is not there; only builders of mtface leave it') from None
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read ({error}); build the set again') from error


def duplicates(run: Gathered) -> Iterator[Part]:
  """Pictures that the sets have more than once, as the accounts of their builds list them."""
  rows: list[list[Cell]] = []
  listed: list[list[Cell]] = []
  for set_name in sets_of(run):
    try:
      found = read_summary(run, set_name)['duplicates']
    except (UserError, KeyError) as error:
      command = f'mtface build {set_name} --data_dir={run.data_dir}'
      yield Missing(f'Duplicates in {set_name} are not known: {error}', command)
      continue
    across = [group for group in found['list'] if len(set(group['splits'])) > 1]
    rows.append([set_name, *(count(found[key]) for key in _COUNTS), _seen(run, set_name, across)])
    listed += [[set_name, *_group(group)] for group in across[:_MOST_GROUPS]]
  if rows:
    columns = (
      'set',
      'groups',
      'copies',
      'groups in several splits',
      'groups with other labels',
      'faces measured on with a copy in training',
    )
    yield Table('Pictures that a set has more than once (equal pixels)', columns, rows)
  if listed:
    yield Table(
      f'Pictures in several splits, the first {_MOST_GROUPS} of each set',
      ('set', 'images', 'splits', 'labelled differently for'),
      listed,
      closed=True,
    )
  if rows:
    yield Text(
      'Folds and draws of one split keep copies on one side; copies in different splits were left '
      'where the set has them, since published figures use the sets as they are.'
    )


_COUNTS = ('groups', 'copies', 'groups_across_splits', 'groups_with_other_labels')


def _group(group: Mapping[str, Any]) -> list[Cell]:
  return [', '.join(group['image_ids']), ', '.join(group['splits']), ', '.join(group['differs_in'])]


def _seen(run: Gathered, set_name: str, across: list[dict[str, Any]]) -> str:
  """How many faces of each measured split are copies of one in a split that is trained on."""
  trained = {of.split for of, use in _whole(run, set_name) if 'training' in use}
  found = []
  for of, use in _whole(run, set_name):
    if use == ('measuring',):
      copies = sum(
        group['splits'].count(of.split) for group in across if trained & set(group['splits'])
      )
      found.append(f'{of.split}: {copies:,}')
  return ', '.join(found) or 'no whole splits'


def _whole(run: Gathered, set_name: str) -> Iterator[tuple[SourceName, tuple[str, ...]]]:
  for name, use in sources(run).items():
    source = SourceName.parse(name)
    if source.set_name == set_name and not source.part and not source.limits:
      yield source, use
