"""Where the images of a source are while they are used: decoded in one file that is memory-mapped,
or as they were encoded.

    memory    every image is decoded once, into a file of uint8 beside the shards that all processes
              of a host share. For sets whose decoded pixels fit the memory: gathering a batch is a
              copy.
    stream    images stay as they were encoded, and are read and decoded when a batch wants them, by
              as many threads as there are cores. Memory does not grow with the set, and training
              begins at once.

Both give the same pixels for the same rows, so batches do not depend on it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from mtface.data import memory
from mtface.data.index import Index, check_unchanged, damaged, image_bytes
from mtface.errors import UserError
from mtface.files import whole
from mtface.progress import progress, warn

STORES = ('auto', 'memory', 'stream')
_SHARE = (
  0.25  # of the memory that is left: more than that is not to be filled with one set's pixels
)
_TOGETHER = 8  # images that a thread decodes at a time
_BLOCK = 512  # images that are decoded at a time into the file


class Images:
  """The images of a split, uint8 [M, H, W, C]; `images[rows]` are some of them. Nothing is decoded
  before that.
  """

  def __init__(self, index: Index, store: str = 'auto'):
    """Chooses where the images are to be; `store` is one of `STORES`, `auto` asks for their size
    and the memory that is left.
    """
    if store not in STORES:
      raise UserError(f'config.store {store!r} is unknown; there are {", ".join(STORES)}')
    self._index = index
    self.shape = (len(index), *index.image_shape)
    self._left = memory.available()
    fits = self.decoded_bytes <= _SHARE * self._left
    self.store = store if store != 'auto' else 'memory' if fits else 'stream'

  @property
  def decoded_bytes(self) -> int:
    """Of all images together."""
    return int(np.prod(self.shape))

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    return self._opened[rows]

  def read_into(self, images: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
    """Writes the images of `rows` to `images[places]`; what has to be decoded is decoded there."""
    if isinstance(self._opened, EncodedImages):
      self._opened.read_into(images, places, rows)
    else:
      images[places] = self._opened[rows]

  def open(self) -> None:
    """Decodes the images, where they are to be in memory and are not yet."""
    _ = self._opened

  @functools.cached_property
  def _opened(self) -> Any:
    encoded = EncodedImages(self._index)
    return _decoded(self._index, encoded) if self.store == 'memory' else encoded

  def __str__(self) -> str:
    name, gigabytes = self._index.name, self.decoded_bytes / 1e9
    text = (
      f'{name}: {len(self):,} images, {gigabytes:,.2f} GB decoded, '
      f'{self._index.encoded_bytes / 1e9:,.2f} GB as stored'
    )
    left = f'{self._left / 1e9:,.1f} GB of memory are left'
    return (
      f'{text}: {"decoded once" if self.store == "memory" else "decoded as they are used"} ({left})'
    )


class EncodedImages:
  """Images that are read from the shards and decoded when they are asked for. Threads may ask at
  once.
  """

  def __init__(self, index: Index):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    check_unchanged(index)
    self._index = index
    self._records = ArrayRecordDataSource([str(path) for path in index.shards])
    self._positions = index.columns['positions']
    self._decode = _decode_jpeg if index.encoded else _as_it_is

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    images = np.empty((len(rows), *self._index.image_shape), np.uint8)
    self.read_into(images, np.arange(len(rows)), rows)
    return images

  def read_into(self, images: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
    """Decodes the images of `rows` into `images[places]`, some of them at a time in each thread."""
    positions = self._positions[rows]
    starts = range(0, len(positions), _TOGETHER)
    parts = [
      (positions[start : start + _TOGETHER], places[start : start + _TOGETHER]) for start in starts
    ]
    for done in [_pool().submit(self._fill, images, *part) for part in parts]:
      done.result()

  def _fill(self, images: np.ndarray, positions: np.ndarray, places: np.ndarray) -> None:
    for position, place in zip(positions.tolist(), places.tolist(), strict=True):
      try:
        self._decode(image_bytes(self._records[position]), images[place])
      except Exception as error:  # array_record and OpenCV raise many types
        set_name = self._index.name.partition(':')[0]
        raise damaged(self._index.folder, set_name, error) from error


def _decode_jpeg(stored: bytes, image: np.ndarray) -> None:
  """JPEG into uint8 [H, W, C]."""
  import cv2

  how = cv2.IMREAD_GRAYSCALE if image.shape[-1] == 1 else cv2.IMREAD_COLOR_RGB
  decoded = cv2.imdecode(np.frombuffer(stored, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
  if decoded is None:
    raise ValueError('a stored image is no JPEG')
  image[...] = decoded.reshape(image.shape)


def _as_it_is(stored: bytes, image: np.ndarray) -> None:
  image[...] = np.frombuffer(stored, np.uint8).reshape(image.shape)


_lock = threading.Lock()
_pools: dict[int, futures.ThreadPoolExecutor] = {}  # by process: threads do not survive a fork


def _pool() -> futures.ThreadPoolExecutor:
  with _lock:
    if os.getpid() not in _pools:
      _pools[os.getpid()] = futures.ThreadPoolExecutor(_cores(), thread_name_prefix='decode')
    return _pools[os.getpid()]


def _cores() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


# --- Decoded once ---------------------------------------------------------------------------------


def _decoded(index: Index, encoded: EncodedImages) -> np.ndarray:
  """All images of a split, memory-mapped from a file beside the index, which is made if it is not
  there.
  """
  if index.cache is None:
    return _filled(index, encoded, np.empty((len(index), *index.image_shape), np.uint8))
  path = index.cache / 'images.npy'
  try:
    with _only_one(index.cache / '.images.lock'):
      if not _is_whole(path, index):
        _write_decoded(path, index, encoded)
    return np.load(path, mmap_mode='r')
  except OSError as error:
    warn(
      f'{path}: cannot be written ({error.strerror or error}); images are decoded as they are used'
    )
    return encoded  # type: ignore[return-value]  # it is indexed in the same way


def _is_whole(path: pathlib.Path, index: Index) -> bool:
  try:
    return np.load(path, mmap_mode='r').shape == (len(index), *index.image_shape)
  except FileNotFoundError:
    return False
  except (OSError, ValueError, EOFError) as error:
    warn(f'{path}: is damaged ({error}) and is made again')
    return False


def _write_decoded(path: pathlib.Path, index: Index, encoded: EncodedImages) -> None:
  """Under a temporary name first, so that a killed process leaves no half file; block by block, so
  that it is never whole in memory.
  """
  for left in path.parent.glob(f'.{path.name}.*.tmp'):
    left.unlink(missing_ok=True)
  shape = (len(index), *index.image_shape)
  with whole(path) as partial, partial.open('wb') as file:
    np.lib.format.write_array_header_1_0(
      file, {'descr': '|u1', 'fortran_order': False, 'shape': shape}
    )
    for block in _blocks(index):
      file.write(encoded[block].data)


def _filled(index: Index, encoded: EncodedImages, images: np.ndarray) -> np.ndarray:
  for block in _blocks(index):
    images[block] = encoded[block]
  return images


def _blocks(index: Index) -> Iterator[np.ndarray]:
  starts = range(0, len(index), _BLOCK)
  for start in progress(starts, f'decoding {index.name}', total=len(starts)):
    yield np.arange(start, min(start + _BLOCK, len(index)))


@contextlib.contextmanager
def _only_one(path: pathlib.Path) -> Iterator[None]:
  """Lets one process of several do the work, and the others find it done, where the file system has
  locks.
  """
  try:
    import fcntl

    file = path.open('w')
  except (ImportError, OSError):  # not on Windows; a folder that cannot be written
    yield
    return
  with file:
    with contextlib.suppress(OSError):
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def open_all(sources: Sequence[Any]) -> list[str]:
  """Decodes what is to be decoded before it is used; returns a line a source on where its images
  are.
  """
  lines = []
  for images in dict.fromkeys(
    source.images for source in sources if isinstance(source.images, Images)
  ):
    lines.append(str(images))
    images.open()
  return lines
