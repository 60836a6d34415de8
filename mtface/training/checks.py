"""Whether an experiment can work, all of its stages, before anything is trained or written: `train`
and `describe` begin with it.

What a config says by itself comes first (`config_checks.py`), then whether its sets are there, then
each stage with its data, its network by shapes alone, the weights that it starts from and the sets
that it is measured on. No weight is drawn, no pixel looked at.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from mtface import losses
from mtface.config.checks import check_stages
from mtface.config.schema import tasks_of
from mtface.config.stages import naming_stage
from mtface.data.index import prepared_dir
from mtface.data.inputs import check_images
from mtface.data.names import SourceName
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.files import local_path
from mtface.models.paths import by_path, check_patterns, matches
from mtface.outputs import with_views
from mtface.parallel.sharding import make_mesh
from mtface.training.checkpoints import steps_of
from mtface.training.optim import make_optimizer, rate_factors
from mtface.training.run import Run, plan
from mtface.training.start import check_start


def check_experiment(
  config: ConfigDict, data_dir: str | os.PathLike, workdir: pathlib.Path | None = None
) -> dict[str, Run]:
  """Raises a `UserError`, which names the stage, for whatever would stop the experiment later.

  Args:
    config: of the experiment.
    data_dir: of the prepared sets.
    workdir: where it is to be trained; stages that have a checkpoint there need their start weights
      no more. None: nowhere yet.

  Returns:
    {stage: its run, planned (`run.plan`)}, in the order of training.
  """
  stages = check_stages(config, jax.device_count())
  make_mesh(config.mesh.fsdp)
  for name, stage in stages.items():
    with naming_stage(name):
      _check_losses(stage)
      _check_selections(stage)
      _check_sets_are_there(stage, local_path(data_dir))
  runs: dict[str, Run] = {}
  for name, stage in stages.items():
    with naming_stage(name):
      run = plan(stage, data_dir)
      _check_training(run)
      _check_measuring(run, data_dir)
      trained = steps_of(workdir, name) if workdir else []
      if not trained:
        check_start(run, runs)
      elif trained[-1] > run.steps:
        raise UserError(
          f'config.duration: {run.config.duration!r} is {run.steps:,} steps, and {workdir} holds '
          f'step {trained[-1]:,} already; '
          'a run may be made longer, not shorter'
        )
    runs[name] = run
  return runs


def _check_losses(config: ConfigDict) -> None:
  """Each task's loss is one of its form, one class of several or a yes or no for each."""
  for name, task in tasks_of(config).items():
    loss = config.tasks[name].loss
    if loss not in losses.TERMS:
      raise UserError(
        f'config.tasks.{name}.loss {loss!r} is unknown; there are {", ".join(losses.TERMS)}'
      )
    forms = {True: 'multi-label', False: 'single-label'}
    if (loss in losses.MULTI_LABEL) != task.multi_label:
      fitting = [term for term in losses.TERMS if (term in losses.MULTI_LABEL) == task.multi_label]
      raise UserError(
        f'config.tasks.{name}.loss: {loss} is for {forms[not task.multi_label]} tasks; {name} is '
        f'{forms[task.multi_label]}: '
        f'{" or ".join(fitting)}'
      )
    if config.tasks[name].class_weights == 'balanced' and task.multi_label:
      raise UserError(
        f'config.tasks.{name}.class_weights: balanced is for single-label tasks; {name} is '
        'multi-label: none'
      )


def _check_selections(config: ConfigDict) -> None:
  from mtface.training.selection import Selection  # which imports what trains, which imports this

  for text in config.evaluation.checkpoints:
    try:
      Selection.parse(text)
    except UserError as error:
      raise UserError(
        f'config.evaluation.checkpoints: {str(error).removeprefix("--checkpoint=")}'
      ) from error


def _check_sets_are_there(config: ConfigDict, data_dir: pathlib.Path) -> None:
  for entry in [*config.sources.values(), *config.evaluation.sets.values()]:
    prepared_dir(SourceName.parse(entry.name).set_name, data_dir)


def _check_training(run: Run) -> None:
  """The patterns name something, something is left to train, and the optimiser and all durations
  are possible.
  """
  config, names = run.config, list(by_path(run.params))
  check_patterns(config.freeze.params, names, 'config.freeze.params')
  check_patterns(config.start.fresh, names, 'config.start.fresh')
  check_patterns(
    [pattern for pattern, _ in rate_factors(config.optimizer.factors)],
    names,
    'config.optimizer.factors',
  )
  if all(matches(config.freeze.params, name) for name in names):
    raise UserError('config.freeze.params: nothing is left to train')
  for field in ('duration', 'log_every', 'checkpoint.every'):
    run.duration(field)
  make_optimizer(config.optimizer, run.steps, config.freeze.params)


def _check_measuring(run: Run, data_dir: str | os.PathLike) -> None:
  """The sets of `config.evaluation.sets` have the images and some of the tasks of the network;
  those that choose the best, labels too.
  """
  predicted: Mapping[str, object] = with_views(run.tasks)
  for name, entry in run.config.evaluation.sets.items():
    field = f'config.evaluation.sets.{name}'
    source = load_source(entry.name, data_dir, entry.tasks or None)
    if not predicted.keys() & source.labels.keys():
      raise UserError(
        f'{field}: {source.name} labels {", ".join(source.labels)}, the network predicts '
        f'{", ".join(predicted)}; '
        'name a set with one of these'
      )
    check_images(source, run.config.image_shape)
    labelled = any(source.labelled(task).any() for task in run.tasks if task in source.labels)
    if name in run.config.evaluation.best_on and not labelled:
      raise UserError(
        f'config.evaluation.best_on: {name} ({source.name}) has no label for {", ".join(run.tasks)}'
      )
