import cv2
import numpy as np
import pytest

from mtface.faces import align, crop, schemes

CROPS = sorted(schemes.SCHEMES)
BOX = (60, 50, 120, 130)  # 60 wide and 80 high: a square around it is from 50 to 130 both ways


def picture(height=200, width=180):
  y, x = np.mgrid[:height, :width]
  return np.stack([x, y, (x + y) // 2], axis=-1).astype(np.uint8)


def frontal(box=BOX, degrees=0):
  """Landmarks of an average face in a box, by the medians of the module's docstring."""
  left, top, right, bottom = box
  d = (bottom - top) / 2.85
  angle = np.deg2rad(degrees)
  turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  return schemes.FRONTAL @ turn.T * d + ((left + right) / 2, top + 1.1 * d)


def test_the_five_are_zhangs():
  """Section 3.3: (b) and (f) are aligned, (c), (d) and (e) are not."""
  assert CROPS == ['crop1', 'crop2', 'crop3', 'crop4', 'crop5']
  assert [name for name in CROPS if schemes.SCHEMES[name].aligns] == ['crop1', 'crop5']


@pytest.mark.parametrize('name', CROPS)
def test_nothing_is_stretched(name):
  scheme = schemes.SCHEMES[name]
  upright = scheme.instead if scheme.aligns else scheme
  left, top, right, bottom = upright.region(BOX)
  assert right - left == pytest.approx(bottom - top)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    # margins of the square from (50, 50) to (130, 130), side 80
    ('crop2', (26, 30, 154, 158)),
    ('crop3', (44, 38, 136, 130)),
    ('crop4', (50, 50, 130, 130)),
    # of the box itself, a quarter of 60 and 80
    ('margin25', (45, 30, 135, 150)),
  ],
)
def test_regions(name, expected):
  assert schemes.get_scheme(name).region(BOX) == pytest.approx(expected)


@pytest.mark.parametrize('name', ['crop2', 'crop3', 'crop4', 'margin25'])
def test_the_pixels_of_a_region(name):
  """Against NumPy's slices, where a pixel of the result is a whole number of them or as many."""
  scheme = schemes.get_scheme(name)
  left, top, right, bottom = map(round, scheme.region(BOX))
  face, landmarks, _ = scheme.cut(picture(), BOX, np.array([(left, top)]), right - left, 3)
  if name == 'margin25':
    expected = cv2.resize(picture()[top:bottom, left:right], (90, 90), None)
    np.testing.assert_allclose(face.astype(int), expected, atol=2)
  else:
    np.testing.assert_array_equal(face, picture()[top:bottom, left:right])
    np.testing.assert_allclose(landmarks, [(0, 0)], atol=1e-4)


@pytest.mark.parametrize('times', [2, 4])
def test_a_smaller_crop_averages_from_corner_to_corner(times):
  image = np.random.default_rng(0).integers(0, 256, (200, 180, 3), dtype=np.uint8)
  size = 80 // times
  face, landmarks, _ = schemes.SCHEMES['crop4'].cut(image, BOX, np.array([(50, 50)]), size, 3)
  blocks = image[50:130, 50:130].reshape(size, times, size, times, 3)
  np.testing.assert_allclose(face, blocks.mean(axis=(1, 3)), atol=1)
  corner = 0.5 / times - 0.5  # the middle of the first pixel, from that of the first large one
  np.testing.assert_allclose(landmarks, [(corner, corner)], atol=1e-4)


def test_a_region_that_leaves_the_picture_repeats_its_edge():
  image = picture(80, 70)
  face, _, _ = schemes.SCHEMES['crop2'].cut(image, (0, 0, 60, 80), None, 128, 3)
  # from (-34, -20) to (94, 108)
  padded = cv2.copyMakeBorder(image, 20, 28, 34, 24, cv2.BORDER_REPLICATE)
  np.testing.assert_array_equal(face, padded)


@pytest.mark.parametrize('name', ['crop1', 'crop5'])
@pytest.mark.parametrize('degrees', [0, 20])
def test_aligned_faces_are_upright(name, degrees):
  """Eyes level, at the height and distance of the scheme, as in the table."""
  _, landmarks, aligned = schemes.SCHEMES[name].cut(picture(), BOX, frontal(BOX, degrees), 100, 3)
  assert aligned
  distance, line = {'crop1': (100 / 3, 38), 'crop5': (50, 6)}[name]
  eyes = [(50 - distance / 2, line), (50 + distance / 2, line)]
  np.testing.assert_allclose(landmarks[:2], np.array(eyes) - 0.5, atol=0.01)


