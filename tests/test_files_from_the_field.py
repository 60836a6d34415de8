"""Every builder of a download on what other people's programs make of its files; up to `items`, so
that nothing is converted.
"""

import os
import shutil
import unicodedata

import numpy as np
import pytest

from mtface.data import build as build_lib
from mtface.errors import UserError
from mtface.faces import crop, folders
from tests.cartoons import make_fer2013, make_genki4k, make_imdb_wiki, make_lfw, save
from tfds_builders.affectnet import layouts
from tfds_builders.emotionet import tables as emotionet_tables
from tfds_builders.vggface2 import photos as vggface2

PLAIN = np.full((24, 24, 3), 127, np.uint8)  # which JPEG keeps
EMOTIONS = ('Angry', 'Disgust', 'Fear', 'Happy', 'Neutral', 'Sad', 'Surprise')


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, encoding='utf-8')


def fer2013(raw):
  make_fer2013(
    raw,
    [(i % 7, np.full((48, 48), i, np.uint8), 'Training' if i else 'PublicTest') for i in range(3)],
  )
  columns = (
    'Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n'
  )
  rows = [
    f'{"Training" if i else "PublicTest"},fer{i}.png,{i},8,0,0,0,0,0,0,0,1\n' for i in range(3)
  ]
  write(raw / 'fer2013new.csv', columns + ''.join(rows))


def fairface(raw):
  for split in ('train', 'val'):
    rows = [f'{split}/{i}.jpg,20-29,Male,White,{i == 1}\n' for i in (1, 2)]
    write(
      raw / f'fairface_label_{split}.csv', 'file,age,gender,race,service_test\n' + ''.join(rows)
    )
    for i in (1, 2):
      save(raw / split / f'{i}.jpg', PLAIN)


def affectnet(raw):
  for split in ('training', 'validation'):
    rows = ['1/a.jpg,1,2,30,30,1;2,6,-0.5,0.75\n', '1/b.jpg,NULL,2,30,30,1;2,3,-2,-2\n']
    write(raw / f'{split}.csv', ','.join(layouts.COLUMNS) + '\n' + ''.join(rows))
  for name in 'ab':
    save(raw / f'Manually_Annotated_Images/1/{name}.jpg', PLAIN)


def affectnet_folders(raw):
  for split in ('train_set', 'val_set'):
    (raw / split / 'annotations').mkdir(parents=True)
    for name in '12':
      save(raw / split / 'images' / f'{name}.jpg', PLAIN)


def vgg(raw):
  people = [f'n{i:06d}, "Zoë, {i}", 300, 1, {"mf"[i % 2]}\n' for i in range(2, 2 + vggface2.PEOPLE)]
  write(raw / 'identity_meta.csv', 'Class_ID, Name, Sample_Num, Flag, Gender\n' + ''.join(people))
  write(raw / 'bb_landmark/loose_bb_train.csv', 'NAME_ID,X,Y,W,H\n"n000002/0001_01",1,2,30,40\n')
  for i in range(16):
    save(raw / f'train/n000002/{i:04d}_01.jpg', PLAIN)


def lfw(raw):
  make_lfw(raw, {'Ann_Ash': [PLAIN, PLAIN], 'José_Ó': [PLAIN, PLAIN]})
  write(raw / 'ytf_subjects.txt', 'José Ó\n# of YouTube Faces\nNot_Here\n')


def genki4k(raw):
  make_genki4k(raw, [PLAIN] * 3, [1, 0, 1])


def utkface(raw):
  for name in ('20_0_1_20170109150557335.jpg.chip.jpg', '55_0_0_20170116232725357jpg.chip.jpg'):
    save(raw / name, PLAIN)


def afew(raw):
  for split in ('Train_AFEW', 'Val_AFEW'):
    for emotion in EMOTIONS:
      write(raw / split / emotion / '001.avi', 'nobody opens it')


def vgaf(raw):
  for split in ('Train', 'Val'):
    for clip in ('1_1', '1_2', '9_9'):
      write(raw / split / f'{clip}.mp4', 'nobody opens it')
    write(raw / f'{split}_labels.txt', 'Vid_name Label\n1_1 3\n1_2 1\n')


