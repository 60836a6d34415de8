"""Where the images of a source are kept during use: decoded in one memory-mapped file, encoded as
stored, or on the devices.

    memory    every image is decoded once into a uint8 file next to the shards, which all processes
              of a host share. For sets whose decoded pixels fit in memory: gathering a batch is a
              copy.
    stream    images stay encoded, and are read and decoded when a batch needs them, with one thread
              per core. Memory does not grow with the set, and training starts immediately.
    device    training has the images of all its sources on each device, and gathers them there
              (mtface/parallel/resident.py); elsewhere, and where they do not fit, as auto.

All give the same pixels for the same rows, so batches do not depend on the choice.
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

from mtface import process
from mtface.data import memory
from mtface.data.index import Index, check_unchanged, damaged, image_bytes
from mtface.errors import UserError
from mtface.faces.crop import decode_jpeg
from mtface.files import whole
from mtface.progress import progress, warn

STORES = ('auto', 'memory', 'stream', 'device')
_SHARE = 0.25  # of the available memory: the most to fill with the pixels of one set
_TOGETHER = 8  # images that one thread decodes at a time
_BLOCK = 512  # images decoded into the file at a time


class Images:
  """The images of a split, uint8 [M, H, W, C]; `images[rows]` returns some of them. Nothing is
  decoded until then.
  """

  def __init__(self, index: Index, store: str = 'auto'):
    """Chooses where to keep the images on this host; `store` is one of `STORES`, and all but
    `memory` and `stream` decide by their size and the available memory.
    """
    if store not in STORES:
      raise UserError(f'config.store {store!r} is unknown; expected {", ".join(STORES)}')
    self._index = index
    self.shape = (len(index), *index.image_shape)
    self._left = memory.available()
    fits = self.decoded_bytes <= _SHARE * self._left
    self.store = store if store in ('memory', 'stream') else 'memory' if fits else 'stream'

  @property
  def decoded_bytes(self) -> int:
    """Of all images together."""
    return int(np.prod(self.shape))

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: np.ndarray) -> np.ndarray:
    return self._opened[rows]

  def read_into(self, images: np.ndarray, places: np.ndarray, rows: np.ndarray) -> None:
    """Writes the images of `rows` to `images[places]`, decoding in place where needed."""
    if isinstance(self._opened, EncodedImages):
      self._opened.read_into(images, places, rows)
    else:
      images[places] = self._opened[rows]

  def open(self) -> None:
    """Decodes the images if they belong in memory and are not there yet."""
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
    left = f'{self._left / 1e9:,.1f} GB of memory available'
    return f'{text}: {"decoded once" if self.store == "memory" else "decoded as needed"} ({left})'


class EncodedImages:
  """Images that are read from the shards and decoded on access. Thread-safe."""

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
    """Decodes the images of `rows` into `images[places]`, a few at a time in each thread."""
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
  image[...] = decode_jpeg(stored, image.shape[-1]).reshape(image.shape)


def _as_it_is(stored: bytes, image: np.ndarray) -> None:
  image[...] = np.frombuffer(stored, np.uint8).reshape(image.shape)


_lock = threading.Lock()
_pools: dict[int, futures.ThreadPoolExecutor] = {}  # by process: threads do not survive a fork


def _pool() -> futures.ThreadPoolExecutor:
  with _lock:
    if os.getpid() not in _pools:
      _pools[os.getpid()] = futures.ThreadPoolExecutor(process.cores(), thread_name_prefix='decode')
    return _pools[os.getpid()]


# --- Decoded once ---------------------------------------------------------------------------------


def _decoded(index: Index, encoded: EncodedImages) -> np.ndarray:
  """All images of a split, memory-mapped from a file next to the index, which is made if
  missing.
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
    warn(f'{path}: cannot be written ({error.strerror or error}); decoding images as needed')
    return encoded  # type: ignore[return-value]  # it supports the same indexing


def _is_whole(path: pathlib.Path, index: Index) -> bool:
  try:
    return np.load(path, mmap_mode='r').shape == (len(index), *index.image_shape)
  except FileNotFoundError:
    return False
  except (OSError, ValueError, EOFError) as error:
    warn(f'{path}: is damaged ({error}); making it again')
    return False


def _write_decoded(path: pathlib.Path, index: Index, encoded: EncodedImages) -> None:
  """Writes to a temporary name first, so that a killed process leaves no partial file, and in
  blocks, so that it is never entirely in memory.
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
  """Lets one of several processes do the work while the others wait, if the file system has
  locks.
  """
  try:
    import fcntl

    file = path.open('w')
  except (ImportError, OSError):  # Windows, or a folder that cannot be written
    yield
    return
  with file:
    with contextlib.suppress(OSError):
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def open_all(sources: Sequence[Any]) -> list[str]:
  """Decodes what should be decoded before use; returns one line per source about where its images
  are.
  """
  lines = []
  for images in dict.fromkeys(
    source.images for source in sources if isinstance(source.images, Images)
  ):
    lines.append(str(images))
    images.open()
  return lines
