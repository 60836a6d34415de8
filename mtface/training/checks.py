"""Whether an experiment can work, all of its stages, before anything is trained or written: `train`
and `describe` begin with it.

What a config says by itself comes first (`config_checks.py`), then whether its sets are there, then
each stage with its data, its network by shapes alone, the weights that it starts from and the sets
that it is measured on. No weight is drawn, no pixel looked at.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import traceback
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from mtface.config.checks import check_stages
from mtface.config.durations import to_seconds
from mtface.config.schema import tasks_of
from mtface.config.stages import naming_stage
from mtface.config.tables import LOSSES, SCHEDULES
from mtface.data.index import prepared_dir
from mtface.data.inputs import check_images
from mtface.data.loader import join_labels
from mtface.data.names import SourceName
from mtface.data.sources import load_source
from mtface.errors import UserError, first_line
from mtface.files import local_path
from mtface.models.paths import by_path, check_patterns, matches
from mtface.parallel.sharding import make_mesh
from mtface.training.checkpoints import steps_of
from mtface.training.objective import class_weights, joined_tasks
from mtface.training.optim import make_optimizer, rate_factors
from mtface.training.run import Run, plan
from mtface.training.selection import Selection
from mtface.training.start import check_start
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally
from mtface.training.teachers import check_teachers
from mtface.training.trackers import check_tracker


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
        check_teachers(run, runs, data_dir)
      elif trained[-1] > run.steps:  # never of a run whose length is a time
        raise UserError(
          f'config.duration: {run.config.duration!r} is {run.steps:,} steps, and {workdir} holds '
          f'step {trained[-1]:,} already; '
          'a run may be made longer, not shorter'
        )
    runs[name] = run
  return runs


def _check_losses(config: ConfigDict) -> None:
  """Each task's loss is one of its form, one class of several or a yes or no for each; those that
  are joined in a union fit together.
  """
  joined = joined_tasks(config)
  for name, task in tasks_of(config).items():
    loss, form = config.tasks[name].loss, 'multi' if task.multi_label else 'single'
    LOSSES.entry(loss, f'config.tasks.{name}.loss')
    fits = {term: of.traits['labels'] in (form, 'both') for term, of in LOSSES.items()}
    if not fits[loss]:
      fitting = ' or '.join(term for term, good in fits.items() if good)
      raise UserError(
        f'config.tasks.{name}.loss: {loss} is for {LOSSES[loss].traits["labels"]}-label tasks; '
        f'{name} is {form}-label: {fitting}'
      )
    if config.tasks[name].votes and not LOSSES[loss].traits['shares']:
      able = ' or '.join(term for term, of in LOSSES.items() if of.traits['shares'])
      raise UserError(
        f'config.tasks.{name}.votes: {loss} takes one label, and no shares of votes; {able} does'
      )
    if config.tasks[name].class_weights == 'balanced' and task.multi_label:
      raise UserError(
        f'config.tasks.{name}.class_weights: balanced is for single-label tasks; {name} is '
        'multi-label: none'
      )
    if config.tasks[name].class_weights == 'balanced' and name in joined:
      raise UserError(
        f'config.tasks.{name}.class_weights: balanced is for a loss of one task; in the union of '
        'label spaces use none, or config.outputs.layer=heads'
      )


def _check_selections(config: ConfigDict) -> None:
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
  for field, text in (
    ('log_every', config.log_every),
    ('checkpoint.every', config.checkpoint.every),
  ):
    if to_seconds(text, field) is not None:
      raise UserError(f'config.{field}: {text!r}: expected steps, epochs or examples')
  schedule = config.optimizer.schedule
  if run.seconds and SCHEDULES[schedule].traits['follows_length']:
    others = [name for name, of in SCHEDULES.items() if not of.traits['follows_length']]
    raise UserError(
      f'config.duration: {config.duration!r} is not a number of steps, from which the schedule '
      f'{schedule} follows; give steps, epochs or examples, or take '
      f'config.optimizer.schedule={" or ".join(others)}'
    )
  check_tracker(config.tracker)
  optimizer = make_optimizer(config.optimizer, run.steps, config.freeze.params)
  if config.imports:
    _check_traces(run, optimizer)


def _check_traces(run: Run, optimizer: optax.GradientTransformation) -> None:
  """Traces a step by shapes: what modules of the user's own register may not fit together."""
  config, step = (
    run.config,
    make_step(run.network, optimizer, run.tasks, run.config, class_weights(run)),
  )
  size = config.batch_size

  def of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((size, *shape), dtype)

  labels, mask = jax.tree.map(lambda x: of(x.shape[1:], x.dtype), join_labels(run.sources))
  batch = {
    'image': of(tuple(config.image_shape), np.uint8),
    'labels': labels,
    'mask': mask,
    'source': of((), np.int32),
    'position': of((), np.uint32),
    'stop': of((), np.int32),
  }
  try:
    new = functools.partial(new_state, optimizer=optimizer, ema=config.ema)
    state = jax.eval_shape(new, run.params, run.stats)
    after, _ = jax.eval_shape(step, state, jax.eval_shape(lambda: new_tally(run.tasks)), batch)
  except UserError:
    raise
  except Exception as error:  # the functions are the user's: anything may come out of them
    own = {getattr(sys.modules.get(name), '__file__', None) for name in config.imports}
    frames = traceback.extract_tb(error.__traceback__)
    where = next(frame for frame in frames if frame.filename in own or frame is frames[-1])
    raise UserError(
      f'config.imports: a training step fails: {type(error).__name__}: {first_line(error)} '
      f'({where.filename}:{where.lineno}); correct what {", ".join(config.imports)} registers'
    ) from error
  if changed := [
    name
    for name, x in by_path(after.params).items()
    if (x.shape, x.dtype) != (by_path(run.params)[name].shape, by_path(run.params)[name].dtype)
  ]:
    raise UserError(
      f'config.optimizer.name: {config.optimizer.name} changes the shape or type of {changed[0]}'
    )


def _check_measuring(run: Run, data_dir: str | os.PathLike) -> None:
  """The sets of `config.evaluation.sets` have the images and some of the tasks of the network;
  those that choose the best, labels too.
  """
  predicted = run.network.outputs.answered
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
