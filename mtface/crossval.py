"""`mtface crossval`: a config trained and measured once for each fold, and the mean and spread over the folds.

In round k every source with a part rotates: `[fold=0/4]` becomes fold k, a draw `[take=...]` is drawn with seed k. A source without one,
such as FER-2013's published split, stays as it is and is measured once a round. Round k of N lies in `WORKDIR/foldKofN`, an ordinary run
with one file more, `fold.json`, that is written when it is trained and measured. Rounds run one after the other, or each in a job of its
own (`--fold=K`); the last one, or `--gather`, puts them together in `crossval.json`.
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
from scipy import stats

from mtface import process
from mtface.checks import check_experiment
from mtface.data.names import Draw, Fold, SourceName
from mtface.data.sources import fingerprint
from mtface.errors import UserError
from mtface.evaluate import evaluate
from mtface.files import local_path, split_selection
from mtface.results import Row, markdown_table, write_json
from mtface.run_config import read_config, write_config
from mtface.train import train

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
    checkpoints: selections to measure, see `mtface.evaluate`; none: those of the config.

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
  for entry in _named_sources(config):
    name = SourceName.parse(entry.name)
    entry.name = str(name.rotated(fold, folds))
    rotates |= name.part is not None
  if not rotates:
    raise UserError(
      'crossval: no source of the config has folds; name the training part as SET/CONFIG:SPLIT[fold!=0/4] and the test part as '
      'SET/CONFIG:SPLIT[fold=0/4]'
    )
  config.name = f'{config.name} fold {fold}/{folds}'
  return config


def _named_sources(config: ConfigDict) -> list[ConfigDict]:
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

  Returns:
    One row for each selection, set and task that all rounds measured: `checkpoint`, `set`, `task`, `stage` (if the run has some), and lists
    over the rounds: `source`, `n`, `correct`, `accuracy`, `balanced_accuracy`, `macro_f1`, `mae` (None where there is none); `mean` and
    `std` (of the sample, n - 1) are those of `accuracy`.

  Raises:
    UserError: a round is missing or damaged.
  """
  workdir = local_path(workdir)
  if missing := missing_folds(workdir, folds):
    raise UserError(
      f'{workdir}: fold {", ".join(map(str, missing))} of {folds} is not done; run `mtface crossval` with --fold={missing[0]}'
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


def _is_measured(folder: pathlib.Path, selections: Sequence[str], data_dir: str | os.PathLike) -> bool:
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
    raise UserError(f'{path}: is damaged ({error}); delete it and run `mtface crossval` again') from error


def crossval_table(rows: Sequence[Row]) -> str:
  """Mean and standard deviation over the rounds, and the accuracy of each."""
  folds = len(rows[0]['accuracy']) if rows else 0
  columns = ['checkpoint', 'set', 'task', 'n a fold', 'accuracy', *(f'fold {k}' for k in range(folds))]
  return markdown_table(columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
  n = f'{min(row["n"]):,}' + (f'-{max(row["n"]):,}' if len(set(row['n'])) > 1 else '')
  cells = [row['checkpoint'], row['set'], row['task'], n, f'{100 * row["mean"]:.2f} ± {100 * row["std"]:.2f}']
  return cells + [f'{100 * accuracy:.2f}' for accuracy in row['accuracy']]


# --- Two of them, fold by fold ------------------------------------------------------------------------------------------------------


def compare(first: str, second: str, level: float = 0.95) -> list[Row]:
  """The second's accuracy minus the first's, paired by fold, with an interval where one is known.

  The rounds' training sets overlap, so the variance of the mean of k differences is not s^2 / k. Nadeau and Bengio ("Inference for the
  Generalization Error", 2003, section 3) correct it to (1/k + n_test/n_train) s^2 where each round divides the same samples anew into a
  test and a training part: Student's interval with that variance is given for a set that is tested on its folds (1/(k-1), as Bouckaert and
  Frank 2004) or on draws, while the rest of it is trained on. There is none for a set that is no part of what rotates, such as
  FER-2013's published splits: all rounds share its test samples, so their spread says nothing of another test set, and how much the
  rounds have in common is not known (no estimate of it is unbiased: Bengio and Grandvalet 2004).

  Args:
    first: `WORKDIR@SELECTION` of a cross-validation; without a selection, `last`.
    second: another, of as many folds, measured on the same parts.
    level: of the interval.

  Returns:
    One row for each set and task that both have: `set`, `task`, `differences`, `mean`, `low`, `high` (both None without an interval) and
    `why` there is none ('' if there is one).
  """
  (rows_a, config_a), (rows_b, config_b) = _selected(first), _selected(second)
  found = [_difference(key, rows_a[key], rows_b[key], (config_a, config_b), level) for key in rows_a if key in rows_b]
  if not found:
    raise UserError(f'{first} and {second}: measured no set and task in common')
  return found


def _selected(operand: str) -> tuple[dict[tuple[str, str], Row], ConfigDict]:
  """({(set, task): row} of one selection, the config) of a cross-validation."""
  workdir, selection = split_selection(operand)
  rows = read_crossval(workdir)['results']
  chosen = {(r['set'], r['task']): r for r in rows if r['checkpoint'] == (selection or 'last')}
  if not chosen:
    have = ', '.join(dict.fromkeys(row['checkpoint'] for row in rows)) or 'nothing'
    raise UserError(f'{operand}: no such selection was measured there; there is {have}')
  return chosen, read_config(workdir)


def _difference(key: tuple[str, str], a: Row, b: Row, configs: Sequence[ConfigDict], level: float) -> Row:
  k = len(a['accuracy'])
  if k != len(b['accuracy']):
    raise UserError(f'{key[0]}: {k} folds and {len(b["accuracy"])} cannot be paired')
  for one, other in zip(a['source'], b['source'], strict=True):
    if one != other:
      raise UserError(f'{key[0]}: one was measured on {one}, the other on {other}, which cannot be paired')
  differences = [y - x for x, y in zip(a['accuracy'], b['accuracy'], strict=True)]
  mean = statistics.mean(differences)
  row = {'set': key[0], 'task': key[1], 'differences': differences, 'mean': mean, 'low': None, 'high': None, 'why': ''}
  tested = [SourceName.parse(source) for source in a['source']]
  if len(set(a['source'])) == 1:
    return row | {'why': 'all rounds have the same test images'}
  ratios = [_test_to_training(tested[0], config) for config in configs]
  if None in ratios:
    return row | {'why': 'the rest of the set is not trained on'}
  ratio = max(ratio for ratio in ratios if ratio is not None)
  half = stats.t.ppf((1 + level) / 2, k - 1) * statistics.stdev(differences) * (1 / k + ratio) ** 0.5
  return row | {'low': mean - half, 'high': mean + half}


def _test_to_training(tested: SourceName, config: ConfigDict) -> float | None:
  """Test samples over training samples of a set that a config tests on a part of and trains on the rest of; None if it does not."""
  for entry in _named_sources(config):
    name, part = SourceName.parse(entry.name), tested.part
    if (name.set_name, name.split, name.ranges) != (tested.set_name, tested.split, tested.ranges):
      continue
    if isinstance(part, Fold) and isinstance(name.part, Fold) and name.part.others and name.part.of == part.of:
      return 1 / (part.of - 1)
    if isinstance(part, Draw) and isinstance(name.part, Draw) and not name.part.after and name.part.take <= part.after:
      return part.take / name.part.take
  return None


def comparison_table(rows: Sequence[Row]) -> str:
  """Differences in percentage points, with their intervals."""
  columns = ['set', 'task', 'difference', '95% interval', *(f'fold {k}' for k in range(len(rows[0]['differences'])))]
  return markdown_table(columns, [_difference_cells(row) for row in rows])


def _difference_cells(row: Row) -> list[str]:
  mean, *points = [f'{100 * x:+.2f}' for x in (row['mean'], *row['differences'])]
  interval = f'none: {row["why"]}' if row['why'] else f'{100 * row["low"]:+.2f} to {100 * row["high"]:+.2f}'
  return [row['set'], row['task'], mean, interval, *points]
