"""Blends of pairs against loops over the images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

from mtface.data import blend

KEY, B = jax.random.key(5), 8
IMAGES = np.random.default_rng(0).uniform(0, 255, (B, 6, 9, 3)).astype(np.float32)
POSITIONS = np.arange(100, 100 + B, dtype=np.uint32)


def blended(name, alpha=1.0):
  made = blend.make_blend(ConfigDict({'name': name, 'alpha': alpha}))
  return map(np.asarray, made(IMAGES, POSITIONS, KEY))


def partner(i):
  return i + 1 if i % 2 == 0 else i - 1


def test_nothing():
  assert blend.make_blend(ConfigDict({'name': 'none', 'alpha': 0.2})) is None


def test_mixup():
  images, share = blended('mixup')
  assert ((share >= 0.5) & (share <= 1)).all() and np.ptp(share) > 0.1
  for i in range(B):
    expected = share[i] * IMAGES[i] + (1 - share[i]) * IMAGES[partner(i)]
    np.testing.assert_allclose(images[i], expected, rtol=1e-5)
    assert share[i] == share[partner(i)]


def test_cutmix():
  images, share = blended('cutmix')
  for i in range(B):
    own = (images[i] == IMAGES[i]).all(axis=-1)
    other = (images[i] == IMAGES[partner(i)]).all(axis=-1)
    assert (own ^ other).all()
    np.testing.assert_allclose(share[i], own.mean(), atol=1e-6)
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    assert other.sum() == len(rows) * len(columns), 'a rectangle'
  assert 0 < 1 - share.min() <= 0.6


@pytest.mark.parametrize('alpha', [0.5, 1.0])
def test_shares_are_drawn_as_the_paper_says(alpha):
  share, place = blend.draw_shares(jnp.arange(6000, dtype=jnp.uint32), KEY, alpha)
  share, place = np.asarray(share)[::2], np.asarray(place)[::2]
  expected = scipy.stats.beta(alpha, alpha)
  # the larger of x and 1 - x
  found = scipy.stats.kstest(share, lambda x: 2 * expected.cdf(x) - 1)
  assert found.pvalue > 1e-3
  assert scipy.stats.kstest(place.ravel(), 'uniform').pvalue > 1e-3


def test_shares_are_those_of_the_draw_in_cutmix():
  # but for whole pixels of a large image
  images = np.zeros((B, 200, 200, 1), np.float32)
  drawn = blend.draw_shares(POSITIONS, KEY, 1.0)
  _, share = blend.cutmix(images, drawn)
  np.testing.assert_allclose(share, drawn[0], atol=0.01)


def test_a_pair_depends_on_its_position_alone():
  whole = blend.draw_shares(POSITIONS, KEY, 0.4)
  part = blend.draw_shares(POSITIONS[4:6], KEY, 0.4)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[4:6], b), whole, part)
