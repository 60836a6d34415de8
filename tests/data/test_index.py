import json
import os
import shutil

import numpy as np
import pytest

from mtface.data import index
from mtface.data.index import load_index
from mtface.data.sources import fingerprint, load_source
from mtface.errors import UserError
from tests.fakes import flip_everywhere, write_prepared

TASKS = {'smile': 1.0, 'gender': 0.75, 'action_units': 0.5}
FOLDER = 'faces/gray16/1.0.0'


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  write_prepared(folder, 'faces/gray16', {'train': 40, 'test': 10}, TASKS, subjects=20, shards=3)
  return folder


@pytest.fixture
def copied(data_dir, tmp_path):
  copy = shutil.copytree(data_dir, tmp_path / 'data')
  shutil.rmtree(copy / FOLDER / 'arrays', ignore_errors=True)
  return copy


def again(data_dir, **changes):
  """Builds the set anew in place of the old one, as a build with --overwrite does."""
  cache = data_dir / FOLDER / 'arrays'
  kept = shutil.move(cache, data_dir / 'kept') if cache.exists() else None
  shutil.rmtree(data_dir / 'faces')
  form = {'subjects': 20, 'shards': 3} | changes
  write_prepared(
    data_dir, 'faces/gray16', {'train': 40, 'test': 10}, form.pop('tasks', TASKS), **form
  )
  if kept:
    shutil.move(kept, cache)


def made_again(monkeypatch):
  """Counts how often an index is made."""
  calls = []
  make = index._make
  monkeypatch.setattr(index, '_make', lambda *args: calls.append(args) or make(*args))
  return calls


def test_an_index_is_made_once_and_mapped(copied, monkeypatch):
  calls = made_again(monkeypatch)
  first, second = (load_index('faces/gray16', 'train', copied) for _ in range(2))
  assert len(calls) == 1
  assert first.columns.keys() == second.columns.keys()
  for key, column in second.columns.items():
    assert isinstance(column, np.memmap)
    np.testing.assert_array_equal(column, first.columns[key])
  assert {second.columns[f'labels.{task}'].dtype for task in TASKS} == {np.dtype(np.int32)}
  assert {second.columns[f'mask.{task}'].dtype for task in TASKS} == {np.dtype(bool)}
  assert (len(second), second.image_shape, second.encoded, second.encoded_bytes) == (
    40,
    (16, 16, 1),
    False,
    40 * 256,
  )


def test_times_alone_change_nothing(copied, monkeypatch):
  first = load_index('faces/gray16', 'train', copied)
  calls = made_again(monkeypatch)
  for path in first.shards:
    os.utime(path, (1, 1))
  second = load_index('faces/gray16', 'train', copied)
  assert (second.fingerprint, calls) == (first.fingerprint, [])
  # What was read again is remembered.
  monkeypatch.setattr(
    index.hashlib,
    'blake2b',
    lambda **_: pytest.fail('read once more') if _['digest_size'] == 16 else real(**_),
  )
  load_index('faces/gray16', 'train', copied)


real = index.hashlib.blake2b


@pytest.mark.parametrize('changes', [{'seed': 5}, {'tasks': TASKS | {'gender': 0.5}}])
def test_a_set_that_was_replaced_is_noticed(copied, capsys, changes):
  before = load_source('faces/gray16:train', copied)
  old = fingerprint('faces/gray16:train', copied)
  again(copied, **changes)
  after = load_source('faces/gray16:train', copied)
  assert 'has changed since it was last used' in capsys.readouterr().err
  assert before.fingerprint == old != after.fingerprint
  with pytest.raises(UserError, match='changed while in use'):
    before.gather(np.arange(40))
  unchanged = all(np.array_equal(before.mask[t], after.mask[t]) for t in TASKS)
  assert unchanged == ('tasks' not in changes)
  shutil.rmtree(copied / FOLDER / 'arrays')
  fresh = load_source('faces/gray16:train', copied)
  np.testing.assert_array_equal(after.gather(np.arange(40)), fresh.gather(np.arange(40)))
  assert after.fingerprint == fresh.fingerprint


def test_the_same_set_built_again_has_the_same_fingerprint(copied):
  before = fingerprint('faces/gray16:train', copied)
  again(copied, shards=1, salt='another order')
  assert fingerprint('faces/gray16:train', copied) == before
  assert fingerprint('faces/gray16:test', copied) != before


def test_other_names_of_classes_are_another_set(copied):
  before = fingerprint('faces/gray16:train', copied)
  (copied / FOLDER / 'labels-gender.labels.txt').write_text('male\nfemale\n')
  assert fingerprint('faces/gray16:train', copied) != before


def test_an_index_of_another_format_is_made_again(copied, capsys):
  load_source('faces/gray16:train', copied)
  file = copied / FOLDER / 'arrays/train/index.json'
  text = json.loads(file.read_text())
  file.write_text(json.dumps(text | {'format': text['format'] - 1}))
  load_source('faces/gray16:train', copied)
  assert json.loads(file.read_text()) == text
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize('damage', ['half', 'gone', 'json'])
def test_a_damaged_index_is_made_again(copied, capsys, damage):
  before = load_source('faces/gray16:train', copied)
  folder = copied / FOLDER / 'arrays/train'
  file = folder / ('index.json' if damage == 'json' else 'labels.smile.npy')
  if damage == 'gone':
    file.unlink()
  else:
    os.truncate(file, file.stat().st_size // 2)
  after = load_source('faces/gray16:train', copied)
  np.testing.assert_array_equal(before.labels['smile'], after.labels['smile'])
  assert damage == 'gone' or 'is damaged' in capsys.readouterr().err


def test_a_killed_write_leaves_no_half_index(copied, monkeypatch):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched:
    patched.setattr(index, '_write_json', killed)  # the columns are written, index.json is not
    with pytest.raises(KeyboardInterrupt):
      load_source('faces/gray16:train', copied)
  assert not list((copied / FOLDER / 'arrays').iterdir())
  assert len(load_source('faces/gray16:train', copied)) == 40


def test_a_folder_that_cannot_be_written(copied, capsys):
  (copied / FOLDER / 'arrays').write_text('in the way')
  source = load_source('faces/gray16:train', copied)
  assert 'the index cannot be written' in capsys.readouterr().err
  assert len(source) == 40
  assert source.gather(np.arange(40)).std() > 0


def test_damaged_shards_are_named(copied):
  for path in (copied / FOLDER).glob('*-train.array_record*'):
    flip_everywhere(path)
  with pytest.raises(
    UserError,
    match=r'faces/gray16/1.0.0: the prepared set cannot be read .*build faces/gray16 --overwr',
  ):
    load_source('faces/gray16:train', copied)


def test_a_label_that_no_class_has(copied, monkeypatch):
  checked = index._check_labels

  def spoilt(task, columns, what):
    if task == 'smile':
      columns['labels.smile'][5] = 2
    checked(task, columns, what)

  monkeypatch.setattr(index, '_check_labels', spoilt)
  with pytest.raises(
    UserError,
    match=r'faces/gray16:train: label 2 of train_\d+ is out of range for task smile \(0 to 1\)',
  ):
    load_source('faces/gray16:train', copied)
