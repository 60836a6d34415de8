"""Turns, and what is made of their times: medians, ratios of pairs, distances between results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

# Largest distance, as a share of the whole, that contestants may be apart. Gradients of BKNet at
# full width, batch of 128, are from double precision 3e-3 in mtface, 1.3e-2 in PyTorch's eager mode
# and 2e-3 when compiled, since rounding turns ReLUs and maxima that are nearly ties; losses are
# within 1e-6.
TOLERANCE = {'loss': 1e-5, 'gradients': 2e-2, 'scores': 1e-3, 'accuracy': 5e-3}


class Runner(Protocol):
  """What takes turns."""

  name: str

  def turn(self) -> dict[str, float]:
    """`wall` and `cpu`, in seconds a step, and further figures."""


def rotated(items: Sequence[Any], by: int) -> list[Any]:
  """The same, beginning with another one in every round."""
  by %= max(len(items), 1)
  return [*items[by:], *items[:by]]


def alternate(
  runners: Sequence[Runner], rounds: int, seconds: float
) -> dict[str, list[dict[str, float]]]:
  """{name: its turns, one a round}: at least so many rounds, and for so many seconds."""
  found: dict[str, list[dict[str, float]]] = {runner.name: [] for runner in runners}
  start, done = time.monotonic(), 0
  while runners and (done < rounds or time.monotonic() - start < seconds):
    for runner in rotated(runners, done):
      found[runner.name].append(runner.turn())
    done += 1
  return found


def middle(values: Iterable[float]) -> tuple[float, float, float]:
  """(median, lower quartile, upper quartile)."""
  low, median, high = np.percentile(list(values), (25, 50, 75))
  return float(median), float(low), float(high)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
  """How many times as long theirs takes, as (median, lower, upper quartile) over the rounds: pairs
  of one round are divided, since both had the same company on the machine.
  """
  return middle(b / a for a, b in zip(ours, theirs, strict=True))


def distances(
  expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """{group: how far `found` is from `expected`, as a share of the length of the latter}.

  The first part of a name is its group. An array `scale/GROUP` of `expected` is the length that
  counts instead. What one has and the other has not, or in another shape, is infinitely far.
  """
  groups: dict[str, list[str]] = {}
  for name in dict.fromkeys((*expected, *found)):
    groups.setdefault(name.partition('/')[0], []).append(name)
  groups.pop('scale', None)
  result = {}
  for group, names in groups.items():
    pairs = [(expected.get(name), found.get(name)) for name in names]
    if any(a is None or b is None or a.shape != b.shape for a, b in pairs):
      result[group] = float('inf')
      continue
    off = _length(b.astype(float) - a for a, b in pairs)
    scale = float(expected.get(f'scale/{group}', _length(a for a, _ in pairs)))
    result[group] = off / max(scale, 1e-30)
  return result


def _length(arrays: Iterator[np.ndarray]) -> float:
  return float(np.sqrt(sum(float(np.sum(np.square(x, dtype=float))) for x in arrays)))


def agrees(distance: Mapping[str, float]) -> bool:
  """Whether contestants compute the same; what is no number does not."""
  return all(x <= TOLERANCE[group] for group, x in distance.items())
