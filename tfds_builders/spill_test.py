import pytest
from tensorflow_datasets.core import shuffle

from tests.cartoons import make_utkface
from tests.prepared import build_set, read_records
from tfds_builders import spill

KEYS = [3 << 120, 1, (1 << 128) - 1, 1 << 127, 2]


def test_a_bucket_gives_back_what_was_put_in(tmp_path):
  records = [
    (key, bytes([i]) * (i * 40_000)) for i, key in enumerate(KEYS)
  ]  # more than the buffer, and an empty one
  bucket = spill.Bucket(tmp_path / 'bucket')
  for key, data in records:
    bucket.add(key, data)
  assert (len(bucket), bucket.size) == (5, 400_000)
  assert list(bucket.read_values()) == records
  bucket.del_file()
  assert not list(tmp_path.iterdir())


def test_an_empty_bucket(tmp_path):
  bucket = spill.Bucket(tmp_path / 'bucket')
  assert list(bucket.read_values()) == []
  bucket.del_file()


def test_tfds_own_bucket_needs_tensorflow(tmp_path):
  """When this fails, TFDS or this environment has changed, and tfds_builders/spill.py may not be
  needed any more.
  """
  with pytest.raises(ModuleNotFoundError, match='tensorflow'):
    shuffle._Bucket(tmp_path / 'bucket').add(1, b'record')


def test_tfds_has_its_own_bucket_back_when_a_build_has_failed():
  original = shuffle._Bucket
  with pytest.raises(RuntimeError), spill.without_tensorflow():
    assert shuffle._Bucket is spill.Bucket
    raise RuntimeError
  assert shuffle._Bucket is original


def test_a_set_too_large_for_memory_is_the_same_set(tmp_path, monkeypatch):
  names = [f'{age}_{age % 2}_{age % 5}_20170116{age:09d}.jpg.chip.jpg' for age in range(1, 41)]
  raw = make_utkface(tmp_path / 'raw', names)
  in_memory = read_records(build_set('utkface', raw, tmp_path / 'a'))
  added = []
  monkeypatch.setattr(
    spill.Bucket, 'add', lambda *args, add=spill.Bucket.add: added.append(1) or add(*args)
  )
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 50_000)  # a billion, usually
  path = build_set('utkface', raw, tmp_path / 'b')
  assert len(added) == 40
  assert repr(read_records(path)) == repr(in_memory)
  assert not list(path.glob('bucket*'))
