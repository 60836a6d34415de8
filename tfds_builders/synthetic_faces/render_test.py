"""The numbers, the people, the geometry and the pictures of synthetic_faces."""

import hashlib
import inspect

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import transform

from mtface import tasks
from tfds_builders.synthetic_faces import draws, geometry, population, render
from tfds_builders.synthetic_faces.draws import Draws

SOURCES = ('smile', 'emotion', 'people', 'units', 'compound')


def people(indices, source='emotion', **changes):
  """Parameters of some faces, with single values changed."""
  parameters = population.sample(Draws(0, source, 'train', indices), source)
  for name, value in changes.items():
    parameters[name] = np.full_like(parameters[name], value)
  return parameters


def plain(indices, **changes):
  """Faces that look at the camera, evenly lit and sharp, with nothing in front and a shut mouth."""
  still: dict[str, float] = {f'au{unit}': 0 for unit in population.ACTION_UNITS}
  still |= dict.fromkeys(
    ('yaw', 'pitch', 'roll', 'blur', 'noise', 'jpeg', 'occluder', 'glasses', 'sunglasses'), 0
  )
  still |= {
    'beard': 0,
    'fringe': 0,
    'asymmetry': 0,
    'shift_x': 0,
    'shift_y': 0,
    'ambient': 0.8,
    'face_size': 0.4,
  }
  return people(indices, **{**still, **changes})


# --- Numbers --------------------------------------------------------------------------------------


def test_the_generator_is_splitmix64():
  # The first outputs for the seed 1234567, as published with many implementations (Rosetta Code,
  # "Splitmix64").
  expected = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
  ]
  counters = np.arange(1, 6, dtype=np.uint64) * draws.GAMMA
  assert draws.mix64(np.uint64(1234567) + counters).tolist() == expected


def test_a_number_by_hand():
  mask = 2**64 - 1
  key = int.from_bytes(hashlib.sha256(b'3/smile/test/yaw').digest()[:8], 'little')
  z = (key + 18 * 0x9E3779B97F4A7C15) & mask  # index 17
  z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
  z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
  z ^= z >> 31
  assert Draws(3, 'smile', 'test', [17]).uniform('yaw')[0] == ((z >> 11) + 0.5) / 2**53


def test_distributions():
  d = Draws(0, 's', 't', range(20_000))
  assert stats.kstest(d.uniform('a', 2, 5), stats.uniform(2, 3).cdf).pvalue > 1e-3
  assert stats.kstest(d.normal('b', 1, 3, clip=9), stats.norm(1, 3).cdf).pvalue > 1e-3
  assert abs(np.corrcoef(d.uniform('a'), d.uniform('b'))[0, 1]) < 0.03
  assert np.bincount(d.choice('c', [1, 3, 0, 4])) / 20_000 == pytest.approx(
    [1 / 8, 3 / 8, 0, 4 / 8], abs=0.015
  )
  assert set(d.choice('d', np.tile([[0, 1], [1, 0]], (10_000, 1)))[::2]) == {1}


def test_pixel_noise_is_normal_enough():
  noise = draws.pixel_noise(np.arange(4, dtype=np.uint64), (100, 100))
  assert noise.mean() == pytest.approx(0, abs=0.02)
  assert noise.std() == pytest.approx(1, abs=0.02)
  assert stats.kurtosis(noise.ravel()) == pytest.approx(
    -1.2 / 4, abs=0.05
  )  # of a sum of four uniform numbers
  np.testing.assert_array_equal(
    noise[2], draws.pixel_noise(np.array([2], np.uint64), (100, 100))[0]
  )


# --- Who is in the pictures -----------------------------------------------------------------------


@pytest.mark.parametrize('source', SOURCES)
def test_a_face_does_not_depend_on_the_others(source):
  many = population.sample(Draws(0, source, 'train', range(60)), source)
  few = population.sample(Draws(0, source, 'train', [41, 7]), source)
  for name, values in few.items():
    np.testing.assert_array_equal(values, many[name][[41, 7]], err_msg=name)


