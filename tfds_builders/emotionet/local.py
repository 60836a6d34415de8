"""Which local file is the image of a URL."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterable, Iterator

from mtface import errors
from mtface.faces import folders
from tfds_builders.emotionet import tables

ByStem = dict[str, list[pathlib.Path]]


def files_in(folder: pathlib.Path) -> ByStem:
  """Returns the images in a folder and all folders in it, by their names without ending."""
  found: ByStem = collections.defaultdict(list)
  for path in _images(folder):
    found[folders.composed(path.stem)].append(path)
  return dict(found)


def _images(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  yield from folders.files(folder, folders.IMAGES)
  for inside in folders.folders(folder):
    yield from _images(inside)


def assign(rows: Iterable[tables.Row], files: ByStem) -> dict[str, pathlib.Path | None]:
  """Returns the file of every image, by image_id; None where there is none.

  It is the file that has the name of the URL, whatever its ending, or else that of the original
  URL. Of several, it is the one whose folder has the name of the URL's folder; of several URLs that
  a file may be, that whose folder has the name of the file's folder.

  Raises:
    UserError: the folders do not tell them apart either.
  """
  claims: dict[pathlib.Path, list[tuple[str, str]]] = collections.defaultdict(list)
  found: dict[str, pathlib.Path | None] = {}
  for row in rows:
    path, url = _find(row, files)
    found[row.image_id] = path
    if path:
      claims[path].append((row.image_id, url))
  for path, claiming in claims.items():
    if len(claiming) > 1:
      owner = _owner(path, claiming)
      found |= {image_id: None for image_id, _ in claiming if image_id != owner}
  return found


def _find(row: tables.Row, files: ByStem) -> tuple[pathlib.Path | None, str]:
  """The file, and by which of the two URLs it was found."""
  for url in filter(None, (row.url, row.original)):
    if paths := files.get(tables.stem_of(url)):
      return _only(paths, url), url
  return None, row.url


def _only(paths: list[pathlib.Path], url: str) -> pathlib.Path:
  if len(paths) == 1:
    return paths[0]
  inside = [path for path in paths if path.parent.name == tables.folder_of(url)]
  if len(inside) != 1:
    first, second = (inside or paths)[:2]
    if first.parent == second.parent:
      raise folders.one_id(tables.stem_of(url), first, second)
    raise errors.UserError(
      f'{first} and {second}: either may be the image of {url}; expected one file of this name in '
      f'a folder {tables.folder_of(url)}/: remove or move the other'
    )
  return inside[0]


def _owner(path: pathlib.Path, claiming: list[tuple[str, str]]) -> str:
  own = [image_id for image_id, url in claiming if tables.folder_of(url) == path.parent.name]
  if len(own) != 1:
    (_, first), (_, second) = claiming[:2]
    raise errors.UserError(
      f'{path}: may be the image of {first} and of {second}; expected the folders of the URLs: put '
      f'each file in a folder of the name that its URL has, such as {tables.folder_of(first)}/'
    )
  return own[0]
