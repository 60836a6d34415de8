"""The images and labels of all sources on each device, so that only the numbers of the samples of a
batch travel: `config.store=device`.

`auto` does so on accelerators where the decoded images are at most a quarter of a device's free
memory. On CPUs the devices' memory is the host's, and nothing is gained. The batches are those of
the other stores, to the last bit: a gather copies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mtface import process
from mtface.data import memory
from mtface.data.loader import Batch, join_labels, join_lessons
from mtface.data.sources import Source
from mtface.parallel.sharding import everywhere, place

SHARE = 0.25  # of a device's free memory: the most to fill with images
_BLOCK = 4096  # images gathered at a time


@dataclasses.dataclass(frozen=True)
class Residence:
  """Whether the images of a run are to be on the devices.

  Attributes:
    there: whether they are.
    text: a line about it; '' where nobody would expect them there.
  """

  there: bool
  text: str = ''


def plan_residence(store: str, sources: Sequence[Source], mesh: Mesh) -> Residence:
  """Decides by `config.store`, the images' size and the devices' memory; all processes the same."""
  on_cpus = mesh.devices.flat[0].platform == 'cpu'
  if store not in ('auto', 'device') or (store == 'auto' and on_cpus):
    return Residence(False)
  shape = (sum(map(len, sources)), *sources[0].image_shape)
  size, free = int(np.prod(shape)), _free_bytes()
  decoded = all(getattr(source.images, 'store', 'memory') == 'memory' for source in sources)
  there = _all_say(decoded and size <= SHARE * free)
  of = f'{shape[0]:,} images, {size / 1e9:,.2f} GB decoded'
  left = f'{free / 1e9:,.1f} GB of memory free on a device, of which {SHARE:.0%} may be used'
  return Residence(there, f'{of}: {"on each device" if there else "not on the devices"} ({left})')


def _free_bytes() -> int:
  """Of the fullest local device; on CPUs, which do not say, of the host, for each device."""
  devices = jax.local_devices()
  found = [device.memory_stats() for device in devices]
  if any(stats is None or 'bytes_limit' not in stats for stats in found):
    return memory.available() // len(devices)
  return min(int(stats['bytes_limit']) - int(stats['bytes_in_use']) for stats in found)


def _all_say(here: bool) -> bool:
  """Whether it holds in all processes: they run one program."""
  if process.count == 1:
    return here
  return bool(np.all(multihost_utils.process_allgather(np.array(here, np.int32))))


def place_sources(sources: Sequence[Source], mesh: Mesh) -> dict[str, Any]:
  """{image: uint8 [N, H W C], labels and mask: {task: [N] or [N, C]}} of all N samples, one source
  after the other, whole on each device; and what teachers say.
  """
  labels, mask = join_labels(sources)
  images = np.empty((sum(map(len, sources)), int(np.prod(sources[0].image_shape))), np.uint8)
  first = 0
  for source in sources:
    for start in range(0, len(source), _BLOCK):
      rows = np.arange(start, min(start + _BLOCK, len(source)))
      images[first + rows] = source.gather(rows).reshape(len(rows), -1)
    first += len(source)
  found = {'image': images, 'labels': labels, 'mask': mask, **join_lessons(sources)}
  return place(found, everywhere(mesh))


def shapes(sources: Sequence[Source], mesh: Mesh) -> dict[str, Any]:
  """The same by shapes, types and shardings; no image is read."""
  labels, mask = join_labels(sources)
  size = (sum(map(len, sources)), int(np.prod(sources[0].image_shape)))
  image = jax.ShapeDtypeStruct(size, np.uint8)
  made = {'image': image, 'labels': labels, 'mask': mask, **join_lessons(sources)}
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, jax.dtypes.canonicalize_dtype(x.dtype), sharding=everywhere(mesh)
    ),
    made,
  )


def gathered(data: dict[str, Any], drawn: Batch, image_shape: Sequence[int]) -> Batch:
  """The batch (`BatchSource`) of what `DrawSource` says, gathered on the devices. Pure."""
  sample, hidden = drawn['sample'], drawn['hidden']

  def known(task: str, mask: jax.Array) -> jax.Array:
    rows = mask[sample]
    return rows & ~hidden[task].reshape(-1, *[1] * (rows.ndim - 1))

  return {
    'image': jnp.reshape(data['image'][sample], (len(sample), *image_shape)),
    'labels': {task: labels[sample] for task, labels in data['labels'].items()},
    'mask': {task: known(task, mask) for task, mask in data['mask'].items()},
    **{name: drawn[name] for name in ('source', 'position', 'stop')},
    **{
      name: jax.tree.map(lambda x: x[sample], data[name])
      for name in ('shares', 'taught')
      if name in data
    },
  }
