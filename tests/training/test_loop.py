import contextlib
import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest

from mtface.data.loader import BatchSource, load_batches
from mtface.errors import Preempted, UserError
from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.evaluator import Evaluator
from mtface.models.paths import by_path
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.training import loop as train_module
from mtface.training.checkpoints import Checkpoints
from mtface.training.logs import read_metrics
from mtface.training.loop import train
from mtface.training.optim import make_optimizer
from mtface.training.run import prepare
from mtface.training.start import saved_weights
from mtface.training.state import new_state
from mtface.training.tally import NEVER, check_finite, new_tally, summarize_tally
from tests.states import saved_state
from tests.tiny import get_config


@pytest.fixture(scope='module')
def run(tiny_data):
  return prepare(get_config(), tiny_data)


@pytest.fixture(scope='module')
def stepped(run, tiny_step):
  """The state before, the state and the sums after 15 steps of 8: two epochs of 60 samples."""
  mesh = make_mesh()
  optimizer = make_optimizer(run.config.optimizer, run.steps)
  before = jax.device_get(new_state(run.params, run.stats, optimizer))
  state, tally = place((before, new_tally(run.tasks)), everywhere(mesh))
  for batch in to_devices(load_batches(BatchSource(run.sources, run.mixture, 8), 0, 15), mesh):
    state, tally = tiny_step(state, tally, batch)
  return before, *jax.device_get((state, tally))


def test_every_task_has_seen_as_many_labels(run, stepped):
  # 24 smiles, and 30 of 40 people with a gender: the smiles are repeated until both tasks have 30
  # an epoch.
  assert run.mixture.epoch_size == 60
  tally = stepped[2]
  assert {task: int(tally.counts[task]['n']) for task in run.tasks} == {'smile': 60, 'gender': 60}
  assert (tally.steps, tally.first_bad_step) == (15, NEVER)


def test_a_task_without_labels_has_no_gradient_at_all(run, stepped, tiny_step):
  before, mesh = stepped[0], make_mesh()
  batch = next(load_batches(BatchSource(run.sources, run.mixture, 8), 0, 1))
  batch['mask'] = {'smile': np.ones(8, bool), 'gender': np.zeros(8, bool)}
  batch['labels'] = {'smile': np.arange(8, dtype=np.int32) % 2, 'gender': np.full(8, -1, np.int32)}
  state, tally = place((before, new_tally(run.tasks)), everywhere(mesh))
  state, tally = jax.device_get(tiny_step(state, tally, next(to_devices(iter([batch]), mesh))))
  assert (tally.task_losses['gender'], tally.counts['gender']['n']) == (0, 0)
  momentum = state.opt_state[0].trace['branches']
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(momentum['gender'])), 'exactly'
  jax.tree.map(
    np.testing.assert_array_equal,
    state.params['branches']['gender'],
    before.params['branches']['gender'],
  )
  assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(momentum['smile']['scores']))
  assert np.abs(state.opt_state[0].trace['blocks'][0]['convolutions'][0]['kernel']).max() > 0


def test_summaries_are_means_over_the_steps(run, stepped):
  tally = stepped[2]
  values = summarize_tally(run, tally)
  np.testing.assert_allclose(values['train/loss'], tally.loss / 15, rtol=1e-6)
  # 15 batches of 8, 60 labels a task: the paper's losses, divided by all samples, are half the
  # means over the labelled ones.
  sums = values['train/smile/loss'] + values['train/gender/loss']
  np.testing.assert_allclose(values['train/loss'], sums / 2, rtol=1e-5)
  confusion = tally.counts['smile']['confusion']
  assert values['train/smile/accuracy'] == (confusion[0, 0] + confusion[1, 1]) / 60


@pytest.mark.parametrize('over', ['all', 'labelled'])
def test_losses_of_tasks_are_means_over_the_labelled_whatever_the_mixture(run, over):
  # Two batches of alternate sources: one with 4 smiles, one with 2 genders.
  config = get_config()
  config.loss.over = over
  tally = new_tally(run.tasks)
  counts = {task: {k: v.copy() for k, v in of.items()} for task, of in tally.counts.items()}
  counts['smile']['n'] += 4
  counts['gender']['n'] += 2
  sums = {'smile': np.float32(1.5 * 4), 'gender': np.float32(0.75 * 2)}
  tally = tally._replace(steps=np.int32(2), task_losses=sums, counts=counts)
  values = summarize_tally(dataclasses.replace(run, config=config), tally)
  assert (values['train/smile/loss'], values['train/gender/loss']) == (1.5, 0.75)


