"""Moves batches from the hosts to the devices."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from mtface import process
from mtface.data.loader import Batch
from mtface.parallel.sharding import shared


def to_devices(
  batches: Iterator[Batch],
  mesh: Mesh,
  *,
  stop: Callable[[], int] = lambda: 0,
  ahead: int = 2,
  axis: int = 0,
) -> Iterator[Batch]:
  """Assembles the processes' shares into global arrays, sharded over the mesh, and keeps `ahead`
  batches in flight to the devices.

  Each batch gets `stop` int32 [B]: what `stop()` returns in the process whose share it is; the step
  makes the largest known to all. `axis` is that of the samples: 1 for stacks of batches.
  """
  sharding = shared(mesh, axis)
  queue: collections.deque[Batch] = collections.deque()
  for batch in batches:
    batch['stop'] = np.full(batch['position'].shape, stop(), np.int32)
    queue.append(_placed(batch, sharding))
    if len(queue) >= ahead:
      yield queue.popleft()
  yield from queue


def _placed(batch: Batch, sharding: NamedSharding) -> Batch:
  """The processes' shares as global arrays. A single process's is all of it, which JAX takes at
  once and sooner than array by array.
  """
  if process.count == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