def test_seeds_sources_and_splits_differ():
  ages = {
    (seed, source, split): tuple(
      population.sample(Draws(seed, source, split, range(20)), source)['skin'].ravel()
    )
    for seed in (0, 1)
    for source in SOURCES
    for split in ('train', 'test')
  }
  assert len(set(ages.values())) == 4 * len(SOURCES)


def test_labels_are_the_parameters():
  parameters = people(range(400), 'people')
  labels = population.labels(parameters)
  np.testing.assert_array_equal(labels['smile'], parameters['au12'] >= np.float32(0.3))
  np.testing.assert_array_equal(labels['age_years'], parameters['age'])
  # Rohani's groups: 0-15, 16-25, 26-35, 36-45, 46-60, 61 and more.
  np.testing.assert_array_equal(
    labels['age_group'], np.digitize(parameters['age'], [16, 26, 36, 46, 61])
  )
  names = tasks.get_task('action_units').classes
  assert labels['action_units'].shape == (400, len(names))
  np.testing.assert_array_equal(
    labels['action_units'][:, names.index('AU9')], parameters['au9'] >= np.float32(0.2)
  )
  for name in ('smile', 'emotion7', 'gender', 'age_group'):
    assert set(labels[name]) == set(range(tasks.get_task(name).num_classes)), name
  assert 1 <= labels['age_years'].min() <= 5
  assert 80 <= labels['age_years'].max() <= 90


def test_emotions_move_their_action_units():
  parameters = people(range(3000))
  emotion = np.array(population.EMOTIONS)[parameters['emotion']]
  mean = {
    e: {u: parameters[f'au{u}'][emotion == e].mean() for u in population.ACTION_UNITS}
    for e in set(emotion)
  }
  # EMFACS: what sets an emotion apart from all the others.
  for unit, owners in (
    (12, {'happy'}),
    (9, {'disgust'}),
    (20, {'fear'}),
    (23, {'angry'}),
    (2, {'fear', 'surprise'}),
  ):
    own = min(mean[e][unit] for e in owners)
    assert own > 0.5 > 0.2 > max(mean[e][unit] for e in set(emotion) - owners), unit
  assert max(mean['neutral'].values()) < 0.2
  assert all(
    parameters[f'au{u}'].min() >= 0 and parameters[f'au{u}'].max() <= 1
    for u in population.ACTION_UNITS
  )


def test_a_compound_emotion_moves_the_units_of_both_of_its_emotions():
  p = people(range(4000), 'compound')
  truth = population.labels(p)
  assert (truth['emotion7'] == -1).all()
  assert np.unique(truth['compound8']).tolist() == list(range(8))
  assert (population.labels(people(range(100), 'emotion'))['compound8'] == -1).all()
  for k, name in enumerate(population.COMPOUND):
    of = truth['compound8'] == k
    assert of.mean() == pytest.approx(1 / 8, abs=0.03)
    parents = [population.PROTOTYPES[parent] for parent in population.PARENTS[name]]
    for unit in (4, 9, 12, 26):
      share = max(parent.get(unit, population.EXTRA_UNIT) for parent in parents)
      assert (p[f'au{unit}'][of] > 0.3).mean() == pytest.approx(share, abs=0.09)


def test_no_cue_of_gender_is_decisive():
  parameters = people(range(2000), 'people')
  adult = parameters['age'] >= 18
  male = parameters['male'][adult] == 1
  labels = {'male', 'dimorphism'}
  for cue in {name for name, values in parameters.items() if values.ndim == 1} - labels:
    values = parameters[cue][adult].astype(float)
    best = max(
      np.mean((values > cut) == male) for cut in np.quantile(values, np.linspace(0, 1, 41))
    )
    assert max(best, 1 - best) < 0.88, cue
  for cue in ('jaw', 'brow_thick', 'hair_len', 'lip_l', 'beard', 'make_up', 'chin_y', 'brow_arch'):
    values = parameters[cue][adult]
    assert abs(values[male].mean() - values[~male].mean()) > 0.2 * values.std(), cue


