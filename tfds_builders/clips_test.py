"""The builders afew and vgaf, on drawn faces in real encoded clips."""

import numpy as np
import pytest

from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.cartoons import cartoon
from tests.prepared import build_set, by_id, read_summary
from tests.videos import set_durations, write_video
from tfds_builders import base, clips
from tfds_builders.afew import afew_dataset_builder as afew_builder
from tfds_builders.vgaf.vgaf_dataset_builder import read_labels

EMOTIONS = ('Angry', 'Disgust', 'Fear', 'Happy', 'Neutral', 'Sad', 'Surprise')
PLAIN = np.full((160, 160, 3), 127, np.uint8)


def face(x=80, scale=1.0):
  return cartoon(size=160, center=(x, 80), scale=scale)


def two(left, right):
  """Two faces beside each other, of these scales."""
  return np.hstack([face(scale=left), face(scale=right)])


# --- AFEW -----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def afew_raw(tmp_path_factory):
  raw = tmp_path_factory.mktemp('raw') / 'AFEW'
  for split in ('Train_AFEW', 'Val_AFEW'):
    for emotion in EMOTIONS:
      (raw / split / emotion).mkdir(parents=True)
  train = raw / 'Train_AFEW'
  write_video(train / 'Angry/000046280.avi', [face(70), PLAIN, face(90)], fps=10)
  # The left one is larger at first, the right one a little later: the left one stays.
  write_video(train / 'Sad/000046280.avi', [two(1.1, 0.95), two(1.0, 1.1), two(0.6, 1.15)])
  write_video(train / 'Happy/001.avi', [PLAIN] * 3)
  broken = write_video(train / 'Fear/002.avi', [face()] * 3)
  broken.write_bytes(broken.read_bytes()[:3000])
  (train / 'Fear/notes.txt').write_text('no clip')
  write_video(raw / 'Val_AFEW' / 'Neutral/003.avi', [face()])
  (raw / 'Val_AFEW' / 'Surprise/004.avi').write_bytes((train / 'Angry/000046280.avi').read_bytes())
  return raw


@pytest.fixture(scope='module')
def afew(afew_raw, tmp_path_factory):
  return build_set('afew/rgb64', afew_raw.parent, tmp_path_factory.mktemp('data'))


def test_a_record_is_the_face_of_a_frame(afew):
  records = by_id(afew, 'train')
  of_clip = {i: r for i, r in records.items() if i.startswith('train/Angry')}
  assert sorted(of_clip) == ['train/Angry/000046280/0/0', 'train/Angry/000046280/2/0']
  record = of_clip['train/Angry/000046280/2/0']
  assert (int(record['labels']['emotion7']), bool(record['mask']['emotion7'])) == (0, True)
  about = record['attributes']
  assert about['clip'] == b'train/Angry/000046280'
  assert (int(about['frame']), int(about['faces']), int(about['frames']), int(about['label'])) == (
    2,
    1,
    3,
    0,
  )
  assert float(about['seconds']) == pytest.approx(0.2)
  left, _, right, _ = about['box']
  assert left < 90 < right
  assert record['image'].shape == (64, 64, 3)
  # The middle of the drawn left eye, moved into the crop by hand.
  assert record['landmarks'][0, 0] == pytest.approx((90 - 13 - left) * 64 / (right - left), abs=6)


def test_the_main_face_goes_on_from_frame_to_frame(afew):
  records = by_id(afew, 'train')
  of_frame = [records[f'train/Sad/000046280/{i}/0']['attributes'] for i in range(3)]
  assert [int(a['faces']) for a in of_frame] == [2, 2, 2]
  sides = ['left' if a['box'][2] < 160 else 'right' for a in of_frame]
  assert sides == ['left', 'left', 'right']  # at last it has less than half of the other's area


def outcomes(path, every=1, all_faces=False):
  config = clips.video_config(base.rgb64(), every=every)
  clip = clips.Clip('train/x', path, 3)
  return clips.convert(clip, config=config, task='emotion7', all_faces=all_faces)


def test_the_main_face_goes_on_after_a_frame_without_one(tmp_path):
  path = write_video(tmp_path / 'a.avi', [two(1.1, 0.95), np.hstack([PLAIN, PLAIN]), two(1.0, 1.1)])
  found = outcomes(path)
  assert [face.attributes['frame'] for face in found] == [0, 2]
  assert [bool(face.attributes['box'][2] < 160) for face in found] == [True, True]


def test_frames_are_those_that_were_looked_at(tmp_path):
  found = outcomes(write_video(tmp_path / 'a.avi', [face()] * 5), every=2)
  assert [of.attributes['frame'] for of in found] == [0, 2, 4]
  assert {of.attributes['frames'] for of in found} == {3}
  assert [bool(of.digest) for of in found] == [True, False, False]
  for of in found:
    np.testing.assert_allclose(
      of.image[32, 12], (224, 180, 150), atol=40
    )  # the drawn skin, at the cheek
    assert of.image.std() > 20


