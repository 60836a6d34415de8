"""Training, top to bottom: `train` is the loop; what it calls stands below it or in the module that is named."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtface import config as configs
from mtface import losses, metrics, process
from mtface.checkpoints import Checkpoints, steps_of
from mtface.data.loader import BatchSource, load_batches, to_devices
from mtface.data.mixing import Mixture, make_mixture
from mtface.data.names import SourceName
from mtface.data.sources import Source, check_shapes, load_source, prepared_dir
from mtface.distributed import StopRequest
from mtface.errors import Preempted, UserError
from mtface.health import Health
from mtface.logs import MetricsLog, TrainProgress, open_log, open_progress
from mtface.models.network import Network, by_path, check_patterns, make_network, matches
from mtface.optim import make_optimizer, make_schedule, rate_factors
from mtface.run_config import write_config
from mtface.scoring import Scorer, mean_losses, measure
from mtface.selfcheck import known_bad
from mtface.sharding import everywhere, make_mesh, place, shared, state_shardings
from mtface.stages import MAIN, stage_folder, stages_of
from mtface.start import start_weights
from mtface.step import NEVER, StepFunction, Tally, TrainState, make_step, new_state, new_tally
from mtface.tasks import Task


def train(config: ConfigDict, workdir: str | os.PathLike, data_dir: str | os.PathLike) -> TrainState:
  """Trains what `config` describes, stage by stage, or continues it where the workdir's newest checkpoint left it.

  Leaves in workdir: config.json, checkpoints/STAGE, metrics.jsonl and TensorBoard files. Running it again after any interruption gives the
  same parameters, bit for bit on the same devices, as a run that nothing disturbed.

  Returns:
    The state at the end of the last stage.

  Raises:
    UserError: bad input, or a loss that is not finite (the step is named).
    Preempted: a process was asked to stop (SIGTERM, SIGUSR1); all have saved the same step.
  """
  workdir = pathlib.Path(workdir).expanduser()
  if bad := known_bad():
    process.say(bad)
  stages = stages_of(config)
  for name, stage in stages.items():
    with naming_stage(name):
      configs.check(stage, make_mesh(stage.mesh.fsdp).size)
      check_sets(stage, data_dir)  # not after hours of the stages before
  for name, stage in stages.items():
    if len(stages) > 1:
      process.say(f'stage {name}')
    with naming_stage(name):
      state = train_stage(config, name, stage, workdir, data_dir)
  return state


def train_stage(
  whole: ConfigDict, name: str, config: ConfigDict, workdir: pathlib.Path, data_dir: str | os.PathLike
) -> TrainState:
  """The loop: trains one stage of the experiment `whole`, or continues it."""
  mesh = make_mesh(config.mesh.fsdp)
  run = prepare(config, data_dir)
  params, stats = run.params, run.stats
  if not steps_of(workdir, name):
    params, stats = start_weights(config, workdir, params, stats)
  optimizer = make_optimizer(config.optimizer, run.steps, config.freeze.params)
  state = new_state(params, stats, optimizer)
  shardings = state_shardings(state, mesh, config.mesh.shard_from)
  train_step = jit_step(run, optimizer, mesh, shardings)
  evaluate = _evaluation(config, run, mesh, data_dir)
  log_every, save_every = run.duration('log_every'), run.duration('checkpoint.every')

  # Bad input has shown itself by now: from here on the workdir is this run's.
  write_config(whole, workdir)
  with StopRequest() as stop, Checkpoints(workdir, name, keep_last=config.checkpoint.keep_last) as checkpoints:
    state = place(state, shardings)
    start, state = checkpoints.restore_latest(state) or (0, state)
    if start >= run.steps:
      process.say(f'{workdir}: already trained to step {start:,}')
      return state

    source = BatchSource(run.sources, run.mixture, config.batch_size, process.index, process.count)
    batches = to_devices(load_batches(source, start, run.steps), mesh, stop=stop)
    health = Health()
    with open_log(stage_folder(workdir, name), start) as log, open_progress(start, run.steps, config.batch_size) as bar:
      empty = place(new_tally(run.tasks), everywhere(mesh))
      tally = after = empty
      unread: Tally | None = None
      for step, batch in enumerate(health.waiting(batches), start + 1):
        before = after
        state, after = train_step(state, tally, batch)
        tally = after
        before.steps.block_until_ready()  # one step runs, one waits: enough to keep the device busy, and memory bounded
        stopping = bool(before.stop) and step < run.steps
        bar.advance(step)
        if unread is not None:  # sums up to the step before, read now that this one is under way
          _log_line(log, bar, step - 1, read_tally(run, step - 1, unread) | health.read())
          unread = None
        if step % save_every == 0 or step == run.steps:
          values = read_tally(run, step, tally) | health.read()
          check_finite(step, state)  # a diverged run is not saved
          scores, best = evaluate(state)
          _log_line(log, bar, step, values | scores)
          checkpoints.save(step, state, scores, best)
          tally = empty
          bar.pause()
        elif stopping:
          read_tally(run, step, tally)
          check_finite(step, state)
          checkpoints.save(step, state, extra=True)
        elif step % log_every == 0:
          unread, tally = tally, empty
        if stopping:
          checkpoints.wait()
          raise Preempted(f'{workdir}: stopped at step {step:,} of {run.steps:,}, which is saved')
  return state


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that a config stands for once its data are at hand."""

  config: ConfigDict
  tasks: dict[str, Task]
  sources: list[Source]
  mixture: Mixture
  network: Network
  params: Any
  stats: Any

  @property
  def steps(self) -> int:
    """Length of the run."""
    return self.duration('duration')

  def duration(self, field: str) -> int:
    """A duration of the config in steps."""
    text = self.config
    for part in field.split('.'):
      text = text[part]
    return configs.to_steps(text, self.config.batch_size, self.mixture.epoch_size, field)


