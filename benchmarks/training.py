"""Whole trainings beside a PyTorch script of the kind that people write: loader, augmentation,
step, metrics, checkpoints.

    python -m benchmarks.training [--peers=.venv-parity/bin/python] [--rounds=3]

`mtface train` of Sang 2017's config (BKNet, three tasks, batches of 128, checkpoints every 50
steps) on random pixels in the sizes of GENKI-4K, FER-2013 and UTKFace, 100 and 300 steps; and
`benchmarks/peers/script.py`. Seconds are of whole processes, from their start to their end, with
imports and compilation; the two lengths tell these from the steps.
"""

from __future__ import annotations

from benchmarks.contestants import Command
from benchmarks.harness import Case, main
from benchmarks.runs import DATA, config_flags, sets, width


def contestants(steps: int, every: int, batch: int, tiny: bool) -> list[Command]:
  ours = config_flags(tiny, steps, every, batch)
  script = ['-m', 'benchmarks.peers.script', 'train', f'--data={DATA}/peer.npz', '--to={fresh}']
  script += [f'--{k}={v}' for k, v in {'steps': steps, 'batch': batch, 'save_every': every}.items()]
  return [
    Command(
      'mtface train',
      ['-m', 'mtface', 'train', *ours, f'--data_dir={DATA}', '--workdir={fresh}/run'],
    ),
    Command('PyTorch script', [*script, f'--width={width(tiny)}'], peer=True),
  ]


def cases(tiny: bool) -> list[Case]:
  lengths, every, batch = ((4,), 2, 8) if tiny else ((100, 300), 50, 128)
  return [
    Case(
      f'{steps:,} steps of {batch}',
      contestants(steps, every, batch, tiny),
      count=steps * batch,
      show='seconds',
      prepare=sets(tiny),
      rounds=2,
    )
    for steps in lengths
  ]


if __name__ == '__main__':
  main('training', __doc__, cases)
