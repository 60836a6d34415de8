"""Several steps a call, and images on the devices: the numbers of one step a call, fed from the
host.
"""

import contextlib
import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest

from mtface.config.tables import MIXTURES
from mtface.data.loader import BatchSource, DrawSource
from mtface.data.mixing import make_mixture
from mtface.errors import Preempted
from mtface.parallel import resident
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.training import calls as module
from mtface.training import loop as train_module
from mtface.training.calls import Calls, Feed, plan_calls
from mtface.training.checkpoints import Checkpoints
from mtface.training.logs import read_metrics
from mtface.training.loop import jit_step, train
from mtface.training.optim import make_optimizer
from mtface.training.run import prepare
from mtface.training.state import new_state
from mtface.training.tally import new_tally
from tests.tiny import get_config

HERE, THERE = resident.Residence(False), resident.Residence(True, 'on each device')


@pytest.fixture(scope='module')
def run(tiny_data):
  return prepare(get_config(), tiny_data)


def lengths(calls, start=0):
  found, step = [], start
  while step < max(calls.points):
    found.append(calls.length(step))
    step += found[-1]
  assert step == max(calls.points)
  return found


def test_a_call_ends_where_something_is_done():
  assert lengths(Calls(1, (50,), (5,), HERE)) == [1] * 5
  # lines every 6, checkpoints every 8, a profile from 9 to 10, the end at 21
  assert lengths(Calls(4, (6, 8), (9, 10, 21), HERE)) == [4, 2, 2, 1, 1, 2, 4, 2, 3]
  assert lengths(Calls(100, (50, 30), (110,), HERE), start=29) == [1, 20, 10, 30, 10, 10]


def test_how_many_steps_a_call(run, monkeypatch):
  def planned(steps, platform='cpu', batch=8):
    config = get_config()
    config.steps_a_call, config.batch_size = steps, batch
    mesh = make_mesh()
    monkeypatch.setattr(module, '_platform', lambda _: platform)
    return plan_calls(dataclasses.replace(run, config=config), mesh, (2,), (12,)).steps

  assert (planned(0), planned(5), planned(1, 'gpu')) == (1, 5, 1)
  assert planned(0, 'gpu') == planned(0, 'tpu') == module.AUTO_STEPS
  # images of 256 bytes: a stack of 8 batches of up to 64 MiB
  assert planned(0, 'gpu', batch=2**15) == module.AUTO_STEPS
  assert planned(0, 'gpu', batch=2**15 + 8) == 1
  monkeypatch.setattr(module, '_SMALL', 10)
  assert planned(0, 'gpu') == 1


@pytest.fixture(scope='module')
def after(run):
  """A function of (most steps a call, whether images are on the devices, where calls end, what to
  spoil): the state and the tally after 7 steps.
  """
  mesh, programs = make_mesh(), {}
  optimizer = make_optimizer(run.config.optimizer, 12)

  def stepped(steps, there, ends, spoil=lambda state: state):
    calls = Calls(steps, (100,), ends, THERE if there else HERE)
    state = spoil(jax.tree.map(np.array, new_state(run.params, run.stats, optimizer)))
    state, tally = place((state, new_tally(run.tasks)), everywhere(mesh))
    feed, step = Feed(run, calls, mesh), 0
    feed.open()
    if (steps, there) not in programs:
      call = jit_step(run, optimizer, mesh, everywhere(mesh), calls)
      programs[steps, there] = call.lower(state, tally, feed.shapes()).compile()
    for batch in to_devices(feed.loaded(0, 7), mesh, axis=feed.axis):
      count = calls.length(step)
      state, tally = programs[steps, there](state, tally, feed.fed(batch, count))
      step += count
    assert step == 7
    return jax.device_get((state, tally))

  return stepped


def test_the_bits_do_not_depend_on_where_calls_end_and_images_are(after):
  plain, many = after(1, False, (7,)), after(3, False, (7,))
  for expected, found in (
    (plain, after(1, True, (7,))),
    (many, after(3, False, (2, 7))),
    (many, after(3, True, (7,))),
  ):
    assert (found[0].step, found[1].steps) == (7, 7)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  # The body of a loop is another program than the step, which rounds differently.
  one, other = (
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.params)])
    for state, _ in (plain, many)
  )
  assert np.linalg.norm(one - other) < 1e-5 * np.linalg.norm(one)
  assert plain[1].counts['smile']['n'] == many[1].counts['smile']['n']


