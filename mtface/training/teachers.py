"""Networks trained before label what the sources leave open: `config.teachers`.

A teacher says of every face that a source does not label for a task (or of all, `where`) how
probable each class is, at a temperature. The student learns those shares beside its sources' own
labels: sum_t mu_t (L_t + w T^2 L_t(shares)), where L_t(shares) is the same loss with shares for
labels and scores divided by T (Hinton et al. 2015, section 2; of partly labelled faces: Deng et al.
2020, "Multitask emotion recognition with incomplete labels"). What a teacher says is computed once,
when the stage begins, of the faces as they are, or as the mean over views of them
(`WORKDIR@last:flip`). It counts in no accuracy and in no mixture.

A teacher that has seen a face of one of the run's test sets would carry its label over, so it is
refused.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtface import process
from mtface.config.schema import outputs_of
from mtface.config.stages import EARLIER
from mtface.config.tables import LOSSES
from mtface.data.names import SourceName
from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.files import split_selection
from mtface.inference.readout import concatenated
from mtface.inference.runner import Scorer
from mtface.models.network import abstract_network
from mtface.outputs import Outputs, Scores
from mtface.training.run import Run
from mtface.training.selection import Selection
from mtface.training.start import run_of, saved_weights

UNLABELLED, EVERYTHING = WHERE = ('unlabelled', 'all')


def check_teachers(run: Run, before: Mapping[str, Run], data_dir: str | os.PathLike) -> None:
  """Raises a `UserError` for a teacher that cannot teach this planned stage. No network is read.

  Args:
    run: a planned stage.
    before: the earlier stages, which need not be trained yet.
    data_dir: of the prepared sets.
  """
  for name, teacher in run.config.teachers.items():
    what = f'config.teachers.{name}'
    if teacher.where not in WHERE:
      raise UserError(f'{what}.where: {teacher.where!r} is unknown; there are {", ".join(WHERE)}')
    config = _config_of(teacher, before, what)
    _check_tasks(run, teacher, outputs_of(config), what)
    if tuple(config.image_shape) != tuple(run.config.image_shape):
      raise UserError(
        f'{what}: sees images of {config.image_shape}, and this stage trains on '
        f'{run.config.image_shape}'
      )
    _check_apart(run, config, data_dir, what)


def _chosen(teacher: ConfigDict, what: str) -> tuple[str, str, str]:
  """(WORKDIR or stage:NAME, last, best or a step, kind of views) of a teacher's weights."""
  of, text = split_selection(teacher.weights)
  selection = Selection.parse(text or 'last')
  if selection.kind in ('average', 'ensemble'):
    raise UserError(
      f'{what}.weights: @{text}: a teacher is one checkpoint, last, best or a step, alone or with '
      'views behind it, as in last:flip; several can teach, each under a name of its own'
    )
  return of, str(selection.count) if selection.kind == 'step' else selection.kind, selection.views


def _config_of(teacher: ConfigDict, before: Mapping[str, Run], what: str) -> ConfigDict:
  of, step, _ = _chosen(teacher, what)
  if not of.startswith(EARLIER):
    try:
      return run_of(of, '', step)
    except UserError as error:
      raise UserError(f'{what}.weights: {error}') from None
  stage = of.removeprefix(EARLIER)
  if stage not in before:
    raise UserError(f'{what}.weights: {stage!r} is not an earlier stage')
  return before[stage].config


def _check_tasks(run: Run, teacher: ConfigDict, outputs: Outputs, what: str) -> None:
  for task in teacher.tasks:
    if task not in run.tasks or task not in outputs.tasks:
      whose = 'this stage' if task not in run.tasks else 'the teacher'
      raise UserError(f'{what}.tasks: {task!r} is no task of {whose}')
    if outputs.tasks[task] != run.tasks[task]:
      raise UserError(f'{what}.tasks: {task} has other classes in the teacher')
    if outputs.readout(task) != 'softmax':
      raise UserError(f'{what}.tasks: the teacher has no probabilities of {task}, but margins')
    loss = run.config.tasks[task].loss
    if not LOSSES.entry(loss, 'loss').traits['shares']:
      able = [name for name, of in LOSSES.items() if of.traits['shares']]
      raise UserError(
        f'{what}.tasks: {loss}, the loss of {task}, takes no shares of classes; '
        f'{", ".join(able)} do'
      )
  if not teacher.tasks:
    raise UserError(f'{what}.tasks: names no task to teach')