def emotionet(raw):
  urls = [f'http://x.org/emotionet/N_0000000001_0000{i}.jpg' for i in range(3)]
  names = ','.join(['URL', 'URL orig', *(f"'AU {n}'" for n in range(1, 61))])
  rows = [f"'{url}','http://y.org/ä.jpg'," + '999,' * 59 + f'{i % 2}' for i, url in enumerate(urls)]
  write(raw / 'EmotioNet_FACS.csv', '\n'.join([names, *rows]) + '\n')
  rows = [
    url + ',http://y.org/ä.jpg' + ',0' * i + ',1' + ',0' * (15 - i) for i, url in enumerate(urls)
  ]
  names = ','.join(['URL', 'URL orig', *emotionet_tables.EMOTIONS])
  write(raw / 'URLsWithEmotionCat.csv', '\n'.join([names, *rows]) + '\n')
  for i in range(3):
    save(raw / f'emotionet/N_0000000001_0000{i}.jpg', PLAIN)


def sfew(raw):
  for split in ('Train', 'Val'):
    for emotion in EMOTIONS:
      save(raw / f'{split}_Aligned_Faces' / emotion / 'Airheads_000519240_00000005.png', PLAIN)
  save(raw / 'Test_Aligned_Faces/1.png', PLAIN)


def ckplus(raw):
  for number in (1, 2, 3):
    save(raw / f'cohn-kanade-images/S005/001/S005_001_0000000{number}.png', PLAIN)
  write(raw / 'FACS/S005/001/S005_001_00000003_facs.txt', '   9.0e+00   0.0e+00\n   1 2\n')
  write(raw / 'Emotion/S005/001/S005_001_00000003_emotion.txt', '   3.0000000e+00\n')


def jaffe(raw):
  for name in ('KA.AN1.39.tiff', 'KM.SA5.13.tiff'):
    save(raw / name, PLAIN)


def wiki(raw):
  make_imdb_wiki(
    raw,
    'wiki',
    [{'full_path': '00/a.jpg', 'image': PLAIN}, {'full_path': '01/b.jpg', 'image': PLAIN}],
  )


SETS = {
  'fer2013': fer2013,
  'fairface': fairface,
  'affectnet': affectnet,
  'affectnet, later layout': affectnet_folders,
  'vggface2': vgg,
  'lfw': lfw,
  'genki4k': genki4k,
  'utkface': utkface,
  'afew': afew,
  'vgaf': vgaf,
  'emotionet': emotionet,
  'sfew': sfew,
  'ckplus': ckplus,
  'jaffe': jaffe,
  'wiki': wiki,
}
LISTS = {
  'fer2013': ['fer2013.csv', 'fer2013new.csv'],
  'fairface': ['fairface_label_val.csv'],
  'affectnet': ['training.csv'],
  'vggface2': ['identity_meta.csv', 'bb_landmark/loose_bb_train.csv'],
  'lfw': ['ytf_subjects.txt'],
  'genki4k': ['labels.txt'],
  'vgaf': ['Train_labels.txt'],
  'emotionet': ['EmotioNet_FACS.csv', 'URLsWithEmotionCat.csv'],
  'ckplus': [
    'FACS/S005/001/S005_001_00000003_facs.txt',
    'Emotion/S005/001/S005_001_00000003_emotion.txt',
  ],
}
LIST_FILES = [(name, file) for name, files in LISTS.items() for file in files]
TABLES = [
  ('fer2013', 'fer2013.csv'),
  ('fer2013', 'fer2013new.csv'),
  *[(n, LISTS[n][0]) for n in ('fairface', 'affectnet')],
]


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
  """The sets as they are published, and what their builders find in them."""
  folder = tmp_path_factory.mktemp('sound')
  for name, make in SETS.items():
    make(folder / name)
  return folder, {name: found(name, folder / name, folder) for name in SETS}


@pytest.fixture
def raw(sound, tmp_path, request):
  """A copy of a set to be changed."""
  return shutil.copytree(sound[0] / request.node.callspec.params['name'], tmp_path / 'raw')


