"""How long training waits for a checkpoint that is written while it goes on, as a share of a step.

    python -m benchmarks.save_stall [--config=sang2017:A2,gender=utkface] [--batch_size=64]
    [--rounds=8] [--folder=...]

Runs steps as the training loop does, one dispatched while another one runs. In every round one step
is followed by the save that the loop makes there (a look for infinities, the checksum, the copy
from the device; the writing goes on in threads), and so many are not that the writing has ended
before the next save. Prints the seconds of a step without and with a save, of the parts of the save
that hold the loop up, of the steps beside which the writing goes on, and of the writing. Sources
are random pixels; the state is the real one.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator

import jax

from benchmarks.throughput import stand_ins
from mtface.config.files import load_config
from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.models.network import make_network
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.tasks import get_task
from mtface.training.checkpoints import Checkpoints
from mtface.training.loop import jit_state_step
from mtface.training.optim import make_optimizer
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import check_finite, new_tally

Times = dict[str, list[float]]


@contextlib.contextmanager
def timed(times: Times, name: str) -> Iterator[None]:
  start = time.perf_counter()
  yield
  times.setdefault(name, []).append(time.perf_counter() - start)


class Loop:
  """The training loop without its log: a state, a step, batches."""

  def __init__(self, config, mesh):
    tasks, sources = {name: get_task(name) for name in config.tasks}, stand_ins(config)
    network, params, stats = make_network(
      config.model, list(tasks.values()), config.image_shape, config.seed
    )
    optimizer = make_optimizer(config.optimizer, 1000)
    mixture = make_mixture(config.mixture, sources, seed=0, batch_size=config.batch_size)
    self._batches = to_devices(
      load_batches(BatchSource(sources, mixture, config.batch_size), 0, 10**9), mesh
    )
    self._step = jit_state_step(
      make_step(network, optimizer, tasks, config, {}), mesh, everywhere(mesh)
    )
    self.state = place(new_state(params, stats, optimizer), everywhere(mesh))
    self._tally = place(new_tally(tasks), everywhere(mesh))
    self.steps = 0

  def step(self) -> None:
    """Dispatches a step, and waits for the one before it."""
    before = self._tally
    self.state, self._tally = self._step(self.state, before, next(self._batches))
    before.steps.block_until_ready()
    self.steps += 1

  def wait(self) -> None:
    jax.block_until_ready(self._tally)


def save(loop: Loop, checkpoints: Checkpoints, times: Times) -> None:
  """As the training loop saves. The step under way is waited for first: that is no stall."""
  with timed(times, 'looking for infinities'):
    check_finite(loop.steps, loop.state)
  with timed(times, 'save returns'):
    checkpoints.save(loop.steps, loop.state)


def round_of_steps(loop: Loop, checkpoints: Checkpoints, times: Times, steps: int) -> None:
  """Steps without a save, a step with one, steps beside its writing, and the
  rest of the writing.
  """
  for kind, saves in [*[('step without', False)] * steps, ('step with a save', True)]:
    with timed(times, kind):
      loop.step()
      loop.wait()
      if saves:
        save(loop, checkpoints, times)
  saved = time.time()
  folder = checkpoints.folder / f'{loop.steps:09d}'
  while not folder.exists():
    with timed(times, 'step beside the writing'):
      loop.step()
      loop.wait()
  times.setdefault('writing', []).append(
    folder.stat().st_ctime - saved
  )  # when it got its final name
  checkpoints.wait()


def row(name: str, values: list[float], step: float) -> str:
  ordered = sorted(values)
  spread = f'{1000 * ordered[0]:,.0f} - {1000 * ordered[-1]:,.0f}'
  middle = statistics.median(values)
  return f'| {name} | {len(values)} | {1000 * middle:,.0f} | {spread} | {middle / step:.0%} |'


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default='sang2017:A2,gender=utkface')
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--rounds', type=int, default=8)
  parser.add_argument('--steps', type=int, default=6, help='steps without a save, in each round')
  parser.add_argument(
    '--folder', default='', help='where checkpoints are written; default: a temporary one'
  )
  args = parser.parse_args()
  config, mesh = load_config(args.config), make_mesh()
  config.batch_size = args.batch_size
  loop, times = Loop(config, mesh), Times()
  for _ in range(3):  # the first one compiles
    loop.step()
  loop.wait()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.folder or temporary)
    with Checkpoints(folder, keep_last=2) as checkpoints:
      save(loop, checkpoints, {})  # the first save makes what the others find made
      checkpoints.wait()
      for _ in range(args.rounds):
        round_of_steps(loop, checkpoints, times, args.steps)
      last = checkpoints.folder / f'{checkpoints.steps[-1]:09d}'
      size = sum(path.stat().st_size for path in last.rglob('*') if path.is_file())
  arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(loop.state))
  step = statistics.median(times['step without'])
  print(
    f'{args.config}, batch {args.batch_size}, {jax.devices()[0].device_kind} x {mesh.size}, jax '
    f'{jax.__version__}'
  )
  print(f'state {arrays:,} bytes, checkpoint {size:,} bytes\n')
  print('| | times | median ms | spread ms | of a step |\n|---|---|---|---|---|')
  for name in (
    'step without',
    'step with a save',
    'looking for infinities',
    'save returns',
    'step beside the writing',
    'writing',
  ):
    print(row(name, times.get(name, [0.0]), step))


if __name__ == '__main__':
  main()
