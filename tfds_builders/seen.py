"""What a build has to remember of each image to find copies: 32 bytes in memory, the rest in a
temporary file.
"""

from __future__ import annotations

import array
import hashlib
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_DIGEST = 16  # bytes


class Seen:
  """Images in the order in which they were added. 3.3 million of them are 106 MB of memory and
  about 300 MB of the file.

  `copies` and `repeated_id` sort, for which they take twice as much again for a moment.
  """

  def __init__(self, folder: str | os.PathLike[str] | None = None):
    """The temporary file lies in `folder` (None: the system's own place), and is gone when this
    process ends, however it ends.
    """
    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it is open as long as this)
    self._starts = array.array('Q')
    self._ids = bytearray()
    self._digests = bytearray()

  def add(self, split: str, image_id: str, labels: Mapping[str, Any], digest: bytes) -> None:
    """Adds an image; without a digest it is compared with no other."""
    self._starts.append(self._file.seek(0, os.SEEK_END))
    self._file.write(pickle.dumps((split, image_id, dict(labels))))
    self._ids += hashlib.blake2b(image_id.encode(), digest_size=8).digest()
    self._digests += (
      hashlib.blake2b(digest, digest_size=_DIGEST).digest() if digest else bytes(_DIGEST)
    )

  def repeated_id(self) -> str | None:
    """Returns an image id that was added twice, if there is one."""
    keys = np.frombuffer(bytes(self._ids), '>u8')
    order = np.argsort(keys, kind='stable')
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    return self._read(order[again[0]])[1] if len(again) else None

  def copies(self) -> Iterator[list[tuple[str, str, Mapping[str, Any]]]]:
    """Yields groups of (split, image_id, labels) with one digest: groups by their first image,
    images in their order.
    """
    keys = np.frombuffer(bytes(self._digests), '>u8').reshape(-1, 2)
    compared = np.flatnonzero(keys.any(axis=1))
    order = compared[np.lexsort(keys[compared].T)]
    starts = (
      np.flatnonzero(np.r_[True, (keys[order][1:] != keys[order][:-1]).any(axis=1)])
      if len(order)
      else order
    )
    sizes = np.diff(np.r_[starts, len(order)])
    several = starts[sizes > 1], sizes[sizes > 1]
    for start, size in sorted(zip(*several, strict=True), key=lambda group: order[group[0]]):
      yield [self._read(place) for place in order[start : start + size]]

  def _read(self, place: int) -> tuple[str, str, Mapping[str, Any]]:
    self._file.seek(self._starts[place])
    return pickle.load(self._file)
