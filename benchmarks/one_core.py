"""What BKNet of fewer channels costs on one core, in batches of 32: for phones, and for services
that share a processor.

    python -m benchmarks.one_core [--peers=.venv-parity/bin/python]

Contestants as of `inference`, all of them on one core of those that there are. Accuracies of such
networks are in docs/ingredients.md.
"""

from __future__ import annotations

import os

from benchmarks.contestants import Program, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet, title

OURS, PEERS = 'benchmarks.ours:inference', 'benchmarks.peers.programs'
WIDTHS = (0.25, 0.375, 0.5, 1.0)  # of BKNet's channels


def cases(tiny: bool) -> list[Case]:
  found = []
  for width in (0.125, 0.25) if tiny else WIDTHS:
    of = {**bknet(4 if tiny else 32), 'width': width}
    contestants = [
      ours('mtface', OURS, of),
      Program('PyTorch, eager, channels_last', f'{PEERS}:inference', of, peer=True),
      Program('onnxruntime', f'{PEERS}:onnx', of, peer=True),
    ]
    name = f'{title(of)}, {width:g} of the channels'
    found.append(Case(name, contestants, count=of['batch']))
  return found


if __name__ == '__main__':
  if not hasattr(os, 'sched_setaffinity'):
    raise SystemExit('benchmarks.one_core: this system cannot keep a process on one core')
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
  main('one_core', __doc__, cases)
