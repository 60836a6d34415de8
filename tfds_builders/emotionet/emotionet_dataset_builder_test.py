import numpy as np
import pytest

from mtface import tasks
from mtface.data.sources import load_source
from mtface.errors import UserError
from tests.cartoons import cartoon, save
from tests.prepared import build_set, by_id, read_summary
from tfds_builders.emotionet import local, tables

OLD = 'http://cbcsnas01.ece.ohio-state.edu/EmotioNet/Images'
NEW = 'https://s3.us-east-2.amazonaws.com/emotionet/Images'
# The emotion file's columns in its order.
EMOTIONS = (
  'angrily_disgusted', 'angrily_surprised', 'angry', 'appalled', 'awed', 'disgusted', 'fearful',
  'fearfully_angry', 'fearfully_surprised', 'happily_disgusted', 'happily_surprised', 'happy',
  'sad', 'sadly_angry', 'sadly_disgusted', 'surprised',
)  # fmt: skip


def name(number):
  """Of the set's server."""
  return f'N_00000000{number:02d}_00001'


def url(number, server=NEW, folder='N_001'):
  return f'{server}/{folder}/{name(number)}.jpg'


def original(number):
  return f'http://www.example.org/photo {number}.jpg'


def units(**values):
  """A row's 60 values: 0, but for those that are given as AU1=1."""
  return [values.get(f'AU{n}', 0) for n in range(1, 61)]


def write_facs(path, rows, header=True):
  """EmotioNet_FACS.csv: apostrophes around URLs and column names."""
  names = ['URL', 'URL orig', *(f"'AU {n}'" for n in range(1, 61))]
  lines = [','.join(names)] if header else []
  lines += [','.join([f"'{u}'", f"'{o}'", *map(str, values)]) for u, o, values in rows]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(lines) + '\n')


def write_data_file(path, rows):
  """dataFile_1000.txt: tabs, no header."""
  path.write_text(''.join('\t'.join([u, o, *map(str, values)]) + '\n' for u, o, values in rows))


def write_emotions(path, rows, no=0):
  """URLsWithEmotionCat.csv: a 1 in one of 16 columns."""
  lines = [','.join(['URL', 'URL_orig', *EMOTIONS])]
  for u, emotions in rows:
    lines.append(','.join([u, 'http://x', *(str(1 if e in emotions else no) for e in EMOTIONS)]))
  path.write_text('\r\n'.join(lines) + '\r\n')


def face(number):
  return cartoon(size=160, center=(80, 80), scale=1.2 + number / 40)


def write_emotionet(folder):
  """Ten images: 1 to 8 with units, 5 to 10 with emotions; 4 and 10 are not there."""
  rows = [(url(i), original(i), units(AU1=i % 2, AU2=999, AU12=1, AU43=1)) for i in range(1, 9)]
  rows[2] = (url(3), original(3), units(**{f'AU{n}': 999 for n in range(1, 61)}))
  write_facs(folder / 'EmotioNet_FACS_aws_2020.csv', rows)
  emotions = {
    5: ['happily_disgusted'],
    6: ['fearful'],
    7: ['awed'],
    8: ['sad', 'sadly_angry'],
    9: [],
    10: ['happy'],
  }
  write_emotions(
    folder / 'URLsWithEmotionCat_aws.csv', [(url(i, OLD), e) for i, e in emotions.items()]
  )
  for i in (1, 2, 3, 5, 6, 7, 8, 9):
    save(folder / f'images/{name(i)}.jpg', face(i))
  return folder


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp('emotionet')
  return build_set('emotionet/rgb32', write_emotionet(folder / 'raw'), folder / 'data')


def test_action_units_that_are_not_known_are_masked_one_by_one(built):
  records = by_id(built)
  assert sorted(records) == [name(i) for i in (1, 2, 3, 5, 6, 7, 8, 9)]
  record = records[name(1)]
  # The eleven are 1 2 4 5 6 9 12 17 20 25 26; 43 is none of them.
  assert record['labels']['action_units'].tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
  assert record['mask']['action_units'].tolist() == [True, False] + [True] * 9
  assert records[name(2)]['labels']['action_units'].tolist()[0] == 0
  assert not records[name(3)]['mask']['action_units'].any()
  assert not records[name(9)]['mask']['action_units'].any(), 'of the emotion file alone'
  assert record['image'].shape == (32, 32, 3) and np.isfinite(record['landmarks']).all()


