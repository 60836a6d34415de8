import os
import threading

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtface.data import memory, store
from mtface.data.loader import BatchSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.data.sources import load_source
from mtface.data.store import open_all
from mtface.errors import UserError
from tests.fakes import fake_source, flip_everywhere, write_prepared

FORMS = {'faces/gray16': ((16, 16, 1), False), 'faces/rgb24': ((24, 24, 3), True)}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """The same 50 faces as they are, and as JPEG. Not to be changed."""
  folder = tmp_path_factory.mktemp('data')
  for name, (shape, encoded) in FORMS.items():
    write_prepared(
      folder, name, {'train': 50}, {'smile': 1.0}, shape=shape, encoded=encoded, shards=3
    )
  return folder


@pytest.mark.parametrize('name', list(FORMS))
@pytest.mark.parametrize('kind', ['memory', 'stream'])
def test_pixels_are_those_that_tfds_decodes(data_dir, name, kind):
  source = load_source(f'{name}:train', data_dir, store=kind)
  assert source.images.store == kind
  records = tfds.builder_from_directory(data_dir / name / '1.0.0').as_data_source('train')
  by_id = {record['image_id'].decode(): record['image'] for record in records}
  rows = np.array([3, 49, 3, 0, *range(20, 40)])
  np.testing.assert_array_equal(source.gather(rows), [by_id[source.image_ids[row]] for row in rows])


def test_jpeg_is_decoded_in_the_order_red_green_blue(tmp_path):
  def red(split, size):
    source = fake_source(split, size, {'smile': 1.0}, shape=(24, 24, 3))
    source.images[:] = [200, 60, 10]
    return source

  write_prepared(
    tmp_path, 'faces/rgb24', {'train': 4}, {'smile': 1.0}, shape=(24, 24, 3), encoded=True, draw=red
  )
  for kind in ('memory', 'stream'):
    image = load_source('faces/rgb24:train', tmp_path, store=kind).gather(np.array([2]))
    assert np.abs(image.astype(int) - [200, 60, 10]).max() <= 4


@pytest.mark.parametrize('name', list(FORMS))
def test_batches_are_the_same_wherever_the_images_are(data_dir, name):
  def batches(kind):
    sources = [
      load_source(f'{name}:train[fold{op}0/4]', data_dir, store=kind) for op in ('!=', '=')
    ]
    source = BatchSource(sources, make_mixture('equal', sources, seed=3, batch_size=16), 16)
    assert source.decodes == (kind == 'stream')
    return list(load_batches(source, 2, 9))

  for one, other in zip(batches('memory'), batches('stream'), strict=True):
    for key in ('image', 'position', 'source'):
      np.testing.assert_array_equal(one[key], other[key])
    np.testing.assert_array_equal(one['labels']['smile'], other['labels']['smile'])


@pytest.mark.parametrize(('left', 'kind'), [(4 * 50 * 256, 'memory'), (4 * 50 * 256 - 1, 'stream')])
def test_size_and_memory_choose(data_dir, monkeypatch, left, kind):
  monkeypatch.setattr(memory, 'available', lambda: left)
  source = load_source('faces/gray16:train', data_dir)
  assert source.images.store == kind
  assert load_source('faces/gray16:train', data_dir, store='memory').images.store == 'memory'
  (line,) = open_all([source, source])
  assert line.startswith('faces/gray16:train: 50 images, 0.00 GB decoded')
  assert ('decoded as needed' in line) == (kind == 'stream')


def test_an_unknown_store(data_dir):
  with pytest.raises(
    UserError, match=r"config.store 'disk' is unknown; expected auto, memory, stream"
  ):
    load_source('faces/gray16:train', data_dir, store='disk')


def test_nothing_is_decoded_before_it_is_asked_for(data_dir, monkeypatch):
  monkeypatch.setattr(store, 'EncodedImages', lambda *_: pytest.fail('opened'))
  for kind in ('memory', 'stream'):
    assert load_source('faces/rgb24:train', data_dir, store=kind).image_shape == (24, 24, 3)


def test_a_set_is_decoded_once(tmp_path, monkeypatch):
  write_prepared(tmp_path, 'faces/gray16', {'train': 20}, {'smile': 1.0})
  first = load_source('faces/gray16:train', tmp_path, store='memory')
  images = first.gather(np.arange(20))
  monkeypatch.setattr(store, '_write_decoded', lambda *_: pytest.fail('decoded again'))
  second = load_source('faces/gray16:train', tmp_path, store='memory')
  np.testing.assert_array_equal(second.gather(np.arange(20)), images)
  assert isinstance(second.images._opened, np.memmap)


@pytest.mark.parametrize('damage', ['truncated', 'killed'])
def test_half_a_file_is_never_taken_for_whole(tmp_path, monkeypatch, damage):
  folder = write_prepared(tmp_path, 'faces/gray16', {'train': 20}, {'smile': 1.0}) / 'arrays/train'
  expected = load_source('faces/gray16:train', tmp_path, store='stream').gather(np.arange(20))
  if damage == 'truncated':
    load_source('faces/gray16:train', tmp_path, store='memory').gather(np.arange(20))
    os.truncate(folder / 'images.npy', 1000)
  else:
    with monkeypatch.context() as patched:
      patched.setattr(store, '_blocks', lambda _: iter([np.arange(10), *[1 / 0 for _ in 'x']]))
      with pytest.raises(ZeroDivisionError):
        load_source('faces/gray16:train', tmp_path, store='memory').gather(np.arange(20))
    assert not (folder / 'images.npy').exists()
    (folder / '.images.npy.0.tmp').write_bytes(b'what a killed process left')
  found = load_source('faces/gray16:train', tmp_path, store='memory').gather(np.arange(20))
  np.testing.assert_array_equal(found, expected)
  assert not list(folder.glob('.images.*.tmp'))


def test_two_that_decode_at_once_decode_once(tmp_path, monkeypatch):
  write_prepared(tmp_path, 'faces/gray16', {'train': 20}, {'smile': 1.0})
  written = []
  write = store._write_decoded
  monkeypatch.setattr(store, '_write_decoded', lambda *args: written.append(1) or write(*args))
  sources = [load_source('faces/gray16:train', tmp_path, store='memory') for _ in range(4)]
  found = [None] * 4

  def gather(i):
    found[i] = sources[i].gather(np.arange(20))

  threads = [threading.Thread(target=gather, args=(i,)) for i in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(written) == 1
  for images in found:
    np.testing.assert_array_equal(images, found[0])


def test_a_record_that_is_damaged_after_the_index_was_made(tmp_path):
  folder = write_prepared(
    tmp_path, 'faces/rgb24', {'train': 40}, {'smile': 1.0}, shape=(24, 24, 3), encoded=True
  )
  source = load_source('faces/rgb24:train', tmp_path, store='stream')
  source.images.open()
  for path in folder.glob('*.array_record*'):
    flip_everywhere(path)
  with pytest.raises(
    UserError, match=r'faces/rgb24/1.0.0: the prepared set cannot be read .* --overwrite'
  ):
    source.gather(np.arange(40))


def test_a_stored_image_that_is_none(data_dir):
  with pytest.raises(ValueError, match='is not a JPEG'):
    store._decode_jpeg(b'nothing of the kind', np.zeros((24, 24, 3), np.uint8))
  gray = np.zeros((8, 8, 1), np.uint8)
  store._decode_jpeg(cv2.imencode('.jpg', np.full((8, 8), 77, np.uint8))[1].tobytes(), gray)
  assert np.abs(gray.astype(int) - 77).max() <= 2
