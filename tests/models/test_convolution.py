"""Convolutions of all networks but BKNet, against SciPy."""

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import signal

from mtface.models import convolution

MAKE = convolution.Make(nnx.Rngs(0))


def _normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(('size', 'stride'), [(3, 2), (1, 1)])
def test_convolution_is_scipys(size, stride):
  x, kernel = _normal(0, 1, 6, 7, 2), _normal(1, size, size, 2, 3)
  expected = np.zeros((6, 7, 3))
  for c, d in np.ndindex(2, 3):
    expected[..., d] += signal.correlate2d(x[0, ..., c], kernel[:, :, c, d], 'same')
  np.testing.assert_allclose(
    convolution.conv(x, kernel, stride)[0], expected[::stride, ::stride], atol=2e-6
  )


@pytest.mark.parametrize(('channels', 'features'), [(3, 5), (4, 4), (6, 2)])
def test_gradients_of_a_pointwise_convolution(channels, features):
  # whichever side has fewer channels is the one that is transposed
  x, kernel = _normal(0, 2, 4, 5, channels), _normal(1, 1, 1, channels, features)
  dy = _normal(2, 2, 4, 5, features)
  _, pulled = jax.vjp(lambda x, kernel: convolution.conv(x, kernel, 1), x, kernel)
  dx, dkernel = pulled(dy)
  np.testing.assert_allclose(dx, np.einsum('bhwd,cd->bhwc', dy, kernel[0, 0]), atol=1e-5)
  expected = np.einsum('bhwc,bhwd->cd', x.astype(float), dy)
  np.testing.assert_allclose(dkernel[0, 0], expected, atol=1e-5)


def test_kernels_are_drawn_by_the_outputs_that_a_value_reaches():
  dense = convolution.Conv(16, 64, 3, MAKE).kernel[...]
  depthwise = convolution.Conv(512, 512, 3, MAKE, depthwise=True).kernel[...]
  assert depthwise.shape == (3, 3, 1, 512)
  assert float(dense.std()) == pytest.approx(
    np.sqrt(2 / (9 * 64)), rel=0.05
  )  # He et al. 2015, eq. 14
  assert float(depthwise.std()) == pytest.approx(np.sqrt(2 / 9), rel=0.05)


def test_channels_times_a_width_are_rounded_up():
  # 6.4, 2.5, 8, and 0.32, which leaves one.
  found = [convolution.scaled(*of) for of in ((32, 0.2), (10, 0.25), (32, 0.25), (32, 0.01))]
  assert found == [7, 3, 8, 1]
