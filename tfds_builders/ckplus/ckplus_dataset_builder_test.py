import cv2
import numpy as np
import pytest

from mtface import tasks
from mtface.data import build as build_lib
from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary

IMAGES, FACS, EMOTION, LANDMARKS = 'cohn-kanade-images', 'FACS', 'Emotion', 'Landmarks'
PEAK_EMOTION = f'{EMOTION}/S005/001/S005_001_00000011_emotion.txt'
PEAK_FACS = f'{FACS}/S005/001/S005_001_00000011_facs.txt'
CENTER, SCALE = (320, 240), 2.0


def frame(number, colour=False):
  """640x490, grey or in colour, with the cartoon's face a little larger in each frame."""
  drawn = cartoon(size=640, center=CENTER, scale=SCALE + number / 50)[:490]
  return drawn if colour else cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)


def points():
  """[68, 2]: eyes, nose and mouth where the cartoon has them, the others around the face."""
  angles = np.linspace(0, np.pi, 27)
  found = np.array(CENTER) + SCALE * np.stack([30 * np.cos(angles), 40 * np.sin(angles)], axis=1)
  found = np.concatenate([found, np.tile(found[:1], (41, 1))])
  around = np.array([[-7, 0], [-3, -3], [3, -3], [7, 0], [3, 3], [-3, 3]])
  for start, x in ((36, -13), (42, 13)):
    found[start : start + 6] = np.array(CENTER) + SCALE * (around + np.array([x, -6]))
  for i, offset in {30: (0, 9), 48: (-12, 22), 54: (12, 22)}.items():
    found[i] = np.array(CENTER) + SCALE * np.array(offset)
  return found


