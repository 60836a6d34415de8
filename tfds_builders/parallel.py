"""A map over many items in several processes: results in order, memory bounded, nothing left behind
when it is stopped.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, TypeVar

import cv2

Item = TypeVar('Item')
Result = TypeVar('Result')
_LONGEST_SOCKET = 104


def num_cpus() -> int:
  """Returns how many cores this process may use (a scheduler's share, not all that the machine
  has).
  """
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def ordered_map(
  function: Callable[[Item], Result],
  items: Iterable[Item],
  *,
  workers: int,
  chunk: int = 8,
  preload: str = __name__,
) -> Iterator[Result]:
  """Yields `function(item)` for each item, in the items' order whatever the number of workers.

  Args:
    function: can be pickled (a module's function, or a `functools.partial` of one). Where it needs
      nothing of the program's own file, workers do not run that, which may have no `__main__`
      guard, or come from stdin.
    items: read only as fast as results are taken, so that neither items nor results pile up.
    workers: number of processes; 1 or less works in this process.
    chunk: items sent to a worker at a time.
    preload: the module that `function` lives in, imported once for all workers where the platform
      can.

  Raises: Whatever `function` raises, and `BrokenProcessPool` when a worker is killed, mostly for
    lack of memory.
  """
  if (
    workers <= 1 or multiprocessing.current_process().daemon
  ):  # a worker of somebody's pool may start no others
    yield from map(function, items)
    return
  starting = contextlib.nullcontext if b'__main__' in pickle.dumps(function) else _without_main
  pool = futures.ProcessPoolExecutor(
    workers, mp_context=_context(preload), initializer=_start_worker
  )
  try:
    waiting: collections.deque[futures.Future[list[Result]]] = collections.deque()
    for part in _chunks(items, chunk):
      with starting():
        waiting.append(pool.submit(_apply, function, part))
      if len(waiting) >= 4 * workers:
        yield from waiting.popleft().result()
    while waiting:
      yield from waiting.popleft().result()
  finally:
    # On an error or Ctrl-C what is queued is dropped and only the chunks in progress are waited
    # for.
    pool.shutdown(wait=True, cancel_futures=True)


def _context(preload: str) -> Any:
  """Workers are forked from a small clean server where there is one, so that the imports are paid
  for once.

  The server listens on a socket in TMPDIR, the path of which may have no more than 104 bytes (108
  on Linux).
  """
  socket = pathlib.Path(
    tempfile.gettempdir(), 'pymp-xxxxxxxx', 'listener-xxxxxxxx'
  )  # as multiprocessing names it
  if (
    'forkserver' not in multiprocessing.get_all_start_methods()
    or len(os.fsencode(socket)) >= _LONGEST_SOCKET
  ):
    return multiprocessing.get_context('spawn')
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload([preload, __name__])
  return context


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
  """Processes that are started in the block do not run the program's file, as multiprocessing has
  it by default.
  """
  main = sys.modules['__main__']
  nothing = object()
  before = {name: getattr(main, name, nothing) for name in ('__file__', '__spec__')}
  main.__spec__ = None
  if before['__file__'] is not nothing:
    del main.__file__
  try:
    yield
  finally:
    for name, value in before.items():
      if value is not nothing:
        setattr(main, name, value)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
  iterator = iter(items)
  while part := list(itertools.islice(iterator, size)):
    yield part


def _apply(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
  return [function(item) for item in items]


def _start_worker() -> None:
  signal.signal(
    signal.SIGINT, signal.SIG_IGN
  )  # Ctrl-C reaches the whole group; the parent alone decides what stops
  cv2.setNumThreads(1)  # one process a core is the parallelism
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this worker when its parent was killed: the pool's queues alone would keep it waiting for
  ever.
  """
  parent = multiprocessing.parent_process()
  if parent is not None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
