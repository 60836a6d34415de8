"""Two papers' tables of speed: Rohani 2023's Table 3, Savchenko 2021's Table 3.

    python -m benchmarks.prediction [--peers=.venv-parity/bin/python] [--cases=Rohani]
    taskset -c 0 python -m benchmarks.prediction --cases=Savchenko    # on one core, as a latency is

Rohani: A (BKNet, smile), B (three tasks) and C (B with the join), in batches of 1 and 128; ratios
are to A, beside the paper's. Its seconds are of one batch of 128 on an unnamed machine (its fps are
128 / time). Savchenko: an image at a time; BKNet, and the paper's three networks at 224 pixels; its
times are for a laptop's CPU. Peers: PyTorch and onnxruntime with the same weights, whose scores are
compared before. `without_norms` are parameters as Rohani counts them, `trunk` those without a
classifier, as Savchenko does.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contestants import Program, ours
from benchmarks.harness import Case, main
from benchmarks.networks import bknet, spec

OURS, PEERS = 'benchmarks.ours:inference', 'benchmarks.peers.programs'
# Rohani 2023, Table 3: parameters, seconds a batch of 128.
ROHANI = {'A': (2418146, 6.23), 'B': (3731946, 9.62), 'C': (3953130, 10.19)}
REXNET_150 = 1.5  # times the channels of RexNet-100
# Savchenko 2021, Table 3: ms an image, parameters in millions.
SAVCHENKO = {
  'bknet': ('BKNet', (48, 48, 1), None),
  'mobilenet': ('MobileNet', (224, 224, 3), (40.6, 3.2)),
  'efficientnet': ('EfficientNet-B0', (224, 224, 3), (54.8, 4.3)),
  'rexnet': ('RexNet-150', (224, 224, 3), (104.0, 8.3)),
}


def rohani(batch: int, tiny: bool) -> Case:
  tasks = {'A': ('smile',), 'B': ('smile', 'age_group', 'gender')}
  networks = {}
  for letter in ROHANI:
    name = f'{{case}}/{letter}.safetensors'
    networks[letter] = bknet(batch, tiny, tasks=tasks.get(letter, tasks['B']), weights=name)
  networks['C']['join'] = True
  notes = {
    'paper: parameters': {letter: f'{count:,}' for letter, (count, _) in ROHANI.items()},
    'paper: s a batch of 128': {letter: str(seconds) for letter, (_, seconds) in ROHANI.items()},
    'paper: ratio': {k: f'{seconds / ROHANI["A"][1]:.2f}' for k, (_, seconds) in ROHANI.items()},
  }
  contestants = [ours(letter, f'{OURS}_alone', of) for letter, of in networks.items()]
  name = f'Rohani 2023, Table 3, batch {networks["A"]["batch"]}'
  return Case(name, contestants, networks['A']['batch'], 'milliseconds', notes=notes)


def savchenko(network: str, tiny: bool) -> Case:
  words, image, paper = SAVCHENKO[network]
  image = (32, 32, 3) if tiny and paper else image
  of: dict[str, Any] = spec(network, image, 1, ['emotion8'], tiny=tiny)
  if network in ('mobilenet', 'rexnet'):
    of['format'] = 'torch'
  if network == 'rexnet':
    of['width'] = REXNET_150
  contestants = [
    ours('mtface', OURS, of),
    Program('PyTorch, eager, channels_last', f'{PEERS}:inference', of, peer=True),
    Program('onnxruntime', f'{PEERS}:onnx', of, peer=True),
  ]
  notes = {'paper: ms': str(paper[0]), 'paper: M': str(paper[1])} if paper else {}
  name = f'Savchenko 2021, Table 3: {words} {"x".join(map(str, of["image"]))}'
  return Case(name, contestants, 1, 'milliseconds', notes=notes)


def cases(tiny: bool) -> list[Case]:
  networks = ['bknet', 'efficientnet'] if tiny else list(SAVCHENKO)
  return [*(rohani(batch, tiny) for batch in (1, 128)), *(savchenko(n, tiny) for n in networks)]


if __name__ == '__main__':
  main('prediction', __doc__, cases)
