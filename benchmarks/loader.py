"""Batches from uint8 pixels in memory, beside PyTorch's DataLoader and grain, and beside the step.

    python -m benchmarks.loader [--peers=.venv-parity/bin/python] [--cases=1024]

Random pixels in the sizes of GENKI-4K, FER-2013 and UTKFace, mixed so that each task has equally
many samples, in batches of 128 and 1,024. Contestants: mtface's loader, up to the devices, which
are the two cores; only up to the host's memory, where those of the others are; the numbers of the
samples alone, for images that lie on the devices; the train step of BKNet with three tasks on such
a batch (its ratio is that of the loader to the step); PyTorch's DataLoader with a
WeightedRandomSampler, in its own process and with two workers; grain, a record at a time.
"""

from __future__ import annotations

from benchmarks.contestants import Program, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet

PEERS = 'benchmarks.peers.loaders'


def contestants(batch: int, tiny: bool) -> list[Program]:
  of = {'batch': batch, 'tiny': tiny}
  return [
    ours('mtface', 'benchmarks.ours:loading', of),
    ours('mtface, in host memory', 'benchmarks.ours:loading', {**of, 'up_to': 'host'}),
    ours('mtface, store=device', 'benchmarks.ours:loading', {**of, 'up_to': 'drawn'}),
    ours('the train step', 'benchmarks.ours:training_alone', bknet(batch, tiny)),
    Program('DataLoader', f'{PEERS}:torch', {**of, 'workers': 0}, peer=True),
    Program('DataLoader, 2 workers', f'{PEERS}:torch', {**of, 'workers': 2}, peer=True),
    Program('grain, by record', f'{PEERS}:grain', of),
  ]


def cases(tiny: bool) -> list[Case]:
  batches = (4,) if tiny else (128, 1024)
  return [Case(f'batches of {n:,}', contestants(n, tiny), count=n) for n in batches]


if __name__ == '__main__':
  main('loader', __doc__, cases)
