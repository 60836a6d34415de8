import shutil

import cv2
import numpy as np
import pytest

from mtface import tasks
from mtface.errors import UserError
from tests.cartoons import save
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.sfew.sfew_dataset_builder import film_of

EMOTIONS = ('Angry', 'Disgust', 'Fear', 'Happy', 'Neutral', 'Sad', 'Surprise')
LAYOUTS = {
  'as unpacked': ('Train_Aligned_Faces', 'Val_Aligned_Faces_new', 'Test_Aligned_Faces'),
  'in folders of their own': (
    'Train/Train_Aligned_Faces',
    'Val/Val_Aligned_Faces_new/Val_Aligned_Faces',
    'Test/Test_Aligned_Faces',
  ),
  'the first release': ('Train_Aligned_Faces', 'Val_Aligned_Faces', 'Test_Aligned_Faces'),
}


def face(number):
  """143x181, as the set's aligned faces are."""
  coarse = np.random.default_rng(number).integers(0, 256, (5, 4, 3), dtype=np.uint8)
  return cv2.resize(coarse, (143, 181), interpolation=cv2.INTER_CUBIC)


def write_sfew(folder, layout='as unpacked'):
  train, validation, test = LAYOUTS[layout]
  for i, emotion in enumerate(EMOTIONS):
    save(folder / train / emotion / f'Airheads_00051924{i}_00000005.png', face(i))
    save(folder / validation / emotion / f'21_Grams_00102440_0000000{i}.png', face(10 + i))
  save(folder / test / 'IceAge_1_000012_00000001.png', face(20))
  save(folder / test / '7.png', face(21))
  return folder


@pytest.mark.parametrize('layout', LAYOUTS)
def test_faces_of_all_layouts_are_stored_whole(tmp_path, layout):
  path = build_set('sfew/rgb32', write_sfew(tmp_path / 'raw', layout), tmp_path / 'data')
  train, validation, test = (by_id(path, split) for split in ('train', 'validation', 'test'))
  classes = tasks.get_task('emotion7').classes
  for records, split in ((train, 'train'), (validation, 'validation')):
    assert len(records) == 7
    for image_id, record in records.items():
      of_split, emotion, _ = image_id.split('/')
      assert of_split == split
      assert classes[record['labels']['emotion7']] == emotion.lower()
      assert record['mask']['emotion7']
  record = train['train/Neutral/Airheads_000519244_00000005']
  expected = cv2.resize(face(4), (32, 32), interpolation=cv2.INTER_AREA)
  np.testing.assert_array_equal(record['image'], expected)
  assert record['attributes']['film'] == b'Airheads'
  assert sorted(test) == ['test/7', 'test/IceAge_1_000012_00000001']
  assert not any(record['mask']['emotion7'] for record in test.values())
  assert read_summary(path)['notes']['film_unknown']['image_ids'] == ['test/7']


@pytest.mark.parametrize(
  ('name', 'film'),
  [
    ('Airheads_000519240_00000005', 'Airheads'),
    ('21_Grams_00102440_00000012', '21_Grams'),
    ('test/IceAge_1_000012_00000001', 'IceAge_1'),
    ('Airheads_000519240', ''),
    ('_000519240_00000005', ''),
    ('Airheads', ''),
  ],
)
def test_the_film_is_all_but_time_and_number(name, film):
  assert film_of(name) == film


def test_of_two_validation_folders_the_new_one_is_read(tmp_path):
  raw = write_sfew(tmp_path / 'raw')
  shutil.copytree(raw / 'Val_Aligned_Faces_new', raw / 'Val_Aligned_Faces')
  save(raw / 'Val_Aligned_Faces/Angry/Old_1_1.png', face(30))
  assert len(by_id(build_set('sfew/gray48', raw, tmp_path), 'validation')) == 7


def test_without_a_test_set(tmp_path, capsys):
  raw = write_sfew(tmp_path / 'raw')
  shutil.rmtree(raw / 'Test_Aligned_Faces')
  assert set(read_summary(build_set('sfew', raw, tmp_path))['records']) == {'train', 'validation'}
  assert 'found no Test_Aligned_Faces/; building without a test split' in capsys.readouterr().err


def test_damaged_images_are_left_out(tmp_path):
  raw = write_sfew(tmp_path / 'raw')
  (raw / 'Train_Aligned_Faces/Sad/Airheads_000519245_00000005.png').write_bytes(b'broken')
  left_out = read_summary(build_set('sfew', raw, tmp_path))['left_out']
  assert left_out['by_reason'] == {'damaged image': 1}
  assert left_out['list'][0]['image_id'] == 'train/Sad/Airheads_000519245_00000005'


def test_folders_that_are_not_in_order(tmp_path):
  with pytest.raises(UserError, match=r'found no Train_Aligned_Faces/Angry/.*AFEW.html'):
    build_set('sfew', tmp_path, tmp_path / 'data')
  save(tmp_path / 'frames/Train/Angry/Airheads_000519240_00000005.png', face(0))
  with pytest.raises(UserError, match=r"SFEW's whole frames, or .*found no Train_Aligned_Faces"):
    build_set('sfew', tmp_path, tmp_path / 'data')
  raw = write_sfew(tmp_path / 'raw')
  (raw / 'Train_Aligned_Faces/Sad').rename(raw / 'Train_Aligned_Faces/Sadness')
  with pytest.raises(UserError, match=r'Aligned_Faces/Sad: no such folder; expected exactly Angry'):
    build_set('sfew', raw, tmp_path / 'data')
  (raw / 'Train_Aligned_Faces/Sadness').rename(raw / 'Train_Aligned_Faces/Sad')
  (raw / 'Train_Aligned_Faces/Contempt').mkdir()
  with pytest.raises(UserError, match=r'Contempt: not the folder of an emotion; expected exactly'):
    build_set('sfew', raw, tmp_path / 'data')
  (raw / 'Train_Aligned_Faces/Contempt').rmdir()
  shutil.rmtree(raw / 'Val_Aligned_Faces_new')
  with pytest.raises(UserError, match=r'raw: found no Val_Aligned_Faces_new/Angry/; expected both'):
    build_set('sfew', raw, tmp_path / 'data')
