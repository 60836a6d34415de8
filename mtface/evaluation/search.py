"""`mtface search`: looks for better values of a config's fields, by Optuna.

Every trial is a run of its own below the workdir, ranked by its best checkpoint on
`config.evaluation.best_on`; no other set is measured while searching, so none can be searched on.
Trials that are behind the others half way are stopped. The trials stand in `search.journal`, a file
of Optuna's: any number of processes, on this machine or others that see the folder, run the same
command and share them. A trial whose process was killed is taken up by the next process that begins
one, at its newest checkpoint.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import hashlib
import json
import logging
import math
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mtface import process
from mtface.config.stages import MAIN, stages_of
from mtface.errors import Diverged, UserError
from mtface.evaluation.results import markdown_table
from mtface.evaluation.sweep import changed
from mtface.files import local_path, write_csv, write_json, write_text
from mtface.training.checkpoints import Checkpoints
from mtface.training.checks import check_experiment
from mtface.training.lock import Lock
from mtface.training.loop import train

JOURNAL = 'search.journal'
TRIALS = 'trials'  # folder of the runs
FIRST_AT_RANDOM = 8  # trials before values are suggested by what the others had
_YOUNG = datetime.timedelta(seconds=10)  # a trial that may not have its lock yet
_FOLDER = 'folder'
_SHOWN = 10  # trials in the table


@dataclasses.dataclass(frozen=True)
class Axis:
  """A field of the config and what it may be: one of `values`, or from `low` to `high`.

  Attributes:
    field: its name, with dots.
    values: text, as on the command line.
    low, high: limits of a range, both included.
    log: whether the range is searched by its logarithm.
    whole: whether only whole numbers are meant.
  """

  field: str
  values: tuple[str, ...] = ()
  low: float = 0.0
  high: float = 0.0
  log: bool = False
  whole: bool = False

  def suggest(self, trial: Any) -> str:
    """What Optuna's trial takes of it, as text; numbers to four digits."""
    if self.values:
      return str(trial.suggest_categorical(self.field, list(self.values)))
    if self.whole:
      return str(trial.suggest_int(self.field, int(self.low), int(self.high), log=self.log))
    return f'{trial.suggest_float(self.field, self.low, self.high, log=self.log):.4g}'

  def middle(self) -> str:
    """A value that is allowed, to check the field with."""
    if self.values:
      return self.values[0]
    return str(int(self.low)) if self.whole else repr(self.low)


def space_of(text: str) -> list[Axis]:
  """Reads fields with their values or ranges, several with semicolons, as in
  'optimizer.rate=0.003:0.1:log;batch_size=64,128;model.dropout=0.0:0.5'.

  Raises:
    UserError: it is not of this form.
  """
  axes = [_axis(part.strip()) for part in text.split(';') if part.strip()]
  fields = [axis.field for axis in axes]
  if not axes or len(set(fields)) < len(fields):
    raise UserError(
      f'--over={text}: name each field to search over once, as in '
      'optimizer.rate=0.003:0.1:log;batch_size=64,128'
    )
  return axes


def _axis(text: str) -> Axis:
  field, _, of = text.partition('=')
  field, parts = field.strip().removeprefix('config.'), of.split(':')
  try:
    if not field or not of.strip():
      raise ValueError
    if len(parts) == 1:
      return Axis(field, tuple(value.strip() for value in of.split(',') if value.strip()))
    low, high, *rest = parts
    log, whole = rest == ['log'], low.strip().isdigit() and high.strip().isdigit()
    axis = Axis(field, (), float(low), float(high), log, whole)
    if rest not in ([], ['log']) or not axis.low < axis.high or (log and axis.low <= 0):
      raise ValueError
    if not math.isfinite(axis.high - axis.low):
      raise ValueError
  except ValueError:
    raise UserError(
      f'--over={text}: expected FIELD=VALUE,VALUE... or FIELD=LOW:HIGH, with :log behind it for '
      'rates and the like, as in optimizer.rate=0.003:0.1:log'
    ) from None
  return axis


