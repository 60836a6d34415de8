"""Batches from the hosts to the devices."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from mtface.data.loader import Batch
from mtface.parallel.sharding import shared


def to_devices(
  batches: Iterator[Batch], mesh: Mesh, *, stop: Callable[[], int] = lambda: 0, ahead: int = 2
) -> Iterator[Batch]:
  """Makes global arrays of all processes' shares, sharded over the mesh, and keeps `ahead` of them
  in flight to the devices.

  To each batch comes `stop` int32 [B]: what `stop()` says in the process whose share it is; the
  step passes the largest on to all.
  """
  sharding = shared(mesh)
  queue: collections.deque[Batch] = collections.deque()
  for batch in batches:
    batch['stop'] = np.full(len(batch['position']), stop(), np.int32)
    queue.append(jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch))
    if len(queue) >= ahead:
      yield queue.popleft()
  yield from queue
