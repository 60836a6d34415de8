"""What one call of the compiled training step is: how many steps, and where their images come from.

One step a call, fed with images, is the step itself. On accelerators a small network's step is
shorter than what the host needs to start it, so several run in one call, in a loop on the device:
`config.steps_a_call`. How many of them is an argument of the program, so that the same one serves
what remains before a line of the log, a checkpoint or the end.

Any number above 1 gives the same bits, wherever the calls end, and so does either way of the
images. One step a call is another program, which rounds differently, as another number of devices
does. So what `auto` takes follows from the config and the devices alone, not from free memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mtface import process
from mtface.data.loader import Batch, BatchSource, DrawSource, load_batches, stacked
from mtface.parallel import resident
from mtface.parallel.resident import Residence
from mtface.parallel.sharding import everywhere, place, shared
from mtface.training.run import Run
from mtface.training.state import State
from mtface.training.step import StepFunction
from mtface.training.tally import Tally

AUTO_STEPS = 8  # a call, on accelerators
_SMALL = 20_000_000  # parameters: above, a step is long enough
_STACK_BYTES = 64 << 20  # of images that a call may bring to each device


@dataclasses.dataclass(frozen=True)
class Calls:
  """How a run is cut into calls.

  Attributes:
    steps: the most that one call runs.
    stops: a call ends at every multiple of one of these steps (lines of the log, checkpoints).
    points: and at these steps (the end, a profile).
    residence: whether images are on the devices.
  """

  steps: int
  stops: tuple[int, ...]
  points: tuple[int, ...]
  residence: Residence

  def length(self, step: int) -> int:
    """How many steps the call runs that follows step `step`."""
    ends = [(step // every + 1) * every for every in self.stops]
    ends += [point for point in self.points if point > step]
    return min([self.steps, *(end - step for end in ends)])

  @property
  def plain(self) -> bool:
    """Whether a call is the step itself, fed with images."""
    return self.steps == 1 and not self.residence.there


def plan_calls(run: Run, mesh: Mesh, stops: Sequence[int], points: Sequence[int]) -> Calls:
  """The calls of a run on a mesh: `config.steps_a_call` and `config.store`."""
  residence = resident.plan_residence(run.config.store, run.sources, mesh)
  steps = run.config.steps_a_call or _auto_steps(run, mesh)
  return Calls(steps, tuple(stops), tuple(points), residence)


def _auto_steps(run: Run, mesh: Mesh) -> int:
  if _platform(mesh) == 'cpu':  # starting a program costs nothing beside the step
    return 1
  if sum(int(np.prod(x.shape)) for x in jax.tree.leaves(run.params)) > _SMALL:
    return 1
  images = run.config.batch_size * int(np.prod(run.config.image_shape)) // mesh.size
  return AUTO_STEPS if AUTO_STEPS * images <= _STACK_BYTES else 1


def _platform(mesh: Mesh) -> str:
  return mesh.devices.flat[0].platform


class Feed:
  """What the calls of a run get in place of batches, and the step that takes it."""

  def __init__(self, run: Run, calls: Calls, mesh: Mesh):
    """`axis` is that of the samples in what is loaded."""
    self._run, self._calls, self._mesh = run, calls, mesh
    self.axis = int(calls.steps > 1)
    make = DrawSource if calls.residence.there else BatchSource
    self._source = make(
      run.sources, run.mixture, run.config.batch_size, process.index, process.count
    )
    self._data: Any = None
    self._counts: dict[int, jax.Array] = {}

  def open(self) -> None:
    """Brings the images to the devices, if that is where they belong."""
    if self._calls.residence.there:
      self._data = resident.place_sources(self._run.sources, self._mesh)

  def loaded(self, start: int, stop: int) -> Iterator[Batch]:
    """What is to be brought to the devices (`to_devices`) for the steps [start, stop)."""
    batches = load_batches(self._source, start, stop)
    if self.axis == 0:
      return batches
    return stacked(batches, start, self._calls.length, self._calls.steps)

  def fed(self, batch: Batch, count: int) -> Any:
    """The last argument of a call that runs `count` steps; `batch` is on the devices."""
    if self._calls.plain:
      return batch
    if count not in self._counts:
      self._counts[count] = place(np.int32(count), everywhere(self._mesh))
    return {'batch': batch, 'count': self._counts[count], 'data': self._data}

  def shapes(self) -> Any:
    """The same by shapes, types and shardings."""
    split, every = shared(self._mesh, self.axis), everywhere(self._mesh)
    lead = (self._calls.steps,) if self.axis else ()
    made = self._source.shapes()
    made['stop'] = jax.ShapeDtypeStruct(made['position'].shape, np.int32)
    batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype, sharding=split), made
    )
    if self._calls.plain:
      return batch
    there = self._calls.residence.there
    return {
      'batch': batch,
      'count': jax.ShapeDtypeStruct((), np.int32, sharding=every),
      'data': resident.shapes(self._run.sources, self._mesh) if there else None,
    }


def make_call(
  step: StepFunction, calls: Calls, image_shape: Sequence[int], shardings: Any
) -> StepFunction:
  """(state, tally, `Feed.fed`) -> (state, tally): so many steps, one after the other. Pure."""

  def one(state: State, tally: Tally, batch: Batch, data: Any) -> tuple[State, Tally]:
    given = resident.gathered(data, batch, image_shape) if calls.residence.there else batch
    return step(state, tally, given)

  def call(state: State, tally: Tally, fed: Any) -> tuple[State, Tally]:
    batches, data = fed['batch'], fed['data']
    if calls.steps == 1:
      return one(state, tally, batches, data)

    def body(i: jax.Array, carried: tuple[State, Tally]) -> tuple[State, Tally]:
      batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), batches)
      after, sums = one(*carried, batch, data)
      return jax.lax.with_sharding_constraint(after, shardings), sums

    return jax.lax.fori_loop(0, fed['count'], body, (state, tally))

  return call
