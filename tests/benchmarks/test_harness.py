"""What differs is not timed; what was measured is not measured again."""

import json
import sys

import pytest

from benchmarks import harness
from benchmarks.contestants import Failed, Program
from benchmarks.harness import Case, Own
from tests.benchmarks.works import WORKS, contestant

OPTIONS = harness.Options(sys.executable, sys.executable, rounds=3, seconds=0, turn=0.001)


def test_what_computes_something_else_is_not_timed(tmp_path):
  others = [contestant(tmp_path, 'b', (1.0, 2.0001)), contestant(tmp_path, 'c', (1.0, 2.1))]
  gone = Program('d', f'{WORKS}:missing', {'what': 'torch'}, peer=True)
  others.append(Program('e', f'{WORKS}:broken', {}, peer=True))
  case = Case('x', [contestant(tmp_path), *others, gone], count=5, notes={'paper': '3'})
  found = harness.measure(case, OPTIONS)
  rows = found['contestants']
  assert {name for name, row in rows.items() if 'wall' in row} == {'a', 'b'}
  assert rows['c']['differs'] and rows['c']['distance']['scores'] == pytest.approx(0.1 / 5**0.5)
  assert rows['e']['unavailable'] == 'failed: ValueError: this cannot be prepared'
  assert rows['d']['unavailable'] == 'torch is not installed'
  assert len(rows['a']['wall']) == len(rows['a']['cpu']) == OPTIONS.rounds
  assert found['count'] == 5 and found['notes'] == {'paper': '3'}


def test_ours_must_not_break(tmp_path):
  case = Case('x', [Program('e', f'{WORKS}:broken', {}), contestant(tmp_path)])
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
