"""Reads the text of an XLA program (HLO) as `jax.stages.Compiled.as_text` prints it: computations,
instructions, and the bytes of arrays as they lie in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Iterator
from typing import TypeAlias

_ARRAY = re.compile(r'([a-z]\w*)\[([^\]]*)\](?:\{([^}]*)\})?')
_BITS = re.compile(r'[a-z]+(\d+)')  # f32, bf16, u8, f8e4m3fn
_SPACE = re.compile(r'S\((\d+)\)')
_TILES = re.compile(r'\(([\d,]+)\)')
_HEAD = re.compile(r'(ENTRY )?%([\w.\-]+) .*\{$')
_LINE = re.compile(r'\s+(ROOT )?%([\w.\-]+) = ')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLED = re.compile(
  r'(?:calls|to_apply|body|condition|branch_computations|true_computation|false_computation)='
  r'(\{[^}]*\}|%[\w.\-]+)'
)
_BODY = re.compile(r'\bbody=%([\w.\-]+)')
_TRIPS = re.compile(r'known_trip_count\\?"?:\{\\?"?n\\?"?:\\?"?(\d+)')
_ALIAS = re.compile(r'\{([\d, ]*)\}: \(\d+, \{[\d, ]*\}')


@dataclasses.dataclass(frozen=True)
class Array:
  """An array's type, dimensions, bytes (with what its layout's tiles fill up) and memory space: 0
  is the device's main memory.
  """

  type: str
  dims: tuple[int, ...]
  bytes: int
  space: int = 0

  def __str__(self) -> str:
    return f'{self.type}[{",".join(map(str, self.dims))}]'


Shape: TypeAlias = 'Array | tuple[Shape, ...]'


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a computation.

  Attributes:
    name: without its %.
    opcode: as in `fusion`; of custom calls, `custom-call`.
    shape: of its result; a tuple for several.
    operands: names of instructions of the same computation.
    called: names of the computations that it calls.
    text: what stands between its brackets, as the number of a parameter.
    rest: its attributes.
    root: whether it is its computation's result.
  """

  name: str
  opcode: str
  shape: Shape
  operands: tuple[str, ...]
  called: tuple[str, ...]
  text: str
  rest: str
  root: bool

  def attribute(self, name: str) -> str:
    """A quoted attribute, as `op_name` or `custom_call_target`; '' if there is none."""
    found = re.search(rf'\b{name}="((?:[^"\\]|\\.)*)"', self.rest)
    return found[1].replace("\\'", "'") if found else ''

  @functools.cached_property
  def index(self) -> int:
    """Of a get-tuple-element: which element; of a parameter: its number."""
    found = re.search(r'\bindex=(\d+)', self.rest)
    return int(found[1]) if found else int(self.text)

  @functools.cached_property
  def loop_body(self) -> str:
    """Of a loop: the computation that it runs."""
    return _BODY.findall(self.rest)[0]

  @functools.cached_property
  def trips(self) -> int | None:
    """Of a loop: how often its body runs, where XLA knows that."""
    found = _TRIPS.search(self.rest)
    return int(found[1]) if found else None


class Computation:
  """Instructions in the order in which they run, by name."""

  def __init__(self, instructions: list[Instruction]):
    self.by_name = {line.name: line for line in instructions}

  def __iter__(self) -> Iterator[Instruction]:
    return iter(self.by_name.values())

  def __getitem__(self, name: str) -> Instruction:
    return self.by_name[name]

  @functools.cached_property
  def root(self) -> Instruction:
    """What it results in."""
    return next(line for line in self if line.root)

  @functools.cached_property
  def parameters(self) -> dict[int, Instruction]:
    """Its parameters by number."""
    return {line.index: line for line in self if line.opcode == 'parameter'}

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """Instruction -> those that take its result."""
    found: dict[str, list[Instruction]] = {line.name: [] for line in self}
    for line in self:
      for name in dict.fromkeys(line.operands):
        found[name].append(line)
    return found


