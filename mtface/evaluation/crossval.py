"""`mtface crossval`: a config trained and measured once for each fold, and the mean and spread over
the folds.

In round k every source with a part rotates: `[fold=0/4]` becomes fold k, a draw `[take=...]` is
drawn with seed k. A source without one, such as FER-2013's published split, stays as it is and is
measured once a round. Round k of N lies in `WORKDIR/foldKofN`, an ordinary run with one file more,
`fold.json`, that is written when it is trained and measured. Rounds run one after the other, or
each in a job of its own (`--fold=K`); the last one, or `--gather`, puts them together in
`crossval.json`.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from mtface import process
from mtface.data.names import SourceName
from mtface.data.sources import fingerprint
from mtface.errors import UserError
from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.results import Row, markdown_table
from mtface.files import local_path, write_json
from mtface.training.checks import check_experiment
from mtface.training.loop import train
from mtface.training.workdir import write_config

FOLD_FILE, CROSSVAL_FILE = 'fold.json', 'crossval.json'


def crossval(
  config: ConfigDict,
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  folds: int = 4,
  fold: int | None = None,
  checkpoints: Sequence[str] = (),
) -> list[Row] | None:
  """Trains and measures the rounds that are not done yet, and gathers them.

  Args:
    config: of any of the rounds.
    workdir: of the whole cross-validation.
    data_dir: of the prepared sets.
    folds: number of rounds.
    fold: only this one (the others are, were or will be done by other jobs); None: all.
    checkpoints: selections to measure, see `mtface.evaluation.evaluate`; none: those of the config.

  Returns:
    The rows of `gather`, or None while rounds of other jobs are missing.
  """
  workdir = local_path(workdir)
  selections = tuple(checkpoints) or tuple(config.evaluation.checkpoints)
  if fold is not None and not 0 <= fold < folds:
    raise UserError(f'--fold={fold}: there are folds 0 to {folds - 1} (--folds={folds})')
  configs = [round_config(config, k, folds) for k in range(folds)]
  rounds = range(folds) if fold is None else [fold]
  for k in rounds:
    if not _is_measured(fold_folder(workdir, k, folds), selections, data_dir):
      check_experiment(configs[k], data_dir, fold_folder(workdir, k, folds))
  write_config(config, workdir, runs=[fold_folder(workdir, k, folds) for k in range(folds)])
  for k in rounds:
    folder = fold_folder(workdir, k, folds)
    if _is_measured(folder, selections, data_dir):
      process.say(f'fold {k} of {folds}: done before, in {folder}')
      continue
    process.say(f'fold {k} of {folds}: {folder}')
    train(configs[k], folder, data_dir)
    rows = evaluate(folder, data_dir, checkpoints=selections, skip_measured=True)
    write_json(folder / FOLD_FILE, {'name': configs[k].name, 'results': rows})
  missing = missing_folds(workdir, folds)
  return None if missing else gather(workdir, folds)


def round_config(config: ConfigDict, fold: int, folds: int) -> ConfigDict:
  """The config of one round: the same but for the parts of the sources that it trains and tests on.

  Raises:
    UserError: `folds` is less than 2, or no source has a part that could rotate.
  """
  if folds < 2:
    raise UserError(f'--folds={folds}: expected at least 2')
  config = copy.deepcopy(config)
  rotates = False
  for entry in named_sources(config):
    name = SourceName.parse(entry.name)
    entry.name = str(name.rotated(fold, folds))
    rotates |= name.part is not None
  if not rotates:
    raise UserError(
      'crossval: no source of the config has folds; name the training part as '
      'SET/CONFIG:SPLIT[fold!=0/4] and the test part as '
      'SET/CONFIG:SPLIT[fold=0/4]'
    )
  config.name = f'{config.name} fold {fold}/{folds}'
  return config


def named_sources(config: ConfigDict) -> list[ConfigDict]:
  """All sources that a config names, for training and evaluation, in its stages too."""
  found: list[ConfigDict] = []
  for part in (config, *config.stage.values()):
    found += part.get('sources', ConfigDict()).values()
    found += part.get('evaluation', ConfigDict()).get('sets', ConfigDict()).values()
  return found


def fold_folder(workdir: pathlib.Path, fold: int, folds: int) -> pathlib.Path:
  """The workdir of one round."""
  return workdir / f'fold{fold}of{folds}'


def missing_folds(workdir: pathlib.Path, folds: int) -> list[int]:
  """The rounds that are not trained and measured yet."""
  return [k for k in range(folds) if not (fold_folder(workdir, k, folds) / FOLD_FILE).exists()]


def gather(workdir: str | os.PathLike, folds: int) -> list[Row]:
  """Puts the rounds together, in `workdir`/crossval.json.

  Returns: One row for each selection, set and task that all rounds measured: `checkpoint`, `set`,
    `task`, `stage` (if the run has some), and lists over the rounds: `source`, `n`, `correct`,
    `accuracy`, `balanced_accuracy`, `macro_f1`, `mae` (None where there is none); `mean` and `std`
    (of the sample, n - 1) are those of `accuracy`.

  Raises:
    UserError: a round is missing or damaged.
  """
  workdir = local_path(workdir)
  if missing := missing_folds(workdir, folds):
    raise UserError(
      f'{workdir}: fold {", ".join(map(str, missing))} of {folds} is not done; run `mtface '
      f'crossval` with --fold={missing[0]}'
    )
  by_key: dict[tuple[str, str, str], list[Row]] = {}
  for k in range(folds):
    for row in _read(fold_folder(workdir, k, folds) / FOLD_FILE)['results']:
      by_key.setdefault((row['checkpoint'], row['set'], row['task']), []).append(row)
  rows = [_gathered(*key, of_folds) for key, of_folds in by_key.items() if len(of_folds) == folds]
  write_json(workdir / CROSSVAL_FILE, {'folds': folds, 'results': rows})
  return rows


def _gathered(checkpoint: str, set_name: str, task: str, of_folds: Sequence[Row]) -> Row:
  accuracies = [float(row['accuracy']) for row in of_folds]
  spread = {'mean': statistics.mean(accuracies), 'std': statistics.stdev(accuracies)}
  keys = ('source', 'n', 'correct', 'accuracy', 'balanced_accuracy', 'macro_f1', 'mae')
  lists = {key: [row.get(key) for row in of_folds] for key in keys}
  stage = {'stage': of_folds[0]['stage']} if 'stage' in of_folds[0] else {}
  return {'checkpoint': checkpoint, 'set': set_name, 'task': task} | stage | spread | lists


def _is_measured(
  folder: pathlib.Path, selections: Sequence[str], data_dir: str | os.PathLike
) -> bool:
  """Whether a round is done: all selections, and on sets that are still the same."""
  path = folder / FOLD_FILE
  rows = _read(path)['results'] if path.exists() else []
  data = {row['source']: fingerprint(row['source'], data_dir) for row in rows}
  return set(selections) <= {row['checkpoint'] for row in rows} and all(
    row.get('data') == data[row['source']] for row in rows
  )


def read_crossval(workdir: str | os.PathLike) -> dict[str, Any]:
  """The content of crossval.json: `folds` and `results`, the rows of `gather`."""
  path = local_path(workdir) / CROSSVAL_FILE
  if not path.exists():
    raise UserError(f'{path}: not found; --workdir must be one of a finished `mtface crossval`')
  return _read(path)


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_text())
    for row in content['results']:
      row['checkpoint'], row['set'], row['task']
    return content
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{path}: is damaged ({error}); delete it and run `mtface crossval` again'
    ) from error


def crossval_table(rows: Sequence[Row]) -> str:
  """Mean and standard deviation over the rounds, and the accuracy of each."""
  folds = len(rows[0]['accuracy']) if rows else 0
  columns = [
    'checkpoint',
    'set',
    'task',
    'n a fold',
    'accuracy',
    *(f'fold {k}' for k in range(folds)),
  ]
  return markdown_table(columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
  n = f'{min(row["n"]):,}' + (f'-{max(row["n"]):,}' if len(set(row['n'])) > 1 else '')
  cells = [
    row['checkpoint'],
    row['set'],
    row['task'],
    n,
    f'{100 * row["mean"]:.2f} ± {100 * row["std"]:.2f}',
  ]
  return cells + [f'{100 * accuracy:.2f}' for accuracy in row['accuracy']]
