"""What lies in a device's memory when most does, as far as the order of a program's entry tells."""

from __future__ import annotations

from mtface.compiled.hlo import Computation, Instruction, Shape, arrays
from mtface.compiled.traffic import Traffic, makes

_Place = tuple[str, int]  # (instruction, which array of its result)


def alive_at_peak(body: Computation, traffic: Traffic) -> dict[str, int]:
  """{instruction: bytes of what it made} when most lies in memory, the largest first.

  Arguments are not counted, nor are the results of the whole, which lie where arguments lay or in
  memory of their own; an array lies in memory from the instruction that makes it to the last one
  that takes it. XLA's own count (`memory_analysis`) also has what loops hold, and gaps.
  """
  held, lines = _arrays_of(body), list(body)
  last = {
    place: n for n, line in enumerate(lines) for name in line.operands for place in held[name]
  }
  kept, alive = set(held[body.root.name]), dict[_Place, int]()
  best: tuple[int, dict[_Place, int]] = 0, {}
  for n, line in enumerate(lines):
    for place, array in enumerate(arrays(_made(line, body)) if makes(line) else ()):
      if (line.name, place) in held[line.name] and (line.name, place) not in kept:
        alive[line.name, place] = traffic.stored(array)
    if (total := sum(alive.values())) > best[0]:
      best = total, dict(alive)
    alive = {place: x for place, x in alive.items() if last.get(place, n) > n}
  found: dict[str, int] = {}
  for (name, _), x in best[1].items():
    found[name] = found.get(name, 0) + x
  return dict(sorted(found.items(), key=lambda item: -item[1]))


def _arrays_of(body: Computation) -> dict[str, list[_Place]]:
  """Instruction -> the arrays that its result consists of. A loop's are those that went into it."""
  found: dict[str, list[_Place]] = {}
  for line in body:
    inherited = [place for name in line.operands for place in found[name]]
    if line.opcode in ('parameter', 'constant'):
      found[line.name] = [('', 0)] * len(arrays(line.shape))
    elif line.opcode == 'get-tuple-element':
      whole = body[line.operands[0]].shape
      assert isinstance(whole, tuple)
      before = sum(len(arrays(part)) for part in whole[: line.index])
      found[line.name] = inherited[before : before + len(arrays(line.shape))]
    elif makes(line) and line.opcode != 'while':
      found[line.name] = [(line.name, n) for n in range(len(arrays(_made(line, body))))]
    else:
      found[line.name] = inherited
  return found


def _made(line: Instruction, body: Computation) -> Shape:
  """An instruction's result; of one that starts something, that of its end."""
  if not line.opcode.endswith('-start'):
    return line.shape
  ends = [user for user in body.users[line.name] if user.opcode.endswith(('-done', '-update'))]
  return _made_by(ends[0], body) if ends else line.shape


def _made_by(line: Instruction, body: Computation) -> Shape:
  ends = [user for user in body.users[line.name] if user.opcode.endswith(('-done', '-update'))]
  return _made_by(ends[0], body) if line.opcode.endswith('-update') and ends else line.shape
