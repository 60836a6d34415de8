"""A run that ends before its last step, when it is continued, and when its end moves."""

import math

import pytest

from mtface.config.checks import check
from mtface.errors import UserError
from mtface.training import ending as module
from mtface.training.checkpoints import Checkpoints
from mtface.training.checks import check_experiment
from mtface.training.ending import Ending
from mtface.training.loop import train
from tests.tiny import get_config


class OfConfig:
  """What `Ending` asks of a run."""

  def __init__(self, patience=0, seconds=None):
    self.config, self.seconds = get_config(), seconds
    self.config.evaluation.patience = patience


@pytest.fixture
def clock(monkeypatch):
  """Seconds that a test sets, as [now]."""
  now = [1000.0]
  monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
  return now


def test_only_a_strictly_better_score_counts(clock):
  ending = Ending(OfConfig(patience=2), {})
  stale = []
  for score in (0.5, 0.6, 0.6, 0.7, 0.7, 0.7):
    ending.measured(score)
    stale.append(ending.stale)
  assert stale == [False, False, False, False, False, True]
  assert 'no better for 2 checkpoints' in ending.why and '0.7000' in ending.why


def test_patience_goes_on_where_it_was(clock):
  first = Ending(OfConfig(patience=3), {})
  for score in (0.6, 0.5):
    first.measured(score)
  second = Ending(OfConfig(patience=3), first.notes())
  assert not second.over
  second.measured(0.6)
  second.measured(0.6)
  assert second.stale and Ending(OfConfig(patience=3), second.notes()).over
  assert not Ending(OfConfig(patience=4), second.notes()).over, 'more patience: it goes on'
  assert not Ending(OfConfig(), second.notes()).over


def test_time_is_counted_over_all_parts_of_a_run(clock):
  first = Ending(OfConfig(seconds=100), {})
  clock[0] += 60
  assert not first.out_of_time and first.seconds_left == 40
  second = Ending(OfConfig(seconds=100), first.notes())
  assert not second.over and not second.out_of_time
  clock[0] += 39.5
  assert not second.out_of_time
  clock[0] += 0.5
  assert second.out_of_time and second.seconds == 100
  third = Ending(OfConfig(seconds=100), second.notes())
  assert third.over
  assert Ending(OfConfig(), second.notes()).seconds_left == math.inf


def steps_in(workdir):
  return Checkpoints(workdir, 'main').steps


def test_a_run_that_gets_no_better_ends_and_stays_ended(tiny_data, tmp_path, capsys):
  config = get_config()
  config.evaluation.during_training = config.evaluation.best_on = ('people',)
  config.evaluation.patience, config.checkpoint.every, config.duration = 1, '2 steps', '40 steps'
  config.optimizer.rate = 1e-12  # nothing moves: the second checkpoint is no better
  train(config, tmp_path / 'run', tiny_data)
  assert steps_in(tmp_path / 'run') == [2, 4]
  assert 'ends at step 4: no better for 1 checkpoints' in capsys.readouterr().out
  train(config, tmp_path / 'run', tiny_data)
  assert 'already trained to step 4: no better' in capsys.readouterr().out
  config.evaluation.patience = 2
  train(config, tmp_path / 'run', tiny_data)
  assert steps_in(tmp_path / 'run') == [2, 4, 6]


def test_a_run_of_some_time_saves_its_end(tiny_data, tmp_path, capsys):
  config = get_config()
  config.duration, config.checkpoint.every = '0.02 minutes', '100000 steps'
  state = train(config, tmp_path / 'run', tiny_data)
  (step,) = steps_in(tmp_path / 'run')
  assert step == int(state.step) > 0
  assert f'ends at step {step:,}: config.duration: 0.02 minutes are over' in capsys.readouterr().out
  config.duration = f'{step + 2} steps'
  train(config, tmp_path / 'run', tiny_data)
  assert steps_in(tmp_path / 'run')[-1] == step + 2, 'it may be made longer'


def test_what_cannot_be_is_refused(tiny_data):
  config = get_config()
  config.evaluation.patience = 3
  with pytest.raises(UserError, match=r'^config.evaluation.patience: needs a set in config.eval'):
    check(config, devices=1)
  config = get_config()
  config.duration, config.optimizer.schedule = '1 hour', 'one_cycle'
  with pytest.raises(UserError, match=r"'1 hour' is not a number of steps, .* schedule one_cycle"):
    check_experiment(config, tiny_data)
  config = get_config()
  config.log_every = '5 minutes'
  with pytest.raises(UserError, match=r"^config.log_every: '5 minutes': expected steps, epochs"):
    check_experiment(config, tiny_data)
