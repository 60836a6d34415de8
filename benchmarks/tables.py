"""Tables of benchmarks, made from their results.

    python -m benchmarks.tables [--results=docs/logs/benchmarks] [--page=docs/benchmarks.md]

Writes the table of every subject between its markers in the page, `<!-- benchmark SUBJECT -->` and
`<!-- end -->`: whatever stood there goes, and where there is no result nothing is left. Draws
`growth.svg` where there is a result of it. With --check, only says whether the page is up to date.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import pages
from benchmarks.figures import middle, ratio
from benchmarks.machine import ROOT
from mtface.files import write_text

PAGE = ROOT / 'docs' / 'benchmarks.md'
PUBLISHED = ROOT / 'docs' / 'logs' / 'benchmarks'
FIGURE = ROOT / 'docs' / 'images' / 'growth.svg'
_NO_COLUMN = {'wall', 'cpu', 'steps', 'facts', 'versions', 'distance', 'images'}
_NO_COLUMN |= {'unavailable', 'differs'}
# name of a figure, fact or distance -> its column's; these come first, in this order
TITLES = {
  'ready_s': 's until ready',
  'peak_mb': 'memory, MB',
  'parameters': 'parameters',
  'without_norms': 'without norms',
  'trunk': 'trunk',
  'flops': 'FLOP of scoring an image',
  'loss': 'loss: distance',
  'gradients': 'gradients: distance',
  'scores': 'scores: distance',
  'accuracy': 'accuracy: distance',
}
_COMPARED = (
  'parameters',
  'without_norms',
  'flops',
)  # facts whose ratio to the first one's is shown

Row = Mapping[str, Any]


# --- Cells --------------------------------------------------------------------------------------


def digits(x: float) -> str:
  """Three significant digits, and all of a whole part."""
  if x == 0 or abs(x) >= 100:
    return f'{x:,.0f}'
  return f'{x:.{max(0, 2 - _exponent(x))}f}'


def _exponent(x: float) -> int:
  return int(f'{x:e}'.partition('e')[2])


def spread(values: tuple[float, float, float]) -> str:
  """The median, and the middle half in brackets."""
  median, low, high = values
  return f'{digits(median)} ({digits(low)}-{digits(high)})'


def _rates(count: int) -> Callable[[Sequence[float]], str]:
  return lambda seconds: spread(middle(count / x for x in seconds))


def _times(factor: float) -> Callable[[Sequence[float]], str]:
  return lambda seconds: spread(middle(factor * x for x in seconds))


# show -> (heading of a time, its cell for so many images a step)
SHOWN: dict[str, tuple[str, Callable[[int], Callable[[Sequence[float]], str]]]] = {
  'rate': ('images/s', _rates),
  'milliseconds': ('ms', lambda count: _times(1000)),
  'seconds': ('s', lambda count: _times(1)),
}


# --- Tables -------------------------------------------------------------------------------------


def table(result: Row) -> str:
  """A subject's Markdown: the machine and the command, its rows, and what could not be measured."""
  cases = result['cases']
  shows = list(dict.fromkeys(row['show'] for row in cases.values()))
  parts = [heading(result)]
  for show in shows:
    of = {name: row for name, row in cases.items() if row['show'] == show}
    parts.append(_growth(of) if show == 'growth' else _rows(show, of))
  parts += _left_out(cases)
  return '\n\n'.join(part for part in parts if part)


def heading(result: Row) -> str:
  """How it was measured."""
  cases, of = result['cases'].values(), result['machine']
  dates = sorted({row['date'][:10] for row in cases})
  commits = sorted({row['commit'] for row in cases})
  load = [row[key][0] for row in cases for key in ('load_before', 'load_after')]
  software: dict[str, set[str]] = {}
  for contestant in (x for row in cases for x in row['contestants'].values()):
    for name, version in contestant.get('versions', {}).items():
      software.setdefault(name, set()).add(version)
  versions = ', '.join(
    f'{name} {" and ".join(sorted(software[name]))}' for name in sorted(software)
  )
  when = ' to '.join(dates[:1] + dates[1:][-1:])
  lines = [
    f'`{result["command"]}`. {of["processor"]}, {of["cores"]} cores, {of["memory_gb"]} GB, '
    f'{of["system"]}; {versions or "no package"}; {when}, commit {", ".join(commits)}; '
    f'load average {digits(min(load))} to {digits(max(load))}{_stolen(cases)}.'
  ]
  if result.get('tiny'):
    lines.append('Tiny networks: these figures show that it works, and nothing else.')
  return ' '.join(lines)


def _stolen(cases: Iterable[Row]) -> str:
  shares = [100 * row['steal'] for row in cases if 'steal' in row]
  if not shares:
    return ''
  return f'; {min(shares):.1f} to {max(shares):.1f}% of the processors went to other machines'


