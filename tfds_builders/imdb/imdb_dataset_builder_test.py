import datetime
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from mtface.errors import UserError
from mtface.faces.crop import overlap
from tests.cartoons import cartoon, cells, make_imdb_wiki
from tests.prepared import build_set, by_id, read_summary
from tfds_builders import imdb_wiki
from tfds_builders.imdb.imdb_dataset_builder import Builder

FACE = cartoon(size=120, center=(60, 60))


def datenum(year, month, day):
  """MATLAB's day 1 is 1 January of the year 0, Python's is that of the year 1."""
  return datetime.date(year, month, day).toordinal() + 366


def jpeg(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'JPEG', quality=95)
  return file.getvalue()


def entry(name, **kwargs):
  return {'full_path': f'00/{name}.jpg', 'image': FACE, **kwargs}


# A name says what is odd about it.
ENTRIES = [
  entry('sound', face_score=1.25),
  entry('sound_woman', gender=0, celeb_id=2, image=cartoon()),
  entry('gender_nan', gender=np.nan),
  entry('gender_2', gender=2),
  entry('born_after', dob=datenum(2030, 1, 1)),
  entry('dob_0', dob=0),
  entry('dob_nan', dob=np.nan),
  entry('year_nan', photo_taken=np.nan, celeb_id=3),
  entry('no_label', gender=np.nan, dob=datenum(2030, 1, 1)),
  entry('no_face', face_score=-np.inf),
  entry('two_faces', second_face_score=2.5),
  entry('no_face_nor_file', face_score=-np.inf, image=None),
  entry('no_file', image=None),
  entry('truncated', image=jpeg(FACE)[:800]),
  entry('empty', image=b''),
  entry('tiny_1', image=np.zeros((1, 1), np.uint8)),
  entry('tiny_19', image=np.zeros((19, 60, 3), np.uint8)),
  entry('small_20', image=np.full((20, 24, 3), (200, 30, 90), np.uint8), celeb_id=np.nan),
  entry('grey', image=FACE.mean(axis=2).astype(np.uint8)),
  entry('sound', gender=0),
]


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  return make_imdb_wiki(tmp_path_factory.mktemp('raw') / 'imdb_crop', 'imdb', ENTRIES)


@pytest.fixture(scope='module')
def gray48(raw, tmp_path_factory):
  # The folder above is given: the archive unpacks to a folder of its own.
  return build_set('imdb/gray48', raw.parent, tmp_path_factory.mktemp('data'))


# --- The rule -------------------------------------------------------------------------------------


def test_what_is_left_out_and_why(gray48):
  left_out = read_summary(gray48)['left_out']
  assert left_out['by_rule'] == {
    'no face in the photograph': ['00/no_face', '00/no_face_nor_file'],
    'a second face': ['00/two_faces'],
    'neither age nor gender known': ['00/no_label'],
    'listed twice': ['00/sound'],
    'smaller than 20 pixels': ['00/tiny_1', '00/tiny_19'],
  }
  assert {image['image_id']: image['reason'] for image in left_out['list']} == {
    '00/no_file': 'missing file',
    '00/truncated': 'damaged image',
    '00/empty': 'damaged image',
  }
  assert left_out['by_reason'] == {
    **{reason: len(ids) for reason, ids in left_out['by_rule'].items()},
    **{'missing file': 1, 'damaged image': 2},
  }
  assert left_out['images'] == 10


def test_what_is_stored_and_masked(gray48):
  records = by_id(gray48)
  known = {
    name: {task for task, mask in record['mask'].items() if mask}
    for name, record in records.items()
  }
  age, gender = {'age_years', 'age_group'}, {'gender'}
  assert known == {
    **dict.fromkeys(('00/sound', '00/sound_woman', '00/small_20', '00/grey'), age | gender),
    **dict.fromkeys(('00/gender_nan', '00/gender_2'), age),
    **dict.fromkeys(('00/born_after', '00/dob_0', '00/dob_nan', '00/year_nan'), gender),
  }
  labels = {
    name: {t: int(label) for t, label in record['labels'].items()}
    for name, record in records.items()
  }
  assert labels['00/sound'] == {'age_years': 30, 'age_group': 2, 'gender': 1}
  assert labels['00/sound_woman'] == {'age_years': 30, 'age_group': 2, 'gender': 0}
  assert labels['00/dob_0'] == {'age_years': 0, 'age_group': 0, 'gender': 1}  # masked


