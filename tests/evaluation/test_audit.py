"""Audits against NumPy and scikit-learn, a planted disparity, and groups drawn by lot."""

import dataclasses
import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from mtface.data.groupings import groupings_of
from mtface.errors import UserError
from mtface.evaluation.answers import Answers
from mtface.evaluation.audit import audit
from mtface.evaluation.audit_table import audit_json, audit_rows, audit_text
from mtface.evaluation.measures import measures_of
from mtface.evaluation.resampling import SMALLEST, Block, bootstrap


def made(n=600, accuracy=0.7, seed=0, groups=None, subjects=None, sure=True):
  """Answers to a task of two classes; `accuracy` is a number or one for each face."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 2, n)
  predicted = np.where(rng.random(n) < accuracy, labels, 1 - labels)
  yes = rng.uniform(0.5, 1, n)
  probabilities = np.where(predicted[:, None] == np.arange(2), yes[:, None], 1 - yes[:, None])
  groups = drawn(rng, n) if groups is None else groups
  subjects = np.full(n, '') if subjects is None else subjects
  given = probabilities if sure else None
  return Answers('faces', 'smile', ('no', 'yes'), labels, predicted, given, groups, subjects)


def drawn(rng, n):
  """Two groupings by lot."""
  return {
    'gender': rng.choice(['female', 'male'], n),
    'age': rng.choice(['0-2', '3-9', '10-19'], n, p=(0.5, 0.3, 0.2)),
  }


def test_figures_are_those_of_numpy_and_scikit_learn():
  answers = made()
  found = audit(answers, replicates=20)
  assert [row.by for row in found.rows] == ['gender'] * 2 + ['age'] * 3 + ['gender x age'] * 6
  for row in found.rows:
    inside = np.ones(len(answers), bool)
    for by, name in zip(row.by.split(' x '), row.group.split(', '), strict=True):
      inside &= answers.groups[by] == name
    labels, predicted = answers.labels[inside], answers.predicted[inside]
    tn, fp, fn, tp = confusion_matrix(labels, predicted).ravel()
    confidence = answers.probabilities[inside].max(axis=1)
    gaps = [
      abs(
        (confidence - (labels == predicted))[
          (confidence > k / 15) & (confidence <= (k + 1) / 15)
        ].sum()
      )
      for k in range(15)
    ]
    expected = {
      'accuracy': accuracy_score(labels, predicted),
      'false positive rate': fp / (fp + tn),
      'false negative rate': fn / (fn + tp),
      'overconfidence': confidence.mean() - (labels == predicted).mean(),
      'calibration error': sum(gaps) / inside.sum(),
    }
    assert {k: v.value for k, v in row.figures.items()} == pytest.approx(expected)
    assert row.n == inside.sum() and row.figures['false positive rate'].n == fp + tn
  assert found.overall['accuracy'].value == accuracy_score(answers.labels, answers.predicted)


def test_differences_are_to_all_others():
  answers = made()
  found = audit(answers, replicates=20)
  women, right = answers.groups['gender'] == 'female', answers.labels == answers.predicted
  row = next(row for row in found.rows if row.group == 'female')
  difference, low, high = row.differences['accuracy']
  assert difference == pytest.approx(right[women].mean() - right[~women].mean())
  assert (low + high) / 2 == pytest.approx(difference)
  assert 'calibration error' not in row.differences
  labelled_no = answers.labels == 0
  expected = (~right)[women & labelled_no].mean() - (~right)[~women & labelled_no].mean()
  assert row.differences['false positive rate'][0] == pytest.approx(expected)


def test_intervals_are_as_wide_as_theory_says():
  answers = made(4000, 0.8)
  row = audit(answers, replicates=1000).rows[0]
  figure, share = row.figures['accuracy'], row.figures['accuracy'].value
  error = np.sqrt(share * (1 - share) / row.n)
  assert (figure.high - figure.low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_faces_of_one_person_count_as_one():
  people = np.repeat(np.arange(300), 8)
  accuracy = np.random.default_rng(1).choice([0.2, 1.0], 300)[people]  # all of a person's, or few
  alone = made(2400, accuracy)
  together = made(2400, accuracy, subjects=people.astype(str))
  widths = [
    np.subtract(found.overall['accuracy'].high, found.overall['accuracy'].low)
    for found in (audit(of, replicates=400) for of in (alone, together))
  ]
  share = np.array([(alone.labels == alone.predicted)[people == p].mean() for p in range(300)])
  assert widths[1] == pytest.approx(2 * 1.96 * share.std() / np.sqrt(300), rel=0.15)
  assert widths[1] > 1.8 * widths[0]


def test_a_planted_disparity_is_found():
  rng = np.random.default_rng(4)
  groups = drawn(rng, 3000)
  planted = (groups['gender'] == 'female') & (groups['age'] == '10-19')
  found = audit(made(3000, np.where(planted, 0.62, 0.9), 6, groups), replicates=300)
  worst = found.worst('gender x age')
  assert worst.group == 'female, 10-19' and 'accuracy' in worst.flagged
  _, low, high = worst.differences['accuracy']
  assert low < -0.28 < high < 0
  assert 'male, 10-19' not in {row.group for row in found.flagged}
  assert {row.group for row in found.flagged} >= {'female, 10-19', '10-19', 'female', 'male'}
  text = audit_text(found)
  assert 'worst accuracy by gender x age: female, 10-19' in text and ': flagged' in text


def test_a_planted_overconfidence_is_found():
  rng = np.random.default_rng(6)
  answers = made(4000, 0.75, 7, drawn(rng, 4000))  # the mean confidence is 0.75 too
  elders = answers.groups['age'] == '3-9'
  right = np.where(answers.labels == answers.predicted, 0.95, 0.9)
  answers.probabilities[elders] = np.where(
    answers.predicted[elders, None] == np.arange(2), right[elders, None], 1 - right[elders, None]
  )
  found = audit(answers, replicates=400)
  assert 'overconfidence' in next(row for row in found.rows if row.group == '3-9').flagged
  assert not any('accuracy' in row.flagged for row in found.rows)


def share_of_flags(audits, n, accuracy, people=None):
  """Of audits by groups drawn by lot, how many flag anything."""
  flagged = 0
  for seed in range(audits):
    answers = made(n, accuracy, seed + 1000, subjects=people, sure=False)
    blocks = [
      Block(measure, of, answers.people)
      for of in groupings_of(answers.groups, 2)
      for measure in measures_of(answers)
    ]
    spreads = bootstrap(blocks, seed, 150)
    reach = spreads.reach(0.05)
    flagged += any(
      low > 0 or high < 0
      for of in spreads.blocks
      for k in np.flatnonzero(of.block.compared)
      for _, low, high in [of.difference(k, reach)]
    )
  return flagged / audits


@pytest.mark.parametrize(('n', 'accuracy'), [(900, 0.7), (300, 0.97)])
def test_groups_drawn_by_lot_are_flagged_as_often_as_stated(n, accuracy):
  """At most 5% of audits; with 33 intervals of 95% each it would be more than half of them."""
  share = share_of_flags(120, n, accuracy)
  assert share <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 120)
  assert accuracy == 0.97 or share > 0  # not by never flagging anything


def test_by_lot_with_several_faces_a_person():
  people = np.repeat(np.arange(200), 5)
  accuracy = np.random.default_rng(0).choice([0.4, 1.0], 200)[people]
  share = share_of_flags(60, 1000, accuracy, people.astype(str))
  assert share <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_small_groups_say_so():
  groups = {'age': np.array(['old'] * (SMALLEST - 1) + ['young'] * 300 + ['mid'] * 300)}
  found = audit(made(629, 0.9, groups=groups), replicates=50)
  old = next(row for row in found.rows if row.group == 'old')
  assert old.too_small and not old.differences and old.figures['accuracy'].n == SMALLEST - 1
  assert 'too small to compare' in audit_text(found)
  assert next(row['flag'] for row in audit_rows(found) if row['group'] == 'old') == 'too small'
  assert found.worst('age').group != 'old'


def test_thirty_faces_of_few_people_are_small():
  groups = {'age': np.array(['old'] * 100 + ['young'] * 300)}
  subjects = np.array([f'p{i % 10}' for i in range(100)] + [f'q{i}' for i in range(300)])
  found = audit(made(400, groups=groups, subjects=subjects), replicates=50)
  assert all(row.too_small for row in found.rows)


def test_people_in_several_groups_are_counted_in_each():
  groups = {'light': np.array(['day', 'night'] * 40)}
  subjects = np.repeat(np.arange(40), 2).astype(str)  # one face of each by day, one at night
  found = audit(made(80, groups=groups, subjects=subjects), replicates=20)
  assert [row.figures['accuracy'].people for row in found.rows] == [40, 40]
  assert all('accuracy' in row.differences for row in found.rows)


def test_a_group_without_mistakes_is_not_certain():
  groups = {'age': np.array(['old'] * 40 + ['young'] * 600)}
  accuracy = np.where(groups['age'] == 'old', 1.0, 0.9)
  row = audit(made(640, accuracy, groups=groups), replicates=100).rows[0]
  assert row.figures['accuracy'].value == 1
  assert row.figures['accuracy'].low == pytest.approx(1 - 1.96 * np.sqrt(0.09 / 40), abs=0.02)
  assert not row.flagged


def test_unknown_groups_are_left_out():
  answers = made(600)
  answers.groups['gender'][:100] = ''
  found = audit(answers, replicates=20, together=1)
  assert sum(row.n for row in found.rows if row.by == 'gender') == 500
  assert found.overall['accuracy'].n == 600
  right = answers.labels == answers.predicted
  women, men = (answers.groups['gender'] == name for name in ('female', 'male'))
  expected = right[women].mean() - right[men].mean()
  assert found.rows[0].differences['accuracy'][0] == pytest.approx(expected)


def test_ages_have_a_mean_error():
  rng = np.random.default_rng(2)
  years = tuple(range(20))
  labels, predicted = rng.integers(0, 20, (2, 400))
  groups = {'gender': rng.choice(['female', 'male'], 400)}
  answers = Answers(
    'faces',
    'age_years',
    tuple(map(str, years)),
    labels,
    predicted,
    None,
    groups,
    np.full(400, ''),
    values=tuple(map(float, years)),
  )
  found = audit(answers, replicates=20)
  assert list(found.overall) == ['accuracy', 'mean error']
  women = groups['gender'] == 'female'
  expected = np.abs(labels - predicted)[women].mean()
  assert found.rows[0].figures['mean error'].value == pytest.approx(expected)
  assert found.rows[0].figures['mean error'].high > 5  # years, and no share
  assert 'worst mean error by gender' in audit_text(found)


def test_an_error_is_of_the_mean_of_several_years_where_that_is_what_is_answered():
  rng = np.random.default_rng(3)
  years = np.array([0.0, 10.0, 20.0, 50.0])
  shares = rng.dirichlet(np.ones(4), 300)
  labels, groups = rng.integers(0, 4, 300), {'gender': rng.choice(['female', 'male'], 300)}
  best = shares.argmax(axis=1)
  answers = Answers(
    'faces', 'age_years', ('a', 'b', 'c', 'd'), labels, best, shares, groups, np.full(300, '')
  )
  means = []
  for row in shares:
    a, b = sorted(range(4), key=lambda k: -row[k])[:2]
    means.append((years[a] * row[a] + years[b] * row[b]) / (row[a] + row[b]))
  men = groups['gender'] == 'male'
  for top, answered in ((1, years[best]), (2, np.array(means))):
    found = audit(dataclasses.replace(answers, values=tuple(years), top=top), replicates=20)
    errors = np.abs(answered - years[labels])
    assert found.overall['mean error'].value == pytest.approx(errors.mean())
    assert found.rows[1].figures['mean error'].value == pytest.approx(errors[men].mean())


def test_an_audit_is_the_same_again():
  first, again, other = (audit_json(audit(made(), replicates=20, seed=k)) for k in (0, 0, 1))
  assert first == again != other


def test_without_groups_and_without_fairlearn(monkeypatch):
  with pytest.raises(UserError, match='there is nothing to group by'):
    audit(made(groups={}))
  with pytest.raises(UserError, match='nothing is known of age'):
    audit(made(groups={'age': np.full(600, '')}))
  monkeypatch.setitem(sys.modules, 'fairlearn', None)
  with pytest.raises(UserError, match=r"pip install 'mtface\[audit\]'"):
    audit(made())


@pytest.mark.parametrize('given', [{'replicates': 0}, {'seed': -1}, {'together': 0}])
def test_numbers_that_are_too_small(given):
  with pytest.raises(UserError, match=r'--\w+=(0|-1): expected at least [012]'):
    audit(made(groups={'light': np.repeat(['day', 'night'], 300)}), **given)


def test_a_single_face_of_a_known_group_is_shown():
  light = np.full(600, '', object)
  light[7] = 'day'
  (row,) = audit(made(groups={'light': light.astype(str)}), replicates=20).rows
  assert (row.group, row.n, row.too_small) == ('day', 1, True)