def test_a_clip_that_is_cut_short_is_used_and_noted(tmp_path):
  path = write_video(tmp_path / 'a.avi', [face()] * 10)
  content = path.read_bytes()
  frames = [i for i in range(len(content)) if content.startswith(b'00dc', i)]
  path.write_bytes(content[: frames[6]])
  found = outcomes(path)
  assert 4 <= len(found) <= 6
  assert [of.notes for of in found] == [('fewer_frames_than_promised',)] + [()] * (len(found) - 1)
  assert all(of.labels == {'emotion7': 3} for of in found)


def test_damaged_clips_are_no_share_of_the_faces(afew_raw, tmp_path, monkeypatch):
  def convert(clip, **_):
    if clip.name == 'train/Fear/002':
      return [base.LeftOut(clip.name, 'damaged clip')]
    about = {
      'clip': clip.name,
      'frame': 0,
      'seconds': 0.0,
      'faces': 1,
      'frames': 1,
      'label': 0,
      'confidence': 1.0,
    }
    about['box'] = np.zeros(4, np.int32)
    return [
      base.Face(f'{clip.name}/{i}', np.zeros((64, 64, 3), np.uint8), attributes=about)
      for i in range(60)
    ]

  monkeypatch.setattr(clips, 'convert', convert)
  monkeypatch.setattr(afew_builder.Builder, 'LEFT_OUT_ALWAYS_ALLOWED', 0)
  with pytest.raises(
    UserError, match=r'1 of 181 images of train could not be used; the first is train/Fear/002'
  ):
    build_set('afew/rgb64', afew_raw, tmp_path)


@pytest.mark.parametrize(
  'names', [('Train_AFEW', 'Val_AFEW'), ('Train', 'Val'), ('Train/Train_AFEW', 'Val/Val_AFEW')]
)
def test_the_ways_to_unpack_afew(tmp_path, names):
  for name in names:
    for emotion in EMOTIONS:
      (tmp_path / name / emotion).mkdir(parents=True)
  (tmp_path / names[1] / 'Sad/7.MP4').write_bytes(b'')
  assert afew_builder.clips_of(tmp_path, 'train') == []
  assert afew_builder.clips_of(tmp_path, 'validation') == [
    clips.Clip('validation/Sad/7', tmp_path / names[1] / 'Sad/7.MP4', 4)
  ]


def test_a_clip_without_a_face_has_one_black_image_whose_label_is_masked(afew):
  record = by_id(afew, 'train')['train/Happy/001/none']
  assert not record['image'].any()
  assert not record['mask']['emotion7']
  about = record['attributes']
  assert (int(about['label']), int(about['faces']), int(about['frame']), int(about['frames'])) == (
    3,
    0,
    -1,
    3,
  )
  assert np.isnan(about['seconds'])
  assert read_summary(afew)['notes']['clip_without_face']['image_ids'] == ['train/Happy/001/none']


def test_a_damaged_clip_is_listed_and_copies_of_clips_are_found(afew):
  summary = read_summary(afew)
  (left_out,) = summary['left_out']['list']
  assert (left_out['image_id'], left_out['reason']) == ('train/Fear/002', 'damaged clip')
  assert '002.avi' in left_out['detail']
  (group,) = summary['duplicates']['list']
  assert set(group['image_ids']) == {'train/Angry/000046280/0/0', 'validation/Surprise/004/0/0'}
  assert group['differs_in'] == ['emotion7']
  assert summary['records'] == {'train': 6, 'validation': 3}


def test_folds_keep_the_frames_of_a_clip_together(afew):
  data_dir = afew.parents[2]
  source = load_source('afew/rgb64:train', data_dir)
  assert set(source.attributes['clip']) == {
    'train/Angry/000046280',
    'train/Sad/000046280',
    'train/Happy/001',
  }
  folds = [
    set(load_source(f'afew/rgb64:train[fold={i}/2]', data_dir).attributes['clip']) for i in range(2)
  ]
  assert not folds[0] & folds[1]


def test_many_damaged_clips_end_the_build(tmp_path):
  for split in ('Train', 'Val'):
    for emotion in EMOTIONS:
      (tmp_path / split / emotion).mkdir(parents=True)
    write_video(tmp_path / split / 'Angry/0.avi', [face()] * 3)
  for i in range(1, 12):
    (tmp_path / f'Train/Angry/{i}.avi').write_bytes(b'broken')
  with pytest.raises(
    UserError,
    match=r'11 of \d+ images of train could not be used; the first is train/Angry/1 .*1.avi',
  ):
    build_set('afew/rgb64', tmp_path, tmp_path / 'data')


