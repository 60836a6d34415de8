"""Draws the crop schemes of `mtface/faces/schemes.py` on synthetic faces, for docs/datasets.md.

    python benchmarks/crop_schemes.py --out=docs/images/crop_schemes.png

A row is a face: at the left the picture with MTCNN's box and landmarks, then the five crops with
the landmarks that moved along. No photograph is read.
"""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from absl import app, flags
from PIL import Image

from mtface import errors
from mtface.faces import detect, schemes
from tfds_builders.synthetic_faces import population, render
from tfds_builders.synthetic_faces.draws import Draws

_OUT = flags.DEFINE_string('out', None, 'the PNG to write', required=True)

FACES = (5, 16, 30)  # tilted to one side, upright, tilted to the other; sharp ones
SMALLER = 0.6  # than the renderer frames them, so that hair and neck are in the picture
PICTURE = 320  # pixels
TILE = 128  # pixels
CAPTION = 18  # pixels
COLOURS = 128  # of the PNG's palette: a third of the size
_GREEN, _RED = (0, 255, 0), (255, 0, 0)


def pictures() -> np.ndarray:
  """uint8 [N, PICTURE, PICTURE, 3]."""
  parameters = population.sample(Draws(0, 'people', 'train', range(max(FACES) + 1)), 'people')
  chosen = {name: values[list(FACES)] for name, values in parameters.items()}
  return render.render({**chosen, 'face_size': chosen['face_size'] * SMALLER}, PICTURE, 3)[0]


def marked(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
  """An image with a dot at each landmark that is in it; coordinates in sixteenths of a pixel."""
  image = image.copy()
  radius = image.shape[0] * 16 // 60
  for x, y in np.round(landmarks * 16).astype(int).tolist():
    cv2.circle(image, (x, y), radius, _RED, -1, cv2.LINE_AA, shift=4)
  return image


def row(picture: np.ndarray) -> np.ndarray:
  """uint8 [TILE, 6 * TILE, 3]."""
  face = detect.find_main_face(picture).face
  if face is None:
    raise errors.UserError('no face was found in a synthetic picture; choose other FACES')
  whole = marked(picture, face.landmarks)
  left, top, right, bottom = face.box
  cv2.rectangle(whole, (left, top), (right - 1, bottom - 1), _GREEN, 2)
  tiles = [cv2.resize(whole, (TILE, TILE), interpolation=cv2.INTER_AREA)]
  for scheme in schemes.SCHEMES.values():
    cut = scheme.cut(picture, face.box, face.landmarks, TILE, 3)
    assert cut.landmarks is not None
    tiles.append(marked(cut.image, cut.landmarks))
  return np.concatenate(tiles, axis=1)


def captions() -> np.ndarray:
  """uint8 [CAPTION, 6 * TILE, 3]: what is in each column."""
  strip = np.full((CAPTION, TILE * (1 + len(schemes.SCHEMES)), 3), 255, np.uint8)
  for i, (name, scheme) in enumerate([('picture', None), *schemes.SCHEMES.items()]):
    text = f'{name}, aligned' if scheme and scheme.aligns else name
    where = (i * TILE + 4, CAPTION - 5)
    cv2.putText(strip, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
  return strip


def main(_: list[str]) -> None:
  """Writes the picture."""
  drawn = np.concatenate([captions(), *map(row, pictures())])
  path = pathlib.Path(_OUT.value)
  Image.fromarray(drawn).quantize(COLOURS).save(path, optimize=True)
  print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  app.run(main)
