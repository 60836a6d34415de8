"""What needs no second process; tests/end_to_end/test_processes.py has some."""

import os
import queue
import signal
import socket
import threading
import types

import jax
import pytest

from mtface import process
from mtface.errors import EXIT_PEER_LOST, UserError
from mtface.parallel import distributed
from mtface.parallel.distributed import Place, StopRequest, is_loss, start

SETTINGS = types.SimpleNamespace(start_timeout=600, heartbeat=20)


@pytest.fixture
def one_of_two(monkeypatch):
  monkeypatch.setattr(process, 'index', 1)
  monkeypatch.setattr(process, 'count', 2)


# As JAX 0.10 and 0.12 say it when a process is killed, in a collective, at a barrier and in
# between.
@pytest.mark.parametrize(
  'message',
  [
    'FAILED_PRECONDITION: Gloo all-reduce failed: [external/gloo/gloo/transport/tcp/pair.cc:547] '
    'Connection closed by peer',
    'INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited or there was a network '
    'error',
    'UNAVAILABLE: failed to connect to all addresses; last error: Connection refused',
    'DEADLINE_EXCEEDED: Barrier timed out. Id: config written::0',
    'ABORTED: Barrier failed. 1/2 tasks reached the barrier',
    'INTERNAL: Shutdown barrier in coordination service has failed',
    'INTERNAL: The tasks have crashed. '
    "[type.googleapis.com/tensorflow.CoordinationServiceError='']",
  ],
)
def test_what_jax_says_of_a_lost_process_is_a_loss(one_of_two, monkeypatch, message):
  error = jax.errors.JaxRuntimeError(message)
  assert is_loss(error)
  wrapped = ValueError('orbax: the checkpoint could not be written')
  wrapped.__cause__ = error
  assert is_loss(wrapped)
  monkeypatch.setattr(process, 'count', 1)
  assert not is_loss(error)


@pytest.mark.parametrize(
  'error',
  [
    ValueError('barrier'),
    RuntimeError('UNAVAILABLE: connection lost'),
    ConnectionError('Connection reset by peer'),
    ConnectionRefusedError('UNAVAILABLE'),
    TimeoutError('DEADLINE_EXCEEDED'),
    KeyError('heartbeat'),
    OSError('NCCL'),
    jax.errors.JaxRuntimeError(
      'RESOURCE_EXHAUSTED: Out of memory while making a connection barrier'
    ),
    jax.errors.JaxRuntimeError('INVALID_ARGUMENT: the barrier of a connection'),
    jax.errors.JaxRuntimeError(
      "ALREADY_EXISTS: Config key x [type.googleapis.com/tensorflow.CoordinationServiceError='']"
    ),
  ],
  ids=repr,
)
def test_what_a_bug_says_is_none(one_of_two, error):
  assert not is_loss(error)


def test_a_chain_that_bites_its_tail_ends(one_of_two):
  a, b = ValueError('a'), ValueError('b')
  a.__cause__, b.__cause__ = b, a
  assert not is_loss(a)


@pytest.mark.parametrize(
  'place',
  [
    Place(coordinator='a:1'),
    Place(processes=2),
    Place(process=0),
    Place('a:1', 2),
    Place(None, 2, 0),
  ],
)
def test_a_place_is_given_whole(place):
  with pytest.raises(
    UserError, match='--coordinator, --processes and --process must be given together'
  ):
    start(place, SETTINGS)


@pytest.mark.parametrize('number', [-1, 2])
def test_a_process_is_one_of_them(number):
  with pytest.raises(UserError, match=f'--process={number}: expected 0 to 1'):
    start(Place('a:1', 2, number), SETTINGS)


@pytest.fixture
def joined(monkeypatch):
  """What `jax.distributed.initialize` is called with; it does nothing else."""
  found = {}

  def initialize(*args, **kwargs):
    found.update(
      args=args,
      kwargs=kwargs,
      proxies=sorted(name for name in os.environ if 'proxy' in name.lower()),
    )

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  monkeypatch.setattr(process, 'index', 0)
  monkeypatch.setattr(process, 'count', 1)
  return found


def test_the_processes_talk_past_a_proxy_which_others_keep(joined, monkeypatch):
  for name in ('http_proxy', 'HTTPS_PROXY', 'grpc_proxy', 'all_proxy', 'no_proxy'):
    monkeypatch.setenv(name, 'http://127.0.0.1:9')
  start(Place('127.0.0.1:1', 2, 0), SETTINGS)
  assert joined['proxies'] == []
  assert (
    os.environ['http_proxy']
    == os.environ['HTTPS_PROXY']
    == os.environ['no_proxy']
    == 'http://127.0.0.1:9'
  )


