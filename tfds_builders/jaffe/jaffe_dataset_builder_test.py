import numpy as np
import pytest
from PIL import Image

from mtface import tasks
from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.cartoons import cartoon
from tests.prepared import build_set, by_id, read_summary

# Of the set: takes with gaps, numbers of one to three digits.
NAMES = {
  'KA.AN1.39.tiff': ('KA', 'angry'),
  'KM.SA5.13.tiff': ('KM', 'sad'),
  'KM.NE1.1.tiff': ('KM', 'neutral'),
  'NM.DI3.109.tiff': ('NM', 'disgust'),
  'YM.FE4.70.tiff': ('YM', 'fear'),
  'UY.HA1.137.tiff': ('UY', 'happy'),
  'NA.SU1.208.tiff': ('NA', 'surprise'),
}
# As copies have them.
COPIES = {
  'tm.an1.190.jpg': ('TM', 'angry'),
  'KL.DI4173.TIFF': ('KL', 'disgust'),
  'KR-FE2-90.png': ('KR', 'fear'),
  'MK.SU1 .122.tiff': ('MK', 'surprise'),
  'KA.HA2.tif': ('KA', 'happy'),
  'KL.NE1.155.tiff.bmp': ('KL', 'neutral'),
}


def photo(number=0):
  """256x256 grey, as in the set."""
  drawn = cartoon(size=256, center=(128, 130), scale=1.6 + number / 20)
  return Image.fromarray(drawn).convert('L')


def write_jaffe(folder, names):
  folder.mkdir(parents=True, exist_ok=True)
  for i, name in enumerate(names):
    photo(i).save(folder / name)
  (folder / 'README_FIRST.txt').write_text('# KM-SA1 3.1 1.2 ...')
  return folder


def test_names_say_who_and_which_emotion(tmp_path):
  names = NAMES | COPIES
  raw = write_jaffe(tmp_path / 'raw/jaffedbase/jaffe', names)
  path = build_set('jaffe/gray48', raw.parent.parent, tmp_path)
  records = by_id(path)
  assert len(records) == len(names)
  for name, (who, emotion) in names.items():
    record = records[name.replace('.tiff.bmp', '.bmp').rpartition('.')[0].upper()]
    assert record['subject'] == who.encode()
    assert tasks.get_task('emotion7').classes[record['labels']['emotion7']] == emotion
    assert record['mask']['emotion7']
  assert read_summary(path)['notes']['face_not_found']['images'] == 0


def test_faces_are_found_and_folds_are_of_people(tmp_path):
  raw = write_jaffe(
    tmp_path / 'raw', [f'{who}.NE{i}.{i}.tiff' for who in ('KA', 'KL', 'KM', 'KR') for i in (1, 2)]
  )
  record = by_id(build_set('jaffe', raw, tmp_path))['KA.NE1.1']
  assert record['image'].shape == (32, 32, 3)
  assert (np.ptp(record['image'].astype(int), axis=2) == 0).all(), 'grey in all three channels'
  left, top, right, bottom = record['attributes']['box'].tolist()
  # The cartoon's eyes are at (128 -+ 1.6 * 13, 130 - 1.6 * 6), its mouth is at 130 + 1.6 * 22.
  assert left < 107 < 149 < right and top < 120 and bottom > 165
  eyes = record['landmarks'][:2] * (right - left) / 32 + left
  np.testing.assert_allclose(eyes[:, 0], [107, 149], atol=6)
  for fold in range(4):
    tested = load_source(f'jaffe/rgb32:train[fold={fold}/4]', tmp_path)
    assert len(set(tested.subjects)) == 1 and len(tested) == 2


def test_other_images_are_told(tmp_path, capsys):
  raw = write_jaffe(tmp_path / 'raw', ['KA.AN1.39.tiff', 'XX.QQ1.5.tiff', 'montage.tiff'])
  assert list(by_id(build_set('jaffe', raw, tmp_path))) == ['KA.AN1.39']
  assert 'XX.QQ1.5.tiff and 1 more images: not named as in KA.AN1.39' in capsys.readouterr().err


def test_files_that_are_not_in_order(tmp_path):
  (tmp_path / 'empty').mkdir()
  with pytest.raises(UserError, match=r'found no KA.AN1.39.tiff and others.*zenodo.org'):
    build_set('jaffe', tmp_path / 'empty', tmp_path / 'data')
  write_jaffe(tmp_path / 'classes/anger', ['1.tiff'])
  with pytest.raises(UserError, match=r'a copy as one folder per class, .*found no KA.AN1.39'):
    build_set('jaffe', tmp_path / 'classes', tmp_path / 'data')
  raw = write_jaffe(tmp_path / 'raw', ['KA.AN1.39.tiff', 'ka.an1.39.jpg'])
  with pytest.raises(UserError, match=r"both map to the image_id 'KA.AN1.39'"):
    build_set('jaffe', raw, tmp_path / 'data')
  (raw / 'ka.an1.39.jpg').unlink()
  write_jaffe(raw, ['KA.AN2.40.tiff'])
  (raw / 'KA.AN2.40.tiff').write_bytes(b'II*\0broken')
  left_out = read_summary(build_set('jaffe', raw, tmp_path / 'data'))['left_out']
  assert left_out['by_reason'] == {'damaged image': 1}
