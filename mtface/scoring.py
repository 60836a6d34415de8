"""Networks over sources, batch by batch, and the metrics that follow. Nothing grows with the number of faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from mtface import metrics
from mtface.data.augment import scale_images
from mtface.data.sources import Source
from mtface.models.network import Network, Params, Stats
from mtface.progress import progress
from mtface.sharding import everywhere, shared
from mtface.tasks import VIEWS, Task, get_task

Scores = dict[str, np.ndarray]
Networks: TypeAlias = Sequence[tuple[Params, Stats]]
T = TypeVar('T')


class _Runner:
  """Runs a function of (parameters, statistics, images) over batches of one shape: one compilation serves all networks and sets."""

  def __init__(self, function: Callable[[Params, Stats, jax.Array], Any], mesh: Mesh, batch_size: int):
    self.batch_size = batch_size
    self._sharding = shared(mesh)
    # Parameters are used where they lie.
    self._run = jax.jit(lambda p, s, images: function(p, s, scale_images(images)), out_shardings=everywhere(mesh))

  def over(self, networks: Networks, batches: Iterable[tuple[np.ndarray, T]]) -> Iterator[tuple[list[Any], T]]:
    """([what each network makes of them], tag) for each (images uint8 [b, H, W, C], tag), in order; b is at most the batch size.

    It holds two batches: while one runs on the devices, the next one is read.
    """
    pending: tuple[list[Any], int, T] | None = None
    for images, tag in batches:
      short = np.zeros((self.batch_size - len(images), *images.shape[1:]), np.uint8)
      filled = np.concatenate([images, short]) if len(short) else images
      placed = jax.make_array_from_callback(filled.shape, self._sharding, filled.__getitem__)
      running = [self._run(params, stats, placed) for params, stats in networks]
      if pending is not None:
        yield _cut(pending[0], pending[1]), pending[2]
      pending = running, len(images), tag
    if pending is not None:
      yield _cut(pending[0], pending[1]), pending[2]


def _cut(found: list[Any], count: int) -> list[Any]:
  """On the host, without what filled the batch up."""
  return jax.tree.map(lambda x: np.asarray(x)[:count], found)


def batches_of(source: Source, batch_size: int, show: str = '') -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """(images, rows int [b]) of a source once, in order. `show` names the progress bar; empty shows none."""
  starts: Iterable[int] = range(0, len(source), batch_size)
  for first in progress(starts, show, total=len(range(0, len(source), batch_size))) if show else starts:
    rows = np.arange(first, min(first + batch_size, len(source)))
    yield source.gather(rows), rows


class Scorer:
  """Runs networks over sources up to their scores."""

  def __init__(self, network: Network, mesh: Mesh, batch_size: int):
    self._runner = _Runner(network.scores, mesh, batch_size)

  def stream(self, networks: Networks, source: Source, *, show: str = '') -> Iterator[tuple[list[Scores], np.ndarray]]:
    """([{task: float32 [b, C]} of each network], rows int [b]) of a source's samples, in order. `show` names the progress bar."""
    yield from self._runner.over(networks, batches_of(source, self._runner.batch_size, show))

  def scores(self, params: Params, stats: Stats, source: Source) -> Scores:
    """{task: float32 [N, C]} of all of a source's samples at once: for small sources, or tasks of few classes."""
    return concatenated(found for (found,), _ in self.stream([(params, stats)], source))


class FeatureExtractor:
  """Runs a network up to what its heads see."""

  def __init__(self, network: Network, mesh: Mesh, batch_size: int):
    def features(params: Params, stats: Stats, images: jax.Array) -> jax.Array:
      return network.features(params, stats, images).astype(jax.numpy.float32)

    self.batch_size = batch_size
    self._features, self._runner = features, _Runner(features, mesh, batch_size)

  def size(self, params: Params, stats: Stats, image_shape: Sequence[int]) -> int:
    """D, the length of a feature vector; nothing is computed."""
    images = jax.ShapeDtypeStruct((self.batch_size, *image_shape), np.float32)
    return jax.eval_shape(self._features, params, stats, images).shape[1]

  def stream(
    self, params: Params, stats: Stats, batches: Iterable[tuple[np.ndarray, T]]
  ) -> Iterator[tuple[np.ndarray, T]]:
    """(features float32 [b, D], tag) for each (images uint8 [b, H, W, C], tag), in order; b is at most the batch size."""
    for (found,), tag in self._runner.over([(params, stats)], batches):
      yield found, tag


def concatenated(parts: Iterable[Scores]) -> Scores:
  """The scores of consecutive batches as one."""
  found: dict[str, list[np.ndarray]] = {}
  for scores in parts:
    for task, values in scores.items():
      found.setdefault(task, []).append(values)
  return {task: np.concatenate(values) for task, values in found.items()}


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


class Meter:
  """Adds up what follows from the scores of a source's samples, as they come.

  Counts are exact, so what comes out does not depend on how the samples were put into batches; sums of losses and ages are of float64.
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
      tops: {task: over how many of the most probable years an age is the mean}; where that is more than 1, scores are probabilities, `mae`
        is that of this mean, and `mae_most_probable` that of the most probable year.
      terms: {task: its loss term}, see `losses`.
    """
    labelled = {name: source.labelled(name) for name in tasks if name in source.labels}
    self._tasks = {name: tasks[name] for name, known in labelled.items() if known.any()}
    self._labelled = {name: int(labelled[name].sum()) for name in self._tasks}
    self._source, self._threshold = source, threshold
    self._counts = {name: metrics.zeros(task) for name, task in self._tasks.items()}
    self._tops = {name: tops[name] for name, task in self._tasks.items() if tops.get(name, 1) > 1 and task.values}
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
    found = {name: metrics.summarize(task, self._counts[name]) for name, task in self._tasks.items()}
    for name, years in self._years.items():
      found[name] |= {'mae_most_probable': found[name]['mae'], 'mae': years / found[name]['n']}
    return found

  def losses(self) -> dict[str, float]:
    """{task: its loss term's mean over the labelled samples}."""
    return {name: total / self._labelled[name] for name, total in self._losses.items()}


def measure(tasks: Mapping[str, Task], scores: Scores, source: Source, **how: Any) -> dict[str, dict[str, Any]]:
  """{task: summary} of the scores {task: [N, C]} of a source's samples; `how` is that of `Meter`."""
  meter = Meter(tasks, source, **how)
  meter.add(scores, np.arange(len(source)))
  return meter.summaries()
