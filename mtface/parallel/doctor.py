"""`mtface doctor`: the first thing to run on a new machine or cluster. All processes run it; the
first one prints.

It reports devices, mesh and versions, whether known answers come out right, how fast the devices
all-reduce arrays (what a training step waits for), how fast the workdir's file system stores a
checkpoint, and whether all hosts see the same files there.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import time
import uuid

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mtface import process
from mtface.config.saved import versions
from mtface.errors import UserError
from mtface.models.selfcheck import Answer, known_bad, selfcheck
from mtface.parallel.sharding import make_mesh

_MEGABYTES = (1, 8, 64)  # sizes of the arrays to all-reduce
_FILE_MEGABYTES = 64


def doctor(workdir: pathlib.Path | None, fsdp: int = 1) -> list[str]:
  """Checks the machine together with the other processes; returns the lines of the report.

  Args:
    workdir: where runs will be written; None: its file system is not checked.
    fsdp: as `config.mesh.fsdp`.

  Raises:
    UserError: the workdir cannot be written, or the processes do not see the same files there.
  """
  mesh = make_mesh(fsdp)
  lines = [f'versions: {", ".join(f"{name} {version}" for name, version in versions().items())}']
  lines += _hosts()
  if bad := known_bad():
    lines.append(bad)
  lines += [str(answer) for answer in _answers()]
  lines.append(
    f'mesh: {" x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())}, {mesh.size} '
    'devices'
  )
  lines += [f'all-reduce of {size} MB: {_all_reduce(mesh, size)}' for size in _MEGABYTES]
  if workdir is not None:
    lines += _file_system(workdir)
  return lines


def _hosts() -> list[str]:
  """One line per process: its host and devices."""
  here = jax.local_devices()
  text = (
    f'process {process.index} of {process.count}: {socket.gethostname()}, {len(here)} x '
    f'{here[0].device_kind}, {os.cpu_count()} cores'
  )
  if process.count == 1:
    return [text]
  padded = np.frombuffer(text.encode()[:256].ljust(256), np.uint8)
  return [
    bytes(row).decode(errors='replace').rstrip()
    for row in np.asarray(multihost_utils.process_allgather(padded))
  ]


def _answers() -> list[Answer]:
  """The known-answer checks: each with the largest error of all processes."""
  found = selfcheck()
  if process.count == 1:
    return found
  errors = np.asarray(
    multihost_utils.process_allgather(np.array([answer.error for answer in found], np.float32))
  ).max(0)
  return [
    dataclasses.replace(answer, error=float(error))
    for answer, error in zip(found, errors, strict=True)
  ]


def _all_reduce(mesh: jax.sharding.Mesh, megabytes: int) -> str:
  """Time and rate of an all-reduce over all devices, best of five."""
  if mesh.size == 1:
    return 'one device, nothing to reduce'
  length = megabytes * 2**20 // 4
  every = NamedSharding(mesh, P(('data', 'fsdp')))
  rows = jax.jit(lambda: jnp.ones((mesh.size, length)), out_shardings=every)()
  added = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=NamedSharding(mesh, P()))
  times = []
  for _ in range(6):  # the first one compiles
    start = time.monotonic()
    added(rows).block_until_ready()
    times.append(time.monotonic() - start)
  best = min(times[1:])
  # In a ring, each device sends and receives 2 (n - 1) / n of the array.
  sent = 2 * (mesh.size - 1) / mesh.size * megabytes * 2**20
  return f'{1000 * best:,.1f} ms, {sent / best / 1e9:,.2f} GB/s per device'


def _file_system(workdir: pathlib.Path) -> list[str]:
  """Write speed in the workdir, and whether all processes see what the first one writes there."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    probe = workdir / f'.doctor-{process.index}-{uuid.uuid4().hex}'
    data = os.urandom(2**20)
    start = time.monotonic()
    with probe.open('wb') as file:
      for _ in range(_FILE_MEGABYTES):
        file.write(data)
      file.flush()
      os.fsync(file.fileno())
    seconds = time.monotonic() - start
    probe.unlink()
  except OSError as error:
    raise UserError(
      f'{workdir}: cannot be written ({error.strerror or error}); choose another --workdir'
    ) from error
  lines = [
    f'{workdir}: {_FILE_MEGABYTES} MB written and synced at {_FILE_MEGABYTES / seconds:,.0f} MB/s '
    'by process 0'
  ]
  return [*lines, *_seen_by_all(workdir)]


def _seen_by_all(workdir: pathlib.Path) -> list[str]:
  if process.count == 1:
    return []
  shared = workdir / '.doctor-shared'
  if process.is_first():
    shared.write_text('seen')
  multihost_utils.sync_global_devices('doctor wrote')
  seen = np.asarray(
    multihost_utils.process_allgather(np.array([shared.exists()], np.int32))
  ).reshape(-1)
  if process.is_first():
    shared.unlink(missing_ok=True)
  if not seen.all():
    blind = ', '.join(map(str, np.flatnonzero(seen == 0)))
    raise UserError(
      f'{workdir}: files written by process 0 are not visible to process {blind}; choose a '
      'folder on a '
      'shared file system'
    )
  return [f'{workdir}: all {process.count} processes see the same files']