def search(
  config: ConfigDict,
  over: str,
  trials: int,
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
) -> list[dict[str, Any]]:
  """Runs trials until there are so many, those of other processes included.

  Args:
    config: an experiment whose last stage has sets in `evaluation.best_on`.
    over: what to search over, see `space_of`.
    trials: in all.
    workdir: of the search.
    data_dir: of the prepared sets.

  Returns:
    The trials, the best one first: `number`, `state`, `score`, `folder`, the fields' `values`,
    `seconds` and `error`. They are also in the workdir: `search.csv`, `search.md`, `best.json`.

  Raises:
    UserError: Optuna is not installed, a field is unknown or of another type, no set is there to
      choose by, or bad input of a trial.
  """
  optuna = _optuna()
  workdir, axes = local_path(workdir), space_of(over)
  config = _chosen_by(config)
  check_experiment(_with(config, {axis.field: axis.middle() for axis in axes}), data_dir, None)
  workdir.mkdir(parents=True, exist_ok=True)
  study = _study(optuna, workdir, config, over)
  while len(study.get_trials(deepcopy=False)) - _set_aside(optuna, study, workdir) < trials:
    trial = study.ask()
    values = {axis.field: axis.suggest(trial) for axis in axes}
    folder = _folder(values)
    trial.set_user_attr(_FOLDER, folder)
    trial.set_user_attr('values', values)
    try:
      _run(optuna, study, trial, _with(config, values), workdir / TRIALS / folder, data_dir)
    finally:
      found = _write(study, workdir)
    done = [of for of in found if of['score'] is not None]
    best = f'; best {done[0]["score"]:.4f}, {_words(done[0]["values"])}' if done else ''
    process.say(f'trial {trial.number + 1} of {trials}: {_outcome(found, trial.number)}{best}')
  return _write(study, workdir)


def _optuna() -> Any:
  try:
    import optuna
  except ImportError:
    raise UserError("search needs Optuna: pip install 'mtface[search]'") from None
  optuna.logging.set_verbosity(logging.ERROR)
  warnings.filterwarnings('ignore', category=optuna.exceptions.ExperimentalWarning)
  return optuna


def _chosen_by(config: ConfigDict) -> ConfigDict:
  """The config, of whose sets only those to choose by are measured while it trains."""
  name, last = list(stages_of(config).items())[-1]
  if not last.evaluation.best_on:
    raise UserError(
      'config.evaluation.best_on: names no set to choose by; name those that are not tested on, as '
      "in --config.evaluation.best_on=('fer2013_public',)"
    )
  config = copy.deepcopy(config)
  if name == MAIN:
    config.evaluation.during_training = tuple(last.evaluation.best_on)
  return config


def _with(config: ConfigDict, values: Mapping[str, str]) -> ConfigDict:
  """A copy of the config with these values of fields."""
  config = copy.deepcopy(config)
  for field, value in values.items():
    config = changed(config, field, value)
  return config


def _folder(values: Mapping[str, str]) -> str:
  """Of a trial, by its values: one that is begun again finds its checkpoints."""
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _study(optuna: Any, workdir: pathlib.Path, config: ConfigDict, over: str) -> Any:
  """The study in the workdir's journal, which is of one config and one space."""
  from optuna.storages import JournalStorage
  from optuna.storages.journal import JournalFileBackend

  storage = JournalStorage(JournalFileBackend(str(workdir / JOURNAL)))
  study = optuna.create_study(
    storage=storage, study_name='mtface', direction='maximize', load_if_exists=True
  )
  study.sampler = optuna.samplers.TPESampler(
    n_startup_trials=FIRST_AT_RANDOM,
    constant_liar=True,
    seed=config.seed + len(study.get_trials(deepcopy=False)),
  )
  study.pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST_AT_RANDOM, n_warmup_steps=1)
  of = {'config': config.to_json_best_effort(sort_keys=True), 'over': over}
  for name, value in of.items():
    if study.user_attrs.setdefault(name, value) != value:
      what = 'another config' if name == 'config' else f'--over={study.user_attrs[name]!r}'
      raise UserError(f'{workdir}: holds a search with {what}; take another --workdir')
    if name not in study.user_attrs:
      study.set_user_attr(name, value)
  return study