def test_an_unlabelled_task_has_no_accuracy(run):
  assert set(summarize_tally(run, new_tally(run.tasks))) == {'train/loss'}


@pytest.mark.parametrize(
  ('text', 'steps'),
  [
    ('7 steps', 7),
    ('1 epochs', 8),
    ('1.5 epochs', 12),
    ('16 examples', 2),
    ('17 examples', 3),
    ('1 examples', 1),
  ],
)
def test_durations_are_counted_in_steps_of_the_run(run, text, steps):
  config = get_config()
  config.duration = config.checkpoint.every = text  # epochs of 60 samples in batches of 8
  changed = dataclasses.replace(run, config=config)
  assert (changed.steps, changed.duration('checkpoint.every')) == (steps, steps)


@pytest.mark.parametrize('field', ['params', 'stats', 'opt_state'])
def test_a_state_that_is_not_finite_is_found(stepped, field):
  state = stepped[1]
  check_finite(3, state)
  spoilt = jax.tree.map(np.array, state)
  jax.tree.leaves(getattr(spoilt, field))[1].flat[0] = np.nan
  with pytest.raises(
    UserError,
    match=rf'step 3: state.{field}.* is not finite; the checkpoints before it are kept. Lower',
  ):
    check_finite(3, spoilt)


def test_the_log_has_a_line_every_log_every_steps(tiny_run):
  lines = read_metrics(tiny_run)
  assert [line['step'] for line in lines] == [2, 4, 6, 8, 10, 12]
  # The rate of the step that ends the line: 0.01 * 0.8^((step - 1) / 10000).
  np.testing.assert_allclose(
    [line['train/learning_rate'] for line in lines][::5],
    [0.01 * 0.8**1e-4, 0.01 * 0.8**11e-4],
    rtol=1e-6,
  )
  assert [line['epoch'] for line in lines] == pytest.approx(
    [step * 8 / 60 for step in (2, 4, 6, 8, 10, 12)]
  )
  health = {'health/step_seconds', 'health/input_wait'}
  assert lines[0].keys() == {
    'step',
    'time',
    'epoch',
    'train/learning_rate',
    'train/loss',
  } | health | {
    f'train/{task}/{what}' for task in ('smile', 'gender') for what in ('loss', 'accuracy')
  }


def test_a_line_is_of_as_many_steps_whatever_is_saved_between(tiny_data, tiny_run, tmp_path):
  config = get_config()
  config.log_every, config.checkpoint.every, config.duration = '4 steps', '3 steps', '6 steps'
  config.evaluation.during_training = ('smiles',)
  train(config, tmp_path / 'run', tiny_data)
  lines = read_metrics(tmp_path / 'run')
  assert [line['step'] for line in lines] == [3, 4, 6]
  assert ['train/loss' in line for line in lines] == [False, True, False]
  assert ['eval/smiles/smile/accuracy' in line for line in lines] == [True, False, True]
  # The line of step 4 is the mean over steps 1 to 4: that of the run whose lines are of 2 steps
  # each.
  of_two = {line['step']: line['train/loss'] for line in read_metrics(tiny_run)}
  assert lines[1]['train/loss'] == pytest.approx((of_two[2] + of_two[4]) / 2, rel=1e-5)
  # Continued at 6: the interval from 5 to 8 is not whole and has no line, that from 9 to 12 has
  # one.
  config.duration = '12 steps'
  train(config, tmp_path / 'run', tiny_data)
  lines = read_metrics(tmp_path / 'run')
  assert [line['step'] for line in lines if 'train/loss' in line] == [4, 12]
  assert lines[-1]['train/loss'] == pytest.approx((of_two[10] + of_two[12]) / 2, rel=1e-5)


