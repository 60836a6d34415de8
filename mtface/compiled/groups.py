"""Which devices a collective joins, from the attributes of its line in an HLO text.

XLA writes `replica_groups` in three ways: as lists, `{{0,1},{2,3}}`; as a reshaped count,
`[2,4]<=[4,2]T(1,0)`; and by axes of a mesh, `mesh['data'=4,'fsdp'=2] {'data'}`, whose axes may be
split, `'data':(1)2` (the 2 that follow 1), and whose devices may come in another order,
`device_ids=([2,4]T(1,0))`.
"""

from __future__ import annotations

import math
import re

import numpy as np

_LISTS = re.compile(r'replica_groups=\{\{([\d,]+)\}')
_COUNT = re.compile(r'replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?')
_MESH = re.compile(
  r'replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\(([\d,\[\]]+(?:T\([\d,]+\))?)\))? ?\{([^}]*)\}'
)
_TURNED = re.compile(r'\[([\d,]+)\](?:T\(([\d,]+)\))?')
_AXIS = re.compile(r"'?(\w+)'?=(\d+)")
_REFERENCE = re.compile(r"'?(\w+)'?(?::\((\d+)\)(\d+))?")
_PAIR = re.compile(r'source_target_pairs=\{\{(\d+),(\d+)\}')


def first_group(attributes: str, devices: int) -> tuple[int, ...]:
  """The devices of the first group (all groups of a program are alike): numbers in the order of the
  mesh. All of them where the line names none.
  """
  if found := _LISTS.search(attributes):
    return _numbers(found[1])
  if found := _PAIR.search(attributes):
    return int(found[1]), int(found[2])
  if found := _COUNT.search(attributes):
    count = _counted(found[3], found[4])
    return tuple(count.reshape(int(found[1]), int(found[2]))[0].tolist())
  if found := _MESH.search(attributes):
    return _of_mesh(found[1], found[2] or '', found[3])
  return tuple(range(devices))


def _of_mesh(axes: str, order: str, joined: str) -> tuple[int, ...]:
  sizes = {name: int(size) for name, size in _AXIS.findall(axes)}
  turned = _TURNED.fullmatch(order or f'[{math.prod(sizes.values())}]')
  devices = _counted(turned[1], turned[2]) if turned else np.array(_numbers(order))
  named = {
    name: (int(pre or 1), int(size or sizes[name]))
    for name, pre, size in _REFERENCE.findall(joined)
  }
  shape: list[int] = []
  kept: list[bool] = []
  for name, whole in sizes.items():
    pre, size = named.get(name, (whole, 1))
    shape += [pre, size, whole // pre // size]
    kept += [False, name in named, False]
  group = devices.reshape(shape)[tuple(slice(None) if keep else 0 for keep in kept)]
  return tuple(group.ravel().tolist())


def _counted(shape: str, order: str | None) -> np.ndarray:
  """0, 1, 2, ... in a shape, with its axes in another order."""
  sides = _numbers(shape)
  count = np.arange(math.prod(sides)).reshape(sides)
  return count.transpose(_numbers(order)) if order else count


def _numbers(text: str) -> tuple[int, ...]:
  return tuple(int(n) for n in text.split(',') if n.strip())
