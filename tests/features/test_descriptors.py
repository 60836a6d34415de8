"""Descriptors of clips against NumPy on all frames at once."""

import tracemalloc

import numpy as np
import pytest

from mtface.features.descriptors import GroupMoments, StreamingMoments, new_moments
from tests.videos import clip_descriptor, group_descriptor


def random_features(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_numpy(features):
  wide = features.astype(np.float64)
  return np.concatenate([wide.mean(axis=0), wide.max(axis=0), wide.min(axis=0), wide.std(axis=0)])


@pytest.mark.parametrize('sizes', [[7], [1] * 7, [3, 0, 4], [2, 1, 3, 1]])
def test_moments_do_not_depend_on_the_batches(sizes):
  features = random_features(7, 5)
  moments, start = StreamingMoments(), 0
  for size in sizes:
    moments.add(features[start : start + size])
    start += size
  np.testing.assert_allclose(moments.values(), by_numpy(features), rtol=1e-12)
  np.testing.assert_array_equal(moments.values(('max', 'min')), by_numpy(features)[5:15])


def test_a_small_deviation_around_a_large_mean_is_kept():
  # In float64, a sum of squares of 1e9 has an error of about 100, and this variance is 1e-4.
  features = 1e9 + 0.01 * np.random.default_rng(0).normal(size=(1000, 3))
  moments = StreamingMoments()
  for frame in features:
    moments.add(frame[None])
  np.testing.assert_allclose(moments.values(('std',)), features.std(axis=0), rtol=1e-3)


def test_memory_does_not_grow_with_the_clip():
  moments, frame = StreamingMoments(), random_features(1, 1000)
  moments.add(frame)
  tracemalloc.start()
  for _ in range(300):
    moments.add(frame)
  kept, _ = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert kept < 10 * 8 * 1000, '300 frames are 300 times 8 * 1000 bytes'


def test_clip_descriptor_by_hand():
  features = np.array([[1.0, -2.0], [3.0, -2.0], [8.0, 4.0]])
  expected = [4, 0, 8, 4, 1, -2, (26 / 3) ** 0.5, 8**0.5]
  np.testing.assert_allclose(clip_descriptor(features), expected)
  np.testing.assert_allclose(
    clip_descriptor(features, ('std', 'mean')), [*expected[6:], *expected[:2]]
  )


def test_one_frame_has_no_deviation_and_no_frame_is_zero():
  features = random_features(1, 4)
  np.testing.assert_array_equal(
    clip_descriptor(features), [*features[0], *features[0], *features[0], 0, 0, 0, 0]
  )
  np.testing.assert_array_equal(clip_descriptor(np.zeros((0, 4))), np.zeros(16))


def group_by_numpy(frames):
  of_frames = np.array(
    [np.concatenate([f.astype(np.float64).mean(0), f.astype(np.float64).std(0)]) for f in frames]
  )
  return np.concatenate([of_frames.mean(axis=0), of_frames.std(axis=0)])


def test_group_descriptor():
  frames = [random_features(faces, 3, seed=faces) for faces in (2, 5, 1, 4)]
  np.testing.assert_allclose(group_descriptor(frames), group_by_numpy(frames), rtol=1e-12)
  empty = np.zeros((0, 3), np.float32)
  np.testing.assert_array_equal(group_descriptor([empty, *frames, empty]), group_descriptor(frames))
  # A frame counts once, however many faces it has: the mean over all faces would be another one.
  assert np.abs(group_descriptor(frames)[:3] - np.concatenate(frames).mean(axis=0)).max() > 0.05


def test_group_descriptor_by_hand():
  frames = [np.array([[1.0], [3.0]]), np.array([[6.0]])]
  # Frames: mean 2 and deviation 1; mean 6 and deviation 0.
  np.testing.assert_allclose(group_descriptor(frames), [4, 0.5, 2, 0.5])


@pytest.mark.parametrize('size', [1, 2, 3, 12])
def test_groups_do_not_depend_on_the_batches(size):
  frames = [random_features(faces, 3, seed=faces) for faces in (2, 5, 1, 4)]
  features, index = np.concatenate(frames), np.repeat([0, 3, 4, 9], (2, 5, 1, 4))
  moments = GroupMoments()
  for start in range(0, 12, size):
    moments.add(features[start : start + size], index[start : start + size])
    moments.descriptor()  # a look at it changes nothing
  np.testing.assert_allclose(moments.descriptor(), group_by_numpy(frames), rtol=1e-12)


def test_both_levels_have_one_length():
  features, frames = random_features(6, 5), np.array([0, 0, 1, 2, 2, 2])
  for level in ('clip', 'group'):
    moments = new_moments(level)
    moments.add(features, frames)
    assert moments.descriptor().shape == (20,)


def test_what_has_no_descriptor():
  with pytest.raises(ValueError, match='statistics of no vectors'):
    group_descriptor([])
  with pytest.raises(ValueError, match=r"\['median'\]; there are mean, max, min, std"):
    clip_descriptor(np.ones((2, 2)), ('mean', 'median'))
  with pytest.raises(ValueError, match='are empty'):
    clip_descriptor(np.ones((2, 2)), ())