def prepare(config: ConfigDict, data_dir: str | os.PathLike) -> Run:
  """Loads the sources, plans the mixture and makes the network."""
  tasks = configs.tasks_of(config)
  for entry in config.evaluation.sets.values():
    SourceName.parse(entry.name)  # a mistake in it would show only after training
  sources = [load_source(entry.name, data_dir, entry.tasks or tuple(tasks)) for entry in config.sources.values()]
  for source in sources:
    for task in source.labels:
      if task not in tasks:
        raise UserError(f'config.sources: {source.name} gives task {task!r}, which is not in config.tasks')
  unlabelled = [name for name in tasks if not any(name in source.labels for source in sources)]
  if unlabelled:
    raise UserError(f'config.tasks: no source labels {", ".join(unlabelled)}; add one, or remove the task')
  check_shapes(sources, config.image_shape)
  mixture = make_mixture(config.mixture, sources, seed=config.seed, batch_size=config.batch_size)
  network, params, stats = make_network(
    config.model, list(tasks.values()), config.image_shape, config.seed, still_parts(config)
  )
  _check_patterns(config, by_path(params))
  return Run(config, tasks, sources, mixture, network, params, stats)


def still_parts(config: ConfigDict) -> tuple[str, ...]:
  """Patterns of the parts whose batch norms keep their running statistics, and compute by them, in training too."""
  if config.freeze.norms not in ('running', 'batch'):
    raise UserError(f'config.freeze.norms {config.freeze.norms!r} is unknown; there are running, batch')
  return tuple(config.freeze.params) if config.freeze.norms == 'running' else ()


def _check_patterns(config: ConfigDict, names: Iterable[str]) -> None:
  check_patterns(config.freeze.params, names, 'config.freeze.params')
  check_patterns(config.start.fresh, names, 'config.start.fresh')
  check_patterns([pattern for pattern, _ in rate_factors(config.optimizer.factors)], names, 'config.optimizer.factors')
  if all(matches(config.freeze.params, name) for name in names):
    raise UserError('config.freeze.params: nothing is left to train')


def check_sets(config: ConfigDict, data_dir: str | os.PathLike) -> None:
  """Raises a `UserError` for a set of the config that is not prepared."""
  for entry in [*config.sources.values(), *config.evaluation.sets.values()]:
    prepared_dir(SourceName.parse(entry.name).set_name, pathlib.Path(data_dir).expanduser())


@contextlib.contextmanager
def naming_stage(name: str) -> Iterator[None]:
  """Lets bad input say which stage it belongs to."""
  try:
    yield
  except UserError as error:
    if name == MAIN:
      raise
    raise type(error)(f'stage {name}: {error}') from error


def jit_step(run: Run, optimizer: optax.GradientTransformation, mesh: Mesh, shardings: Any) -> StepFunction:
  """The run's training step on a mesh, see `jit_state_step`."""
  step = make_step(run.network, optimizer, run.tasks, run.config, class_weights(run.config, run))
  return jit_state_step(step, mesh, shardings)


def jit_state_step(step: StepFunction, mesh: Mesh, shardings: Any) -> StepFunction:
  """A training step for a mesh: the state lies as `shardings` say, the batch is shared. The state that goes in is given up."""
  return jax.jit(
    step,
    in_shardings=(shardings, everywhere(mesh), shared(mesh)),
    out_shardings=(shardings, everywhere(mesh)),
    donate_argnums=0,
  )