def test_age_shows_but_never_for_certain():
  parameters = people(range(2000), 'people')
  for sign in ('forehead_lines', 'crows_feet', 'eye_bags', 'folds', 'grey'):
    assert 0.5 < stats.spearmanr(parameters[sign], parameters['age'])[0] < 0.99, sign
  eyes = stats.spearmanr(parameters['eye_y'], parameters['age'])[0]
  assert eyes < -0.3  # children's eyes lie lower in the head


# --- Geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('unit', 'place', 'sign'),
  [
    (1, 'brow_in', -1),
    (2, 'brow_out', -1),
    (4, 'brow_in', 1),
    (5, 'lid_upper', 1),
    (6, 'lid_lower', -1),
    (7, 'lid_upper', -1),
    (9, 'nose_y', -1),
    (12, 'corner', -1),
    (12, 'mouth_half', 1),
    (15, 'corner', 1),
    (17, 'arched', 1),
    (20, 'mouth_half', 1),
    (23, 'upper_lip', -1),
    (25, 'gap', 1),
    (26, 'chin', 1),
  ],
)
def test_action_units_move_what_facs_says(unit, place, sign):
  rest, moved = (
    getattr(geometry.arrange(plain(range(5), **{f'au{unit}': v})), place) for v in (0.0, 1.0)
  )
  assert np.all(sign * (moved - rest) > 0.01)


def test_turning_is_a_rotation_and_unturning_undoes_it():
  g = geometry.arrange(plain(range(1), yaw=20.0, pitch=-9.0))
  points = np.array([[[0.3, 0.2], [-0.4, 0.8], [0.0, -0.1]]], np.float32)
  seen = geometry.turn(points, g)
  unit = points[0] / [geometry.RADIUS_X, geometry.RADIUS_Y]
  sphere = np.c_[unit, np.sqrt(1 - (unit**2).sum(1))]
  # x right, y down, z to the camera: a positive yaw takes z to x, a positive pitch z to y.
  angles = [-geometry.FOLLOW_PITCH * -9.0, geometry.FOLLOW_YAW * 20.0]
  expected = transform.Rotation.from_euler('xy', angles, degrees=True).apply(sphere)[:, :2]
  np.testing.assert_allclose(seen[0], expected * [geometry.RADIUS_X, geometry.RADIUS_Y], atol=1e-5)
  x, y = geometry.unturn(seen[..., 0][:, None], seen[..., 1][:, None], g)
  np.testing.assert_allclose(np.stack([x[0, 0], y[0, 0]], -1), points[0], atol=1e-5)


# --- Pictures -------------------------------------------------------------------------------------


def test_pictures_do_not_depend_on_the_batch():
  parameters = people(range(20))
  images, landmarks = render.render(parameters, 48, 1)
  assert images.shape == (20, 48, 48, 1)
  assert images.dtype == np.uint8
  assert landmarks.shape == (20, 5, 2)
  for rows in ([3], [19, 4, 11]):
    some, points = render.render({name: values[rows] for name, values in parameters.items()}, 48, 1)
    np.testing.assert_array_equal(some, images[rows])
    np.testing.assert_array_equal(points, landmarks[rows])


def test_grey_is_the_luma_of_colour():
  parameters = people(range(12), jpeg=0)
  colour, points = render.render(parameters, 48, 3)
  grey, points_grey = render.render(parameters, 48, 1)
  luma = colour @ np.array([0.299, 0.587, 0.114])
  assert np.abs(grey[..., 0] - luma).max() < 1.1  # each is rounded once
  np.testing.assert_array_equal(points, points_grey)


