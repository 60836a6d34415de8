import cv2
import numpy as np
import pytest

from mtface.errors import UserError
from mtface.tasks import get_task
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary

NAMES = get_task('celeba_attributes').classes
PLAIN = np.full((218, 178, 3), (90, 110, 140), np.uint8)
# Attributes that hold of each image; 3 and 4 are of one person.
HOLD = [('Male', 'Young'), ('Smiling',), (), ('Male', 'Smiling', 'Bald'), ('Young',), ()]
PARTITION = [0, 0, 0, 1, 2, 0]
PEOPLE = [1, 10177, 5, 5, 77, 2]
LANDMARKS = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)  # of the official 000001.jpg


def aligned(scale=1.5):
  """178x218 with the eyes where CelebA's aligned images have them: 39 apart, around (88.5, 111)."""
  return cartoon(218, (88, 120), scale)[:, :178]


def two():
  """A large face at the left and a smaller one at the right, whose middle is at (300, 100)."""
  return np.hstack([cartoon(scale=1.25), cartoon(scale=0.75)])


def value(number, image):
  return '1' if NAMES[number] in HOLD[image] else '-1'


def write(path, lines, end='\n'):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes((end.join(lines) + end).encode())


def attribute_lines(images):
  """As the official list: a count, the names with a blank at the end, two blanks before a 1."""
  lines = [str(len(images)), ' '.join(NAMES) + ' ']
  for i in images:
    values = ' '.join(f'{value(n, i):>2}' for n in range(40))
    lines.append(f'{i + 1:06d}.jpg {values}')
  return lines


def make_official(root, pictures, boxes=None, wild=False):
  """The official layout: Anno/, Eval/, Img/. Lines of some lists end in CR LF."""
  images = range(len(pictures))
  folder = root / 'Img' / ('img_celeba' if wild else 'img_align_celeba')
  for i, picture in enumerate(pictures):
    if picture is not None:
      save(folder / f'{i + 1:06d}.jpg', picture)
  write(root / 'Anno/list_attr_celeba.txt', attribute_lines(images), '\r\n')
  write(root / 'Eval/list_eval_partition.txt', [f'{i + 1:06d}.jpg {PARTITION[i]}' for i in images])
  write(root / 'Anno/identity_CelebA.txt', [f'{i + 1:06d}.jpg {PEOPLE[i]}' for i in images], '\r\n')
  points = 'lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y '
  rows = [f'{i + 1:06d}.jpg  {"   ".join(map(str, LANDMARKS))}' for i in images]
  name = 'list_landmarks_celeba.txt' if wild else 'list_landmarks_align_celeba.txt'
  write(root / 'Anno' / name, [str(len(rows)), points + 'rightmouth_x rightmouth_y', *rows])
  if boxes is not None:
    rows = [f'{i + 1:06d}.jpg    {"  ".join(map(str, boxes[i]))}' for i in images]
    head = [str(len(rows)), 'image_id x_1 y_1 width height']
    write(root / 'Anno/list_bbox_celeba.txt', [*head, *rows])
  return root


def make_kaggle(root, pictures, ending='jpg', columns=NAMES):
  """Kaggle's layout: csv files, and the folder of images in one of the same name."""
  images = range(len(pictures))
  for i, picture in enumerate(pictures):
    save(root / 'img_align_celeba/img_align_celeba' / f'{i + 1:06d}.{ending}', picture)
  rows = [
    ','.join([f'{i + 1:06d}.jpg', *(value(NAMES.index(name), i) for name in columns)])
    for i in images
  ]
  write(root / 'list_attr_celeba.csv', [','.join(['image_id', *columns]), *rows])
  rows = [f'{i + 1:06d}.jpg,{PARTITION[i]}' for i in images]
  write(root / 'list_eval_partition.csv', ['image_id,partition', *rows])
  points = [
    f'{p}_{a}' for p in ('lefteye', 'righteye', 'nose', 'leftmouth', 'rightmouth') for a in 'xy'
  ]
  rows = [f'{i + 1:06d}.jpg,{",".join(map(str, LANDMARKS))}' for i in images]
  write(root / 'list_landmarks_align_celeba.csv', [','.join(['image_id', *points]), *rows])
  return root


@pytest.fixture(scope='module')
def pictures():
  return [aligned(), aligned(1.3), PLAIN, aligned(1.4), aligned(1.6), aligned(1.2)]


@pytest.fixture(scope='module')
def official(pictures, tmp_path_factory):
  raw = make_official(tmp_path_factory.mktemp('raw') / 'CelebA', pictures)
  (raw / 'Img/img_align_celeba/.DS_Store').write_bytes(b'\0\0\0\1Bud1')
  (raw / 'Img/img_align_celeba/._000001.jpg').write_bytes(b'\0\5\26\7')
  return build_set('celeba/rgb64', raw.parent, tmp_path_factory.mktemp('data'))


