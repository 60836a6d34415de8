"""Training, top to bottom: `train` is the loop; what it calls stands below it or in the module that
is named.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtface import metrics, process
from mtface.config.stages import naming_stage, run_name, stage_folder
from mtface.data.sources import load_source
from mtface.data.store import open_all
from mtface.errors import Preempted
from mtface.files import local_path
from mtface.inference.meter import Meter
from mtface.inference.runner import Scorer
from mtface.models.platforms import spread_over
from mtface.models.selfcheck import known_bad
from mtface.parallel.ahead import Ahead
from mtface.parallel.distributed import StopRequest
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import (
  everywhere,
  make_mesh,
  place,
  shared,
  state_shardings,
  with_shardings,
)
from mtface.training.calls import Calls, Feed, make_call, plan_calls
from mtface.training.checkpoints import Checkpoints, steps_of
from mtface.training.checks import check_experiment
from mtface.training.ending import STOP_ASKED, STOP_TIME, Ending
from mtface.training.gradients import layers
from mtface.training.health import Health
from mtface.training.lock import Lock
from mtface.training.logs import MetricsLog, TrainProgress, open_log, open_progress
from mtface.training.objective import Objective, class_weights
from mtface.training.optim import make_optimizer
from mtface.training.profiling import Profile
from mtface.training.run import Run, with_weights
from mtface.training.start import start_weights
from mtface.training.state import State, new_state
from mtface.training.step import StepFunction, make_step
from mtface.training.tally import Tally, check_finite, check_loss, new_tally, read_tally
from mtface.training.teachers import taught
from mtface.training.workdir import Data, check_config, fingerprints, write_config

# (stage, step, score of a checkpoint) -> whether the run need not go on
Behind = Callable[[str, int, float], bool]


def train(
  config: ConfigDict,
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  behind: Behind | None = None,
) -> State:
  """Trains what `config` describes, stage by stage, or continues it where the workdir's newest
  checkpoint left it.

  Leaves in workdir: config.json, checkpoints/STAGE, metrics.jsonl and TensorBoard files. Running it
  again after any interruption gives the same parameters, bit for bit on the same devices, as a run
  that nothing disturbed. `behind` is asked at each checkpoint that has a score, and ends the stage.

  Returns:
    The state at the end of the last stage.

  Raises:
    UserError: bad input, or a loss that is not finite (the step is named).
    Preempted: a process was asked to stop (SIGTERM, SIGUSR1); all have saved the same step.
  """
  workdir = local_path(workdir)
  if bad := known_bad():
    process.say(bad)
  runs = check_experiment(config, data_dir, workdir)
  data = {name: fingerprints(run, data_dir) for name, run in runs.items()}
  with Lock(workdir):
    check_config(config, workdir, data)
    for name, run in runs.items():
      if len(runs) > 1:
        process.say(f'stage {name}')
      with naming_stage(name):
        state = train_stage(config, name, run, workdir, data_dir, data, behind)
  return state


def train_stage(
  experiment: ConfigDict,
  name: str,
  run: Run,
  workdir: pathlib.Path,
  data_dir: str | os.PathLike,
  data: Data,
  behind: Behind | None = None,
) -> State:
  """The loop: trains one stage of an experiment, or continues it. `run` is planned; `data`
  are what the stages read.
  """
  config, mesh = run.config, make_mesh(run.config.mesh.fsdp)
  log_every, save_every = (
    min(run.duration('log_every'), run.steps),
    run.duration('checkpoint.every'),
  )
  trained = steps_of(workdir, name)
  unfinished = not trained or trained[-1] < run.steps
  if config.teachers and unfinished:
    run = taught(run, workdir, mesh)
  profile = Profile(config.profile, stage_folder(workdir, name))
  calls = plan_calls(run, mesh, (log_every, save_every), (run.steps, *profile.points))
  feed = Feed(run, calls, mesh)
  optimizer = make_optimizer(config.optimizer, run.steps, config.freeze.params)
  new = functools.partial(new_state, optimizer=optimizer, ema=config.ema)
  shapes = jax.eval_shape(new, run.params, run.stats)
  shardings = state_shardings(shapes, mesh, config.mesh.shard_from)
  train_step: StepFunction = jit_step(run, optimizer, mesh, shardings, calls)
  empty = place(new_tally(run.tasks, layers(run)), everywhere(mesh))
  if unfinished:  # what follows does not need the compiler
    train_step = Ahead(train_step, with_shardings(shapes, shardings), empty, feed.shapes())
  run = with_weights(run)
  params, stats = run.params, run.stats
  if not trained:
    params, stats = start_weights(config, workdir, params, stats)
  state = new(params, stats)
  evaluate = _evaluation(config, run, mesh, data_dir)

  # Bad input has shown itself by now: from here on the workdir is this run's.
  write_config(experiment, workdir, data)
  with (
    StopRequest() as stop,
    Checkpoints(workdir, name, keep_last=config.checkpoint.keep_last) as checkpoints,
  ):
    state = place(state, shardings)
    start, state = checkpoints.restore_latest(state) or (0, state)
    ending = Ending(run, checkpoints.metrics(start) if start else {})
    if start >= run.steps or ending.over:
      why = f': {ending.why}' if ending.over else ''
      process.say(f'{workdir}: already trained to step {start:,}{why}')
      return state

    for line in [*open_all(run.sources), calls.residence.text]:
      if line:
        process.say(line)
    feed.open()
    batches = to_devices(
      feed.loaded(start, run.steps),
      mesh,
      stop=lambda: STOP_TIME if ending.out_of_time else STOP_ASKED if stop() else 0,
      axis=feed.axis,
    )
    health = Health()
    with (
      open_log(stage_folder(workdir, name), start, config, run_name(workdir, name)) as log,
      open_progress(start, run.steps, config.batch_size, ending.seconds_left) as bar,
      profile,
    ):
      tally = after = empty
      unread: Tally | None = None
      step = start
      for batch in health.waiting(batches):
        before, count = after, calls.length(step)
        health.took(count)
        profile.before(step)
        state, after = train_step(state, tally, feed.fed(batch, count))
        tally, step = after, step + count
        profile.after(step, tally)
        # one call runs, one waits: enough to keep the device busy, and memory bounded
        before.steps.block_until_ready()
        asked = int(before.stop)
        last = step == run.steps or asked == STOP_TIME
        stopping = asked == STOP_ASKED and not last
        bar.advance(step)
        if unread is not None:  # sums up to the call before, read now that this one is under way
          at = step - count
          _log_line(log, bar, at, read_tally(run, at, unread) | health.read())
          unread = None
        # A line is of log_every steps, whatever else there is between: that of an interval in which
        # the run was stopped is left out.
        ends, complete = step % log_every == 0, step - log_every >= start
        if step % save_every == 0 or last:
          check_loss(step, tally)
          check_finite(step, state)  # a diverged run is not saved
          values = read_tally(run, step, tally) | health.read() if ends and complete else {}
          health.pause()
          scores, best = evaluate(state)
          ending.measured(best)
          if behind is not None and best is not None:
            ending.behind = behind(name, step, best)
          last = last or ending.stale or ending.behind
          _log_line(log, bar, step, values | scores)
          checkpoints.save(step, state, scores | ending.notes(), best)
          bar.pause()
        elif stopping:
          check_loss(step, tally)
          check_finite(step, state)
          checkpoints.save(step, state, ending.notes(), extra=True)
        elif ends and complete:
          unread = tally
        if ends:
          tally = empty
        if last:
          break
        if stopping:
          checkpoints.wait()
          of = '' if run.seconds else f' of {run.steps:,}'
          raise Preempted(f'{workdir}: stopped at step {step:,}{of}, which is saved')
    if step < run.steps:
      process.say(f'{workdir}: ends at step {step:,}: {ending.why}')
  return state


def jit_step(
  run: Run,
  optimizer: optax.GradientTransformation,
  mesh: Mesh,
  shardings: Any,
  calls: Calls | None = None,
) -> StepFunction:
  """The run's training step on a mesh, see `jit_state_step`; or its calls (`calls.make_call`)."""
  step = make_step(run.network, optimizer, run.tasks, run.config, class_weights(run))
  if calls is None or calls.plain:
    return jit_state_step(step, mesh, shardings)
  call = make_call(step, calls, run.config.image_shape, shardings)
  return jit_state_step(call, mesh, shardings, batch=None)


