"""A stage with what it stands for: its tasks, data and network. Planned, with the shapes of its
weights; or prepared, with numbers.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ml_collections import ConfigDict

from mtface.config.durations import to_seconds, to_steps
from mtface.config.schema import outputs_of, tasks_of
from mtface.data.groupings import balanced_groups
from mtface.data.inputs import check_images
from mtface.data.mixing import Mixture, make_mixture
from mtface.data.sources import Source, load_source
from mtface.data.votes import with_votes
from mtface.errors import UserError
from mtface.models.network import Network, abstract_network, make_network
from mtface.tasks import Task


@dataclasses.dataclass(frozen=True)
class Run:
  """Everything that a config stands for once its data are at hand.

  Attributes:
    config: of an experiment of one stage.
    tasks: what is learnt, by name.
    sources: what is trained on.
    mixture: how they share an epoch.
    network: without its numbers.
    params, stats: of the network: shapes (`jax.ShapeDtypeStruct`) of a planned run, arrays of a
      prepared one.
  """

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

  @property
  def seconds(self) -> float | None:
    """Length of the run where that is a time; None where it is a number of steps."""
    return to_seconds(self.config.duration, 'duration')

  def duration(self, field: str) -> int:
    """A duration of the config in steps."""
    text = self.config
    for part in field.split('.'):
      text = text[part]
    return to_steps(text, self.config.batch_size, self.mixture.epoch_size, field)


def plan(config: ConfigDict, data_dir: str | os.PathLike) -> Run:
  """Finds the sources, plans the mixture and the network; draws and computes nothing.

  Raises:
    UserError: a source, the mixture or the network cannot be had; a task has no label, or a label
      no task.
  """
  tasks = tasks_of(config)
  network, params, stats = abstract_network(
    config.model, outputs_of(config), config.image_shape, still_parts(config), config.ghost_batch
  )
  names = config.sources.values()
  sources = [
    load_source(entry.name, data_dir, entry.tasks or tuple(tasks), config.store) for entry in names
  ]
  for source in sources:
    for task in source.labels:
      if task not in tasks:
        raise UserError(
          f'config.sources: {source.name} gives task {task!r}, which is not in config.tasks'
        )
  for name, of in config.tasks.items():
    if of.votes:
      sources = with_votes(sources, name)
  unlabelled = [
    name for name in tasks if not any(name in s.labels and s.labelled(name).any() for s in sources)
  ]
  if unlabelled:
    raise UserError(
      f'config.tasks: no source labels {", ".join(unlabelled)}; add one, or remove the task'
    )
  for source in sources:
    check_images(source, config.image_shape)
  mixture = make_mixture(
    config.mixture,
    sources,
    seed=config.seed,
    batch_size=config.batch_size,
    shares={name: of.share for name, of in config.tasks.items()},
    groups=balanced_groups(sources, data_dir, config.balance) if config.balance else None,
  )
  return Run(config, tasks, sources, mixture, network, params, stats)


def prepare(config: ConfigDict, data_dir: str | os.PathLike) -> Run:
  """`plan`, with initial weights."""
  return with_weights(plan(config, data_dir))


def with_weights(run: Run) -> Run:
  """A planned run with its initial weights, drawn by its seed."""
  config = run.config
  network, params, stats = make_network(
    config.model,
    run.network.outputs,
    config.image_shape,
    config.seed,
    still_parts(config),
    config.ghost_batch,
  )
  return dataclasses.replace(run, network=network, params=params, stats=stats)


def still_parts(config: ConfigDict) -> tuple[str, ...]:
  """Patterns of the parts whose batch norms keep their running statistics, and compute by them, in
  training too.
  """
  return tuple(config.freeze.params) if config.freeze.norms == 'running' else ()