def test_the_forty_attributes_and_their_tasks(official):
  records = by_id(official)
  assert sorted(records) == [f'{i:06d}' for i in range(1, 7)]
  for i, of in enumerate(HOLD):
    record = records[f'{i + 1:06d}']
    np.testing.assert_array_equal(
      record['labels']['celeba_attributes'], [name in of for name in NAMES]
    )
    assert record['mask']['celeba_attributes'].all()
    assert record['labels']['gender'] == ('Male' in of)  # 1 is male
    assert record['labels']['smile'] == ('Smiling' in of)


def test_people(official):
  records = by_id(official)
  assert [int(records[f'{i + 1:06d}']['labels']['identity']) for i in range(6)] == [
    *(0, 10176, 4, 4, 76, 1)
  ]
  assert records['000002']['subject'] == b'10177'
  assert all(record['mask']['identity'] for record in records.values())


def test_the_official_splits(official):
  for split, expected in (('train', '1236'), ('validation', '4'), ('test', '5')):
    assert sorted(by_id(official, split)) == [f'00000{i}' for i in expected]


def test_the_face_of_an_aligned_image(official):
  record = by_id(official)['000001']
  left, top, right, bottom = record['attributes']['box']
  scale = 64 / np.array([right - left, bottom - top])
  eyes = (np.array([(68.5, 111), (107.5, 111)]) - (left, top)) * scale  # as drawn
  np.testing.assert_allclose(record['landmarks'][:2], eyes, atol=6)
  points = np.array(LANDMARKS).reshape(5, 2)
  np.testing.assert_array_equal(record['attributes']['annotated_landmarks'], points)


def test_without_a_face_the_central_part_with_the_annotated_landmarks(official):
  record = by_id(official)['000003']
  box = record['attributes']['box']
  np.testing.assert_array_equal(box, [47, 68, 131, 182])
  np.testing.assert_allclose(record['image'].astype(int), PLAIN[:64, :64], atol=3)
  moved = (np.array([(69, 109)]) - (47, 68) + 0.5) * (64 / 84, 64 / 114) - 0.5
  np.testing.assert_allclose(record['landmarks'][:1], moved, atol=1e-3)
  assert read_summary(official)['notes']['face_not_found']['image_ids'] == ['000003']


def test_kaggles_copy_is_the_same_set(pictures, official, tmp_path):
  """But for the people, whom it does not have. Its columns may be in any order."""
  raw = make_kaggle(tmp_path / 'archive', pictures, columns=tuple(reversed(NAMES)))
  (raw / '__MACOSX/img_align_celeba').mkdir(parents=True)
  (raw / '__MACOSX/img_align_celeba/._000001.jpg').write_bytes(b'\0\5\26\7')
  path = build_set('celeba/rgb64', raw, tmp_path / 'data')
  for image_id, record in by_id(path).items():
    other = by_id(official)[image_id]
    assert not record['mask'].pop('identity')
    assert other['mask'].pop('identity')
    assert record.pop('subject') == b''
    for key in ('identity',):
      del record['labels'][key], other['labels'][key]
    del other['subject']
    np.testing.assert_equal(record, other)


def test_png_images_of_lists_that_say_jpg(tmp_path):
  raw = make_official(tmp_path / 'raw', [None] * 5)
  save(raw / 'Img/img_align_celeba_png.7z/img_align_celeba_png/000004.png', aligned())
  path = build_set('celeba/gray48', raw, tmp_path / 'data')
  assert sorted(by_id(path)) == ['000004']


def test_a_partial_copy(tmp_path, capsys):
  """Splits without an image are not there; in the others, what is missing is counted."""
  raw = make_official(tmp_path / 'raw', [aligned(), None, aligned(1.3), None, None, None])
  save(raw / 'Img/img_align_celeba/000009.jpg', aligned())
  path = build_set('celeba/rgb64', raw, tmp_path / 'data')
  assert sorted(by_id(path, 'train')) == ['000001', '000003']
  summary = read_summary(path)
  assert summary['records'] == {'train': 2}
  assert summary['left_out']['by_rule'] == {'not in this copy': ['000002', '000006']}
  said = capsys.readouterr().err
  assert 'does not have 4 of the 6 images of the list' in said
  assert '000009.jpg: not in the list; ignored' in said


def test_in_the_wild_the_face_closest_to_the_box(tmp_path):
  boxes = [(270, 70, 60, 70), (60, 60, 80, 90), (0, 0, 0, 0), (900, 900, 50, 50)]
  raw = make_official(tmp_path / 'raw', [two()] * 3 + [aligned()], boxes, wild=True)
  path = build_set('celeba/rgb64', raw, tmp_path / 'data')
  records, notes = by_id(path), read_summary(path)['notes']
  middles = {
    image_id: record['attributes']['box'][::2].mean() for image_id, record in records.items()
  }
  assert 280 < middles['000001'] < 320
  assert 80 < middles['000002'] < 120
  assert 80 < middles['000003'] < 120  # without a usable box, the largest
  assert notes['box_unusable']['image_ids'] == ['000003', '000004']
  assert notes['several_faces_found']['image_ids'] == ['000001', '000002', '000003']


