"""How long training waits for a checkpoint that is written while it goes on, as a share of a step.

    python -m benchmarks.save_stall [--rounds=8] [--to=FOLDER]

Rounds of steps of BKNet with three tasks (batches of 64; random pixels, the state is the real one):
some without a save, one with a save, and steps beside the writing until the checkpoint has its
final name. "looking for infinities" and "save returns" are what training waits for; each figure is
a mean of its round, and ratios are to the step without a save.
"""

from __future__ import annotations

import contextlib
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator

import jax

from benchmarks.contestants import begin_as_command
from benchmarks.harness import Options, Own, main
from benchmarks.networks import bknet
from benchmarks.ours import Loop, sources
from mtface.training.checkpoints import Checkpoints
from mtface.training.tally import check_finite

STEPS = 6  # without a save, in each round
KINDS = (
  'step without a save',
  'step with a save',
  'looking for infinities',
  'save returns',
  'step beside the writing',
  'writing',
)
Times = dict[str, list[dict[str, float]]]


@contextlib.contextmanager
def timed(times: Times, name: str) -> Iterator[None]:
  wall, cpu = time.perf_counter(), time.process_time()
  yield
  spent = {'wall': time.perf_counter() - wall, 'cpu': time.process_time() - cpu}
  times.setdefault(name, []).append(spent)


def save(loop: Loop, checkpoints: Checkpoints, times: Times) -> None:
  """As the training loop saves. The step under way is waited for first: that is no stall."""
  with timed(times, 'looking for infinities'):
    check_finite(loop.steps, loop.state)
  with timed(times, 'save returns'):
    checkpoints.save(loop.steps, loop.state)


def round_of_steps(loop: Loop, checkpoints: Checkpoints) -> Times:
  """Steps without a save, a step with one, and steps beside its writing until it is written."""
  times: Times = {}
  for kind, saves in [*[(KINDS[0], False)] * STEPS, (KINDS[1], True)]:
    with timed(times, kind):
      loop.step()
      loop.wait()
      if saves:
        save(loop, checkpoints, times)
  saved, cpu = time.time(), time.process_time()
  folder = checkpoints.folder / f'{loop.steps:09d}'
  while not folder.exists():
    with timed(times, 'step beside the writing'):
      loop.step()
      loop.wait()
  # A folder has its times from when it got its final name.
  written = {'wall': folder.stat().st_ctime - saved, 'cpu': time.process_time() - cpu}
  checkpoints.wait()
  return {**times, 'writing': [written]}


def turns(options: Options, tiny: bool) -> dict[str, list[dict[str, float]]]:
  """{kind: the mean of each round}."""
  loop, rounds = Loop(bknet(64, tiny), sources(tiny)), []
  for _ in range(3):  # the first one compiles
    loop.step()
  loop.wait()
  with (
    tempfile.TemporaryDirectory() as folder,
    Checkpoints(pathlib.Path(folder), keep_last=2) as checkpoints,
  ):
    save(loop, checkpoints, {})  # the first save makes what the others find made
    checkpoints.wait()
    start = time.monotonic()
    while len(rounds) < options.rounds or time.monotonic() - start < options.seconds:
      rounds.append(round_of_steps(loop, checkpoints))
  return {kind: [_mean(of.get(kind, [])) for of in rounds] for kind in KINDS}


def _mean(times: list[dict[str, float]]) -> dict[str, float]:
  """0 where nothing happened: no step ran beside a writing that was over at once."""
  return {key: statistics.fmean([x[key] for x in times] or [0.0]) for key in ('wall', 'cpu')}


def cases(tiny: bool) -> list[Own]:
  device = jax.devices()[0].device_kind
  name = f'BKNet, batch {bknet(64, tiny)["batch"]}, {device}'
  return [Own(name, lambda options: turns(options, tiny))]


if __name__ == '__main__':
  begin_as_command(64, (48, 48))
  main('save_stall', __doc__, cases)