def test_masked_labels_are_counted_by_reason(gray48):
  summary = read_summary(gray48)
  notes = {
    note: of['image_ids']
    for note, of in summary['notes'].items()
    if note.startswith(('age', 'gender'))
  }
  assert notes == {
    'age_missing': ['00/dob_nan', '00/year_nan'],
    'age_impossible': ['00/born_after', '00/dob_0'],
    'gender_missing': ['00/gender_nan'],
    'gender_impossible': ['00/gender_2'],
  }
  assert summary['labelled']['train'] == {'age_years': 6, 'age_group': 6, 'gender': 8}


def test_any_number_may_be_left_out_by_rule_but_not_by_damage(tmp_path):
  others = [entry(f'other_{i}', second_face_score=1.0) for i in range(40)]
  path = build_set(
    'imdb', make_imdb_wiki(tmp_path / 'rule', 'imdb', [entry('sound'), *others]), tmp_path / 'a'
  )
  assert (read_summary(path)['images'], read_summary(path)['left_out']['images']) == (1, 40)
  missing = [entry(f'other_{i}', image=None) for i in range(11)]
  with pytest.raises(
    UserError,
    match=r'11 of 12 images .* 00/other_0 \(.*other_0.jpg: no such file.* broken',
  ):
    build_set(
      'imdb',
      make_imdb_wiki(tmp_path / 'damage', 'imdb', [entry('sound'), *missing]),
      tmp_path / 'b',
    )
  assert not (tmp_path / 'b/imdb/gray48/1.0.0').exists()


def test_a_set_of_which_nothing_is_left(tmp_path):
  raw = make_imdb_wiki(
    tmp_path / 'raw', 'imdb', [entry('a', second_face_score=1.0), entry('b', face_score=-np.inf)]
  )
  with pytest.raises(
    UserError,
    match=r'no image of train can be used \(a second face 1, no face in the photograph 1\)',
  ):
    build_set('imdb', raw, tmp_path / 'data')


def test_newborns_keep_their_age(tmp_path):
  assert imdb_wiki.labels(imdb_wiki.Entry('a', tmp_path, 0, 1, '', 1.0, 0)) == {
    'age_years': 0,
    'age_group': 0,
    'gender': 1,
  }
  born = entry('newborn', dob=datenum(2010, 3, 1), photo_taken=2010)
  record = by_id(
    build_set('imdb', make_imdb_wiki(tmp_path / 'raw', 'imdb', [born]), tmp_path / 'data')
  )['00/newborn']
  assert (int(record['labels']['age_years']), bool(record['mask']['age_years'])) == (0, True)


# --- Ages -----------------------------------------------------------------------------------------


def completed_years(born, on):
  """Counts birthdays one by one."""
  return sum(
    datetime.date(year, born.month, min(born.day, 28)) <= on
    for year in range(born.year + 1, on.year + 1)
  )


def test_the_day_numbers_are_matlabs():
  # MATLAB's documentation gives these for 1 January of 2000 and of 1970.
  assert (datenum(2000, 1, 1), datenum(1970, 1, 1)) == (730486, 719529)
  # Born on 10 May 1899, photographed in 1968: the dates of one of the published file names.
  assert imdb_wiki.ages(np.array([693726]), np.array([1968])).tolist() == [69]


