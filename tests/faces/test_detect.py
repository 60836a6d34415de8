import pathlib
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mtface.faces import detect
from tests.cartoons import cartoon

SHARED = pathlib.Path(__file__).parents[2].parent / 'shared' / 'data'


@pytest.fixture(scope='module')
def detector():
  return detect.Detector()


def contains(box, point):
  return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


@pytest.mark.parametrize('scale', [0.75, 1.0, 1.25])
def test_finds_a_drawn_face_and_its_landmarks(detector, scale):
  (face,) = detector(cartoon(scale=scale))
  assert 0.7 < face.confidence <= 1
  assert contains(face.box, (100, 100))
  assert face.landmarks.shape == (5, 2)
  assert face.landmarks.dtype == np.float32
  eyes_and_nose = 100 + scale * np.array([(-13, -6), (13, -6), (0, 7)])
  np.testing.assert_allclose(face.landmarks[:3], eyes_and_nose, atol=6 * scale)
  mouth = 100 + scale * np.array([0, 22])
  np.testing.assert_allclose(face.landmarks[3:].mean(axis=0), mouth, atol=6 * scale)
  assert face.landmarks[3, 0] < face.landmarks[4, 0]


def test_the_largest_face_comes_first(detector):
  small, large = cartoon(scale=0.75), cartoon(scale=1.25)
  for picture, center in ((np.hstack([small, large]), 300), (np.hstack([large, small]), 100)):
    faces = detector(picture)
    assert len(faces) == 2
    assert faces[0].area > faces[1].area
    assert contains(faces[0].box, (center, 100))


@pytest.mark.parametrize('shape', [(200, 200, 3), (5, 300, 3), (1, 1, 3)])
def test_no_face_in_a_plain_picture(detector, shape):
  assert detector(np.full(shape, 127, np.uint8)) == []


# As ONNX: y = MaxPool(x), kernel 3 x 3, strides 2, auto_pad SAME_UPPER; x is 6 x 6.
POOLING = bytes.fromhex(
  '08073aa4010a650a017812017922074d6178506f6f6c2a190a086175746f5f706164220a53414d455f55505045'
  '52a001032a100a096365696c5f6d6f64651800a001022a150a0c6b65726e656c5f736861706540034003a00107'
  '2a100a077374726964657340024002a001071201675a1b0a017812160a14080112100a0208010a0208010a0208'
  '060a020806621b0a017912160a14080112100a0208010a0208010a0208030a02080342040a00100c'
)


def test_networks_are_padded_as_their_files_say(tmp_path):
  """OpenCV 5 by itself gives 7 9 11 19 ..., so that all boxes are some pixels off."""
  path = tmp_path / 'pooling.onnx'
  path.write_bytes(POOLING)
  network = detect._network(path)
  image = np.arange(36, dtype=np.float32).reshape(6, 6)
  network.setInput(image[None, None])
  padded = np.pad(image, (0, 1), constant_values=-1)  # the extra row and column are the last ones
  expected = [[padded[y : y + 3, x : x + 3].max() for x in (0, 2, 4)] for y in (0, 2, 4)]
  np.testing.assert_array_equal(network.forward()[0, 0], expected)


@pytest.mark.parametrize(('name', 'count'), [('pnet', 1), ('rnet', 1), ('onet', 2)])
def test_the_detectors_own_networks_are_too(name, count):
  content = detect.network_files()[name].read_bytes()
  assert content.count(b'SAME_UPPER') == content.count(detect._PADDED) == count
  assert len(detect._PADDED) == len(detect._ROUNDED_UP)


def test_batches_of_growing_sizes(detector):
  """OpenCV 5's ENGINE_CLASSIC crashes here."""
  for count in (1, 13, 60):
    faces = np.zeros((count, 48, 48, 3), np.float32)
    detector._mtcnn._onet.setInput(faces)
    boxes, _, _ = detector._mtcnn._onet.forward(['dense_5', 'dense_6', 'softmax_2'])
    assert boxes.shape == (count, 4)
    np.testing.assert_allclose(boxes, boxes[:1].repeat(count, axis=0), atol=1e-6)


def detection(side, confidence):
  return detect.Detection((0, 0, side, side), confidence, np.zeros((5, 2), np.float32))


def fake_detectors(monkeypatch, usual, low):
  def cached_detector(min_face=20, thresholds=detect.USUAL_THRESHOLDS):
    return lambda image: {detect.USUAL_THRESHOLDS: usual, detect.LOW_THRESHOLDS: low}[thresholds]

  monkeypatch.setattr(detect, 'cached_detector', cached_detector)


def test_main_face_is_the_largest(monkeypatch):
  large, small = detection(50, 0.8), detection(20, 0.99)
  fake_detectors(monkeypatch, [large, small], [])
  assert detect.find_main_face(np.zeros((60, 60, 3), np.uint8)) == detect.MainFace(large, others=1)


def test_second_look_takes_the_most_probable(monkeypatch):
  large, small = detection(50, 0.5), detection(20, 0.9)
  fake_detectors(monkeypatch, [], [large, small])
  assert detect.find_main_face(np.zeros((60, 60, 3), np.uint8)) == detect.MainFace(
    small, others=1, second_look=True
  )


