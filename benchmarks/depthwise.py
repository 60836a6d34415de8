"""Depthwise convolutions on a CPU: XLA's operator against ours (mtface/models/depthwise.py), layer
by layer and in a whole network.

    python benchmarks/depthwise.py [--network=efficientnet] [--size=64] [--batch=16] [--runs=5]

CPU time of the process, the least of the runs: other work on the machine lengthens it little.
Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from mtface.config.schema import model
from mtface.models import convolution, depthwise
from mtface.models.network import abstract_network
from mtface.tasks import get_task

# Batch, size, channels, kernel, stride: layers of EfficientNet-B0 at 224x224, and of MobileNet's
# first.
LAYERS = (
  (4, 112, 32, 3, 1),
  (4, 112, 96, 3, 2),
  (4, 56, 144, 5, 2),
  (4, 28, 240, 5, 1),
  (4, 14, 672, 5, 1),
)
KINDS = {'XLA': depthwise.xla_depthwise_conv, 'ours': depthwise.depthwise_conv}


def cpu_ms(function, *arguments, runs: int) -> tuple[float, float]:
  """(least CPU milliseconds of a run, seconds of compilation)."""
  start = time.perf_counter()
  compiled = jax.jit(function).lower(*arguments).compile()
  seconds, times = time.perf_counter() - start, []
  for _ in range(runs + 1):
    begin = time.process_time()
    jax.block_until_ready(compiled(*arguments))
    times.append(1000 * (time.process_time() - begin))
  return min(times[1:]), seconds


def layer_row(layer: tuple[int, ...], runs: int) -> str:
  batch, size, channels, k, stride = layer
  rng = np.random.default_rng(0)
  x = rng.normal(size=(batch, size, size, channels)).astype(np.float32)
  kernel = rng.normal(size=(k, k, 1, channels)).astype(np.float32)
  cells = []
  for convolve in KINDS.values():

    def gradients(x, kernel, convolve=convolve):
      return jax.grad(lambda x, kernel: jnp.sum(convolve(x, kernel, stride) ** 2), (0, 1))(
        x, kernel
      )

    forward = cpu_ms(
      lambda x, kernel, convolve=convolve: convolve(x, kernel, stride), x, kernel, runs=runs
    )[0]
    cells += [f'{forward:.1f}', f'{cpu_ms(gradients, x, kernel, runs=runs)[0]:.1f}']
  return f'| {batch}x{size}x{size}x{channels}, {k}x{k}, stride {stride} | {" | ".join(cells)} |'


def network_row(name: str, size: int, batch: int, runs: int, kind: str) -> str:
  """Forward in evaluation, and forward with backward in training, of a whole network."""
  network, params, stats = abstract_network(model(name), [get_task('emotion8')], (size, size, 3))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.normal(0, 0.05, x.shape).astype(np.float32), params)
  stats = jax.tree.map(lambda x: np.ones(x.shape, np.float32), stats)
  params, stats = jax.device_put((params, stats))
  x = rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)

  def loss(params, x):
    scores, new = network.train_scores(params, stats, x, jax.random.key(0))
    return jnp.sum(scores['emotion8'] ** 2), new

  with mock.patch.object(convolution, 'depthwise_conv', KINDS[kind]):
    forward, _ = cpu_ms(network.scores, params, stats, x, runs=runs)
    step, seconds = cpu_ms(jax.grad(loss, has_aux=True), params, x, runs=runs)
  return (
    f'| {name}, {batch}x{size}x{size}, {kind} | {forward / batch:.1f} | {step / batch:.1f} | '
    f'{seconds:.0f} |'
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--network', default='efficientnet')
  parser.add_argument('--size', type=int, default=64)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--runs', type=int, default=5)
  args = parser.parse_args()
  print(
    '| layer | XLA forward, CPU ms | XLA gradients | ours forward | ours gradients '
    '|\n|---|---|---|---|---|'
  )
  for layer in LAYERS:
    print(layer_row(layer, args.runs), flush=True)
  print(
    '\n| network | forward, CPU ms an image | forward and backward | compile s |\n|---|---|---|---|'
  )
  for kind in KINDS:
    print(network_row(args.network, args.size, args.batch, args.runs, kind), flush=True)


if __name__ == '__main__':
  main()
