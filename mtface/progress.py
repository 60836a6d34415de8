"""Progress of long operations: a bar on a terminal, otherwise a line every ten seconds (log files,
schedulers).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from mtface import process

T = TypeVar('T')
_QUIET_SECONDS = 10.0  # between two lines when not on a terminal


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
  """Yields `items` and shows how many of `total` are done. Away from a terminal, short operations
  print nothing.
  """
  if not process.is_first():
    yield from items
    return
  if sys.stderr.isatty():
    from rich.console import Console
    from rich.progress import track

    yield from track(
      items, description=what, total=total, console=Console(stderr=True), transient=True
    )
    return
  start = last = time.monotonic()
  for done, item in enumerate(items):
    now = time.monotonic()
    if now - last >= _QUIET_SECONDS:
      last = now
      of = (
        f' of {total:,}, about {(now - start) / max(done, 1) * (total - done):.0f} s left'
        if total
        else ''
      )
      print(f'{what}: {done:,}{of}', file=sys.stderr, flush=True)
    yield item


def warn(message: str) -> None:
  """Prints a one-line warning on stderr about a problem that was worked around."""
  if not process.is_first():
    return
  print(f'mtface: warning: {message}', file=sys.stderr, flush=True)
