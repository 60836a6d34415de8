import numpy as np
import pytest
from PIL import Image

from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.cartoons import cartoon, make_utkface, save
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.utkface.utkface_dataset_builder import parse_name

NAMES = [
  '1_0_2_20161219140623097.jpg.chip.jpg',
  '26_1_0_20170116184024662.jpg.chip.jpg',
  '116_1_3_20170117195420803.jpg.chip.jpg',
  '60_0_4_20170110183726390.jpg.chip.jpg',
  '39_1_20170116174525125.jpg.chip.jpg',  # one part is missing
  '55_0_0_20170116232725357jpg.chip.jpg',  # a dot is missing
]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  return make_utkface(tmp_path_factory.mktemp('raw') / 'UTKFace', NAMES)


@pytest.fixture(scope='module')
def gray48(raw, tmp_path_factory):
  return build_set('utkface/gray48', raw.parent, tmp_path_factory.mktemp('data'))


# The names' own coding: gender 0 male, 1 female; ethnicity 0 White, 1 Black, 2 Asian, 3 Indian, 4
# others.
@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    (NAMES[0], {'age_years': 1, 'age_group': 0, 'gender': 1, 'ethnicity5': 2}),
    (NAMES[1], {'age_years': 26, 'age_group': 2, 'gender': 0, 'ethnicity5': 0}),
    (NAMES[2], {'age_years': 116, 'age_group': 5, 'gender': 0, 'ethnicity5': 3}),
    (NAMES[3], {'age_years': 60, 'age_group': 4, 'gender': 1, 'ethnicity5': 4}),
    (NAMES[4], {'age_years': 39, 'age_group': 3}),
    ('61_3_20170109150557335.jpg.chip.jpg', {'age_years': 61, 'age_group': 5}),
    ('53__0_20170116184028385.jpg.chip.jpg', {'age_years': 53, 'age_group': 4, 'ethnicity5': 0}),
    (
      '24_0_1_20170116220224657 .jpg.chip.jpg',
      {'age_years': 24, 'age_group': 1, 'gender': 1, 'ethnicity5': 1},
    ),
    ('30_2_5_20170116220224657.jpg.chip.jpg', {'age_years': 30, 'age_group': 2}),
    ('117_1_0_20170116220224657.jpg.chip.jpg', {'gender': 0, 'ethnicity5': 0}),
    ('holiday.jpg.chip.jpg', {}),
  ],
)
def test_labels_of_a_name(name, expected):
  assert parse_name(name) == expected


def test_records(gray48):
  records = by_id(gray48)
  assert sorted(records) == sorted(name.removesuffix('.chip.jpg') for name in NAMES)
  known = records['26_1_0_20170116184024662.jpg']
  assert {task: int(label) for task, label in known['labels'].items()} == parse_name(NAMES[1])
  assert all(known['mask'].values())
  partly = records['39_1_20170116174525125.jpg']
  assert {task: bool(mask) for task, mask in partly['mask'].items()} == {
    'age_years': True,
    'age_group': True,
    'gender': False,
    'ethnicity5': False,
  }
  assert (int(partly['labels']['gender']), int(partly['labels']['ethnicity5'])) == (0, 0)


def test_the_whole_chip_is_stored(raw, gray48):
  chip = np.asarray(Image.open(raw / NAMES[0]).convert('L'), float)
  image = by_id(gray48)['1_0_2_20161219140623097.jpg']['image']
  assert image.shape == (48, 48, 1)
  # Means of quarters: 100 pixels of the chip are 24 of the image.
  quarters = chip.reshape(2, 100, 2, 100).mean(axis=(1, 3))
  np.testing.assert_allclose(image.reshape(2, 24, 2, 24).mean(axis=(1, 3)), quarters, atol=1.5)


def test_summary(gray48):
  summary = read_summary(gray48)
  assert summary['records'] == {'train': 6}
  assert summary['labelled']['train'] == {
    'age_years': 6,
    'age_group': 6,
    'gender': 5,
    'ethnicity5': 5,
  }
  assert summary['labels']['train']['gender'] == {'female': 2, 'male': 3}
  assert summary['notes']['label_missing_in_file_name']['image_ids'] == [
    '39_1_20170116174525125.jpg'
  ]
  assert summary['labels']['train']['age_years']['116'] == 1


