"""Drawn faces that MTCNN takes for faces, and small copies of data sets made of them."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from PIL import Image


def cartoon(size: int = 200, center: tuple[int, int] = (100, 100), scale: float = 1.0) -> np.ndarray:
  """uint8 [size, size, 3] with one face; its eyes are at center + scale * (-+13, -6), its mouth's middle at (0, 22)."""
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
  lines = [f'{emotion},{" ".join(map(str, pixels.ravel().tolist()))},{usage}' for emotion, pixels, usage in rows]
  (folder / 'fer2013.csv').write_text('\n'.join(['emotion,pixels,Usage', *lines]) + '\n')
  return folder
