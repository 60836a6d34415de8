"""Which of the run's processes this one is. Knows nothing of JAX, so that whatever prints or writes
can ask it.

All processes compute and take part in checkpoints; the first alone prints, and writes what is no
checkpoint.
"""

from __future__ import annotations

index = 0
count = 1


def be(number: int, of: int) -> None:
  """Says that this is process `number` of `of`. Called once, by `mtface.parallel.distributed`."""
  global index, count
  index, count = number, of


def is_first() -> bool:
  """Whether this process speaks for the run."""
  return index == 0


def say(text: str) -> None:
  """Prints a line, in the first process only."""
  if is_first():
    print(text, flush=True)
