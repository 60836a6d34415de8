"""Views of a face, by NumPy."""

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.inference import views

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 24, 36, 2), dtype=np.uint8)


def test_the_face_itself_and_its_mirror_image():
  (only,) = views.views('')
  assert only(IMAGES) is IMAGES
  plain, mirrored = views.views('flip')
  np.testing.assert_array_equal(plain(IMAGES), IMAGES)
  np.testing.assert_array_equal(mirrored(IMAGES), IMAGES[:, :, ::-1])


def test_ten():
  # a twelfth of 24x36 is 2 and 3 pixels; what is outside is the nearest edge pixel
  found = {np.asarray(view(IMAGES)).tobytes() for view in views.views('ten')}
  assert len(found) == 10
  padded = np.pad(IMAGES, ((0, 0), (2, 2), (3, 3), (0, 0)), mode='edge')
  expected = [
    IMAGES,
    padded[:, :24, :36],
    padded[:, :24, 6:],
    padded[:, 4:, :36],
    padded[:, 4:, 6:],
  ]
  expected += [image[:, :, ::-1] for image in expected]
  assert found == {image.tobytes() for image in expected}


def test_what_has_no_views():
  views.without_views('last', '', 'weights have no views')
  with pytest.raises(UserError, match=r'--checkpoint=last:ten: weights .*; leave :ten out'):
    views.without_views('last:ten', 'ten', 'weights have no views')
