import numpy as np
import pytest

from mtface.errors import UserError
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary

PLAIN = np.full((120, 100, 3), (200, 30, 90), np.uint8)
HEADER = 'image_name, bbox_x, bbox_y, bbox_width, bbox_height, gender, smile'  # as published


def three():
  """A large face at (100, 100), a small one at (300, 100), a middling one at (500, 100); the
  picture's centre is at (300, 100).
  """
  return np.hstack([cartoon(scale=1.25), cartoon(scale=0.75), cartoon()])


def make_list(path, rows):
  """Rows of (picture, box, gender, smile), and the images beside the list."""
  lines = [HEADER]
  for i, (picture, box, gender, smile) in enumerate(rows, start=1):
    name = f'image_{i:04d}.jpg'
    if picture is not None:
      save(path.parent / name, picture)
    lines.append(', '.join(map(str, (name, *box, gender, smile))))
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n')


TRAIN = [
  (three(), (470, 60, 60, 90), 0, 1),
  (cartoon(), (70, 60, 60, 90), 1, 0),
  (cartoon(scale=0.9), (70, 60, 60, 90), 2, 1),
  (PLAIN, (20, 30, 50, 60), 1, 2),
  (cartoon(scale=1.1), (0, 0, 0, 0), 0, 0),
]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  folder = tmp_path_factory.mktemp('raw') / 'FotW'
  make_list(folder / 'set_1_smiles_trset/smiles_trset/gender_fex_trset.csv', TRAIN)
  make_list(folder / 'set_2_smiles_valset/smiles_valset/gender_fex_valset.csv', TRAIN[1:2])
  return folder


@pytest.fixture(scope='module')
def by_box(raw, tmp_path_factory):
  return build_set('fotw/rgb64', raw.parent, tmp_path_factory.mktemp('data'))


def test_labels(by_box):
  """The lists have 0 for male, the records 1; a third value is masked."""
  records = by_id(by_box, 'train')
  for task, expected in (('gender', [1, 0, None, 0, 1]), ('smile', [1, 0, 1, None, 0])):
    for i, label in enumerate(expected, start=1):
      record = records[f'train/image_{i:04d}']
      assert record['mask'][task] == (label is not None)
      assert record['labels'][task] == (label or 0)
  notes = read_summary(by_box)['notes']
  assert notes['gender_other']['image_ids'] == ['train/image_0003']
  assert notes['smile_other']['image_ids'] == ['train/image_0004']
  assert sorted(by_id(by_box, 'validation')) == ['validation/image_0001']


def test_the_face_closest_to_the_box(by_box):
  records, notes = by_id(by_box), read_summary(by_box)['notes']
  left, _, right, _ = records['train/image_0001']['attributes']['box']
  assert 480 < (left + right) / 2 < 520
  np.testing.assert_array_equal(records['train/image_0004']['attributes']['box'], [20, 30, 70, 90])
  assert notes['face_not_found']['image_ids'] == ['train/image_0004']
  assert notes['box_unusable']['image_ids'] == ['train/image_0005']


def test_the_face_closest_to_the_centre(raw, tmp_path):
  path = build_set('fotw/rgb32_crop3_centre', raw, tmp_path)
  records, notes = by_id(path), read_summary(path)['notes']
  left, _, right, _ = records['train/image_0001']['attributes']['box']
  assert 280 < (left + right) / 2 < 320
  assert records['train/image_0001']['image'].shape == (32, 32, 3)
  np.testing.assert_array_equal(records['train/image_0004']['attributes']['box'], [0, 10, 100, 110])
  assert 'box_unusable' not in notes
  assert 'centre' in notes['several_faces_found']['means']


def test_the_test_split_is_read_where_it_is(tmp_path):
  make_list(tmp_path / 'raw/gender_fex_trset.csv', TRAIN[1:2])
  make_list(tmp_path / 'raw/track3_all/test_gt.csv', TRAIN[1:3])
  path = build_set('fotw/rgb64', tmp_path / 'raw', tmp_path / 'data')
  assert read_summary(path)['records'] == {'train': 1, 'test': 2}


def test_a_missing_image_is_left_out(tmp_path):
  make_list(tmp_path / 'raw/gender_fex_trset.csv', [TRAIN[1], (None, (0, 0, 9, 9), 0, 0)])
  left_out = read_summary(build_set('fotw/rgb64', tmp_path / 'raw', tmp_path / 'data'))['left_out']
  assert left_out['by_reason'] == {'missing file': 1}


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('0, 1\n', '3, 1\n', r"line 2 \(image_0001.jpg\) has the gender '3'; expected 0, 1 or 2"),
    ('0, 1\n', '0, yes\n', r"has the smile 'yes'; expected 0, 1 or 2"),
    ('470', 'left', r"has the box 'left 60 60 90'; expected four numbers"),
    ('470', 'inf', r"has the box 'inf 60 60 90'"),
    ('image_0002', 'image_0001', r'line 3 names image_0001.jpg again'),
    ('gender', 'sex', r'the column gender is missing'),
  ],
)
def test_bad_lists_are_named(tmp_path, old, new, message):
  path = tmp_path / 'raw/gender_fex_trset.csv'
  make_list(path, TRAIN[:2])
  assert old in path.read_text()
  path.write_text(path.read_text().replace(old, new, 1))
  with pytest.raises(UserError, match=message) as error:
    build_set('fotw/rgb64', tmp_path / 'raw', tmp_path / 'data')
  assert 'gender_fex_trset.csv' in str(error.value)


def test_two_copies(tmp_path):
  for copy in ('a', 'b'):
    make_list(tmp_path / 'raw' / copy / 'gender_fex_trset.csv', TRAIN[1:2])
  with pytest.raises(UserError, match=r'a/gender_fex_trset.csv and .*b/gender_fex_trset.csv: two'):
    build_set('fotw/rgb64', tmp_path / 'raw', tmp_path / 'data')


def test_no_list(tmp_path):
  with pytest.raises(UserError, match=r'found no gender_fex_trset.csv.*track 3'):
    build_set('fotw/rgb64', tmp_path, tmp_path / 'data')
