import hashlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtface.data.index import prepared_dir
from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.fakes import fake_source, write_prepared

TASKS = {'smile': 1.0, 'gender': 0.75, 'action_units': 0.5}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A set of 40 images, two of each of 20 people, in three files. Not to be changed."""
  folder = tmp_path_factory.mktemp('data')
  write_prepared(folder, 'faces/gray16', {'train': 40, 'test': 10}, TASKS, subjects=20, shards=3)
  return folder


# --- Loading --------------------------------------------------------------------------------------


def test_everything_is_there_in_the_order_of_the_ids(data_dir):
  source = load_source('faces/gray16:train', data_dir)
  drawn = fake_source('train', 40, TASKS)  # what write_prepared wrote
  assert source.image_ids.tolist() == sorted(drawn.image_ids)
  assert source.image_shape == (16, 16, 1)
  assert len(source) == 40
  np.testing.assert_array_equal(source.gather(np.arange(40)), drawn.images)
  assert sorted(source.labels) == sorted(TASKS)
  for task in TASKS:
    np.testing.assert_array_equal(source.mask[task], drawn.mask[task])
    np.testing.assert_array_equal(
      np.where(source.mask[task], source.labels[task], 0),
      np.where(drawn.mask[task], drawn.labels[task], 0),
    )
  assert source.labelled('action_units').sum() == 20
  assert source.mask['action_units'].shape == (40, 11)


def test_tasks_are_taken_as_asked_for(data_dir):
  source = load_source('faces/gray16:train', data_dir, ['gender'])
  assert (list(source.labels), list(source.mask)) == (['gender'], ['gender'])
  with pytest.raises(
    UserError,
    match=r"faces/gray16:train: has no labels for task 'emotion7'; it has "
    r'action_units, gender, smile',
  ):
    load_source('faces/gray16:train', data_dir, ['emotion7'])


def test_the_order_of_the_records_and_the_number_of_files_do_not_matter(data_dir, tmp_path):
  form = {'shards': 1, 'salt': 'another order'}
  write_prepared(tmp_path, 'faces/gray16', {'train': 40, 'test': 10}, TASKS, subjects=20, **form)
  raw = [
    [
      r['image_id']
      for r in tfds.builder_from_directory(d / 'faces/gray16/1.0.0').as_data_source('train')
    ]
    for d in (data_dir, tmp_path)
  ]
  assert raw[0] != raw[1], 'the records do come in another order'
  for name in ('faces/gray16:train', 'faces/gray16:train[fold=1/4]'):
    one, other = load_source(name, data_dir), load_source(name, tmp_path)
    np.testing.assert_array_equal(one.image_ids, other.image_ids)
    np.testing.assert_array_equal(
      one.gather(np.arange(len(one))), other.gather(np.arange(len(other)))
    )
    np.testing.assert_array_equal(one.labels['smile'], other.labels['smile'])


def test_folds_cover_the_set_once_and_keep_people_together(data_dir):
  whole = load_source('faces/gray16:train', data_dir)
  people = {f'train_{i:05d}': i % 20 for i in range(40)}
  seen = []
  for fold in range(4):
    tested = load_source(f'faces/gray16:train[fold={fold}/4]', data_dir)
    trained = load_source(f'faces/gray16:train[fold!={fold}/4]', data_dir)
    assert sorted([*tested.image_ids, *trained.image_ids]) == whole.image_ids.tolist()
    assert not {people[i] for i in tested.image_ids} & {people[i] for i in trained.image_ids}
    assert abs(len(tested) - 10) <= 2
    np.testing.assert_array_equal(
      tested.labels['smile'], whole.labels['smile'][np.isin(whole.image_ids, tested.image_ids)]
    )
    seen += tested.image_ids.tolist()
  assert sorted(seen) == whole.image_ids.tolist()


def test_folds_by_image_have_everybody_on_both_sides(tmp_path):
  write_prepared(tmp_path, 'faces/gray16', {'train': 60}, {'identity:4': 1.0}, subjects=4)
  tested, trained = (
    load_source(f'faces/gray16:train[fold{op}0/5,by=image]', tmp_path) for op in ('=', '!=')
  )
  assert not set(tested.image_ids) & set(trained.image_ids)
  assert len(tested) + len(trained) == 60
  everybody = np.bincount(
    np.concatenate([tested.labels['identity:4'], trained.labels['identity:4']])
  )
  share = np.bincount(tested.labels['identity:4'], minlength=4) / everybody
  assert (np.abs(share * everybody - everybody / 5) < 1).all(), 'a fifth of the images of each'


def test_folds_are_the_same_whatever_tasks_are_taken(data_dir):
  name = 'faces/gray16:train[fold=2/4]'
  taken = [
    load_source(name, data_dir, tasks).image_ids.tolist() for tasks in (None, ['smile'], ['gender'])
  ]
  assert taken[0] == taken[1] == taken[2]


def test_draws_take_fully_labelled_faces_and_share_no_person(data_dir):
  whole = load_source('faces/gray16:train', data_dir)
  known = set(
    whole.image_ids[whole.mask['gender'] & whole.mask['action_units'].any(axis=1)]
  )  # smile: all
  trained = load_source('faces/gray16:train[take=9,seed=1]', data_dir, ['gender'])
  tested = load_source('faces/gray16:train[take=5,after=9,seed=1]', data_dir, ['smile'])
  assert (len(trained), len(tested)) == (9, 5)
  assert known >= set(trained.image_ids) | set(tested.image_ids)
  people = [
    {int(i.rpartition('_')[2]) % 20 for i in source.image_ids} for source in (trained, tested)
  ]
  assert not people[0] & people[1]
  with pytest.raises(
    UserError, match=r'faces/gray16:train\[take=21\]: 21 images requested, but only 20 available'
  ):
    load_source('faces/gray16:train[take=21]', data_dir)
  # As many as there are: 20, all of which are labelled for all tasks.
  most = load_source('faces/gray16:train[upto=21,seed=1]', data_dir)
  assert len(most) == 20 and all(most.labelled(task).all() for task in TASKS)
  assert (
    trained.image_ids.tolist()
    == load_source('faces/gray16:train[upto=9,seed=1]', data_dir).image_ids.tolist()
  )


def test_draws_of_faces_with_labels_of_some_tasks(data_dir):
  # Labelled: smile all 40, gender the first 30, action units the first 20.
  def numbers(part):
    ids = load_source(f'faces/gray16:train[{part}]', data_dir).image_ids
    return {int(i.rpartition('_')[2]) for i in ids}

  assert numbers('take=40,of=smile') == set(range(40))
  assert numbers('take=30,of=gender') == numbers('take=30,of=smile+gender') == set(range(30))
  assert numbers('take=20,of=gender+action_units') == numbers('take=20') == set(range(20))
  first, rest = numbers('take=8,of=gender,seed=3'), numbers('take=5,after=8,of=gender,seed=3')
  assert first | rest <= set(range(30))
  assert not {n % 20 for n in first} & {n % 20 for n in rest}
  for part, message in {
    'take=31,of=gender': r'31 images requested, but only 30 available',
    'take=3,of=smile+emotion7': r"no labels for task 'emotion7'; it has action_units, gender",
    'each=3,of=emotion7': r"no labels for task 'emotion7'; it has action_units, gender, smile",
    'take=3,of=smiles': r"task 'smiles' is unknown",
    'each=3,of=action_units': r'each=3,of=action_units,seed=0: action_units has several labels',
    'each=30,of=gender': r"30 images of every class requested, but only \d+ of 'female' available",
  }.items():
    with pytest.raises(UserError, match=r'^faces/gray16:train\[' + part[:4] + '.*' + message):
      numbers(part)


def test_draws_of_each_class(data_dir):
  whole = load_source('faces/gray16:train', data_dir)
  for seed in range(4):
    part = f'of=gender,seed={seed}'
    trained = load_source(f'faces/gray16:train[each=4,{part}]', data_dir, ['gender'])
    tested = load_source(f'faces/gray16:train[each!=4,{part}]', data_dir)
    assert np.bincount(trained.labels['gender']).tolist() == [4, 4]
    expected = whole.mask['gender'] & ~np.isin(whole.subjects, trained.subjects)
    assert tested.image_ids.tolist() == whole.image_ids[expected].tolist()
    assert trained.mask['gender'].all()
  again = load_source('faces/gray16:train[each=4,of=gender,seed=0]', data_dir)
  assert again.image_ids.tolist() != trained.image_ids.tolist()


def test_draws_of_each_class_keep_copies_together_and_stay_in_ranges(tmp_path):
  def change(source):  # 60 images, each of them twice; the labels of copies differ
    source.images[60:] = source.images[:60]
    number = np.arange(120)
    source.labels['smile'][:] = (number + number // 60) % 2
    source.labels['age_years'][:] = number % 60
    source.mask['gender'][90:] = False

  tasks = {'smile': 1.0, 'gender': 1.0, 'age_years': 1.0, 'action_units': 1.0}
  write_prepared(tmp_path, 'faces/gray16', {'train': 120}, tasks, draw=drawn_as(change))

  def numbers(part):
    ids = load_source(f'faces/gray16:train[{part}]', tmp_path).image_ids
    return [int(i.rpartition('_')[2]) for i in ids]

  drawn, left = numbers('each=7,of=smile'), numbers('each!=7,of=smile')
  assert len(drawn) == 14
  assert set(left) == {n for n in range(120) if n % 60 not in {m % 60 for m in drawn}}
  young = numbers('age_years=0-19,each!=7,of=smile')
  assert {n % 60 for n in young} | {n % 60 for n in numbers('age_years=0-19,each=7,of=smile')} == {
    *range(20)
  }
  with pytest.raises(UserError, match=r'each!=20,of=smile,seed=0: no face is left; take fewer'):
    numbers('age_years=0-19,each!=20,of=smile')


def test_copies_of_an_image_stay_together(tmp_path):
  def doubled(split, size):  # 30 images, each of them twice under other names
    source = fake_source(split, size, {'smile': 1.0})
    source.images[30:] = source.images[:30]
    return source

  write_prepared(tmp_path, 'faces/gray16', {'train': 60}, {'smile': 1.0}, draw=doubled)
  for how in ('', ',by=image'):
    for fold in range(3):
      ids = load_source(f'faces/gray16:train[fold={fold}/3{how}]', tmp_path).image_ids
      numbers = sorted(int(i.removeprefix('train_')) % 30 for i in ids)
      assert numbers[::2] == numbers[1::2] and len(ids) == 20


def test_taking_some_samples(data_dir):
  source = load_source('faces/gray16:train', data_dir)
  some = source.take(np.array([3, 30, 7]))
  assert some.image_ids.tolist() == source.image_ids[[3, 30, 7]].tolist()
  np.testing.assert_array_equal(some.gather(np.array([1])), source.gather(np.array([30])))
  np.testing.assert_array_equal(some.mask['action_units'], source.mask['action_units'][[3, 30, 7]])


@pytest.fixture(scope='module')
def described(tmp_path_factory):
  """30 images with attributes of all kinds and one of four identities."""
  kinds = {
    'clip': (tfds.features.Text(), lambda i: f'clip {i // 10} ä'),
    'seconds': (tfds.features.Scalar(np.float32), lambda i: i / 4 if i else float('nan')),
    'frame': (tfds.features.Scalar(np.int32), lambda i: i),
    'usable': (tfds.features.Scalar(np.bool_), lambda i: np.bool_(i % 2)),
    'box': (
      tfds.features.Tensor(shape=(4,), dtype=np.int32),
      lambda i: np.arange(4, dtype=np.int32) + i,
    ),
  }
  folder = tmp_path_factory.mktemp('described')
  tasks = {'identity:4': 0.5, 'age_years': 0.6}
  write_prepared(folder, 'faces/gray16', {'train': 30}, tasks, subjects=10, attributes=kinds)
  return folder


def test_attributes_and_subjects_go_with_their_images(described):
  source = load_source('faces/gray16:train', described)
  number = np.array([int(i.rpartition('_')[2]) for i in source.image_ids])
  some = source.take(np.array([3, 25, 7]))
  for taken, n in (
    (source, number),
    (some, number[[3, 25, 7]]),
    (load_source('faces/gray16:train', described), number),
  ):
    assert taken.subjects.tolist() == [f'person {i % 10}' for i in n]
    assert taken.attributes['clip'].tolist() == [f'clip {i // 10} ä' for i in n]
    np.testing.assert_array_equal(
      taken.attributes['seconds'], np.where(n, n / 4, np.nan).astype(np.float32)
    )
    np.testing.assert_array_equal(taken.attributes['box'], n[:, None] + np.arange(4))
    assert taken.attributes['usable'].dtype == bool
    assert (taken.attributes['frame'].tolist(), len(taken.attributes)) == (n.tolist(), 5)


def test_sources_that_say_nothing_else(data_dir, tmp_path):
  write_prepared(tmp_path, 'faces/gray16', {'train': 4}, {'smile': 1.0})
  nothing = load_source('faces/gray16:train', tmp_path).take(np.array([2, 3]))
  assert (nothing.attributes, nothing.subjects.tolist()) == ({}, ['', ''])
  assert load_source('faces/gray16:train', data_dir).subjects[21] == 'person 1'
  made = fake_source('made', 5, {'smile': 1.0})
  assert (made.attributes, made.subjects.tolist()) == ({}, [''] * 5)


def test_identities_say_among_how_many(described):
  source = load_source('faces/gray16:train', described, ['identity:4'])
  assert list(source.labels) == ['identity:4']
  assert source.labelled('identity:4').sum() == 15
  assert set(source.labels['identity:4']) <= {0, 1, 2, 3}
  with pytest.raises(
    UserError, match=r"no labels for task 'identity:5'; it has age_years, identity:4"
  ):
    load_source('faces/gray16:train', described, ['identity:5'])


def test_ranges_of_labels_and_attributes(described):
  whole = load_source('faces/gray16:train', described)
  ages, frame = whole.labels['age_years'], whole.attributes['frame']

  def ids(part):
    return load_source(f'faces/gray16:train[{part}]', described).image_ids.tolist()

  assert (
    ids('age_years=20-70') == whole.image_ids[(frame < 18) & (ages >= 20) & (ages <= 70)].tolist()
  )  # of 30, 18 are known
  assert ids('usable=1,frame=3-9') == whole.image_ids[np.isin(frame, (3, 5, 7, 9))].tolist()
  assert (
    ids('seconds=0-2') == whole.image_ids[(frame >= 1) & (frame <= 8)].tolist()
  )  # the first one's is not known
  # A fold is that of the whole set, a draw takes from what is in the range: here it is all of it.
  assert ids('frame=0-14,fold=1/3') == [i for i in ids('fold=1/3') if i in ids('frame=0-14')]
  drawn = load_source('faces/gray16:train[frame=4-11,take=8]', described)
  assert drawn.attributes['frame'].tolist() == list(range(4, 12))


def test_faces_that_another_split_has_a_copy_of(tmp_path):
  def change(source):
    if len(source) == 10:
      source.images[2:5] = shown[0].images[[1, 7, 9]]
    shown.append(source)

  shown = []
  write_prepared(
    tmp_path, 'faces/gray16', {'train': 20, 'test': 10}, {'smile': 1.0}, draw=drawn_as(change)
  )
  whole = load_source('faces/gray16:test', tmp_path)
  left = load_source('faces/gray16:test[copies!=train]', tmp_path)
  assert len(left) == 7
  train = {x.tobytes() for x in load_source('faces/gray16:train', tmp_path).gather(np.arange(20))}
  images = whole.gather(np.arange(10))
  expected = [i for i, x in zip(whole.image_ids, images, strict=True) if x.tobytes() not in train]
  assert left.image_ids.tolist() == expected
  with pytest.raises(UserError, match='copies!=test: names the split itself'):
    load_source('faces/gray16:test[copies!=test]', tmp_path)
  with pytest.raises(UserError, match="has no split 'other'"):
    load_source('faces/gray16:test[copies!=other]', tmp_path)


def test_folds_hold_whole_clips_though_people_are_in_several(described):
  # Three clips of ten frames, in each of which all ten people are.
  clips = [
    load_source(f'faces/gray16:train[fold={fold}/3]', described).attributes['clip'].tolist()
    for fold in range(3)
  ]
  assert sorted(clips) == [[f'clip {i} ä'] * 10 for i in range(3)]


def test_a_range_before_a_fold_leaves_out_faces_of_every_fold(described):
  whole = load_source('faces/gray16:train', described)
  small = set(whole.image_ids[np.isin(whole.attributes['frame'], (3, 4, 5, 12, 13, 27))])
  for op in ('=', '!='):
    seen = []
    for fold in range(3):
      name = 'faces/gray16:train[frame={}fold{}{}/3]'
      before = set(load_source(name.format('0-99,', op, fold), described).image_ids)
      assert before == set(
        load_source(f'faces/gray16:train[fold{op}{fold}/3]', described).image_ids
      )
      ids = {
        i
        for few in ('3-5,', '12-13,', '27,')
        for i in load_source(name.format(few, op, fold), described).image_ids
      }
      assert ids == before & small
      assert len(ids) < len(before), 'some are left out of each'
      seen += ids
    assert sorted(seen) == sorted([*small] * (1 if op == '=' else 2))


def test_subjects_attributes_and_labels_are_those_of_the_rows(described):
  whole = load_source('faces/gray16:train', described)
  place = {image_id: i for i, image_id in enumerate(whole.image_ids)}
  for part in (
    'fold=1/3',
    'fold!=2/3',
    'fold=0/5,by=image',
    'take=8,seed=3',
    'take=3,after=4',
    'take=3,after=4,of=age_years',
    'each=1,of=identity:4',
    'frame=7-19',
    'frame=2-25,take=5',
  ):
    source = load_source(f'faces/gray16:train[{part}]', described)
    at = np.array([place[image_id] for image_id in source.image_ids])
    assert 0 < len(source) < 30
    assert source.subjects.tolist() == whole.subjects[at].tolist()
    np.testing.assert_array_equal(source.gather(np.arange(len(source))), whole.gather(at))
    for of in ('labels', 'mask', 'attributes'):
      assert getattr(source, of).keys() == getattr(whole, of).keys()
      for name, values in getattr(source, of).items():
        np.testing.assert_array_equal(
          values, getattr(whole, of)[name][at], err_msg=f'{part} {of} {name}'
        )


def drawn_as(change):
  """A `draw` of write_prepared, with its samples changed by a function."""

  def draw(split, size):
    source = fake_source(
      split, size, {'smile': 1.0, 'gender': 1.0, 'age_years': 1.0, 'action_units': 1.0}
    )
    change(source)
    return source

  return draw


def test_folds_share_out_the_labels_and_the_unlabelled_faces(tmp_path):
  def change(source):
    number = np.arange(120)
    source.labels['smile'][:], source.mask['smile'][:] = number % 2, number % 4 < 3
    source.labels['gender'][:] = number // 60
    source.labels['age_years'][:] = (
      number % 90
    )  # which are no strata: nearly every face would be one

  tasks = {'smile': 1.0, 'gender': 1.0, 'age_years': 1.0, 'action_units': 1.0}
  write_prepared(tmp_path, 'faces/gray16', {'train': 120}, tasks, draw=drawn_as(change))
  for of in (4, 5):
    found = []
    for fold in range(of):
      source = load_source(f'faces/gray16:train[fold={fold}/{of}]', tmp_path)
      smile = np.where(
        source.mask['smile'], source.labels['smile'], 2
      )  # three strata of each gender
      found.append(np.bincount(source.labels['gender'] * 3 + smile, minlength=6))
    spread = np.ptp(found, axis=0)
    assert np.sum(found, axis=0).tolist() == [30, 15, 15] * 2
    assert spread.max() <= 1, spread.tolist()


def test_folds_are_those_of_the_first_release(tmp_path):
  # Published figures name folds. A stratum's faces are dealt in the order of a hash of their ids,
  # computed here by hashlib alone.
  def change(source):
    source.labels['smile'][:] = np.arange(40) % 2

  write_prepared(tmp_path, 'faces/gray16', {'train': 40}, {'smile': 1.0}, draw=drawn_as(change))
  ids = [f'train_{i:05d}' for i in range(40)]
  expected = {}
  for stratum in (ids[::2], ids[1::2]):
    by_hash = sorted(
      stratum, key=lambda i: hashlib.blake2b(f'0:{i}'.encode(), digest_size=16).digest()
    )
    expected |= {
      image_id: place // 5 for place, image_id in enumerate(by_hash)
    }  # 20 faces in four folds
  for fold in range(4):
    source = load_source(f'faces/gray16:train[fold={fold}/4]', tmp_path)
    assert set(source.image_ids) == {image_id for image_id, of in expected.items() if of == fold}


def test_a_face_is_labelled_if_anything_is_known_of_it():
  source = fake_source('a', 12, {'action_units': 1.0, 'smile': 0.5})
  source.mask['action_units'][:] = (
    np.arange(12)[:, None] % 4 > np.arange(11) % 4
  )  # of every fourth one nothing, of none all
  np.testing.assert_array_equal(source.labelled('action_units'), np.arange(12) % 4 > 0)
  np.testing.assert_array_equal(source.labelled('smile'), np.arange(12) < 6)


@pytest.mark.parametrize(
  ('part', 'message'),
  [
    (
      'age=21-60',
      r"train\[age=21-60\]: has no label or attribute 'age' that is one number; it "
      r'has age_years, frame, ident',
    ),
    ('clip=1', r"no label or attribute 'clip' that is one number"),
    ('box=1', r"no label or attribute 'box' that is one number"),
    ('frame=50-60', r'train\[frame=50-60\]: no face is in this range'),
    ('frame=0-4,take=6', r'6 images requested, but only 5 available'),
  ],
)
def test_ranges_that_say_nothing(described, part, message):
  with pytest.raises(UserError, match=message):
    load_source(f'faces/gray16:train[{part}]', described)


def test_the_newest_version_is_taken(data_dir, tmp_path):
  config = tmp_path / 'faces/gray16'
  for version in ('1.9.0', '1.10.0', '2.0.0'):
    shutil.copytree(data_dir / 'faces/gray16/1.0.0', config / version)
  (config / '2.0.0/dataset_info.json').unlink()  # what is not finished has none
  assert prepared_dir('faces/gray16', tmp_path).name == '1.10.0'


def test_sets_that_are_not_there(data_dir):
  with pytest.raises(UserError, match=r"no split 'valid'; it has test, train"):
    load_source('faces/gray16:valid', data_dir)
  with pytest.raises(
    UserError,
    match=r'faces/gray48: no prepared set found; build it with `mtface build faces/gray48',
  ):
    load_source('faces/gray48:train', data_dir)
