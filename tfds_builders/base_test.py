"""What happens to an outcome on its way to the records, whatever the builder."""

import unicodedata

import cv2
import numpy as np
import pytest

from mtface import tasks
from tfds_builders.base import _convert
from tfds_builders.records import RecordForm
from tfds_builders.summary import Face, LeftOut

DECOMPOSED = unicodedata.normalize('NFD', 'José')
IMAGE = np.full((16, 16, 3), (250, 120, 10), np.uint8)


def convert(*outcomes, encode=False):
  return _convert(lambda _: outcomes, None, encode=encode)


def test_a_copy_from_a_mac_has_the_same_ids():
  face, left_out = convert(
    Face(f'{DECOMPOSED}/1', IMAGE, subject=DECOMPOSED), LeftOut(f'{DECOMPOSED}/2', 'why')
  )
  assert (face.image_id, face.subject, left_out.image_id) == ('José/1', 'José', 'José/2')
  assert face.image is IMAGE


def test_names_that_are_no_text_can_be_stored():
  (face,) = convert(Face('Jos\udce9', IMAGE))
  assert face.image_id.encode() == rb'Jos\udce9'


def test_images_are_encoded_in_rgb_and_what_is_encoded_already_stays():
  face, encoded, left_out = convert(
    Face('1', IMAGE), Face('2', b'jpeg'), LeftOut('3', 'why'), encode=True
  )
  decoded = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
  np.testing.assert_allclose(decoded.astype(int), IMAGE, atol=4)
  assert (encoded.image, left_out) == (b'jpeg', LeftOut('3', 'why'))


def test_quality_of_what_is_encoded():
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
  (face,) = convert(Face('1', noise), encode=True)
  decoded = cv2.imdecode(np.frombuffer(face.image, np.uint8), cv2.IMREAD_COLOR)
  assert abs(decoded.astype(int) - noise).mean() < 2.3  # 1.5 at the quality of 95, 3.1 at 90


def test_a_record_masks_what_is_not_known():
  units = tasks.get_task('action_units')
  label = np.array([1, 0] + [-1] * (units.num_classes - 2))
  form = RecordForm(
    'a set', ('smile', 'gender', 'action_units'), subject=True, landmarks=True, attributes=('a',)
  )
  record = form.record(
    Face('1', IMAGE, {'gender': 1, 'action_units': label}, attributes={'a': 5, 'b': 6})
  )
  assert {name: bool(mask) for name, mask in record['mask'].items() if name != 'action_units'} == {
    'smile': False,
    'gender': True,
  }
  assert (record['labels']['smile'], record['labels']['gender']) == (0, 1)
  assert record['labels']['action_units'].tolist() == [1] + [0] * (units.num_classes - 1)
  assert record['mask']['action_units'].tolist() == [True, True] + [False] * (units.num_classes - 2)
  assert (record['subject'], record['attributes']) == ('', {'a': 5})
  assert np.isnan(record['landmarks']).all()
  unknown = form.record(Face('2', IMAGE, attributes={'a': 5}))
  assert not unknown['mask']['action_units'].any()
  assert not unknown['labels']['action_units'].any()


def test_a_label_that_the_set_does_not_declare_is_a_bug():
  with pytest.raises(ValueError, match=r"1: labels for \['smile'\], which a set does not declare"):
    RecordForm('a set', ('gender',)).record(Face('1', IMAGE, {'smile': 1}))
