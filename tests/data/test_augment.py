"""Augmentation against SciPy and NumPy with the drawn parameters; independence of batching and of
sharding.
"""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from mtface.data import augment
from mtface.data.inputs import scale_images

KEY = jax.random.key(3)

# As training runs them; uncompiled, every operation would be compiled by itself.
AUGMENT, DRAW, WARP = map(jax.jit, (augment.augment, augment.draw_parameters, augment.warp))


# One batch size and two shapes for all tests: each new one costs a second of compiling.
B = 16
COLOUR, GREY = (12, 10, 3), (48, 48, 1)
POSITIONS = np.arange(B, dtype=np.uint32)


def faces(shape=COLOUR, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (B, *shape), dtype=np.uint8)


def parameters(*, shift=(0, 0), flip=False, angle=0.0, scale=(1.0, 1.0)):
  return augment.Parameters(
    np.broadcast_to(np.array(shift, np.int32), (B, 2)),
    np.full(B, flip),
    np.full(B, angle, np.float32),
    np.broadcast_to(np.array(scale, np.float32), (B, 2)),
  )


def crop_and_flip(image, shift, flip, pad):
  """Pads with edge pixels, crops back, flips: NumPy slices, no coordinates."""
  height, width, _ = image.shape
  padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode='edge')
  down, right = shift + pad
  crop = padded[down : down + height, right : right + width]
  return crop[:, ::-1] if flip else crop


def scipy_warp(image, shift, flip, angle, scale):
  """One affine map in homogeneous float64 matrices, channel by channel; result pixel -> source
  pixel.
  """
  height, width, _ = image.shape
  centre = np.array([(height - 1) / 2, (width - 1) / 2])
  turn_back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
  matrix = np.diag([1, -1 if flip else 1]) @ np.diag(1 / scale) @ turn_back
  offset = centre + shift - matrix @ centre
  planes = [
    scipy.ndimage.affine_transform(plane, matrix, offset, order=1, mode='nearest')
    for plane in np.moveaxis(image.astype(np.float64), -1, 0)
  ]
  return np.stack(planes, axis=-1)


@pytest.mark.parametrize(
  ('pad', 'flip', 'rotate', 'zoom', 'stretch'),
  [(4, True, 15.0, 0.0, 0.0), (0, False, 45.0, 0.3, 0.1), (3, False, 5.0, 0.0, 0.2)],
)
@pytest.mark.parametrize('shape', [COLOUR, GREY])
def test_equals_scipy_with_the_same_parameters(pad, flip, rotate, zoom, stretch, shape):
  images = faces(shape)
  options = dict(pad=pad, flip=flip, rotate=rotate, zoom=zoom, stretch=stretch)
  result = AUGMENT(images, POSITIONS, KEY, **options)
  assert result.dtype == jnp.float32
  drawn = DRAW(POSITIONS, KEY, **options)
  assert np.ptp(drawn.angle) > np.deg2rad(rotate) / 2
  for i in range(B):
    expected = scipy_warp(images[i], *(np.asarray(value[i], np.float64) for value in drawn))
    np.testing.assert_allclose(result[i], expected, atol=5e-3)


@pytest.mark.parametrize('shape', [COLOUR, GREY])
def test_without_rotation_equals_slices_exactly(shape):
  images = faces(shape)
  result = np.asarray(AUGMENT(images, POSITIONS, KEY, pad=4, flip=True, rotate=0.0))
  drawn = DRAW(POSITIONS, KEY, pad=4, flip=True, rotate=0.0)
  assert len(np.unique(drawn.flip)) == 2
  for i in range(B):
    expected = crop_and_flip(images[i], np.asarray(drawn.shift[i]), bool(drawn.flip[i]), pad=4)
    np.testing.assert_array_equal(result[i], expected)


