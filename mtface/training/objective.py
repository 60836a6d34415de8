"""What is minimised: the loss terms of the tasks, their weights, and the penalty on the weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mtface import losses
from mtface.config.schema import options_of, outputs_of
from mtface.config.tables import LOSSES
from mtface.data.blend import partners
from mtface.data.loader import join_labels
from mtface.errors import UserError
from mtface.models.paths import Params
from mtface.models.platforms import sum_of_squares
from mtface.outputs import UNION, Outputs, Scores
from mtface.tasks import Task
from mtface.training.run import Run


class Objective:
  """The total loss (Sang 2017, eq. 3): sum_t mu_t L_t + lambda ||W||^2.

  L_t is that of `config.tasks[t].loss`, mu_t its `weight`, lambda `config.loss.l2`, and ||W||^2
  what `config.loss.decay` counts as such (`losses.weight_penalty`).

  In a union of label spaces (`config.outputs`), the tasks whose loss is a yes or no for each class
  have one term together (Pons 2018, eq. 1): over all outputs that the sample has a label for, of
  whichever task, each once. A class's mu is that of its task.

  Attributes:
    terms: {task: its loss term by itself}, a function of (scores, labels, mask) -> [B].
    joined: the tasks that have one term together.
  """

  def __init__(self, config: ConfigDict, weights: Mapping[str, np.ndarray] | None = None):
    """Takes the losses of `config.tasks`.

    Args:
      config: of an experiment of one stage.
      weights: {task: weights of its classes [C]}, see `class_weights`.

    Raises:
      UserError: a loss or a layer of outputs is unknown, or joined tasks have different losses.
    """
    self._config, self._outputs = config, outputs_of(config)
    self.terms = {
      name: _term(name, of, (weights or {}).get(name)) for name, of in config.tasks.items()
    }
    self._soft = soft_weights(config)
    self.joined = joined_tasks(config)
    if self.joined:
      first = self.joined[0]
      self._joint = _term(first, config.tasks[first], self._output_weights())

  def __call__(
    self,
    params: Params,
    layers: Scores,
    labels: Scores,
    mask: Scores,
    share: jax.Array | None = None,
    lessons: tuple[Scores, Scores] = ({}, {}),
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(total loss [], {task: sum of its term by itself over the samples []}) of the scores {output
    layer: [B, C]}.

    Args:
      params: of the network.
      layers: its scores.
      labels: of the batch, {task: [B], or [B, C]}.
      mask: which of them are known.
      share: [B]: of blends, that of a sample's own labels (mtface/data/blend.py); the rest is its
        partner's.
      lessons: what teachers say, {task: shares of its classes [B, C]} and {task: bool [B], of which
        samples}; these terms are not in the sums.
    """
    config = self._config
    total, sums = self._of_labels(layers, labels, mask, share)
    total += self._of_lessons(layers, lessons, share)
    if share is not None:
      of_others, sums_of_others = self._of_labels(
        layers, partners(labels), partners(mask), 1 - share
      )
      total, sums = total + of_others, {k: x + sums_of_others[k] for k, x in sums.items()}
      total += self._of_lessons(layers, partners(lessons), 1 - share)
    if config.loss.l2:
      squares = losses.weight_penalty(params, config.loss.decay, sum_of_squares)
      total += config.loss.l2 * squares
    return total, sums

  def _of_labels(
    self, layers: Scores, labels: Scores, mask: Scores, share: jax.Array | None
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The same without the penalty, each sample's terms times its share."""
    config, total, sums = self._config, jnp.zeros(()), {}

    def weighed(values: jax.Array) -> jax.Array:
      return values if share is None else values * share

    scores = self._outputs.split(layers)
    for name, term in self.terms.items():
      values = weighed(term(scores[name], labels[name], mask[name]))
      sums[name] = jnp.sum(values)
      if name not in self.joined:
        reduced = losses.reduce_terms(values, mask[name], over=config.loss.over)
        total += config.tasks[name].weight * reduced
    if self.joined:
      yes, known = union_labels(self._outputs, self.joined, labels, mask)
      values = weighed(self._joint(layers[UNION], yes, known))
      total += losses.reduce_terms(values, known, over=config.loss.over)
    return total, sums

  def _of_lessons(
    self, layers: Scores, lessons: tuple[Scores, Scores], share: jax.Array | None
  ) -> jax.Array:
    """sum_t mu_t w T^2 L_t(shares), see mtface/training/teachers.py."""
    scores, total = self._outputs.split(layers), jnp.zeros(())
    for name, of_task in lessons[0].items():
      weight, temperature = self._soft[name]
      known = lessons[1][name]
      values = self.terms[name](scores[name] / temperature, of_task, known)
      values = values if share is None else values * share
      reduced = losses.reduce_terms(values, known, over=self._config.loss.over)
      total += self._config.tasks[name].weight * weight * temperature**2 * reduced
    return total

  def _output_weights(self) -> np.ndarray | None:
    """mu of each of the union's outputs [U]; None where all are 1."""
    weights = np.ones(self._outputs.layers[0].num_classes, np.float32)
    for name in self.joined:
      weights[list(self._outputs.places[name].columns or ())] = self._config.tasks[name].weight
    return None if (weights == 1).all() else weights


def joined_tasks(config: ConfigDict) -> tuple[str, ...]:
  """The tasks that have one loss term together, in a union of label spaces.

  Raises:
    UserError: their losses differ, or of tasks that share an output the weights, or how it is read.
  """
  if config.outputs.layer != UNION:
    return ()
  joined = tuple(name for name, of in config.tasks.items() if takes_multi_label(of.loss))
  for name in joined[1:]:
    one, other = (
      config.tasks[n].to_dict() | {'weight': 0, 'top': 0, 'class_weights': ''}
      for n in (joined[0], name)
    )
    if one != other:
      raise UserError(
        f'config.tasks: {joined[0]} and {name} have one loss together in the union of their '
        'classes; give both the same loss and options'
      )
  outputs = outputs_of(config)
  for output, tasks in outputs.shared().items():
    readouts = {name: outputs.readout(name) for name in tasks}
    if len(set(readouts.values())) > 1:
      listed = ', '.join(f'{name} ({how})' for name, how in readouts.items())
      raise UserError(
        f'config.tasks: {listed} share the output {output}, whose scores cannot be both; give them '
        'losses of one kind, or name one in config.outputs.apart'
      )
    weights = {config.tasks[name].weight for name in tasks if name in joined}
    if len(weights) > 1:
      raise UserError(
        f'config.tasks: {" and ".join(tasks)} share the output {output}, and their weights differ; '
        'make them equal, or name one in config.outputs.apart'
      )
  return joined


def union_labels(
  outputs: Outputs, tasks: Sequence[str], labels: Scores, mask: Scores
) -> tuple[jax.Array, jax.Array]:
  """Labels of several tasks as those of the union's layer: (yes bool [B, U], known bool [B, U]).

  A single-label task's label is one yes among its classes. What is not known of a sample stays
  unknown: classes outside the label space of its source, and single classes that are masked. An
  output that two labelled tasks share is yes if either says so.
  """
  size = (next(iter(mask.values())).shape[0], outputs.layers[0].num_classes)
  yes, known = jnp.zeros(size, bool), jnp.zeros(size, bool)
  for name in tasks:
    columns = np.asarray(outputs.places[name].columns)
    is_yes, is_known = _by_class(outputs.tasks[name], labels[name], mask[name])
    yes = yes.at[:, columns].max(is_yes & is_known)
    known = known.at[:, columns].max(is_known)
  return yes, known


def _by_class(task: Task, labels: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
  """(yes, known) bool [B, C] of one task's labels and mask."""
  labels, mask = jnp.asarray(labels), jnp.asarray(mask) != 0
  if task.multi_label:
    return labels > 0, mask
  yes = labels[:, None] == jnp.arange(task.num_classes)
  return yes, jnp.broadcast_to(mask[:, None], yes.shape)


def takes_multi_label(loss: str) -> bool:
  """Whether a loss is of a yes or no for each class."""
  return LOSSES.entry(loss, 'loss').traits['labels'] in ('multi', 'both')


def _term(name: str, of: ConfigDict, weights: np.ndarray | None) -> Callable[..., jax.Array]:
  entry = LOSSES.entry(of.loss, f'config.tasks.{name}.loss')
  options: dict[str, Any] = options_of(of, entry)
  return functools.partial(entry.load(), class_weights=weights, **options)


def soft_weights(config: ConfigDict) -> dict[str, tuple[float, float]]:
  """{task that is taught: (weight, temperature)}.

  Raises:
    UserError: the teachers of a task differ in these.
  """
  found: dict[str, tuple[float, float]] = {}
  for name, teacher in config.teachers.items():
    for task in teacher.tasks:
      of = (float(teacher.weight), float(teacher.temperature))
      if found.setdefault(task, of) != of:
        raise UserError(
          f'config.teachers.{name}: teachers of {task} have different weights or temperatures; '
          'what they say is averaged, so make these equal'
        )
  return found


def class_weights(run: Run) -> dict[str, np.ndarray]:
  """{task: [C]} for the tasks whose `class_weights` is 'balanced', from the counts of the training
  sources.
  """
  weights = {}
  for name, task in run.tasks.items():
    if run.config.tasks[name].class_weights == 'balanced':
      labels, mask = (x[name] for x in join_labels(run.sources))
      labels = labels[mask]
      counts = (
        labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels, minlength=task.num_classes)
      )
      weights[name] = np.asarray(losses.balanced_class_weights(counts))
  return weights