def test_images_that_are_decoded_as_they_are_used_train_the_same(
  tiny_run, tiny_data, tmp_path, capsys
):
  config = get_config()
  config.store = 'stream'
  train(config, tmp_path / 'run', tiny_data)
  assert capsys.readouterr().out.count('decoded as needed') == 2
  for step in (4, 8, 12):
    assert Checkpoints(tmp_path / 'run').checksum(step) == Checkpoints(tiny_run).checksum(step)
  # A run may go on where there is more memory, or less.
  config.store, config.duration = 'memory', '13 steps'
  train(config, tmp_path / 'run', tiny_data)
  assert Checkpoints(tmp_path / 'run').steps[-1] == 13


def test_sets_are_measured_at_every_checkpoint_and_the_best_is_marked(tiny_data, tmp_path):
  config = get_config()
  config.evaluation.during_training = ('smiles', 'people')
  config.evaluation.best_on = ('people',)
  train(config, tmp_path, tiny_data)
  lines = read_metrics(tmp_path)
  assert [line['step'] for line in lines] == [2, 4, 6, 8, 10, 12], (
    'one line a step, with all that is known of it'
  )
  measured = {line['step']: line for line in lines if 'eval/people/gender/accuracy' in line}
  assert list(measured) == [4, 8, 12]
  evaluator = Evaluator(tmp_path, tiny_data)
  source = evaluator.source('people')
  state = saved_state(evaluator, 12)
  logits = evaluator.scorer.scores(state.params, state.stats, source)['gender'].astype(np.float64)
  of_label = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), source.labels['gender']]
  np.testing.assert_allclose(
    measured[12]['eval/people/gender/loss'], of_label[source.mask['gender']].mean(), rtol=1e-5
  )
  accuracies = {step: line['eval/people/gender/accuracy'] for step, line in measured.items()}
  best = max(accuracies, key=lambda step: (accuracies[step], step))
  assert Checkpoints(tmp_path).best_step() == best
  # What training measured is what evaluation measures.
  for step in measured:
    rows = evaluate(tmp_path, tiny_data, checkpoints=[str(step)])
    assert {row['set']: row['accuracy'] for row in rows} == {
      'people': accuracies[step],
      'smiles': measured[step]['eval/smiles/smile/accuracy'],
    }
  (row,) = evaluate(tmp_path, tiny_data, checkpoints=['best'], on=['people'])
  assert (row['steps'], row['accuracy']) == ([best], accuracies[best])


def test_a_request_to_stop_of_any_process_is_in_the_sums_from_then_on(run, stepped, tiny_step):
  mesh = make_mesh()
  batch = next(load_batches(BatchSource(run.sources, run.mixture, 8), 0, 1))
  seen = []
  state, tally = place((stepped[0], new_tally(run.tasks)), everywhere(mesh))
  for asked in ((), (5,), ()):  # in the share of one process, once
    placed = next(to_devices(iter([dict(batch)]), mesh))
    placed['stop'] = jax.device_put(
      np.isin(np.arange(8), asked).astype(np.int32), placed['stop'].sharding
    )
    state, tally = tiny_step(state, tally, placed)
    seen.append(int(tally.stop))
  assert seen == [0, 1, 1]


def test_a_run_that_is_asked_to_stop_saves_its_step_and_goes_on_from_there(
  tiny_run, tiny_data, tiny_step, tmp_path, monkeypatch
):
  monkeypatch.setattr(train_module, 'jit_step', lambda *_: tiny_step)  # which is compiled already
  calls = itertools.count(1)
  with monkeypatch.context() as patched:
    asked = contextlib.nullcontext(lambda: next(calls) >= 5)
    patched.setattr(train_module, 'StopRequest', lambda: asked)
    with pytest.raises(Preempted, match=r'stopped at step (\d+) of 12, which is saved$') as stopped:
      train(get_config(), tmp_path, tiny_data)
  step = int(re.search(r'step (\d+)', str(stopped.value))[1])
  assert 5 <= step <= 8, 'the batch that says so was the fifth to be read, a few ahead of the steps'
  assert Checkpoints(tmp_path).steps[-1] == step
  with pytest.raises(UserError, match='no checkpoint is marked best'):
    Checkpoints(tmp_path).best_step()
  train(get_config(), tmp_path, tiny_data)
  found, expected = (by_path(saved_weights(workdir)[0]) for workdir in (tmp_path, tiny_run))
  assert found.keys() == expected.keys()
  for name, x in expected.items():
    np.testing.assert_array_equal(found[name], x, err_msg=name)