def test_rgb224(raw, tmp_path):
  record = by_id(build_set('utkface/rgb224', raw, tmp_path))['1_0_2_20161219140623097.jpg']
  chip = np.asarray(Image.open(raw / NAMES[0]), float)
  assert record['image'].shape == (224, 224, 3)
  quarters = record['image'].reshape(2, 112, 2, 112, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(quarters, chip.reshape(2, 100, 2, 100, 3).mean(axis=(1, 3)), atol=3)


def test_mtcnn_crops(tmp_path):
  raw = tmp_path / 'UTKFace'
  save(raw / NAMES[0], cartoon(size=200, scale=1.3))
  save(raw / NAMES[1], np.full((200, 200, 3), 127, np.uint8))
  path = build_set('utkface/rgb64_mtcnn', raw, tmp_path)
  records, notes = by_id(path), read_summary(path)['notes']
  found, none = (records[name.removesuffix('.chip.jpg')] for name in NAMES[:2])
  left, _, right, _ = found['attributes']['box']
  assert 40 < left < 80 < 120 < right < 160  # 1.3 times 62 wide, around 100
  assert found['image'].shape == (64, 64, 3)
  np.testing.assert_allclose(
    found['image'][36, 12], (224, 180, 150), atol=30
  )  # the drawn skin, at the cheek
  assert found['image'].std() > 20
  np.testing.assert_array_equal(none['attributes']['box'], [0, 0, 200, 200])
  assert notes['face_not_found']['image_ids'] == [NAMES[1].removesuffix('.chip.jpg')]
  whole = build_set('utkface/rgb64', raw, tmp_path)
  assert 'face_not_found' not in read_summary(whole)['notes']
  assert 'attributes' not in by_id(whole)[NAMES[0].removesuffix('.chip.jpg')]


def test_crops_on_demand(tmp_path):
  raw = tmp_path / 'UTKFace'
  save(raw / NAMES[0], cartoon(size=200, scale=1.3))
  slope = np.arange(200, dtype=np.uint8)[:, None, None].repeat(200, axis=1).repeat(3, axis=2)
  save(raw / NAMES[1], slope)
  path = build_set('utkface/rgb50_crop1', raw, tmp_path)
  records, notes = by_id(path), read_summary(path)['notes']
  found, none = (records[name.removesuffix('.chip.jpg')] for name in NAMES[:2])
  np.testing.assert_allclose(found['landmarks'][:2, 1], 0.38 * 50, atol=4)
  assert np.isnan(none['landmarks']).all()
  quarter = slope.reshape(50, 4, 50, 4, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(none['image'], quarter, atol=1.5)  # JPEG; the whole, without margin
  assert notes['face_not_found']['image_ids'] == [NAMES[1].removesuffix('.chip.jpg')]
  assert notes['face_not_found']['means'] == 'no face was found; the whole chip is stored'
  assert notes['not_aligned']['images'] == 0


def test_a_size_on_demand_is_the_whole_chip(raw, tmp_path):
  record = by_id(build_set('utkface/rgb50', raw, tmp_path))['1_0_2_20161219140623097.jpg']
  chip = np.asarray(Image.open(raw / NAMES[0]), float)
  np.testing.assert_allclose(
    record['image'], chip.reshape(50, 4, 50, 4, 3).mean(axis=(1, 3)), atol=0.51
  )
  assert 'landmarks' not in record


def test_the_published_parts_as_sources(tmp_path):
  """As docs/datasets.md names them, at a hundredth: 12 for training, 6 for testing, and the ages
  from 21 to 60.
  """
  names = [f'{age}_{age % 2}_{age % 5}_201701161{age:08d}.jpg.chip.jpg' for age in range(15, 69, 3)]
  names.append('39_1_20170116174525125.jpg.chip.jpg')  # has no ethnicity, so no draw takes it
  build_set('utkface/gray48', make_utkface(tmp_path / 'UTKFace', names), tmp_path)

  def ages(part):
    source = load_source(f'utkface/gray48:train[{part}]', tmp_path)
    return source.labels['age_years'].tolist()

  trained, tested = ages('take=12,seed=0'), ages('take=6,after=12,seed=0')
  assert sorted(trained + tested) == list(range(15, 69, 3))
  assert sorted(ages('age_years=21-60')) == sorted([*range(21, 61, 3), 39])
  with pytest.raises(UserError, match=r'7 images after 12 requested, but only 18 available'):
    ages('take=7,after=12,seed=0')


def test_copies_with_other_labels_are_reported(raw, tmp_path):
  for name in NAMES[:2]:
    (tmp_path / name).write_bytes((raw / name).read_bytes())
  (tmp_path / '27_1_0_20170101000000000.jpg.chip.jpg').write_bytes((raw / NAMES[1]).read_bytes())
  duplicates = read_summary(build_set('utkface', tmp_path, tmp_path / 'data'))['duplicates']
  assert duplicates['groups_with_other_labels'] == duplicates['groups'] == 1
  assert duplicates['list'][0]['differs_in'] == ['age_years']


def test_an_empty_folder(tmp_path):
  with pytest.raises(UserError, match=r'found no \*.chip.jpg.*susanqq.github.io'):
    build_set('utkface', tmp_path, tmp_path / 'data')


def test_a_damaged_chip_is_left_out(raw, tmp_path):
  for name in NAMES:
    (tmp_path / name).write_bytes((raw / name).read_bytes())
  (tmp_path / NAMES[0]).write_bytes(b'')
  summary = read_summary(build_set('utkface', tmp_path, tmp_path / 'data'))
  assert summary['left_out']['list'][0]['image_id'] == '1_0_2_20161219140623097.jpg'
  assert summary['images'] == 5