@pytest.mark.parametrize('shape', [COLOUR, GREY])
def test_all_off_returns_the_image_exactly(shape):
  images = faces(shape)
  result = AUGMENT(images, POSITIONS, KEY, pad=0, flip=False, rotate=0.0)
  np.testing.assert_array_equal(result, images.astype(np.float32))


def test_zoom_and_stretch_cover_their_ranges():
  many = jnp.arange(4000, dtype=jnp.uint32)
  drawn = DRAW(many, KEY, pad=2, flip=True, rotate=15.0, zoom=0.5, stretch=0.25)
  area = np.log(drawn.scale).sum(axis=1) / 2
  wider = np.log(drawn.scale[:, 1] / drawn.scale[:, 0]) / 2
  for values, largest in ((area, np.log(1.5)), (wider, np.log(1.25))):
    assert -largest <= values.min() < -0.99 * largest and 0.99 * largest < values.max() <= largest
    assert abs(values.mean()) < 4 * largest / np.sqrt(3 * 4000)
  plain = DRAW(many, KEY, pad=2, flip=True, rotate=15.0)
  for name in ('shift', 'flip', 'angle'):
    np.testing.assert_array_equal(getattr(drawn, name), getattr(plain, name))
  np.testing.assert_array_equal(plain.scale, 1.0)


def test_a_face_twice_as_large_shows_its_middle():
  result = WARP(faces(GREY), parameters(scale=(2.0, 2.0)))
  middle = faces(GREY)[:, 12:36, 12:36].astype(float)
  # each pixel of the middle lies between four of the result
  four = result.reshape(B, 24, 2, 24, 2, 1).mean(axis=(2, 4))
  assert np.corrcoef(four.ravel(), middle.ravel())[0, 1] > 0.9


def test_light():
  images, options = faces(), dict(brightness=0.2, contrast=0.5)
  drawn = augment.draw_light(POSITIONS, KEY, **options)
  result = augment.augment(images, POSITIONS, KEY, pad=0, flip=False, rotate=0.0, **options)
  for i in range(B):
    image = images[i].astype(float)
    expected = image.mean() + (image - image.mean()) * float(drawn.factor[i])
    expected = np.clip(expected + float(drawn.gain[i]), 0, 255)
    np.testing.assert_allclose(result[i], expected, atol=1e-3)
  many = augment.draw_light(jnp.arange(2000, dtype=jnp.uint32), KEY, **options)
  assert -51 <= many.gain.min() < -50 and 50 < many.gain.max() <= 51
  assert 0.5 <= many.factor.min() < 0.51 and 1.49 < many.factor.max() <= 1.5


def test_boxes():
  images = faces(GREY)
  options = dict(pad=0, flip=False, rotate=0.0, erase=0.6)
  result = np.asarray(augment.augment(images, POSITIONS, KEY, **options))
  drawn = augment.draw_boxes(POSITIONS, KEY, (48, 48), erase=0.6)
  for i in range(B):
    expected = images[i].astype(float)
    top, bottom, left, right, value = (int(x[i]) for x in drawn)
    expected[top:bottom, left:right] = value
    np.testing.assert_array_equal(result[i], expected)
  many = augment.draw_boxes(jnp.arange(4000, dtype=jnp.uint32), KEY, (48, 48), erase=0.6)
  down, right = many.bottom - many.top, many.right - many.left
  there = np.asarray(down > 0)
  assert abs(there.mean() - 0.6) < 4 * np.sqrt(0.6 * 0.4 / 4000)
  share = np.asarray(down * right)[there] / 48**2
  assert share.min() > 0.01 and share.max() < 0.27 and abs(share.mean() - 0.135) < 0.01
  assert many.top.min() == 0 and many.bottom.max() == 48
  assert many.left.min() == 0 and many.right.max() == 48


def test_a_quarter_turn_is_counter_clockwise():
  images = faces(GREY)
  result = WARP(images, parameters(angle=np.pi / 2))
  np.testing.assert_allclose(result, np.rot90(images, axes=(1, 2)), atol=1e-2)


