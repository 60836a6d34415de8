"""Measuring batch by batch against NumPy and SciPy on the whole."""

import re
import time

import jax
import numpy as np
import pytest
import scipy.special
from jax._src import monitoring

from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.inference.meter import Meter, measure
from mtface.inference.readout import comparable
from mtface.inference.runner import batches_of
from mtface.losses import softmax_cross_entropy
from mtface.outputs import Outputs
from mtface.tasks import get_task
from tests.command import python
from tests.fakes import fake_source
from tests.states import saved_state

TASKS = {name: get_task(name) for name in ('smile', 'action_units', 'age_years')}
READ = Outputs.heads(TASKS.values()).readout
PARTS = [np.arange(0, 16), np.arange(16, 32), np.arange(32, 37)]


@pytest.fixture(scope='module')
def source():
  return fake_source('a', 37, {'smile': 0.9, 'action_units': 0.6, 'age_years': 0.7})


@pytest.fixture(scope='module')
def scores():
  rng = np.random.default_rng(4)
  return {
    name: rng.normal(size=(37, task.num_classes)).astype(np.float32) for name, task in TASKS.items()
  }


def test_what_is_comparable_are_probabilities(scores):
  found = comparable(scores, READ)
  np.testing.assert_allclose(
    found['smile'], scipy.special.softmax(scores['smile'].astype(float), axis=1)
  )
  np.testing.assert_allclose(
    found['action_units'], scipy.special.expit(scores['action_units'].astype(float))
  )
  kept = comparable({'smile': scores['smile']}, lambda _: 'margins')['smile']
  np.testing.assert_array_equal(kept, scores['smile'])
  assert {values.dtype for values in found.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize('threshold', [0.0, 0.5])
def test_counts_of_probabilities_at_a_half_are_those_of_logits_at_zero(source, scores, threshold):
  given = comparable(scores, READ) if threshold else scores
  units = measure(TASKS, given, source, threshold=threshold)['action_units']
  yes, known = scores['action_units'] > 0, source.mask['action_units']
  labels = source.labels['action_units'] > 0
  assert units['tp'] == (yes & labels & known).sum(axis=0).tolist()
  assert units['fp'] == (yes & ~labels & known).sum(axis=0).tolist()
  assert units['fn'] == (~yes & labels & known).sum(axis=0).tolist()
  assert sum(units['fn']) > 0


@pytest.mark.parametrize('top', [1, 3, 10])
def test_both_errors_of_ages(source, scores, top):
  found = comparable(scores, READ)
  age = measure(TASKS, found, source, threshold=0.5, tops={'age_years': top})['age_years']
  known, labels = np.flatnonzero(source.mask['age_years']), source.labels['age_years']
  probabilities = scipy.special.softmax(scores['age_years'].astype(float), axis=1)
  errors, first = [], []
  for i in known:
    best = sorted(range(probabilities.shape[1]), key=lambda c, i=i: -probabilities[i, c])[:top]
    weights = probabilities[i, best] / probabilities[i, best].sum()
    errors.append(abs((weights * np.asarray(TASKS['age_years'].values)[best]).sum() - labels[i]))
    first.append(abs(best[0] - labels[i]))
  assert age['mae'] == pytest.approx(np.mean(errors))
  assert age['n'] == len(known) < 37
  if top > 1:
    assert age['mae_most_probable'] == pytest.approx(np.mean(first))


def test_batches_add_up_to_the_whole(source, scores):
  found = comparable(scores, READ)
  how = {'threshold': 0.5, 'tops': {'age_years': 4}}
  whole, parts = measure(TASKS, found, source, **how), Meter(TASKS, source, **how)
  for rows in PARTS:
    parts.add({task: values[rows] for task, values in found.items()}, rows)
  summaries = parts.summaries()
  assert summaries.keys() == whole.keys()
  for task, summary in summaries.items():
    for key, value in summary.items():
      assert value == (
        pytest.approx(whole[task][key]) if isinstance(value, float) else whole[task][key]
      ), (task, key)


def test_losses_are_means_over_the_labelled(source, scores):
  meter = Meter(
    TASKS,
    source,
    terms={'smile': softmax_cross_entropy, 'gender': softmax_cross_entropy},
  )
  for rows in PARTS:
    meter.add({task: values[rows] for task, values in scores.items()}, rows)
  logs = scipy.special.log_softmax(scores['smile'].astype(float), axis=1)
  known = source.mask['smile']
  assert meter.losses() == {
    'smile': pytest.approx(-logs[np.arange(37), source.labels['smile']][known].mean())
  }
  assert 0 < known.sum() < 37


def test_tasks_without_a_label_are_not_measured(scores):
  source = fake_source('a', 37, {'smile': 1.0, 'age_years': 0.0})
  assert list(measure(TASKS, scores, source)) == ['smile']


def test_batches_cover_a_source_once_in_order(source):
  batches = list(batches_of(source, 16))
  assert [rows.tolist() for _, rows in batches] == [rows.tolist() for rows in PARTS]
  np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), source.images)


