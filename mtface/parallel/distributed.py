"""Several processes as one run: how they find each other, agree to stop, and exit when one of them
is lost (exit codes: `mtface.errors`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
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
from jax._src.distributed import global_state  # the only place that has the detected address
from ml_collections import ConfigDict

from mtface import process
from mtface.errors import EXIT_PEER_LOST, UserError

STOP_SIGNALS = (
  signal.SIGTERM,
  signal.SIGUSR1,
)  # sent by schedulers that are about to reclaim the machine
# How JAX's runtime reports that a peer process is gone: the status that an error starts with, or
# the component that was talking to it.
_LOST_STATUS = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'CANCELLED')
_LOST_SPEAKERS = ('Gloo', 'NCCL', 'coordination service', 'CoordinationService')
_BUG_STATUS = (
  'INVALID_ARGUMENT',
  'ALREADY_EXISTS',
  'NOT_FOUND',
  'RESOURCE_EXHAUSTED',
  'UNIMPLEMENTED',
)  # from any component
_MEETING_SECONDS = 24 * 3600  # a process that is lost is noticed by its heartbeat
_meetings = itertools.count()


@dataclasses.dataclass(frozen=True)
class Place:
  """This process's place in the run; None: detected from the scheduler (Slurm, Open MPI, TPU,
  Kubernetes).
  """

  coordinator: str | None = None  # HOST:PORT of process 0
  processes: int | None = None
  process: int | None = None


def start(place: Place, settings: ConfigDict) -> None:
  """Joins the other processes. Call it before using JAX for anything else.

  Args:
    place: this process's place in the run.
    settings: `config.distributed`: `start_timeout` and `heartbeat` in seconds.

  Raises:
    UserError: the place is incomplete or cannot be detected. If the other processes do not arrive
      in time, this process exits: one of them may have been killed, and a restart may find them.
  """
  given = (place.coordinator, place.processes, place.process)
  if any(x is not None for x in given) and None in given:
    raise UserError(
      '--coordinator, --processes and --process must be given together: HOST:PORT of process 0, '
      'the number of processes, and the index of this one'
    )
  if place.processes is not None and not 0 <= (place.process or 0) < place.processes:
    raise UserError(f'--process={place.process}: expected 0 to {place.processes - 1}')
  if place.process is not None:
    process.be(place.process, place.processes or 1)  # so that an error is printed once
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
      '--distributed: this process was not started by a scheduler that JAX supports '
      f'({str(error).splitlines()[0]}); without a scheduler, pass '
      '--coordinator, --processes and --process'
    ) from error
  except RuntimeError as error:
    where = place.coordinator or "the scheduler's coordinator"
    leave_lost(
      f'the processes did not connect to {where} within {settings.start_timeout} s: '
      f'{str(error).splitlines()[0]}; check that all hosts can '
      'reach that address, or raise config.distributed.start_timeout'
    )
  process.be(jax.process_index(), jax.process_count())
  if process.index:
    _watch_coordinator(settings.heartbeat)


@contextlib.contextmanager
def _without_proxies() -> Iterator[None]:
  """Hides http_proxy and similar variables: gRPC reads them when it connects, and would send the
  processes' traffic to the proxy.
  """
  hidden = {
    name: os.environ.pop(name) for name in list(os.environ) if name.lower().endswith('_proxy')
  }
  try:
    yield
  finally:
    os.environ.update(hidden)


def meet() -> None:
  """Waits until all processes are here, by way of the coordinator. All call it equally often.

  What runs next on all devices connects them first, and on CPUs Gloo gives that half a minute: far
  less than one process may compile while another has found the program where it is kept.
  """
  if process.count > 1:
    name = f'mtface meets {next(_meetings)}'
    client: Any = global_state.client
    client.wait_at_barrier(name, timeout_in_ms=1000 * _MEETING_SECONDS)


def finish() -> None:
  """Leaves together with the other processes, so that none of them considers this one lost. At this
  point it does not matter if one is already gone.
  """
  try:
    jax.distributed.shutdown()
  except RuntimeError as error:
    print(
      f'mtface: process {process.index}: the others exited first ({str(error).splitlines()[0]})',
      file=sys.stderr,
    )


def is_loss(error: BaseException) -> bool:
  """Whether an exception means that another process is gone: it, or one of its causes, comes from
  JAX's runtime.

  No other exception counts, whatever its text: a lost process is a reason to restart the run, a bug
  is not.
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
  """Exits at once: JAX would first wait for processes that no longer exist."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def leave_lost(what: str) -> NoReturn:
  """Reports in one line that another process is gone, and exits with EXIT_PEER_LOST."""
  print(
    f'mtface: process {process.index} of {process.count} on {socket.gethostname()}: another '
    f'process was lost ({what}); '
    'committed checkpoints are intact; rerun the same command to resume from the newest',
    file=sys.stderr,
  )
  leave(EXIT_PEER_LOST)


def _watch_coordinator(patience: float) -> None:
  """Exits soon after process 0 is gone; JAX itself would abort with a C++ stack trace.

  An open connection to the coordinator's port drops as soon as the process at the other end dies.
  If it was closed for another reason, it can be reopened.
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
      except ConnectionRefusedError:  # nothing listens there any more
        break
      except OSError:
        if time.monotonic() - last_seen > patience:
          break
      time.sleep(0.05)
    if jax.distributed.is_initialized():  # otherwise this process is exiting anyway
      leave_lost(f'process 0, the coordinator at {address}')

  threading.Thread(target=watch, daemon=True, name='watch coordinator').start()


class StopRequest:
  """A context manager that remembers signals asking the process to stop. The training loop makes
  all processes stop at the same step.
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
    if (
      threading.current_thread() is threading.main_thread()
    ):  # only the main thread may set handlers
      # After `start`: JAX's preemption service claims SIGTERM when it is set up.
      self._before = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
    return lambda: self.received

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
