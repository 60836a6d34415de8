"""A photograph that a set was built from, cut as a run cuts it, is the set's record."""

import numpy as np
import pytest

from mtface.config.schema import experiment, source, task
from mtface.data.build import available, find_builder
from mtface.data.crops import crop_of_run, form_of
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.faces.crop import read_image
from mtface.faces.cropping import Crop
from tests.cartoons import cartoon, make_genki4k, make_utkface, save
from tests.prepared import build_set


def config_of(*names, shape=(48, 48, 1)):
  config = experiment()
  config.tasks.smile = task()
  for i, name in enumerate(names):
    config.sources[f's{i}'] = source(f'{name}:train', 'smile')
  config.image_shape = shape
  return config


@pytest.fixture(scope='module')
def raw(tmp_path_factory):
  two = np.hstack([cartoon(scale=0.75), cartoon(scale=1.25)])
  at_the_edge = cartoon(center=(30, 100))
  folder = tmp_path_factory.mktemp('raw')
  return make_genki4k(folder, [cartoon(), two, at_the_edge], [1, 0, 1])


@pytest.mark.parametrize(
  'form, shape',
  [
    ('gray48', (48, 48, 1)),
    ('rgb48', (48, 48, 3)),
    ('gray40_crop1', (40, 40, 1)),
    ('rgb64_margin30', (64, 64, 3)),
    ('rgb96_crop2', (96, 96, 3)),
  ],
)
def test_a_photograph_of_a_set_is_the_record(form, shape, raw, tmp_path):
  build_set(f'genki4k/{form}', raw, tmp_path)
  records = load_source(f'genki4k/{form}:train', tmp_path)
  crop = crop_of_run(config_of(f'genki4k/{form}', shape=shape)).crop
  assert crop.shape == shape
  for i, image_id in enumerate(records.image_ids):
    photo = read_image(raw / 'files' / f'{image_id}.jpg')
    face, *_ = crop.find(photo)
    np.testing.assert_array_equal(crop.apply(photo, face), records.gather(np.array([i]))[0])


def test_detected_faces_of_chips_are_the_records(tmp_path):
  chip = save(tmp_path / 'raw' / '30_0_0_20170112213500903.jpg.chip.jpg', cartoon())
  build_set('utkface/rgb64_mtcnn', chip.parent, tmp_path)
  records = load_source('utkface/rgb64_mtcnn:train', tmp_path)
  crop = crop_of_run(config_of('utkface/rgb64_mtcnn', shape=(64, 64, 3))).crop
  photo = read_image(chip)
  np.testing.assert_array_equal(
    crop.apply(photo, crop.find(photo)[0]), records.gather(np.array([0]))[0]
  )


def test_whole_chips_fit_to_the_record(tmp_path):
  name = '30_0_0_20170112213500903.jpg.chip.jpg'
  make_utkface(tmp_path / 'raw', [name])
  build_set('utkface/gray48', tmp_path / 'raw', tmp_path)
  records = load_source('utkface/gray48:train', tmp_path)
  crop = crop_of_run(config_of('utkface/gray48')).crop
  np.testing.assert_array_equal(
    crop.fit(read_image(tmp_path / 'raw' / name)), records.gather(np.array([0]))[0]
  )


def test_sets_of_other_crops_have_no_say():
  found = crop_of_run(config_of('fer2013/gray48', 'utkface/gray48', 'genki4k/gray48_crop3'))
  assert found.crop == Crop(48, 1, 'crop3')
  assert found.sets == ('genki4k/gray48_crop3',)
  assert found.others == ('fer2013/gray48', 'utkface/gray48')
  assert 'as for genki4k/gray48_crop3' in str(found) and 'fer2013/gray48' in str(found)


def test_of_several_the_commonest():
  names = 'genki4k/gray48_crop1', 'celeba/gray48', 'imdb/gray48'
  assert crop_of_run(config_of(*names)).crop == Crop(48, 1)
  assert crop_of_run(config_of(*names[:2])).crop == Crop(48, 1, 'crop1')


def test_the_default_is_the_box():
  found = crop_of_run(config_of('fer2013/gray48', 'elsewhere/gray48'))
  assert (found.crop, found.sets) == (Crop(48, 1), ())
  assert 'by default' in str(found)


def test_a_run_that_saw_no_colour_sees_none():
  shape = (64, 64, 3)
  grey = config_of('fer2013/rgb64', 'jaffe/rgb64', shape=shape)
  assert crop_of_run(grey).crop == Crop(64, 3, grey=True)
  assert not crop_of_run(config_of('fer2013/rgb64', 'celeba/rgb64', shape=shape)).crop.grey


@pytest.mark.parametrize(
  'name, cut',
  [
    ('lfw/rgb64', Crop(64, 3)),
    ('lfw/rgb64_center', None),
    ('fer2013/rgb64', None),
    ('utkface/rgb64', None),
    ('utkface/rgb64_mtcnn', Crop(64, 3)),
    ('utkface/rgb100_crop1', Crop(100, 3, 'crop1', jpeg=95)),
    ('synthetic_faces/smile_gray48', None),
    ('vgaf/rgb224', Crop(224, 3, jpeg=95)),
    ('jaffe/gray48', Crop(48, 1)),
  ],
)
def test_what_builders_say(name, cut):
  assert form_of(name).crop == cut


def test_images_that_are_no_squares_are_told():
  with pytest.raises(UserError, match='image_shape is'):
    crop_of_run(config_of('genki4k/gray48', shape=(48, 32, 1)))


def test_builders_say_whether_they_find_faces(tmp_path):
  """Those that do record what the detector said; only the middle of LFW's photographs is stored
  with that field and without a detection.
  """
  for set_name, configs in available().items():
    builder, _ = find_builder(set_name)
    for name in configs:
      features = builder(config=name, data_dir=tmp_path).info.features
      records = 'confidence' in dict(features).get('attributes', ()) and not name.endswith(
        '_center'
      )
      assert (form_of(f'{set_name}/{name}').crop is not None) == records, f'{set_name}/{name}'
