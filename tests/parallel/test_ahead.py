"""A function that is compiled while something else is done."""

import threading
import types

import jax
import jax.numpy as jnp
import pytest

from mtface import process
from mtface.parallel import distributed
from mtface.parallel.ahead import Ahead

SHAPE = jax.ShapeDtypeStruct((3,), jnp.float32)


def test_it_is_compiled_once_in_another_thread(monkeypatch):
  threads, meetings = [], []
  monkeypatch.setattr(distributed, 'meet', lambda: meetings.append(1))

  @jax.jit
  def double(x):
    threads.append(threading.current_thread())
    return 2 * x

  function = Ahead(double, SHAPE)
  assert [function(jnp.ones(3)).tolist() for _ in range(2)] == [[2, 2, 2]] * 2
  assert len(threads) == 1 and threads[0] is not threading.main_thread()
  assert meetings == [1], 'before the first call'


def test_what_went_wrong_is_raised_by_each_call():
  function = Ahead(jax.jit(lambda x: x @ jnp.ones(4)), SHAPE)
  for _ in range(2):
    with pytest.raises(TypeError, match='dot_general'):
      function(jnp.ones(3))


def test_processes_meet_under_a_new_name_each_time(monkeypatch):
  names = []
  client = types.SimpleNamespace(wait_at_barrier=lambda name, timeout_in_ms: names.append(name))
  monkeypatch.setattr(distributed, 'global_state', types.SimpleNamespace(client=client))
  distributed.meet()
  assert not names, 'a process alone waits for nobody'
  monkeypatch.setattr(process, 'count', 2)
  distributed.meet()
  distributed.meet()
  assert len(set(names)) == 2
