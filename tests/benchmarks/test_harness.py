"""Turns, ratios and distances against NumPy; processes that are stopped except in their turn; what
differs is not timed; what was measured is not measured again.
"""

import collections
import dataclasses
import json
import os
import pathlib
import re
import sys
import time

import numpy as np
import psutil
import pytest

from benchmarks import harness
from benchmarks.harness import Case, Child, Command, Failed, Own, Program, Whole

WORKS = 'tests.benchmarks.works'
OPTIONS = harness.Options(sys.executable, sys.executable, rounds=3, seconds=0, turn=0.001)


@dataclasses.dataclass
class Fake:
  """Takes its turns from a list."""

  name: str
  times: list
  order: list

  def turn(self):
    self.order.append(self.name)
    return {'wall': self.times[self.order.count(self.name) - 1], 'cpu': 0.0}


def test_contestants_take_turns_and_another_begins_in_every_round():
  order = []
  fakes = [Fake(name, [1.0, 2.0, 3.0, 4.0], order) for name in 'ABC']
  found = harness.alternate(fakes, rounds=4, seconds=0)
  assert ''.join(order) == 'ABC' + 'BCA' + 'CAB' + 'ABC'
  assert [turn['wall'] for turn in found['B']] == [1.0, 2.0, 3.0, 4.0]


def test_rounds_go_on_for_their_seconds(monkeypatch):
  clock = iter(range(0, 1000, 10))
  monkeypatch.setattr(harness.time, 'monotonic', lambda: next(clock))
  found = harness.alternate([Fake('A', [1.0] * 100, [])], rounds=2, seconds=65)
  assert len(found['A']) == 8  # two without a look at the clock, then at 10, 20, ..., 60 s


def test_a_ratio_is_of_pairs_and_not_of_medians():
  rng = np.random.default_rng(0)
  company = rng.uniform(1, 50, 101)  # of the machine: it falls on both
  ours, theirs = 2.0 * company, 3.0 * company
  assert harness.ratio(ours, theirs) == pytest.approx((1.5, 1.5, 1.5))
  noisy = theirs * rng.uniform(0.9, 1.1, 101)
  low, median, high = np.quantile(noisy / ours, [0.25, 0.5, 0.75])
  assert harness.ratio(ours, noisy) == pytest.approx((median, low, high))
  assert harness.ratio(ours, noisy)[0] != pytest.approx(
    np.median(noisy) / np.median(ours), rel=1e-6
  )


def test_a_pair_is_missing():
  with pytest.raises(ValueError):
    harness.ratio([1.0, 2.0], [1.0])


def test_distances_are_shares_of_the_length_of_each_group():
  rng = np.random.default_rng(1)
  a = {
    'gradients/x': rng.normal(size=(3, 4)),
    'gradients/y': rng.normal(size=5),
    'loss': np.array(2.0),
  }
  b = {**a, 'gradients/y': a['gradients/y'] + 0.1, 'loss': np.array(2.5)}
  whole = np.concatenate([a['gradients/x'].ravel(), a['gradients/y']])
  expected = 0.1 * np.sqrt(5) / np.linalg.norm(whole)
  assert harness.distances(a, b) == pytest.approx({'gradients': expected, 'loss': 0.25})
  scaled = {**a, 'scale/gradients': np.array(4.0)}
  assert harness.distances(scaled, b)['gradients'] == pytest.approx(0.1 * np.sqrt(5) / 4)


@pytest.mark.parametrize(
  'found', [{}, {'scores/a': np.ones(3)}, {'scores/a': np.ones(2), 'scores/b': np.ones(2)}]
)
def test_what_is_missing_or_of_another_shape_is_infinitely_far(found):
  distance = harness.distances({'scores/a': np.ones(2)}, found)
  assert distance == {'scores': np.inf} and not harness.agrees(distance)


def test_what_is_no_number_does_not_agree():
  assert not harness.agrees({'loss': float('nan')})
  assert harness.agrees({'loss': 0.0, 'gradients': harness.TOLERANCE['gradients']})


