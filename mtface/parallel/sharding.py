"""Where arrays live: the device mesh, and how batches and large parameters are sharded over it.

The mesh has two axes, `data` x `fsdp`. A batch is split over both. Parameters and their optimiser
state are replicated on every device, except that those of at least `mesh.shard_from` elements are
sharded along their longest axis that `fsdp` divides (Rajbhandari et al. 2020, ZeRO stage 3); XLA
gathers them where they are used.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mtface.errors import UserError

BATCH = P(('data', 'fsdp'))


def make_mesh(fsdp: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
  """The `data` x `fsdp` mesh over all devices, ordered by process.

  Raises:
    UserError: the number of devices is not a multiple of `fsdp`.
  """
  devices = devices or jax.devices()
  if fsdp < 1 or len(devices) % fsdp:
    raise UserError(
      f'config.mesh.fsdp: {len(devices)} devices cannot be split evenly into groups of {fsdp}; '
      'choose a '
      'divisor'
    )
  return Mesh(np.array(devices).reshape(-1, fsdp), ('data', 'fsdp'))


def everywhere(mesh: Mesh) -> NamedSharding:
  """Replicated on every device."""
  return NamedSharding(mesh, P())


def shared(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """A batch, split over all devices along the axis of its samples."""
  return NamedSharding(mesh, P(*[None] * axis, *BATCH))


def state_shardings(state: Any, mesh: Mesh, shard_from: int) -> Any:
  """A pytree of shardings for a training state (arrays or shapes); see the module docstring."""
  return jax.tree.map(
    lambda leaf: NamedSharding(mesh, _spec(np.shape(leaf), mesh.shape['fsdp'], shard_from)), state
  )


def with_shardings(shapes: Any, shardings: Any) -> Any:
  """Shapes (`jax.ShapeDtypeStruct`) that say where the arrays lie."""
  return jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes, shardings
  )


def _spec(shape: tuple[int, ...], fsdp: int, shard_from: int) -> P:
  divisible = [axis for axis, length in enumerate(shape) if length % fsdp == 0]
  if fsdp == 1 or not divisible or np.prod(shape) < shard_from:
    return P()
  longest = max(divisible, key=lambda axis: shape[axis])
  return P(*('fsdp' if axis == longest else None for axis in range(longest + 1)))


def place(tree: Any, shardings: Any) -> Any:
  """Makes global arrays from values that every process holds; each device takes its part.
  `shardings` is a matching pytree, or a single sharding for all.
  """
  if isinstance(shardings, NamedSharding):
    shardings = jax.tree.map(lambda _: shardings, tree)

  def put(value: Any, sharding: NamedSharding) -> jax.Array:
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)

  return jax.tree.map(put, tree, shardings)
