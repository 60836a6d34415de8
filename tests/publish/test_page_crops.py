"""The demo page cuts faces out as `Crop.apply` does, pixel by pixel: page/crop.js in Node.js."""

import dataclasses
import itertools

import numpy as np

from mtface.faces.cropping import Crop
from mtface.faces.detect import Detection
from mtface.faces.schemes import SCHEMES
from tests.cartoons import cartoon
from tests.publish import node

# The face is too large for the crops, so that pixels are averaged, or too small for them.
PHOTO = np.hstack([cartoon(size=150, center=(70, 80), scale=1.4), cartoon(150, (80, 60), 0.8)])
PHOTO ^= np.random.default_rng(0).integers(0, 32, PHOTO.shape, np.uint8)
EYES_NOSE_MOUTH = [(-13, -6), (13, -6), (0, 7), (-10, 22), (10, 22)]
SIZES = ((24, 1), (48, 3), (100, 1))


def face(center, scale, turn, half_width, half_height):
  x, y = center
  turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
  landmarks = np.rint(np.array(EYES_NOSE_MOUTH) @ turned * scale + center).astype(np.float32)
  return Detection((x - half_width, y - half_height, x + half_width, y + half_height), 1, landmarks)


FACES = {
  'large': face((70, 80), 1.4, 0.0, 40, 55),
  'small, turned': face((230, 60), 0.8, 0.3, 17, 24),
  'partly outside': face((280, 130), 1.2, -0.2, 38, 47),
}
MIRRORED = dataclasses.replace(FACES['large'], landmarks=FACES['large'].landmarks[[1, 0, 2, 4, 3]])


def cut(name, found, crop):
  return {
    'name': f'{name}, {crop}',
    'face': {'box': list(found.box), 'landmarks': found.landmarks.tolist()},
    'crop': crop.to_json(),
    'expected': crop.apply(PHOTO, found).ravel().tolist(),
  }


def test_the_same_pixels(tmp_path):
  schemes = ('', *SCHEMES, 'margin7')
  cuts = [
    cut(name, found, Crop(size, channels, scheme))
    for (name, found), scheme in itertools.product(FACES.items(), schemes)
    for size, channels in SIZES
  ]
  cuts.append(cut('grey in three channels', FACES['large'], Crop(48, 3, 'crop2', grey=True)))
  cuts.append(cut('landmarks of no face', MIRRORED, Crop(48, 3, 'crop1')))
  node.run('crop.test.mjs', {'photo': node.image(PHOTO), 'cuts': cuts}, tmp_path)