def found(name, raw, base):
  """What there is to convert, as text without the folder that it lies in, and without how a csv is
  written.
  """
  set_name = name.partition(',')[0]
  builder_class, config = build_lib.find_builder(set_name)
  builder = builder_class(config=config, data_dir=base / 'data')
  source = builder.locate(raw)
  items = builder.items(source)
  if set_name == 'fer2013':
    return repr(
      {split: [builder.converter()(block) for block in blocks] for split, blocks in items.items()}
    )
  return {
    split: [repr(item).replace(str(raw), '') for item in of_split]
    for split, of_split in items.items()
  }


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', SETS)
def test_files_of_other_programs_are_passed_over(sound, raw, tmp_path, name):
  for path in sorted(raw.rglob('*')):
    path.with_name(f'._{path.name}').write_bytes(b'\0\5\x16\7')
  for folder in [raw, *(path for path in raw.rglob('*') if path.is_dir())]:
    for stranger in (
      '.DS_Store',
      'Thumbs.db',
      'desktop.ini',
      '.hidden.jpg',
      '.hidden.mp4',
      'Desktop.INI',
    ):
      (folder / stranger).write_bytes(b'\0')
  shutil.copytree(sound[0] / name, tmp_path / 'raw/__MACOSX/copy')
  assert found(name, raw, tmp_path) == sound[1][name]


WITH_PICTURES = [
  name for name in SETS if name not in ('fer2013', 'wiki', 'fairface', 'affectnet')
]  # whose lists name files


@pytest.mark.parametrize('name', WITH_PICTURES)
def test_endings_in_capitals(sound, raw, tmp_path, name):
  for path in [p for p in raw.rglob('*') if p.suffix in folders.IMAGES + folders.VIDEOS]:
    if name == 'utkface':
      path.rename(path.with_name(path.name.replace('.chip.jpg', '.Chip.JPG')))
    else:
      path.rename(path.with_suffix(path.suffix.upper()))
  assert repr(found(name, raw, tmp_path)).lower() == repr(sound[1][name]).lower()


@pytest.mark.parametrize('name', WITH_PICTURES)
def test_two_files_of_one_id_are_both_named(raw, tmp_path, name):
  first = min(path for path in raw.rglob('*') if path.suffix in folders.IMAGES + folders.VIDEOS)
  other = '.MKV' if first.suffix in folders.VIDEOS else '.PNG'
  second = first.with_name(
    first.name.replace('.chip.jpg', '.chip.JPG') if name == 'utkface' else first.stem + other
  )
  shutil.copy(first, second)
  if name == 'genki4k':  # as many lines as files, or else that is the error
    (raw / 'files/file0003.jpg').unlink()
  with pytest.raises(UserError, match=r'both map to the image_id') as error:
    found(name, raw, tmp_path)
  assert str(first) in str(error.value)
  assert str(second) in str(error.value)


def rows_of_one_id(raw, name):
  if name == 'wiki':
    make_imdb_wiki(raw, 'wiki', [{'full_path': '00/a.jpg'}, {'full_path': '00/a.png'}])
    return '00/a.jpg', '00/a.png'
  path = raw / LISTS[name][0]
  text = path.read_text()
  path.write_text(text.replace('val/2.jpg', 'val/1.png').replace('1/b.jpg', '1/a.PNG'))
  return ('val/1.jpg', 'val/1.png') if name == 'fairface' else ('1/a.jpg', '1/a.PNG')


@pytest.mark.parametrize('name', ['wiki', 'fairface', 'affectnet'])
def test_two_rows_of_one_id_are_both_named(raw, tmp_path, name):
  names = rows_of_one_id(raw, name)
  with pytest.raises(UserError, match=r'both map to the image_id') as error:
    found(name, raw, tmp_path)
  assert all(of in str(error.value) for of in names)


def test_one_image_in_both_splits(sound, tmp_path):
  raw = shutil.copytree(sound[0] / 'fairface', tmp_path / 'raw')
  shutil.copy(raw / 'fairface_label_train.csv', raw / 'fairface_label_val.csv')
  with pytest.raises(
    UserError, match=r'both label files name train/1; expected each image in one split'
  ):
    found('fairface', raw, tmp_path)


