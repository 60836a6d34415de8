"""Lets TFDS write a split of more than 1 GB without TensorFlow.

TFDS orders a split by sorting it. From 1 GB on it first distributes the records over a thousand
files, and it opens those with `tf.io.gfile` (tensorflow_datasets/core/shuffle.py, `_Bucket`, as of
4.9.10): without TensorFlow the build ends there with a ModuleNotFoundError, after hours. Here is
such a file with Python's own means.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

from tensorflow_datasets.core import shuffle

_BUFFER = 64 << 10  # bytes a file before it is appended to; a thousand of them are 64 MB
_HEADER = struct.Struct('<16sQ')  # the key, 128 bits, and the number of bytes that follow


class Bucket:
  """Keys and records in a file, in the order in which they were added. What `shuffle.Shuffler` asks
  of a bucket, no more.

  The file is opened for each write: a thousand open ones are more than many systems allow a
  process.
  """

  def __init__(self, path: os.PathLike[str]):
    self._path = path
    self._buffer = bytearray()
    self._length = 0
    self._size = 0

  @property
  def size(self) -> int:
    """Bytes of the records."""
    return self._size

  def __len__(self) -> int:
    return self._length

  def add(self, key: int, data: bytes) -> None:
    """Adds a record under a key of 128 bits."""
    self._buffer += _HEADER.pack(key.to_bytes(16, 'little'), len(data)) + data
    self._length += 1
    self._size += len(data)
    if len(self._buffer) >= _BUFFER:
      self.flush()

  def flush(self) -> None:
    """Writes what has been added."""
    if self._buffer:
      with open(self._path, 'ab') as file:
        file.write(self._buffer)
      self._buffer.clear()

  def read_values(self) -> Iterator[tuple[int, bytes]]:
    """Yields key and record in the order in which they were added."""
    self.flush()
    if not self._length:
      return
    with open(self._path, 'rb') as file:
      while header := file.read(_HEADER.size):
        key, size = _HEADER.unpack(header)
        yield int.from_bytes(key, 'little'), file.read(size)

  def del_file(self) -> None:
    """Removes the file."""
    if os.path.exists(self._path):
      os.remove(self._path)


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
  """Lets TFDS use `Bucket` for its own."""
  original = shuffle._Bucket
  shuffle._Bucket = Bucket
  try:
    yield
  finally:
    shuffle._Bucket = original
