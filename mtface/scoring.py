"""Scores of whole sources on the devices, and the metrics that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from mtface import metrics
from mtface.data.augment import scale_images
from mtface.data.loader import eval_batches
from mtface.data.sources import Source
from mtface.models.network import Network, Params, Stats
from mtface.progress import progress
from mtface.sharding import everywhere, shared
from mtface.tasks import VIEWS, Task, get_task

Scores = dict[str, np.ndarray]
T = TypeVar('T')


class Scorer:
  """Runs a network over sources. One compilation serves every checkpoint and every set of the same image shape."""

  def __init__(self, network: Network, tasks: Mapping[str, Task], mesh: Mesh, batch_size: int):
    self.tasks, self.batch_size = tasks, batch_size
    self._sharding = shared(mesh)

    def run(params: Params, stats: Stats, images: jax.Array) -> dict[str, jax.Array]:
      return network.scores(params, stats, scale_images(images))

    self._run = jax.jit(run, out_shardings=everywhere(mesh))  # parameters are used where they lie

  def scores(self, params: Params, stats: Stats, source: Source, *, show: str = '') -> Scores:
    """{task: float32 [N, C]} of a source's N samples, in order. `show` names the progress bar; empty shows none."""
    batches = list(range(0, len(source), self.batch_size))
    found: dict[str, list[np.ndarray]] = {name: [] for name in self.tasks}
    pending = None
    loaded = eval_batches(source, self.tasks, self.batch_size)
    for batch in progress(loaded, show, total=len(batches)) if show else loaded:
      images = batch['image']
      images = jax.make_array_from_callback(images.shape, self._sharding, images.__getitem__)
      running = self._run(params, stats, images)
      if pending is not None:  # read the batch before, while this one runs
        _collect(found, pending)
      pending = running
    if pending is not None:
      _collect(found, pending)
    return {name: np.concatenate(parts)[: len(source)] for name, parts in found.items()}


class FeatureExtractor:
  """Runs a network up to what its heads see. One compilation serves every checkpoint, and every set of the same image shape."""

  def __init__(self, network: Network, mesh: Mesh, batch_size: int):
    self.batch_size = batch_size
    self._sharding = shared(mesh)

    def run(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
      return network.features(params, stats, scale_images(images)).astype(jax.numpy.float32)

    self._run = jax.jit(run, out_shardings=everywhere(mesh))

  def size(self, params: Params, stats: Stats, image_shape: Sequence[int]) -> int:
    """D, the length of a feature vector; nothing is computed."""
    images = jax.ShapeDtypeStruct((self.batch_size, *image_shape), np.uint8)
    return jax.eval_shape(self._run, params, stats, images).shape[1]

  def stream(
    self, params: Params, stats: Stats, batches: Iterable[tuple[np.ndarray, T]]
  ) -> Iterator[tuple[np.ndarray, T]]:
    """(features float32 [b, D], tag) for each (images uint8 [b, H, W, C], tag), in order; b is at most the batch size.

    It holds two batches: while one runs on the devices, the next is made.
    """
    pending: tuple[jax.Array, int, T] | None = None
    for images, tag in batches:
      short = np.zeros((self.batch_size - len(images), *images.shape[1:]), np.uint8)
      filled = np.concatenate([images, short])
      running = self._run(params, stats, jax.make_array_from_callback(filled.shape, self._sharding, filled.__getitem__))
      if pending is not None:
        yield np.asarray(pending[0])[: pending[1]], pending[2]
      pending = running, len(images), tag
    if pending is not None:
      yield np.asarray(pending[0])[: pending[1]], pending[2]


def _collect(found: dict[str, list[np.ndarray]], scores: Mapping[str, jax.Array]) -> None:
  for name, parts in found.items():
    parts.append(np.asarray(scores[name]))


def with_views(tasks: Mapping[str, Task]) -> dict[str, Task]:
  """The tasks, and those that one of them answers too (`tasks.VIEWS`)."""
  views = {view: get_task(view) for view, (task, _) in VIEWS.items() if task in tasks and view not in tasks}
  return dict(tasks) | views


def add_views(scores: Scores, tasks: Mapping[str, Task]) -> Scores:
  """The scores, and those of the views among `tasks`: columns of another task's."""
  views = {view: scores[VIEWS[view][0]][:, VIEWS[view][1]] for view in tasks if view not in scores}
  return scores | views


def comparable(tasks: Mapping[str, Task], scores: Scores, margins: Sequence[str] = ()) -> Scores:
  """What may be averaged over networks, float64: probabilities, or for the tasks in `margins` the scores as they are.

  Probabilities are a softmax over the classes, or a sigmoid for each class of a multi-label task. A squared hinge (`losses.MARGINS`) asks
  the label's score to lead by a margin of 1, so its scores are on one scale, and a softmax of them would be no probability.
  """
  found = {}
  for name, values in scores.items():
    wide = values.astype(np.float64)
    if name in margins:
      found[name] = wide
    elif tasks[name].multi_label:
      found[name] = 0.5 * (1 + np.tanh(0.5 * wide))
    else:
      exp = np.exp(wide - wide.max(axis=-1, keepdims=True))
      found[name] = exp / exp.sum(axis=-1, keepdims=True)
  return found


def mean_losses(terms: Mapping[str, Callable[..., Any]], scores: Scores, source: Source) -> dict[str, float]:
  """{task: its loss term's mean over the labelled samples}, for the tasks that the source labels."""
  found = {}
  for name, term in terms.items():
    if name in source.labels and source.labelled(name).any():
      values = np.asarray(term(scores[name], source.labels[name], source.mask[name]))
      found[name] = float(np.sum(values, dtype=np.float64) / source.labelled(name).sum())
  return found


def measure(
  tasks: Mapping[str, Task],
  scores: Scores,
  source: Source,
  *,
  threshold: float = 0.0,
  tops: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
  """{task: summary} for the tasks that the source labels (see `metrics.summarize`).

  Args:
    tasks: by name.
    scores: {task: [N, C]}.
    source: of N samples.
    threshold: 0.5 for probabilities.
    tops: {task: over how many of the most probable years an age is the mean}; where that is more than 1, `scores` are probabilities, `mae`
      is that of this mean, and `mae_most_probable` that of the most probable year.
  """
  found = {}
  for name, task in tasks.items():
    if name in source.labels and source.labelled(name).any():
      counts = metrics.counts(task, scores[name], source.labels[name], source.mask[name], threshold=threshold)
      found[name] = metrics.summarize(task, counts)
      if tops.get(name, 1) > 1 and task.values:
        known, top = source.mask[name], tops[name]
        ages = metrics.expected_value(scores[name][known], np.asarray(task.values), top)
        years = np.asarray(task.values)[source.labels[name][known]]
        found[name] |= {'mae': float(np.mean(np.abs(ages - years))), 'mae_most_probable': found[name]['mae']}
  return found