@pytest.mark.parametrize('name', SETS)
def test_the_set_lies_some_folders_deeper_and_only_once(sound, tmp_path, name):
  shutil.copytree(sound[0] / name, tmp_path / 'download/archive/set')
  builder_class, config = build_lib.find_builder(name.partition(',')[0])
  builder = builder_class(config=config, data_dir=tmp_path / 'data')
  source = builder.locate(tmp_path / 'download')
  assert (source if source.is_dir() else source.parent) == tmp_path / 'download/archive/set'
  shutil.copytree(sound[0] / name, tmp_path / 'download/archive/another')
  with pytest.raises(
    UserError, match=r'archive/another and .*archive/set: both have .*; pass one of them as'
  ):
    builder.locate(tmp_path / 'download')


LAYOUTS = {
  'affectnet': ('train/Anger/1.jpg', 'AffectNet as one folder per class'),
  'fer2013': ('train/angry/Training_1.jpg', 'FER-2013 as folders of classes'),
  'utkface': ('part1/20_0_1_20170109150557335.jpg', 'not its aligned chips'),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_layout_that_cannot_be_read_is_named(tmp_path, name):
  file, what = LAYOUTS[name]
  save(tmp_path / file, PLAIN)
  with pytest.raises(UserError, match=f'{file}: .*{what}.*found no'):
    found(name, tmp_path, tmp_path)


@pytest.mark.parametrize(
  ('name', 'at'), [('utkface', ''), ('fairface', 'train'), ('fairface', 'val')]
)
def test_images_that_are_not_read_are_told(sound, raw, tmp_path, capsys, name, at):
  assert found(name, raw, tmp_path) == sound[1][name]
  assert not capsys.readouterr().err
  for number in (7, 8):
    save(raw / at / f'{number}.jpg', PLAIN)
  assert found(name, raw, tmp_path) == sound[1][name]
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f'mtface: warning: {raw / at / "7.jpg"} and 1 more images: not ')


# --- Lists ----------------------------------------------------------------------------------------

ENCODINGS = ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'cp1252']


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize(('name', 'file'), LIST_FILES)
def test_lists_in_other_encodings(sound, raw, tmp_path, name, file, encoding):
  text = (raw / file).read_text('utf-8')
  (raw / file).write_text(text, encoding=encoding)
  assert found(name, raw, tmp_path) == sound[1][name]


ENDS = {
  'CRLF': lambda text: text.replace('\n', '\r\n'),
  'no last newline': lambda text: text.rstrip('\n'),
  'empty lines': lambda text: text.replace('\n', '\n\n') + '\n\n',
}


@pytest.mark.parametrize('ends', ENDS)
@pytest.mark.parametrize(('name', 'file'), LIST_FILES)
def test_lists_of_other_lines(sound, raw, tmp_path, name, file, ends):
  (raw / file).write_bytes(ENDS[ends]((raw / file).read_text('utf-8')).encode())
  assert found(name, raw, tmp_path) == sound[1][name]


def fields(text, change):
  return '\n'.join(','.join(change(line.split(','))) for line in text.splitlines()) + '\n'


WRITTEN = {
  'order': lambda text: fields(text, lambda row: row[::-1]),
  'blanks': lambda text: text.replace(',', ' , '),
  'quotes': lambda text: fields(text, lambda row: [f'"{field}"' for field in row]),
  'a column more': lambda text: fields(text, lambda row: ['x', *row]),
  'tabulators': lambda text: text.replace(',', '\t'),
  'semicolons': lambda text: text.replace(';', ' ').replace(',', ';'),
  'capitals': lambda text: text.replace(text.split('\n')[0], text.split('\n')[0].upper()),
}


@pytest.mark.parametrize('written', WRITTEN)
@pytest.mark.parametrize(('name', 'file'), TABLES)
def test_tables_written_otherwise(sound, raw, tmp_path, name, file, written):
  (raw / file).write_text(WRITTEN[written]((raw / file).read_text('utf-8')))
  assert found(name, raw, tmp_path) == sound[1][name]


def as_folder(path):
  path.unlink()
  path.mkdir()


def as_link_to_itself(path):
  path.unlink()
  path.symlink_to(path.name)