def test_emotions_are_masked_where_a_task_does_not_have_them(built):
  records = by_id(built)

  def found(number):
    record = records[name(number)]
    return {
      task: tasks.get_task(task).classes[int(record['labels'][task])]
      for task in ('compound_emotion', 'compound8', 'emotion7')
      if record['mask'][task]
    }

  assert found(5) == {'compound_emotion': 'happily_disgusted', 'compound8': 'happily_disgusted'}
  assert found(6) == {'compound_emotion': 'fear', 'emotion7': 'fear'}
  assert found(7) == {'compound_emotion': 'awed'}
  assert found(8) == found(9) == found(1) == {}
  assert records[name(5)]['mask']['action_units'].any(), 'the same image in both lists'
  notes = read_summary(built)['notes']
  assert notes['several_emotions']['image_ids'] == [name(8)]
  assert notes['no_emotion']['image_ids'] == [name(9)]


def test_missing_images_are_counted(built):
  left_out = read_summary(built)['left_out']
  assert sorted(left_out['by_rule']['missing file']) == [name(4), name(10)]
  assert left_out['images'] == 2


def test_draws_of_pons_2018(built):
  data_dir = built.parents[2]
  trained, tested = (
    load_source(f'emotionet/rgb32:train[{part},of=action_units,seed=0]', data_dir)
    for part in ('take=4', 'take=2,after=4')
  )
  assert set(trained.image_ids) | set(tested.image_ids) == {name(i) for i in (1, 2, 5, 6, 7, 8)}
  with pytest.raises(UserError, match=r"1 images of every class .* only 0 of 'angrily_disgusted'"):
    load_source('emotionet/rgb32:train[each=1,of=compound8,seed=0]', data_dir)


@pytest.mark.parametrize('column', EMOTIONS)
def test_every_column_of_the_emotion_file_is_a_class(tmp_path, column):
  for no in (0, -1):
    write_emotions(tmp_path / 'list.csv', [(url(1), [column])], no=no)
    (row,) = tables.read_emotions(tmp_path / 'list.csv')
    (found,) = (tables.EMOTIONS[of] for of, value in row.values.items() if value == 1)
    assert found in tasks.get_task('compound_emotion').classes
    # Its own name, or the noun for it.
    assert found == {'disgusted': 'disgust', 'fearful': 'fear', 'surprised': 'surprise'}.get(
      column, column
    )


def test_the_same_list_in_other_spellings(tmp_path):
  rows = [(url(i), original(i), units(AU1=1, AU26=999, AU9=i)) for i in (0, 1)]
  write_facs(tmp_path / 'a.csv', rows)
  write_facs(tmp_path / 'b.csv', rows, header=False)
  write_data_file(tmp_path / 'c.txt', rows)
  text = (tmp_path / 'a.csv').read_text()
  (tmp_path / 'd.csv').write_text(text.replace(',', ';').replace("'", ''), encoding='utf-16')
  (tmp_path / 'e.csv').write_text(text.replace(',1', ',1.0').replace('999', '') + ',' * 61 + '\n')
  (tmp_path / 'f.csv').write_text(text.replace("'AU ", "'au0"))
  expected = list(tables.read_units(tmp_path / 'a.csv'))
  assert [row.values['au9'] for row in expected] == [0, 1]
  assert [(row.values['au1'], row.values['au26']) for row in expected] == [(1, -1)] * 2
  assert (expected[1].url, expected[1].original) == (url(1), original(1))
  for other in 'bcdef':
    (path,) = tmp_path.glob(f'{other}.*')
    assert list(tables.read_units(path)) == expected, other


def test_lists_without_original_urls(tmp_path):
  (tmp_path / 'a.txt').write_text('\t'.join([url(1), *map(str, units(AU4=1))]) + '\n')
  (row,) = tables.read_units(tmp_path / 'a.txt')
  assert (row.original, row.values['au4'], row.values['au1']) == ('', 1, 0)
  (tmp_path / 'b.csv').write_text(','.join(['URL', *EMOTIONS]) + f'\n{url(2)},' + '0,' * 15 + '1\n')
  (row,) = tables.read_emotions(tmp_path / 'b.csv')
  assert (row.original, row.values['surprised'], row.values['sad']) == ('', 1, 0)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    (url(1), name(1)),
    (url(1, OLD, 'other'), name(1)),
    ('http://flickr.com/a/1.jpg', 'flickr.com/a/1'),
    ('https://flickr.com/a/photo%201.PNG', 'flickr.com/a/photo%201'),
    ('http://flickr.com/show.php?id=3', 'flickr.com/show.php?id=3'),
  ],
)
def test_ids(text, expected):
  assert tables.Row(text, '', {}).image_id == expected


