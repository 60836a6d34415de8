"""Evaluation of a checkpoint beside a loop in PyTorch.

    python -m benchmarks.evaluation [--peers=.venv-parity/bin/python] [--rounds=3]

`mtface evaluate` of a BKNet with three tasks on sets of 3,589 faces (as FER-2013's test) and eight
times as many, random pixels; and `benchmarks/peers/script.py` with the same weights. Seconds are of
whole processes; the two sizes tell their start from the images. Accuracies are compared before.
"""

from __future__ import annotations

from benchmarks.contestants import Command
from benchmarks.harness import Case, main
from benchmarks.runs import DATA, WEIGHTS, accuracies, evaluate_words, figures, trained, width


def contestants(tiny: bool) -> list[Command]:
  script = ['-m', 'benchmarks.peers.script', 'evaluate', f'--data={DATA}/peer.npz', '--to={fresh}']
  script += [f'--weights={WEIGHTS}', f'--width={width(tiny)}']
  return [
    Command('mtface evaluate', evaluate_words(), read=accuracies),
    Command('PyTorch script', script, read=figures, peer=True),
  ]


def cases(tiny: bool) -> list[Case]:
  return [
    Case(
      f'{size:,} faces',
      contestants(tiny),
      count=size,
      show='seconds',
      prepare=trained(tiny, size),
      rounds=3,
    )
    for size in ((40,) if tiny else (3589, 8 * 3589))
  ]


if __name__ == '__main__':
  main('evaluation', __doc__, cases)
