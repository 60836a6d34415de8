"""Images/s of the loader alone and of the train step alone, so that it is plain which one waits for
the other.

    python benchmarks/throughput.py [--config=sang2017:A2] [--data_dir=...] [--batch_sizes=128,1024]
    [--seconds=10]

Without --data_dir the sources are random pixels of the same sizes as GENKI-4K, FER-2013 and
UTKFace, which cost exactly as much. The loader is timed as training uses it: grain's thread gathers
batches from memory, and they are put on the devices. It takes a core for itself; in training it
shares the cores with the step, which needs far more. Prints a Markdown table; benchmarks/README.md
keeps results.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import jax
import numpy as np

from mtface.config.files import find_config, load_config_file
from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.data.sources import Source
from mtface.models.network import make_network
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.tasks import get_task
from mtface.training.loop import jit_state_step
from mtface.training.optim import make_optimizer
from mtface.training.run import prepare
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally

STAND_IN_SIZES = {'genki4k': 3000, 'fer2013': 28709, 'utkface': 17780}


def stand_ins(config) -> list[Source]:
  """Random pixels and labels in the shape of the config's sources."""
  rng, sources = np.random.default_rng(0), []
  for name, entry in config.sources.items():
    size = STAND_IN_SIZES.get(name, 10000)
    images = rng.integers(0, 256, (size, *config.image_shape), dtype=np.uint8)
    labels = {
      t: rng.integers(0, get_task(t).num_classes, size).astype(np.int32) for t in entry.tasks
    }
    mask = {t: np.ones(size, bool) for t in entry.tasks}
    sources.append(Source(name, images, np.arange(size), np.arange(size).astype(str), labels, mask))
  return sources


def loader_rate(batches, batch_size: int, seconds: float) -> float:
  """Images/s of an endless iterator of batches."""
  next(batches)
  start, done = time.perf_counter(), 0
  while time.perf_counter() - start < seconds:
    jax.block_until_ready(next(batches)['image'])
    done += batch_size
  return done / (time.perf_counter() - start)


def step_rate(
  step, state, tally, batch, batch_size: int, seconds: float
) -> tuple[float, float, float]:
  """(median images/s of a step, of the processor time that it takes, seconds of the first step,
  which compiles).
  """
  start = time.perf_counter()
  state, tally = step(state, tally, batch)
  jax.block_until_ready(tally)
  compiling, times, cpu = time.perf_counter() - start, [], []
  while sum(times) < seconds or len(times) < 3:
    start, cpu_start = time.perf_counter(), time.process_time()
    state, tally = step(state, tally, batch)
    jax.block_until_ready(tally)
    times.append(time.perf_counter() - start)
    cpu.append(time.process_time() - cpu_start)
  return batch_size / statistics.median(times), batch_size / statistics.median(cpu), compiling


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default='sang2017:A2')
  parser.add_argument('--data_dir', default='')
  parser.add_argument('--batch_sizes', default='128,1024')
  parser.add_argument('--seconds', type=float, default=10.0)
  parser.add_argument('--dtype', default='float32')
  args = parser.parse_args()
  name, _, argument = args.config.partition(':')
  config = load_config_file(find_config(name), argument or None)
  config.model.dtype = args.dtype
  tasks = {t: get_task(t) for t in config.tasks}
  sources = prepare(config, args.data_dir).sources if args.data_dir else stand_ins(config)
  network, params, stats = make_network(
    config.model, list(tasks.values()), config.image_shape, config.seed
  )
  optimizer, mesh = make_optimizer(config.optimizer, 1000), make_mesh()
  kind = jax.devices()[0].device_kind
  print(
    f'{kind} x {mesh.size}, {platform.machine()}, jax {jax.__version__}, {args.config}, '
    f'{args.dtype}\n'
  )
  print(
    '| batch | gather images/s | loader images/s | train step images/s | of processor time | '
    'loader / step | compile s |'
  )
  print('|---' * 7 + '|')
  for batch_size in map(int, args.batch_sizes.split(',')):
    source = BatchSource(
      sources, make_mixture(config.mixture, sources, seed=0, batch_size=batch_size), batch_size
    )
    gather = loader_rate((source[k] for k in range(10**9)), batch_size, args.seconds / 2)
    loaded = to_devices(load_batches(source, 0, 10**9), mesh)
    loader = loader_rate(loaded, batch_size, args.seconds)
    step = jit_state_step(make_step(network, optimizer, tasks, config, {}), mesh, everywhere(mesh))
    state = place(new_state(params, stats, optimizer), everywhere(mesh))
    tally = place(new_tally(tasks), everywhere(mesh))
    trained, of_cpu, compiling = step_rate(
      step, state, tally, next(loaded), batch_size, args.seconds
    )
    print(
      f'| {batch_size} | {gather:,.0f} | {loader:,.0f} | {trained:,.0f} | {of_cpu:,.0f} | '
      f'{loader / trained:,.0f} | {compiling:.0f} |',
      flush=True,
    )


if __name__ == '__main__':
  main()