NO_LISTS = {
  'empty': (lambda path: path.write_bytes(b''), 'the file is empty'),
  'zeros': (lambda path: path.write_bytes(path.read_bytes() + bytes(5000)), 'contains zero bytes'),
  'a web page': (lambda path: path.write_text('<!DOCTYPE html>\n<html>'), 'a web page'),
  'a workbook': (
    lambda path: path.write_bytes(b'PK\3\4' + bytes(99)),
    'a zip archive or a workbook',
  ),
  'no encoding': (
    lambda path: path.write_bytes(path.read_bytes() + b'# \x81\x8d'),
    'neither UTF-8, UTF-16 nor',
  ),
  'half': (
    lambda path: path.write_bytes(path.read_text('utf-8').encode('utf-16')[:-1]),
    'continues in another encoding',
  ),
  'a folder': (as_folder, 'found no|is a folder|expected both'),
  'a link in a circle': (
    as_link_to_itself,
    'found no|is a dangling link|expected both|is missing',
  ),
}


@pytest.mark.parametrize('no_list', NO_LISTS)
@pytest.mark.parametrize(('name', 'file'), LIST_FILES)
def test_what_is_no_list_is_said_in_one_line(raw, tmp_path, name, file, no_list):
  spoil, message = NO_LISTS[no_list]
  spoil(raw / file)
  with pytest.raises(UserError, match=message) as error:
    found(name, raw, tmp_path)
  assert file.rsplit('/')[-1] in str(error.value)
  assert '\n' not in str(error.value)
  assert len(str(error.value)) < 900


def test_a_quotation_mark_that_is_not_closed_takes_no_rows_away(sound, tmp_path):
  raw = shutil.copytree(sound[0] / 'fairface', tmp_path / 'raw')
  path = raw / 'fairface_label_train.csv'
  path.write_text(path.read_text().replace('train/1.jpg', '"train/1.jpg'))
  with pytest.raises(
    UserError, match=r'fairface_label_train.csv: line 3 has 1 fields .*; expected 5'
  ):
    found('fairface', raw, tmp_path)


def test_a_list_in_an_encoding_that_is_no_windows_1252(sound, tmp_path):
  raw = shutil.copytree(sound[0] / 'lfw', tmp_path / 'raw')
  (raw / 'ytf_subjects.txt').write_text('Ann_Ash\nJosé Ó\n', encoding='mac-roman')
  with pytest.raises(
    UserError, match=r"ytf_subjects.txt: the encoding is not Unicode.*'JosŽ_î', who has no"
  ):
    found('lfw', raw, tmp_path)


def test_names_of_a_mac_are_the_same_names(sound, tmp_path):
  raw = shutil.copytree(sound[0] / 'lfw', tmp_path / 'raw')
  for path in sorted(raw.rglob('José*'), reverse=True):
    path.rename(path.with_name(unicodedata.normalize('NFD', path.name)))
  assert not unicodedata.is_normalized('NFC', ''.join(os.listdir(raw)))
  items = found('lfw', raw, tmp_path)
  assert [unicodedata.normalize('NFC', item) for item in items['train']] == sound[1]['lfw']['train']


@pytest.mark.parametrize(
  ('name', 'file', 'old', 'new', 'message'),
  [
    (
      'fairface',
      'fairface_label_val.csv',
      'True',
      'yes',
      r"line 2 has the service_test 'yes'; expected one of true",
    ),
    ('affectnet', 'training.csv', ',6,', ',nan,', r"line 2 is not an image.*'nan'"),
    ('affectnet', 'training.csv', '1/a.jpg', '', r"line 2 is not an image.*''"),
    (
      'genki4k',
      'labels.txt',
      '-0.200000',
      'nan',
      r"line 1 is '1 0.1.* nan.*; expected four numbers",
    ),
    (
      'vggface2',
      'identity_meta.csv',
      ', m\n',
      ', m, 41\n',
      r"line 2 is 'n000002.*; expected Class_ID, Name",
    ),
    (
      'vggface2',
      'identity_meta.csv',
      'Gender\n',
      'Gender, Age\n',
      r'the header is .*Age.; expected Class_ID, .*Gender$',
    ),
    ('vggface2', 'identity_meta.csv', 'n000003', 'n000002', r'line 3 names n000002 again'),
    ('vgaf', 'Train_labels.txt', '1_2 1', '1_1 1', r'line 3 names 1_1 again'),
    (
      'fer2013',
      'fer2013new.csv',
      ',8,',
      ',nan,',
      r"row 0 has happiness = 'nan'; expected a number",
    ),
  ],
)
def test_values_that_are_none_of_the_sets(raw, tmp_path, name, file, old, new, message):
  path = raw / file
  path.write_text(path.read_text('utf-8').replace(old, new, 1))
  with pytest.raises(UserError, match=f'{file}: {message}'):
    found(name, raw, tmp_path)


