import unicodedata

import pytest

from mtface.errors import UserError
from mtface.faces import folders


@pytest.mark.parametrize(
  'name', ['._a.jpg', '.DS_Store', '__MACOSX', 'Thumbs.db', 'THUMBS.DB', 'desktop.ini', '@eaDir']
)
def test_strangers(name):
  assert folders.is_stranger(name)


@pytest.mark.parametrize('name', ['a.jpg', '_a.jpg', 'MACOSX', 'Thumbs.jpg', '%03d.mp4', ' a.jpg'])
def test_no_strangers(name):
  assert not folders.is_stranger(name)


def test_files_and_folders(tmp_path):
  for name in ('b.JPG', 'a.jpeg', 'c.jpg.txt', '.d.jpg', '._a.jpeg', 'jpg'):
    (tmp_path / name).write_bytes(b'')
  (tmp_path / 'folder.jpg').mkdir()
  (tmp_path / 'z').mkdir()
  (tmp_path / 'nowhere.jpg').symlink_to('gone')
  (tmp_path / 'circle').symlink_to('circle')
  (tmp_path / 'link').symlink_to(tmp_path / 'z')
  # What bears the name is there even if it cannot be read: it is counted where it is opened.
  names = [path.name for path in folders.files(tmp_path, folders.IMAGES)]
  assert names == ['a.jpeg', 'b.JPG', 'folder.jpg', 'nowhere.jpg']
  assert [path.name for path in folders.folders(tmp_path)] == ['folder.jpg', 'link', 'z']


def test_names_are_composed_and_undecodable_bytes_are_escaped():
  assert folders.composed(unicodedata.normalize('NFD', 'José')) == 'José'
  assert folders.composed(b'Jos\xe9'.decode('utf-8', 'surrogateescape')) == 'Jos\\udce9'
  assert folders.composed('a\nb') == 'a\nb'


def test_two_files_of_one_id(tmp_path):
  names = [unicodedata.normalize(form, 'é.jpg') for form in ('NFC', 'NFD')]
  with pytest.raises(UserError, match='both map to the image_id') as error:
    folders.by_id((name[:-4], tmp_path / name) for name in names)
  assert all(str(tmp_path / name) in str(error.value) for name in names)
  assert folders.by_id([('a', tmp_path), ('b', tmp_path)]) == {'a': tmp_path, 'b': tmp_path}


def test_an_optional_file(tmp_path):
  assert not folders.is_file_there(tmp_path / 'gone')
  (tmp_path / 'file').write_text('')
  assert folders.is_file_there(tmp_path / 'file')
  (tmp_path / 'link').symlink_to('file')
  assert folders.is_file_there(tmp_path / 'link')
  (tmp_path / 'nowhere').symlink_to('gone')
  for name, what in {'nowhere': 'a dangling link', '': 'a folder'}.items():
    with pytest.raises(UserError, match=f'is {what}; expected a file'):
      folders.is_file_there(tmp_path / name)