def test_the_crop_comes_before_the_rotation():
  # Turning by half a turn about the crop's centre leaves the mean of the middle four pixels,
  # wherever the crop was taken.
  images = faces(GREY)
  result = WARP(images, parameters(shift=(2, -3), angle=np.pi))
  np.testing.assert_allclose(
    result[:, 23:25, 23:25].mean(axis=(1, 2)), images[:, 25:27, 20:22].mean(axis=(1, 2)), atol=1e-2
  )


def test_draws_cover_their_ranges_evenly():
  drawn = DRAW(jnp.arange(4000, dtype=jnp.uint32), KEY, pad=2, flip=True, rotate=15.0)
  for axis in range(2):
    values, counts = np.unique(drawn.shift[:, axis], return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert abs(counts - 800).max() < 110  # more than 4 standard deviations
  assert abs(np.mean(drawn.flip) - 0.5) < 0.035
  angle = np.rad2deg(drawn.angle)
  assert -15 <= angle.min() < -14.9
  assert 14.9 < angle.max() <= 15
  assert abs(angle.mean()) < 0.6
  assert (
    abs(np.corrcoef(np.stack([*drawn.shift.T, drawn.flip, drawn.angle])) - np.eye(4)).max() < 0.07
  )


def test_switching_one_off_leaves_the_others():
  everything = DRAW(POSITIONS, KEY, pad=3, flip=True, rotate=10.0)
  no_flip = DRAW(POSITIONS, KEY, pad=3, flip=False, rotate=10.0)
  assert not no_flip.flip.any()
  np.testing.assert_array_equal(everything.shift, no_flip.shift)
  np.testing.assert_array_equal(everything.angle, no_flip.angle)


def test_depends_on_key_and_position_not_on_the_place_in_the_batch():
  images, positions = faces(), POSITIONS**2
  positions[1] = 4_000_000_000
  options = dict(pad=4, flip=True, rotate=15.0)
  whole = AUGMENT(images, positions, KEY, **options)
  order = np.array([9, 1, 14, 3] * 4)
  part = AUGMENT(images[order], positions[order], KEY, **options)
  drawn, drawn_part = (DRAW(p, KEY, **options) for p in (positions, positions[order]))
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(np.asarray(a)[order], b), drawn, drawn_part
  )
  np.testing.assert_allclose(part, np.asarray(whole)[order], atol=5e-3)
  other_key = DRAW(positions, jax.random.key(4), **options)
  assert not np.array_equal(other_key.angle, drawn.angle)


def test_scale_images():
  scaled = scale_images(jnp.array([[0, 51, 255]], jnp.uint8))
  assert scaled.dtype == jnp.float32
  np.testing.assert_allclose(scaled, [[-1.0, -0.6, 1.0]], atol=1e-7)


def test_a_sharded_batch_is_augmented_without_communication():
  # In a process of its own: the number of devices is fixed when JAX starts.
  script = """
    import functools, re
    import jax, numpy as np
    from mtface.data import augment

    mesh = jax.make_mesh((8,), ('data',))
    batch, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (['data'], []))
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    arguments = images, np.arange(16, dtype=np.uint32), jax.random.key(0)
    work = functools.partial(augment.augment, pad=2, flip=True, rotate=15.0)
    sharded = jax.jit(work, in_shardings=(batch, batch, everywhere), out_shardings=batch)
    text = sharded.lower(*arguments).compile().as_text()
    assert not re.findall('all-gather|all-reduce|all-to-all|collective|reduce-scatter', text), text
    np.testing.assert_allclose(sharded(*arguments), jax.jit(work)(*arguments), atol=5e-3)
    print('done on', len(jax.devices()))
  """
  environment = os.environ | {
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    'JAX_PLATFORMS': 'cpu',
  }
  result = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(script)],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.stdout == 'done on 8\n', result.stderr
