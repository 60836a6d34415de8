"""Rank-1 identification against loops in plain Python."""

import json

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.features.identify import (
  _summary,
  draw_gallery,
  nearest,
  people_of,
  rank_1,
  with_two_pictures,
)
from tests.fakes import fake_source, write_prepared


def test_nearest_by_the_cosine():
  gallery = np.array([[10.0, 0.0], [0.0, 0.1], [-1.0, -1.0]])
  # The second is nearer to the first of the gallery by any distance, but not by the angle.
  probes = np.array([[1.0, 0.1], [4.0, 5.0], [-3.0, -2.0], [0.0, 0.0]])
  assert nearest(probes, gallery).tolist() == [0, 1, 2, 0]


def test_nearest_in_parts_is_nearest(monkeypatch):
  rng = np.random.default_rng(0)
  probes, gallery = rng.normal(size=(50, 6)), rng.normal(size=(9, 6))
  expected = [
    max(range(9), key=lambda g: p @ gallery[g] / np.linalg.norm(gallery[g])) for p in probes
  ]
  assert nearest(probes, gallery).tolist() == expected
  monkeypatch.setattr('mtface.features.identify._SIMILARITIES', 7 * 9)
  assert nearest(probes, gallery).tolist() == expected


def test_a_gallery_has_one_picture_of_each_and_all_alike_often():
  people = np.repeat(['ann', 'bob', 'cy'], [2, 5, 3])
  drawn = np.array([draw_gallery(people, np.random.default_rng(seed)) for seed in range(1000)])
  for name, count in (('ann', 2), ('bob', 5), ('cy', 3)):
    of_one = drawn[:, people == name]
    assert (of_one.sum(axis=1) == 1).all()
    # 1000 draws of probability 1/count: within four standard deviations.
    assert np.abs(of_one.mean(axis=0) - 1 / count).max() < 4 * (0.25 / 1000) ** 0.5


def test_who_takes_part():
  people = np.array(['ann', '', 'bob', 'ann', 'cy', '', 'cy', 'cy'])
  assert with_two_pictures(people).tolist() == [0, 3, 4, 6, 7], 'bob is there once, two are unknown'


def test_rank_1_of_clear_and_of_meaningless_features():
  rng = np.random.default_rng(0)
  people = np.repeat(np.arange(20), 5)
  centres = rng.normal(size=(20, 32))
  assert rank_1(centres[people] + 0.01 * rng.normal(size=(100, 32)), people, repeats=3, seed=0) == [
    1.0,
    1.0,
    1.0,
  ]
  chance = rank_1(rng.normal(size=(100, 32)), people, repeats=40, seed=0)
  assert np.mean(chance) == pytest.approx(1 / 20, abs=0.02)
  assert len(set(chance)) > 1, 'galleries differ'


def test_rank_1_repeats_itself():
  rng = np.random.default_rng(1)
  people = np.repeat(np.arange(10), 4)
  features = rng.normal(size=(10, 8))[people] + rng.normal(size=(40, 8))
  first = rank_1(features, people, repeats=4, seed=0)
  assert first == rank_1(features, people, repeats=10, seed=0)[:4]
  assert first != rank_1(features, people, repeats=4, seed=1)


def test_labels_of_identity_say_who_it_is_where_there_are_no_subjects():
  source = fake_source('faces', 8, {'identity:3': 0.75})
  people = people_of(source)
  assert people.tolist() == [*source.labels['identity:3'][:6].astype(str), '', '']
  with pytest.raises(UserError, match='has no subjects'):
    people_of(fake_source('faces', 8, {'smile': 1.0}))


def test_a_summary_is_that_of_numpy():
  people = np.array(['a', 'a', 'b', 'b', 'b', 'c', 'c'])
  found = _summary(people, [0.5, 0.75, 1.0])
  assert (found['subjects'], found['images'], found['probes']) == (3, 7, 4), (
    'one picture of each is the gallery'
  )
  assert (found['mean'], found['std']) == pytest.approx((0.75, np.std([0.5, 0.75, 1.0], ddof=1)))


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory, tiny_data):
  """The tiny sets, and 40 pictures of 9 people."""
  data_dir = tmp_path_factory.mktemp('data')
  (data_dir / 'tiny').symlink_to(tiny_data / 'tiny')
  write_prepared(data_dir, 'people/gray16', {'test': 40}, {'gender': 1.0}, subjects=9)
  return data_dir


def test_the_command_finds_what_a_loop_over_the_written_features_finds(mtface, run_copy, data_dir):
  flags = [f'--workdir={run_copy}', f'--data_dir={data_dir}', '--on=people/gray16:test']
  result = mtface('identify', *flags, '--repeats=3', '--seed=5')
  assert result.code == 0, result.err
  (row,) = json.loads((run_copy / 'identify.json').read_text())['results']
  assert (row['subjects'], row['images'], row['probes']) == (9, 40, 31)

  assert mtface('features', *flags).code == 0
  with np.load(run_copy / 'features/last/people_gray16_test.npz') as found:
    features, subjects = found['features'].astype(np.float64), found['subjects']
  expected = []
  for repeat in range(3):
    chosen = draw_gallery(subjects, np.random.default_rng((5, repeat)))
    right = 0
    for probe in np.flatnonzero(~chosen):
      cosines = {
        g: np.dot(features[probe], features[g]) / np.linalg.norm(features[g])
        for g in np.flatnonzero(chosen)
      }
      right += subjects[max(cosines, key=cosines.get)] == subjects[probe]
    expected.append(right / 31)
  np.testing.assert_allclose(row['accuracies'], expected)
  assert (row['mean'], row['std']) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
  assert (
    f'| last | people/gray16:test | 9 | 31 | 3 | {row["mean"]:.2%} | {row["std"]:.2%} |'
    in result.out
  )

  assert mtface('identify', *flags).code == 0
  rows = json.loads((run_copy / 'identify.json').read_text())['results']
  assert [(row['repeats'], row['seed']) for row in rows] == [(3, 5), (10, 0)]


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    ({'on': None}, '--on is missing: pass sources that say who is in each picture'),
    ({'on': 'people'}, 'tiny/people:test: has no subjects'),
    ({'repeats': 1}, '--repeats=1: 1 is not integer >= 2'),
    ({'seed': -1}, '--seed=-1: -1 is not a non-negative'),
    (
      {'on': 'people/gray16:test[take=3,seed=0]'},
      'fewer than two people have two or more pictures',
    ),
    ({'checkpoint': 'ensemble:2'}, 'an ensemble has no features'),
  ],
)
def test_bad_input_is_one_line(mtface, tiny_run, data_dir, flags, expected):
  given = {'on': 'people/gray16:test'} | flags
  arguments = [f'--{flag}={value}' for flag, value in given.items() if value is not None]
  assert (
    expected
    in mtface('identify', f'--workdir={tiny_run}', f'--data_dir={data_dir}', *arguments).error
  )
  assert not (tiny_run / 'identify.json').exists()
