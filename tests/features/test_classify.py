"""Classifiers on features against scikit-learn's own functions, called on features that the network
made of all faces at once.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn import linear_model, metrics, neighbors, preprocessing, svm

from mtface.data.inputs import scale_images
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.features.classify import (
  CLASSIFIERS,
  Settings,
  check_apart,
  classify,
  fit_predict,
  summarize,
)
from mtface.tasks import get_task
from mtface.training.selection import Selection
from tests.fakes import fake_source, write_prepared

FEW_TREES = Settings(trees=20)


def blobs(size, seed):
  """Three Gaussian clouds in 10 dimensions, far apart."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, size)
  return rng.normal(size=(size, 10)) + 4 * np.eye(3, 10)[labels], labels


@pytest.mark.parametrize('name', list(CLASSIFIERS))
def test_every_classifier_learns_and_repeats_itself(name):
  (x, y), (test_x, test_y) = blobs(200, 0), blobs(100, 1)
  found = fit_predict(name, FEW_TREES, x, y, test_x)
  assert np.mean(found == test_y) > 0.95
  np.testing.assert_array_equal(found, fit_predict(name, FEW_TREES, x, y, test_x))
  shuffled = fit_predict(name, FEW_TREES, x, np.random.default_rng(2).permutation(y), test_x)
  assert np.mean(shuffled == test_y) < 0.6, 'it looks at the labels'


def test_the_forest_has_its_trees_and_seed():
  made = CLASSIFIERS['forest'][1](Settings(trees=7, seed=3))
  assert (made.n_estimators, made.random_state) == (7, 3)
  assert Settings().trees == 1000, 'Savchenko 2021, section 2.2'


def test_what_the_paper_does_not_say_is_scikit_learns_default():
  changed = {}
  for name, (_, make) in CLASSIFIERS.items():
    model = make(Settings(trees=7, seed=3))
    defaults = type(model)().get_params()
    changed[name] = {
      field: value for field, value in model.get_params().items() if value != defaults[field]
    }
  assert changed == {
    'svm': {'random_state': 3, 'max_iter': 5000},
    'forest': {'n_estimators': 7, 'random_state': 3, 'n_jobs': -1},
    'knn': {},
    'linear': {'class_weight': 'balanced', 'max_iter': 2000},
  }


def test_a_summary_has_the_interval_of_scipy():
  labels, predicted = np.array([0, 0, 1, 2, 2, 2, 4]), np.array([0, 1, 1, 2, 2, 0, 4])
  found = summarize(get_task('ethnicity5'), predicted, labels)
  expected = scipy.stats.binomtest(5, 7).proportion_ci(0.95, method='wilson')
  assert (found['n'], found['correct'], found['accuracy']) == (7, 5, 5 / 7)
  assert (found['low'], found['high']) == pytest.approx((expected.low, expected.high))
  assert found['per_class_accuracy'] == [0.5, 1.0, pytest.approx(2 / 3), None, 1.0]
  np.testing.assert_array_equal(
    found['confusion'], metrics.confusion_matrix(labels, predicted, labels=range(5))
  )


@pytest.fixture(scope='module')
def people(tmp_path_factory, tiny_data):
  """A data_dir that has the tiny sets and one more, whose task the network does not know."""
  data_dir = tmp_path_factory.mktemp('data')
  (data_dir / 'tiny').symlink_to(tiny_data / 'tiny')
  tasks = {'ethnicity5': 0.9, 'action_units': 1.0}
  write_prepared(data_dir, 'other/gray16', {'train': 60, 'test': 30}, tasks, seed=3)
  return data_dir


def by_scikit_learn(workdir, data_dir, l2):
  """{classifier: predictions}, and the test labels, of other/gray16."""
  evaluator = Evaluator(workdir, data_dir)
  ((params, stats),) = evaluator.networks(Selection.parse('last'))
  x, y = {}, {}
  for split in ('train', 'test'):
    source = load_source(f'other/gray16:{split}', data_dir, ['ethnicity5'])
    known = np.flatnonzero(source.mask['ethnicity5'])
    images = scale_images(jnp.asarray(source.gather(known)))
    x[split] = np.asarray(jax.jit(evaluator.network.features)(params, stats, images))
    x[split] = preprocessing.normalize(x[split]) if l2 else x[split]
    y[split] = source.labels['ethnicity5'][known]
  made = {
    'svm': svm.LinearSVC(random_state=0, max_iter=5000),
    'knn': neighbors.KNeighborsClassifier(),
    'linear': linear_model.LogisticRegression(class_weight='balanced', max_iter=2000),
  }
  return {
    name: model.fit(x['train'], y['train']).predict(x['test']) for name, model in made.items()
  }, y['test']