def class_weights(config: ConfigDict, run: Run) -> dict[str, np.ndarray]:
  """{task: [C]} for the tasks whose `class_weights` is 'balanced', from the counts of the training sources."""
  weights = {}
  for name, task in run.tasks.items():
    kind = config.tasks[name].class_weights
    if kind not in ('none', 'balanced'):
      raise UserError(f'config.tasks.{name}.class_weights {kind!r} is unknown; there are none, balanced')
    if kind == 'balanced':
      labels = [s.labels[name][s.mask[name]] for s in run.sources if name in s.labels and not task.multi_label]
      if not labels:
        raise UserError(f'config.tasks.{name}.class_weights: balanced is for single-label tasks')
      weights[name] = np.asarray(
        losses.balanced_class_weights(np.bincount(np.concatenate(labels), minlength=task.num_classes))
      )
  return weights


def _evaluation(config: ConfigDict, run: Run, mesh: Mesh, data_dir: str | os.PathLike) -> Callable[[TrainState], Any]:
  """A function of the state that measures `evaluation.during_training`.

  It returns {'eval/set/task/accuracy': ..., 'eval/set/task/loss': ...} and the score that ranks the best checkpoint, or None.
  """
  sets = {}
  for name in config.evaluation.during_training:
    entry = config.evaluation.sets[name]
    sets[name] = load_source(entry.name, data_dir, entry.tasks or None)
  scorer = Scorer(run.network, run.tasks, mesh, config.evaluation.batch_size)
  terms = {
    name: functools.partial(losses.TERMS[config.tasks[name].loss], class_weights=weights)
    for name, weights in (dict.fromkeys(run.tasks) | class_weights(config, run)).items()
  }

  def evaluate(state: TrainState) -> tuple[dict[str, float], float | None]:
    found: dict[str, float] = {}
    best: list[float] = []
    for name, source in sets.items():
      scores = scorer.scores(state.params, state.stats, source)
      accuracies = {
        f'eval/{name}/{task}/accuracy': summary['accuracy']
        for task, summary in measure(run.tasks, scores, source).items()
      }
      found |= accuracies
      found |= {f'eval/{name}/{task}/loss': loss for task, loss in mean_losses(terms, scores, source).items()}
      if name in config.evaluation.best_on:
        best += list(accuracies.values())
    return found, float(np.mean(best)) if best else None

  return evaluate


def _log_line(log: MetricsLog, bar: TrainProgress, step: int, values: dict[str, float]) -> None:
  log.write(step, values)
  bar.show(step, values)


def read_tally(run: Run, step: int, tally: Tally) -> dict[str, float]:
  """The values of the log line of `step`; raises a `UserError` that names the step where the loss was not finite."""
  values = {'epoch': step * run.config.batch_size / run.mixture.epoch_size} | summarize_tally(run, tally)
  bad = int(tally.first_bad_step)
  if bad != NEVER:
    raise _diverged(f'step {bad}: the loss is not finite')
  values['train/learning_rate'] = float(make_schedule(run.config.optimizer, run.steps)(step - 1))
  return values


def check_finite(step: int, state: TrainState) -> None:
  """Raises a `UserError` for a state with an infinity or NaN: the loss shows it only at the step after the one that made it."""
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    if not all(np.isfinite(part).all() for part in _local_parts(leaf)):
      raise _diverged(f'step {step}: state{jax.tree_util.keystr(path)} is not finite')


def _local_parts(leaf: Any) -> list[np.ndarray]:
  """What this process has of an array, once."""
  if getattr(leaf, 'is_fully_replicated', True):
    return [np.asarray(leaf)]
  return [np.asarray(shard.data) for shard in leaf.addressable_shards]


def _diverged(what: str) -> UserError:
  return UserError(
    f'{what}; the checkpoints before it are kept. Lower config.optimizer.rate, or look at the images and labels of that step'
  )


def summarize_tally(run: Run, tally: Tally) -> dict[str, float]:
  """Over the tally's steps: the mean of the total loss, and each task's loss and accuracy over the labelled (augmented) samples.

  The tasks' losses are means over the labelled samples whatever `config.loss.over` divides them by, so that they do not depend on the
  mixture and can be compared with those of `eval/`.
  """
  tally = jax.device_get(tally)
  steps = max(int(tally.steps), 1)
  values = {'train/loss': float(tally.loss) / steps}
  for name, task in run.tasks.items():
    summary = metrics.summarize(task, tally.counts[name])
    if summary['n']:
      divisor = summary['n'] / run.config.batch_size if run.config.loss.over == 'all' else steps
      values[f'train/{name}/loss'] = float(tally.task_losses[name]) / divisor
      values[f'train/{name}/accuracy'] = summary['accuracy']
  return values
