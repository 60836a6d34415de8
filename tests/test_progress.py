import itertools

import pytest

from mtface import process
from mtface import progress as module
from mtface.progress import progress, warn


@pytest.fixture
def clock(monkeypatch):
  """Each look at the clock is so many seconds after the one before."""
  state = {'step': 4.0}
  ticks = itertools.accumulate(iter(lambda: state['step'], None), initial=100.0)
  monkeypatch.setattr(module.time, 'monotonic', lambda: next(ticks))
  return state


def test_a_line_every_ten_seconds_where_there_is_no_terminal(clock, capsys):
  assert list(progress('abcdefg', 'decoding', total=7)) == list('abcdefg')
  # The item that comes at 12 s and the one at 24 s: 2 of 7 in 12 s leave 5, and 5 of 7 in 24 s
  # leave 2.
  assert capsys.readouterr().err.splitlines() == [
    'decoding: 2 of 7, about 30 s left',
    'decoding: 5 of 7, about 10 s left',
  ]


def test_short_work_says_nothing(clock, capsys):
  clock['step'] = 1.0
  assert list(progress('abc', 'decoding')) == list('abc')
  assert capsys.readouterr().err == ''


def test_without_a_total_only_the_count(clock, capsys):
  clock['step'] = 11.0
  list(progress(iter('ab'), 'decoding'))
  assert capsys.readouterr().err.splitlines() == ['decoding: 0', 'decoding: 1']


def test_the_other_processes_work_in_silence(clock, capsys, monkeypatch):
  monkeypatch.setattr(process, 'index', 1)
  assert list(progress('abcdefg', 'decoding')) == list('abcdefg')
  warn('a damaged clip')
  assert capsys.readouterr().err == ''


def test_a_warning_is_a_line(capsys):
  warn('a damaged clip')
  assert capsys.readouterr().err == 'mtface: warning: a damaged clip\n'