def test_sigmoids_of_scores_far_below_zero_keep_their_order():
  scores = {'emotion7': np.array([[-60.0, -45.0, -50.0]])}
  (found,) = comparable(scores, lambda _: 'sigmoid')['emotion7']
  np.testing.assert_allclose(found, np.exp(scores['emotion7'][0]), rtol=1e-12)
  assert found.argmax() == 1


class Compiled:
  """Counts what is compiled."""

  def __init__(self):
    self.count = 0

  def __call__(self, event, *_, **__):
    self.count += event == '/jax/core/compile/backend_compile_duration'


def test_one_program_serves_all_batches_networks_and_sets(tiny_run, tiny_data):
  evaluator = Evaluator(tiny_run, tiny_data)
  state, people, smiles = saved_state(evaluator, 12), *map(evaluator.source, ('people', 'smiles'))
  assert [len(source) % 8 for source in (people, smiles)] == [4, 4], 'the last batch is filled up'
  scorer, compiled = evaluator.scorer, Compiled()
  jax.monitoring.register_event_duration_secs_listener(compiled)
  try:
    whole = scorer.scores(state.params, state.stats, people)
    assert compiled.count > 0
    compiled.count = 0
    scorer.scores(state.params, state.stats, smiles)
    scorer.scores(saved_state(evaluator, 4).params, state.stats, people)
    assert compiled.count == 0
    again = scorer.scores(state.params, state.stats, people.take(np.arange(3)))
  finally:
    monitoring.unregister_event_duration_listener(compiled)
  for task, values in again.items():
    np.testing.assert_array_equal(values, whole[task][:3])


def test_devices_of_one_process_do_not_meet():
  # On CPUs, programs of two networks in which they do can wait for each other for ever.
  result = python('tests.inference.on_devices', devices=8)
  assert result.code == 0, result.err
  assert 'ENTRY' in result.out
  assert not re.search(r'\b(all|reduce|collective)-', result.out), result.out


def test_batches_are_read_while_others_are_worked_on(source, monkeypatch):
  read = []
  gather = type(source).gather
  monkeypatch.setattr(
    type(source), 'gather', lambda self, rows: read.append(len(rows)) or gather(self, rows)
  )
  batches = batches_of(source, 4)
  next(batches)
  deadline = time.monotonic() + 20
  while len(read) < 3 and time.monotonic() < deadline:
    time.sleep(0.01)
  assert 3 <= len(read) < 10, 'a few ahead, not all'


def test_an_error_of_a_reader_is_raised_where_it_is_asked_for(source, monkeypatch):
  def damaged(*_):
    raise UserError('the prepared set cannot be read')

  monkeypatch.setattr(type(source), 'gather', damaged)
  with pytest.raises(UserError, match='cannot be read'):
    list(batches_of(source, 16))
