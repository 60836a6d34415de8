import collections

import numpy as np
import pytest

from mtface.data.mixing import find_patterns, make_mixture
from mtface.errors import UserError
from tests.fakes import fake_source


def three_sources():
  """Sang's case: one task a source, sizes clearly different."""
  return [
    fake_source('a', 30, {'smile': 1.0}),
    fake_source('b', 287, {'emotion7': 1.0}),
    fake_source('c', 120, {'gender': 1.0}),
  ]


def label_counts(sources, draws):
  """Labelled samples a task among draws, counted one by one."""
  found = collections.Counter()
  for i, (source, row) in enumerate(zip(draws.source, draws.row, strict=True)):
    for task in sources[source].labels:
      hidden = task in draws.hidden and draws.hidden[task][i]
      found[task] += bool(np.any(sources[source].mask[task][row])) and not hidden
  return dict(found)


def uses(draws, source, size):
  return np.bincount(draws.row[draws.source == source], minlength=size)


@pytest.mark.parametrize('epoch', [0, 1, 5])
def test_equal_gives_every_task_the_same_number_of_labels(epoch):
  sources = three_sources()
  mixture = make_mixture('equal', sources, seed=3, batch_size=16)
  draws = mixture.epoch(epoch)
  assert mixture.epoch_size == 3 * 287 == len(draws.row)
  assert (
    label_counts(sources, draws) == {'smile': 287, 'emotion7': 287, 'gender': 287} == mixture.counts
  )
  for index, source in enumerate(sources):
    assert set(uses(draws, index, len(source))) <= {287 // len(source), -(-287 // len(source))}


@pytest.mark.parametrize('kind', ['equal', 'proportional'])
def test_groups_are_drawn_equally_often(kind):
  sources = three_sources()
  # of the third source: 80, 24 and 6 faces of three groups, and 10 of none
  codes = np.repeat([0, 1, 2, -1], [80, 24, 6, 10])
  mixture = make_mixture(kind, sources, seed=3, batch_size=16, groups={2: codes})
  plain = make_mixture(kind, sources, seed=3, batch_size=16)
  assert (mixture.epoch_size, mixture.counts) == (plain.epoch_size, plain.counts)
  total = 287 if kind == 'equal' else 120
  drawn = np.zeros(120)
  for epoch in range(4):
    draws = mixture.epoch(epoch)
    used = uses(draws, 2, 120)
    of_groups = [used[codes == code].sum() for code in (0, 1, 2, -1)]
    assert of_groups[3] == round(total * 10 / 120) and sum(of_groups) == total
    assert max(of_groups[:3]) - min(of_groups[:3]) <= 1
    drawn += used
  assert drawn[codes == 0].max() - drawn[codes == 0].min() <= 1, 'whose turn it is rotates'
  for i, size in ((0, 30), (1, 287)):  # without groups all is as it was
    np.testing.assert_array_equal(
      np.sort(uses(mixture.epoch(1), i, size)), np.sort(uses(plain.epoch(1), i, size))
    )


def test_a_mixture_that_knows_no_groups_refuses_them():
  groups = {0: np.zeros(30, int)}
  with pytest.raises(UserError, match=r'balance: the mixture alternate .*=equal or proportional'):
    make_mixture('alternate', three_sources(), seed=0, batch_size=8, groups=groups)


def test_shares_of_tasks():
  sources = three_sources()
  shares = {'smile': 1, 'emotion7': 4, 'gender': 2}
  mixture = make_mixture('equal', sources, seed=3, batch_size=16, shares=shares)
  # 287 / 4 = 71.75 is the largest count over a share: 72, 287 and 144 labels
  for epoch in (0, 3):
    draws = mixture.epoch(epoch)
    assert label_counts(sources, draws) == {'smile': 72, 'emotion7': 287, 'gender': 144}
    assert uses(draws, 1, 287).min() == uses(draws, 1, 287).max() == 1
    assert set(uses(draws, 0, 30)) == {2, 3}
  assert mixture.counts == {'smile': 72, 'emotion7': 287, 'gender': 144}
  same = make_mixture('equal', sources, seed=3, batch_size=16, shares=dict.fromkeys(shares, 2.5))
  plain = make_mixture('equal', sources, seed=3, batch_size=16)
  np.testing.assert_array_equal(same.epoch(1).row, plain.epoch(1).row)


def test_labels_over_a_share_are_hidden():
  sources = [
    fake_source('a', 20, {'smile': 1.0}),
    fake_source('b', 50, {'gender': 1.0, 'age_group': 1.0}),
  ]
  shares = {'gender': 1.0, 'age_group': 0.5, 'smile': 0.5}
  mixture = make_mixture('equal', sources, seed=0, batch_size=8, shares=shares)
  # 50 / 0.5 is the largest, so that gender is repeated, and as many ages are hidden
  assert mixture.counts == {'gender': 100, 'age_group': 50, 'smile': 50}
  draws = mixture.epoch(1)
  assert label_counts(sources, draws) == mixture.counts
  assert len(draws.row) == 150


def test_extra_draws_rotate_so_that_no_sample_falls_behind():
  sources = three_sources()
  mixture = make_mixture('equal', sources, seed=3, batch_size=16)
  total = sum(uses(mixture.epoch(epoch), 0, 30) for epoch in range(7))
  assert total.sum() == 7 * 287
  assert total.max() - total.min() <= 1


def test_one_source_with_two_tasks_counts_for_both():
  sources = [
    fake_source('a', 10, {'smile': 1.0}),
    fake_source('b', 50, {'gender': 1.0, 'age_group': 1.0}),
  ]
  mixture = make_mixture('equal', sources, seed=0, batch_size=8)
  assert mixture.epoch_size == 100  # not 150: a sample of b serves gender and age at once
  assert label_counts(sources, mixture.epoch(2)) == {'smile': 50, 'gender': 50, 'age_group': 50}


def test_surplus_labels_are_hidden_where_repeating_cannot_make_tasks_equal():
  # Whoever has an age here has a gender too, and 5 have a gender alone: gender would always be
  # ahead.
  sources = [
    fake_source('a', 20, {'smile': 1.0}),
    fake_source('b', 50, {'gender': 1.0, 'age_group': 0.9}),
  ]
  mixture = make_mixture('equal', sources, seed=0, batch_size=8)
  for epoch in range(3):
    draws = mixture.epoch(epoch)
    assert (
      label_counts(sources, draws) == {'smile': 50, 'gender': 50, 'age_group': 50} == mixture.counts
    )
    assert uses(draws, 1, 50).min() >= 1, 'every sample is drawn'
    for rows in (slice(0, 45), slice(45, 50)):  # inside a pattern: floor or ceil
      drawn = uses(draws, 1, 50)[rows]
      assert drawn.max() - drawn.min() <= 1
  hidden_of = [tuple(mixture.epoch(e).row[mixture.epoch(e).hidden['gender']]) for e in range(2)]
  assert set(hidden_of[0]) != set(hidden_of[1]), 'not the same labels are hidden in every epoch'


def test_two_sources_of_one_task_are_repeated_evenly():
  sources = [
    fake_source('a', 10, {'smile': 1.0}),
    fake_source('b', 30, {'smile': 1.0}),
    fake_source('c', 400, {'gender': 1.0}),
  ]
  mixture = make_mixture('equal', sources, seed=0, batch_size=8)
  assert mixture.draws == [100, 300, 400]


def test_proportional_takes_every_sample_once():
  sources = three_sources()
  mixture = make_mixture('proportional', sources, seed=1, batch_size=16)
  draws = mixture.epoch(4)
  assert mixture.epoch_size == 30 + 287 + 120
  for index, source in enumerate(sources):
    assert (uses(draws, index, len(source)) == 1).all()


def test_alternate_keeps_one_source_a_batch():
  sources = three_sources()
  mixture = make_mixture('alternate', sources, seed=1, batch_size=16)
  for step in range(2 * mixture.epoch_size // 16):
    draws = mixture.at(step * 16, (step + 1) * 16)
    assert (draws.source == step % 3).all()
  drawn = np.concatenate([mixture.epoch(e).row[mixture.epoch(e).source == 0] for e in range(3)])
  passes = drawn[: len(drawn) // 30 * 30].reshape(-1, 30)
  assert (np.sort(passes, axis=1) == np.arange(30)).all(), 'each pass takes every sample once'
  assert (passes[0] != passes[1]).any(), 'and is shuffled anew'


def test_epochs_differ_and_seeds_differ():
  sources = three_sources()

  def order(seed, epoch):
    return make_mixture('equal', sources, seed=seed, batch_size=16).epoch(epoch).row.tolist()

  assert order(0, 0) == order(0, 0)
  assert order(0, 0) != order(0, 1)
  assert order(0, 0) != order(1, 0)


def test_epochs_differ_in_more_than_the_extra_draws():
  # `proportional` has no extra draws, and where sources are drawn from says nothing of their
  # samples: what differs is the order.
  sources = three_sources()
  epochs = [
    make_mixture('proportional', sources, seed=0, batch_size=16).epoch(number)
    for number in (0, 1, 2)
  ]
  places = [np.argsort(d.source * 1000 + d.row) for d in epochs]  # of each sample in the epoch
  for one, other in ((0, 1), (1, 2), (0, 2)):
    assert (
      abs(np.corrcoef(places[one], places[other])[0, 1]) < 0.2
    )  # of 437 samples: four standard deviations
  for kind in ('equal', 'proportional', 'alternate'):
    one, other = (
      make_mixture(kind, sources, seed=seed, batch_size=16).epoch(0).row for seed in (0, 1)
    )
    assert np.mean(one != other) > 0.9, 'another seed, another order'
  equal = [
    make_mixture('equal', sources, seed=0, batch_size=16).epoch(number).source for number in (0, 1)
  ]
  assert 0.25 < np.mean(equal[0] == equal[1]) < 0.42  # 1/3 by chance


def test_another_seed_takes_the_sources_in_another_order():
  one, other = (
    make_mixture('equal', three_sources(), seed=seed, batch_size=16).epoch(0).source
    for seed in (0, 1)
  )
  assert 0.25 < np.mean(one == other) < 0.42  # 1/3 by chance


@pytest.mark.parametrize('kind', ['equal', 'proportional', 'alternate'])
def test_sources_of_one_size_are_not_walked_in_step(kind):
  sources = [fake_source('a', 60, {'smile': 1.0}), fake_source('b', 60, {'gender': 1.0})]
  draws = make_mixture(kind, sources, seed=0, batch_size=20).epoch(0)
  a, b = (draws.row[draws.source == index] for index in (0, 1))
  assert sorted(a) == sorted(b) == list(range(60))
  assert np.mean(a == b) < 0.15  # 1/60 by chance
  assert abs(np.corrcoef(a, np.arange(60))[0, 1]) < 0.5, 'and in no order of the rows'


def test_extra_draws_are_no_neighbours():
  sources = [fake_source('a', 300, {'smile': 1.0}), fake_source('b', 400, {'gender': 1.0})]
  times = uses(make_mixture('equal', sources, seed=0, batch_size=8).epoch(0), 0, 300)
  assert np.bincount(times).tolist() == [0, 200, 100]
  in_each_third = (times == 2).reshape(3, 100).sum(axis=1)
  assert in_each_third.min() > 17, in_each_third.tolist()  # of 33, four standard deviations


def test_hidden_labels_are_spread_over_the_sources_and_over_their_samples():
  sources = [
    fake_source('a', 300, {'smile': 1.0, 'gender': 1.0}),
    fake_source('b', 100, {'gender': 1.0}),
  ]
  mixture = make_mixture('equal', sources, seed=0, batch_size=8)
  target = mixture.counts['gender']
  assert target < mixture.epoch_size, 'some are hidden'
  share = 1 - target / mixture.epoch_size
  draws = mixture.epoch(0)
  for index, source in enumerate(sources):
    of_source = draws.source == index
    n = of_source.sum()
    spread = 4 * np.sqrt(share * (1 - share) * n)  # four standard deviations
    assert abs(draws.hidden['gender'][of_source].sum() - share * n) < spread, source.name
    hidden = np.unique(draws.row[of_source & draws.hidden['gender']])
    assert np.median(hidden) == pytest.approx((len(source) - 1) / 2, abs=0.2 * len(source)), (
      'all over the rows'
    )
  # And every label is seen again: what is hidden rotates until all were hidden as often.
  times = np.zeros(400, int)
  for epoch in range(mixture.epoch_size):
    draws = mixture.epoch(epoch)
    times += np.bincount((draws.source * 300 + draws.row)[~draws.hidden['gender']], minlength=400)
  assert times.min() > 0.7 * times.max()


def test_an_alternating_epoch_is_as_long_as_the_largest_source_needs():
  sources = three_sources()
  mixture = make_mixture('alternate', sources, seed=0, batch_size=16)
  each = 16 * 18  # 287 samples in batches of 16
  assert (mixture.epoch_size, mixture.draws) == (3 * each, [each] * 3)
  assert mixture.counts == {'smile': each, 'emotion7': each, 'gender': each}
  assert uses(mixture.epoch(0), 1, 287).min() == 1, 'the largest one is seen whole'
  half = [
    fake_source('a', 32, {'smile': 0.5, 'gender': 1.0}),
    fake_source('b', 30, {'gender': 1.0}),
  ]
  assert make_mixture('alternate', half, seed=0, batch_size=8).counts == {'gender': 64, 'smile': 16}


@pytest.mark.parametrize('kind', ['proportional', 'alternate'])
def test_other_mixtures_hide_nothing_and_draw_no_unlabelled_faces(kind):
  sources = [
    fake_source('a', 40, {'smile': 0.5, 'gender': 0.7}),
    fake_source('b', 24, {'gender': 0.5}),
  ]
  mixture = make_mixture(kind, sources, seed=0, batch_size=4)
  drawn = [mixture.epoch(number) for number in range(2)]
  assert all(not np.any(list(d.hidden.values())) for d in drawn)
  for index, labelled in enumerate((28, 12)):  # the first ones
    assert set(np.concatenate([d.row[d.source == index] for d in drawn])) == set(range(labelled))


def test_partly_labelled_faces_are_of_use():
  source = fake_source('units', 12, {'action_units': 1.0, 'smile': 0.5})
  source.mask['action_units'][:] = (
    np.arange(12)[:, None] % 3 == np.arange(11) % 3
  )  # each face has some of the units
  source.mask['action_units'][9:] = False
  found = {pattern.tasks: pattern.rows.tolist() for pattern in find_patterns([source])}
  assert found == {
    frozenset({'action_units', 'smile'}): [*range(6)],
    frozenset({'action_units'}): [6, 7, 8],
  }


def test_any_slice_of_the_stream_is_the_same_whoever_asks():
  sources = three_sources()
  whole = make_mixture('equal', sources, seed=3, batch_size=16).at(0, 2500)
  again = make_mixture('equal', sources, seed=3, batch_size=16)
  for start, stop in [
    (2400, 2500),
    (850, 880),
    (0, 7),
  ]:  # out of order, and across the end of an epoch (861)
    part = again.at(start, stop)
    assert part.row.tolist() == whole.row[start:stop].tolist()
    assert part.source.tolist() == whole.source[start:stop].tolist()


def test_what_is_hidden_is_the_same_whoever_asks():
  sources = [
    fake_source('a', 20, {'smile': 1.0}),
    fake_source('b', 50, {'gender': 1.0, 'age_group': 0.9}),
  ]
  mixture = make_mixture('equal', sources, seed=3, batch_size=16)
  size = mixture.epoch_size
  epochs = [mixture.epoch(number) for number in range(3)]
  whole = {task: np.concatenate([e.hidden[task] for e in epochs]) for task in epochs[0].hidden}
  for start, stop in [(2 * size - 9, 2 * size + 9), (3, 40), (size - 1, 2 * size + 1)]:
    part = mixture.at(start, stop)
    assert part.hidden.keys() == whole.keys() == {'gender'}
    np.testing.assert_array_equal(part.hidden['gender'], whole['gender'][start:stop])


def test_unlabelled_samples_are_left_out():
  source = fake_source('a', 10, {'smile': 0.6})
  assert [len(p.rows) for p in find_patterns([source])] == [6]


def test_bad_input():
  with pytest.raises(UserError, match='equal, proportional, alternate'):
    make_mixture('balanced', three_sources(), seed=0, batch_size=8)
  with pytest.raises(UserError, match='no sample has a label'):
    make_mixture('equal', [fake_source('a', 10, {'smile': 0.0})], seed=0, batch_size=8)
