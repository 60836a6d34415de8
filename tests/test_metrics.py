"""Metrics against scikit-learn and SciPy; counts that do not depend on how the samples were
batched.
"""

import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from mtface import metrics, tasks

EMOTION = tasks.TASKS['emotion7']
ACTION_UNITS = tasks.TASKS['action_units']
N = 300


def single_label_data(task, seed=0, labels=None):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, task.num_classes, N) if labels is None else labels
  scores = rng.normal(size=(N, task.num_classes)).astype(np.float32)
  scores[np.arange(N), labels] += 1.0
  mask = rng.random(N) < 0.8
  return scores, np.where(mask, labels, rng.choice([-1, 255], N)), mask


def multi_label_data(task, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 2, (N, task.num_classes))
  scores = (rng.normal(size=labels.shape) + labels - 0.5).astype(np.float32)
  mask = rng.random(labels.shape) < 0.6
  mask[:20] = False
  mask[:, 3] = False  # a class that nobody labelled
  return scores, np.where(mask, labels, -1), mask


def summary_of(task, scores, labels, mask):
  return metrics.summarize(task, metrics.counts(task, scores, labels, mask))


def assert_counts_equal(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_single_label_equals_scikit_learn():
  scores, labels, mask = single_label_data(EMOTION)
  summary = summary_of(EMOTION, scores, labels, mask)
  true, predicted = labels[mask], scores.argmax(axis=-1)[mask]
  assert summary['n'] == mask.sum()
  assert (
    summary['confusion']
    == sklearn.metrics.confusion_matrix(true, predicted, labels=range(7)).tolist()
  )
  assert summary['accuracy'] == pytest.approx(
    sklearn.metrics.accuracy_score(true, predicted), rel=1e-12
  )
  assert summary['correct'] == sklearn.metrics.accuracy_score(true, predicted, normalize=False)
  assert summary['balanced_accuracy'] == pytest.approx(
    sklearn.metrics.balanced_accuracy_score(true, predicted)
  )
  assert summary['macro_f1'] == pytest.approx(
    sklearn.metrics.f1_score(true, predicted, average='macro')
  )
  recall = sklearn.metrics.recall_score(true, predicted, average=None, labels=range(7))
  assert summary['per_class_accuracy'] == pytest.approx(recall.tolist())
  assert 'mae' not in summary


def test_of_shares_of_votes_the_largest_is_the_label():
  scores, labels, mask = single_label_data(EMOTION)
  votes = np.random.default_rng(4).integers(0, 4, (N, EMOTION.num_classes)).astype(np.float32)
  votes[np.arange(N), np.where(mask, labels, 0)] = 4.0
  shares = votes / votes.sum(axis=1, keepdims=True)
  found, expected = (summary_of(EMOTION, scores, x, mask) for x in (shares, labels))
  assert found == expected


# balanced_accuracy_score warns that predictions have a class that labels lack, which is the case
# under test.
@pytest.mark.filterwarnings('ignore:y_pred contains classes')
def test_classes_without_labels_are_left_out_of_the_means():
  labels = np.random.default_rng(1).choice([0, 3, 4], N)
  scores, labels, mask = single_label_data(EMOTION, labels=labels)
  scores[:, [1, 2]] -= (
    100  # classes 1 and 2 are in neither labels nor predictions; 5 and 6 in predictions only
  )
  summary = summary_of(EMOTION, scores, labels, mask)
  true, predicted = labels[mask], scores.argmax(axis=-1)[mask]
  assert {5, 6} < set(predicted.tolist())
  assert [value is None for value in summary['per_class_accuracy']] == [
    False,
    True,
    True,
    False,
    False,
    True,
    True,
  ]
  assert summary['balanced_accuracy'] == pytest.approx(
    sklearn.metrics.balanced_accuracy_score(true, predicted)
  )
  assert summary['macro_f1'] == pytest.approx(
    sklearn.metrics.f1_score(true, predicted, average='macro')
  )


def test_mae_of_ages():
  task = tasks.TASKS['age_years']
  scores, labels, mask = single_label_data(task)
  summary = summary_of(task, scores, labels, mask)
  expected = sklearn.metrics.mean_absolute_error(labels[mask], scores.argmax(axis=-1)[mask])
  assert summary['mae'] == pytest.approx(expected, rel=1e-12)


def test_mae_uses_the_values_of_the_classes():
  task = tasks.Task('ages', ('young', 'old'), values=(10.5, 70.0))
  scores = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
  summary = summary_of(task, scores, np.array([0, 1, 1]), np.ones(3, bool))
  assert summary['mae'] == pytest.approx(59.5 / 3)


def test_multi_label_equals_scikit_learn_class_by_class():
  scores, labels, mask = multi_label_data(ACTION_UNITS)
  summary = summary_of(ACTION_UNITS, scores, labels, mask)
  assert summary['n'] == mask.any(axis=1).sum() == N - 20
  accuracies, f1s = [], []
  for j in range(ACTION_UNITS.num_classes):
    true, predicted = labels[mask[:, j], j], scores[mask[:, j], j] > 0
    assert summary['per_class_n'][j] == len(true)
    if j == 3:
      assert summary['per_class_accuracy'][j] is None
      assert summary['per_class_f1'][j] is None
      continue
    cells = sklearn.metrics.confusion_matrix(true, predicted).ravel().tolist()
    assert [summary[name][j] for name in ('tn', 'fp', 'fn', 'tp')] == cells
    accuracies.append(sklearn.metrics.accuracy_score(true, predicted))
    f1s.append(sklearn.metrics.f1_score(true, predicted))
    assert summary['per_class_accuracy'][j] == pytest.approx(accuracies[-1])
  assert summary['accuracy'] == pytest.approx(np.mean(accuracies))
  assert summary['macro_f1'] == pytest.approx(np.mean(f1s))


def test_many_classes_keep_no_confusion_matrix():
  task = tasks.get_task('identity:1000')
  scores, labels, mask = single_label_data(task)
  totals = metrics.counts(task, scores, labels, mask)
  assert max(np.size(value) for value in totals.values()) == 1000
  summary = metrics.summarize(task, totals)
  true, predicted = labels[mask], scores.argmax(axis=-1)[mask]
  assert summary['confusion'] is None
  assert summary['accuracy'] == pytest.approx(sklearn.metrics.accuracy_score(true, predicted))
  assert summary['macro_f1'] == pytest.approx(
    sklearn.metrics.f1_score(true, predicted, average='macro')
  )


DATA = {
  'emotion7': single_label_data,
  'age_years': single_label_data,
  'identity:300': single_label_data,
  'action_units': multi_label_data,
}


@pytest.mark.parametrize('name', DATA)
def test_counts_do_not_depend_on_batches_padding_order_or_backend(name):
  task = tasks.get_task(name)
  scores, labels, mask = DATA[name](task)
  whole = metrics.counts(task, scores, labels, mask)
  on_device = jax.jit(lambda *batch: metrics.counts(task, *batch))
  for batch_size, seed in ((64, 0), (300, 1)):
    order = np.random.default_rng(seed).permutation(N)
    totals = metrics.zeros(task)
    for start in range(0, N, batch_size):
      rows = order[start : start + batch_size]
      short = batch_size - len(rows)
      batch = [
        np.concatenate([x[rows], np.repeat(x[:1], short, axis=0)]) for x in (scores, labels, mask)
      ]
      batch[0][len(rows) :] = np.nan
      batch[2][len(rows) :] = False
      totals = metrics.add(totals, on_device(*map(jnp.asarray, batch)))
    assert {np.asarray(value).dtype for value in totals.values()} == {np.dtype(np.int32)}
    assert_counts_equal(totals, whole)
    json.dumps(
      metrics.summarize(task, totals), allow_nan=False
    )  # plain Python from arrays on the device, too


def test_zeros_have_the_form_of_counts():
  for name in (*tasks.TASKS, 'identity:1000'):
    task = tasks.get_task(name)
    shape = (2, *task.label_shape)
    empty = metrics.counts(
      task, np.zeros((2, task.num_classes)), np.zeros(shape, int), np.zeros(shape, bool)
    )
    assert_counts_equal(empty, metrics.zeros(task))


def test_no_samples_give_none_and_valid_json():
  for name in ('emotion7', 'age_years', 'action_units', 'identity:1000'):
    task = tasks.get_task(name)
    summary = metrics.summarize(task, metrics.zeros(task))
    assert summary['n'] == 0
    assert summary['accuracy'] is None
    assert summary['macro_f1'] is None
    assert summary.get('mae') is None
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize('shape', [(4,), (4, 1)])
def test_one_score_for_two_classes(shape):
  gender = tasks.TASKS['gender']
  labels, mask = np.array([1, 0, 0, 1]), np.array([True, True, True, False])
  logits = np.array([2.0, -1.0, 3.0, 9.0]).reshape(shape)
  assert summary_of(gender, logits, labels, mask)['confusion'] == [[1, 1], [0, 1]]
  probabilities = 1 / (1 + np.exp(-logits))
  totals = metrics.counts(gender, probabilities, labels, mask, threshold=0.5)
  assert metrics.summarize(gender, totals)['confusion'] == [[1, 1], [0, 1]]


@pytest.mark.parametrize('name', ['action_units', 'celeba_attributes', 'gender'])
def test_probabilities_at_a_half_are_counted_as_logits_at_zero(name):
  task = tasks.TASKS[name]
  shape = (N, *task.label_shape)
  rng = np.random.default_rng(0)
  logits, labels, mask = (
    rng.normal(size=shape).astype(np.float32),
    rng.integers(0, 2, shape),
    rng.random(shape) < 0.7,
  )
  of_logits = metrics.counts(task, logits, labels, mask)
  for form in (np.asarray, jnp.asarray):
    probabilities = form(scipy.special.expit(logits))
    assert_counts_equal(metrics.counts(task, probabilities, labels, mask, threshold=0.5), of_logits)
  # By hand, so that the two are not wrong together.
  yes = (logits > 0).reshape(N, -1)
  predicted = (yes & mask.reshape(N, -1)).sum(0)
  found = (
    of_logits['tp'] + of_logits['fp'] if task.multi_label else of_logits['confusion'][:, 1].sum()
  )
  np.testing.assert_array_equal(found, predicted if task.multi_label else predicted[0])


def test_narrow_labels_do_not_wrap_around():
  task = tasks.TASKS['age_years']  # label * 117 leaves uint8 from the third year on
  labels = np.arange(100, dtype=np.uint8)
  scores = np.eye(117, dtype=np.float32)[:100]
  for form in (np.asarray, jnp.asarray):
    assert summary_of(task, form(scores), form(labels), form(np.ones(100, bool)))['accuracy'] == 1.0


def test_shapes_of_another_task_are_refused():
  with pytest.raises(ValueError, match='action_units'):
    metrics.counts(ACTION_UNITS, np.zeros((4, 11)), np.zeros(4, int), np.ones(4, bool))
  with pytest.raises(ValueError, match='emotion7: scores'):
    metrics.counts(EMOTION, np.zeros((4, 8)), np.zeros(4, int), np.ones(4, bool))


@pytest.mark.parametrize('level', [0.9, 0.95])
@pytest.mark.parametrize(('successes', 'n'), [(0, 10), (1, 10), (10, 10), (952, 1000), (1, 1)])
def test_wilson_interval(successes, n, level):
  expected = scipy.stats.binomtest(successes, n).proportion_ci(level, method='wilson')
  assert metrics.wilson_interval(successes, n, level) == pytest.approx(
    (expected.low, expected.high), abs=1e-12
  )


def test_wilson_interval_of_nothing_says_nothing():
  assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
  with pytest.raises(ValueError, match='3 successes of 2'):
    metrics.wilson_interval(3, 2)


# --- Age read-out (Savchenko 2021, eq. 1), by hand ------------------------------------------------

PROBABILITIES = np.array([[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]])
YEARS = (10.0, 20.0, 40.0, 80.0)


@pytest.mark.parametrize(
  ('top', 'expected'),
  [
    (1, [10.0, 80.0]),
    (2, [(0.5 * 10 + 0.3 * 20) / 0.8, (0.4 * 80 + 0.3 * 40) / 0.7]),
    (3, [5.0 + 6.0 + 8.0, (32.0 + 12.0 + 4.0) / 0.9]),
    (4, [19.0, 1.0 + 4.0 + 12.0 + 32.0]),
  ],
)
def test_the_expected_value_of_the_most_probable_classes(top, expected):
  np.testing.assert_allclose(metrics.expected_value(PROBABILITIES, YEARS, top), expected)
  # It is a mean, so a common factor is nothing to it: float32 probabilities need not add up to 1
  # exactly.
  np.testing.assert_allclose(metrics.expected_value(PROBABILITIES * 7, YEARS, top), expected)


def test_expected_value_takes_the_first_of_equals_as_argmax_does():
  assert metrics.expected_value(np.full((1, 4), 0.25), YEARS, 1) == YEARS[np.full(4, 0.25).argmax()]
  assert metrics.expected_value(np.full((1, 4), 0.25), YEARS, 3) == pytest.approx(
    (10 + 20 + 40) / 3
  )


@pytest.mark.parametrize(
  ('probabilities', 'values', 'top', 'message'),
  [
    (PROBABILITIES, YEARS, 0, 'top is 0; expected 1 to 4'),
    (PROBABILITIES, YEARS, 5, 'top is 5; expected 1 to 4'),
    (PROBABILITIES, YEARS[:3], 1, r'probabilities \(2, 4\) and values \(3,\)'),
    (PROBABILITIES - 0.1, YEARS, 1, 'negative'),
    (np.zeros((1, 4)), YEARS, 1, 'all zero'),
    (np.full((1, 4), np.nan), YEARS, 1, 'not numbers'),
  ],
)
def test_what_has_no_expected_value(probabilities, values, top, message):
  with pytest.raises(ValueError, match=message):
    metrics.expected_value(probabilities, values, top)


def test_counts_of_a_sharded_batch():
  # In a process of its own: the number of devices is fixed when JAX starts.
  script = """
    import jax, numpy as np
    from mtface import metrics, tasks

    mesh = jax.make_mesh((8,), ('data',))
    batch, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (['data'], []))
    for name in ('emotion7', 'identity:300', 'action_units'):
      task, rng = tasks.get_task(name), np.random.default_rng(0)
      shape = (64, *task.label_shape)
      scores, labels = rng.normal(size=(64, task.num_classes)), rng.integers(0, 2, shape)
      data = scores, labels, rng.random(shape) < 0.6
      counted = lambda *a: metrics.counts(task, *a)
      sharded = jax.jit(counted, in_shardings=batch, out_shardings=everywhere)
      jax.tree.map(np.testing.assert_array_equal, sharded(*data), metrics.counts(task, *data))
    print('done on', len(jax.devices()))
  """
  environment = os.environ | {
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    'JAX_PLATFORMS': 'cpu',
  }
  result = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(script)],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.stdout == 'done on 8\n', result.stderr


def test_ages_rank_by_their_error_and_the_rest_by_accuracy():
  age, smile = tasks.get_task('age_years'), tasks.get_task('smile')
  summary = {'accuracy': 0.25, 'mae': 11.6}
  assert metrics.ranking_score(smile, summary) == 0.25
  assert metrics.ranking_score(age, summary) == pytest.approx(1 - 11.6 / 116)  # years 0 to 116
  assert metrics.ranking_score(age, {'accuracy': 0.3, 'mae': 12.0}) < metrics.ranking_score(
    age, summary
  )