def read(path):
  return pathlib.Path(path).read_text()


def test_machine_facts():
  found = harness.machine()
  assert found['cores'] == len(os.sched_getaffinity(0))
  kilobytes = int(re.search(r'MemTotal:\s+(\d+) kB', read('/proc/meminfo'))[1])
  assert found['memory_gb'] == pytest.approx(kilobytes * 1024 / 1e9, abs=0.1)
  assert found['processor'].split()[0] in read('/proc/cpuinfo')
  assert len(harness.moment()['load_before']) == 3


def test_the_share_that_the_host_gave_away(monkeypatch):
  times = collections.namedtuple('times', 'user system idle steal guest')
  monkeypatch.setattr(harness.psutil, 'cpu_times', lambda: times(130.0, 10.0, 55.0, 5.0, 30.0))
  # of 60 seconds 5; a guest's 30 are also a user's
  assert harness.stolen(times(100.0, 5.0, 35.0, 0.0, 0.0)) == pytest.approx(5 / 60)
  short = collections.namedtuple('short', 'user idle')
  monkeypatch.setattr(harness.psutil, 'cpu_times', lambda: short(2.0, 2.0))
  assert harness.stolen(short(1.0, 1.0)) == 0


# --- Processes ----------------------------------------------------------------------------------


def counting(folder, letter='a', scores=(1.0, 2.0)):
  of = {'to': str(folder / 'steps'), 'letter': letter, 'scores': scores, 'parameters': 7}
  return Program(letter, f'{WORKS}:counting', of)


def is_stopped(child):
  """Soon: a signal takes a moment."""
  for _ in range(500):
    if psutil.Process(child._process.pid).status() == psutil.STATUS_STOPPED:
      return True
    time.sleep(0.01)
  return False


def test_a_child_is_stopped_except_in_its_turn(tmp_path):
  child = Child(counting(tmp_path), sys.executable, tmp_path, 0.001)
  try:
    assert is_stopped(child)
    assert child.facts['facts'] == {'parameters': 7} and child.facts['ready_s'] > 0
    child.steps = 3
    turn = child.turn()
    assert (tmp_path / 'steps').read_text() == 'aaa'
    assert 0 < turn['wall'] < 5 and 0 <= turn['cpu'] < 5
    assert is_stopped(child)
    np.testing.assert_array_equal(child.check(tmp_path)['scores/a'], [1.0, 2.0])
    assert child.facts['versions']['numpy'] == np.__version__
  finally:
    child.close()
  assert child._process.returncode == 0


def test_turns_are_as_long_as_they_should_be(tmp_path):
  child = Child(counting(tmp_path), sys.executable, tmp_path, 0.05)
  child.warm_up()
  child.close()
  assert child.steps > 10  # of a few microseconds each


def test_a_child_that_cannot_run_here_says_why(tmp_path):
  child = Child(Program('x', f'{WORKS}:missing', {'what': 'torch'}), sys.executable, tmp_path, 1)
  assert child.unavailable == 'torch is not installed'
  child.close()


def test_a_child_that_breaks_shows_what_it_said(tmp_path):
  with pytest.raises(Failed, match='this cannot be prepared'):
    Child(Program('x', f'{WORKS}:broken', {}), sys.executable, tmp_path, 1)


def test_a_command_is_timed_as_a_whole(tmp_path):
  code = "import pathlib, sys; pathlib.Path(sys.argv[1], 'x').write_text(sys.argv[2])"
  read = lambda fresh: {'length': float(len((fresh / 'x').read_text()))}  # noqa: E731
  command = Command('c', ['-c', code, '{fresh}', '{case}'], read=read)
  whole = Whole(command, sys.executable, tmp_path)
  turn = whole.turn()
  assert turn['length'] == len(str(tmp_path))
  assert whole.facts['versions']['numpy'] == np.__version__
  assert turn['wall'] > 0 and turn['cpu'] > 0 and turn['peak_mb'] > 1
  assert not list(tmp_path.glob('turn-*'))


