"""What is summed up over steps on the devices, and read for a line of the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtface import metrics
from mtface.errors import Diverged
from mtface.tasks import Task
from mtface.training.optim import make_schedule
from mtface.training.run import Run
from mtface.training.state import State

NEVER = np.int32(2**31 - 1)  # first_bad_step of a healthy run


class Tally(NamedTuple):
  """Sums over the steps since the last log line. They stay on the device, so the host waits for
  nothing between two lines.
  """

  steps: jax.Array  # int32 []
  loss: jax.Array  # float32 [], total
  task_losses: dict[
    str, jax.Array
  ]  # float32 [], sums of the loss terms, which count labelled samples only
  counts: dict[str, metrics.Counts]
  first_bad_step: (
    jax.Array
  )  # int32 [], the first step, counted from 1, whose loss was not finite, or NEVER
  stop: (
    jax.Array
  )  # int32 [], the largest that a process's batches say (ending.py): all see it in the same step
  gradients: dict[str, jax.Array]  # float32 [], sums of the gradient's norms, by layer


def new_tally(tasks: Mapping[str, Task], layers: Iterable[str] = ()) -> Tally:
  """An empty tally; `layers` are those whose gradients are measured (`gradients.layers`)."""
  zero = jnp.zeros((), jnp.float32)
  counts = {name: metrics.zeros(task) for name, task in tasks.items()}
  return Tally(
    jnp.zeros((), jnp.int32),
    zero,
    dict.fromkeys(tasks, zero),
    counts,
    jnp.asarray(NEVER),
    jnp.zeros((), jnp.int32),
    dict.fromkeys(layers, zero),
  )


def read_tally(run: Run, step: int, tally: Tally) -> dict[str, float]:
  """The values of the log line of `step`; raises `Diverged` with the step where the loss
  was not finite.
  """
  values = {'epoch': step * run.config.batch_size / run.mixture.epoch_size} | summarize_tally(
    run, tally
  )
  check_loss(step, tally)
  values['train/learning_rate'] = float(make_schedule(run.config.optimizer, run.steps)(step - 1))
  return values


def check_loss(step: int, tally: Tally) -> None:
  """Raises `Diverged` with the first step of a tally, up to `step`, whose loss was not finite."""
  bad = int(tally.first_bad_step)
  if bad <= step:
    raise _diverged(f'step {bad}: the loss is not finite')


def check_finite(step: int, state: State) -> None:
  """Raises `Diverged` for a state with an infinity or NaN: the loss shows it only at the step
  after the one that made it.
  """
  leaves = jax.tree_util.tree_leaves_with_path(state)
  for (path, _), finite in zip(
    leaves, np.asarray(_are_finite([leaf for _, leaf in leaves])), strict=True
  ):
    if not finite:
      raise _diverged(f'step {step}: state{jax.tree_util.keystr(path)} is not finite')


@jax.jit
def _are_finite(leaves: list[jax.Array]) -> jax.Array:
  """bool [leaves], on the devices, where the arrays lie."""
  return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])


def _diverged(what: str) -> Diverged:
  return Diverged(
    f'{what}; the checkpoints before it are kept. Lower config.optimizer.rate, or look at the '
    'images and labels of that step'
  )


def summarize_tally(run: Run, tally: Tally) -> dict[str, float]:
  """Over the tally's steps: the mean of the total loss, each task's loss and accuracy over the
  labelled (augmented) samples, and the means of the gradient's norms, if they are measured.

  The tasks' losses are means over the labelled samples whatever `config.loss.over` divides them by,
  so that they do not depend on the mixture and can be compared with those of `eval/`.
  """
  tally = jax.device_get(tally)
  values = {'train/loss': float(tally.loss) / max(int(tally.steps), 1)}
  for name, task in run.tasks.items():
    summary = metrics.summarize(task, tally.counts[name])
    if summary['n']:
      values[f'train/{name}/loss'] = float(tally.task_losses[name]) / summary['n']
      values[f'train/{name}/accuracy'] = summary['accuracy']
  return values | {
    f'gradients/{layer}': float(norm) / max(int(tally.steps), 1)
    for layer, norm in tally.gradients.items()
  }
