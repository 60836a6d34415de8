"""What an exported file does, against the run that it is from: differences, accuracy, time."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.inference.meter import Meter
from mtface.outputs import Scores
from mtface.progress import progress

CHECKED = 256  # images that are compared with the network's answers
MEASURED = 5000  # faces of a set, at most, on which accuracy is measured
_BATCHES = (1, 7, 32)  # sizes in which images are given, in turn
_BATCH = 64
_SECONDS = 1.0  # that a time is measured for, at least

# The largest difference from the run's own answers that is rounding; margins have no unit, so it is
# taken of the largest one. A run in bfloat16 is exported in float32, which is the more exact one.
LIMITS = {'float32': 1e-4, 'bfloat16': 0.1}


class Model(Protocol):
  """An exported file that was read again."""

  def say(self, images: Sequence[np.ndarray]) -> Scores:
    """{task: [N, C]} of images uint8 [N, H, W, C], the only entry of a list."""


@dataclasses.dataclass(frozen=True)
class Check:
  """Images and what the run says of them.

  Attributes:
    images: uint8 [N, H, W, C].
    of: where they are from, in words.
    expected: {task: [N, C]}.
  """

  images: np.ndarray
  of: str
  expected: Scores

  def difference(self, model: Model) -> float:
    """The largest difference in any answer, which is given in batches of several sizes; relative to
    the largest number where that is more than 1 (margins).
    """
    found = 0.0
    for start, stop in _batches(len(self.images)):
      said = model.say([self.images[start:stop]])
      for task, expected in self.expected.items():
        off = np.abs(said[task] - expected[start:stop]).max()
        found = max(found, float(off / max(1.0, np.abs(expected).max())))
    return found

  def batch(self, count: int) -> np.ndarray:
    """So many of the images; where there are fewer, they are repeated."""
    return self.images[np.arange(count) % len(self.images)]


def _batches(count: int) -> Iterator[tuple[int, int]]:
  start, turn = 0, 0
  while start < count:
    stop = min(start + _BATCHES[turn % len(_BATCHES)], count)
    yield start, stop
    start, turn = stop, turn + 1


def make_check(chosen: Chosen) -> Check:
  """Takes images of the run's evaluation sets, evenly, or noise where none of them is there."""
  sets = evaluation_sets(chosen)
  if sets:
    each = -(-CHECKED // len(sets))
    images = np.concatenate([of.gather(spread(len(of), each)) for of in sets.values()])
    where = f'images of {", ".join(sets)}'
  else:
    shape = (CHECKED, *chosen.evaluators[0].config.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    where = 'images of noise, since no evaluation set of the run is in --data_dir'
  with jax.default_matmul_precision('highest'):  # a GPU's usual one is another kind of float32
    expected = chosen.of_images([images] * len(chosen.evaluators), _BATCH)
  return Check(images, where, expected)


def evaluation_sets(chosen: Chosen) -> dict[str, Source]:
  """The run's evaluation sets that are there and label one of its tasks, by name."""
  own = chosen.evaluators[0]
  found = {}
  for name in own.config.evaluation.sets:
    try:
      found[name] = own.source(name)
    except UserError:
      continue
  return found


def spread(count: int, most: int) -> np.ndarray:
  """`most` of `count` numbers from 0, evenly spread; all of them where there are fewer."""
  return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def accuracy(model: Model, chosen: Chosen, name: str, source: Source) -> list[dict[str, Any]]:
  """A row for each task that a set labels: `set`, `task`, `n`, `figure` (mae of ages in years, else
  accuracy) and `value`.
  """
  source = source.take(spread(len(source), MEASURED))
  tops = {task: entry.top for task, entry in chosen.evaluators[0].config.tasks.items()}
  meter = Meter(chosen.tasks, source, threshold=0.5, tops=tops)
  starts = range(0, len(source), _BATCH)
  for start in progress(starts, f'measuring on {name}', total=len(starts)):
    rows = np.arange(start, min(start + _BATCH, len(source)))
    said = model.say([source.gather(rows)])
    meter.add({task: np.asarray(x, np.float64) for task, x in said.items()}, rows)
  return [_row(name, task, summary) for task, summary in meter.summaries().items()]


def _row(name: str, task: str, summary: Mapping[str, Any]) -> dict[str, Any]:
  figure = 'mae' if summary.get('mae') is not None else 'accuracy'
  return {'set': name, 'task': task, 'n': summary['n'], 'figure': figure, 'value': summary[figure]}


def milliseconds(model: Model, images: np.ndarray) -> float:
  """The median time of a batch, which the model has seen once before."""
  model.say([images])
  times: list[float] = []
  begin = time.perf_counter()
  while len(times) < 3 or time.perf_counter() - begin < _SECONDS:
    start = time.perf_counter()
    model.say([images])
    times.append(time.perf_counter() - start)
  return 1000 * statistics.median(times)