def test_the_first_bad_step_is_found_in_the_middle_of_a_call(after):
  def spoilt(state):
    jax.tree.leaves(state.opt_state)[-2].flat[0] = np.inf  # moves a weight in the first step
    return state

  assert after(3, False, (7,), spoilt)[1].first_bad_step == 2


@pytest.mark.parametrize('kind', MIXTURES)
def test_what_is_gathered_on_the_devices_is_the_batch(kind):
  from tests.data.test_loader import four_sources

  made, mesh = four_sources(), make_mesh()
  made[1] = made[1].take(np.array([30, 2, 17, 9, 4]))
  mixture = make_mixture(kind, made, seed=5, batch_size=8)
  drawn, whole = DrawSource(made, mixture, 8), BatchSource(made, mixture, 8)
  data = resident.place_sources(made, mesh)
  gather = jax.jit(lambda data, batch: resident.gathered(data, batch, (16, 16, 1)))
  for step in range(12):
    expected = whole[step] | {'stop': np.zeros(8, np.int32)}
    found = jax.device_get(gather(data, drawn[step] | {'stop': np.zeros(8, np.int32)}))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  for source in (drawn, whole):
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), source[3])
    assert jax.tree.map(lambda x: (x.shape, x.dtype), source.shapes()) == shapes


def test_where_images_are(run, monkeypatch):
  mesh, size = make_mesh(), 64 * 256

  def planned(store):
    return resident.plan_residence(store, run.sources, mesh)

  assert planned('auto') == planned('memory') == planned('stream') == HERE, 'CPUs have one memory'
  monkeypatch.setattr(resident.memory, 'available', lambda: 4 * size)
  assert planned('device').there
  assert planned('device').text == (
    '64 images, 0.00 GB decoded: on each device (0.0 GB of memory free on a device, of which 25% '
    'may be used)'
  )
  monkeypatch.setattr(resident.memory, 'available', lambda: 4 * size - 1)
  assert not planned('device').there
  assert ': not on the devices (' in planned('device').text
  monkeypatch.setattr(resident.memory, 'available', lambda: 4 * size)
  monkeypatch.setattr(run.sources[0].images, 'store', 'stream')
  assert not planned('device').there, 'more than fits on the host'


def test_a_run_in_calls_is_stopped_and_goes_on_with_the_same_bits(
  tiny_run, tiny_data, tmp_path, capsys, monkeypatch
):
  config = get_config()
  config.store, config.steps_a_call, config.log_every = 'device', 3, '3 steps'
  train(config, tmp_path / 'whole', tiny_data)
  assert 'images, 0.00 GB decoded: on each device' in capsys.readouterr().out
  lines = read_metrics(tmp_path / 'whole')
  assert [line['step'] for line in lines] == [3, 6, 9, 12]
  assert [line['epoch'] for line in lines] == pytest.approx(
    [step * 8 / 60 for step in (3, 6, 9, 12)]
  )

  config.store = 'memory'  # and what it is may change
  calls = itertools.count(1)
  with monkeypatch.context() as patched:
    asked = contextlib.nullcontext(lambda: next(calls) >= 2)
    patched.setattr(train_module, 'StopRequest', lambda: asked)
    with pytest.raises(Preempted, match=r'stopped at step (\d+) of 12, which is saved$') as stopped:
      train(config, tmp_path / 'parts', tiny_data)
  step = int(re.search(r'step (\d+)', str(stopped.value))[1])
  assert step in (4, 6, 8, 9), 'the end of a call'
  config.store = 'device'
  train(config, tmp_path / 'parts', tiny_data)
  whole, parts = (Checkpoints(tmp_path / name) for name in ('whole', 'parts'))
  assert whole.steps == parts.steps == [4, 8, 12]
  assert [whole.checksum(step) for step in whole.steps] == [
    parts.checksum(step) for step in parts.steps
  ]


def test_an_error_of_the_compiler_is_raised(tiny_data, tmp_path, monkeypatch):
  def broken(*_):
    raise ValueError('this cannot be traced')

  monkeypatch.setattr(train_module, 'jit_step', lambda *_: jax.jit(broken))
  with pytest.raises(ValueError, match='this cannot be traced'):
    train(get_config(), tmp_path / 'run', tiny_data)
