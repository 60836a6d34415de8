"""Durations as text: '10 epochs', '2000 steps', '300000 examples'."""

from __future__ import annotations

import math
import re

from mtface.errors import UserError

_MOST_STEPS = 2**31 - 2  # steps are int32, and one number stands for "never"
_DURATION = re.compile(r'^\s*([\d_]+(?:\.\d+)?)\s*(steps?|epochs?|examples?)\s*$')


def to_steps(duration: str, batch_size: int, epoch_size: int, field: str) -> int:
  """Steps of a duration such as '10 epochs', '2000 steps' or '300_000 examples'; rounded up, at
  least 1.
  """
  found = _DURATION.match(str(duration))
  if not found:
    raise UserError(
      f'config.{field}: {duration!r} is no duration; write e.g. "10 epochs", "2000 steps" or '
      '"300000 examples"'
    )
  amount, unit = float(found[1].replace('_', '')), found[2].rstrip('s')
  steps = {
    'step': amount,
    'example': amount / batch_size,
    'epoch': amount * epoch_size / batch_size,
  }[unit]
  if steps <= 0:
    raise UserError(f'config.{field}: {duration!r} is no time at all; it must be more than 0')
  if steps > _MOST_STEPS:
    raise UserError(
      f'config.{field}: {duration!r} is {steps:.3g} steps; it must be at most 2^31 - 2'
    )
  return math.ceil(steps - 1e-9)