def _set_aside(optuna: Any, study: Any, workdir: pathlib.Path) -> int:
  """How many trials do not count: those that another was begun for. Trials whose process is gone
  are put into the queue.
  """
  state, aside = optuna.trial.TrialState, 0
  for trial in study.get_trials(deepcopy=False):
    if trial.state == state.RUNNING and _is_dead(trial, workdir):
      study.tell(trial.number, state=state.FAIL)
      study.enqueue_trial(trial.params)
      aside += 1
    elif trial.state == state.WAITING or (
      trial.state == state.FAIL and 'error' not in trial.user_attrs
    ):
      aside += 1
  return aside


def _is_dead(trial: Any, workdir: pathlib.Path) -> bool:
  folder = trial.user_attrs.get(_FOLDER)
  if datetime.datetime.now() - trial.datetime_start < _YOUNG:
    return False
  if folder is None:
    return True
  try:
    with Lock(workdir / TRIALS / folder / 'search'):
      return True
  except UserError:
    return False


def _run(
  optuna: Any,
  study: Any,
  trial: Any,
  config: ConfigDict,
  folder: pathlib.Path,
  data_dir: str | os.PathLike,
) -> None:
  """Trains a trial and tells its score; one that diverges, or is behind, has none."""
  state, stopped = optuna.trial.TrialState, False
  last = list(stages_of(config))[-1]

  def behind(stage: str, step: int, score: float) -> bool:
    nonlocal stopped
    if stage == last:
      trial.report(score, step)
      stopped = bool(trial.should_prune())
    return stopped

  (folder / 'search').mkdir(parents=True, exist_ok=True)
  with Lock(folder / 'search'):
    try:
      train(config, folder, data_dir, behind=behind)
    except UserError as error:
      trial.set_user_attr('error', str(error))
      study.tell(trial, state=state.FAIL)
      if isinstance(error, Diverged):
        return
      raise
    checkpoints = Checkpoints(folder, last)
    score = checkpoints.metrics(checkpoints.best_step())['best']
    if stopped:
      study.tell(trial, state=state.PRUNED)
    else:
      study.tell(trial, score)


# --- What it found --------------------------------------------------------------------------------


def _write(study: Any, workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The trials, best first, as files too."""
  found = [
    {
      'number': trial.number,
      'state': trial.state.name.lower(),
      'score': trial.value,
      'folder': f'{TRIALS}/{trial.user_attrs[_FOLDER]}',
      'values': trial.user_attrs['values'],
      'seconds': trial.duration.total_seconds() if trial.duration else None,
      'error': trial.user_attrs.get('error', ''),
    }
    for trial in study.get_trials(deepcopy=False)
    if 'values' in trial.user_attrs
  ]
  found.sort(key=lambda of: (of['score'] is None, -(of['score'] or 0), of['number']))
  fields = list(found[0]['values']) if found else []
  columns = ['number', 'state', 'score', *fields, 'seconds', 'folder', 'error']
  rows = [[{**of, **of['values']}.get(name) for name in columns] for of in found]
  write_csv(workdir / 'search.csv', columns, rows)
  write_text(workdir / 'search.md', f'{search_table(found)}\n')
  if found and found[0]['score'] is not None:
    write_json(workdir / 'best.json', found[0])
  return found


def search_table(found: Sequence[Mapping[str, Any]]) -> str:
  """The best trials, a line each."""
  if not found:
    return 'no trial'
  fields = list(found[0]['values'])
  lines = [
    [
      str(of['number']),
      '' if of['score'] is None else f'{of["score"]:.4f}',
      of['state'],
      *(of['values'][name] for name in fields),
      of['folder'],
    ]
    for of in found[:_SHOWN]
  ]
  return markdown_table(['trial', 'score', 'state', *fields, 'folder'], lines)


def overrides(values: Mapping[str, str]) -> str:
  """A trial's values as flags."""
  return ' '.join(f'--config.{name}={value}' for name, value in values.items())


def _words(values: Mapping[str, str]) -> str:
  return ', '.join(f'{name}={value}' for name, value in values.items())


def _outcome(found: Sequence[Mapping[str, Any]], number: int) -> str:
  (of,) = (x for x in found if x['number'] == number)
  if of['score'] is not None:
    return f'{of["score"]:.4f}'
  return of['error'] or of['state']
