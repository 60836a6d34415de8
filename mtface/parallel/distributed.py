"""Several processes as one run: how they find each other, agree to stop, and end when one of them
is lost (exit codes: `mtface.errors`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import jax
from jax._src.distributed import global_state  # the detected address is to be had nowhere else
from ml_collections import ConfigDict

from mtface import process
from mtface.errors import EXIT_PEER_LOST, UserError

STOP_SIGNALS = (
  signal.SIGTERM,
  signal.SIGUSR1,
)  # of schedulers that are about to take the machine away
# How JAX's runtime says that the process at the other end is no more: the status that an error
# begins with, or who had to talk to it.
_LOST_STATUS = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'CANCELLED')
_LOST_SPEAKERS = ('Gloo', 'NCCL', 'coordination service', 'CoordinationService')
_BUG_STATUS = (
  'INVALID_ARGUMENT',
  'ALREADY_EXISTS',
  'NOT_FOUND',
  'RESOURCE_EXHAUSTED',
  'UNIMPLEMENTED',
)  # whoever says it


@dataclasses.dataclass(frozen=True)
class Place:
  """Where this process stands; None: detected from the scheduler (Slurm, Open MPI, TPU,
  Kubernetes).
  """

  coordinator: str | None = None  # HOST:PORT of process 0
  processes: int | None = None
  process: int | None = None


def start(place: Place, settings: ConfigDict) -> None:
  """Joins the other processes; to be called before JAX is used for anything.

  Args:
    place: who we are.
    settings: `config.distributed`: `start_timeout` and `heartbeat` in seconds.

  Raises:
    UserError: the place is incomplete, and cannot be detected. Where the others do not come in time
      this process ends: one of them may have been killed, and another start may find them.
  """
  given = (place.coordinator, place.processes, place.process)
  if any(x is not None for x in given) and None in given:
    raise UserError(
      '--coordinator, --processes and --process belong together: HOST:PORT of process 0, how many, '
      'which one'
    )
  if place.processes is not None and not 0 <= (place.process or 0) < place.processes:
    raise UserError(f'--process={place.process}: there are processes 0 to {place.processes - 1}')
  if place.process is not None:
    process.be(place.process, place.processes or 1)  # so that an error is said once
  try:
    with _without_proxies():
      jax.distributed.initialize(
        place.coordinator,
        place.processes,
        place.process,
        initialization_timeout=settings.start_timeout,
        heartbeat_timeout_seconds=settings.heartbeat,
        shutdown_timeout_seconds=settings.heartbeat,
      )
  except ValueError as error:
    raise UserError(
      '--distributed: no scheduler that JAX knows has started this process '
      f'({str(error).splitlines()[0]}); in a bare script, give '
      '--coordinator, --processes and --process'
    ) from error
  except RuntimeError as error:
    where = place.coordinator or 'the coordinator that the scheduler names'
    leave_lost(
      f'the processes did not come together at {where} in {settings.start_timeout} s: '
      f'{str(error).splitlines()[0]}; that address must be '
      'reached from each, and config.distributed.start_timeout is the time they have'
    )
  process.be(jax.process_index(), jax.process_count())
  if process.index:
    _watch_coordinator(settings.heartbeat)


@contextlib.contextmanager
def _without_proxies() -> Iterator[None]:
  """Hides http_proxy and its like: gRPC, which looks at them when a connection is made, would send
  the processes' talk to the proxy.
  """
  hidden = {
    name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith('_proxy')
  }
  try:
    yield
  finally:
    os.environ.update(hidden)


def finish() -> None:
  """Leaves together with the others, so that none of them takes this one for lost. One that is gone
  already is no matter now.
  """
  try:
    jax.distributed.shutdown()
  except RuntimeError as error:
    print(
      f'mtface: process {process.index}: the others left first ({str(error).splitlines()[0]})',
      file=sys.stderr,
    )


def is_loss(error: BaseException) -> bool:
  """Whether an exception says that another process is gone: one of JAX's runtime does, or one that
  was raised because of such a one.

  No other counts, whatever it says: a lost process is a reason to start all again, and a bug is
  none.
  """
  seen: list[BaseException] = []
  while error not in seen:
    if isinstance(error, jax.errors.JaxRuntimeError) and _says_loss(str(error)):
      return process.count > 1
    seen.append(error)
    error = error.__cause__ or error.__context__ or error
  return False


def _says_loss(message: str) -> bool:
  if message.startswith(_BUG_STATUS):
    return False
  return message.startswith(_LOST_STATUS) or any(name in message for name in _LOST_SPEAKERS)


def leave(code: int) -> NoReturn:
  """Ends this process at once: JAX would first wait for processes that are no more."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def leave_lost(what: str) -> NoReturn:
  """Says in a line that another process is gone, and ends this one with EXIT_PEER_LOST."""
  print(
    f'mtface: process {process.index} of {process.count} on {socket.gethostname()}: another '
    f'process was lost ({what}); '
    'committed checkpoints are whole: the same command continues from the newest',
    file=sys.stderr,
  )
  leave(EXIT_PEER_LOST)


def _watch_coordinator(patience: float) -> None:
  """Ends this process soon after process 0 is gone; JAX's own answer to that is to abort, with a
  stack of C++ frames.

  An open connection to the coordinator's port says at once when the process at its end dies. One
  that was closed for another reason can be opened again.
  """
  address = global_state.coordinator_address
  if address is None:
    return
  host, _, port = address.rpartition(':')
  where = (host.strip('[]'), int(port))

  def watch() -> None:
    last_seen = time.monotonic()
    while True:
      try:
        with socket.create_connection(where, timeout=2) as connection:
          last_seen = time.monotonic()
          connection.settimeout(None)
          while connection.recv(4096):
            last_seen = time.monotonic()
      except ConnectionRefusedError:  # nobody listens there any more
        break
      except OSError:
        if time.monotonic() - last_seen > patience:
          break
      time.sleep(0.05)
    if jax.distributed.is_initialized():  # otherwise we are leaving ourselves
      leave_lost(f'process 0, the coordinator at {address}')

  threading.Thread(target=watch, daemon=True, name='watch coordinator').start()


class StopRequest:
  """Remembers a signal that asks to stop, while it is entered. The training loop makes all
  processes stop at the same step.
  """

  def __init__(self) -> None:
    self.received = False
    self._before: dict[int, Any] = {}

  def _receive(self, number: int, _: FrameType | None) -> None:
    if not self.received:
      name, where = signal.Signals(number).name, socket.gethostname()
      print(
        f'mtface: process {process.index} on {where}: {name}: saving, then stopping',
        file=sys.stderr,
        flush=True,
      )
    self.received = True

  def __enter__(self) -> Callable[[], bool]:
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
      # After `start`: JAX's preemption service takes SIGTERM for itself when it is set up.
      self._before = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
    return lambda: self.received

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
