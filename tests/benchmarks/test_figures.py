"""Turns, ratios and distances against NumPy."""

import dataclasses

import numpy as np
import pytest

from benchmarks import figures


@dataclasses.dataclass
class Fake:
  """Takes its turns from a list."""

  name: str
  times: list
  order: list

  def turn(self):
    self.order.append(self.name)
    return {'wall': self.times[self.order.count(self.name) - 1], 'cpu': 0.0}


def test_contestants_take_turns_and_another_begins_in_every_round():
  order = []
  fakes = [Fake(name, [1.0, 2.0, 3.0, 4.0], order) for name in 'ABC']
  found = figures.alternate(fakes, rounds=4, seconds=0)
  assert ''.join(order) == 'ABC' + 'BCA' + 'CAB' + 'ABC'
  assert [turn['wall'] for turn in found['B']] == [1.0, 2.0, 3.0, 4.0]


def test_rounds_go_on_for_their_seconds(monkeypatch):
  clock = iter(range(0, 1000, 10))
  monkeypatch.setattr(figures.time, 'monotonic', lambda: next(clock))
  found = figures.alternate([Fake('A', [1.0] * 100, [])], rounds=2, seconds=65)
  assert len(found['A']) == 8  # two without a look at the clock, then at 10, 20, ..., 60 s


def test_a_ratio_is_of_pairs_and_not_of_medians():
  rng = np.random.default_rng(0)
  company = rng.uniform(1, 50, 101)  # of the machine: it falls on both
  ours, theirs = 2.0 * company, 3.0 * company
  assert figures.ratio(ours, theirs) == pytest.approx((1.5, 1.5, 1.5))
  noisy = theirs * rng.uniform(0.9, 1.1, 101)
  low, median, high = np.quantile(noisy / ours, [0.25, 0.5, 0.75])
  assert figures.ratio(ours, noisy) == pytest.approx((median, low, high))
  assert figures.ratio(ours, noisy)[0] != pytest.approx(
    np.median(noisy) / np.median(ours), rel=1e-6
  )


def test_a_pair_is_missing():
  with pytest.raises(ValueError):
    figures.ratio([1.0, 2.0], [1.0])


def test_distances_are_shares_of_the_length_of_each_group():
  rng = np.random.default_rng(1)
  a = {
    'gradients/x': rng.normal(size=(3, 4)),
    'gradients/y': rng.normal(size=5),
    'loss': np.array(2.0),
  }
  b = {**a, 'gradients/y': a['gradients/y'] + 0.1, 'loss': np.array(2.5)}
  whole = np.concatenate([a['gradients/x'].ravel(), a['gradients/y']])
  expected = 0.1 * np.sqrt(5) / np.linalg.norm(whole)
  assert figures.distances(a, b) == pytest.approx({'gradients': expected, 'loss': 0.25})
  scaled = {**a, 'scale/gradients': np.array(4.0)}
  assert figures.distances(scaled, b)['gradients'] == pytest.approx(0.1 * np.sqrt(5) / 4)


@pytest.mark.parametrize(
  'found', [{}, {'scores/a': np.ones(3)}, {'scores/a': np.ones(2), 'scores/b': np.ones(2)}]
)
def test_what_is_missing_or_of_another_shape_is_infinitely_far(found):
  distance = figures.distances({'scores/a': np.ones(2)}, found)
  assert distance == {'scores': np.inf} and not figures.agrees(distance)


def test_what_is_no_number_does_not_agree():
  assert not figures.agrees({'loss': float('nan')})
  assert figures.agrees({'loss': 0.0, 'gradients': figures.TOLERANCE['gradients']})