def jit_state_step(
  step: StepFunction, mesh: Mesh, shardings: Any, *, batch: Any = shared
) -> StepFunction:
  """A training step for a mesh: the state lies as `shardings` say, the batch is shared, or as it
  comes (`batch` None). The state that goes in is given up.
  """

  @functools.wraps(step)
  def spread(*args: Any) -> Any:
    with spread_over(mesh):
      return step(*args)

  return jax.jit(
    spread,
    in_shardings=(shardings, everywhere(mesh), batch and batch(mesh)),
    out_shardings=(shardings, everywhere(mesh)),
    donate_argnums=0,
  )


def _evaluation(
  config: ConfigDict, run: Run, mesh: Mesh, data_dir: str | os.PathLike
) -> Callable[[State], Any]:
  """A function of the state that measures `evaluation.during_training`.

  It returns {'eval/set/task/accuracy': ..., 'eval/set/task/loss': ...} and the score that ranks the
  best checkpoint, or None.
  """
  sets = {}
  for name in config.evaluation.during_training:
    entry = config.evaluation.sets[name]
    sets[name] = load_source(entry.name, data_dir, entry.tasks or None, config.store)
  scorer = Scorer(run.network, mesh, config.evaluation.batch_size)
  terms = Objective(config, class_weights(run)).terms

  def evaluate(state: State) -> tuple[dict[str, float], float | None]:
    found: dict[str, float] = {}
    best: list[float] = []
    for name, source in sets.items():
      meter = Meter(run.tasks, source, terms=terms)
      for (scores,), rows in scorer.stream([state.weights], source):
        meter.add(scores, rows)
      summaries = meter.summaries()
      found |= {f'eval/{name}/{task}/accuracy': of['accuracy'] for task, of in summaries.items()}
      found |= {
        f'eval/{name}/{task}/mae': of['mae'] for task, of in summaries.items() if 'mae' in of
      }
      found |= {f'eval/{name}/{task}/loss': loss for task, loss in meter.losses().items()}
      if name in config.evaluation.best_on:
        best += [metrics.ranking_score(run.tasks[task], of) for task, of in summaries.items()]

    return found, float(np.mean(best)) if best else None

  return evaluate


def _log_line(log: MetricsLog, bar: TrainProgress, step: int, values: dict[str, float]) -> None:
  log.write(step, values)
  bar.show(step, values)
