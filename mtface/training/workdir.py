"""config.json of a run: the configuration, the versions and the hardware that it began with, and
what the sets were that it has read.

A workdir belongs to one configuration as far as that has been trained: a stage that has a
checkpoint stays what it is, but for fields of `FREE` and, at the end of the run, a longer duration.
A stage without a checkpoint may be changed, and a workdir without any holds nothing.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mtface import process
from mtface.config.saved import CONFIG_FILE, read_config, read_content, versions
from mtface.config.schema import flat
from mtface.config.stages import stage_folder, stages_of
from mtface.config.tables import SCHEDULES
from mtface.data import sources
from mtface.data.names import SourceName
from mtface.errors import UserError
from mtface.files import whole
from mtface.parallel import jax_settings
from mtface.parallel.hardware import hardware
from mtface.progress import warn
from mtface.training.checkpoints import steps_of
from mtface.training.logs import METRICS_FILE
from mtface.training.run import Run

# Fields that a resumed run may change without becoming another run: it may go on on other machines,
# and have another name.
FREE = (
  'name',
  'log_every',
  'log_gradients',
  'tracker',
  'store',
  'steps_a_call',
  'profile.start',
  'profile.steps',
  'evaluation.patience',
  'mesh.fsdp',
  'mesh.shard_from',
  'distributed.start_timeout',
  'distributed.heartbeat',
)
_FREE_GROUP = 'arguments'  # of the config file: what they mean is in the other fields

Data = Mapping[str, Mapping[str, str]]  # stage -> source -> fingerprint of its prepared set
NOTHING: Data = types.MappingProxyType({})


def fingerprints(run: Run, data_dir: str | os.PathLike) -> dict[str, str]:
  """{source: fingerprint of its prepared set} of all that a stage reads: what it trains on, and
  what it is measured on meanwhile.
  """
  evaluation = run.config.evaluation
  names = [source.name for source in run.sources] + [
    evaluation.sets[name].name for name in evaluation.during_training
  ]
  return {name: sources.fingerprint(name, data_dir) for name in dict.fromkeys(names)}


def check_config(
  config: ConfigDict, workdir: pathlib.Path, data: Data = NOTHING, runs: Sequence[pathlib.Path] = ()
) -> None:
  """Raises a `UserError` for a workdir whose checkpoints are of another run, or of the same on
  other data; see `write_config`.
  """
  if not process.is_first() or not (workdir / CONFIG_FILE).exists():
    return
  begun = _begun(runs or [workdir])
  if begun:
    _check_same_run(config, workdir, begun)
    _check_same_data(workdir, {name: data.get(name, {}) for name in begun})


def write_config(
  config: ConfigDict, workdir: pathlib.Path, data: Data = NOTHING, runs: Sequence[pathlib.Path] = ()
) -> None:
  """Writes config.json, or checks that the one that is there describes the same run. The first
  process does it for all.

  Args:
    config: of the experiment.
    workdir: the folder of config.json.
    data: what the stages read, see `fingerprints`.
    runs: the folders whose checkpoints bind the workdir to its config; none: itself.
  """
  check_config(config, workdir, data, runs)
  if process.is_first():
    _write_config(config, workdir, data, _begun(runs or [workdir]))
  if process.count > 1:
    multihost_utils.sync_global_devices('config written')


def _write_config(
  config: ConfigDict, workdir: pathlib.Path, data: Data, begun: Sequence[str]
) -> None:
  path = workdir / CONFIG_FILE
  before = read_content(path) if begun and path.exists() else {}
  known, now = before.get('data', {}), datetime.datetime.now().isoformat(' ', 'seconds')
  noted = {
    stage: {
      source: known[stage][source]
      if stage in begun and source in known.get(stage, {})
      else {'fingerprint': found, 'noted': now}
      for source, found in data[stage].items()
    }
    for stage in data
  }
  settings = jax_settings.of_numbers()
  if before:
    _compare_settings(path, before.get('jax_settings', {}), settings)
  content = {
    'config': json.loads(config.to_json_best_effort()),
    'versions': before.get('versions') or versions(),
    'jax_settings': before.get('jax_settings', settings),
    'data': noted,
  }
  if not before or 'hardware' in before:  # what an older run began on, nobody knows
    content['hardware'] = before.get('hardware') or hardware()
  if before == content:
    return
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:  # folds that run side by side share this file
      partial.write_text(json.dumps(content, indent=2))
    for name in stages_of(config).keys() - begun:
      _remove_metrics(stage_folder(workdir, name))
  except OSError as error:
    raise UserError(
      f'{workdir}: the workdir cannot be written ({error.strerror or error}); choose another '
      '--workdir'
    ) from error


def _remove_metrics(folder: pathlib.Path) -> None:
  """Removes the curves of a training that ended before its first checkpoint: the one that begins
  now may be another.
  """
  for path in [folder / METRICS_FILE, *(folder / 'tensorboard').glob('events.out.tfevents.*')]:
    path.unlink(missing_ok=True)


def _begun(runs: Sequence[pathlib.Path]) -> list[str]:
  """The stages that have a checkpoint in any of the workdirs."""
  found = dict.fromkeys(
    path.name for run in runs for path in sorted((run / 'checkpoints').glob('*'))
  )
  return [name for name in found if any(steps_of(run, name) for run in runs)]


def _check_same_run(config: ConfigDict, workdir: pathlib.Path, begun: Sequence[str]) -> None:
  before, now = stages_of(read_config(workdir)), stages_of(config)
  path = workdir / CONFIG_FILE
  for name in begun:
    if name not in before:  # a folder of the user's own
      continue
    if name not in now:
      raise UserError(
        f'{path}: this workdir holds a run with a stage {name}, which the config no longer has; '
        'keep it, or use another --workdir'
      )
    old, new = _values(before[name]), _values(now[name])
    changed = [
      field for field in sorted(old.keys() | new.keys()) if old.get(field) != new.get(field)
    ]
    goes_on = not any(later in begun for later in list(now)[list(now).index(name) + 1 :])
    if changed == ['duration'] and goes_on and not _follows_length(now[name]):
      continue  # `check_experiment` sees to it that it is not shorter than what is trained
    if changed:
      raise UserError(
        f'{path}: {_says(name, changed, old, new)}; {_remedy(changed, workdir, name, goes_on)}'
      )


def _follows_length(config: ConfigDict) -> bool:
  """Whether the learning rate follows from the length of the run."""
  return SCHEDULES[config.optimizer.schedule].traits['follows_length']


def _values(config: ConfigDict) -> dict[str, Any]:
  """The fields that make a run what it is."""
  values = flat(json.loads(config.to_json_best_effort()))
  return {k: v for k, v in values.items() if k not in FREE and k.partition('.')[0] != _FREE_GROUP}


def _says(
  stage: str, changed: Sequence[str], old: Mapping[str, Any], new: Mapping[str, Any]
) -> str:
  more = f' (and {len(changed) - 1} more fields)' if len(changed) > 1 else ''
  of = 'a run' if stage == 'main' else f'stage {stage}'
  k = changed[0]
  return (
    f'this workdir holds {of} with {k}={old.get(k)!r}, the config now says {new.get(k)!r}{more}'
  )


def _remedy(changed: Sequence[str], workdir: pathlib.Path, stage: str, goes_on: bool) -> str:
  if changed == ['duration']:
    why = (
      'its learning rate follows from its length'
      if goes_on
      else 'later stages have begun from its end'
    )
    return (
      f'it cannot be made longer, since {why}; use the same config to continue it, or train on '
      'from its weights in another '
      f'--workdir, with --config.start.weights={workdir}@last'
    )
  return (
    'use the same config to continue it (log_every, mesh, distributed and a longer duration '
    'may change), or another --workdir'
  )


def _check_same_data(workdir: pathlib.Path, data: Data) -> None:
  path = workdir / CONFIG_FILE
  known = read_content(path).get('data', {})
  for stage, found in data.items():
    for source, fingerprint in found.items():
      before = known.get(stage, {}).get(source)
      if before and before['fingerprint'] != fingerprint:
        raise UserError(
          f'{path}: the set {SourceName.parse(source).set_name} is no longer the one that this run '
          f'has read ({source}: fingerprint '
          f'{before["fingerprint"]} on {before["noted"]}, now {fingerprint}); put that one back to '
          'continue, or use another --workdir'
        )


def _compare_settings(
  path: pathlib.Path, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
  """Says in a line that a run goes on with other settings of JAX than it began with."""
  changed = [
    f'{name} was {before.get(name, "as JAX has it")}, is {now.get(name, "as JAX has it")}'
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
  ]
  if changed:
    warn(
      f'{path}: the run began with other settings of JAX, which change its numbers: '
      f'{"; ".join(changed)}'
    )
