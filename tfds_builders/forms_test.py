import pickle

import cv2
import numpy as np
import pytest

from mtface.errors import UserError
from tfds_builders import forms, records
from tfds_builders.base import encode_jpeg


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('rgb64', (64, 3, False, '', '')),
    ('gray32', (32, 1, False, '', '')),
    ('rgb95_crop1', (95, 3, False, 'crop1', '')),
    ('rgb96_crop5', (96, 3, True, 'crop5', '')),
    ('gray256_crop2_centre', (256, 1, True, 'crop2', 'centre')),
    ('rgb224_centre', (224, 3, True, '', 'centre')),
    ('rgb224_margin20', (224, 3, True, 'margin20', '')),
  ],
)
def test_names(name, expected):
  config = forms.on_demand('fotw/', name, ('centre',))
  assert (config.size, config.channels, config.encoded, config.crop, config.choice) == expected
  assert config.name == name
  assert pickle.loads(pickle.dumps(config)).shape == (expected[0], expected[0], expected[1])


@pytest.mark.parametrize(
  'name',
  [
    *('rgb', 'grey48', 'rgb064', 'rgb64_', 'rgb64_crop0', 'rgb64_crop6', 'rgb64_crop', 'RGB64'),
    *('rgb64_centre_crop1', 'rgb64_crop1_crop2', 'rgb64_mtcnn', 'rgb64_margin', 'rgb64_margin0'),
  ],
)
def test_other_names(name):
  assert forms.on_demand('fotw/', name, ('centre',)) is None


def test_a_choice_that_the_set_does_not_have():
  assert forms.on_demand('celeba/', 'rgb64_centre') is None


@pytest.mark.parametrize('size', [31, 257, 10**9])
def test_sizes_have_limits(size):
  with pytest.raises(UserError, match=rf'celeba/rgb{size}: the size is {size}; expected 32 to 256'):
    forms.on_demand('celeba/', f'rgb{size}')


def test_the_listed_forms_are_these():
  """A config that is listed and one that is made of its name are stored in the same way."""
  for listed in (records.gray48, records.rgb32, records.rgb64, records.rgb96, records.rgb224):
    made = forms.on_demand('', listed().name)
    assert (made.shape, made.encoded) == (listed().shape, listed().encoded)


def test_grey_jpeg():
  x = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (100, 1))[..., None]
  decoded = cv2.imdecode(np.frombuffer(encode_jpeg(x), np.uint8), cv2.IMREAD_UNCHANGED)
  assert decoded.shape == (100, 120)
  np.testing.assert_allclose(decoded, x[..., 0], atol=3)
