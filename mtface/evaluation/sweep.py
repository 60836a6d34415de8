"""`mtface sweep`: every checkpoint of a run on every set; or a grid of configs, each trained and
measured.

Checkpoints: one process, one compilation, each set loaded once. What is in results.json from the
same checkpoints is not measured again, so an interrupted sweep continues, and one of a growing run
only adds to it. Leaves `WORKDIR/sweep/` with CSV, JSON and Markdown.

Configs: each job is a run in a folder of its own below the workdir; jobs that are done are not done
  again.
"""

from __future__ import annotations

import copy
import itertools
import os
import pathlib
import re
import statistics
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from mtface import process
from mtface.config.files import overridden
from mtface.config.saved import read_config
from mtface.config.stages import stage_folder, stage_of
from mtface.errors import UserError
from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.results import Row, markdown_table, results_table
from mtface.files import file_name, local_path, write_csv, write_json, write_text
from mtface.training.checkpoints import Checkpoints
from mtface.training.checks import check_experiment
from mtface.training.loop import train

_COLUMNS = (
  'set',
  'source',
  'task',
  'n',
  'accuracy',
  'low',
  'high',
  'balanced_accuracy',
  'macro_f1',
  'mae',
  'seconds',
)


def sweep_checkpoints(
  workdir: str | os.PathLike, data_dir: str | os.PathLike, on: Sequence[str] = (), stage: str = ''
) -> list[Row]:
  """Measures every checkpoint of a run's stage ('' is the last one).

  Returns:
    The rows of `evaluate` by step, which are also in the stage's folder `sweep`.
  """
  workdir = local_path(workdir)
  stage, _ = stage_of(read_config(workdir), stage)
  steps = Checkpoints(workdir, stage).steps
  if not steps:
    raise UserError(f'{workdir}: holds no checkpoint yet; train first')
  rows = evaluate(
    workdir,
    data_dir,
    checkpoints=[str(step) for step in steps],
    on=on,
    skip_measured=True,
    stage=stage,
  )
  _write(stage_folder(workdir, stage) / 'sweep', 'step', rows)
  return rows


def jobs(configs: Sequence[ConfigDict], over: str = '') -> list[tuple[str, ConfigDict]]:
  """All combinations of configs and values of fields, as (folder name, config).

  Args:
    configs: as the config files return them.
    over: fields of the config with values, as in 'optimizer.rate=0.01,0.03;seed=0,1': two rates
      times two seeds. Empty: the configs alone.

  Raises:
    UserError: a field that a config has not, a value of another type, or two jobs of one name.
  """
  axes = [_axis(text) for text in filter(None, (part.strip() for part in over.split(';')))]
  found = []
  for config, values in itertools.product(
    configs, itertools.product(*(values for _, values in axes))
  ):
    config = copy.deepcopy(config)
    for (field, _), value in zip(axes, values, strict=True):
      config = changed(config, field, value)
      config.name += f',{field}={value}'
    found.append((file_name(config.name), config))
  names = [name for name, _ in found]
  if twice := next((name for name in names if names.count(name) > 1), None):
    raise UserError(f'--configs: two jobs would share the folder {twice}; name each config once')
  return found


def _axis(text: str) -> tuple[str, list[str]]:
  field, equals, values = text.partition('=')
  found = [value.strip() for value in values.split(',') if value.strip()]
  if not equals or not found:
    raise UserError(
      f'--over={text}: expected FIELD=VALUE,VALUE..., several with semicolons, as in '
      'optimizer.rate=0.01,0.03;seed=0,1'
    )
  return field.strip().removeprefix('config.'), found


def changed(config: ConfigDict, field: str, text: str) -> ConfigDict:
  """The config with one field changed, by the rules of --config.FIELD=VALUE.

  Raises:
    UserError: it has no such field, or the value is of another type.
  """
  before: Any = config
  for name in field.split('.'):
    if not isinstance(before, ConfigDict) or name not in before:
      raise UserError(f'--over: {config.name} has no field {field!r}')
    before = before[name]
  try:
    return overridden(config, [f'--config.{field}={text}'])
  except UserError:
    raise UserError(
      f'--over: {field}={text}: expected {type(before).__name__}, as {before!r}'
    ) from None