def test_afew_in_a_wrong_folder(tmp_path):
  with pytest.raises(UserError, match=r'found no Train_AFEW/Angry/.*AFEW.html.*--manual_dir'):
    build_set('afew', tmp_path, tmp_path / 'data')
  (tmp_path / 'Train_AFEW/Angry').mkdir(parents=True)
  with pytest.raises(UserError, match=r'Train_AFEW/Disgust: no such folder'):
    build_set('afew', tmp_path, tmp_path / 'data')
  for emotion in EMOTIONS[1:]:
    (tmp_path / 'Train_AFEW' / emotion).mkdir()
  with pytest.raises(
    UserError, match=r'found no Val_AFEW/Angry/ or Val/Angry/; expected both splits'
  ):
    build_set('afew', tmp_path, tmp_path / 'data')


# --- VGAF -----------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def vgaf_raw(tmp_path_factory):
  raw = tmp_path_factory.mktemp('raw') / 'VGAF'
  varying = write_video(
    raw / 'Train/1_1.mp4', [two(1.0, 0.8)] + [np.hstack([PLAIN, PLAIN])] * 4 + [two(1.0, 0.8)]
  )
  set_durations(varying, [0.5, 0.1, 0.1, 0.1, 0.45, 0.1])
  write_video(raw / 'Train/1_2.mp4', [PLAIN] * 2)
  write_video(raw / 'Train/9_9.mp4', [PLAIN] * 2)
  write_video(raw / 'Val/1_1.mp4', [face()])
  (raw / 'Train_labels.txt').write_text('Vid_name Label\n1_1 3\n1_2 1\n1_3 2\n')
  (raw / 'Val_labels.txt').write_text('1_1.mp4,2\n')
  return raw


def test_all_faces_of_every_fifth_frame(vgaf_raw, tmp_path):
  path = build_set('vgaf/rgb64', vgaf_raw.parent, tmp_path)
  records = by_id(path)
  ids = ['1_1/0/0', '1_1/0/1', '1_1/5/0', '1_1/5/1', '1_2/none']
  assert sorted(records) == [*(f'train/{i}' for i in ids), 'validation/1_1/0/0']
  assert [int(records[f'train/{i}']['labels']['group_emotion']) for i in ids[:4]] == [2] * 4
  assert (
    records['train/1_1/0/0']['attributes']['box'][2]
    < 160
    < records['train/1_1/0/1']['attributes']['box'][0]
  )
  seconds = records['train/1_1/5/1']['attributes']['seconds']
  assert float(seconds) == pytest.approx(1.25, abs=2e-3)  # not 5 frames at 25 a second
  assert int(records['validation/1_1/0/0']['labels']['group_emotion']) == 1
  assert int(records['train/1_2/none']['attributes']['label']) == 0
  left_out = read_summary(path)['left_out']
  assert left_out['by_rule'] == {'no label in the list': ['train/9_9']}
  assert [(image['image_id'], image['reason']) for image in left_out['list']] == [
    ('train/1_3', 'missing file')
  ]


def test_stored_as_jpeg(vgaf_raw, tmp_path):
  record = by_id(build_set('vgaf', vgaf_raw, tmp_path))['validation/1_1/0/0']
  assert record['image'].shape == (224, 224, 3)
  x, y = record['landmarks'][[0, 3]].mean(axis=0).astype(int)
  np.testing.assert_allclose(
    record['image'][y, x], (224, 180, 150), atol=30
  )  # the drawn skin, at the cheek


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('1_1 4\n', r"line 1 is '1_1 4'; expected a clip and 1, 2 or 3"),
    ('1_1 1\n1_2\n', r"line 2 is '1_2'; expected"),
    ('1_1 1\n1_1 2\n', r'line 2 names 1_1 again'),
  ],
)
def test_a_list_that_is_not_in_order(tmp_path, text, message):
  (tmp_path / 'Train_labels.txt').write_text(text)
  with pytest.raises(UserError, match=f'Train_labels.txt: {message}'):
    read_labels(tmp_path / 'Train_labels.txt')


def test_vgaf_in_a_wrong_folder(tmp_path, vgaf_raw):
  with pytest.raises(
    UserError, match=r'found no Train_labels.txt and Train/.*emotiw2020.*--manual_dir'
  ):
    build_set('vgaf', tmp_path, tmp_path / 'data')
  (tmp_path / 'Train').mkdir()
  (tmp_path / 'Train_labels.txt').write_text('1_1 1\n')
  with pytest.raises(UserError, match=r'Val_labels.txt: no such file; expected both splits'):
    build_set('vgaf', tmp_path, tmp_path / 'data')