@pytest.mark.parametrize('name', ['crop1', 'crop5'])
def test_what_is_stored_instead_is_about_the_same_part(name):
  scheme = schemes.SCHEMES[name]
  points = frontal()
  aligned = scheme.cut(picture(), BOX, points, 100, 3)
  instead = scheme.instead.cut(picture(), BOX, points, 100, 3)
  np.testing.assert_allclose(instead.landmarks, aligned.landmarks, atol=2)


@pytest.mark.parametrize('points', [None, np.full((5, 2), 90.0), np.full((5, 2), np.nan)])
def test_without_an_alignment_the_upright_part_is_stored(points):
  scheme = schemes.SCHEMES['crop1']
  cut = scheme.cut(picture(), BOX, points, 64, 3)
  assert not cut.aligned
  np.testing.assert_array_equal(cut.image, scheme.instead.cut(picture(), BOX, None, 64, 3).image)
  assert (cut.landmarks is None) == (points is None)


@pytest.mark.parametrize('name', ['', *CROPS, 'margin10'])
@pytest.mark.parametrize('size', [48, 224])
def test_landmarks_move_with_every_crop(name, size):
  """A disc is drawn at each landmark; its centre in the crop must be where the landmark went."""
  scheme, points = schemes.get_scheme(name), frontal((200, 180, 320, 340), degrees=8)
  _, moved, _ = scheme.cut(picture(520, 500), (200, 180, 320, 340), points, size, 1)
  inside = ((moved > 0.15 * size) & (moved < 0.85 * size)).all(axis=1)
  assert inside.sum() >= 3
  for point, expected in zip(points[inside], moved[inside], strict=True):
    image = np.zeros((520, 500, 3), np.uint8)
    cv2.circle(image, tuple(round(16 * v) for v in point), 6 * 16, (255,) * 3, -1, shift=4)
    face = scheme.cut(image, (200, 180, 320, 340), points, size, 1).image[:, :, 0].astype(float)
    y, x = np.mgrid[:size, :size]
    centre = (face * x).sum() / face.sum(), (face * y).sum() / face.sum()
    np.testing.assert_allclose(centre, expected, atol=0.5)


def test_grey_is_that_of_the_colours():
  points = frontal()
  for scheme in (schemes.SCHEMES['crop1'], schemes.SCHEMES['crop3'], schemes.CLIPPED):
    grey = scheme.cut(picture(), BOX, points, 48, 1).image
    colour = scheme.cut(picture(), BOX, points, 48, 3).image
    assert grey.shape == (48, 48, 1)
    np.testing.assert_allclose(grey[..., 0], colour @ [0.299, 0.587, 0.114], atol=1.5)


def test_no_name_is_the_box_as_it_has_always_been():
  image = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
  box, points = (10, -5, 80, 85), frontal()
  cut = schemes.get_scheme('').cut(image, box, points, 48, 3)
  clipped = (10, 0, 70, 85)
  np.testing.assert_array_equal(cut.image, crop.crop_face(image, box, 48, 3))
  np.testing.assert_array_equal(cut.landmarks, crop.move_landmarks(points, clipped, 48))


@pytest.mark.parametrize('name', ['crop0', 'crop6', 'margin0', 'margin101', 'margin05', 'b'])
def test_unknown_names(name):
  assert schemes.get_scheme(name) is None


def test_a_turned_face_is_turned_back():
  """The picture of a face and the same picture turned give about the same aligned face."""
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
  image = cv2.resize(coarse, (300, 300), interpolation=cv2.INTER_CUBIC)
  box = (110, 95, 200, 215)
  points = frontal(box)
  turn = cv2.getRotationMatrix2D((150, 150), 25, 1.0)
  turned = cv2.warpAffine(image, turn, (300, 300), borderMode=cv2.BORDER_REPLICATE)
  scheme = schemes.SCHEMES['crop5']
  before = scheme.cut(image, box, points, 64, 3).image.astype(int)
  after = scheme.cut(turned, box, align.move_points(points, turn), 64, 3).image
  assert np.abs(before - after).mean() < 2
