"""Compares programs side by side: contestants take turns in one run, each in a process of its own.

A subject (`python -m benchmarks.train_step`) has cases, and a case has contestants, ours first.
Each is warmed up; then they take turns, A B C, B C A, ..., so that other work on the machine falls
on all of them. While one runs, the processes of the others are stopped (SIGSTOP), with their
threads and workers. A ratio is that of two contestants in the same round, and its spread is over
the rounds. What must be equal (losses, gradients, scores) is compared first, and a contestant that
computes something else is not timed.

Results are JSON, a file a subject, with every round; `benchmarks.tables` makes tables of them. A
case that is there already is not measured again, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

from benchmarks.child import versions
from benchmarks.contestants import Child, Command, Failed, Program, Whole, take_orphans
from benchmarks.figures import agrees, alternate, distances
from benchmarks.machine import ROOT, machine, moment, stolen
from mtface.files import write_json

RESULTS = ROOT / 'benchmarks' / 'results'
UNFINISHED = 75  # exit code of a subject whose time was over (sysexits.h: try again later)


@dataclasses.dataclass(frozen=True)
class Case:
  """Contestants that do the same.

  Attributes:
    name: of the case in tables.
    contestants: ours first: ratios are to it.
    count: images a step (or a process) handles.
    show: `rate` (images/s), `milliseconds` a step, or `seconds` a process.
    prepare: makes what the contestants need, in the case's folder; gets the Python of ours too.
    rounds: fewest rounds; 0: as the command line says.
    notes: what stands beside the figures, such as a paper's.
  """

  name: str
  contestants: Sequence[Program | Command]
  count: int = 1
  show: str = 'rate'
  prepare: Callable[[pathlib.Path, str], None] = lambda folder, python: None
  rounds: int = 0
  notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Own:
  """A case that takes its turns by itself, in this process.

  Attributes:
    name, show, notes: as of a `Case`.
    turns: {contestant: its turns, one a round}, in the order of the table.
  """

  name: str
  turns: Callable[[Options], dict[str, list[dict[str, float]]]]
  show: str = 'milliseconds'
  notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# --- Measuring ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options:
  """What the command line says, see `parser`."""

  python: str
  peers: str
  rounds: int
  seconds: float
  turn: float


def measure(case: Case | Own, options: Options) -> dict[str, Any]:
  """The row of a case: every contestant's turns, or why it has none."""
  since = psutil.cpu_times()
  row: dict[str, Any] = {**moment(), 'show': case.show, 'notes': dict(case.notes)}
  if isinstance(case, Own):
    turns = case.turns(options)
    row |= {'count': 1, 'contestants': {name: _figures(of) for name, of in turns.items()}}
    row['contestants'][next(iter(turns))]['versions'] = versions()
  else:
    row |= {'count': case.count, 'contestants': {}}
    _take_turns(case, options, row['contestants'])
  row['load_after'] = [round(x, 2) for x in os.getloadavg()]
  row['steal'] = round(stolen(since), 4)
  return row


def _figures(turns: Sequence[Mapping[str, float]]) -> dict[str, Any]:
  """{figure: its values, one a round}."""
  return {key: [turn[key] for turn in turns] for key in turns[0]}


def _take_turns(case: Case, options: Options, rows: dict[str, Any]) -> None:
  """Starts the contestants, compares them, and fills their rows."""
  with tempfile.TemporaryDirectory(prefix='mtface-benchmark-') as temporary:
    folder, runners = pathlib.Path(temporary), []
    case.prepare(folder, options.python)
    try:
      for contestant in case.contestants:
        say(f'  {contestant.name}: starts')
        try:
          runner = _started(contestant, folder, options)
        except Failed as error:
          _failed(contestant.name, error, rows, first=not rows)
          continue
        runners.append(runner)
        rows[runner.name] = runner.facts | {'unavailable': runner.unavailable}
      able = _agreeing([x for x in runners if not x.unavailable], folder, rows)
      turns = alternate(able, case.rounds or options.rounds, options.seconds)
      for runner in able:
        rows[runner.name] |= runner.facts | _figures(turns[runner.name]) | {'steps': runner.steps}
    finally:
      for runner in runners:
        runner.close()


def _started(
  contestant: Program | Command, folder: pathlib.Path, options: Options
) -> Child | Whole:
  python = options.peers if contestant.peer else options.python
  if isinstance(contestant, Program):
    return Child(contestant, python, folder, options.turn)
  return Whole(contestant, python, folder)


