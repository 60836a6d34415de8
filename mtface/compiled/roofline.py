"""What a program's figures allow on a card: images/s by its memory and by its matrix units, and the
share of it that is left when devices wait for each other.

A step takes at least the time in which its traffic passes through the memory at the bandwidth on
paper, or its FLOPs through the matrix units at their peak, whichever is longer. Launching kernels
takes time beyond that, and input may too.

Collectives: on GPUs, a ring over NVLink within each node and, between nodes, rings of the cards of
the same place, each over its own port with its part of the array; latency as in NCCL's model of its
trees with the LL protocol (src/graph/tuning.cc of NVIDIA/nccl): 6.6 us, 0.6 us a card of a node and
5 us for each doubling of the nodes, both twice for an all-reduce. On TPUs, rings over all axes of
the slice at once, lines where an axis does not close (half as fast); groups that are not the whole
slice go along one line; 1 us a hop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mtface.compiled.program import Collective
from mtface.compiled.targets import Card, Nodes, Target, Torus

ASSUMPTIONS = {
  'cuda': 'rings over NVLink within a node and over the network beyond, each card over its own '
  "port with its part of the arrays; latency as NCCL's trees",
  'tpu': 'rings over all axes of the slice, lines on axes that do not close; 1 us a hop',
}
_BASE, _CARD, _DOUBLING, _HOP = 6.6e-6, 0.6e-6, 5e-6, 1e-6  # s, see above
_BACKWARD = 2 / 3  # of a training step: each product has two gradients
_TWICE = {'all-reduce'}  # sent twice: to be summed, and the sums
_ONCE = {'collective-permute', 'collective-broadcast'}


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds of a step on one device without its collectives; 0 if nothing is known of the card."""

  memory: float
  compute: float

  @property
  def step(self) -> float:
    """The longer of the two."""
    return max(self.memory, self.compute)


@dataclasses.dataclass(frozen=True)
class Scaling:
  """What is left at a number of devices, as shares of the roofline.

  Attributes:
    devices: how many.
    waiting: s of the collectives that products or convolutions wait for.
    beside: s of the others.
    alone: efficiency if nothing runs beside a collective.
    overlapped: efficiency if the others run beside the backward pass.
  """

  devices: int
  waiting: float
  beside: float
  alone: float
  overlapped: float


def roofline(moved: float, flops: float, card: Card, dtype: str) -> Roofline:
  """Of a step that moves so many bytes and computes so many FLOPs on a device."""
  if not card.bandwidth:
    return Roofline(0, 0)
  return Roofline(moved / card.bandwidth, flops / card.peak[dtype])


def scaling(
  collectives: Sequence[Collective],
  step: float,
  target: Target,
  fsdp: int = 1,
  grid: tuple[int, ...] = (),
  trains: bool = True,
) -> Scaling:
  """The efficiency of a program whose step takes `step` seconds without its collectives.

  Args:
    collectives: of the program compiled for `target`.
    step: seconds.
    target: devices that it is compiled for.
    fsdp: devices that share large parameters (`mesh.fsdp`).
    grid: of another number of the same devices; () for those of the target. The program is taken to
      be the same, and groups along the `data` axis to grow.
    trains: whether two thirds of the step are a backward pass.
  """
  to = dataclasses.replace(target, grid=grid or target.grid)
  seconds = {True: 0.0, False: 0.0}
  for item in collectives:
    group = regrouped(item.group, target.devices, to.devices, fsdp)
    seconds[item.waits] += item.times * collective_seconds(item.kind, item.bytes, group, to)
  waiting, beside = seconds[True], seconds[False]
  left = max(0.0, beside - _BACKWARD * step * trains)
  return Scaling(
    to.devices,
    waiting,
    beside,
    step / (step + waiting + beside),
    step / (step + waiting + left),
  )


def regrouped(group: Sequence[int], devices: int, to: int, fsdp: int) -> tuple[int, ...]:
  """The same group on another number of devices, in a mesh of `data` x `fsdp`."""
  if to == devices:
    return tuple(group)
  data = len({n // fsdp for n in group}) > 1
  shared = len({n % fsdp for n in group}) > 1
  rows = range(to // fsdp) if data else [0]
  columns = range(fsdp) if shared else [0]
  return tuple(row * fsdp + column for row in rows for column in columns)


def other_grids(target: Target, fsdp: int) -> list[tuple[int, ...]]:
  """Grids that the figures of a program can be carried over to: those whose `data` axis is longer
  or shorter than that of the program, which must have one.
  """
  if target.devices // fsdp < 2 or target.card.links is None:
    return []
  grids: list[tuple[int, ...]]
  if isinstance(target.card.links, Nodes):
    grids = [(nodes, 8) for nodes in (1, 2, 8, 32, 128)]
  elif target.card.links.axes == 2:
    grids = [(side, side) for side in (2, 4, 8, 16)]
  else:
    grids = [(2, 2, 1), *((side, side, side) for side in (4, 8, 16))]
  most = target.card.links.most if isinstance(target.card.links, Torus) else math.inf
  return [
    grid for grid in grids if math.prod(grid) % fsdp == 0 and 2 * fsdp <= math.prod(grid) <= most
  ]


def collective_seconds(kind: str, size: float, group: Sequence[int], target: Target) -> float:
  """Time of one collective over an array of so many bytes (the whole of it where it is gathered or
  scattered); 0 where nothing is known of the links.
  """
  if len(group) < 2 or target.card.links is None:
    return 0.0
  if isinstance(target.card.links, Nodes):
    return _over_nodes(kind, size, group, target.grid[-1], target.card.links)
  return _over_torus(kind, size, group, target.grid, target.card.links)


def _over_nodes(kind: str, size: float, group: Sequence[int], node: int, links: Nodes) -> float:
  nodes = len({n // node for n in group})
  inside = math.ceil(len(group) / nodes)
  sent = _share(kind, inside) * size / links.inside
  sent += _share(kind, nodes) * size / inside / links.between
  hops = (inside - 1) * _CARD + math.ceil(math.log2(nodes)) * _DOUBLING
  return sent + _BASE + hops * (2 if kind in _TWICE else 1)


def _over_torus(
  kind: str, size: float, group: Sequence[int], grid: Sequence[int], links: Torus
) -> float:
  sides = [side for side in grid if side > 1]
  if len(group) < math.prod(grid):
    bandwidth, hops = links.link, float(len(group) - 1)
  else:
    closed = [side >= links.ring and side % links.ring == 0 for side in sides]
    bandwidth = sum(links.link * (2 if ring else 1) for ring in closed)
    hops = sum(side / 2 if ring else side - 1 for side, ring in zip(sides, closed, strict=True))
  return _share(kind, len(group)) * size / bandwidth + hops * _HOP * (2 if kind in _TWICE else 1)


def _share(kind: str, members: int) -> float:
  """How much of an array each member of a ring sends."""
  if kind in _ONCE:
    return float(members > 1)
  return (2 if kind in _TWICE else 1) * (members - 1) / members
