"""Networks over sources, batch by batch, and the metrics that follow. Nothing grows with the number
of faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from mtface.data.inputs import scale_images
from mtface.data.sources import Source
from mtface.inference.readout import concatenated
from mtface.inference.views import views
from mtface.models.network import Network
from mtface.models.paths import Params, Stats
from mtface.models.platforms import spread_over
from mtface.outputs import Scores
from mtface.parallel.sharding import everywhere, shared
from mtface.progress import progress

Networks: TypeAlias = Sequence[tuple[Params, Stats]]
T = TypeVar('T')
_AHEAD = 2  # batches that are read before they are asked for


class _Runner:
  """Runs a function of (parameters, statistics, images) over batches of one shape: one compilation
  serves all networks and sets.
  """

  def __init__(
    self, function: Callable[[Params, Stats, jax.Array], Any], mesh: Mesh, batch_size: int
  ):
    self.batch_size = batch_size
    self._sharding = shared(mesh)

    def run(params: Params, stats: Stats, images: jax.Array) -> Any:
      with spread_over(mesh):
        return function(params, stats, scale_images(images))

    # Parameters are used where they lie. In one process, what comes of a batch stays split until it
    # is on the host, so that devices need not meet: on CPUs, two programs in which they do, under
    # way at once as those of two runs are, can wait for each other for ever.
    self._run = jax.jit(run, out_shardings=(everywhere if mesh.is_multi_process else shared)(mesh))

  def over(
    self,
    networks: Networks,
    batches: Iterable[tuple[np.ndarray, T]],
    size: int = 0,
    kind: str = '',
  ) -> Iterator[tuple[list[Any], T]]:
    """([what each network makes of them], tag) for each (images uint8 [b, H, W, C], tag), in order;
    b is at most `size`, to which batches are filled up (0: the batch size). With a `kind` of views
    (`views.views`), what each network makes of each view.

    Two batches are under way: while one runs on the devices, the caller works on what came of the
    one before.
    """
    pending: tuple[list[Any], int, T] | None = None
    seen = views(kind)
    for images, tag in batches:
      short = np.zeros(((size or self.batch_size) - len(images), *images.shape[1:]), np.uint8)
      filled = np.concatenate([images, short]) if len(short) else images
      placed = jax.make_array_from_callback(filled.shape, self._sharding, filled.__getitem__)
      shown = [view(placed) for view in seen]
      running = [self._run(params, stats, x) for params, stats in networks for x in shown]
      if pending is not None:
        yield _cut(pending[0], pending[1]), pending[2]
      pending = running, len(images), tag
    if pending is not None:
      yield _cut(pending[0], pending[1]), pending[2]


def _cut(found: list[Any], count: int) -> list[Any]:
  """On the host, without what filled the batch up."""
  return jax.tree.map(lambda x: np.asarray(x)[:count], found)


def batches_of(
  source: Source, batch_size: int, show: str = ''
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """(images, rows int [b]) of a source once, in order, read ahead in a thread. `show` names the
  progress bar; empty shows none.
  """
  parts = _Parts(source, batch_size)
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_AHEAD)
  batches = grain.MapDataset.source(parts).to_iter_dataset(options)
  yield from progress(batches, show, total=len(parts)) if show else batches


class _Parts:
  """Random access to the batches of a source, in order."""

  def __init__(self, source: Source, batch_size: int):
    self._source, self._batch_size = source, batch_size

  def __len__(self) -> int:
    return -(-len(self._source) // self._batch_size)

  def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
    first = int(number) * self._batch_size
    rows = np.arange(first, min(first + self._batch_size, len(self._source)))
    return self._source.gather(rows), rows


class Scorer:
  """Runs networks over sources up to their scores."""

  def __init__(self, network: Network, mesh: Mesh, batch_size: int):
    self._runner = _Runner(network.scores, mesh, batch_size)

  def stream(
    self, networks: Networks, source: Source, *, show: str = '', kind: str = ''
  ) -> Iterator[tuple[list[Scores], np.ndarray]]:
    """([{task: float32 [b, C]} of each network and view], rows int [b]) of a source's samples, in
    order. `show` names the progress bar; `kind` is one of views.
    """
    batches = batches_of(source, self._runner.batch_size, show)
    yield from self._runner.over(networks, batches, kind=kind)

  def of_images(
    self, networks: Networks, images: np.ndarray, size: int, kind: str = ''
  ) -> list[Scores]:
    """[{task: float32 [N, C]} of each network and view] of images, uint8 [N, H, W, C]. Batches are
    filled up to `size`; every new one is a compilation.
    """
    starts = range(0, len(images), size)
    batches = ((images[start : start + size], None) for start in starts)
    parts = [found for found, _ in self._runner.over(networks, batches, size, kind)]
    return [concatenated(of_one) for of_one in zip(*parts, strict=True)]

  def scores(self, params: Params, stats: Stats, source: Source) -> Scores:
    """{task: float32 [N, C]} of all of a source's samples at once: for small sources, or tasks of
    few classes.
    """
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
    """(features float32 [b, D], tag) for each (images uint8 [b, H, W, C], tag), in order; b is at
    most the batch size.
    """
    for (found,), tag in self._runner.over([(params, stats)], batches):
      yield found, tag
