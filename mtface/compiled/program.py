"""What a compiled program does, read from its text: kernels and their traffic, collectives, and
what lies in memory when most does.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from mtface.compiled.collectives import COLLECTIVES, within
from mtface.compiled.groups import first_group
from mtface.compiled.hlo import Computation, Instruction, Module, Shape, arrays
from mtface.compiled.memory import alive_at_peak
from mtface.compiled.traffic import Traffic, size, started

# What kernels are searched for, be it alone or fused with others.
PARTS = ('scatter', 'select-and-scatter', 'sort', 'transpose', 'reduce-window', 'gather')
_HEAVY_CALLS = ('conv', 'gemm', 'dot', 'matmul')  # in the names of custom calls


@dataclasses.dataclass(frozen=True)
class Kernel:
  """Something that runs.

  Attributes:
    kind: as in `fusion`, `custom-call __cudnn$convForward`, `all-reduce`.
    times: how often a step runs it.
    bytes: read and written each time.
    result: its arrays, as text.
    operation: what it stands for in the traced function.
    source: Python line, as in `layers.py:120`.
    parts: which of `PARTS` it contains.
  """

  kind: str
  times: int
  bytes: int
  result: str
  operation: str
  source: str
  parts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Collective:
  """Something that is sent between devices.

  Attributes:
    kind: one of `COLLECTIVES`.
    times: how often a step does it.
    bytes: of what goes in or of what comes out, whichever is more.
    group: devices of the first group that exchanges it.
    waits: whether products or convolutions come before it and others wait for it; where none do,
      it can run beside them.
  """

  kind: str
  times: int
  bytes: int
  group: tuple[int, ...]
  waits: bool


@dataclasses.dataclass(frozen=True)
class Buffer:
  """What a kernel left in memory."""

  bytes: int
  result: str
  operation: str
  source: str


@dataclasses.dataclass(frozen=True)
class Program:
  """A program on one of its devices.

  Attributes:
    kernels: all that runs.
    collectives: what is sent; none within one device.
    peak: what lies in memory when most does (`memory.alive_at_peak`).
    unknown_loops: loops of which XLA does not say how often they run; their bodies count once.
  """

  kernels: list[Kernel]
  collectives: list[Collective]
  peak: list[Buffer]
  unknown_loops: int

  @property
  def bytes(self) -> int:
    """Traffic of a step."""
    return sum(kernel.bytes * kernel.times for kernel in self.kernels)

  def by_kind(self) -> dict[str, tuple[int, int]]:
    """{kind of kernel: (number, bytes)}, most bytes first."""
    return _sums((kernel.kind, kernel.times, kernel.bytes) for kernel in self.kernels)

  def sent(self) -> dict[str, tuple[int, int]]:
    """{kind of collective: (number, bytes)}."""
    return _sums((item.kind, item.times, item.bytes) for item in self.collectives)

  def parts(self) -> dict[str, int]:
    """{one of `PARTS`: number of kernels that contain it}."""
    return {
      part: sum(kernel.times for kernel in self.kernels if part in kernel.parts) for part in PARTS
    }


def read_program(text: str, devices: int, on_chip: bool) -> Program:
  """Reads `Compiled.as_text()`.

  Args:
    text: of the optimised program of one device.
    devices: that it is for.
    on_chip: whether memory spaces other than the main one are on the chip, as TPUs' are.
  """
  module = Module(text)
  traffic = Traffic(module, on_chip)
  kernels, collectives = [], []
  waiting = {}
  for line, body, times in traffic.kernels(module.entry):
    start = started(line, body)
    kernels.append(_kernel(module, start, line, times, traffic.of(line, body)))
    inside = within(module, start)
    if kernels[-1].kind in COLLECTIVES or (inside and inside.first):
      if id(body) not in waiting:
        waiting[id(body)] = _between_heavy(module, body)
      waits = start.name in waiting[id(body)]
      of = (kernels[-1].kind, start, line, body)
      if inside:
        of = (inside.kind, inside.line, inside.line, inside.body)
      collectives.append(_collective(*of, times, devices, waits))
  peak = [
    Buffer(x, _text(module.entry[name].shape), *_origin(module, module.entry[name]))
    for name, x in alive_at_peak(module.entry, traffic).items()
  ]
  lines = [line for body in module.computations.values() for line in body]
  unknown = sum(line.opcode == 'while' and line.trips is None for line in lines)
  return Program(kernels, [item for item in collectives if len(item.group) > 1], peak, unknown)


def _kernel(
  module: Module, start: Instruction, line: Instruction, times: int, moved: int
) -> Kernel:
  inside = {inner.opcode.removesuffix('-start') for inner in module.inside(start)}
  parts = tuple(part for part in PARTS if part in inside)
  return Kernel(_kind(start), times, moved, _text(line.shape), *_origin(module, start), parts)


def _kind(start: Instruction) -> str:
  if start.opcode == 'custom-call':
    return f'custom-call {start.attribute("custom_call_target")}'
  if (kind := start.opcode.removesuffix('-start')) in COLLECTIVES or kind == start.opcode:
    return kind
  return f'{kind} beside others'


def _origin(module: Module, line: Instruction) -> tuple[str, str]:
  """(operation, Python line); of a fusion without them, those of what it ends with."""
  lines = [line]
  if line.opcode == 'fusion':
    body = module.computations[line.called[0]]
    lines += [body.root, *(body[name] for name in body.root.operands)]
  named = next((found for found in lines if found.attribute('op_name')), line)
  return _operation(named.attribute('op_name')), module.source(named)


def _operation(path: str) -> str:
  """`jit(step)/transpose(jvp())/conv_general_dilated` in words: backward conv_general_dilated."""
  path = path.partition(':')[0]  # the first of several
  inside = [part for part in path.split('/') if part.strip('()')]
  pass_ = 'backward ' if 'transpose(' in path else 'forward ' if 'jvp(' in path else ''
  return pass_ + (inside[-1].strip('()') if inside else '')


def _collective(
  kind: str,
  start: Instruction,
  line: Instruction,
  body: Computation,
  times: int,
  devices: int,
  waits: bool,
) -> Collective:
  given = sum(size(body[name].shape) for name in start.operands)
  group = first_group(start.rest, devices)
  return Collective(kind, times, max(given, size(line.shape)), group, waits)


def _between_heavy(module: Module, body: Computation) -> set[str]:
  """Instructions that products or convolutions come before and after."""
  heavy = {line.name for line in body if any(map(_is_heavy, module.inside(line)))}
  before: set[str] = set()
  after: set[str] = set()
  for line in body:
    if any(name in heavy or name in before for name in line.operands):
      before.add(line.name)
  for line in reversed(list(body)):
    if any(user.name in heavy or user.name in after for user in body.users[line.name]):
      after.add(line.name)
  return before & after


def _is_heavy(line: Instruction) -> bool:
  target = line.attribute('custom_call_target').lower() if line.opcode == 'custom-call' else ''
  return line.opcode in ('convolution', 'dot') or any(word in target for word in _HEAVY_CALLS)


def _text(shape: Shape) -> str:
  """A shape's largest arrays."""
  found = sorted((x for x in arrays(shape) if x.bytes), key=lambda array: -array.bytes)
  return ', '.join(map(str, found[:2])) + (', ...' if len(found) > 2 else '')


def _sums(rows: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
  found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
  for kind, times, moved in rows:
    found[kind][0] += times
    found[kind][1] += times * moved
  return {kind: (n, x) for kind, (n, x) in sorted(found.items(), key=lambda item: -item[1][1])}
