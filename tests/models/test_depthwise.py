"""Depthwise convolutions against SciPy's, and their gradients against those of XLA's operator."""

import jax
import numpy as np
import pytest
from scipy import signal

from mtface.models import depthwise, platforms


def _normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ('shape', 'size', 'stride'), [((2, 7, 6, 3), 3, 2), ((1, 6, 9, 2), 5, 1), ((2, 8, 5, 2), 5, 2)]
)
def test_result_is_scipys_with_zeros_on_both_sides(shape, size, stride):
  x, kernel = _normal(0, *shape), _normal(1, size, size, 1, shape[-1])
  expected = [
    [
      signal.correlate2d(image[..., c], kernel[:, :, 0, c], 'same')[::stride, ::stride]
      for c in range(shape[-1])
    ]
    for image in x
  ]
  for convolve in (depthwise.depthwise_conv, depthwise.xla_depthwise_conv):
    np.testing.assert_allclose(convolve(x, kernel, stride), np.moveaxis(expected, 1, -1), atol=2e-6)


@pytest.mark.parametrize(
  ('shape', 'size', 'stride'),
  [
    ((4, 6, 9, 3), 3, 2),
    ((3, 7, 4, 2), 5, 1),
    ((2, 1, 1, 4), 5, 2),
    ((4, 8, 128, 16), 3, 1),  # of some images at a time
  ],
)
@pytest.mark.parametrize('core', ['shared', 'alone'])
def test_gradients_are_xlas(shape, size, stride, core, monkeypatch):
  monkeypatch.setattr(platforms, 'is_alone', lambda: core == 'alone')
  x, kernel = _normal(0, *shape), _normal(1, size, size, 1, shape[-1])
  dy = _normal(2, shape[0], -(-shape[1] // stride), -(-shape[2] // stride), shape[-1])
  run = jax.jit(
    lambda convolve: jax.vjp(lambda x, k: convolve(x, k, stride), x, kernel)[1](dy),
    static_argnums=0,
  )
  for actual, expected in zip(
    run(depthwise.depthwise_conv), run(depthwise.xla_depthwise_conv), strict=True
  ):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4 if x.size > 1000 else 1e-5)


def test_running_totals_of_a_large_batch_stay_in_the_cache():
  assert platforms.images_at_a_time(64, 56 * 144) == 4
  assert platforms.images_at_a_time(7, 112 * 96) == 1
  assert platforms.images_at_a_time(8, 1 << 20) == 1


def test_those_of_a_single_core_are_smaller(monkeypatch):
  monkeypatch.setattr(platforms, 'is_alone', lambda: True)
  assert platforms.images_at_a_time(64, 16 * 144) == 1
  assert platforms.images_at_a_time(12, 1000) == 4
