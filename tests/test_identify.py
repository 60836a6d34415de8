"""Rank-1 identification against loops in plain Python."""

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.identify import draw_gallery, nearest, people_of, rank_1, read_people, with_two_pictures
from tests.fakes import fake_source


def test_nearest_by_the_cosine():
  gallery = np.array([[10.0, 0.0], [0.0, 0.1], [-1.0, -1.0]])
  # The second is nearer to the first of the gallery by any distance, but not by the angle.
  probes = np.array([[1.0, 0.1], [4.0, 5.0], [-3.0, -2.0], [0.0, 0.0]])
  assert nearest(probes, gallery).tolist() == [0, 1, 2, 0]


def test_nearest_in_parts_is_nearest(monkeypatch):
  rng = np.random.default_rng(0)
  probes, gallery = rng.normal(size=(50, 6)), rng.normal(size=(9, 6))
  expected = [max(range(9), key=lambda g: p @ gallery[g] / np.linalg.norm(gallery[g])) for p in probes]
  assert nearest(probes, gallery).tolist() == expected
  monkeypatch.setattr('mtface.identify._SIMILARITIES', 7 * 9)
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
  assert with_two_pictures(people, {'cy', 'bob', 'dora'}).tolist() == [4, 6, 7]


def test_rank_1_of_clear_and_of_meaningless_features():
  rng = np.random.default_rng(0)
  people = np.repeat(np.arange(20), 5)
  centres = rng.normal(size=(20, 32))
  assert rank_1(centres[people] + 0.01 * rng.normal(size=(100, 32)), people, repeats=3, seed=0) == [1.0, 1.0, 1.0]
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
  with pytest.raises(UserError, match='does not say who is in its pictures'):
    people_of(fake_source('faces', 8, {'smile': 1.0}))


def test_a_file_of_names(tmp_path):
  path = tmp_path / 'people.txt'
  path.write_text('Ann_A\n\n  Bob B \n')
  assert read_people(path) == ['Ann_A', 'Bob B']
  path.write_text('\n')
  with pytest.raises(UserError, match='names nobody'):
    read_people(path)
  with pytest.raises(UserError, match='cannot be read'):
    read_people(tmp_path / 'nothing.txt')