def test_in_the_wild_without_a_face_the_box_is_stored(tmp_path):
  raw = make_official(tmp_path / 'raw', [PLAIN], [(100, 150, 120, 100)], wild=True)
  record = by_id(build_set('celeba/rgb64', raw, tmp_path / 'data'))['000001']
  np.testing.assert_array_equal(record['attributes']['box'], [100, 150, 178, 218])


def test_of_both_kinds_of_images_those_in_the_wild_are_read(tmp_path, capsys):
  raw = make_official(tmp_path / 'raw', [two()], [(270, 70, 60, 70)], wild=True)
  make_official(raw, [aligned()])
  record = by_id(build_set('celeba/rgb64', raw, tmp_path / 'data'))['000001']
  assert record['attributes']['box'][0] > 200
  assert 'img_align_celeba: not read' in capsys.readouterr().err


def test_crops_on_demand(tmp_path):
  half = [
    cv2.resize(aligned(1.5 + i / 20), (89, 109), interpolation=cv2.INTER_AREA) for i in range(2)
  ]
  raw = make_official(tmp_path / 'raw', [*half, PLAIN[:109, :89]])
  path = build_set('celeba/rgb96_crop1', raw, tmp_path / 'data')
  records = by_id(path)
  np.testing.assert_allclose(records['000001']['landmarks'][:2, 1], 0.38 * 96, atol=6)
  # The landmarks of a copy of half the size are half of the listed ones.
  half_of = (np.array(LANDMARKS).reshape(5, 2) + 0.5) / 2 - 0.5
  np.testing.assert_allclose(
    records['000001']['attributes']['annotated_landmarks'], half_of, atol=0.01
  )
  assert read_summary(path)['notes']['not_aligned']['images'] == 0


def test_a_damaged_image_is_left_out(tmp_path):
  raw = make_official(tmp_path / 'raw', [aligned(), aligned(1.3)])
  (raw / 'Img/img_align_celeba/000002.jpg').write_bytes(b'')
  left_out = read_summary(build_set('celeba/rgb64', raw, tmp_path / 'data'))['left_out']
  assert left_out['by_reason'] == {'damaged image': 1}


@pytest.mark.parametrize(
  ('name', 'old', 'new', 'message'),
  [
    ('Anno/list_attr_celeba.txt', 'Bald ', '', r'the column Bald is missing.*5_o_Clock_Shadow'),
    ('Anno/list_attr_celeba.txt', '2\r\n', '3\r\n', r'the first line says 3 images, but 2 lines'),
    ('Anno/list_attr_celeba.txt', '000002', '000001', r'line 4 names 000001.jpg again'),
    (
      'Anno/list_attr_celeba.txt',
      ' -1 ',
      ' -2 ',
      r'line 3 \(000001.jpg\) has the value .-2.*-1 to 1',
    ),
    (
      'Anno/list_attr_celeba.txt',
      ' -1 ',
      ' ',
      r"line 3 has 39 values after '000001.jpg'; expected 40",
    ),
    ('Eval/list_eval_partition.txt', '000002.jpg 0', '', r'does not name 000002, which .*attr'),
    ('Eval/list_eval_partition.txt', '2.jpg 0', '2.jpg 3', r"value '3'; expected whole .* 0 to 2"),
    ('Anno/identity_CelebA.txt', ' 1\r', ' 0\r', r"value '0'; expected whole .* 1 to 10177"),
    ('Anno/identity_CelebA.txt', '10177', 'nan', r"value 'nan'"),
    ('Anno/list_landmarks_align_celeba.txt', '142', '14x', r"value '14x'"),
  ],
)
def test_bad_lists_are_named(tmp_path, name, old, new, message):
  raw = make_official(tmp_path / 'raw', [PLAIN, PLAIN])
  content = (raw / name).read_bytes().decode()
  assert old in content
  (raw / name).write_bytes(content.replace(old, new, 1).encode())
  with pytest.raises(UserError, match=message) as error:
    build_set('celeba/rgb64', raw, tmp_path / 'data')
  assert name.partition('/')[2] in str(error.value)


def test_a_list_that_is_missing(tmp_path):
  raw = make_official(tmp_path / 'raw', [PLAIN])
  (raw / 'Eval/list_eval_partition.txt').unlink()
  with pytest.raises(UserError, match=r'list_eval_partition.txt: no such file, nor a .csv'):
    build_set('celeba/rgb64', raw, tmp_path / 'data')


def test_images_that_are_not_unpacked(tmp_path):
  raw = make_official(tmp_path / 'raw', [None])
  write(raw / 'Img/img_align_celeba.zip', ['PK'])
  with pytest.raises(UserError, match=r'img_align_celeba.zip: the images are not unpacked'):
    build_set('celeba/rgb64', raw, tmp_path / 'data')


def test_a_size_that_is_not_stored(tmp_path):
  with pytest.raises(UserError, match=r'celeba/rgb300: the size is 300; expected 32 to 256'):
    build_set('celeba/rgb300', tmp_path, tmp_path / 'data')
