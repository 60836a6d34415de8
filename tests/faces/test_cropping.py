import json

import cv2
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.faces import detect
from mtface.faces.cropping import Crop
from mtface.faces.detect import Detection
from tests.cartoons import cartoon

EYES_AND_MOUTH = np.array([(87, 94), (113, 94), (100, 113), (90, 126), (110, 126)], np.float32)
FACE = Detection((70, 60, 130, 140), 0.9, EYES_AND_MOUTH)


def moved(geometry, size):
  """Where the face's landmarks are in the crop, worked out from the JSON alone."""
  left, top, right, bottom = FACE.box
  if geometry['kind'] == 'aligned':
    target = np.array(geometry['template']) * size - 0.5
    # The similarity as a least-squares problem: x' = ax - by + c, y' = bx + ay + d.
    rows, values = [], []
    for (x, y), (u, v) in zip(EYES_AND_MOUTH, target, strict=True):
      rows += [(x, -y, 1, 0), (y, x, 0, 1)]
      values += [u, v]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([(a * x - b * y + c, b * x + a * y + d) for x, y in EYES_AND_MOUTH])
  margins = geometry.get('margins', [0, 0, 0, 0])
  x, y = (left + right) / 2, (top + bottom) / 2
  w, h = right - left, bottom - top
  if geometry.get('square'):
    w = h = max(w, h)
  start = np.array([x - (0.5 + margins[0]) * w, y - (0.5 + margins[1]) * h])
  sides = np.array([(1 + margins[0] + margins[2]) * w, (1 + margins[1] + margins[3]) * h])
  return (EYES_AND_MOUTH + 0.5 - start) * size / sides - 0.5


@pytest.mark.parametrize('scheme', ['', 'margin20', 'crop1', 'crop2', 'crop3', 'crop4', 'crop5'])
def test_the_geometry_in_json_is_what_is_done(scheme):
  crop = Crop(200, 3, scheme)
  photo = np.zeros((200, 200, 3), np.uint8)
  for x, y in EYES_AND_MOUTH.astype(int):
    photo[y, x] = 255
  expected = moved(json.loads(json.dumps(crop.to_json()))['geometry'], 200)
  image = crop.apply(photo, FACE)[..., 0].astype(float)
  for x, y in expected:
    if 5 <= x < 195 and 5 <= y < 195:
      around = image[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6]
      ys, xs = np.mgrid[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6]
      middle = [(xs * around).sum() / around.sum(), (ys * around).sum() / around.sum()]
      np.testing.assert_allclose(middle, (x, y), atol=0.3)


@pytest.mark.parametrize(
  'crop',
  [Crop(48, 1), Crop(64, 3, 'crop5'), Crop(32, 3, 'margin7', True), Crop(96, 3, '', False, 95)],
)
def test_json_and_back(crop):
  assert Crop.from_json(json.loads(json.dumps(crop.to_json()))) == crop


def test_grey_is_the_same_in_all_channels():
  photo = cartoon()
  grey, colour = Crop(40, 3, grey=True).apply(photo, FACE), Crop(40, 3).apply(photo, FACE)
  np.testing.assert_array_equal(grey, np.repeat(Crop(40, 1).apply(photo, FACE), 3, axis=2))
  assert np.ptp(colour.astype(int), axis=2).max() > 50


def test_jpeg_is_what_opencv_makes_of_the_pixels():
  raw, stored = Crop(96, 3).apply(cartoon(), FACE), Crop(96, 3, jpeg=95).apply(cartoon(), FACE)
  ok, data = cv2.imencode('.jpg', raw[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
  np.testing.assert_array_equal(stored, cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
  assert ok and (raw != stored).any()


def test_every_face_is_found_largest_first():
  photo = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])
  first, second = Crop(48, 1).find(photo)
  assert first.box[0] > 200 > second.box[2]


def test_nothing_is_found_in_nothing():
  assert Crop(48, 1).find(np.full((120, 100, 3), 90, np.uint8), second_look=True) == []


def test_what_a_second_look_finds_beside_the_picture_is_left_out(monkeypatch):
  beside = Detection((100, 60, 130, 140), 0.9, EYES_AND_MOUTH)
  monkeypatch.setattr(detect, 'cached_detector', lambda *_, **__: lambda image: [beside])
  assert Crop(48, 1).find(np.zeros((200, 100, 3), np.uint8), second_look=True) == []


@pytest.mark.parametrize(
  'change, told',
  [
    ({'format': 2}, 'of format 2'),
    ({'detector': {'name': 'other'}}, "detector 'other'"),
    ({'scheme': 'crop9'}, "scheme 'crop9' is unknown"),
    ({'size': 0}, '0 pixels'),
    ({'channels': 4}, '4 channels'),
    ({'size': 'large'}, 'is damaged'),
  ],
)
def test_what_is_no_crop_is_told(change, told):
  with pytest.raises(UserError, match=told):
    Crop.from_json(Crop(48, 1).to_json() | change)
  with pytest.raises(UserError, match='is damaged'):
    Crop.from_json(None)
