"""Scores of images in memory, beside PyTorch's and onnxruntime's.

    python -m benchmarks.inference [--peers=.venv-parity/bin/python] [--cases='batch 1$']

BKNet with three tasks, and EfficientNet-B0, in batches of 1, 32 and 128. Contestants: mtface as
`predict` and `evaluate` run networks; PyTorch, eager, channels last, in inference mode;
`torch.compile`; onnxruntime with the same network as ONNX. Same weights; scores are compared
before.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contestants import Program, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet, efficientnet, title

OURS, PEERS = 'benchmarks.ours:inference', 'benchmarks.peers.programs'


def contestants(of: dict[str, Any]) -> list[Program]:
  return [
    ours('mtface', OURS, of),
    Program('PyTorch, eager, channels_last', f'{PEERS}:inference', of, peer=True),
    Program('PyTorch, torch.compile', f'{PEERS}:inference', {**of, 'compiled': True}, peer=True),
    Program('onnxruntime', f'{PEERS}:onnx', of, peer=True),
  ]


def cases(tiny: bool) -> list[Case]:
  batches = (1, 4) if tiny else (1, 32, 128)
  of = [bknet(batch, tiny) for batch in batches]
  for size in (32,) if tiny else (64, 224):
    of += [efficientnet(size, batch, tiny) for batch in batches]
  return [Case(title(x), contestants(x), count=x['batch']) for x in of]


if __name__ == '__main__':
  main('inference', __doc__, cases)
