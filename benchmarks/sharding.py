"""The memory of VGG-16's training step on several devices, whole on each and sharded (`mesh.fsdp`),
as the compiler counts it: nothing is computed, so any machine will do.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu nice python -m
    benchmarks.sharding [--size=224] [--width=1.0] [--batch_size=8] [--steps=0]

For fsdp = 1 and the number of devices: what the state takes of each device (parameters and
momentum), as reckoned from shapes and as the program has it; the program's memory of its own
(gradients, activations, gathered parameters); and, with --steps, the loss of so many steps on
random pixels, which must not depend on the sharding. Prints JSON, a line each.
"""

from __future__ import annotations

import argparse
import functools
import json
import math

import jax
import numpy as np

from mtface.config.schema import experiment, model, source, task
from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.data.sources import Source
from mtface.models import layers, winograd
from mtface.models.network import abstract_network, make_network
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place, shared, state_shardings
from mtface.tasks import get_task
from mtface.training.loop import jit_state_step
from mtface.training.optim import make_optimizer
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally

TASKS = {'gender': get_task('gender')}
_FACES = 16


def get_config(size: int, width: float, batch_size: int, shard_from: int):
  """Zhang 2016's network and optimiser; without dropout, so that losses can be compared."""
  config = experiment()
  config.tasks.gender = task()
  config.sources.faces = source('faces', 'gender')
  config.image_shape, config.batch_size = (size, size, 3), batch_size
  config.model = model('vgg', width=width, dropout=0.0)
  config.optimizer.rate, config.mesh.shard_from = 1e-3, shard_from
  return config


def stand_in(config) -> Source:
  """Random pixels and labels."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (_FACES, *config.image_shape), dtype=np.uint8)
  labels = {'gender': rng.integers(0, 2, _FACES).astype(np.int32)}
  rows = np.arange(_FACES)
  return Source('faces', images, rows, rows.astype(str), labels, {'gender': np.ones(_FACES, bool)})


class Step:
  """A training step on a mesh, with the shapes of all that it takes."""

  def __init__(self, config, fsdp: int):
    self.config, self.mesh = config, make_mesh(fsdp)
    self.optimizer = make_optimizer(config.optimizer, 1000)
    network, params, stats = abstract_network(
      config.model, list(TASKS.values()), config.image_shape
    )
    self.state = jax.eval_shape(
      functools.partial(new_state, optimizer=self.optimizer), params, stats
    )
    self.shardings = state_shardings(self.state, self.mesh, config.mesh.shard_from)
    step = make_step(network, self.optimizer, TASKS, config, {})
    self.function = jit_state_step(step, self.mesh, self.shardings)

  def batches(self, steps: int):
    """The batches of some steps, on the devices."""
    sources = [stand_in(self.config)]
    size = self.config.batch_size
    mixture = make_mixture(self.config.mixture, sources, seed=0, batch_size=size)
    return to_devices(load_batches(BatchSource(sources, mixture, size), 0, steps), self.mesh)

  def state_bytes(self) -> int:
    """What the state takes of a device, from its shapes."""

    def of(x, sharding):
      return math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(of, self.state, self.shardings)))

  def memory(self) -> dict[str, int]:
    """The same and more of the compiled program, bytes of one device."""
    with_sharding = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    state = jax.tree.map(with_sharding, self.state, self.shardings)
    tally = jax.tree.map(lambda x: with_sharding(x, everywhere(self.mesh)), new_tally(TASKS))
    batch = jax.tree.map(lambda x: with_sharding(x, shared(self.mesh)), next(self.batches(1)))
    found = self.function.lower(state, tally, batch).compile().memory_analysis()
    return {'arguments': found.argument_size_in_bytes, 'temporary': found.temp_size_in_bytes}

  def losses(self, steps: int) -> list[float]:
    """The loss of each of some steps."""
    _, params, stats = make_network(
      self.config.model, list(TASKS.values()), self.config.image_shape, seed=0
    )
    state = place(new_state(params, stats, self.optimizer), self.shardings)
    found = []
    for batch in self.batches(steps):
      tally = place(new_tally(TASKS), everywhere(self.mesh))
      state, tally = self.function(state, tally, batch)
      found.append(float(tally.loss))
    return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--size', type=int, default=224)
  parser.add_argument('--width', type=float, default=1.0)
  parser.add_argument('--batch_size', type=int, default=8)
  parser.add_argument('--shard_from', type=int, default=experiment().mesh.shard_from)
  parser.add_argument('--steps', type=int, default=0)
  args = parser.parse_args()
  layers._conv3x3 = winograd.xla_conv3x3  # what accelerators run
  for fsdp in (1, jax.device_count()):
    step = Step(get_config(args.size, args.width, args.batch_size, args.shard_from), fsdp)
    row = {'fsdp': fsdp, 'devices': jax.device_count(), 'state': step.state_bytes()}
    print(json.dumps(row | step.memory() | {'losses': step.losses(args.steps)}), flush=True)


if __name__ == '__main__':
  main()
