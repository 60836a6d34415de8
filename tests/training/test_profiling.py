"""The window of steps that is traced."""

import jax
import numpy as np
import pytest

from mtface.config.checks import check
from mtface.errors import UserError
from mtface.training.loop import train
from mtface.training.profiling import Profile
from tests.tiny import get_config


def traced(folder):
  return sorted(path.name.partition('.')[2] for path in folder.rglob('*') if path.is_file())


class Traces:
  """In place of the profiler: what it was asked for."""

  def __init__(self):
    self.calls = []

  def start_trace(self, folder):
    self.calls.append('start')

  def stop_trace(self):
    self.calls.append('stop')


@pytest.fixture
def traces(monkeypatch):
  found = Traces()
  monkeypatch.setattr(jax.profiler, 'start_trace', found.start_trace)
  monkeypatch.setattr(jax.profiler, 'stop_trace', found.stop_trace)
  return found


def window(start, steps):
  config = get_config().profile
  config.start, config.steps = start, steps
  return config


def stepped(profile, traces, first, last):
  with profile:
    for step in range(first, last):
      profile.before(step)
      traces.calls.append(step + 1)
      profile.after(step + 1, np.zeros(1))
  return traces.calls


@pytest.mark.parametrize(
  ('first', 'last', 'expected'),
  [
    (0, 5, [1, 2, 'start', 3, 4, 'stop', 5]),
    (0, 3, [1, 2, 'start', 3, 'stop']),  # it ends before
    (3, 5, ['start', 4, 'stop', 5]),  # continued within
    (4, 6, [5, 6]),  # continued after
  ],
)
def test_the_steps_of_the_window_are_traced(tmp_path, traces, first, last, expected):
  profile = Profile(window(2, 2), tmp_path)
  assert profile.points == (2, 4)
  assert stepped(profile, traces, first, last) == expected


def test_none_by_default(tmp_path, traces):
  profile = Profile(get_config().profile, tmp_path)
  assert (profile.points, stepped(profile, traces, 0, 20)) == ((), list(range(1, 21)))
  assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path, traces):
  (tmp_path / 'profile').write_text('a file')
  with pytest.raises(
    UserError, match=r'profile: a profile cannot be written .* config\.profile\.steps=0'
  ):
    stepped(Profile(window(0, 2), tmp_path), traces, 0, 2)


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('profile.start', -1, 'at least 0'),
    ('profile.steps', 1001, 'from 0 to 1,000, since a profile grows with each'),
    ('steps_a_call', 1001, 'from 0 to 1,000'),
  ],
)
def test_values_that_are_none(field, value, words):
  config = get_config()
  with config.unlocked():
    config.update_from_flattened_dict({field: value})
  with pytest.raises(
    UserError, match=rf'config.{field}: {value} is out of range; it must be {words}'
  ):
    check(config, 1)


def test_a_run_leaves_a_trace(tiny_data, tmp_path, capsys):
  config = get_config()
  config.profile.start, config.profile.steps = 1, 2
  config.duration = '4 steps'
  train(config, tmp_path / 'run', tiny_data)
  names = traced(tmp_path / 'run' / 'profile')
  assert 'xplane.pb' in names and 'trace.json.gz' in names
  assert f'profile: {tmp_path}/run/profile' in capsys.readouterr().out
