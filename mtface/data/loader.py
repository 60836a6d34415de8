"""The loader: (mixture, seed, step) -> one global batch, sharded over the devices; or only which
samples are in it, where their images are on the devices already (mtface/parallel/resident.py).

grain orders and prefetches *batches*: its source is a random-access sequence whose element k is
this host's share of the global batch of step k, gathered from memory in a few vectorised copies.
One record at a time through Python would be a hundred times slower (benchmarks/loader.py).
Nothing here is state: the batch of step k is a function of (config, seed, k), so a restart begins
at its step, and the number of hosts does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np

from mtface.data.mixing import Draws, Mixture
from mtface.data.sources import Source
from mtface.data.votes import one_hot
from mtface.errors import UserError
from mtface.tasks import get_task

Batch = dict[str, Any]
_NO_STEP_LIMIT = 2**31 - 1
_ALIGNMENT = 64  # bytes


class DrawSource:
  """Random access to which samples are in one process's share of every global batch: element k is
  `{sample, hidden, source, position}` of step k.

  `sample` int32 [b], its place among all sources, one laid after the other; `hidden` {task: bool
  [b]}, the labels that the mixture hides; `source` int32 [b]; `position` uint32 [b], the sample's
  place in the global stream, which keys its augmentation. b = batch_size / process_count.
  """

  decodes = False  # whether making a batch takes more than copying

  def __init__(
    self,
    sources: Sequence[Source],
    mixture: Mixture,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
  ):
    if batch_size % process_count:
      raise UserError(
        f'batch_size {batch_size} cannot be split evenly over {process_count} processes; '
        f'take a multiple of {process_count}'
      )
    self._sources, self._mixture, self._batch_size = sources, mixture, batch_size
    share = batch_size // process_count
    self._part = (process_index * share, (process_index + 1) * share)
    self._offsets = np.cumsum([0, *(len(s) for s in sources[:-1])])
    self._tasks = list(dict.fromkeys(t for s in sources for t in sorted(s.labels)))

  def __len__(self) -> int:
    return _NO_STEP_LIMIT

  def __getitem__(self, step: int) -> Batch:
    draws, position = self._drawn(step)
    none = np.zeros(len(position), bool)
    return {
      'sample': (self._offsets[draws.source] + draws.row).astype(np.int32),
      'hidden': {task: draws.hidden.get(task, none) for task in self._tasks},
      'source': draws.source.astype(np.int32, copy=False),
      'position': position,
    }

  def _drawn(self, step: int) -> tuple[Draws, np.ndarray]:
    """The samples of this process's share of a step, and their positions."""
    first = int(step) * self._batch_size
    start, stop = first + self._part[0], first + self._part[1]
    return self._mixture.at(start, stop), (np.arange(start, stop) % 2**32).astype(np.uint32)

  def shapes(self) -> Batch:
    """A global batch by its shapes and types."""
    return {
      'sample': self._of((), np.int32),
      'hidden': dict.fromkeys(self._tasks, self._of((), bool)),
      'source': self._of((), np.int32),
      'position': self._of((), np.uint32),
    }

  def _of(self, shape: Sequence[int], kind: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((self._batch_size, *shape), jax.dtypes.canonicalize_dtype(kind))


class BatchSource(DrawSource):
  """Random access to one process's share of every global batch: element k is `{image, labels, mask,
  source, position}` of step k.

  `image` uint8 [b, H, W, C]; `labels` and `mask` {task: [b] or [b, C]}; the others as above. With
  teachers also `shares` {task: float16 [b, C]} and `taught` {task: bool [b]}.
  """

  def __init__(
    self,
    sources: Sequence[Source],
    mixture: Mixture,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
  ):
    super().__init__(sources, mixture, batch_size, process_index, process_count)
    self._labels, self._mask = join_labels(sources)
    self._lessons = join_lessons(sources)

  @property
  def decodes(self) -> bool:  # type: ignore[override]
    """Whether making a batch takes more than copying."""
    return any(getattr(source.images, 'store', 'memory') == 'stream' for source in self._sources)

  def __getitem__(self, step: int) -> Batch:
    draws, position = self._drawn(step)
    joined = self._offsets[draws.source] + draws.row
    mask = {}
    for task, known in self._mask.items():
      mask[task] = known[joined]
      if task in draws.hidden:
        mask[task][draws.hidden[task]] = False
    return {
      'image': self._gather(draws.source, draws.row),
      'labels': {task: labels[joined] for task, labels in self._labels.items()},
      'mask': mask,
      'source': draws.source.astype(np.int32, copy=False),
      'position': position,
      **jax.tree.map(lambda x: x[joined], self._lessons),
    }

  def shapes(self) -> Batch:
    """A global batch by its shapes and types; no image is read."""
    return {
      'image': self._of(self._sources[0].image_shape, np.uint8),
      'labels': jax.tree.map(lambda x: self._of(x.shape[1:], x.dtype), self._labels),
      'mask': jax.tree.map(lambda x: self._of(x.shape[1:], x.dtype), self._mask),
      'source': self._of((), np.int32),
      'position': self._of((), np.uint32),
      **jax.tree.map(lambda x: self._of(x.shape[1:], x.dtype), self._lessons),
    }

  def _gather(self, source: np.ndarray, row: np.ndarray) -> np.ndarray:
    images = _aligned((len(row), *self._sources[0].image_shape))
    for index in np.unique(source):
      here = np.flatnonzero(source == index)
      self._sources[index].gather_into(images, here, row[here])
    return images


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
  """Empty uint8 [shape] that begins at a multiple of 64 bytes: that JAX uses as it lies where the
  device is a CPU; it copies any other.
  """
  size = int(np.prod(shape))
  space = np.empty(size + _ALIGNMENT, np.uint8)
  first = -space.ctypes.data % _ALIGNMENT
  return space[first : first + size].reshape(shape)


def join_labels(sources: Sequence[Source]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Labels and masks of all sources one after the other; what a source does not label is 0 and
  masked. Where one has shares of votes, labels of the others are shares too.
  """
  labels, mask = {}, {}
  for task in dict.fromkeys(t for s in sources for t in sorted(s.labels)):
    known, shape = get_task(task), get_task(task).label_shape
    of_sources = [s.labels.get(task, np.zeros((len(s), *shape), np.int32)) for s in sources]
    if any(x.ndim > 1 for x in of_sources) and not known.multi_label:
      of_sources = [x if x.ndim > 1 else one_hot(x, known.num_classes) for x in of_sources]
    labels[task] = np.concatenate(of_sources)
    mask[task] = np.concatenate(
      [s.mask.get(task, np.zeros((len(s), *shape), bool)) for s in sources]
    )
  return labels, mask


def join_lessons(sources: Sequence[Source]) -> dict[str, dict[str, np.ndarray]]:
  """`shares` and `taught` of all sources one after the other; {} without teachers."""
  tasks = dict.fromkeys(t for s in sources for t in s.shares)
  if not tasks:
    return {}
  return {
    'shares': {t: np.concatenate([s.shares[t] for s in sources]) for t in tasks},
    'taught': {t: np.concatenate([s.taught[t] for s in sources]) for t in tasks},
  }


def load_batches(
  source: DrawSource, start: int, stop: int, *, threads: int | None = None, buffered: int = 4
) -> Iterator[Batch]:
  """This process's share of the batches of steps [start, stop), read ahead by grain's threads.

  `threads` None: two where images are decoded as they are used, so that the cores that decode one
  batch never wait for the next one to begin; one where they lie in memory.
  """
  threads = threads or (2 if source.decodes else 1)
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffered)
  return iter(grain.MapDataset.source(source)[start:stop].to_iter_dataset(options))


def stacked(
  batches: Iterator[Batch], start: int, length: Callable[[int], int], most: int
) -> Iterator[Batch]:
  """Batches [b, ...] of the steps from `start` on as stacks [most, b, ...].

  After step k, `length(k)` batches go into one stack, at most `most`; its last one fills it up.
  """
  step = start
  while parts := list(itertools.islice(batches, length(step))):
    step += len(parts)
    parts += [parts[-1]] * (most - len(parts))
    yield jax.tree.map(lambda *arrays: np.stack(arrays), *parts)
