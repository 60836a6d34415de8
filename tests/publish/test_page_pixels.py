"""The demo page's pixels are OpenCV's: mtface/publish/page/pixels.js in Node.js."""

import cv2
import numpy as np

from tests.publish import node

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (93, 71, 3), np.uint8)


def case(name, call, image, args, expected, at_most=0.0, share=0.0):
  """A call, its result, and how far, and for what share of the values, it may be off."""
  return {
    'name': name,
    'call': call,
    'image': node.image(image),
    'args': args,
    'expected': node.image(expected),
    'atMost': at_most,
    'share': share,
  }


def resized(call, interpolation, image, width, height, **allowed):
  expected = cv2.resize(image, (width, height), interpolation=interpolation)
  shape = f'{image.shape} {image.dtype} to {height} x {width}'
  return case(f'{call} {shape}', call, image, [width, height], expected, **allowed)


def area(image, width, height, **allowed):
  return resized(
    'resizeArea', cv2.INTER_AREA, np.ascontiguousarray(image), width, height, **allowed
  )


def linear(image, width, height):
  return resized('resizeLinear', cv2.INTER_LINEAR, np.ascontiguousarray(image), width, height)


def test_grey_and_parts(tmp_path):
  padded = np.pad(PHOTO, ((3, 0), (0, 5), (0, 0)))
  cases = [
    case('grey', 'toGrey', PHOTO, [], cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)),
    case('a part', 'cutOut', PHOTO, [4, 7, 20, 11], PHOTO[7:18, 4:24]),
    case('a part that is partly outside', 'cutOut', PHOTO, [60, -3, 16, 50], padded[:50, 60:76]),
    case('all outside', 'cutOut', PHOTO, [80, 0, 4, 4], np.zeros((4, 4, 3), np.uint8)),
  ]
  node.run('pixels.test.mjs', cases, tmp_path)


def test_shrinking_by_area(tmp_path):
  grey = PHOTO[..., 0]
  cases = [area(image, *size) for image in (PHOTO, grey) for size in ((48, 48), (43, 56), (70, 92))]
  # Whole numbers of pixels are averaged, and rounded, by other code: 2 x 2 by yet another one.
  cases += [
    area(PHOTO[: 8 * n, : 10 * m], 10, 8) for n, m in ((2, 2), (3, 3), (4, 4), (2, 3), (6, 5))
  ]
  node.run('pixels.test.mjs', cases, tmp_path)


def test_floats_by_area(tmp_path):
  """What MTCNN's second and third networks are shown: shrunk or enlarged, and not rounded."""
  photo = PHOTO.astype(np.float64)
  sides = (12, 17, 23, 24, 25, 30, 48, 71)
  cases = [area(photo[:side, :side], 24, 24, at_most=5e-5, share=1) for side in sides]
  cases.append(area(photo[:20, :40], 24, 24, at_most=5e-5, share=1))
  node.run('pixels.test.mjs', cases, tmp_path)


def test_linear(tmp_path):
  sizes = ((48, 48), (48, 200), (97, 130), (72, 94), (142, 186), (71, 100))
  cases = [linear(image, *size) for image in (PHOTO, PHOTO[..., 0]) for size in sizes]
  cases += [linear(PHOTO[:side, :side], 48, 48) for side in (1, 2, 5, 31, 47)]
  node.run('pixels.test.mjs', cases, tmp_path)


def test_warps(tmp_path):
  """OpenCV 4 has coarser positions, of 1/32 pixel: the page follows 5, which training uses."""
  matrices = (
    [[0.9, 0.2, -5.3], [-0.2, 0.9, 10.7]],
    [[1.7, 0.4, -30], [-0.4, 1.7, 11]],
    [[1.25, 0, -30], [0, 1.31, 11.25]],
  )
  cases = [
    case(
      f'warp {number} of {image.shape}',
      'warpAffine',
      image,
      [matrix, 56, 48],
      cv2.warpAffine(
        image, np.array(matrix), (56, 48), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
      ),
    )
    for number, matrix in enumerate(matrices)
    for image in (PHOTO, PHOTO[..., 0])
  ]
  node.run('pixels.test.mjs', cases, tmp_path)