# --- Which file is the image of a URL -------------------------------------------------------------


def assigned(folder, *urls):
  """Paths from `folder` of these URLs (or pairs of a URL and its original one)."""
  pairs = [(u, '') if isinstance(u, str) else u for u in urls]
  rows = [tables.Row(u, other, {}) for u, other in pairs]
  found = local.assign(rows, local.files_in(folder))
  return [path and str(path.relative_to(folder)) for path in found.values()]


def put(folder, *paths):
  for path in paths:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b'')


def test_files_are_found_by_either_url_and_any_ending(tmp_path):
  put(tmp_path, f'a/b/{name(1)}.PNG', 'c/photo 7.jpg', 'c/readme.txt', '._x/photo 8.jpg')
  urls = ['http://x.org/my%20photos/photo%207.jpeg', (url(7), 'http://x.org/photo 8.jpg'), url(1)]
  assert assigned(tmp_path, *urls) == ['c/photo 7.jpg', None, f'a/b/{name(1)}.PNG']
  assert assigned(tmp_path, (url(7), original(7))) == ['c/photo 7.jpg']


def test_files_of_one_name_are_told_apart_by_the_folder_of_the_url(tmp_path):
  put(tmp_path, 'one/1.jpg', 'two/1.jpg')
  one, two, three = (f'http://x.org/{folder}/1.jpg' for folder in ('one', 'two', 'three'))
  assert assigned(tmp_path, one, two) == ['one/1.jpg', 'two/1.jpg']
  with pytest.raises(UserError, match=r'either may be the image of http://x.org/three/1.jpg'):
    assigned(tmp_path, three)
  put(tmp_path, 'deep/one/1.png')
  with pytest.raises(UserError, match=r'one/1.jpg: either may be the image of http://x.org/one/1'):
    assigned(tmp_path, one)


def test_urls_of_one_name_are_told_apart_by_the_folder_of_the_file(tmp_path):
  put(tmp_path, 'one/1.jpg', 'flat/2.jpg')
  one, two = (f'http://x.org/{folder}/1.jpg' for folder in ('one', 'two'))
  assert assigned(tmp_path, one, two) == ['one/1.jpg', None]
  with pytest.raises(
    UserError, match=r'flat/2.jpg: may be the image of .*one/2.jpg and of .*two/2'
  ):
    assigned(tmp_path, one.replace('1.', '2.'), two.replace('1.', '2.'))


# --- Lists that are not in order ------------------------------------------------------------------


def test_repeated_rows_and_names(tmp_path):
  raw = write_emotionet(tmp_path / 'raw')
  path = raw / 'EmotioNet_FACS_aws_2020.csv'
  text = path.read_text()
  path.write_text(text + text.splitlines()[1] + '\n')
  left_out = read_summary(build_set('emotionet', raw, tmp_path))['left_out']
  assert left_out['by_rule']['listed twice'] == [name(1)]
  path.write_text(text + text.splitlines()[1].replace('/N_001/', '/N_002/') + '\n')
  with pytest.raises(UserError, match=r'N_001/N_0\S+ and \S+/N_002/\S+: two URLs of one name'):
    build_set('emotionet/gray48', raw, tmp_path)


def test_files_that_are_no_images(tmp_path):
  raw = write_emotionet(tmp_path / 'raw')
  (raw / f'images/{name(1)}.jpg').write_text('<html>sorry</html>')
  save(raw / f'images/{name(2)}.jpg', face(2)[:19])
  left_out = read_summary(build_set('emotionet', raw, tmp_path))['left_out']
  assert [(i['image_id'], i['reason']) for i in left_out['list']] == [(name(1), 'damaged image')]
  assert left_out['by_rule']['smaller than 20 pixels'] == [name(2)]


