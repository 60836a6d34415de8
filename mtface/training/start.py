"""Where a stage's weights come from: `config.start`.

    ''                            random initialisation
    stage:NAME[@last|best|STEP]   an earlier stage in the same workdir
    WORKDIR[@last|best|STEP]      another run's last stage
    FILE.safetensors, .pth ...    a weight file (mtface/models/weights.py), whose classifier is
                                  ignored

All parameters and statistics are taken from there, except those that match `start.fresh` and the
heads of tasks missing from the weights, which are initialised at random. Heads of tasks that the
stage does not train are ignored. A union of other classes is another head. Any other mismatch is an
error.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mtface import process
from mtface.config.saved import read_config
from mtface.config.schema import outputs_of
from mtface.config.stages import EARLIER, stage_of
from mtface.errors import UserError
from mtface.files import split_selection
from mtface.models.network import abstract_network
from mtface.models.paths import Params, Stats, by_path, head_of, matches, path_name
from mtface.models.weight_files import is_weights_file
from mtface.models.weights import Imported, import_weights
from mtface.outputs import Outputs
from mtface.parallel.sharding import everywhere, make_mesh
from mtface.training.checkpoints import Checkpoints
from mtface.training.run import Run


def start_weights(
  config: ConfigDict, workdir: pathlib.Path, params: Params, stats: Stats
) -> tuple[Params, Stats]:
  """The parameters and statistics that a stage starts from: the random initialisation `params` and
  `stats`, or what `config.start` specifies.

  Raises:
    UserError: the weights cannot be found or read, or do not match the network.
  """
  text = config.start.weights
  if not text:
    return params, stats
  if is_weights_file(text):
    imported = _read(config)
    process.say(f'weights: {text}: {imported.summary()}')
    return _imported(imported, params, stats, config.start.fresh)
  of, step = split_selection(text)
  folder: str | os.PathLike = workdir if text.startswith(EARLIER) else of
  stage = of.removeprefix(EARLIER) if text.startswith(EARLIER) else ''
  found = saved_weights(folder, stage, step or 'last')
  process.say(f'weights: {text}')
  there, _, _ = _find(folder, stage, step or 'last')
  return _grafted(config, (params, stats), found, outputs_of(there))


def check_start(run: Run, before: Mapping[str, Run]) -> None:
  """Raises the errors of `start_weights`, checking shapes only.

  Args:
    run: a planned stage.
    before: the earlier stages, which need not be trained yet.
  """
  text = run.config.start.weights
  if not text:
    return
  if is_weights_file(text):
    _read(run.config)
    return
  of, step = split_selection(text)
  if text.startswith(EARLIER):
    there = before[of.removeprefix(EARLIER)]
    _check_will_be_saved(there, step or 'last', text)
    found, outputs = (there.params, there.stats), there.network.outputs
  else:
    config, _, _ = _find(of, '', step or 'last')
    outputs = outputs_of(config)
    found = abstract_network(config.model, outputs, config.image_shape)[1:]
  _grafted(run.config, (run.params, run.stats), found, outputs)


def _check_will_be_saved(run: Run, step: str, what: str) -> None:
  """Raises a `UserError` for a selection that a finished stage will not have."""
  if step == 'best' and not run.config.evaluation.best_on:
    raise UserError(
      f'config.start.weights={what}: that stage marks no best checkpoint; set its '
      'config.evaluation.best_on, or use @last'
    )
  if step.isdigit() and not run.seconds and not run.config.evaluation.patience:
    every, keep = run.duration('checkpoint.every'), run.config.checkpoint.keep_last
    saved = sorted({*range(every, run.steps + 1, every)[-keep:], run.steps})[-keep:]
    if int(step) not in saved:
      raise UserError(
        f'config.start.weights={what}: that stage will not keep a checkpoint of step {step}; '
        'it keeps '
        f'{", ".join(map(str, saved))}'
      )


def saved_weights(
  workdir: str | os.PathLike, stage: str = '', step: str = 'last'
) -> tuple[Params, Stats]:
  """The parameters and statistics of one checkpoint, on the host.

  Args:
    workdir: folder of a run.
    stage: a stage of the run; '' is the last one.
    step: last, best, or a number.
  """
  config, checkpoints, number = _find(workdir, stage, step)
  everyone = everywhere(make_mesh())
  weights = abstract_network(config.model, outputs_of(config), config.image_shape)[1:]
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everyone), weights)
  return jax.device_get(checkpoints.restore_weights(number, *like))


def run_of(workdir: str | os.PathLike, stage: str = '', step: str = 'last') -> ConfigDict:
  """The experiment of a stage of a run that has such a checkpoint; '' is the last stage."""
  return _find(workdir, stage, step)[0]


def _find(workdir: str | os.PathLike, stage: str, step: str) -> tuple[ConfigDict, Checkpoints, int]:
  """(config of the stage, its checkpoints, the selected step)."""
  stage, config = stage_of(read_config(workdir), stage)
  checkpoints = Checkpoints(workdir, stage)
  if not checkpoints.steps:
    raise UserError(f'{checkpoints.folder}: has no checkpoint yet; train it first')
  if step not in ('last', 'best') and not step.isdigit():
    raise UserError(f'config.start.weights: @{step}: expected last, best or a step')
  number = {'last': lambda: checkpoints.steps[-1], 'best': checkpoints.best_step}.get(
    step, lambda: int(step)
  )()
  if number not in checkpoints.steps:
    listed = ', '.join(map(str, checkpoints.steps))
    raise UserError(
      f'{checkpoints.folder}: has no checkpoint of step {number}; available: {listed}'
    )
  return config, checkpoints, number


def _read(config: ConfigDict) -> Imported:
  """The weights for the network from the file `config.start.weights`."""
  return import_weights(
    config.start.weights,
    config.model,
    outputs_of(config),
    config.image_shape,
    classifier='leave',
  )


def _grafted(
  config: ConfigDict, own: Sequence[Any], there: Sequence[Any], outputs: Outputs
) -> tuple[Params, Stats]:
  """(params, stats) of `own`, replaced by those of `there`, of a network of these `outputs`, where
  present.
  """
  what = f'config.start.weights={config.start.weights}'
  others = outputs_of(config).other_layers(outputs)
  params, stats = (
    graft(*trees, config.start.fresh, what, others) for trees in zip(own, there, strict=True)
  )
  return params, stats


def graft(
  own: Any, there: Any, fresh: Sequence[str], what: str, others: Collection[str] = ()
) -> Any:
  """`own` with the arrays of `there` under the same names, see the module docstring; `what` starts
  error messages; `others` are heads of `there` that are other ones in spite of their names.
  """
  mine = by_path(own)
  theirs = {name: x for name, x in by_path(there).items() if head_of(name) not in others}
  heads = {head_of(name) for name in theirs}
  drawn = {
    name for name in mine if matches(fresh, name) or (head_of(name) and head_of(name) not in heads)
  }
  for name in [name for name in mine if name not in drawn]:
    have = np.shape(theirs[name]) if name in theirs else 'missing'
    if have != np.shape(mine[name]):
      raise UserError(
        f'{what}: {name} is {have}, the network expects {np.shape(mine[name])}; list it in '
        'config.start.fresh to initialise it at random, or use '
        'the same config.model'
      )
  left = [
    name for name in theirs if name not in mine and not matches(fresh, name) and not head_of(name)
  ]
  if left:
    raise UserError(
      f'{what}: {left[0]} (and {len(left) - 1} more) does not exist in the network; use the same '
      'config.model'
    )
  return jax.tree_util.tree_map_with_path(
    lambda path, x: x if path_name(path) in drawn else theirs[path_name(path)], own
  )


def _imported(
  imported: Imported, params: Params, stats: Stats, fresh: Sequence[str]
) -> tuple[Params, Stats]:
  """The random initialisation overlaid with a file's weights, except for parameters to be fresh."""

  def chosen(own: Any, part: Any) -> Any:
    there = by_path(part)
    return jax.tree_util.tree_map_with_path(
      lambda path, x: x if matches(fresh, path_name(path)) else there.get(path_name(path), x), own
    )

  return chosen(params, imported.params), chosen(stats, imported.stats)