def _check_apart(run: Run, config: ConfigDict, data_dir: str | os.PathLike, what: str) -> None:
  """Raises a `UserError` where the teacher has learnt from faces that the run is tested on."""
  tested: dict[str, dict[str, set[str]]] = {}
  for name, entry in run.config.evaluation.sets.items():
    of_set = tested.setdefault(_set_of(entry.name), {})
    of_set[name] = set(load_source(entry.name, data_dir).image_ids.tolist())
  for entry in config.sources.values():
    for name, ids in tested.get(_set_of(entry.name), {}).items():
      if seen := len(ids.intersection(load_source(entry.name, data_dir).image_ids.tolist())):
        raise UserError(
          f'{what}: was trained on {entry.name}, which has {seen:,} of the faces that '
          f'config.evaluation.sets.{name} tests on; take a teacher that was trained without them'
        )


def _set_of(name: str) -> str:
  return SourceName.parse(name).set_name.partition('/')[0]


def taught(run: Run, workdir: pathlib.Path, mesh: Mesh) -> Run:
  """The stage with what its teachers say in its sources (`Source.shares`, `Source.taught`)."""
  sources = list(run.sources)
  said: list[dict[str, list[np.ndarray]]] = [{} for _ in sources]
  for name, teacher in run.config.teachers.items():
    of, step, kind = _chosen(teacher, f'config.teachers.{name}')
    folder: str | os.PathLike = workdir if of.startswith(EARLIER) else of
    stage = of.removeprefix(EARLIER) if of.startswith(EARLIER) else ''
    config = run_of(folder, stage, step)
    weights = saved_weights(folder, stage, step)
    network, _, _ = abstract_network(config.model, outputs_of(config), config.image_shape)
    scorer = Scorer(network, mesh, run.config.evaluation.batch_size)
    process.say(f'teacher {name}: {teacher.weights}')
    for shares, source in zip(said, sources, strict=True):
      stream = scorer.stream([weights], source, show=f'{name} on {source.name}', kind=kind)
      wanted = tuple(teacher.tasks)
      found = concatenated(_shares(of_batch, wanted, teacher.temperature) for of_batch in stream)
      for task, values in found.items():
        shares.setdefault(task, []).append(values)
  return dataclasses.replace(
    run,
    sources=[
      _with_shares(run, source, shares) for source, shares in zip(sources, said, strict=True)
    ],
  )


def _shares(
  batch: tuple[list[Scores], np.ndarray], tasks: Sequence[str], temperature: float
) -> dict[str, np.ndarray]:
  """{task: [b, C]}: the mean over views of a teacher's probabilities."""
  of_views, _ = batch
  said = {task: np.stack([scores[task] for scores in of_views]) for task in tasks}
  return {
    task: np.asarray(jax.nn.softmax(jnp.asarray(scores, jnp.float32) / temperature)).mean(axis=0)
    for task, scores in said.items()
  }


def _with_shares(run: Run, source: Source, said: Mapping[str, Sequence[np.ndarray]]) -> Source:
  """A source with the mean of what teachers say of each task."""
  shares = {task: np.mean(values, axis=0).astype(np.float16) for task, values in said.items()}
  found = {}
  for task in shares:
    open_ = np.full(len(source), True)
    if task in source.labels and UNLABELLED in _wheres(run.config, task):
      open_ = ~source.mask[task]
    found[task] = open_
  return dataclasses.replace(source, shares=shares, taught=found)


def _wheres(config: ConfigDict, task: str) -> Iterator[str]:
  yield from (of.where for of in config.teachers.values() if task in of.tasks)
