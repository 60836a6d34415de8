"""What a process of a benchmark does: it prepares something, and then repeats it when it is asked.

A function of options gives a `Work`; `benchmarks.child` runs it behind pipes, and
`benchmarks.contestants` asks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


class Unavailable(Exception):
  """What is to be measured cannot run here; the message says what is missing."""


class Work:
  """Something prepared: compiled, loaded, connected.

  Attributes:
    facts: what is known of it, as `parameters`; numbers and text.
  """

  def __init__(
    self,
    run: Callable[[int], None],
    check: Callable[[], Arrays] | None = None,
    facts: Mapping[str, Any] | None = None,
  ):
    """Args:
    run: does so many steps, and waits for them.
    check: what must be equal among contestants, by name: `loss`, `gradients/PATH`, `scores/TASK`.
    facts: see above.
    """
    self.run, self._check, self.facts = run, check, dict(facts or {})

  def check(self) -> Arrays:
    """What must be equal among contestants; nothing where nothing is compared."""
    return self._check() if self._check else {}


def needed(module: str, install: str = "pip install 'mtface[parity]'") -> Any:
  """A module of a peer's.

  Raises:
    Unavailable: it is not installed.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    raise Unavailable(f'{module} is not installed: {install}') from error
