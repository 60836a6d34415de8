"""The loop's own clock, with the clocks replaced."""

import pytest

from mtface import process
from mtface.training import health as module


@pytest.fixture
def clock(monkeypatch):
  """A clock that only moves when told."""

  class Clock:
    now = 100.0

    def monotonic(self):
      return self.now

    time = monotonic

  clock = Clock()
  monkeypatch.setattr(module, 'time', clock)
  return clock


def run(health, clock, waits, works):
  """Steps that wait for their batch and then work for so many seconds; the first wait is not a
  step's.
  """

  def batches():
    for wait in waits:
      clock.now += wait
      yield {}

  for work, _ in zip(works, health.waiting(batches()), strict=False):
    clock.now += work


def test_waiting_is_told_from_working(clock):
  health = module.Health()
  run(health, clock, waits=[50, 1, 1, 1], works=[3, 3, 3, 3])
  # From batch to batch three times 3 s of work and 1 s of waiting; the first batch was waited for
  # before there was any step.
  values = health.read()
  assert values == {
    'health/step_seconds': pytest.approx(4),
    'health/input_wait': pytest.approx(1 / 4),
  }
  assert health.read() == {}, 'nothing since'


def test_a_pause_is_no_part_of_a_step(clock):
  health = module.Health()

  def batches():
    for pause in (0, 0, 100, 0):  # before the third batch: evaluation and saving
      if pause:
        health.pause()
        clock.now += pause
      yield {}

  for _ in health.waiting(batches()):
    clock.now += 3
  # Two steps from batch to batch; the one across the pause is not counted.
  assert health.read() == {
    'health/step_seconds': pytest.approx(3),
    'health/input_wait': pytest.approx(0),
  }


def test_the_process_that_comes_last_is_named(monkeypatch, capsys):
  monkeypatch.setattr(process, 'count', 3)
  arrivals = {0: (0.0, 10.0), 1: (0.0, 10.1), 2: (0.7, 10.9)}
  values = module._compare(module.np.array(list(arrivals.values())), step=2.0)
  assert values == {
    'health/input_wait': 0.7,
    'health/last_process': 2.0,
    'health/last_lag': pytest.approx(0.9),
  }
  assert (
    'straggler: process 2 of 3 starts its steps 0.90 s after the first one'
    in capsys.readouterr().err
  )
  module._compare(module.np.array([(0.0, 10.0), (0.0, 10.1)]), step=2.0)
  assert capsys.readouterr().err == '', 'a twentieth of a step is nothing'


def test_what_the_processes_tell_each_other_holds_a_time(clock, monkeypatch):
  """As int32, since JAX has no float64: shares to a millionth, and times of
  today to a millisecond.
  """
  told = []

  def process_allgather(mine):
    assert mine.dtype == module.np.int32
    told.append(mine)
    return module.np.stack([mine, mine + module.np.array([250_000, 2_500], module.np.int32)])

  monkeypatch.setattr(module.multihost_utils, 'process_allgather', process_allgather)
  monkeypatch.setattr(process, 'count', 2)
  clock.now = 1_795_000_000.0  # a Wednesday in 2026
  health = module.Health()
  run(health, clock, waits=[50, 1, 1, 1], works=[3, 3, 3, 3])
  values = health.read()
  # Batches came 50, 54, 58 and 62 s after the start: at 56 s in the mean.
  assert told[0].tolist() == [250_000, 1_795_000_056_000 % 2**30]
  assert values == {
    'health/step_seconds': pytest.approx(4),
    'health/input_wait': pytest.approx(0.5),
    'health/last_process': 1.0,
    'health/last_lag': pytest.approx(2.5),
  }