def _rows(show: str, cases: Mapping[str, Row]) -> str:
  unit, cell = SHOWN[show]
  extra = _extra(cases)
  head = ['', 'program', f'{unit}, wall', f'{unit}, processor', 'rounds', 'ratio, wall']
  head += ['ratio, processor', *(TITLES.get(name, name) for name in extra)]
  lines = [head, ['---'] * len(head)]
  for name, row in cases.items():
    timed = {key: x for key, x in row['contestants'].items() if 'wall' in x}
    ours = next(iter(timed.values()), None)
    for contestant, of in timed.items():
      show_times = cell(of.get('facts', {}).get('images', row['count']))
      cells = [name if of is ours else '', contestant]
      cells += [show_times(of['wall']), show_times(of['cpu']), str(len(of['wall']))]
      cells += (
        ['1', '1'] if of is ours else [spread(ratio(ours[k], of[k])) for k in ('wall', 'cpu')]
      )
      lines.append([*cells, *(_fact(row, of, key, contestant) for key in extra)])
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _extra(cases: Mapping[str, Row]) -> list[str]:
  """Further columns: figures, facts, distances and notes that some contestant or case has."""
  found: dict[str, None] = {}
  for row in cases.values():
    for of in (x for x in row['contestants'].values() if 'wall' in x):
      names = [*of, *of.get('facts', {}), *of.get('distance', {})]
      found |= dict.fromkeys(name for name in names if name not in _NO_COLUMN)
    found |= dict.fromkeys(row['notes'])
  return [*(name for name in TITLES if name in found), *(x for x in found if x not in TITLES)]


def _fact(row: Row, of: Row, key: str, contestant: str) -> str:
  if key in _COMPARED and key in of.get('facts', {}):
    return _beside(of['facts'][key], next(iter(row['contestants'].values()))['facts'].get(key))
  for values in (of, of.get('facts', {})):
    if isinstance(values.get(key), list):
      return spread(middle(values[key]))
    if key in values:
      return digits(values[key]) if isinstance(values[key], float) else f'{values[key]:,}'
  if key in of.get('distance', {}):
    return f'{of["distance"][key]:.0e}'
  note = row['notes'].get(key, '')
  return str(note.get(contestant, '') if isinstance(note, Mapping) else note)


def _beside(value: float, first: float | None) -> str:
  """A number, and its ratio to the first contestant's where they differ."""
  number = f'{value:,.0f}'
  return number if not first or first == value else f'{number} ({value / first:.2f})'


def _left_out(cases: Mapping[str, Row]) -> list[str]:
  """Contestants without a time, and why."""
  lines = []
  for name, row in cases.items():
    for contestant, of in row['contestants'].items():
      if of.get('unavailable'):
        lines.append(f'- {name}: {contestant}: {of["unavailable"]}')
      elif of.get('differs'):
        lines.append(f'- {name}: {contestant} computes something else: {of.get("distance")}')
  return ['Not measured:\n\n' + '\n'.join(lines)] if lines else []


# --- Growth -------------------------------------------------------------------------------------


def points(row: Row) -> tuple[list[float], list[float]]:
  """(sizes, median seconds) of a case of `growth`, whose contestants are sizes."""
  of = {float(k): middle(x['wall'])[0] for k, x in row['contestants'].items() if 'wall' in x}
  return list(of), list(of.values())


def slope(x: Sequence[float], y: Sequence[float]) -> float:
  """Of the logarithms, by least squares: 1 is proportional, 0 constant."""
  import numpy as np

  return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _growth(cases: Mapping[str, Row]) -> str:
  lines = ['| seconds over | slope | |', '|---|---|---|']
  for name, row in cases.items():
    sizes, seconds = points(row)
    steep = f'{slope(sizes, seconds):.2f}' if len(sizes) > 1 else ''
    of = ', '.join(f'{size:g}: {digits(y)}' for size, y in zip(sizes, seconds, strict=True))
    lines.append(f'| {name} | {steep} | {of} |')
  return '\n'.join([*lines, '', f'![Seconds over sizes, with slopes](images/{FIGURE.name})'])


def draw(result: Row, path: pathlib.Path) -> None:
  """Seconds over sizes, both logarithmic, a line a case, with its slope."""
  import matplotlib

  matplotlib.use('svg')
  matplotlib.rcParams['svg.hashsalt'] = 'growth'  # the same drawing is the same file
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 4.5), layout='constrained')
  for marker, (name, row) in zip('osD^vP*X' * 4, result['cases'].items(), strict=False):
    sizes, seconds = points(row)
    if len(sizes) > 1:
      axes.loglog(sizes, seconds, f'{marker}-', label=f'{name}: {slope(sizes, seconds):.2f}')
  axes.set_xlabel('size')
  axes.set_ylabel('seconds')
  axes.grid(True, which='both', alpha=0.3)
  axes.legend(title='over: slope', fontsize='small')
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, metadata={'Date': None})
  pyplot.close(figure)


# --- The page -----------------------------------------------------------------------------------


def results(folder: pathlib.Path) -> dict[str, Row]:
  """{subject: result} of a folder."""
  return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob('*.json'))}


def filled(page: str, found: Mapping[str, Row]) -> str:
  """The page with the tables of these results between its markers."""
  return pages.filled(page, 'benchmark', lambda name: table(found[name]) if name in found else '')


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--results', type=pathlib.Path, default=PUBLISHED)
  parser.add_argument('--page', type=pathlib.Path, default=PAGE)
  parser.add_argument('--figure', type=pathlib.Path, default=FIGURE)
  parser.add_argument('--check', action='store_true')
  args = parser.parse_args()
  page, found = args.page.read_text(), results(args.results)
  wanted = filled(page, found)
  if args.check:
    raise SystemExit(0 if page == wanted else f'{args.page}: python -m benchmarks.tables')
  write_text(args.page, wanted)
  if 'growth' in found:
    draw(found['growth'], args.figure)
  print(f'{args.page}: {", ".join(found) or "no results"}')


if __name__ == '__main__':
  main()
