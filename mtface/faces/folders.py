"""What is in a folder of images or clips: files of other programs are passed over, endings may be
in capitals.
"""

from __future__ import annotations

import os
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence

from mtface import errors
from mtface.progress import warn

IMAGES = (
  '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.jp2',
  '.ppm', '.pgm', '.avif', '.heic',
)  # fmt: skip
VIDEOS = ('.avi', '.mp4', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv', '.3gp')

# What file managers and archives leave beside people's files, in lower case; macOS's ._NAME begins
# with a dot.
_STRANGERS = ('__macosx', 'thumbs.db', 'ehthumbs.db', 'desktop.ini', '@eadir', '$recycle.bin')


def is_stranger(name: str) -> bool:
  """Returns whether a file or folder of this name is no part of a set: `.hidden`, `._copy.jpg`,
  `__MACOSX`, `Thumbs.db`.
  """
  return name.startswith('.') or name.casefold() in _STRANGERS


def has_ending(name: str, endings: str | Sequence[str]) -> bool:
  """Returns whether a name ends in one of `endings` (lower case, with their dot), in whatever case,
  and is no stranger's.
  """
  return name.casefold().endswith(
    endings if isinstance(endings, str) else tuple(endings)
  ) and not is_stranger(name)


def files(folder: pathlib.Path, endings: str | Sequence[str]) -> list[pathlib.Path]:
  """Returns what is called so in a folder, sorted. Links to nowhere are among them: who opens them
  says so.
  """
  return sorted(folder / name for name in os.listdir(folder) if has_ending(name, endings))


def folders(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders in a folder, sorted."""
  return sorted(
    folder / entry.name
    for entry in os.scandir(folder)
    if not is_stranger(entry.name) and _is_folder(entry)
  )


def _is_folder(entry: os.DirEntry[str]) -> bool:
  """As `entry.is_dir()`, which asks no disk for most entries, but raises for links that go round in
  a circle.
  """
  return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def tell_unread(folder: pathlib.Path, read: Iterable[pathlib.Path], why: str) -> None:
  """Warns of images in a folder that are not among those that are read: `why`, in words that follow
  on a name.
  """
  unread = sorted(set(files(folder, IMAGES)) - set(read))
  if unread:
    others = f' and {len(unread) - 1:,} more images' if len(unread) > 1 else ''
    warn(f'{unread[0]}{others}: {why}; not read')


def is_file_there(path: pathlib.Path) -> bool:
  """Returns whether an optional file is there.

  Raises:
    UserError: something else bears its name, so that it would be taken for missing.
  """
  if not os.path.lexists(path) or path.is_file():
    return path.is_file()
  what = 'a folder' if path.is_dir() else 'a link to nothing' if path.is_symlink() else 'no file'
  raise errors.UserError(f'{path}: this is {what}; expected a file: put it there, or remove this')


def composed(text: str) -> str:
  """Returns a name in Unicode's composed form, for Macs write é as e and an accent; bytes that are
  no UTF-8 come escaped.
  """
  return unicodedata.normalize('NFC', text).encode('utf-8', 'backslashreplace').decode()


def by_id(named: Iterable[tuple[str, pathlib.Path]]) -> dict[str, pathlib.Path]:
  """Returns files by image id.

  Raises:
    UserError: two files would have one.
  """
  found: dict[str, pathlib.Path] = {}
  for image_id, path in named:
    if (first := found.setdefault(composed(image_id), path)) != path:
      raise one_id(image_id, first, path)
  return found


def one_id(image_id: str, first: object, second: object) -> errors.UserError:
  """Returns the error that two files would have one image id."""
  return errors.UserError(
    f'{first} and {second}: both would have the image_id {image_id!r}; expected one file for it: '
    'remove one of them'
  )
