"""Durations as text: '10 epochs', '2000 steps', '300000 examples', '2 hours'."""

from __future__ import annotations

import math
import re

from mtface.errors import UserError

MOST_STEPS = 2**31 - 2  # steps are int32, and one number stands for "never"
_DURATION = re.compile(r'^\s*([\d_]+(?:\.\d+)?)\s*(step|epoch|example|hour|minute)s?\s*$')
_SECONDS = {'hour': 3600, 'minute': 60}


def to_steps(duration: str, batch_size: int, epoch_size: int, field: str) -> int:
  """Steps of a duration such as '10 epochs', '2000 steps' or '300_000 examples'; rounded up, at
  least 1. A duration in hours or minutes is no number of steps: the most that there can be.
  """
  amount, unit = _parsed(duration, field)
  if unit in _SECONDS:
    return MOST_STEPS
  steps = {
    'step': amount,
    'example': amount / batch_size,
    'epoch': amount * epoch_size / batch_size,
  }[unit]
  if steps > MOST_STEPS:
    raise UserError(
      f'config.{field}: {duration!r} is {steps:.3g} steps; it must be at most 2^31 - 2'
    )
  return math.ceil(steps - 1e-9)


def to_seconds(duration: str, field: str) -> float | None:
  """Seconds of a duration in hours or minutes; None of another."""
  amount, unit = _parsed(duration, field)
  return amount * _SECONDS[unit] if unit in _SECONDS else None


def _parsed(duration: str, field: str) -> tuple[float, str]:
  found = _DURATION.match(str(duration))
  if not found:
    raise UserError(
      f'config.{field}: {duration!r} is not a duration; write e.g. "10 epochs", "2000 steps", '
      '"300000 examples" or "2 hours"'
    )
  amount = float(found[1].replace('_', ''))
  if amount <= 0:
    raise UserError(f'config.{field}: {duration!r} is too short; it must be more than 0')
  return amount, found[2]
