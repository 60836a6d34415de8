"""Features against the network run on all faces at once; what lies in the .npz files."""

import dataclasses
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtface.config.schema import source as source_entry
from mtface.data.inputs import scale_images
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.features.extract import (
  FeatureNetwork,
  _write,
  any_source,
  features,
  l2_normalized,
  write_features,
)
from mtface.files import file_name
from mtface.training.selection import Selection
from tests.fakes import fake_source, write_prepared
from tests.tiny import get_config


@pytest.fixture(scope='module')
def evaluator(tiny_run, tiny_data):
  return Evaluator(tiny_run, tiny_data)


def whole(evaluator, text, source):
  """The features by one call of the network, without batches."""
  ((params, stats),) = evaluator.networks(Selection.parse(text), re_estimate=False)
  images = scale_images(jnp.asarray(source.gather(np.arange(len(source)))))
  return np.asarray(jax.jit(evaluator.network.features)(params, stats, images))


@pytest.mark.parametrize('text', ['last', '4'])
def test_features_do_not_depend_on_the_batches(evaluator, text):
  # 20 people and 12 smiles in batches of 8, and what fills up the last ones is dropped.
  for name, size in (('people', 20), ('tiny/smile:test', 12)):
    source = any_source(evaluator, name)
    found = features(evaluator, Selection.parse(text), source)
    assert (found.dtype, found.shape) == (
      np.float32,
      (size, 8),
    )  # a 16x16 picture pooled to 1x1, with 256/32 channels
    np.testing.assert_allclose(found, whole(evaluator, text, source), rtol=1e-4, atol=1e-5)
    assert len(np.unique(found, axis=0)) == size
  assert evaluator.extractor._runner._run._cache_size() == 1, (
    'one program for all sets and checkpoints'
  )


def test_an_average_is_one_network(evaluator):
  source = any_source(evaluator, 'people')
  found = features(evaluator, Selection.parse('average:2'), source)
  assert found.shape == (20, 8)
  assert np.abs(found - whole(evaluator, 'last', source)).max() > 1e-4


def test_an_ensemble_has_no_features(evaluator):
  with pytest.raises(
    UserError, match=r'^--checkpoint=ensemble:2: an ensemble has no features; choose one network'
  ):
    FeatureNetwork(evaluator, Selection.parse('ensemble:2'))


def test_features_that_are_not_finite(evaluator):
  network = FeatureNetwork(evaluator, Selection.parse('last'))
  network._params['blocks'][0]['convolutions'][0]['bias'] += jnp.nan
  with pytest.raises(UserError, match='features that are not finite'):
    network.of(any_source(evaluator, 'people'))


def test_written_features_can_be_read_by_others(mtface, run_copy, tiny_data, evaluator):
  on = 'people,tiny/people:train[fold!=0/4],tiny/people:train[fold=0/4]'
  result = mtface(
    'features', f'--workdir={run_copy}', f'--data_dir={tiny_data}', f'--on={on}', '--checkpoint=8'
  )
  assert result.code == 0, result.err
  folder = run_copy / 'features' / '8'
  names = ['tiny_people_test', 'tiny_people_train_fold_0_4_', 'tiny_people_train_fold_not_0_4_']
  assert sorted(path.name for path in folder.iterdir()) == [f'{name}.npz' for name in names]
  source = any_source(evaluator, 'people')
  with np.load(folder / 'tiny_people_test.npz', allow_pickle=False) as found:
    np.testing.assert_allclose(
      found['features'], whole(evaluator, '8', source), rtol=1e-4, atol=1e-5
    )
    assert found['features'].dtype == np.float32
    np.testing.assert_array_equal(found['image_ids'], source.image_ids)
    np.testing.assert_array_equal(found['labels/gender'], source.labels['gender'])
    np.testing.assert_array_equal(found['mask/gender'], source.mask['gender'])
    assert found['subjects'].shape == (20,)
  folds = [set(np.load(folder / f'{name}.npz')['image_ids']) for name in names[1:]]
  assert (len(folds[0] & folds[1]), len(folds[0] | folds[1])) == (0, 40)


