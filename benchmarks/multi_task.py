"""What a network of three tasks costs beside one of one task, and beside three networks.

    python -m benchmarks.multi_task [--cases=training]

BKNet at 48x48x1, batches of 128: emotion alone; emotion, smile and gender in one network; and a
network for each of the three, one after the other. Ratios are to the network of one task: time,
parameters, and FLOP of scoring an image (as XLA counts its own operators). Rohani 2023, Table 3,
gives 1.54 times the time for 1.54 times the parameters of two more tasks, and 1.64 and 1.63 with
its join.
"""

from __future__ import annotations

from benchmarks.contestants import Program, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet

ONE, ALONE = 'one task', '{case}/one.safetensors'


def contestants(kind: str, tiny: bool) -> list[Program]:
  target, three = f'benchmarks.ours:{kind}_alone', bknet(128, tiny)
  one = {**three, 'tasks': ['emotion7'], 'weights': ALONE}
  many = {**three, 'weights': '{case}/each.safetensors'}
  return [
    ours(ONE, target, one),
    ours('three tasks, one network', target, three),
    ours('three tasks, three networks', f'benchmarks.ours:{kind}_in_turn', many),
  ]


def cases(tiny: bool) -> list[Case]:
  return [
    Case(
      f'{kind}, batch {bknet(128, tiny)["batch"]}',
      contestants(kind, tiny),
      bknet(128, tiny)['batch'],
      'milliseconds',
    )
    for kind in ('training', 'inference')
  ]


if __name__ == '__main__':
  main('multi_task', __doc__, cases)