@pytest.mark.parametrize('l2', [True, False])
def test_the_command_finds_what_scikit_learn_finds(mtface, run_copy, people, l2):
  result = mtface(
    'classify',
    f'--workdir={run_copy}',
    f'--data_dir={people}',
    '--train=other/gray16:train',
    '--test=other/gray16:test',
    '--task=ethnicity5',
    '--classifiers=svm,knn,linear',
    *([] if l2 else ['--nol2']),
  )
  assert result.code == 0, result.err
  rows = json.loads((run_copy / 'classify.json').read_text())['results']
  expected, labels = by_scikit_learn(run_copy, people, l2)
  assert [row['classifier'] for row in rows] == list(expected)
  for row in rows:
    predicted = expected[row['classifier']]
    assert (row['n_train'], row['n'], row['features'], row['l2']) == (54, 27, 8, l2), (
      'a tenth has no label'
    )
    # Features of other batches differ in their last bits, which may move a face over a border.
    difference = row['confusion'] - metrics.confusion_matrix(labels, predicted, labels=range(5))
    assert np.abs(difference).sum() <= 2
    assert f'| 27 | {row["accuracy"]:.2%} | {row["low"]:.1%} - {row["high"]:.1%} |' in result.out


def test_rows_are_replaced_by_the_same_and_kept_beside_others(run_copy, people):
  def run(**changes):
    names = {
      'checkpoint': 'last',
      'train': 'tiny/people:train',
      'test': 'tiny/people:test',
      'task': 'gender',
    }
    classify(run_copy, people, **{**names, 'classifiers': ['knn'], **changes})
    return json.loads((run_copy / 'classify.json').read_text())['results']

  assert len(run()) == len(run()) == 1
  assert [
    (row['checkpoint'], row['l2']) for row in run(checkpoint='4', settings=Settings(l2=False))
  ] == [
    ('last', True),
    ('4', False),
  ]


def arguments(**changes):
  flags = {
    'train': 'other/gray16:train',
    'test': 'other/gray16:test',
    'task': 'ethnicity5',
    'trees': 3,
  }
  return [f'--{flag}={value}' for flag, value in (flags | changes).items() if value is not None]


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'train': None}, '--train is missing: pass a source'),
    ({'task': None}, '--task is missing'),
    ({'task': 'ethnicity'}, "task 'ethnicity' is unknown"),
    (
      {'task': 'smile'},
      '--task=smile: other/gray16:train is not labelled for it; its labels are action_units, '
      'ethnicity5',
    ),
    ({'task': 'action_units'}, '--task=action_units: has several labels per face'),
    (
      {'classifiers': 'svm,tree'},
      "--classifiers: unknown classifier 'tree'; expected svm, forest, knn, linear",
    ),
    ({'trees': 0}, '--trees=0: 0 is not a positive'),
    ({'seed': -1}, '--seed=-1: -1 is not a non-negative'),
    (
      {'test': 'other/gray16:train[fold=0/4]'},
      '15 of its 15 faces are also in --train=other/gray16:train',
    ),
    (
      {'train': 'other/gray16:train[take=3,seed=0]', 'classifiers': 'knn'},
      'uses 5 neighbours, but --train has 3',
    ),
    ({'checkpoint': 'ensemble:2'}, 'an ensemble has no features'),
  ],
)
def test_bad_input_is_one_line(mtface, tiny_run, people, changes, expected):
  result = mtface(
    'classify', f'--workdir={tiny_run}', f'--data_dir={people}', *arguments(**changes)
  )
  assert expected in result.error
  assert not (tiny_run / 'classify.json').exists()


def test_one_class_is_nothing_to_learn():
  with pytest.raises(UserError, match='--train: all 4 labelled samples have one class'):
    fit_predict('svm', Settings(), np.zeros((4, 2)), np.ones(4, int), np.zeros((1, 2)))


def test_a_classifier_that_did_not_converge_says_so(capsys, monkeypatch):
  (x, y) = blobs(50, 0)
  monkeypatch.setitem(
    CLASSIFIERS, 'linear', ('one step', lambda _: linear_model.LogisticRegression(max_iter=1))
  )
  fit_predict('linear', Settings(), x, y, x)
  assert capsys.readouterr().err.count('linear did not converge') == 1


def test_folds_of_one_split_are_apart_and_configs_of_one_set_are_not():
  first, second = (
    fake_source('x', 10, {'smile': 1.0}).take(np.arange(*ends)) for ends in ((0, 6), (6, 10))
  )
  named = dataclasses.replace
  check_apart(
    named(first, name='a/gray48:all[fold!=0/2]'), named(second, name='a/gray48:all[fold=0/2]')
  )
  check_apart(named(first, name='a/gray48:train'), named(first, name='b/gray48:train'))
  with pytest.raises(UserError, match='6 of its 6 faces'):
    check_apart(named(first, name='a/gray48:all'), named(first, name='a/rgb224:all'))
