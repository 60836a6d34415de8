"""Collectives, alone or within the fusions that TPUs have for them.

A TPU begins a collective in one fusion (`AsyncCollectiveStart`), goes on with it in those of other
products (`async_collective_fusion`), which pass its arrays on as they lie, and ends it in a third.
A sum of which a device keeps its part is a fusion `all-reduce-scatter`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mtface.compiled.hlo import Computation, Instruction, Module

COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)
_SCATTERED = 'all-reduce-scatter'
_START = 'AsyncCollectiveStart'
_ALIASING = re.compile(r'output_to_operand_aliasing=\{(.*?\))\}, ')
_RESULT = re.compile(r'\{(\d*)\}: \(')


class Within(NamedTuple):
  """The collective of a fusion.

  Attributes:
    kind: one of `COLLECTIVES`.
    line: the collective itself.
    body: where it stands.
    passed: numbers of the results that lie where an operand did.
    first: whether it begins here, or is whole: it is counted here alone.
  """

  kind: str
  line: Instruction
  body: Computation
  passed: frozenset[int]
  first: bool

  def passes(self, number: int) -> bool:
    """Whether an operand belongs to what has begun elsewhere, so that it moves no bytes here."""
    users = self.body.users[self.body.parameters[number].name]
    return not self.first and all(user.root or user.opcode in COLLECTIVES for user in users)


def within(module: Module, start: Instruction) -> Within | None:
  """The collective within a fusion; None where there is none, or no fusion."""
  if start.opcode != 'fusion':
    return None
  name = start.called[0]
  body = module.computations[name]
  line = next((line for line in body if line.opcode in COLLECTIVES), None)
  if line is None:
    return None
  scattered = name.startswith(_SCATTERED)
  begins = body.root.attribute('custom_call_target') == _START
  found = _ALIASING.search(start.rest)
  passed = frozenset(int(number or 0) for number in _RESULT.findall(found[1] if found else ''))
  kind = 'reduce-scatter' if scattered else line.opcode
  return Within(kind, line, body, passed, scattered or begins or not passed)
