"""One step of training, beside PyTorch's and a plain Flax loop's: forward, backward, optimiser, on
one batch in memory.

    python -m benchmarks.train_step [--peers=.venv-parity/bin/python] [--cases=BKNet]

BKNet with three tasks (Sang 2017; each sample labelled for one), and EfficientNet-B0 with a linear
layer for each of the three. Contestants: mtface; the same with all
cores as one device (mtface/parallel/cores.py); PyTorch, eager, channels last; `torch.compile`;
and mtface's own step made of XLA's own operators alone, which is what a plain loop with Flax is.
Same weights, same masked losses, SGD with momentum, weight decay as in the config; no augmentation.
Loss and gradients are compared before (`figures.TOLERANCE`), without dropout.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contestants import Program, as_commands, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet, efficientnet, title

OURS, PEERS = 'benchmarks.ours:training', 'benchmarks.peers.programs:training'


def contestants(of: dict[str, Any]) -> list[Program]:
  together = as_commands(of['batch'], of['image']) | {'XLA_FLAGS': ''}  # which is unset
  return [
    ours('mtface', OURS, of),
    Program('mtface, all cores as one device', OURS, of, env=together),
    Program('PyTorch, eager, channels_last', PEERS, of, peer=True),
    Program('PyTorch, torch.compile', PEERS, {**of, 'compiled': True}, peer=True),
    Program("Flax, XLA's own operators", OURS, {**of, 'plain': True}),
  ]


def cases(tiny: bool) -> list[Case]:
  of = (
    [bknet(128, tiny), efficientnet(64, 32, tiny), efficientnet(224, 16, tiny)]
    if not tiny
    else [bknet(4, tiny), efficientnet(32, 2, tiny)]
  )
  return [Case(title(x), contestants(x), count=x['batch']) for x in of]


if __name__ == '__main__':
  main('train_step', __doc__, cases)
