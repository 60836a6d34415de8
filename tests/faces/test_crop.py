import io

import cv2
import numpy as np
import pytest
from PIL import Image

from mtface.errors import UserError
from mtface.faces import crop


def gradient(height=60, width=40):
  y, x = np.mgrid[:height, :width]
  return np.stack([x * 6, y * 4, (x + y) * 2], axis=-1).astype(np.uint8)


def test_read_image_returns_rgb(tmp_path):
  Image.fromarray(gradient()).save(tmp_path / 'a.png')
  np.testing.assert_array_equal(crop.read_image(tmp_path / 'a.png'), gradient())


def test_read_image_makes_grey_files_rgb(tmp_path):
  grey = gradient()[:, :, 0]
  Image.fromarray(grey).save(tmp_path / 'a.png')
  np.testing.assert_array_equal(crop.read_image(tmp_path / 'a.png'), np.stack([grey] * 3, axis=-1))


def test_read_image_turns_by_exif(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
  Image.fromarray(gradient()).save(tmp_path / 'a.png', exif=exif)
  np.testing.assert_array_equal(crop.read_image(tmp_path / 'a.png'), np.rot90(gradient(), -1))


def jpeg_bytes():
  file = io.BytesIO()
  Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
    file, 'JPEG'
  )
  return file.getvalue()


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'no such file'),
    (b'', 'empty'),
    (jpeg_bytes()[:900], 'damaged'),
    (jpeg_bytes()[:20], 'damaged'),
    (b'this is no image', 'damaged'),
  ],
)
def test_read_image_of_a_bad_file_is_one_clear_line(tmp_path, content, message):
  if content is not None:
    (tmp_path / 'bad.jpg').write_bytes(content)
  with pytest.raises(UserError, match=message) as error:
    crop.read_image(tmp_path / 'bad.jpg')
  assert 'bad.jpg' in str(error.value)
  assert '\n' not in str(error.value)


def test_digest_is_of_pixels_and_shape():
  image = gradient()
  assert crop.content_digest(image) == crop.content_digest(image.copy())
  assert crop.content_digest(image) != crop.content_digest(image.reshape(40, 60, 3))
  other = image.copy()
  other[59, 39, 2] ^= 1
  assert crop.content_digest(image) != crop.content_digest(other)


@pytest.mark.parametrize(
  ('box', 'expected'),
  [
    ((-5, -7, 20, 30), (0, 0, 20, 30)),
    ((10, 10, 99, 99), (10, 10, 40, 60)),
    ((3, 4, 5, 6), (3, 4, 5, 6)),
  ],
)
def test_clip_box(box, expected):
  assert crop.clip_box(box, 60, 40) == expected


@pytest.mark.parametrize('box', [(40, 0, 50, 10), (-9, 0, 0, 10), (5, 5, 5, 9)])
def test_a_box_with_nothing_in_the_picture_is_an_error(box):
  with pytest.raises(ValueError, match='outside'):
    crop.clip_box(box, 60, 40)


def test_central_square():
  assert crop.central_square(60, 40) == (0, 10, 40, 50)
  assert crop.central_square(40, 60) == (10, 0, 50, 40)


def test_shrinking_averages_areas():
  image = np.random.default_rng(1).integers(0, 256, (80, 120, 3), dtype=np.uint8)
  face = crop.crop_face(image, (10, 20, 58, 68), 12, 3)
  expected = image[20:68, 10:58].reshape(12, 4, 12, 4, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(face, expected, atol=0.51)


def test_grey_is_the_usual_weighting():
  image = np.random.default_rng(2).integers(0, 256, (48, 48, 3), dtype=np.uint8)
  face = crop.crop_face(image, (0, 0, 48, 48), 48, 1)
  np.testing.assert_allclose(
    face[:, :, 0], image @ [0.299, 0.587, 0.114], atol=0.51
  )  # ITU-R BT.601


def test_crop_is_clipped_and_stretched_to_a_square():
  face = crop.crop_face(gradient(), (-10, 20, 30, 90), 48, 3)
  assert face.shape == (48, 48, 3)
  assert face.dtype == np.uint8
  corners = face[[0, 0, -1, -1], [0, -1, 0, -1], :2]
  np.testing.assert_allclose(
    corners, [(0, 80), (29 * 6, 80), (0, 59 * 4), (29 * 6, 59 * 4)], atol=3
  )


@pytest.mark.parametrize('size', [48, 224])
def test_landmarks_move_with_the_pixels(size):
  """A blurred dot is drawn at each landmark; its centre of mass in the crop must be where the
  landmark went.
  """
  box = (12, 30, 112, 180)
  points = np.array([[40, 60], [80, 61], [60, 90], [45, 140], [82, 139]], np.float32)
  moved = crop.move_landmarks(points, box, size)
  assert moved.dtype == np.float32
  for point, expected in zip(points.astype(int), moved, strict=True):
    image = np.zeros((200, 160, 3), np.uint8)
    image[point[1], point[0]] = 255
    image = cv2.GaussianBlur(image, (0, 0), 3)
    face = crop.crop_face(image, box, size, 3)[:, :, 0].astype(float)
    y, x = np.mgrid[:size, :size]
    center = (face * x).sum() / face.sum(), (face * y).sum() / face.sum()
    np.testing.assert_allclose(center, expected, atol=0.15)


@pytest.mark.parametrize(
  ('one', 'other', 'expected'),
  [
    ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
    ((0, 0, 10, 10), (5, 0, 15, 10), 50 / 150),
    ((0, 0, 10, 10), (2, 2, 4, 4), 4 / 100),
    ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
    ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
  ],
)
def test_overlap(one, other, expected):
  assert crop.overlap(one, other) == crop.overlap(other, one) == pytest.approx(expected)


def test_a_part_of_the_central_square():
  assert crop.central_square(250, 250, 224 / 250) == (13, 13, 237, 237)
  assert crop.central_square(100, 200, 0.5) == (75, 25, 125, 75)
  assert crop.central_square(1, 1, 0.2) == (0, 0, 1, 1)