def test_a_failed_write_leaves_no_half_file(run_copy, tiny_data, monkeypatch):
  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np, 'savez', full)
  with pytest.raises(
    UserError, match=r'tiny_people_test.npz: cannot be written \(No space left on device\)'
  ):
    write_features(run_copy, tiny_data, 'last', ['people'])
  assert not list((run_copy / 'features').rglob('*.npz'))


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    (['--checkpoint=ensemble:2'], '--checkpoint=ensemble:2: an ensemble has no features'),
    (
      ['--checkpoint=last,best'],
      '--checkpoint=last,best: this command takes one at a time',
    ),
    (['--on=tiny/nobody:test'], 'tiny/nobody: no prepared set found'),
    (['--on=nonsense'], "source 'nonsense': expected SET/CONFIG:SPLIT"),
  ],
)
def test_bad_input_is_one_line(mtface, tiny_run, tiny_data, flags, expected):
  result = mtface('features', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', *flags)
  assert expected in result.error
  assert not (tiny_run / 'features').exists()


def test_a_file_has_all_that_a_source_knows(tmp_path):
  who = np.array(['ann', '', 'bob'])
  faces = dataclasses.replace(
    fake_source('faces', 3, {'smile': 2 / 3}), subjects=who, attributes={'ytf': np.array([1, 0, 1])}
  )

  def into(vectors, source, show):
    vectors[:] = [[1, 2], [3, 4], [5, 6]]

  network = types.SimpleNamespace(size=2, into=into)
  with np.load(_write(tmp_path, faces, network)) as found:
    assert set(found) == {
      'features',
      'image_ids',
      'subjects',
      'labels/smile',
      'mask/smile',
      'attributes/ytf',
    }
    assert found['features'].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert found['subjects'].tolist() == ['ann', '', 'bob']
    assert found['image_ids'].tolist() == faces.image_ids.tolist()
    assert (found['mask/smile'].tolist(), found['attributes/ytf'].tolist()) == (
      [True, True, False],
      [1, 0, 1],
    )


def test_a_source_has_all_its_labels_and_the_networks_size(tmp_path):
  write_prepared(tmp_path, 'faces/gray16', {'test': 6}, {'smile': 1.0, 'gender': 1.0})
  config = get_config()
  config.evaluation.sets.own = source_entry('faces/gray16:test', 'smile')
  opened = types.SimpleNamespace(config=config, data_dir=tmp_path)
  assert set(any_source(opened, 'own').labels) == {'smile', 'gender'}, (
    'not only what the run measures'
  )
  config.image_shape = (32, 32, 1)
  with pytest.raises(UserError, match=r'16x16'):
    any_source(opened, 'own')


def test_length_one():
  rows = np.array([[3, 4], [0, 0], [-2, 0], [1e-30, 0]], np.float32)
  np.testing.assert_allclose(l2_normalized(rows), [[0.6, 0.8], [0, 0], [-1, 0], [1, 0]], rtol=1e-6)
  assert l2_normalized(rows).dtype == np.float32


def test_a_fold_and_its_rest_have_different_files():
  assert file_name('a/b:t[fold=0/4]') != file_name('a/b:t[fold!=0/4]')


def test_features_of_a_stage_are_in_its_folder(mtface, run_copy, tiny_data, evaluator):
  # The tiny run as one of two stages, of which the first ended at step 8.
  path = run_copy / 'config.json'
  saved = json.loads(path.read_text())
  saved['config'] |= {'stages': ['first', 'second'], 'stage': {'first': {}, 'second': {}}}
  path.write_text(json.dumps(saved))
  for stage in ('first', 'second'):
    shutil.copytree(run_copy / 'checkpoints' / 'main', run_copy / 'checkpoints' / stage)
  shutil.rmtree(run_copy / 'checkpoints' / 'first' / '000000012')
  source = any_source(evaluator, 'people')
  for flags, stage, step in ((['--stage=first'], 'first', '8'), ([], 'second', '12')):
    result = mtface(
      'features', f'--workdir={run_copy}', f'--data_dir={tiny_data}', '--on=people', *flags
    )
    assert result.code == 0, result.err
    with np.load(
      run_copy / 'stages' / stage / 'features' / 'last' / 'tiny_people_test.npz'
    ) as found:
      np.testing.assert_allclose(
        found['features'], whole(evaluator, step, source), rtol=1e-4, atol=1e-5
      )
