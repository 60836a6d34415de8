"""How cost grows: seconds of a training step over batch size, image size, number of tasks and
number of sources; seconds of `mtface evaluate` over the number of checkpoints.

    python -m benchmarks.growth [--cases=batch]
    python -m benchmarks.tables --results=benchmarks/results --page=PAGE    # draws it too

BKNet; where nothing else is said, three tasks at 48x48x1 in batches of 64. The sizes of one case
take turns. A slope is that of the logarithms: 1 where the time is proportional to the size, 0 where
it does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.contestants import Command, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet, spec
from benchmarks.pixels import TASKS
from benchmarks.runs import evaluate_words, trained

STEP = 'benchmarks.ours:training_alone'
BATCH, DEVICES_FOR = 64, 128  # all sizes have the devices that batches of 128 have


def steps(name: str, sizes: Iterable[tuple[int, dict[str, Any]]], target: str = STEP) -> Case:
  contestants = [
    ours(str(size), target, {**of, 'weights': f'{{case}}/{size}.safetensors'}, DEVICES_FOR)
    for size, of in sizes
  ]
  return Case(name, contestants, show='growth')


def cases(tiny: bool) -> list[Case]:
  batch = 4 if tiny else BATCH
  batches, sides = (
    ((2, 4), (16, 32)) if tiny else ((16, 32, 64, 128, 256, 512), (32, 48, 64, 96, 128))
  )
  # each of the three tasks has a source
  numbers, many = ((1, 2), (3, 4)) if tiny else ((1, 2, 4, 8), (3, 6, 12, 24))
  names = list(TASKS)
  of_tasks = [(n, bknet(batch, tiny, tasks=names[:n])) for n in numbers]
  of_sources = [(n, bknet(batch, tiny, sources=n)) for n in many]
  evaluations = [Command(str(n), evaluate_words(f'ensemble:{n}')) for n in numbers]
  return [
    steps('batch size', [(n, {**bknet(n, tiny), 'batch': n}) for n in batches]),
    steps('image side', [(n, spec('bknet', (n, n, 1), batch, tiny=tiny)) for n in sides]),
    steps('number of tasks', of_tasks),
    steps('number of sources', of_sources, 'benchmarks.ours:loaded_training'),
    Case(
      'number of checkpoints',
      evaluations,
      show='growth',
      prepare=trained(tiny, checkpoints=numbers[-1]),
      rounds=2,
    ),
  ]


if __name__ == '__main__':
  main('growth', __doc__, cases)