def test_a_face_is_looked_for_in_its_place(monkeypatch):
  image, place = np.zeros((100, 100, 3), np.uint8), (0, 0, 40, 40)

  def at(left, side, confidence=0.9):
    return detect.Detection(
      (left, left, left + side, left + side), confidence, np.zeros((5, 2), np.float32)
    )

  elsewhere, inside, tiny = at(45, 50), at(2, 36), at(10, 5)
  fake_detectors(monkeypatch, [elsewhere, inside, tiny], [])
  assert detect.find_main_face(image, detect.inside(place)) == detect.MainFace(inside, others=2)
  fake_detectors(
    monkeypatch, [at(-25, 90), inside], []
  )  # one larger than its place, though its middle is there
  assert detect.find_main_face(image, detect.inside(place)) == detect.MainFace(inside, others=1)
  fake_detectors(monkeypatch, [elsewhere], [elsewhere, inside, at(10, 5, 0.95)])
  assert (
    detect.find_main_face(image, detect.inside(place)).face.confidence == 0.95
  )  # the most probable one of those that are there
  assert detect.find_main_face(image, detect.inside(place)).second_look
  fake_detectors(monkeypatch, [elsewhere], [elsewhere])
  assert detect.find_main_face(image, detect.inside(place)) == detect.MainFace(None)


def face_at(x, y, side=20, confidence=0.9):
  box = (x - side // 2, y - side // 2, x + side // 2, y + side // 2)
  return detect.Detection(box, confidence, np.zeros((5, 2), np.float32))


def test_the_face_closest_to_the_centre(monkeypatch):
  large, near = face_at(30, 50, 40), face_at(90, 50, 10)
  fake_detectors(monkeypatch, [large, near], [])
  image = np.zeros((100, 200, 3), np.uint8)  # its centre is at (100, 50)
  assert detect.find_main_face(image, detect.CENTRE) == detect.MainFace(near, others=1)
  assert detect.find_main_face(image).face is large
  fake_detectors(monkeypatch, [], [near, face_at(10, 10, 10, 0.95)])
  assert detect.find_main_face(image, detect.CENTRE).face.confidence == 0.95


def test_the_face_closest_to_a_box(monkeypatch):
  left, right = face_at(30, 50, 40), face_at(150, 50, 20)
  image = np.zeros((100, 200, 3), np.uint8)
  fake_detectors(monkeypatch, [left, right], [])

  def chosen(box):
    return detect.find_main_face(image, detect.closest_to(box)).face

  assert chosen((140, 40, 170, 70)) is right
  assert chosen((45, 45, 145, 55)) is right  # 50 pixels of 1,350 in both; left: 50 of 2,550
  assert chosen((35, 45, 145, 55)) is left  # 150 of 2,550; right: 50 of 1,450
  assert chosen((95, 0, 105, 10)) is right  # none overlaps: 64 and 72 pixels away
  assert chosen(None) is left
  fake_detectors(monkeypatch, [], [left, right, face_at(150, 55, 10, 0.95)])
  assert chosen((140, 40, 170, 70)).confidence == 0.95
  assert chosen((0, 0, 10, 10)) is None  # at the second look only what is centred in the box


def test_no_face_at_the_second_look():
  assert detect.find_main_face(np.full((80, 80, 3), 127, np.uint8)) == detect.MainFace(None)


def test_real_faces(detector):
  archive = SHARED / 'genki4k.tar.xz'
  if not archive.exists():
    pytest.skip(f'no real faces at {archive}')
  photos = []
  with tarfile.open(archive) as tar:
    while len(photos) < 8 and (member := tar.next()):
      if member.name.endswith('.jpg'):
        photos.append(np.asarray(Image.open(tar.extractfile(member)).convert('RGB')))
  for photo in photos:
    found = detect.find_main_face(photo)
    assert found.face is not None
    left, top, right, bottom = found.face.box
    assert (right - left) * (bottom - top) > 0.02 * photo.shape[0] * photo.shape[1]
    left_eye, right_eye, nose, mouth_left, mouth_right = found.face.landmarks
    assert left_eye[0] < right_eye[0]
    assert mouth_left[0] < mouth_right[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < max(mouth_left[1], mouth_right[1])


def test_boxes_of_no_area_are_no_faces(detector, monkeypatch):
  points = {
    name: (i, 2 * i)
    for i, name in enumerate(('left_eye', 'right_eye', 'nose', 'mouth_left', 'mouth_right'))
  }
  boxes = [[1, 2, 0, 5], [1, 2, 5, 0], [1, 2, -3, -3], [3, 4, 10, 12]]
  said = [{'box': box, 'confidence': 0.9, 'keypoints': points} for box in boxes]
  monkeypatch.setattr(detector, '_mtcnn', SimpleNamespace(detect_faces=lambda image: said))
  (face,) = detector(np.zeros((30, 30, 3), np.uint8))
  assert (face.box, face.area) == ((3, 4, 13, 16), 120)
  assert face.landmarks.tolist() == [[i, 2 * i] for i in range(5)]
