"""The search: its space, its trials, what others and kills leave behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mtface.config.schema import source
from mtface.errors import Diverged, UserError
from mtface.evaluation import search as searching
from mtface.evaluation.search import Axis, search, space_of
from mtface.training.checkpoints import steps_of
from tests.tiny import get_config

optuna = pytest.importorskip('optuna')


def test_the_space():
  assert space_of('config.optimizer.rate=0.003:0.1:log; batch_size=64,128;model.dropout=0:0.5') == [
    Axis('optimizer.rate', (), 0.003, 0.1, True),
    Axis('batch_size', ('64', '128')),
    Axis('model.dropout', (), 0.0, 0.5),
  ]
  assert space_of('augment.pad=0:8') == [Axis('augment.pad', (), 0, 8, whole=True)]


@pytest.mark.parametrize(
  'wrong',
  ['', 'rate', 'rate=', 'a=0.1:x', 'a=2:1', 'a=0:1:log', 'a=1:2:lin', 'a=1,2;a=3', 'a=0:inf'],
)
def test_what_is_no_space(wrong):
  with pytest.raises(UserError, match='--over='):
    space_of(wrong)


def config_of():
  config = get_config()
  config.evaluation.sets.chosen = source('tiny/smile:test', 'smile')
  config.evaluation.best_on = ('chosen',)
  config.duration, config.checkpoint.every = '4 steps', '2 steps'
  return config


OVER = 'optimizer.rate=0.001:0.1:log;optimizer.momentum=0.0,0.9'


@pytest.fixture
def scored(monkeypatch):
  """Trials are not trained: a score that follows from the rate, best at 0.01."""
  import math

  def train(config, folder, data_dir, behind=None):
    if config.optimizer.rate > 0.09:
      raise Diverged('step 1: the loss is not finite')
    score = (
      1 - abs(math.log10(config.optimizer.rate) + 2) / 4 - (config.optimizer.momentum == 0) / 8
    )
    for step in (2, 4):
      if behind('main', step, score):
        break
    scores[str(folder)] = score

  class Scores:
    def __init__(self, folder, stage):
      self.folder = folder

    def best_step(self):
      return 4

    def metrics(self, step):
      return {'best': scores[str(self.folder)]}

  scores = {}
  monkeypatch.setattr(searching, 'train', train)
  monkeypatch.setattr(searching, 'Checkpoints', Scores)


def test_it_finds_what_is_better_than_chance(scored, tiny_data, tmp_path):
  found = search(config_of(), OVER, 30, tmp_path, tiny_data)
  assert len(found) == 30
  best = found[0]
  assert best['score'] > 0.97 and best['values']['optimizer.momentum'] == '0.9'
  assert 0.005 < float(best['values']['optimizer.rate']) < 0.02
  states = [of['state'] for of in found]
  assert states.count('pruned') > 0 and {*states} <= {'complete', 'pruned', 'fail'}
  assert [of['score'] for of in found if of['score'] is not None] == sorted(
    (of['score'] for of in found if of['score'] is not None), reverse=True
  )
  assert json.loads((tmp_path / 'best.json').read_text())['number'] == best['number']
  with (tmp_path / 'search.csv').open(newline='') as file:
    assert len(list(csv.DictReader(file))) == 30
  # the same command adds nothing; more trials go on
  assert len(search(config_of(), OVER, 30, tmp_path, tiny_data)) == 30
  assert len(search(config_of(), OVER, 32, tmp_path, tiny_data)) == 32


def test_only_what_is_chosen_by_is_measured():
  config = config_of()
  config.evaluation.during_training = ('smiles', 'people')
  assert searching._chosen_by(config).evaluation.during_training == ('chosen',)
  assert config.evaluation.during_training == ('smiles', 'people'), 'a copy'


def test_another_search_is_not_mixed_in(scored, tiny_data, tmp_path):
  search(config_of(), OVER, 1, tmp_path, tiny_data)
  with pytest.raises(UserError, match='holds a search with --over='):
    search(config_of(), 'optimizer.momentum=0.5,0.9', 2, tmp_path, tiny_data)
  config = config_of()
  config.seed = 1
  with pytest.raises(UserError, match='holds a search with another config'):
    search(config, OVER, 2, tmp_path, tiny_data)


def test_bad_input_is_told_before_anything_is_trained(tiny_data, tmp_path):
  with pytest.raises(UserError, match='best_on: names no set'):
    search(get_config(), OVER, 1, tmp_path, tiny_data)
  with pytest.raises(UserError, match='has no field'):
    search(config_of(), 'optimizer.speed=1,2', 1, tmp_path, tiny_data)
  with pytest.raises(UserError, match='expected int'):
    search(config_of(), 'batch_size=8.5,9.5', 1, tmp_path, tiny_data)
  assert not list(tmp_path.iterdir())


def test_a_trial_of_bad_input_ends_the_search_and_is_not_tried_again(tiny_data, tmp_path):
  # 6 does not divide by the ghost batch of 4
  config = config_of()
  config.ghost_batch = 4
  with pytest.raises(UserError, match='ghost_batch'):
    search(config, 'batch_size=4,6', 20, tmp_path, tiny_data)
  with (tmp_path / 'search.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['state'] for row in rows if row['batch_size'] == '6'] == ['fail']
  assert 'ghost_batch' in rows[-1]['error']


def test_a_killed_trial_is_taken_up_where_it_was(tiny_data, tmp_path):
  over = 'optimizer.rate=0.001:0.01:log'
  program = (
    'import sys; from tests.evaluation.test_search import config_of;'
    'from mtface.evaluation.search import search;'
    'config = config_of(); config.duration = "4000 steps";'
    f'search(config, {over!r}, 2, sys.argv[1], sys.argv[2])'
  )
  process = subprocess.Popen([sys.executable, '-c', program, str(tmp_path), str(tiny_data)])
  deadline = time.monotonic() + 120
  while time.monotonic() < deadline:
    begun = list(tmp_path.glob('trials/*/checkpoints/main'))
    if begun and len(steps_of(begun[0].parents[1], 'main')) >= 2:
      break
    time.sleep(0.2)
  process.send_signal(signal.SIGKILL)
  process.wait()
  (folder,) = tmp_path.glob('trials/*')
  (_, second, *_) = steps_of(folder, 'main')
  assert second >= 4, 'it was killed in its first trial'
  config = config_of()
  config.duration = '4000 steps'
  study = searching._study(optuna, tmp_path, searching._chosen_by(config), over)
  (trial,) = study.get_trials()
  assert trial.state == optuna.trial.TrialState.RUNNING
  time.sleep(max(0.0, 10.5 - (time.time() - trial.datetime_start.timestamp())))
  assert searching._set_aside(optuna, study, tmp_path) == 1
  again = study.ask()
  value = Axis('optimizer.rate', (), 0.001, 0.01, True).suggest(again)
  assert searching._folder({'optimizer.rate': value}) == folder.name
  assert os.path.exists(folder / 'checkpoints')