def test_ages_on_the_first_of_july():
  days = [
    (1980, 6, 30),
    (1980, 7, 1),
    (1980, 7, 2),
    (1980, 1, 1),
    (1980, 12, 31),
    (1999, 12, 31),
    (2000, 3, 1),
    (1890, 7, 9),
  ]
  years = [1981, 1990, 2000, 2015]
  born, taken = zip(*[(day, year) for day in days for year in years], strict=True)
  expected = [
    completed_years(datetime.date(*day), datetime.date(year, 7, 1))
    for day, year in zip(born, taken, strict=True)
  ]
  alive = np.array(
    [
      datetime.date(*day) <= datetime.date(year, 7, 1)
      for day, year in zip(born, taken, strict=True)
    ]
  )
  expected = np.where(alive & (np.array(expected) <= 100), expected, imdb_wiki.IMPOSSIBLE)
  numbers = [datenum(*day) for day in born]
  assert {0, 9, 10, 19, 20, 34, 35, 99, imdb_wiki.IMPOSSIBLE} <= set(expected.tolist())
  # As published (whole numbers), and as MATLAB makes them by default, here with the time of day.
  for dtype, time in ((np.int32, 0), (np.float64, 0.75)):
    ages = imdb_wiki.ages(
      np.array(numbers, dtype) + np.array(time, dtype), np.array(taken, np.uint16)
    )
    np.testing.assert_array_equal(ages, expected)


@pytest.mark.parametrize(
  ('dob', 'year', 'expected'),
  [
    (np.nan, 2000, imdb_wiki.MISSING),
    (np.inf, 2000, imdb_wiki.MISSING),
    (datenum(1980, 1, 1), np.nan, imdb_wiki.MISSING),
    (datenum(1980, 1, 1), -np.inf, imdb_wiki.MISSING),
    (0, 2000, imdb_wiki.IMPOSSIBLE),
    (1, 2000, imdb_wiki.IMPOSSIBLE),
    (-5e5, 2000, imdb_wiki.IMPOSSIBLE),
    (1e300, 2000, imdb_wiki.IMPOSSIBLE),
    (-1e300, 2000, imdb_wiki.IMPOSSIBLE),
    (datenum(2000, 7, 2), 2000, imdb_wiki.IMPOSSIBLE),
    (datenum(2000, 7, 1), 2000, 0),
    (datenum(1900, 7, 1), 2000, 100),
    (datenum(1899, 7, 2), 2000, 100),
    (datenum(1899, 7, 1), 2000, imdb_wiki.IMPOSSIBLE),
    (datenum(1980, 1, 1), 0, imdb_wiki.IMPOSSIBLE),
    (datenum(1980, 1, 1), 1e300, imdb_wiki.IMPOSSIBLE),
  ],
)
@pytest.mark.filterwarnings('error')
def test_ages_at_the_ends(dob, year, expected):
  assert imdb_wiki.ages(np.array([dob]), np.array([year])).tolist() == [expected]


# --- Faces ----------------------------------------------------------------------------------------


def test_the_face_is_found_in_the_crop_and_stored_without_margin(gray48):
  record = by_id(gray48)['00/sound']
  assert (record['image'].shape, record['image'].dtype) == ((48, 48, 1), np.uint8)
  left, top, right, bottom = record['attributes']['box']
  # The drawn face without hair is 62 wide and 82 high around (60, 64).
  assert 20 < right - left < 80
  assert record['attributes']['confidence'] > 0.7
  assert record['attributes']['face_score'] == 1.25
  eyes = (
    (np.array([(47, 54), (73, 54)]) - (left, top)) * 48 / np.array([right - left, bottom - top])
  )
  np.testing.assert_allclose(record['landmarks'][:2], eyes, atol=5)


def test_grey_images_and_images_without_a_face(gray48):
  records = by_id(gray48)
  grey, colour = records['00/grey'], records['00/sound']
  assert overlap(grey['attributes']['box'], colour['attributes']['box']) > 0.8
  small = records['00/small_20']
  np.testing.assert_array_equal(small['attributes']['box'], [2, 0, 22, 20])
  assert np.isnan(small['landmarks']).all()
  assert read_summary(gray48)['notes']['face_not_found']['image_ids'] == ['00/small_20']


def test_rgb224(tmp_path):
  raw = make_imdb_wiki(tmp_path / 'raw', 'imdb', ENTRIES[:2])
  record = by_id(build_set('imdb/rgb224', raw, tmp_path))['00/sound']
  assert record['image'].shape == (224, 224, 3)
  # Red, green and blue are in their places: the drawn skin, between eye and mouth.
  x, y = record['landmarks'][[0, 3]].mean(axis=0).astype(int)
  np.testing.assert_allclose(record['image'][y, x], (224, 180, 150), atol=25)


