"""What is minimised: the loss terms of the tasks, their weights, and the penalty on the weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mtface import losses
from mtface.config.schema import options_of
from mtface.config.tables import LOSSES
from mtface.models.paths import Params
from mtface.outputs import Scores
from mtface.training.run import Run


class Objective:
  """The total loss (Sang 2017, eq. 3): sum_t mu_t L_t + lambda ||W||^2.

  L_t is that of `config.tasks[t].loss`, mu_t its `weight`, lambda `config.loss.l2` (over the
  kernels only, see `losses.l2_penalty`).

  Attributes:
    terms: {task: its loss term}, a function of (scores, labels, mask) -> [B].
  """

  def __init__(self, config: ConfigDict, weights: Mapping[str, np.ndarray] | None = None):
    """Takes the losses of `config.tasks`.

    Args:
      config: of an experiment of one stage.
      weights: {task: weights of its classes [C]}, see `class_weights`.

    Raises:
      UserError: a loss is not in `tables.LOSSES`.
    """
    self._config = config
    self.terms = {
      name: _term(name, of, (weights or {}).get(name)) for name, of in config.tasks.items()
    }

  def __call__(
    self, params: Params, scores: Scores, labels: Scores, mask: Scores
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(total loss [], {task: sum of its term over the samples []})."""
    config, total, sums = self._config, jnp.zeros(()), {}
    for name, term in self.terms.items():
      values = term(scores[name], labels[name], mask[name])
      reduced = losses.reduce_terms(values, mask[name], over=config.loss.over)
      total += config.tasks[name].weight * reduced
      sums[name] = jnp.sum(values)
    if config.loss.l2:
      total += config.loss.l2 * losses.l2_penalty(params)
    return total, sums


def _term(name: str, of: ConfigDict, weights: np.ndarray | None) -> Callable[..., jax.Array]:
  entry = LOSSES.entry(of.loss, f'config.tasks.{name}.loss')
  options: dict[str, Any] = options_of(of, entry)
  return functools.partial(entry.load(), class_weights=weights, **options)


def class_weights(run: Run) -> dict[str, np.ndarray]:
  """{task: [C]} for the tasks whose `class_weights` is 'balanced', from the counts of the training
  sources.
  """
  weights = {}
  for name, task in run.tasks.items():
    if run.config.tasks[name].class_weights == 'balanced':
      labels = np.concatenate(
        [s.labels[name][s.mask[name]] for s in run.sources if name in s.labels]
      )
      counts = np.bincount(labels, minlength=task.num_classes)
      weights[name] = np.asarray(losses.balanced_class_weights(counts))
  return weights
