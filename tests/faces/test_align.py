import cv2
import numpy as np
import pytest

from mtface.faces import align, schemes

TEMPLATE = np.array([(30, 40), (66, 41), (48, 60), (34, 80), (63, 79)], float)


def moved(points, scale=1.7, degrees=25, shift=(12, -30)):
  angle = np.deg2rad(degrees)
  turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
  return points @ turn.T + shift


def residual(matrix, points, template):
  there = points @ matrix[:, :2].T + matrix[:, 2]
  return np.square(there - template).sum()


@pytest.mark.parametrize('degrees', [-170, -25, 0, 60, 90])
def test_exact_points_give_the_matrix_of_opencv(degrees):
  points = moved(TEMPLATE, degrees=degrees)
  expected, _ = cv2.estimateAffinePartial2D(points, TEMPLATE)
  np.testing.assert_allclose(align.similarity(points, TEMPLATE), expected, atol=1e-6)


@pytest.mark.parametrize('seed', range(20))
def test_no_similarity_is_closer_than_this_one(seed):
  """Neither OpenCV's, which drops outliers, nor any after a small change of a parameter."""
  rng = np.random.default_rng(seed)
  points = moved(TEMPLATE) + rng.normal(0, 6, (5, 2))
  matrix = align.similarity(points, TEMPLATE)
  assert np.linalg.det(matrix[:, :2]) > 0
  smallest = residual(matrix, points, TEMPLATE)
  theirs, _ = cv2.estimateAffinePartial2D(points, TEMPLATE)
  assert smallest <= residual(theirs, points, TEMPLATE) + 1e-9
  cos, sin = matrix[0, 0], matrix[1, 0]
  np.testing.assert_allclose(matrix[:, :2], [[cos, -sin], [sin, cos]])
  for change in np.vstack([np.eye(4), -np.eye(4)]) * (1e-3, 1e-3, 0.1, 0.1):
    c, s, x, y = np.array([cos, sin, *matrix[:, 2]]) + change
    assert residual(np.array([[c, -s, x], [s, c, y]]), points, TEMPLATE) > smallest


@pytest.mark.parametrize(
  'points',
  [
    np.full((5, 2), 7.0),
    np.where(np.arange(10).reshape(5, 2) == 3, np.nan, TEMPLATE),
    np.where(np.arange(10).reshape(5, 2) == 3, np.inf, TEMPLATE),
    (96, 0) - TEMPLATE * (1, -1),  # mirrored
    np.array([(0, 0), (0, 0), (90, 0), (0, 0), (0, 0)]),  # collapsed, but for one
  ],
)
def test_points_that_allow_no_alignment(points):
  assert align.similarity(points, TEMPLATE) is None


def test_points_on_a_line_still_turn_the_face():
  """A face from the side: all on the line from eyes to mouth."""
  line = np.array([(0, 0), (0, 0), (0, 30), (0, 55), (0, 55)], float)
  matrix = align.similarity(moved(line, degrees=40), TEMPLATE)
  turn = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0]))
  assert abs(turn + 40) < 3
  assert 0.3 < np.sqrt(np.linalg.det(matrix[:, :2])) * 1.7 < 1.2


def dots(points, height=300, width=260):
  """One picture a point, with a small disc around it, drawn eight times as fine and averaged."""
  for x, y in points:
    fine = np.zeros((height * 8, width * 8), np.uint8)
    centre = (round((x + 0.5) * 8 - 0.5), round((y + 0.5) * 8 - 0.5))
    cv2.circle(fine, centre, 48, 255, -1)
    yield cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)


def centroid(image):
  y, x = np.mgrid[: image.shape[0], : image.shape[1]]
  weight = image.astype(float)
  return (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()


@pytest.mark.parametrize('size', [32, 96, 224])
@pytest.mark.parametrize('degrees', [0, 30])
def test_landmarks_go_where_the_pixels_go(size, degrees):
  """At 32, the picture shrinks to a seventh: without averaging, most of a disc would be passed
  over.
  """
  points = moved(TEMPLATE, scale=2, degrees=degrees, shift=(90, 40))
  template = schemes.SCHEMES['crop1'].template * size - 0.5
  matrix = align.similarity(points, template)
  there = align.move_points(points, matrix)
  assert there.dtype == np.float32
  for picture, expected in zip(dots(points), there, strict=True):
    warped = align.warp(picture, matrix, size)
    assert warped.shape == (size, size)
    np.testing.assert_allclose(centroid(warped), expected, atol=0.5 if size > 96 else 0.12)


def test_shrinking_averages():
  image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
  quarter = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375]])  # 24x24, from corner to corner
  expected = image.reshape(24, 4, 24, 4, 3).mean(axis=(1, 3))
  np.testing.assert_allclose(align.warp(image, quarter, 24), expected, atol=1)


def test_the_edge_is_repeated():
  image = np.zeros((10, 10, 3), np.uint8)
  image[:, -1] = 200
  shifted = align.warp(image, np.array([[1.0, 0, -5], [0, 1, 0]]), 10)
  np.testing.assert_array_equal(shifted[:, :4], 0)
  np.testing.assert_array_equal(shifted[:, 4:], 200)