def test_times_and_place_are_those_that_were_given(joined):
  start(Place('127.0.0.1:1', 2, 0), types.SimpleNamespace(start_timeout=7, heartbeat=3))
  assert joined['args'] == ('127.0.0.1:1', 2, 0)
  assert joined['kwargs'] == {
    'initialization_timeout': 7,
    'heartbeat_timeout_seconds': 3,
    'shutdown_timeout_seconds': 3,
  }
  assert (process.index, process.count) == (jax.process_index(), jax.process_count()), (
    'what JAX says counts'
  )


@pytest.mark.parametrize(('index', 'watches'), [(0, []), (1, [20])])
def test_all_but_the_coordinator_watch_it(joined, monkeypatch, index, watches):
  found = []
  monkeypatch.setattr(distributed, '_watch_coordinator', found.append)
  monkeypatch.setattr(jax, 'process_index', lambda: index)
  start(Place('127.0.0.1:1', 2, index), SETTINGS)
  assert found == watches


@pytest.mark.parametrize(
  ('raised', 'code', 'said'),
  [
    (
      ValueError('coordinator_address should be defined.'),
      2,
      '--distributed: this process was not started by a scheduler',
    ),
    (
      RuntimeError('DEADLINE_EXCEEDED: nobody'),
      EXIT_PEER_LOST,
      'did not connect to a:1 within 600 s',
    ),
  ],
)
def test_how_a_start_fails(monkeypatch, capsys, raised, code, said):
  def initialize(*_, **__):
    raise raised

  monkeypatch.setattr(jax.distributed, 'initialize', initialize)
  monkeypatch.setattr(process, 'index', 0)
  monkeypatch.setattr(process, 'count', 1)
  monkeypatch.setattr(os, '_exit', lambda number: (_ for _ in ()).throw(SystemExit(number)))
  with pytest.raises((UserError, SystemExit)) as error:
    start(Place('a:1', 2, 1), SETTINGS)
  assert getattr(error.value, 'code', 2) == code
  assert said in (str(error.value) if code == 2 else capsys.readouterr().err)


def test_a_stop_is_remembered_said_once_and_the_handlers_given_back(capsys):
  before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
  for number in (signal.SIGTERM, signal.SIGUSR1):
    with StopRequest() as stop:
      assert not stop()
      signal.raise_signal(number)
      signal.raise_signal(number)
      assert stop()
    assert (
      capsys.readouterr().err.count(f'{signal.Signals(number).name}: saving, then stopping') == 1
    )
  assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before


@pytest.mark.parametrize('index', [0, 1])
def test_only_the_first_speaks(monkeypatch, capsys, index):
  monkeypatch.setattr(process, 'index', index)
  process.say('said')
  assert capsys.readouterr().out == ('' if index else 'said\n')


def test_leaving_lost_says_who_and_ends_with_its_code(one_of_two, monkeypatch, capsys):
  codes = []
  monkeypatch.setattr(os, '_exit', codes.append)
  distributed.leave_lost('Gloo')
  assert codes == [EXIT_PEER_LOST]
  assert 'process 1 of 2' in (err := capsys.readouterr().err)
  assert 'another process was lost (Gloo)' in err
  assert err.count('\n') == 1


@pytest.fixture
def coordinator(monkeypatch):
  """(a socket that listens as process 0 does, what the watch said of its end)."""
  listener = socket.create_server(('127.0.0.1', 0))
  address = f'127.0.0.1:{listener.getsockname()[1]}'
  monkeypatch.setattr(
    distributed, 'global_state', types.SimpleNamespace(coordinator_address=address)
  )
  said = queue.Queue()
  monkeypatch.setattr(distributed, 'leave_lost', said.put)
  yield listener, said
  listener.close()


@pytest.mark.parametrize('initialized', [True, False])
def test_the_end_of_the_coordinator_is_noticed_at_once(coordinator, monkeypatch, initialized):
  monkeypatch.setattr(jax.distributed, 'is_initialized', lambda: initialized)
  listener, said = coordinator
  distributed._watch_coordinator(patience=600)
  (thread,) = [thread for thread in threading.enumerate() if thread.name == 'watch coordinator']
  connection, _ = listener.accept()
  connection.close()  # for another reason: it listens, and is asked again
  connection, _ = listener.accept()
  assert said.empty()
  listener.close()
  connection.close()
  thread.join(20)
  assert not thread.is_alive()
  # Where JAX has shut down we are leaving ourselves, and nobody is lost.
  assert said.empty() != initialized
  if initialized:
    assert said.get().startswith('process 0, the coordinator at 127.0.0.1:')