def _failed(name: str, error: Failed, rows: dict[str, Any], first: bool) -> None:
  """A peer that breaks has no figures, and its row says why; ours must not break."""
  if first:
    raise error
  say(f'  {error}')
  rows[name] = rows.get(name, {}) | {'unavailable': f'failed: {str(error).splitlines()[-1]}'}


def _agreeing(
  runners: Sequence[Child | Whole], folder: pathlib.Path, rows: dict[str, Any]
) -> list[Child | Whole]:
  """Those that compute what the first one does, warmed up."""
  able, expected = [], {}
  for runner in runners:
    try:
      runner.warm_up()
      found = runner.check(folder)
    except Failed as error:
      _failed(runner.name, error, rows, first=runner is runners[0])
      continue
    expected = expected or found
    distance = distances(expected, found)
    if runner is not runners[0]:
      rows[runner.name]['distance'] = distance
    if agrees(distance):
      able.append(runner)
    else:
      rows[runner.name]['differs'] = True
      say(f'  {runner.name}: computes something else, so it is not timed: {distance}')
  return able


def say(text: str) -> None:
  """Progress, for whoever waits."""
  print(text, file=sys.stderr, flush=True)


# --- The command line ---------------------------------------------------------------------------


def parser(doc: str | None) -> argparse.ArgumentParser:
  """The flags of every subject."""
  made = argparse.ArgumentParser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('--cases', default='', help='regular expression: only cases whose name has it')
  made.add_argument('--to', type=pathlib.Path, default=RESULTS, help='folder of the results')
  made.add_argument('--seconds', type=float, default=60, help='of turns, in each case')
  made.add_argument('--rounds', type=int, default=5, help='fewest rounds of a case')
  made.add_argument('--turn', type=float, default=1.0, help='seconds of a turn, about')
  made.add_argument('--minutes', type=float, default=0, help='no case begins after so many; 0: any')
  made.add_argument('--again', action='store_true', help='measures cases that are there already')
  made.add_argument('--tiny', action='store_true', help='small networks: to see that it works')
  made.add_argument('--python', default=sys.executable, help='that runs mtface')
  made.add_argument('--peers', default=sys.executable, help='that runs the others')
  return made


def main(subject: str, doc: str | None, cases: Callable[[bool], Sequence[Case | Own]]) -> None:
  """The command of a subject; `cases` gets whether they shall be tiny."""
  args = parser(doc).parse_args()
  take_orphans()
  options = Options(args.python, args.peers, args.rounds, args.seconds, args.turn)
  path, start = args.to / f'{subject}.json', time.monotonic()
  result = _begun(path, subject, args)
  for case in cases(args.tiny):
    if not re.search(args.cases, case.name) or (case.name in result['cases'] and not args.again):
      continue
    if args.minutes and time.monotonic() - start > 60 * args.minutes:
      say(f'{path}: {args.minutes:g} minutes are over; the same command goes on')
      raise SystemExit(UNFINISHED)
    say(f'{subject}: {case.name}')
    result['cases'][case.name] = measure(case, options)
    write_json(path, result)
  from benchmarks.tables import table

  print(f'{path}\n\n{table(result)}')


def _changed(args: argparse.Namespace) -> list[str]:
  """The flags that figures depend on, where they are not the defaults."""
  names, default = ('seconds', 'rounds', 'turn', 'tiny'), parser(None).parse_args([])
  changed = [name for name in names if getattr(args, name) != getattr(default, name)]
  return ['--tiny' if name == 'tiny' else f'--{name}={getattr(args, name):g}' for name in changed]


def _begun(path: pathlib.Path, subject: str, args: argparse.Namespace) -> dict[str, Any]:
  """What was measured here already, or a result without cases."""
  about = {
    'subject': subject,
    'command': ' '.join(['python -m', f'benchmarks.{subject}', *_changed(args)]),
    'machine': machine(),
    'tiny': args.tiny,
  }
  if not path.exists():
    return {**about, 'cases': {}}
  found = json.loads(path.read_text())
  for key in ('machine', 'tiny'):
    if found[key] != about[key]:
      raise SystemExit(
        f'{path}: measured with {key} {found[key]}, this is {about[key]}: take another --to'
      )
  return found
