"""Records of compiled programs as text: a table with a column for each target, and what takes most
in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mtface.compiled.roofline import ASSUMPTIONS
from mtface.compiled.targets import CARDS, EVALUATE, TRAIN

Record = dict[str, Any]
_MOST = 6  # of the largest buffers and kernels
_NOTHING = '-'
_PROGRAMS = {TRAIN: 'training step', EVALUATE: "evaluation, a batch's scores"}


def report(records: Sequence[Record]) -> str:
  """All of it: see the module."""
  first = records[0]
  stage = '' if first['stage'] == 'main' else f', stage {first["stage"]}'
  fsdp = f', mesh.fsdp={first["fsdp"]}' if first['fsdp'] > 1 else ''
  title = f'{first["config"]}{stage}: {_PROGRAMS[first["program"]]}, {first["dtype"]}{fsdp}'
  parts = [title, table(records), *(text for record in records if (text := details(record)))]
  return '\n\n'.join([*parts, *_assumptions(records)])


def table(records: Sequence[Record]) -> str:
  """A row a figure, a column a target; figures are of one device."""
  names = [record['target'] for record in records]
  rows = [['', *names]]
  for label, value in _rows(records):
    cells = [_NOTHING if 'refused' in r and label not in _ALWAYS else value(r) for r in records]
    if any(cell != _NOTHING for cell in cells):
      rows.append([label, *cells])
  widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) if n == 0 else cell.rjust(width)
      for n, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  )


_ALWAYS = ('devices', 'images a device', 'MFLOP an image', 'memory')


def _rows(records: Sequence[Record]) -> list[tuple[str, Callable[[Record], str]]]:
  return [
    ('devices', lambda r: f'{r["devices"]:,}'),
    ('images a device', lambda r: f'{r["images"]:,}'),
    ('memory', _fits),
    *((f'  {part}', _memory_of(part)) for part in ('arguments', 'temporary', 'outputs', 'program')),
    ('MFLOP an image', lambda r: f'{r["flops_image"] / 1e6:,.1f}'),
    ('traffic an image', lambda r: _size(r['bytes_image'])),
    *((f'  {kind}', _traffic_of(kind)) for kind in _kinds(records)),
    ('kernels', lambda r: f'{sum(x["number"] for x in r["kernels"].values()):,}'),
    *((f'  {kind}', _number_of('kernels', kind)) for kind in _kinds(records)),
    *((f'  with a {part}', _part(part)) for part in ('scatter', 'sort', 'transpose', 'gather')),
    *(row for kind in _collectives(records) for row in _collective_rows(kind)),
    ('  that products wait for', lambda r: f'{r["waiting"]:,}' if r['collectives'] else _NOTHING),
    ('roofline, images/s a device', lambda r: _rate(r, 'images_per_second')),
    ('  by memory', lambda r: _rate(r, 'memory_seconds')),
    ('  by FLOPs', lambda r: _rate(r, 'compute_seconds')),
    ('efficiency, nothing overlaps', lambda r: _efficiency(r, 'alone')),
    ('efficiency, overlapped', lambda r: _efficiency(r, 'overlapped')),
    ('seconds to compile', lambda r: f'{r["compile_seconds"]:,.0f}'),
  ]


def _fits(record: Record) -> str:
  if 'refused' in record:
    return 'does not fit'
  memory = record['memory']
  of = f' of {_size(memory["card"])}' if memory['card'] else ''
  return _size(memory['total']) + of + (': does not fit' if memory['fits'] is False else '')


def _memory_of(part: str) -> Callable[[Record], str]:
  return lambda record: _size(record['memory'][part]) if record['memory'][part] else _NOTHING


def _kinds(records: Sequence[Record]) -> list[str]:
  """Kinds of kernels that are worth a row: at least a hundredth of some program's traffic."""
  found: dict[str, None] = {}
  for record in records:
    whole = record.get('bytes_image', 0) * record['images']
    kinds = record.get('kernels', {}).items()
    found |= {kind: None for kind, of in kinds if of['bytes'] > whole / 100}
  return list(found)


