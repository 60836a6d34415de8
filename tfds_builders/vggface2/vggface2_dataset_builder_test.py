import pickle

import numpy as np
import pytest

from mtface.errors import UserError
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.vggface2 import photos as photos_lib
from tfds_builders.vggface2.vggface2_dataset_builder import Builder

PLAIN = np.full((100, 120, 3), (200, 30, 90), np.uint8)
TWO = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])


def write_meta(path, people=9131, genders=None):
  """The published form: a blank after each comma, names in quotes, with commas in some. Numbers
  have gaps.
  """
  genders = genders or {}
  lines = ['Class_ID, Name, Sample_Num, Flag, Gender']
  for i in reversed(range(people)):  # the order of the lines does not matter
    lines.append(
      f'n{i + 1 + (i >= 5) * 100:06d}, "Some_Body,_{i}", 300, {int(i > 0)}, {genders.get(i, "m")}'
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  folder = tmp_path_factory.mktemp('raw') / 'VGGFace2'
  write_meta(folder / 'meta' / 'identity_meta.csv', genders={1: 'f', 5: 'x'})
  save(folder / 'test/n000001/0001_01.jpg', cartoon())
  save(folder / 'train/n000002/0001_01.jpg', TWO)
  save(folder / 'train/n000002/0002_02.jpg', PLAIN)
  save(folder / 'train/n000106/0007_01.jpg', cartoon(scale=0.9))
  (folder / 'train/n000106/0008_01.jpg').write_bytes(b'')
  save(folder / 'train/n000106/0009_01.jpg', PLAIN[:19])
  (folder / 'train/n000003').mkdir()
  boxes = folder / 'bb_landmark' / 'loose_bb_train.csv'
  boxes.parent.mkdir()
  rows = [
    '"n000002/0001_01",70,65,60,80',
    '"n000002/0002_02",10,20,40,50',
    '"n009000/0001_01",1,1,9,9',
  ]
  boxes.write_text('\n'.join(['NAME_ID,X,Y,W,H', *rows]) + '\n')
  return folder


@pytest.fixture(scope='module')
def rgb64(raw, tmp_path_factory):
  return build_set('vggface2/rgb64', raw.parent, tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module', autouse=True)
def half_is_tested():
  """So that neither side of a draw of six is empty."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(photos_lib, 'TRAIN_PHOTOS', 1)
    patch.setattr(photos_lib, 'TEST_PHOTOS', 1)
    yield


def test_identities_are_places_in_the_whole_list(rgb64):
  records = by_id(rgb64)
  labels = {i: int(record['labels']['identity']) for i, record in records.items()}
  assert labels == {
    'n000001/0001_01': 0,
    'n000002/0001_01': 1,
    'n000002/0002_02': 1,
    'n000106/0007_01': 5,
  }
  assert {i: r['subject'].decode() for i, r in records.items()} == {i: i[:7] for i in records}
  assert {i for i, r in records.items() if r['attributes']['official_test']} == {'n000001/0001_01'}
  genders = {i: int(r['labels']['gender']) for i, r in records.items() if r['mask']['gender']}
  assert genders == {'n000001/0001_01': 1, 'n000002/0001_01': 0, 'n000002/0002_02': 0}
  assert read_summary(rgb64)['notes']['gender_missing']['image_ids'] == ['n000106/0007_01']


def test_what_is_left_out(rgb64):
  left_out = read_summary(rgb64)['left_out']
  assert [(image['image_id'], image['reason']) for image in left_out['list']] == [
    ('n000106/0008_01', 'damaged image')
  ]
  by_rule = left_out['by_rule']
  assert by_rule['smaller than 20 pixels'] == ['n000106/0009_01']
  assert len(by_rule['a person without photographs']) == 9131 - 3
  assert 'n000003' in by_rule['a person without photographs']


def test_photographs_come_in_the_order_of_their_ids_whatever_their_partition(raw):
  photos = photos_lib.list_photos(raw, photos_lib.read_people(raw / 'meta/identity_meta.csv'))
  ids = [photo.image_id for photo in photos]
  assert ids == sorted(ids)
  assert ids[0] == 'n000001/0001_01', 'of the partition that is listed last'


def test_the_face_in_the_annotated_box(rgb64):
  records = by_id(rgb64)
  assert records['n000002/0001_01']['attributes']['box'][2] < 200  # the smaller one, at the left
  assert records['n000002/0002_02']['attributes']['box'].tolist() == [10, 20, 50, 70]
  assert read_summary(rgb64)['notes']['face_not_found']['image_ids'] == ['n000002/0002_02']
  left, _, right, _ = records['n000001/0001_01']['attributes']['box']  # of whom no box is known
  assert left < 100 < right


def test_the_draw_is_by_photograph_and_does_not_depend_on_the_order():
  ids = [b'n%06d/%04d_01' % (i % 20, i) for i in range(2000)]
  drawn = photos_lib.in_test(ids)
  assert drawn.sum() == 1000
  assert (photos_lib.in_test(ids[::-1])[::-1] == drawn).all()
  of_person = np.bincount(np.arange(2000) % 20, drawn)
  assert (of_person > 30).all()  # of 100: every person is on both sides
  assert (of_person < 70).all()


def test_the_published_numbers(monkeypatch):
  monkeypatch.setattr(photos_lib, 'TRAIN_PHOTOS', 3_067_564)
  monkeypatch.setattr(photos_lib, 'TEST_PHOTOS', 243_722)
  assert (
    photos_lib.in_test(b'%d' % i for i in range(10_000)).sum() == 736
  )  # 243,722 / 3,311,286 = 7.3603%
  assert (
    round(3_311_286 * photos_lib.TEST_PHOTOS / (photos_lib.TRAIN_PHOTOS + photos_lib.TEST_PHOTOS))
    == 243_722
  )


def test_photographs_are_made_up_as_they_are_asked_for(raw):
  splits = Builder(config='rgb64').items(raw)
  for of_split in splits.values():
    assert list(pickle.loads(pickle.dumps(of_split[:4]))) == [
      of_split[i] for i in range(min(4, len(of_split)))
    ]
  ids = {
    split: {photo.image_id for photo in of_split if '/' in photo.image_id}
    for split, of_split in splits.items()
  }
  assert not ids['train'] & ids['test']
  assert (len(ids['train']), len(ids['test'])) == (3, 3)


def test_a_build_that_was_stopped_goes_on(raw, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(Builder, 'PART_SIZE', 1000)
  real = Builder._count

  def stop(self, split, outcome):
    if split == 'test':
      raise KeyboardInterrupt
    real(self, split, outcome)

  with monkeypatch.context() as patch:
    patch.setattr(Builder, '_count', stop)
    with pytest.raises(KeyboardInterrupt):
      build_set('vggface2/rgb64', raw, tmp_path)
  path = build_set('vggface2/rgb64', raw, tmp_path)
  assert 'resuming an interrupted build' in capsys.readouterr().out
  assert len(by_id(path)) == 4


@pytest.mark.parametrize(
  ('spoil', 'message'),
  [
    (
      lambda folder: write_meta(folder / 'meta/identity_meta.csv', 9130),
      r'identity_meta.csv: 9,130 people; expected 9,131',
    ),
    (
      lambda folder: (folder / 'meta/identity_meta.csv').write_text('Class_ID;Name\n'),
      r"the header is 'Class_ID;Name'; expected Class_ID, Name, Sample_Num, Flag, Gender",
    ),
    (
      lambda folder: save(folder / 'train/somebody/1.jpg', PLAIN),
      r'train/somebody: identity_meta.csv has no entry',
    ),
    (
      lambda folder: (folder / 'bb_landmark/loose_bb_test.csv').write_text(
        'NAME_ID,X,Y,W,H\nn000001/0001_01,1,2,3\n'
      ),
      r"loose_bb_test.csv: line 2 is 'n000001/0001_01,1,2,3'; expected an image and "
      r'four whole numbers',
    ),
  ],
)
def test_lists_that_are_not_in_order(tmp_path, spoil, message):
  write_meta(tmp_path / 'meta/identity_meta.csv')
  save(tmp_path / 'train/n000002/0001_01.jpg', PLAIN)
  (tmp_path / 'bb_landmark').mkdir()
  spoil(tmp_path)
  with pytest.raises(UserError, match=message):
    Builder(config='rgb64').items(tmp_path)


def test_a_wrong_folder(tmp_path):
  (tmp_path / 'train').mkdir()
  message = (
    r'found no train/, and identity_meta.csv here or in '
    r'meta/.*github.com/ox-vgg/vgg_face2.*--manual_dir'
  )
  with pytest.raises(UserError, match=message):
    build_set('vggface2', tmp_path, tmp_path / 'data')
