"""VGG-16 sharded over eight devices: each keeps an eighth of the large arrays, and learns the same.
benchmarks/README.md has the same at full size.
"""

import itertools
import json

import numpy as np
import pytest

from tests.command import python

SHARD_FROM = 1000
# VGG-16 of a 32nd of the width, for images of 32x32x3 (Zhang 2016, Table 1): kernels and biases.
CHANNELS = (3, 2, 2, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16)
KERNELS = [9 * a * b for a, b in itertools.pairwise(CHANNELS)]
ARRAYS = [*KERNELS, *CHANNELS[1:], 16 * 128, 128, 128 * 128, 128, 128 * 2, 2]


@pytest.fixture(scope='module')
def rows():
  """{fsdp: what benchmarks/sharding.py says of it}."""
  size = ['--size=32', f'--width={1 / 32}', '--steps=3', f'--shard_from={SHARD_FROM}']
  result = python('benchmarks.sharding', *size, devices=8)
  assert result.code == 0, result.err
  return {row['fsdp']: row for row in map(json.loads, result.out.splitlines())}


def test_a_device_keeps_an_eighth_of_the_large_arrays_and_of_their_momentum(rows):
  large = sum(n for n in ARRAYS if n >= SHARD_FROM)
  small = sum(ARRAYS) - large
  assert large > small, 'it shows something'
  for fsdp in (1, 8):
    expected = 2 * 4 * (large // fsdp + small)  # float32, twice
    assert expected <= rows[fsdp]['state'] <= expected + 64  # and the numbers of steps
    batch = 32 * 32 * 3  # a device's image; labels and the tally are small
    assert 0 <= rows[fsdp]['arguments'] - rows[fsdp]['state'] - batch < 1000


def test_gradients_are_not_whole_on_a_device_either(rows):
  assert rows[8]['temporary'] < 0.75 * rows[1]['temporary']


def test_losses_are_those_of_replicated_parameters(rows):
  losses = np.array([rows[fsdp]['losses'] for fsdp in (1, 8)])
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
  assert len(set(losses[0])) == 3
