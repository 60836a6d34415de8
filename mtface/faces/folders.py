"""Lists folders of images or clips, ignoring other programs' files and the case of extensions."""

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

# What file managers and archives leave next to users' files, in lower case; macOS's ._NAME starts
# with a dot.
_STRANGERS = ('__macosx', 'thumbs.db', 'ehthumbs.db', 'desktop.ini', '@eadir', '$recycle.bin')


def is_stranger(name: str) -> bool:
  """Returns whether a file or folder of this name is not part of a set: `.hidden`, `._copy.jpg`,
  `__MACOSX`, `Thumbs.db`.
  """
  return name.startswith('.') or name.casefold() in _STRANGERS


def has_ending(name: str, endings: str | Sequence[str]) -> bool:
  """Returns whether a name ends in one of `endings` (lower case, including the dot), ignoring case,
  and does not belong to another program.
  """
  return name.casefold().endswith(
    endings if isinstance(endings, str) else tuple(endings)
  ) and not is_stranger(name)


def files(folder: pathlib.Path, endings: str | Sequence[str]) -> list[pathlib.Path]:
  """Returns the entries of a folder with such names, sorted. Dangling links are included: opening
  them reports the error.
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
  """As `entry.is_dir()`, which needs no disk access for most entries, but raises for circular
  links.
  """
  return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def tell_unread(folder: pathlib.Path, read: Iterable[pathlib.Path], why: str) -> None:
  """Warns about images in a folder that are not read; `why` is worded to follow a name."""
  unread = sorted(set(files(folder, IMAGES)) - set(read))
  if unread:
    others = f' and {len(unread) - 1:,} more images' if len(unread) > 1 else ''
    warn(f'{unread[0]}{others}: {why}; ignored')


def is_file_there(path: pathlib.Path) -> bool:
  """Returns whether an optional file exists.

  Raises:
    UserError: something else has its name, so that it would be considered missing.
  """
  if not os.path.lexists(path) or path.is_file():
    return path.is_file()
  what = (
    'a folder'
    if path.is_dir()
    else 'a dangling link'
    if path.is_symlink()
    else 'not a regular file'
  )
  raise errors.UserError(f'{path}: is {what}; expected a file: put the file there, or remove this')


def composed(text: str) -> str:
  """Returns a name in Unicode's composed form, since Macs store é as e and an accent; bytes that
  are not UTF-8 are escaped.
  """
  return unicodedata.normalize('NFC', text).encode('utf-8', 'backslashreplace').decode()


def by_id(named: Iterable[tuple[str, pathlib.Path]]) -> dict[str, pathlib.Path]:
  """Returns files by image id.

  Raises:
    UserError: two files would have the same id.
  """
  found: dict[str, pathlib.Path] = {}
  for image_id, path in named:
    if (first := found.setdefault(composed(image_id), path)) != path:
      raise one_id(image_id, first, path)
  return found


def one_id(image_id: str, first: object, second: object) -> errors.UserError:
  """Returns the error for two files with the same image id."""
  return errors.UserError(
    f'{first} and {second}: both map to the image_id {image_id!r}; expected one file for it: '
    'remove one of them'
  )