def test_subjects_are_celeb_ids(gray48):
  subjects = {image_id: record['subject'].decode() for image_id, record in by_id(gray48).items()}
  assert (subjects['00/sound'], subjects['00/sound_woman'], subjects['00/grey']) == ('1', '2', '1')
  assert subjects['00/year_nan'] == subjects['00/small_20'] == ''  # 3 of two names, and NaN


# --- The .mat file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'gender': None, 'dob': None}, ['has no field dob, gender']),
    ({'celeb_names': None}, ['has no field celeb_names']),
    ({'dob': np.zeros((1, 3))}, ['differ in length', 'dob 3', 'gender 4']),
    ({'full_path': cells(['00/a.jpg'] * 5)}, ['differ in length', 'full_path 5', 'gender 4']),
    ({'gender': cells(['male'] * 4)}, ['the field gender is not a row of numbers']),
    ({'full_path': np.zeros((1, 4))}, ['the field full_path is not a cell of texts']),
    ({'face_score': np.zeros((2, 4))}, ['the field face_score is not a row of numbers']),
  ],
)
def test_a_struct_of_another_form(tmp_path, change, words):
  raw = make_imdb_wiki(tmp_path / 'raw', 'imdb', ENTRIES[:4], change)
  with pytest.raises(UserError) as error:
    build_set('imdb', raw, tmp_path / 'data')
  for word in (
    str(raw / 'imdb.mat'),
    'expected',
    'second_face_score',
    'unpack imdb_crop.tar again',
    *words,
  ):
    assert word in str(error.value)


def test_an_entry_without_a_path(tmp_path):
  raw = make_imdb_wiki(
    tmp_path / 'raw', 'imdb', ENTRIES[:3], {'full_path': cells(['00/a.jpg', '', '00/c.jpg'])}
  )
  with pytest.raises(UserError, match=r'imdb.mat: entry 2 has no full_path; expected one such as'):
    build_set('imdb', raw, tmp_path / 'data')


@pytest.mark.parametrize('compressed', [False, True])
def test_a_truncated_file_is_never_read_as_if_it_were_whole(tmp_path, compressed):
  raw = make_imdb_wiki(tmp_path / 'raw', 'imdb', ENTRIES, do_compression=compressed)
  file = raw / 'imdb.mat'
  content = file.read_bytes()
  for size in {*range(0, len(content), 97), 127, 128, 136, len(content) - 1}:
    file.write_bytes(content[:size])
    with pytest.raises(
      UserError, match=r'imdb.mat: (cannot be read as a MATLAB 5 file|found nothing)'
    ):
      imdb_wiki.read_mat(file, 'imdb', Builder.FIELDS)


def test_the_file_of_the_other_set(tmp_path):
  raw = make_imdb_wiki(tmp_path / 'raw', 'wiki', ENTRIES[:1])
  (raw / 'wiki.mat').rename(raw / 'imdb.mat')
  with pytest.raises(UserError, match=r"imdb.mat: found wiki; expected a struct 'imdb'"):
    build_set('imdb', raw, tmp_path / 'data')


def test_a_wrong_folder(tmp_path):
  make_imdb_wiki(
    tmp_path / 'meta', 'imdb', [entry('a', image=None)]
  )  # as imdb_meta.tar, which has no images
  for folder, found in (
    (None, '--manual_dir is not given'),
    (tmp_path / 'gone', 'no such folder'),
    (tmp_path, 'found no'),
  ):
    with pytest.raises(
      UserError,
      match=f'{found}.* imdb.mat with folders 00 ... 99 .*https://data.vision.ee.ethz.ch/',
    ):
      build_set('imdb', folder, tmp_path / 'data')
  assert not (tmp_path / 'data').exists()


def test_entries_are_made_up_as_they_are_asked_for(raw):
  entries = Builder(config='gray48').items(raw / 'imdb.mat')['train']
  assert len(entries) == len(ENTRIES)
  part = pickle.loads(pickle.dumps(entries[3:6]))
  assert list(part) == list(entries)[3:6] == [entries[3], entries[4], entries[5]]
  assert entries[-1] == list(entries)[-1]
  assert (part[1].image_id, part[1].path) == ('00/born_after', raw / '00/born_after.jpg')
