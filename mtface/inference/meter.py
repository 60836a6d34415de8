"""Metrics of the scores of a source, added up batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from mtface import metrics
from mtface.data.sources import Source
from mtface.outputs import Scores
from mtface.tasks import Task


class Meter:
  """Adds up what follows from the scores of a source's samples, as they come.

  Counts are exact, so what comes out does not depend on how the samples were put into batches; sums
  of losses and ages are of float64.
  """

  def __init__(
    self,
    tasks: Mapping[str, Task],
    source: Source,
    *,
    threshold: float = 0.0,
    tops: Mapping[str, int] = MappingProxyType({}),
    terms: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
  ):
    """Measures those of `tasks` that the source labels.

    Args:
      tasks: by name.
      source: of N samples.
      threshold: 0.5 for probabilities.
      tops: {task: over how many of the most probable years an age is the mean}; where that is more
        than 1, scores are probabilities, `mae` is that of this mean, and `mae_most_probable` that
        of the most probable year.
      terms: {task: its loss term}, see `losses`.
    """
    labelled = {name: source.labelled(name) for name in tasks if name in source.labels}
    self._tasks = {name: tasks[name] for name, known in labelled.items() if known.any()}
    self._labelled = {name: int(labelled[name].sum()) for name in self._tasks}
    self._source, self._threshold = source, threshold
    self._counts = {name: metrics.zeros(task) for name, task in self._tasks.items()}
    self._tops = {
      name: tops[name]
      for name, task in self._tasks.items()
      if tops.get(name, 1) > 1 and task.values
    }
    self._years = dict.fromkeys(self._tops, 0.0)
    self._terms = {name: term for name, term in terms.items() if name in self._tasks}
    self._losses = dict.fromkeys(self._terms, 0.0)

  def add(self, scores: Scores, rows: np.ndarray) -> None:
    """Adds the scores {task: [b, C]} of the samples `rows`, int [b]."""
    for name, task in self._tasks.items():
      labels, mask = self._source.labels[name][rows], self._source.mask[name][rows]
      counts = metrics.counts(task, scores[name], labels, mask, threshold=self._threshold)
      self._counts[name] = metrics.add(self._counts[name], counts)
      if name in self._tops and mask.any():
        values = np.asarray(task.values)
        ages = metrics.expected_value(scores[name][mask], values, self._tops[name])
        self._years[name] += float(np.abs(ages - values[labels[mask]]).sum())
      if name in self._terms:
        terms = np.asarray(self._terms[name](scores[name], labels, mask))
        self._losses[name] += float(np.sum(terms, dtype=np.float64))

  def summaries(self) -> dict[str, dict[str, Any]]:
    """{task: summary}, see `metrics.summarize`."""
    found = {
      name: metrics.summarize(task, self._counts[name]) for name, task in self._tasks.items()
    }
    for name, years in self._years.items():
      found[name] |= {'mae_most_probable': found[name]['mae'], 'mae': years / found[name]['n']}
    return found

  def losses(self) -> dict[str, float]:
    """{task: its loss term's mean over the labelled samples}."""
    return {name: total / self._labelled[name] for name, total in self._losses.items()}


def measure(
  tasks: Mapping[str, Task], scores: Scores, source: Source, **how: Any
) -> dict[str, dict[str, Any]]:
  """{task: summary} of the scores {task: [N, C]} of a source's samples; `how`
  is that of `Meter`.
  """
  meter = Meter(tasks, source, **how)
  meter.add(scores, np.arange(len(source)))
  return meter.summaries()
