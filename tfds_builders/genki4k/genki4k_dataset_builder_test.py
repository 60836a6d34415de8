import numpy as np
import pytest

from mtface.errors import UserError
from mtface.faces import detect
from tests.cartoons import cartoon, make_genki4k
from tests.prepared import build_set, by_id, read_summary

SMILES = [1, 0, 1, 0]


def photos():
  """A face, a smaller one, two of which the right one is larger, and none."""
  two = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])
  return [cartoon(), cartoon(scale=0.8), two, np.full((120, 100, 3), (200, 30, 90), np.uint8)]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  return make_genki4k(tmp_path_factory.mktemp('raw') / 'genki4k', photos(), SMILES)


@pytest.fixture(scope='module')
def gray48(raw, tmp_path_factory):
  # The folder above is given: the archive unpacks to a folder of its own.
  return build_set('genki4k/gray48', raw.parent, tmp_path_factory.mktemp('data'))


def test_labels_and_pose(gray48):
  records = by_id(gray48)
  assert sorted(records) == ['file0001', 'file0002', 'file0003', 'file0004']
  assert [int(records[f'file000{i}']['labels']['smile']) for i in (1, 2, 3, 4)] == SMILES
  assert all(record['mask']['smile'] for record in records.values())
  pose = records['file0002']['attributes']
  np.testing.assert_allclose(
    [pose['yaw'], pose['pitch'], pose['roll']], [0.1, -0.2, 0.300001], rtol=1e-6
  )


def test_the_face_fills_the_image(gray48):
  record = by_id(gray48)['file0001']
  assert record['image'].shape == (48, 48, 1)
  assert record['image'].dtype == np.uint8
  left, top, right, bottom = record['attributes']['box']
  # The drawn face without hair is 62 wide and 82 high around (100, 104).
  assert 20 < right - left < 80
  assert 0.9 < (bottom - top) / (right - left) < 2
  # The drawn eyes, moved into the crop by hand.
  eyes = (
    (np.array([(87, 94), (113, 94)]) - (left, top)) * 48 / np.array([right - left, bottom - top])
  )
  np.testing.assert_allclose(record['landmarks'][:2], eyes, atol=5)


def test_of_two_faces_the_larger_is_stored(gray48):
  left, _, right, _ = by_id(gray48)['file0003']['attributes']['box']
  assert left < 300 < right
  assert read_summary(gray48)['notes']['several_faces_found']['image_ids'] == ['file0003']


def test_without_a_face_the_central_square_is_stored_and_listed(gray48):
  record = by_id(gray48)['file0004']
  np.testing.assert_array_equal(record['attributes']['box'], [0, 10, 100, 110])
  assert np.isnan(record['landmarks']).all()
  assert record['attributes']['confidence'] == 0
  grey = 0.299 * 200 + 0.587 * 30 + 0.114 * 90
  np.testing.assert_allclose(record['image'], grey, atol=2)  # JPEG
  summary = read_summary(gray48)
  assert summary['notes']['face_not_found']['image_ids'] == ['file0004']
  assert summary['labels'] == {'train': {'smile': {'no_smile': 2, 'smile': 2}}}


def test_second_look_is_listed(raw, tmp_path, monkeypatch):
  real = detect.cached_detector
  monkeypatch.setattr(
    detect,
    'cached_detector',
    lambda min_face=20, thresholds=detect.USUAL_THRESHOLDS: (
      (lambda image: []) if thresholds == detect.USUAL_THRESHOLDS else real(min_face, thresholds)
    ),
  )
  summary = read_summary(build_set('genki4k/gray48', raw, tmp_path))
  assert 'file0001' in summary['notes']['face_found_at_second_look']['image_ids']


def test_rgb224(raw, tmp_path):
  record = by_id(build_set('genki4k/rgb224', raw, tmp_path))['file0001']
  assert record['image'].shape == (224, 224, 3)
  # Red, green and blue are in their places: the drawn skin, at the cheek.
  x, y = record['landmarks'][[0, 3]].mean(axis=0).astype(int)
  np.testing.assert_allclose(record['image'][y, x], (224, 180, 150), atol=25)


@pytest.mark.parametrize('name', ['rgb64_crop2', 'rgb96_crop5', 'gray96_margin50'])
def test_crops_on_demand(raw, tmp_path, name):
  path = build_set(f'genki4k/{name}', raw, tmp_path)
  record, without = (by_id(path)[image_id] for image_id in ('file0001', 'file0004'))
  size, channels = int(name[3:5]) if name[0] == 'r' else 96, 3 if name[0] == 'r' else 1
  assert record['image'].shape == (size, size, channels)
  left, top, right, bottom = record['attributes']['box']  # the detector's, whatever the crop
  assert 20 < right - left < 80
  distance = np.linalg.norm(np.diff(record['landmarks'][:2], axis=0))
  d = 26  # of the drawn eyes
  if name == 'rgb64_crop2':
    assert distance == pytest.approx(64 * d / (1.6 * (bottom - top)), rel=0.25)
  elif name == 'rgb96_crop5':
    assert distance == pytest.approx(48, rel=0.3)
    np.testing.assert_allclose(record['landmarks'][:2, 1], 0.06 * 96, atol=10)
  else:
    assert distance == pytest.approx(96 * d / (2 * (right - left)), rel=0.25)
  np.testing.assert_array_equal(without['attributes']['box'], [0, 10, 100, 110])  # no margin
  notes = read_summary(path)['notes']
  assert notes['face_not_found']['image_ids'] == ['file0004']
  assert ('not_aligned' in notes) == (name == 'rgb96_crop5')


