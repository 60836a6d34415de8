"""Which of the run's processes this one is. Independent of JAX, so that any code that prints or
writes can use it.

All processes compute and take part in checkpoints; only the first prints and writes other files.
"""

from __future__ import annotations

import os

index = 0
count = 1


def be(number: int, of: int) -> None:
  """Sets this process to number `number` of `of`. Called once, by `mtface.parallel.distributed`."""
  global index, count
  index, count = number, of


def is_first() -> bool:
  """Whether this is the process that prints for the run."""
  return index == 0


def say(text: str) -> None:
  """Prints a line in the first process only."""
  if is_first():
    print(text, flush=True)


def cores() -> int:
  """How many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
