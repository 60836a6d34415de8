"""What a compiled training step sends between devices, counted in its program: no timing, so any
machine will do.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu python
    benchmarks/communication.py [--config=sang2017:A2]

Prints each kind of collective with its number and bytes, at two batch sizes, beside the bytes of
the parameters: what the gradients need is their size once; what does not grow with the batch is
batch norm's sums and the tally. docs/scaling.md reckons with these figures.
"""

from __future__ import annotations

import argparse
import collections
import math
import re

import jax

from benchmarks.ours import stand_ins
from mtface.config.files import load_config
from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.models import winograd
from mtface.models.network import make_network
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.tasks import get_task
from mtface.training.loop import jit_state_step
from mtface.training.optim import make_optimizer
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally

_BYTES = {
  'f32': 4,
  's32': 4,
  'u32': 4,
  'bf16': 2,
  'f16': 2,
  'pred': 1,
  's8': 1,
  'u8': 1,
  'f64': 8,
  's64': 8,
  'u64': 8,
}
COLLECTIVE = re.compile(
  r'= (\(?\w+\[.*?) '
  r'(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\('
)
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')


def collectives(program: str) -> dict[str, tuple[int, int]]:
  """{kind: (number of operations, bytes of their results)} in the text of a compiled program."""
  found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
  for shape, kind in COLLECTIVE.findall(program):
    found[kind][0] += 1
    found[kind][1] += sum(
      _BYTES[t] * math.prod(int(n) for n in dims.split(',') if n)
      for t, dims in _ARRAY.findall(shape)
    )
  return {kind: (count, size) for kind, (count, size) in found.items()}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default='sang2017:A2,gender=utkface')
  parser.add_argument('--batch_sizes', default='128,512')
  args = parser.parse_args()
  winograd.conv3x3 = (
    winograd.xla_conv3x3
  )  # what accelerators run; the CPU's fast convolutions send their gradients before a transform
  config, mesh = load_config(args.config), make_mesh()
  tasks = {name: get_task(name) for name in config.tasks}
  sources = stand_ins(config)
  network, params, stats = make_network(
    config.model, list(tasks.values()), config.image_shape, config.seed
  )
  optimizer = make_optimizer(config.optimizer, 1000)
  state = place(new_state(params, stats, optimizer), everywhere(mesh))
  weights = sum(leaf.size for leaf in jax.tree.leaves(params))
  print(f'{args.config}, {mesh.size} devices; parameters {weights:,} = {4 * weights:,} bytes\n')
  print('| batch | collective | operations | bytes | less the parameters |\n|---|---|---|---|---|')
  for batch_size in map(int, args.batch_sizes.split(',')):
    mixture = make_mixture(config.mixture, sources, seed=0, batch_size=batch_size)
    batch = next(to_devices(load_batches(BatchSource(sources, mixture, batch_size), 0, 1), mesh))
    step = jit_state_step(make_step(network, optimizer, tasks, config, {}), mesh, everywhere(mesh))
    program = (
      step.lower(state, place(new_tally(tasks), everywhere(mesh)), batch).compile().as_text()
    )
    for kind, (count, size) in collectives(program).items():
      print(f'| {batch_size} | {kind} | {count} | {size:,} | {size - 4 * weights:,} |', flush=True)


if __name__ == '__main__':
  main()