def test_without_the_list_of_emotions_or_of_units(tmp_path, capsys):
  raw = write_emotionet(tmp_path / 'raw')
  (raw / 'URLsWithEmotionCat_aws.csv').rename(tmp_path / 'kept.csv')
  records = by_id(build_set('emotionet/gray48', raw, tmp_path))
  assert not any(record['mask']['compound8'] for record in records.values())
  assert 'found no list of emotions; they are masked' in capsys.readouterr().err
  (raw / 'EmotioNet_FACS_aws_2020.csv').unlink()
  (tmp_path / 'kept.csv').rename(raw / 'URLsWithEmotionCat.csv')
  records = by_id(build_set('emotionet/rgb64', raw, tmp_path))
  assert sorted(records) == [name(i) for i in (5, 6, 7, 8, 9)]
  assert 'found no list of action units; they are masked' in capsys.readouterr().err


def test_the_manual_list_is_taken_before_the_others(tmp_path):
  raw = write_emotionet(tmp_path / 'raw')
  write_data_file(raw / 'dataFile_0001.txt', [(url(1), original(1), units(AU4=1))])
  write_data_file(raw / 'dataFile_0002.txt', [(url(2), original(2), units(AU5=1))])
  records = by_id(build_set('emotionet/gray48', raw, tmp_path))
  assert records[name(1)]['labels']['action_units'].tolist()[:4] == [1, 0, 0, 0]
  (raw / 'EmotioNet_FACS_aws_2020.csv').unlink()
  records = by_id(build_set('emotionet/rgb64', raw, tmp_path))
  found = [records[name(i)]['labels']['action_units'].tolist()[:4] for i in (1, 2, 5)]
  assert found == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    (',999,', ',2,', r"line 2 has au2 = '2'; expected one of 0, 1, 999"),
    (',999,', ',yes,', r"line 2 has au2 = 'yes'; expected one of 0, 1, 999"),
    (',999,', ',', r'line 2 has 61 fields; expected 62, as in its first line'),
    ("'AU 26'", "'AU 99'", r'the column au26 is missing: the header is'),
    ("'AU 27'", "'AU 26'", r'the column au26 is there twice: the header is'),
    ("'https://", "'", r"line 2 starts with 's3.us-east-2.*'; expected the URL of an image"),
  ],
)
def test_a_bad_row_is_named(tmp_path, old, new, message):
  raw = write_emotionet(tmp_path / 'raw')
  path = raw / 'EmotioNet_FACS_aws_2020.csv'
  path.write_text(path.read_text().replace(old, new, 1))
  with pytest.raises(UserError, match=f'{path}: {message}'):
    build_set('emotionet', raw, tmp_path / 'data')


def test_a_list_without_a_header_must_have_all_columns(tmp_path):
  write_data_file(tmp_path / 'a.txt', [(url(1), original(1), units()[:58])])
  with pytest.raises(
    UserError, match=r'line 1 has 60 fields; expected a header, or one or two URLs and 60 numbers'
  ):
    list(tables.read_units(tmp_path / 'a.txt'))


def test_lists_that_are_not_there_or_there_twice(tmp_path):
  with pytest.raises(UserError, match=r'found no EmotioNet_FACS.csv.*EmotionNetChallenge'):
    build_set('emotionet', tmp_path, tmp_path / 'data')
  put(tmp_path / 'books', 'EmotioNet_FACS_aws.xlsx')
  with pytest.raises(UserError, match=r'aws.xlsx: a workbook: .*save it as CSV.*found no Emo'):
    build_set('emotionet', tmp_path / 'books', tmp_path / 'data')
  raw = write_emotionet(tmp_path / 'raw')
  (raw / 'URLsWithEmotionCat_aws.csv').rename(raw / 'URLsWithEmotionCat_aws.xlsx')
  with pytest.raises(
    UserError, match=r'EmotionCat_aws.xlsx: is a workbook; expected the list of e'
  ):
    build_set('emotionet', raw, tmp_path / 'data')
  write_emotions(raw / 'URLsWithEmotionCat.csv', [(url(5), ['happy'])])
  write_emotions(raw / 'URLsWithEmotionCat_aws.csv', [(url(5), ['happy'])])
  with pytest.raises(UserError, match=r'two lists of emotions; expected one: remove the other'):
    build_set('emotionet', raw, tmp_path / 'data')