def sweep_configs(
  configs: Sequence[ConfigDict], over: str, workdir: str | os.PathLike, data_dir: str | os.PathLike
) -> list[Row]:
  """Trains and measures each of `jobs` in `workdir`/<name>; returns their rows, each with its
  `job`, and writes them to `workdir`.
  """
  workdir = local_path(workdir)
  rows = []
  planned = jobs(configs, over)
  for name, config in planned:
    check_experiment(config, data_dir, workdir / name)
  for number, (name, config) in enumerate(planned, 1):
    process.say(f'job {number} of {len(planned)}: {name}')
    train(config, workdir / name, data_dir)
    head = {'job': name, 'without_seed': file_name(re.sub(r',seed=\d+', '', config.name))}
    rows += [head | row for row in evaluate(workdir / name, data_dir, skip_measured=True)]
  _write(workdir, 'job', rows)
  return rows


def over_seeds(rows: Sequence[Row]) -> list[Row]:
  """Mean and deviation over jobs that differ in their seed alone.

  Args:
    rows: of `sweep_configs`.

  Returns:
    One row for each job without its seed, selection, set and task that at least two seeds measured:
    `job`, `checkpoint`, `set`, `task`, `n`, `accuracies` of the seeds, their `mean` and `std` (of
    the sample, n - 1), and `mae`, the mean of the seeds' errors (None where there is none).
  """
  groups: dict[tuple[str, ...], list[Row]] = {}
  for row in rows:
    key = (row['without_seed'], row['checkpoint'], row['set'], row['task'])
    groups.setdefault(key, []).append(row)
  found = []
  for (job, checkpoint, set_name, task), seeds in groups.items():
    if len(seeds) > 1:
      accuracies: list[float] = [row['accuracy'] for row in seeds]
      errors: list[Any] = [row.get('mae') for row in seeds]
      spread = {'mean': statistics.mean(accuracies), 'std': statistics.stdev(accuracies)}
      head = {'job': job, 'checkpoint': checkpoint, 'set': set_name, 'task': task}
      mae = None if None in errors else statistics.mean(errors)
      found.append(head | {'n': seeds[0]['n'], 'accuracies': accuracies} | spread | {'mae': mae})
  return found


def seeds_table(rows: Sequence[Row]) -> str:
  """The rows of `over_seeds` as a table for a terminal or a Markdown file."""
  columns = ['job', 'checkpoint', 'set', 'task', 'n', 'seeds', 'accuracy', 'MAE']
  lines = []
  for row in rows:
    accuracy = f'{100 * row["mean"]:.2f} ± {100 * row["std"]:.2f}'
    mae = '' if row['mae'] is None else f'{row["mae"]:.2f}'
    cells = [row['job'], row['checkpoint'], row['set'], row['task'], f'{row["n"]:,}']
    lines.append([*cells, str(len(row['accuracies'])), accuracy, mae])
  return markdown_table(columns, lines)


def _write(folder: pathlib.Path, first: str, rows: Sequence[Row]) -> None:
  """sweep.csv, sweep.json and sweep.md; `first` is what tells the rows apart: job, or step."""
  columns = ([first] if first == 'step' else [first, 'checkpoint']) + list(_COLUMNS)
  table = [row | {'step': row['steps'][-1]} for row in rows]
  write_csv(
    folder / 'sweep.csv', columns, ([row.get(column) for column in columns] for row in table)
  )
  write_json(folder / 'sweep.json', list(rows))
  named = [
    row if first == 'step' else row | {'checkpoint': f'{row["job"]} {row["checkpoint"]}'}
    for row in rows
  ]
  seeds = [] if first == 'step' else over_seeds(rows)
  if seeds:
    write_json(folder / 'seeds.json', seeds)
  tables = [results_table(named), *([seeds_table(seeds)] if seeds else [])]
  write_text(folder / 'sweep.md', '\n\n'.join(tables) + '\n')