def _traffic_of(kind: str) -> Callable[[Record], str]:
  def value(record: Record) -> str:
    found = record['kernels'].get(kind)
    return _size(found['bytes'] / record['images']) if found else _NOTHING

  return value


def _number_of(group: str, kind: str) -> Callable[[Record], str]:
  return lambda record: f'{record[group][kind]["number"]:,}' if kind in record[group] else _NOTHING


def _part(part: str) -> Callable[[Record], str]:
  parts = ('scatter', 'select-and-scatter') if part == 'scatter' else (part,)
  return lambda record: f'{sum(record["parts"][name] for name in parts):,}'


def _collectives(records: Sequence[Record]) -> list[str]:
  return list(dict.fromkeys(kind for record in records for kind in record.get('collectives', ())))


def _collective_rows(kind: str) -> list[tuple[str, Callable[[Record], str]]]:
  def sent(record: Record) -> str:
    found = record['collectives'].get(kind)
    return _size(found['bytes']) if found else _NOTHING

  return [(kind, _number_of('collectives', kind)), ('  sent a step', sent)]


def _rate(record: Record, name: str) -> str:
  found = record['roofline'][name]
  if not found:
    return _NOTHING
  return f'{found if name == "images_per_second" else record["images"] / found:,.0f}'


def _efficiency(record: Record, name: str) -> str:
  own = [found for found in record['efficiency'] if found['devices'] == record['devices']]
  return f'{own[0][name]:.1%}' if own and record['devices'] > 1 else _NOTHING


def _size(count: float) -> str:
  for unit, power in (('GiB', 30), ('MiB', 20), ('KiB', 10)):
    if count >= 2**power:
      return f'{count / 2**power:,.2f} {unit}'
  return f'{count:,.0f} B'


def details(record: Record) -> str:
  """What takes most in one program, and its efficiency on other numbers of devices."""
  if 'refused' in record:
    return f'{record["target"]}: {record["refused"]}'
  images = record['images']
  lines = [f'{record["target"]}: in memory when most is, beside the arguments']
  lines += [_line(x['bytes'], x) for x in record['largest'][:_MOST]]
  lines += ['most traffic, an image']
  lines += [_line(x['times'] * x['bytes'] / images, x) for x in record['most_traffic'][:_MOST]]
  if scatters := record['scatters']:
    lines += ['scatters, traffic an image']
    lines += [_line(x['times'] * x['bytes'] / images, x) for x in scatters[:_MOST]]
  others = [x for x in record['efficiency'] if x['devices'] > 1]
  if len(others) > 1:
    lines += ['efficiency on so many devices, if their programs are alike: alone, overlapped']
    lines += [f'  {x["devices"]:>10,}  {x["alone"]:.1%}  {x["overlapped"]:.1%}' for x in others]
  if record['unknown_loops']:
    lines += [f'{record["unknown_loops"]} loops of unknown length count once']
  return '\n'.join(lines)


def _line(count: float, of: Record) -> str:
  where = ', '.join(filter(None, (of['operation'], of['source'])))
  return f'  {_size(count):>10}  {of.get("kind", "")} {of["result"]}  {where}'.replace('   ', '  ')


def _assumptions(records: Sequence[Record]) -> list[str]:
  cards = {record['card']['name']: record['card']['source'] for record in records}
  lines = [f'{name}: {source}' for name, source in cards.items() if source]
  platforms = dict.fromkeys(CARDS[name].platform for name in cards if CARDS[name].bandwidth)
  if platforms:
    lines += [
      'efficiency: of the roofline, which is memory or FLOPs on paper; overlapped: collectives '
      'that no product waits for run beside two thirds of a training step'
    ]
  lines += [f'collectives: {ASSUMPTIONS[platform]}' for platform in platforms]
  notes = dict.fromkeys(note for record in records for note in record['notes'])
  return ['\n'.join([*lines, *notes])] if lines or notes else []