def write(path, rows):
  """Numbers as CK+ writes them: `   5.0000000e+00`."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [''.join(f'   {value:.7e}' for value in row) for row in rows]
  path.write_text('\n'.join(lines) + '\n')


def write_sequence(folder, name, frames, *, emotion=None, units=None, marks=True, colour=False):
  """One sequence, its labels named after the last frame; `units` are (unit, intensity)."""
  person, sequence = name.split('_')
  for number in frames:
    stem = f'{name}_{number:08d}'
    save(folder / IMAGES / person / sequence / f'{stem}.png', frame(number, colour))
    if marks:
      write(folder / LANDMARKS / person / sequence / f'{stem}_landmarks.txt', points())
  stem = f'{name}_{frames[-1]:08d}'
  (folder / EMOTION / person / sequence).mkdir(parents=True)  # there, but empty, without a label
  if emotion is not None:
    write(folder / EMOTION / person / sequence / f'{stem}_emotion.txt', [[emotion]])
  if units is not None:
    write(folder / FACS / person / sequence / f'{stem}_facs.txt', units)


def write_ckplus(folder):
  write_sequence(folder, 'S005_001', [1, 2, 3, 4, 11], emotion=3, units=[(9, 5), (17, 3), (24, 0)])
  write_sequence(folder, 'S010_002', [1, 2], emotion=2, units=[(1, 0), (26, 2)], colour=True)
  write_sequence(folder, 'S502_001', [1, 2, 3], units=[(27, 4)], marks=False)
  (folder / IMAGES / 'S005/001/.DS_Store').write_bytes(b'\0')
  (folder / IMAGES / 'S052/004').mkdir(parents=True)  # of which only .DS_Store is left
  (folder / IMAGES / 'S052/004/.DS_Store').write_bytes(b'\0')
  return folder


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp('ckplus')
  return build_set('ckplus/rgb64', write_ckplus(folder / 'raw'), folder / 'data')


def test_the_first_frame_is_neutral_and_the_last_one_the_peak(built):
  records = by_id(built)
  assert sorted(records) == [
    *('S005_001_00000001', 'S005_001_00000011', 'S010_002_00000001', 'S010_002_00000002'),
    *('S502_001_00000001', 'S502_001_00000003'),
  ]
  peaks = {i for i, record in records.items() if record['attributes']['peak']}
  assert peaks == {'S005_001_00000011', 'S010_002_00000002', 'S502_001_00000003'}
  neutral = records['S005_001_00000001']
  assert (neutral['labels']['emotion8'], neutral['labels']['emotion7']) == (6, 6)
  assert neutral['mask']['emotion8'] and neutral['mask']['emotion7']
  assert not neutral['mask']['action_units'].any(), 'FACS codes are of the peak'
  assert (neutral['attributes']['frame'], neutral['attributes']['to_peak']) == (1, 10)
  assert {record['subject'] for record in records.values()} == {b'S005', b'S010', b'S502'}
  assert read_summary(built)['left_out']['images'] == 0


def test_labels_of_the_peaks(built):
  records = by_id(built)
  units = tasks.get_task('action_units').classes

  def listed(image_id):
    record = records[image_id]
    assert record['mask']['action_units'].all()
    return [units[i] for i in np.flatnonzero(record['labels']['action_units'])]

  assert listed('S005_001_00000011') == ['AU9', 'AU17'], '24 is none of the eleven'
  assert listed('S010_002_00000002') == ['AU1', 'AU26'], 'of an intensity that is not known'
  assert listed('S502_001_00000003') == []
  emotions = [(int(r['labels'][t]), bool(r['mask'][t])) for r in (
    records['S005_001_00000011'], records['S010_002_00000002'], records['S502_001_00000003']
  ) for t in ('emotion8', 'emotion7')]  # fmt: skip
  assert emotions == [(1, True), (1, True), (7, True), (0, False), (0, False), (0, False)]
  notes = {note: of['image_ids'] for note, of in read_summary(built)['notes'].items()}
  assert notes['contempt'] == ['S010_002_00000002']
  assert notes['emotion_unknown'] == ['S502_001_00000003']
  assert notes['action_units_unknown'] == []
  assert sorted(notes['points_unknown']) == ['S502_001_00000001', 'S502_001_00000003']


@pytest.mark.parametrize(
  ('number', 'name'),
  [(0, 'neutral'), (1, 'angry'), (2, 'contempt'), (3, 'disgust'), (4, 'fear'), (5, 'happy'),
   (6, 'sad'), (7, 'surprise')],
)  # fmt: skip
def test_numbers_of_emotions_are_those_of_its_readme(tmp_path, number, name):
  write_sequence(tmp_path, 'S005_001', [1, 2], emotion=number, units=[(1, 1)])
  builder_class, config = build_lib.find_builder('ckplus/gray48')
  builder = builder_class(config=config, data_dir=tmp_path / 'data')
  _, peak = builder.items(tmp_path)['train']
  (face,) = builder.converter()(peak)
  assert tasks.get_task('emotion8').classes[face.labels['emotion8']] == name


def test_landmarks_are_of_the_68_points(built):
  record = by_id(built)['S005_001_00000001']
  left, top, right, bottom = record['attributes']['box'].tolist()
  scale = np.array([64 / (right - left), 64 / (bottom - top)])
  expected = [(-13, -6), (13, -6), (0, 9), (-12, 22), (12, 22)]  # of the cartoon
  expected = np.array(CENTER) + SCALE * np.array(expected) - (left, top) + 0.5
  np.testing.assert_allclose(record['landmarks'], expected * scale - 0.5, atol=1e-3)
  without = by_id(built)['S502_001_00000001']['landmarks']  # MTCNN's
  np.testing.assert_allclose(without, record['landmarks'], atol=4)
  assert not np.array_equal(without, record['landmarks'])


def test_of_two_faces_the_one_at_the_points_is_stored_or_else_their_box(tmp_path):
  write_ckplus(tmp_path)
  drawn = frame(0)
  larger = cv2.cvtColor(cartoon(size=640, center=(520, 300), scale=2.4)[:490], cv2.COLOR_RGB2GRAY)
  drawn[:, 430:] = larger[:, 430:]
  save(tmp_path / IMAGES / 'S005/001/S005_001_00000001.png', drawn)
  save(tmp_path / IMAGES / 'S010/002/S010_002_00000001.png', np.full_like(drawn, 90))
  path = build_set('ckplus/gray48', tmp_path, tmp_path / 'data')
  records = by_id(path)
  assert records['S005_001_00000001']['attributes']['box'][2] < 430
  expected = [*np.floor(points().min(axis=0)), *np.ceil(points().max(axis=0))]
  assert records['S010_002_00000001']['attributes']['box'].tolist() == expected
  assert read_summary(path)['notes']['face_not_found']['image_ids'] == ['S010_002_00000001']


def test_several_peak_frames(tmp_path):
  write_ckplus(tmp_path)
  path = build_set('ckplus/rgb32_peak3', tmp_path, tmp_path / 'data')
  records = by_id(path)
  found = {
    i: int(r['attributes']['to_peak']) for i, r in records.items() if r['attributes']['peak']
  }
  assert found == {
    **{'S005_001_00000003': 8, 'S005_001_00000004': 7, 'S005_001_00000011': 0},
    **{'S010_002_00000002': 0, 'S502_001_00000002': 1, 'S502_001_00000003': 0},
  }
  assert records['S005_001_00000003']['labels']['emotion8'] == 1
  assert len(records) == 9, 'the first frame stays neutral'
  assert build_lib.find_builder('ckplus/gray48_peak12')[1].peaks == 12
  for name in ('gray48_peak1', 'gray48_peak', 'gray99_peak3', 'peak3'):
    with pytest.raises(UserError, match=f"no config '{name}'; available: rgb32"):
      build_lib.find_builder(f'ckplus/{name}')


def test_folds_are_of_people_and_peaks_can_be_chosen(built):
  data_dir = built.parents[2]
  for fold in range(3):
    assert len(set(load_source(f'ckplus/rgb64:train[fold={fold}/3]', data_dir).subjects)) == 1
  assert len(load_source('ckplus/rgb64:train[peak=1]', data_dir)) == 3


def test_incomplete_sequences(tmp_path):
  write_ckplus(tmp_path)
  (tmp_path / IMAGES / 'S005/001/S005_001_00000011.png').unlink()  # the frame that is labelled
  save(tmp_path / IMAGES / 'S010/002/S010_002_00000003.png', frame(3))  # after the labelled one
  write_sequence(tmp_path, 'S011_003', [7], emotion=5)  # one frame, and no FACS file
  write(tmp_path / FACS / 'S502/001/S502_001_00000003_facs.txt', [])
  (tmp_path / LANDMARKS / 'S010/002/S010_002_00000001_landmarks.txt').write_text('1 2\n3 4\n')
  (tmp_path / LANDMARKS / 'S010/002/S010_002_00000002_landmarks.txt').write_text('broken')
  path = build_set('ckplus', tmp_path, tmp_path / 'data')
  records, summary = by_id(path), read_summary(path)
  assert [(i['image_id'], i['reason']) for i in summary['left_out']['list']] == [
    ('S005_001_00000011', 'missing file')
  ]
  assert records['S005_001_00000001']['labels']['emotion8'] == 6
  assert 'S005_001_00000004' not in records
  assert records['S010_002_00000002']['attributes']['peak']
  assert 'S010_002_00000003' not in records
  assert records['S011_003_00000007']['labels']['emotion8'] == 3
  notes = summary['notes']
  assert sorted(notes['action_units_unknown']['image_ids']) == [
    *('S011_003_00000007', 'S502_001_00000003')
  ]
  assert {'S010_002_00000001', 'S010_002_00000002'} <= set(notes['points_unknown']['image_ids'])


def test_folders_of_the_archives(tmp_path):
  write_ckplus(tmp_path / 'raw')
  moves = {
    IMAGES: f'extended-cohn-kanade-images/{IMAGES}',
    FACS: f'FACS_labels/{FACS}',
    EMOTION: f'Emotion_labels/{EMOTION}',
    LANDMARKS: f'{LANDMARKS}/{LANDMARKS}',
  }
  for old, new in moves.items():
    (tmp_path / 'ck+' / new).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'raw' / old).rename(tmp_path / 'ck+' / new)
  records = by_id(build_set('ckplus', tmp_path / 'ck+', tmp_path / 'data'))
  assert len(records) == 6 and records['S005_001_00000011']['labels']['emotion8'] == 1


@pytest.mark.parametrize(
  ('file', 'text', 'message'),
  [
    (PEAK_EMOTION, '   8.0000000e+00\n', r"holds '8.0'; expected"),
    (PEAK_EMOTION, '   2.5000000e+00\n', r"holds '2.5'; expected"),
    (PEAK_EMOTION, 'happy\n', r"line 1 is 'happy'; expected one"),
    (PEAK_EMOTION, '\n', r"holds ''; expected one number from 0"),
    (PEAK_EMOTION, '', r'the file is empty \(0 bytes\)'),
    ('Emotion/S005/001/S005_001_00000012_emotion.txt', '  1\n', r'two Emotion files; expected one'),
    (PEAK_FACS, ' 1 2 3\n', r"line 1 is '1 2 3'; expected an action"),
    (PEAK_FACS, ' 1 nan\n', r"line 1 is '1 nan'; expected an action"),
    (PEAK_FACS, ' 1.5 2\n', r'the action unit 1.5 of intensity 2;'),
    (PEAK_FACS, ' 1 6\n', r'the action unit 1 of intensity 6; exp'),
    ('cohn-kanade-images/S005/001/S005_001_00000011.jpg', '', r'both map to the image_id'),
  ],
)  # fmt: skip
def test_a_file_that_is_not_in_order_is_named(tmp_path, file, text, message):
  write_ckplus(tmp_path)
  (tmp_path / file).write_text(text)
  with pytest.raises(UserError, match=message) as error:
    build_set('ckplus', tmp_path, tmp_path / 'data')
  assert file in str(error.value)


def test_folders_that_are_not_in_order(tmp_path):
  with pytest.raises(UserError, match=r'found no cohn-kanade-images/S005/.*jeffcohn.net'):
    build_set('ckplus', tmp_path, tmp_path / 'data')
  save(tmp_path / 'CK+48/anger/S010_004_00000017.png', frame(0))
  with pytest.raises(UserError, match=r'one folder per class, without action units.*found no cohn'):
    build_set('ckplus', tmp_path / 'CK+48', tmp_path / 'data')
  write_ckplus(tmp_path / 'raw')
  (tmp_path / 'raw/FACS').rename(tmp_path / 'raw/AUs')
  with pytest.raises(UserError, match=r'raw: found no FACS/S005/ beside the images; expected the'):
    build_set('ckplus', tmp_path / 'raw', tmp_path / 'data')
