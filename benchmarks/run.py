"""All subjects in turn, within a time.

    python -m benchmarks.run --minutes=120 [--peers=.venv-parity/bin/python] [--to=FOLDER]

The same command again goes on where the time was over, or where it was interrupted: cases that are
there are not measured again. Flags are passed on to the subjects. Then `python -m benchmarks.tables
--results=FOLDER` writes the tables.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.contestants import environment
from benchmarks.harness import UNFINISHED, parser, say
from benchmarks.machine import ROOT

SUBJECTS = (
  'train_step',
  'inference',
  'one_core',
  'loader',
  'prediction',
  'multi_task',
  'startup',
  'save_stall',
  'evaluation',
  'training',
  'growth',
)


def main() -> None:
  made = parser(__doc__)
  made.add_argument('--only', default=','.join(SUBJECTS), help='subjects, with commas')
  args, start = made.parse_args(), time.monotonic()
  failed = []
  for subject in args.only.split(','):
    left = args.minutes - (time.monotonic() - start) / 60
    if args.minutes and left <= 0:
      break
    words = [f'--{k}={getattr(args, k)}' for k in ('cases', 'to', 'seconds', 'rounds', 'turn')]
    words += [f'--python={args.python}', f'--peers={args.peers}']
    words += [f'--minutes={left:.2f}'] if args.minutes else []
    words += [f'--{k}' for k in ('again', 'tiny') if getattr(args, k)]
    command = [sys.executable, '-m', f'benchmarks.{subject}', *words]
    code = subprocess.run(command, cwd=ROOT, env=environment({})).returncode
    if code == UNFINISHED:
      break
    failed += [subject] if code else []
  else:
    say('all subjects are done' if not failed else f'failed: {", ".join(failed)}')
    raise SystemExit(bool(failed))
  say(f'{args.minutes:g} minutes are over; the same command goes on')


if __name__ == '__main__':
  main()