def test_a_face_is_the_same_at_every_size():
  parameters = people(range(6), noise=0, jpeg=0, blur=0)
  small, points = render.render(parameters, 48, 1)
  large, points_large = render.render(parameters, 144, 1)
  shrunk = large.reshape(6, 48, 3, 48, 3).mean(axis=(2, 4))
  for n in range(6):
    assert np.corrcoef(small[n].ravel(), shrunk[n].ravel())[0, 1] > 0.96
  np.testing.assert_allclose((points_large + 0.5) / 3, points + 0.5, atol=1e-3)


def test_pictures_vary():
  images, landmarks = render.render(people(range(60), 'people'), 48, 1)
  pixels = images.reshape(60, -1).astype(float)
  assert len(np.unique(pixels, axis=0)) == 60
  assert pixels.mean(axis=1).std() > 15
  assert np.median(pixels.std(axis=1)) > 25
  assert pixels.std(axis=0).min() > 15  # no pixel is the same in all pictures
  assert landmarks.std(axis=0).min() > 1
  assert ((landmarks > 2) & (landmarks < 46)).mean() > 0.97


def lip_line(image, column, rows):
  """The row of the darkest pixel in part of a column."""
  return rows[0] + int(np.argmin(image[rows[0] : rows[1], column]))


def test_au12_pulls_the_corners_of_the_painted_mouth_up():
  parameters = plain(range(8), mouth_curve=0, make_up=0, male=0, light_slant=0.1)
  rises = []
  for unit12 in (0.0, 1.0):
    images, landmarks = render.render(
      {**parameters, 'au12': np.full(8, unit12, np.float32)}, 160, 1
    )
    for image, points in zip(images[..., 0].astype(int), landmarks, strict=True):
      left, right = points[3], points[4]
      middle, foot = (left[0] + right[0]) / 2, points[2][1] + 14
      at = round(middle + 0.7 * (right[0] - middle))
      rows = (round(foot), round(max(left[1], right[1])) + 12)
      rises.append(lip_line(image, round(middle), rows) - lip_line(image, at, rows))
  rest, smile = np.array(rises).reshape(2, 8)
  assert np.abs(np.median(rest)) <= 2
  assert np.median(smile) >= 4
  assert (smile > rest).mean() > 0.8


def test_landmarks_lie_on_the_painted_eyes():
  images, landmarks = render.render(
    plain(range(10), gaze_x=0, gaze_y=0, blink=0, droop=0, roll=15.0, yaw=12.0), 160, 1
  )
  for image, points in zip(images[..., 0].astype(int), landmarks, strict=True):
    left, right = points[0], points[1]
    for x, y in (left, right):
      eye = image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].mean()
      white = image[round(y) - 12 : round(y) + 13, round(x) - 14 : round(x) + 15].max()
      assert eye < white - 25  # the pupil, with the white of the eye beside it
    # Positive roll is clockwise: the eye at the right lies lower. Turning the head tilts the line a
    # little.
    assert np.degrees(np.arctan2(*(right - left)[::-1])) == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize(
  'name',
  ['occluder', 'glasses', 'beard', 'hair_len', 'receding', 'forehead_lines', 'light_angle', 'yaw'],
)
def test_parameters_show(name):
  lit = {'ambient': 0.4, 'light_slant': 0.9, 'bald': 0, 'male': 1, 'age': 40}
  values = {'occluder': 1, 'beard': 3, 'hair_len': 1.5, 'light_angle': 3.0, 'yaw': 20.0}
  before, _ = render.render(plain(range(4), **{**lit, name: 0}), 64, 3)
  after, _ = render.render(plain(range(4), **{**lit, name: values.get(name, 1)}), 64, 3)
  assert (np.abs(after.astype(int) - before).max(axis=(1, 2, 3)) > 15).all()


def test_channels_are_checked():
  with pytest.raises(ValueError, match='channels is 2; expected 1 or 3'):
    render.render(people(range(1)), 48, 2)


def test_nothing_but_draws_is_random():
  for module in (population, geometry, render):
    assert 'np.random' not in inspect.getsource(module)
