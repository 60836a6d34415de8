"""What of a program runs, and the bytes that it moves.

Traffic is what its kernels read from and write to the device's main memory: every array that a
kernel takes once, and every one that it makes once. A kernel that takes slices of an array reads
these alone, and one that changes a part of an array writes that part. Bodies of loops count as
often as they run. Arrays in memory on the chip (TPUs' VMEM and SMEM) are no traffic. Caches are not
considered: small arrays may cost less, and kernels that read an array more than once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mtface.compiled.collectives import within
from mtface.compiled.hlo import Array, Computation, Instruction, Module, Shape, arrays

# Names for what other instructions made, and the scalars that say which device this is.
_NAMES = {
  'parameter',
  'constant',
  'tuple',
  'get-tuple-element',
  'bitcast',
  'after-all',
  'opt-barrier',
  'add-dependency',
  'domain',
  'partition-id',
  'replica-id',
}
_NAMING_CALLS = {'ConcatBitcast', 'AllocateBuffer', 'AssumeGatherIndicesInBound'}  # of TPUs
_CONTROL = {'call', 'async-start'}
_SLICES = {'slice', 'dynamic-slice', 'gather'}
_UPDATE = 'dynamic-update-slice'
_HOST = 5  # the space of the host's memory


class Traffic:
  """The traffic of a module's kernels."""

  def __init__(self, module: Module, on_chip: bool):
    """`on_chip`: memory spaces other than 0 are on the chip, as TPUs' are."""
    self._module, self._on_chip = module, on_chip

  def kernels(
    self, body: Computation, times: int = 1
  ) -> Iterator[tuple[Instruction, Computation, int]]:
    """(instruction, where it stands, how often it runs) of all that runs, at any depth. Of a choice
    between branches: the one with most traffic. What is started and waited for is one, at its end.
    """
    for line in body:
      if line.opcode == 'while':
        inner = self._module.computations[line.loop_body]
        yield from self.kernels(inner, times * (line.trips or 1))
      elif line.opcode == 'conditional':
        branches = [self._module.computations[name] for name in line.called]
        yield from self.kernels(max(branches, key=self._total), times)
      elif line.opcode in _CONTROL:
        yield from self.kernels(self._module.computations[line.called[0]], times)
      elif _is_kernel(line, body):
        yield line, body, times

  def _total(self, body: Computation) -> int:
    return sum(n * self.of(line, where) for line, where, n in self.kernels(body))

  def stored(self, shape: Shape) -> int:
    """Bytes of the arrays of a shape that lie in the device's main memory."""
    return sum(array.bytes for array in arrays(shape) if self._in_memory(array))

  def _in_memory(self, array: Array) -> bool:
    return array.space == 0 if self._on_chip else array.space != _HOST

  def of(self, line: Instruction, body: Computation) -> int:
    """Bytes that a kernel reads and writes each time."""
    start = started(line, body)
    read = sum(self._read(start, line, body, place) for place in range(len(start.operands)))
    return read + self._written(start, line, body)

  def _read(self, start: Instruction, line: Instruction, body: Computation, place: int) -> int:
    """Of one of its operands."""
    if (found := within(self._module, start)) and found.passes(place):
      return 0
    whole = self.stored(body[start.operands[place]].shape)
    kind = start.opcode.removesuffix('-start')
    if kind == 'fusion' and whole:
      inner = self._module.computations[start.called[0]]
      return math.floor(min(whole, _taken(inner, inner.parameters[place])))
    if kind in _SLICES and place == 0:
      return min(whole, size(line.shape))
    return 0 if kind == _UPDATE and place == 0 else whole

  def _written(self, start: Instruction, line: Instruction, body: Computation) -> int:
    if start.opcode != 'fusion':
      return math.floor(min(self.stored(line.shape), _changed(body, start)))
    inner = self._module.computations[start.called[0]]
    found = within(self._module, start)
    passed = found.passed if found else ()  # of a collective: it lies where it did
    root = inner.root
    parts = [inner[name] for name in root.operands] if root.opcode == 'tuple' else [root]
    shapes = line.shape if isinstance(line.shape, tuple) else (line.shape,)
    sizes = [0 if i in passed else self.stored(shape) for i, shape in enumerate(shapes)]
    if len(parts) != len(shapes):  # one operation with several results, as a reduction of pairs
      return sum(sizes)
    pairs = zip(parts, sizes, strict=True)
    return math.floor(sum(min(of, _changed(inner, part)) for part, of in pairs))


def _is_kernel(line: Instruction, body: Computation) -> bool:
  if line.opcode.endswith('-done'):
    return started(line, body).opcode not in _CONTROL
  return makes(line) and not line.opcode.endswith('-start')


def makes(line: Instruction) -> bool:
  """Whether an instruction makes arrays, rather than name those of others."""
  if line.opcode == 'custom-call':
    return line.attribute('custom_call_target') not in _NAMING_CALLS
  return line.opcode not in _NAMES and not line.opcode.endswith(('-done', '-update'))


def started(line: Instruction, body: Computation) -> Instruction:
  """What an instruction is the end of; itself if it waits for nothing."""
  while line.opcode.endswith(('-done', '-update')):
    line = body[line.operands[0]]
  return line


def size(shape: Shape) -> int:
  """Bytes of a shape's arrays, wherever they lie."""
  return sum(array.bytes for array in arrays(shape))


def _taken(body: Computation, array: Instruction) -> float:
  """Bytes that a fusion reads of an array, through other names for it: slices alone, or anything;
  nothing of one that is updated where it lies.
  """
  total = 0.0
  for user in body.users[array.name]:
    first = user.operands.index(array.name) == 0
    if user.opcode == 'bitcast':
      total += _taken(body, user)
    elif user.opcode in _SLICES and first:
      total += size(user.shape)
    elif user.opcode != _UPDATE or not first:
      return math.inf
  return total


def _changed(body: Computation, line: Instruction) -> float:
  """Bytes of a result that are written: of an update the part alone, otherwise anything."""
  while line.opcode == 'bitcast':
    line = body[line.operands[0]]
  return size(body[line.operands[1]].shape) if line.opcode == _UPDATE else math.inf