def test_time_of_workers_that_nobody_waited_for_counts(tmp_path):
  busy = 'import time\nwhile time.process_time() < 0.5: pass'
  code = f'import subprocess, sys; subprocess.Popen([sys.executable, "-c", {busy!r}])'
  harness.take_orphans()
  turn = Whole(Command('c', ['-c', code]), sys.executable, tmp_path).turn()
  assert turn['cpu'] > 0.5


def test_a_command_that_fails_shows_what_it_said(tmp_path):
  command = Command('c', ['-c', 'raise SystemExit("no such run")'])
  with pytest.raises(Failed, match=r'code 1\nno such run'):
    Whole(command, sys.executable, tmp_path).turn()


def test_what_is_empty_is_unset(monkeypatch):
  monkeypatch.setenv('SET', 'x')
  monkeypatch.setenv('KEPT', '')
  found = harness.environment({'SET': '', 'NEW': 'y'})
  assert 'SET' not in found and found['KEPT'] == '' and found['NEW'] == 'y'


# --- Cases --------------------------------------------------------------------------------------


def test_what_computes_something_else_is_not_timed(tmp_path):
  others = [counting(tmp_path, 'b', (1.0, 2.0001)), counting(tmp_path, 'c', (1.0, 2.1))]
  gone = Program('d', f'{WORKS}:missing', {'what': 'torch'}, peer=True)
  others.append(Program('e', f'{WORKS}:broken', {}, peer=True))
  case = Case('x', [counting(tmp_path), *others, gone], count=5, notes={'paper': '3'})
  found = harness.measure(case, OPTIONS)
  rows = found['contestants']
  assert {name for name, row in rows.items() if 'wall' in row} == {'a', 'b'}
  assert rows['c']['differs'] and rows['c']['distance']['scores'] == pytest.approx(0.1 / 5**0.5)
  assert rows['e']['unavailable'] == 'failed: ValueError: this cannot be prepared'
  assert rows['d']['unavailable'] == 'torch is not installed'
  assert len(rows['a']['wall']) == len(rows['a']['cpu']) == OPTIONS.rounds
  assert found['count'] == 5 and found['notes'] == {'paper': '3'}


def test_ours_must_not_break(tmp_path):
  case = Case('x', [Program('e', f'{WORKS}:broken', {}), counting(tmp_path)])
  with pytest.raises(Failed, match='this cannot be prepared'):
    harness.measure(case, OPTIONS)


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
  """Runs a subject of cases `one` and `two`; returns (result, names of the cases measured now)."""

  def run(*words):
    done = []
    turns = lambda name: lambda _: done.append(name) or {'a': [{'wall': 1.0, 'cpu': 1.0}]}  # noqa: E731
    monkeypatch.setattr(sys, 'argv', ['x', f'--to={tmp_path}', *words])
    harness.main('sub', '', lambda tiny: [Own(name, turns(name)) for name in ('one', 'two')])
    return json.loads((tmp_path / 'sub.json').read_text()), done

  return run


def test_what_is_there_is_not_measured_again(measured):
  result, done = measured('--cases=one')
  assert done == ['one'] and list(result['cases']) == ['one']
  result, done = measured('--rounds=7')
  assert done == ['two'] and list(result['cases']) == ['one', 'two']
  assert measured()[1] == []
  assert measured('--again', '--cases=two')[1] == ['two']


def test_another_machine_is_refused(measured, monkeypatch):
  measured()
  monkeypatch.setattr(harness, 'machine', lambda: {'processor': 'another'})
  with pytest.raises(SystemExit, match=r'measured with machine .*take another --to'):
    measured()


def test_no_case_begins_when_the_time_is_over(measured, monkeypatch, tmp_path):
  clock = iter([0.0, 30.0, 90.0])
  monkeypatch.setattr(harness.time, 'monotonic', lambda: next(clock))
  with pytest.raises(SystemExit) as ended:
    measured('--minutes=1')
  assert ended.value.code == harness.UNFINISHED
  assert list(json.loads((tmp_path / 'sub.json').read_text())['cases']) == ['one']
