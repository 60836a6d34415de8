"""What `mtface predict` is to look at: photographs, folders, patterns, videos and cameras."""

from __future__ import annotations

import glob
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mtface.errors import UserError, first_line
from mtface.faces import folders
from mtface.files import local_path

_ENDINGS = (*folders.IMAGES, *folders.VIDEOS)
_LAST_CAMERA = 99  # OpenCV takes larger numbers for ways to open one


class Input(NamedTuple):
  """One of them.

  Attributes:
    kind: photo, video or camera.
    name: its path as the user wrote it, or the camera's number.
    path: of a file.
  """

  kind: str
  name: str
  path: pathlib.Path = pathlib.Path()

  @property
  def stem(self) -> str:
    """What files about it are called."""
    return f'camera{self.name}' if self.kind == 'camera' else self.path.stem


def find_inputs(texts: Sequence[str]) -> list[Input]:
  """Returns what texts mean, each once, in order: files as they are; of folders all photographs and
  videos, also of folders in them; of a pattern (`*`, `?`, `[...]`, `**`) those that match; numbers
  of cameras.

  Raises:
    UserError: a file, folder or match is missing, or cannot be looked up.
  """
  found = [one for text in texts for one in _meant(text)]
  if not found:
    raise UserError(
      '--input is missing: pass a photograph, a folder, a pattern such as photos/*.jpg, a video, '
      'or the number of a camera (0)'
    )
  return list(dict.fromkeys(found))


def _meant(text: str) -> list[Input]:
  try:
    return _found(text)
  except OSError as error:  # a name that is too long, a folder that may not be read
    reason = error.strerror or first_line(error)
    raise UserError(f'--input={text}: cannot be looked up ({reason})') from None


def _found(text: str) -> list[Input]:
  if not text:  # "$photo" of a shell that has no such variable
    raise UserError("--input='': is empty; expected a photograph, a folder, a pattern or a video")
  path = local_path(text)
  if path.is_dir():
    return _in_folder(path)
  if path.exists():
    return [_file(path)]
  if text.isdecimal() and int(text) <= _LAST_CAMERA:
    return [Input('camera', text)]
  if glob.has_magic(text):
    return _matching(text, path)
  raise UserError(
    f'--input={text}: no such file; expected a photograph, a folder, a pattern such as '
    'photos/*.jpg, a video, or the number of a camera (0)'
  )


def _file(path: pathlib.Path) -> Input:
  kind = 'video' if folders.has_ending(path.name, folders.VIDEOS) else 'photo'
  return Input(kind, str(path), path)


def _in_folder(folder: pathlib.Path) -> list[Input]:
  found = list(_walk(folder, set()))
  if not found:
    raise UserError(
      f'--input={folder}: this folder has no photograph or video, nor have those in it'
    )
  return [_file(path) for path in found]


def _walk(folder: pathlib.Path, seen: set[pathlib.Path]) -> Iterator[pathlib.Path]:
  """Each folder once, also where links lead back to it."""
  if (place := folder.resolve()) in seen:
    return
  seen.add(place)
  yield from folders.files(folder, _ENDINGS)
  for inside in folders.folders(folder):
    yield from _walk(inside, seen)


def _matching(text: str, path: pathlib.Path) -> list[Input]:
  names = sorted(glob.glob(str(path), recursive=True))
  found = [path for path in map(pathlib.Path, names) if folders.has_ending(path.name, _ENDINGS)]
  if not found:
    raise UserError(f'--input={text}: no photograph or video matches this pattern')
  return [_file(path) for path in found]