class Module:
  """A program.

  Attributes:
    computations: by name.
    entry: what runs.
    in_place: numbers of the entry's results that are written where an argument lay.
  """

  def __init__(self, text: str):
    """Reads `text`, all of a module."""
    lines = text.splitlines()
    self.computations: dict[str, Computation] = {}
    self._files: dict[str, str] = {}
    self._places: dict[str, tuple[str, str]] = {}
    self._frames: dict[str, str] = {}
    name, body = '', list[Instruction]()
    for line in lines:
      if head := _HEAD.match(line):
        name, body = head[2], []
        if head[1]:
          self._entry = name
      elif line == '}' and name:
        self.computations[name], name = Computation(body), ''
      elif name and (found := _instruction(line)):
        body.append(found)
      elif not name:
        self._read_place(line)
    self.in_place = frozenset(
      int(index.partition(',')[0]) for index in _ALIAS.findall(_aliases(lines[0])) if index
    )

  @property
  def entry(self) -> Computation:
    """The computation that runs."""
    return self.computations[self._entry]

  def _read_place(self, line: str) -> None:
    """A line of the tables of source lines that stand before the computations."""
    if found := re.match(r'(\d+) "(.*)"$', line):
      self._files.setdefault(found[1], found[2])  # names of functions follow, numbered alike
    elif found := re.match(r'(\d+) \{file_name_id=(\d+).* line=(\d+)', line):
      self._places[found[1]] = (found[2], found[3])
    elif found := re.match(r'(\d+) \{file_location_id=(\d+)', line):
      self._frames[found[1]] = found[2]

  def source(self, line: Instruction) -> str:
    """The Python line that an instruction comes from, as `layers.py:120`; '' if it is unknown."""
    if found := re.search(r'source_file="([^"]*)" source_line=(\d+)', line.rest):
      return f'{pathlib.PurePath(found[1]).name}:{found[2]}'
    found = re.search(r'stack_frame_id=(\d+)', line.rest)
    if not found or self._frames.get(found[1]) not in self._places:
      return ''
    file, number = self._places[self._frames[found[1]]]
    return f'{pathlib.PurePath(self._files[file]).name}:{number}'

  def inside(self, line: Instruction) -> Iterator[Instruction]:
    """An instruction, and all of what it calls, at any depth."""
    yield line
    for name in line.called:
      for inner in self.computations[name]:
        yield from self.inside(inner)


def arrays(shape: Shape) -> list[Array]:
  """The arrays of a shape, in order."""
  if isinstance(shape, Array):
    return [shape]
  return [array for part in shape for array in arrays(part)]


def parse_shape(text: str) -> Shape:
  """`f32[8,128]{1,0:T(8,128)}`, or several in brackets."""
  text = re.sub(r'/\*.*?\*/', '', text).strip()
  if text.startswith('('):
    return tuple(parse_shape(part) for part in _split(text[1:-1]))
  found = _ARRAY.match(text)
  if not found:
    return ()  # a token or an opaque value
  return _array(found[1], found[2], found[3] or '')


@functools.cache
def _array(type: str, dims: str, layout: str) -> Array:
  size = tuple(int(n.lstrip('<=')) for n in dims.split(',') if n)
  order, _, rest = layout.partition(':')
  minor_first = [int(axis) for axis in order.split(',') if axis]
  physical = [size[axis] for axis in reversed(minor_first)] if minor_first else list(size)
  tiled, _, _ = rest.partition('S(')
  bits = _BITS.match(type)
  width = int(bits[1]) if bits else 8 if type == 'pred' else 0
  space = _SPACE.search(rest)
  count = _padded(physical, _TILES.findall(tiled) if 'T' in tiled else [])
  return Array(type, size, -(-count * width // 8), int(space[1]) if space else 0)


def _padded(physical: list[int], tiles: list[str]) -> int:
  """Elements of an array, from its major to its minor dimension, cut into tiles, each cut into
  tiles of the next size; the last ones are filled up (XLA's "tiled layout").
  """
  for text in tiles:
    tile = [int(n) for n in text.split(',')]
    whole = [1] * (len(tile) - len(physical)) + physical
    rest, cut = whole[: len(whole) - len(tile)], whole[len(whole) - len(tile) :]
    physical = [*rest, *(-(-n // t) for n, t in zip(cut, tile, strict=True)), *tile]
  return math.prod(physical)


def _instruction(line: str) -> Instruction | None:
  found = _LINE.match(line)
  if not found:
    return None
  rest = line[found.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  shape, rest = rest[:end], rest[end:].lstrip()
  bracket = rest.index('(')
  close = _closing(rest, bracket)
  inner, rest_of = rest[bracket + 1 : close], rest[close + 1 :]
  called = tuple(n for group in _CALLED.findall(rest_of) for n in _NAME.findall(group))
  operands = () if rest[:bracket] == 'constant' else tuple(_NAME.findall(inner))
  return Instruction(
    found[2], rest[:bracket], parse_shape(shape), operands, called, inner, rest_of, bool(found[1])
  )


def _closing(text: str, start: int) -> int:
  """Where the bracket at `start` ends; brackets in quotation marks do not count."""
  depth, quoted = 0, False
  for place in range(start, len(text)):
    letter = text[place]
    if letter == '"':
      quoted = not quoted
    elif not quoted and letter == '(':
      depth += 1
    elif not quoted and letter == ')':
      depth -= 1
      if not depth:
        return place
  return len(text) - 1


def _split(text: str) -> list[str]:
  """At the commas outside of all brackets."""
  parts, depth, start = [], 0, 0
  for place, letter in enumerate(text):
    depth += letter in '([{'
    depth -= letter in ')]}'
    if letter == ',' and not depth:
      parts.append(text[start:place])
      start = place + 1
  return [part for part in [*parts, text[start:]] if part.strip()]


def _aliases(header: str) -> str:
  """The table `input_output_alias={...}` of a module's first line."""
  _, _, rest = header.partition('input_output_alias=')
  depth = 0
  for place, letter in enumerate(rest):
    depth += (letter == '{') - (letter == '}')
    if not depth:
      return rest[: place + 1]
  return rest
