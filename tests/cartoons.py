"""Drawn faces that MTCNN takes for faces, and small copies of data sets made of them."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import scipy.io
from PIL import Image


def cartoon(
  size: int = 200, center: tuple[int, int] = (100, 100), scale: float = 1.0
) -> np.ndarray:
  """uint8 [size, size, 3] with one face; its eyes are at center + scale * (-+13, -6), its mouth's
  middle at (0, 22).
  """
  image = np.full((size, size, 3), (90, 110, 140), np.uint8)
  x, y = center

  def at(value: float) -> int:
    return round(value * scale)

  def ellipse(dx: float, dy: float, axes: tuple[float, float], color: tuple[int, int, int]) -> None:
    half_axes = (at(axes[0]), at(axes[1]))
    cv2.ellipse(image, (x + at(dx), y + at(dy)), half_axes, 0, 0, 360, color, -1, cv2.LINE_AA)

  ellipse(0, -4, (36, 48), (60, 40, 30))  # hair
  ellipse(0, 4, (31, 41), (224, 180, 150))
  for side in (-1, 1):
    ellipse(side * 13, -14, (8, 2), (60, 40, 30))
    ellipse(side * 13, -6, (7, 4), (250, 250, 250))
    ellipse(side * 13, -6, (3.6, 3.6), (40, 25, 20))
  ellipse(0, 9, (5, 3), (170, 120, 100))
  ellipse(0, 22, (12, 5), (170, 70, 75))
  return cv2.GaussianBlur(image, (0, 0), 1.2)


def save(path: pathlib.Path, image: np.ndarray) -> pathlib.Path:
  """Writes an RGB image in the format of the file's ending."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image).save(path, quality=95)
  return path


def make_genki4k(folder: pathlib.Path, images: list[np.ndarray], smiles: list[int]) -> pathlib.Path:
  """GENKI-4K's layout: labels.txt and files/file0001.jpg ..."""
  for number, image in enumerate(images, start=1):
    save(folder / 'files' / f'file{number:04d}.jpg', image)
  lines = [f'{smile} 0.100000 -0.200000 0.3{i:05d}' for i, smile in enumerate(smiles)]
  (folder / 'labels.txt').write_text('\n'.join(lines) + '\n')
  return folder


def make_utkface(folder: pathlib.Path, names: list[str], seed: int = 0) -> pathlib.Path:
  """UTKFace's layout: one 200x200 chip a name; every chip differs."""
  rng = np.random.default_rng(seed)
  for name in names:
    coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    save(folder / name, cv2.resize(coarse, (200, 200), interpolation=cv2.INTER_CUBIC))
  return folder


def make_fer2013(folder: pathlib.Path, rows: list[tuple[object, np.ndarray, str]]) -> pathlib.Path:
  """FER-2013's layout: fer2013.csv with emotion, pixels and Usage."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = [
    f'{emotion},{" ".join(map(str, pixels.ravel().tolist()))},{usage}'
    for emotion, pixels, usage in rows
  ]
  (folder / 'fer2013.csv').write_text('\n'.join(['emotion,pixels,Usage', *lines]) + '\n')
  return folder


# A sound entry of imdb.mat or wiki.mat, except for its path: born on 8 March 1980, photographed in
# 2010 at the age of 30.
SOUND = {
  'dob': 723248,
  'photo_taken': 2010,
  'gender': 1,
  'name': 'A. Nobody',
  'face_score': 3.5,
  'celeb_id': 1,
}
CELEB_NAMES = ('A. Nobody', 'B. Nobody')


def make_imdb_wiki(
  folder: pathlib.Path,
  name: str,
  entries: Sequence[Mapping[str, Any]],
  change: Mapping[str, Any] | None = None,
  **save_options: Any,
) -> pathlib.Path:
  """Writes imdb_crop's or wiki_crop's layout: <name>.mat with a 1x1 struct `name` of 1xN rows and
  cells, and images.

  Args:
    folder: where to.
    name: `imdb`, which also has celeb_id and celeb_names, or `wiki`.
    entries: `full_path`, and what differs from SOUND; `image`, an array [H, W(, 3)] or the file's
      bytes; without it there is no file.
    change: fields of the struct to put in place of those made of the entries; None: without the
      field.
    **save_options: of `scipy.io.savemat`.
  """
  for entry in entries:
    if isinstance(image := entry.get('image'), bytes):
      (folder / entry['full_path']).parent.mkdir(parents=True, exist_ok=True)
      (folder / entry['full_path']).write_bytes(image)
    elif image is not None:
      save(folder / entry['full_path'], image)
  fields = _imdb_wiki_fields(
    [{'second_face_score': np.nan, **SOUND, **entry} for entry in entries], name
  )
  struct = {
    field: column for field, column in (fields | dict(change or {})).items() if column is not None
  }
  folder.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(folder / f'{name}.mat', {name: struct}, **save_options)
  return folder


def _imdb_wiki_fields(entries: Sequence[Mapping[str, Any]], name: str) -> dict[str, np.ndarray]:
  """The struct's fields in the published order."""
  rows = ('dob', 'photo_taken', 'gender', 'face_score', 'second_face_score', 'celeb_id')
  column = {row: np.array([[entry[row] for entry in entries]]) for row in rows}
  boxes = [np.array([[1.0, 1.0, 100.0, 120.0]]) for _ in entries]
  fields = {
    **{'dob': column['dob'], 'photo_taken': column['photo_taken']},
    'full_path': cells([entry['full_path'] for entry in entries]),
    'gender': column['gender'].astype(float),
    'name': cells([entry['name'] for entry in entries]),
    'face_location': cells(boxes),
    **{'face_score': column['face_score'], 'second_face_score': column['second_face_score']},
  }
  of_imdb = {'celeb_names': cells(CELEB_NAMES), 'celeb_id': column['celeb_id'].astype(float)}
  return fields | (of_imdb if name == 'imdb' else {})


def cells(values: Sequence[Any]) -> np.ndarray:
  """A 1xN cell array."""
  array = np.empty((1, len(values)), object)
  array[0, :] = list(values)
  return array


def make_lfw(folder: pathlib.Path, people: Mapping[str, Sequence[np.ndarray]]) -> pathlib.Path:
  """LFW's layout: Name/Name_0001.jpg ..."""
  for name, images in people.items():
    for number, image in enumerate(images, start=1):
      save(folder / name / f'{name}_{number:04d}.jpg', image)
  return folder
