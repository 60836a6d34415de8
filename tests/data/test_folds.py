"""Folds: sizes, strata and groups by counting; stability against row order,
rebuilds and processes.
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from mtface import errors
from mtface.data import folds


def made_set(n=500, seed=0, num_strata=4):
  """Ids as a set would have them, and strata of very different sizes."""
  rng = np.random.default_rng(seed)
  ids = np.array([f'part{i % 3}/image_{i:05d}.jpg' for i in range(n)])
  return ids, rng.choice(
    num_strata, n, p=np.arange(1, num_strata + 1) / np.arange(1, num_strata + 1).sum()
  )


def spread(values, k):
  counts = np.bincount(values, minlength=k)
  return counts.max() - counts.min()


@pytest.mark.parametrize('k', [2, 4, 7, 10])
@pytest.mark.parametrize('n', [10, 97, 500])
def test_folds_and_strata_are_equal_to_within_one(n, k):
  ids, strata = made_set(n)
  fold = folds.stratified_folds(ids, strata, k)
  assert fold.dtype == np.int32
  assert fold.shape == (n,)
  assert spread(fold, k) <= 1
  for stratum in np.unique(strata):
    assert spread(fold[strata == stratum], k) <= 1


def test_as_many_folds_as_images():
  assert sorted(folds.stratified_folds(['a', 'b', 'c'], [0, 0, 1], 3)) == [0, 1, 2]


def test_many_small_strata_still_give_equal_folds():
  ids, _ = made_set(120)
  fold = folds.stratified_folds(ids, np.arange(120) // 3, 5)  # 40 strata of 3 images
  assert np.bincount(fold).tolist() == [24] * 5


def test_row_order_and_forms_of_ids_do_not_matter():
  ids, strata = made_set()
  groups = np.arange(len(ids)) // 3
  order = np.random.default_rng(1).permutation(len(ids))
  for kwargs, shuffled in (({}, {}), ({'groups': groups}, {'groups': groups[order]})):
    fold = folds.stratified_folds(ids, strata, 4, **kwargs)
    np.testing.assert_array_equal(
      folds.stratified_folds(ids[order], strata[order], 4, **shuffled), fold[order]
    )
    as_bytes = [image_id.encode() for image_id in ids.tolist()]
    np.testing.assert_array_equal(
      folds.stratified_folds(as_bytes, strata.tolist(), 4, **kwargs), fold
    )


def test_another_seed_deals_otherwise():
  ids, strata = made_set()
  same = np.mean(
    folds.stratified_folds(ids, strata, 4) == folds.stratified_folds(ids, strata, 4, seed=1)
  )
  assert 0.1 < same < 0.4  # 1/4 by chance


def test_neighbours_in_the_list_are_not_neighbours_in_the_folds():
  ids, strata = made_set(num_strata=1)
  fold = folds.stratified_folds(ids, strata, 5)
  assert 0.1 < np.mean(fold[1:] == fold[:-1]) < 0.3


def test_one_image_less_moves_few_others():
  ids, strata = made_set(2000)
  fold = folds.stratified_folds(ids, strata, 4)
  kept = np.arange(2000) != 1234
  assert (
    np.sum(folds.stratified_folds(ids[kept], strata[kept], 4) != fold[kept]) <= 16
  )  # 4 strata, 4 runs


def test_other_processes_deal_the_same():
  code = (
    'from mtface.data import folds\n'
    'print(folds.stratified_folds([f"id{i}" for i in range(20)], [i % 2 for i in range(20)], '
    '3).tolist())'
  )
  environment = os.environ | {'PYTHONHASHSEED': '123'}
  output = subprocess.run(
    [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True
  )
  here = folds.stratified_folds([f'id{i}' for i in range(20)], [i % 2 for i in range(20)], 3)
  assert output.stdout.strip() == str(here.tolist())


def test_the_deal_is_the_one_of_the_first_release():
  # Pinned: results in papers name their folds by k and seed. Computed by hashlib alone, see
  # _hashes.
  ids = [f'id{i}' for i in range(6)]
  by_hash = sorted(
    ids, key=lambda image_id: hashlib.blake2b(f'7:{image_id}'.encode(), digest_size=16).digest()
  )
  fold = folds.stratified_folds(ids, [0] * 6, 3, seed=7)
  assert [fold[ids.index(image_id)] for image_id in by_hash] == [0, 0, 1, 1, 2, 2]


def test_groups_stay_together_and_folds_stay_balanced():
  ids, strata = made_set(1000)
  rng = np.random.default_rng(3)
  groups = np.array([f'subject{number}' for number in rng.zipf(1.6, 1000).clip(max=200)])
  k = 4
  fold = folds.stratified_folds(ids, strata, k, groups=groups)
  for group in np.unique(groups):
    assert len(np.unique(fold[groups == group])) == 1
  largest = np.unique(groups, return_counts=True)[1].max()
  assert np.bincount(fold, minlength=k).min() > 0
  assert spread(fold, k) <= max(largest - 250, 0) * k / (k - 1) + 30


def test_single_images_even_out_what_groups_left():
  ids, strata = made_set(400, num_strata=2)
  groups = np.where(np.arange(400) < 120, np.arange(400) // 15, -1).astype(
    str
  )  # 8 subjects of 15 images
  groups[120:] = ''  # unknown: 280 images, each by itself
  fold = folds.stratified_folds(ids, strata, 4, groups=groups)
  assert len({(group, f) for group, f in zip(groups[:120], fold[:120], strict=True)}) == 8
  assert spread(fold, 4) <= 1
  for stratum in (0, 1):
    assert spread(fold[strata == stratum], 4) <= 1


def test_groups_are_dealt_so_that_strata_stay_even():
  # 8 people of 5 images of each of two classes, and the images of one person are all of one class.
  ids, _ = made_set(80)
  people = np.arange(80) // 5
  strata = people % 4 // 2
  fold = folds.stratified_folds(ids, strata, 4, groups=people)
  for stratum in (0, 1):
    assert np.bincount(fold[strata == stratum]).tolist() == [10] * 4


def test_groups_of_one_are_no_groups():
  ids, strata = made_set()
  alone = folds.stratified_folds(ids, strata, 4)
  np.testing.assert_array_equal(
    folds.stratified_folds(ids, strata, 4, groups=[None] * len(ids)), alone
  )
  np.testing.assert_array_equal(folds.stratified_folds(ids, strata, 4, groups=ids), alone)


def test_copies_of_an_image_share_a_fold():
  ids, strata = made_set(60)
  content = np.array([f'sha{i}' for i in range(60)])
  content[[5, 17, 40]] = 'same'
  fold = folds.stratified_folds(ids, strata, 3, groups=content)
  assert len(set(fold[[5, 17, 40]].tolist())) == 1
  assert spread(fold, 3) <= 1


def test_strata_of_text_and_of_several_labels():
  ids, strata = made_set(200)
  names = np.array(['a', 'b', 'c', 'd'])[strata]
  np.testing.assert_array_equal(
    folds.stratified_folds(ids, names, 4), folds.stratified_folds(ids, strata, 4)
  )
  pairs = np.stack([strata, np.arange(200) % 2], axis=1)
  fold = folds.stratified_folds(ids, pairs, 4)
  for pair in np.unique(pairs, axis=0):
    assert spread(fold[(pairs == pair).all(axis=1)], 4) <= 1


@pytest.mark.parametrize(
  ('ids', 'k', 'groups', 'message'),
  [
    (['a', 'b'], 1, None, 'folds=1: expected at least 2'),
    (['a', 'b'], 3, None, 'only 2 images'),
    (['a', 'b', 'a'], 2, None, "image_id 'a' occurs more than once"),
    (['a', 'b', 'c'], 3, ['s', 's', 't'], 'only 2 groups'),
  ],
)
def test_bad_input_is_one_line(ids, k, groups, message):
  with pytest.raises(errors.UserError, match=message) as error:
    folds.stratified_folds(ids, [0] * len(ids), k, groups=groups)
  assert '\n' not in str(error.value)


def test_lists_of_different_lengths_are_a_bug():
  with pytest.raises(ValueError, match='expected equal numbers'):
    folds.stratified_folds(['a', 'b'], [0], 2)


# --- Draws ----------------------------------------------------------------------------------------


def people_of(ids, each=3):
  return [f'person {int(i[-9:-4]) // each}' for i in ids]


@pytest.mark.parametrize(('take', 'after'), [(1, 0), (100, 0), (60, 100), (50, 101), (500, 0)])
def test_a_draw_is_of_that_many_different_images(take, after):
  ids, _ = made_set()
  rows = folds.draw(ids, people_of(ids), take, after=after)
  assert len(rows) == take == len(set(rows.tolist()))
  assert (np.diff(rows) > 0).all()


def test_what_is_drawn_after_a_draw_shares_no_group_with_it():
  ids, _ = made_set()
  people = np.array(people_of(ids))
  for seed in range(20):  # in some of them 100 images end in the middle of a person's three
    first = folds.draw(ids, people, 100, seed=seed)
    rest = folds.draw(ids, people, 300, after=100, seed=seed)
    assert not set(people[first]) & set(people[rest])


def test_draws_follow_the_seed_and_not_the_order_of_the_rows():
  ids, _ = made_set()
  people = np.array(people_of(ids))
  order = np.random.default_rng(1).permutation(len(ids))
  drawn = set(ids[folds.draw(ids, people, 100, seed=3)])
  assert set(ids[order][folds.draw(ids[order], people[order], 100, seed=3)]) == drawn
  other = set(ids[folds.draw(ids, people, 100, seed=4)])
  # Independent draws of a fifth share a fifth of their images.
  assert 5 <= len(drawn & other) <= 45


def test_a_draw_takes_usable_images_only():
  ids, _ = made_set(50)
  usable = np.arange(50) % 2 == 0
  rows = folds.draw(ids, [''] * 50, 25, usable=usable)
  np.testing.assert_array_equal(rows, np.flatnonzero(usable))
  with pytest.raises(errors.UserError, match=r'26 images requested, but only 25 available'):
    folds.draw(ids, [''] * 50, 26, usable=usable)


def test_a_draw_after_another_that_leaves_too_little_is_refused():
  ids, _ = made_set()  # 500
  alone = [''] * 500
  assert len(folds.draw(ids, alone, 20, after=480)) == 20
  with pytest.raises(
    errors.UserError,
    match=r'^50 images after 480 requested, but only 500 available; take fewer$',
  ):
    folds.draw(ids, alone, 50, after=480)
  # 100 people of 5 images: a draw of `after` images may end inside a person, whose rest is left out
  # too.
  people = np.array(people_of(ids, 5))
  for after in (101, 104, 483):
    used = folds.draw(ids, people, after)
    left = ~np.isin(people, people[used])
    assert len(folds.draw(ids, people, int(left.sum()), after=after)) == left.sum()
    with pytest.raises(errors.UserError, match=r'requested, but only'):
      folds.draw(ids, people, int(left.sum()) + 1, after=after)


def test_images_of_nobody_are_drawn_each_by_itself():
  ids, _ = made_set(90)
  groups = [None if i % 2 else '' for i in range(90)]
  first, rest = folds.draw(ids, groups, 7), folds.draw(ids, groups, 83, after=7)
  assert sorted([*first, *rest]) == list(range(90))


def by_draws_hash(names, seed):
  """The order of a draw, by hashlib alone."""
  return sorted(
    names, key=lambda n: hashlib.blake2b(f'{seed}:draw:{n}'.encode(), digest_size=16).digest()
  )


def test_draws_are_those_of_the_first_release():
  # Published figures name draws by their seed.
  ids = [f'id{i}' for i in range(12)]
  order = by_draws_hash([f'alone {i}' for i in ids], 5)
  expected = sorted(ids.index(name.removeprefix('alone ')) for name in order[2:6])
  assert folds.draw(ids, [''] * 12, 4, after=2, seed=5).tolist() == expected
  people = by_draws_hash(['p0', 'p1', 'p2'], 5)
  drawn = folds.draw(ids, [f'p{i % 3}' for i in range(12)], 4, seed=5)
  assert {f'p{row % 3}' for row in drawn} == {people[0]}


def test_a_draw_of_each_class_takes_the_first_of_each_in_the_order_of_a_draw():
  ids = [f'id{i}' for i in range(30)]
  labels = np.arange(30) % 3
  drawn, others = folds.draw_each(ids, [''] * 30, labels, 'abc', 4, seed=7)
  order = [
    ids.index(n.removeprefix('alone ')) for n in by_draws_hash([f'alone {i}' for i in ids], 7)
  ]
  expected = {row for of in range(3) for row in [r for r in order if labels[r] == of][:4]}
  assert drawn.tolist() == sorted(expected)
  assert sorted([*drawn, *others]) == list(range(30))
  assert others.tolist() == sorted(others)


def test_what_is_left_by_a_draw_of_each_class_shares_no_group_with_it():
  ids, labels = made_set(num_strata=3)
  people = np.array(people_of(ids))
  usable = np.arange(500) % 5 > 0
  for seed in range(10):
    drawn, others = folds.draw_each(ids, people, labels, 'abc', 20, seed=seed, usable=usable)
    assert np.bincount(labels[drawn]).tolist() == [20, 20, 20]
    assert usable[drawn].all()
    left = usable & ~np.isin(people, people[drawn])
    assert others.tolist() == np.flatnonzero(left).tolist()
    shuffled = np.random.default_rng(seed).permutation(500)
    again, _ = folds.draw_each(
      ids[shuffled],
      people[shuffled],
      labels[shuffled],
      'abc',
      20,
      seed=seed,
      usable=usable[shuffled],
    )
    assert set(ids[shuffled][again]) == set(ids[drawn])


def test_a_class_that_is_too_small_is_named_with_its_count():
  labels = np.array([0, 1, 1, 1, 2])
  with pytest.raises(
    errors.UserError, match=r"^2 images of every class requested, but only 1 of 'sad' available"
  ):
    folds.draw_each(list('vwxyz'), [''] * 5, labels, ('sad', 'awed', 'b'), 2)
  with pytest.raises(errors.UserError, match=r"only 0 of 'c' available"):
    folds.draw_each(list('vwxyz'), [''] * 5, labels, 'abc', 1, usable=labels < 2)