def test_landmarks_that_cannot_be_aligned_are_listed(raw, tmp_path, monkeypatch):
  found = detect.Detection((60, 60, 140, 150), 0.9, np.full((5, 2), 100, np.float32))
  monkeypatch.setattr(detect, 'cached_detector', lambda **_: lambda image: [found])
  path = build_set('genki4k/rgb32_crop1', raw, tmp_path)
  assert read_summary(path)['notes']['not_aligned']['images'] == 4
  # The box as a square is from (55, 60) to (145, 150); with the margins of what is stored instead,
  # it starts at (52.75, 59.1) and is 94.5 wide.
  landmark = by_id(path)['file0001']['landmarks'][0]
  np.testing.assert_allclose(landmark, (15.669, 13.519), atol=0.01)


def test_duplicates_are_found_by_content(tmp_path):
  images = photos()
  raw = make_genki4k(tmp_path / 'raw', [*images, images[1], images[0]], [*SMILES, 0, 0])
  duplicates = read_summary(build_set('genki4k', raw, tmp_path))['duplicates']
  assert (duplicates['groups'], duplicates['copies'], duplicates['groups_with_other_labels']) == (
    2,
    2,
    1,
  )
  assert duplicates['list'][0] == {
    'image_ids': ['file0001', 'file0006'],
    'splits': ['train', 'train'],
    'differs_in': ['smile'],
  }


@pytest.mark.parametrize('content', [b'', b'not an image', None])
def test_a_damaged_image_is_left_out_and_listed(raw, tmp_path, content):
  copy = make_genki4k(tmp_path / 'raw', photos(), SMILES)
  broken = copy / 'files' / 'file0002.jpg'
  broken.write_bytes(broken.read_bytes()[:1500] if content is None else content)
  path = build_set('genki4k', copy, tmp_path)
  assert sorted(by_id(path)) == ['file0001', 'file0003', 'file0004']
  left_out = read_summary(path)['left_out']
  assert (left_out['images'], left_out['by_reason']) == (1, {'damaged image': 1})
  assert left_out['list'][0]['image_id'] == 'file0002'
  assert 'file0002.jpg' in left_out['list'][0]['detail']


def test_many_damaged_images_end_the_build(tmp_path):
  raw = make_genki4k(tmp_path / 'raw', [cartoon()] + [cartoon(size=50)] * 12, [0] * 13)
  for file in sorted((raw / 'files').iterdir())[1:]:
    file.write_bytes(b'')
  with pytest.raises(UserError, match=r'12 of 13 images .* file0002 .* broken'):
    build_set('genki4k', raw, tmp_path)
  assert not (tmp_path / 'genki4k/gray48/1.0.0').exists()


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('2 0.1 0.2 0.3', "line 3 has the smile label '2'; expected 0 or 1"),
    ('-1 0.1 0.2 0.3', "line 3 has the smile label '-1'; expected 0 or 1"),
    ('1 0.1 0.2', "line 3 is '1 0.1 0.2'; expected four numbers"),
    ('1 0.1 x 0.3', "line 3 is '1 0.1 x 0.3'; expected four numbers"),
  ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
  raw = make_genki4k(tmp_path / 'raw', photos(), SMILES)
  lines = (raw / 'labels.txt').read_text().splitlines()
  lines[2] = line
  (raw / 'labels.txt').write_text('\n'.join(lines))
  with pytest.raises(UserError, match=message) as error:
    build_set('genki4k', raw, tmp_path)
  assert 'labels.txt' in str(error.value)


def test_more_labels_than_files(tmp_path):
  raw = make_genki4k(tmp_path / 'raw', photos(), [*SMILES, 1])
  with pytest.raises(UserError, match=r'labels.txt: 5 labels but 4 images'):
    build_set('genki4k', raw, tmp_path)


def test_a_missing_image_is_named(tmp_path):
  raw = make_genki4k(tmp_path / 'raw', photos(), SMILES)
  (raw / 'files' / 'file0002.jpg').rename(raw / 'files' / 'file0009.jpg')
  with pytest.raises(UserError, match=r'file0002.jpg: the image of line 2 .* is missing'):
    build_set('genki4k', raw, tmp_path)


def test_missing_labels(tmp_path):
  raw = make_genki4k(tmp_path / 'raw', photos(), SMILES)
  (raw / 'labels.txt').unlink()
  with pytest.raises(UserError, match=r'found no labels.txt and files/.*inc.ucsd.edu'):
    build_set('genki4k', raw, tmp_path)