@pytest.mark.parametrize(
  ('word', 'expected'),
  [('TRUE', True), ('true', True), ('1', True), ('FALSE', False), ('0', False)],
)
def test_service_test_of_a_spreadsheet(sound, tmp_path, word, expected):
  raw = shutil.copytree(sound[0] / 'fairface', tmp_path / 'raw')
  path = raw / 'fairface_label_train.csv'
  path.write_text(path.read_text().replace('True', word, 1))
  builder = build_lib.find_builder('fairface')[0](config='gray48', data_dir=tmp_path)
  assert [entry.service_test for entry in builder.items(raw)['train']] == [expected, False]


def test_matlab_7_3_is_named_with_the_way_to_convert_it(sound, tmp_path):
  raw = shutil.copytree(sound[0] / 'wiki', tmp_path / 'raw')
  for head in (
    b'MATLAB 7.3 MAT-file, Platform: GLNXA64',
    b'\x89HDF\r\n\x1a\n',
    bytes(512) + b'\x89HDF\r\n\x1a\n',
  ):
    (raw / 'wiki.mat').write_bytes(head.ljust(900, b'\0'))
    with pytest.raises(
      UserError, match=r"wiki.mat: .*MATLAB 7.3 file \(HDF5\).*save\('-v7', 'wiki.mat', 'wiki'\)"
    ):
      found('wiki', raw, tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
  def refuse(folder):
    raise PermissionError(13, 'Permission denied', str(folder))

  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(UserError, match=f'{tmp_path}: Permission denied; nothing was built'):
    build_lib.build('utkface', data_dir=tmp_path / 'data', manual_dir=tmp_path)


PICTURES = [
  name for name in SETS if name not in ('fer2013', 'afew', 'vgaf', 'affectnet, later layout')
]


@pytest.mark.parametrize('name', PICTURES)
def test_a_plain_picture_is_stored_as_it_is_with_its_digest(sound, tmp_path, name):
  builder_class, _ = build_lib.find_builder(name)
  for config in ('gray48', 'rgb64', 'rgb224'):
    if config not in builder_class.builder_configs:
      continue
    builder = builder_class(config=config, data_dir=tmp_path / 'data')
    items = builder.items(builder.locate(sound[0] / name))['train']
    (face,) = builder.converter()(
      next(item for item in items if 'n0' not in repr(item) or '/0' in repr(item))
    )
    assert face.image.shape == builder.builder_config.shape
    np.testing.assert_allclose(face.image, 127, atol=2)
    assert face.digest == (b'' if name == 'vggface2' else crop.content_digest(PLAIN))


@pytest.mark.parametrize('name', ['affectnet', 'vggface2', 'wiki'])
@pytest.mark.parametrize('shape', [(19, 60), (60, 19), (20, 20)])
def test_one_side_that_is_too_short(sound, raw, tmp_path, name, shape):
  for path in raw.rglob('*.jpg'):
    save(path, np.full((*shape, 3), 127, np.uint8))
  builder_class, config = build_lib.find_builder(name)
  builder = builder_class(config=config, data_dir=tmp_path / 'data')
  items = builder.items(builder.locate(raw))['train']
  (outcome,) = builder.converter()(
    next(item for item in items if 'n0' not in repr(item) or '/0' in repr(item))
  )
  if min(shape) < 20:
    assert (outcome.reason, outcome.damaged) == ('smaller than 20 pixels', False)
  else:
    np.testing.assert_allclose(outcome.image, 127, atol=2)
