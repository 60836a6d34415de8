import jax
import numpy as np
import pytest

from mtface.config.schema import source
from mtface.data.inputs import check_images
from mtface.errors import UserError
from mtface.training.run import plan, prepare, still_parts
from tests.fakes import fake_source, write_prepared
from tests.tiny import get_config


def test_a_plan_has_the_shapes_of_what_is_prepared(tiny_data):
  planned, prepared = plan(get_config(), tiny_data), prepare(get_config(), tiny_data)
  for part in ('params', 'stats'):
    shapes, arrays = getattr(planned, part), getattr(prepared, part)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
    jax.tree.map(
      lambda s, x: np.testing.assert_equal((s.shape, s.dtype), (x.shape, x.dtype)), shapes, arrays
    )
  assert planned.steps == prepared.steps == 12


def test_every_task_needs_a_source_and_every_label_a_task(tiny_data):
  config = get_config()
  del config.sources['people']
  with pytest.raises(
    UserError, match=r'config.tasks: no source labels gender; add one, or remove the task'
  ):
    prepare(config, tiny_data)
  config = get_config()
  del config.tasks['smile']
  with pytest.raises(
    UserError, match=r"tiny/smile:train gives task 'smile', which is not in config.tasks"
  ):
    prepare(config, tiny_data)


def test_a_source_whose_labels_are_all_masked_is_none(tmp_path):
  write_prepared(tmp_path, 'tiny/smile', {'train': 8}, {'smile': 1.0})
  write_prepared(tmp_path, 'tiny/people', {'train': 8}, {'gender': 0.0})
  config = get_config()
  with pytest.raises(
    UserError, match=r'^config.tasks: no source labels gender; add one, or remove the task$'
  ):
    plan(config, tmp_path)
  write_prepared(tmp_path, 'tiny/more', {'train': 8}, {'gender': 0.2})
  config.sources.more = source('tiny/more:train', 'gender')
  assert plan(config, tmp_path).mixture.counts['gender'] > 0


def test_the_configs_that_would_fit_are_named():
  faces = fake_source('fer2013/gray48:train', 2, {'emotion7': 1.0}, shape=(48, 48, 1))
  check_images(faces, [48, 48, 1])
  with pytest.raises(
    UserError,
    match=r'^fer2013/gray48:train: its images are 48x48x1, config.image_shape says '
    r'64x64x3; take fer2013/rgb64, or ',
  ):
    check_images(faces, (64, 64, 3))
  with pytest.raises(
    UserError, match=r'says 7x7x3; no config of this set has images of 7x7x3, or change config'
  ):
    check_images(faces, (7, 7, 3))


def test_parts_stand_still_where_norms_do():
  config = get_config()
  config.freeze.params = ('blocks',)
  assert still_parts(config) == ('blocks',)
  config.freeze.norms = 'batch'
  assert still_parts(config) == ()
