"""What Savchenko 2021 states (sections 2.1 and 2.2), against the config; every
stage of it trains.
"""

import itertools
import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from mtface.config.files import config_folder, load_config_file
from mtface.config.schema import model
from mtface.config.stages import stages_of
from mtface.data.names import Draw, SourceName
from mtface.errors import UserError
from mtface.evaluation.evaluate import evaluate
from mtface.models.network import abstract_network
from mtface.training.checkpoints import Checkpoints
from mtface.training.loop import train
from tests.fakes import write_prepared

BACKBONES = ('mobilenet_v1', 'efficientnet_b0', 'rexnet_150')


def get(argument=None):
  return load_config_file(config_folder() / 'savchenko2021.py', argument)


def test_stages_without_and_with_imagenet_weights():
  assert get().stages == ('identity', 'attributes', 'emotion_head', 'emotion')
  assert get('weights=timm.safetensors').stages == (
    'identity_head',
    'identity',
    'attributes',
    'emotion_head',
    'emotion',
  )
  assert get('stage=identity').stages == ('identity',)
  assert get('stage=attributes').stages == ('identity', 'attributes')
  assert get('stage=emotion').stages == ('identity', 'emotion_head', 'emotion')
  assert get('scratch=True').stages == ('emotion',)


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [
    (
      'scratch=True,weights=a.safetensors',
      'scratch=True and weights=a.safetensors contradict each other',
    ),
    ('scratch=True,imagenet=True', 'scratch=True and imagenet=True contradict'),
    ('scratch=True,stage=attributes', 'scratch=True and stage=attributes contradict'),
    (
      'imagenet=True,weights=a.safetensors,stage=identity',
      'imagenet=True and stage=identity contradict',
    ),
    ('data=local,classes=8', 'data=local and classes=8 contradict'),
    ('imagenet=True', 'imagenet=True starts from a file; name it with weights=FILE'),
    ('input=full', "argument input: 'full' is not one of , half, imagenet, caffe"),
  ],
)
def test_arguments_that_exclude_each_other(argument, expected):
  with pytest.raises(UserError, match=f'configs/savchenko2021.py: {re.escape(expected)}'):
    get(argument)


def test_images_are_scaled_as_the_weights_were_trained(tmp_path):
  assert {get(backbone).model.input for backbone in BACKBONES} == {'half'}
  inputs = ['half', 'imagenet', 'caffe']
  assert [get(f'input={name}').model.input for name in inputs] == inputs
  # timm's default_cfgs of mobilenetv1_100.ra4_e3600_r224_in1k, efficientnet_b0.ra_in1k,
  # rexnet_150.nav_in1k
  found = [get(f'{backbone},weights=timm.safetensors').model.input for backbone in BACKBONES]
  assert found == ['half', 'imagenet', 'imagenet']
  assert get('efficientnet_b0,weights=timm.safetensors,input=caffe').model.input == 'caffe'
  ours = {
    'format': 'timm',
    'model': json.dumps(model('mobilenet', input='caffe').to_dict()),
  }  # as `mtface export` notes it
  save_file({'x': np.zeros(1)}, tmp_path / 'ours.safetensors', ours)
  assert get(f'weights={tmp_path}/ours.safetensors').model.input == 'caffe'


def test_from_imagenet_to_emotion():
  stages = stages_of(get('imagenet=True,weights=timm.safetensors'))
  assert {name: (stage.start.weights, stage.freeze.params) for name, stage in stages.items()} == {
    'emotion_head': ('timm.safetensors', ('trunk',)),
    'emotion': ('stage:emotion_head', ()),
  }


def test_published_recipe():
  stages = stages_of(get('weights=timm.safetensors'))
  for stage in stages.values():
    assert (stage.optimizer.name, stage.optimizer.sam > 0) == ('adam', True)
    assert stage.image_shape == (224, 224, 3)
  # (length, rate, base frozen, where the weights come from)
  assert {
    name: (
      stage.duration,
      stage.optimizer.rate,
      stage.freeze.params == ('trunk',),
      stage.start.weights,
    )
    for name, stage in stages.items()
  } == {
    'identity_head': ('1 epochs', 1e-3, True, 'timm.safetensors'),
    'identity': ('10 epochs', 1e-4, False, 'stage:identity_head'),
    'attributes': ('3 epochs', 1e-3, True, 'stage:identity@best'),
    'emotion_head': ('3 epochs', 1e-3, True, 'stage:identity@best'),
    'emotion': ('10 epochs', 1e-4, False, 'stage:emotion_head'),
  }
  assert list(stages['identity'].tasks) == ['identity:9131']
  assert set(stages['attributes'].tasks) == {'age_years', 'gender', 'ethnicity5'}
  assert stages['attributes'].tasks.ethnicity5.class_weights == 'balanced'
  assert stages['attributes'].tasks.age_years.top > 1
  assert stages['emotion'].tasks.emotion8.class_weights == 'balanced'
  assert list(stages_of(get('classes=7'))['emotion'].tasks) == ['emotion7']


def test_published_numbers_of_images():
  stage = stages_of(get())['attributes']
  # As many as there are, where the builders left out so many photographs that there are fewer.
  drawn = {
    name: int(re.search(r'\[(?:upto|take)=(\d+)', entry.name)[1])
    for name, entry in stage.sources.items()
  }
  assert 'upto' in stage.sources.imdb.name and 'upto' in stage.sources.wiki.name
  assert drawn['imdb'] + drawn['wiki'] == 300_000
  assert drawn['imdb'] == round(300_000 * 460_723 / 523_051)
  assert SourceName.parse(stage.sources.utkface.name).part == Draw(20_149)
  assert SourceName.parse(stage.evaluation.sets.utkface.name).part.after == 20_149


@pytest.mark.parametrize(('backbone', 'millions'), zip(BACKBONES, (3.2, 4.0, 7.8), strict=True))
def test_backbones(backbone, millions):
  stage = stages_of(get(backbone))['emotion']
  _, params, _ = abstract_network(stage.model, [], stage.image_shape)
  import jax

  assert round(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, 1) == millions


@pytest.fixture(scope='module')
def tiny_sets(tmp_path_factory):
  """Noise under the names of the real sets, 32x32."""
  folder, shape = tmp_path_factory.mktemp('sets'), (32, 32, 3)
  ages = {'age_years': 1.0, 'gender': 1.0}
  write_prepared(
    folder, 'vggface2/rgb224', {'train': 16, 'test': 8}, {'identity:9131': 1.0}, shape=shape
  )
  for name in ('imdb', 'wiki'):
    write_prepared(folder, f'{name}/rgb224', {'train': 16}, ages, shape=shape)
  write_prepared(folder, 'utkface/rgb224', {'train': 16}, ages | {'ethnicity5': 1.0}, shape=shape)
  emotions = {'emotion8': 1.0, 'emotion7': 0.5}
  write_prepared(folder, 'affectnet/rgb224', {'train': 16, 'validation': 8}, emotions, shape=shape)
  return folder


def fitted(config):
  """The config with an eighth of the channels, 32x32 pixels, draws of 8 and 4 faces, 2 steps of 8
  samples a stage.
  """
  config.image_shape, config.augment.pad = (32, 32, 3), 2
  config.model.width = config.model.width / 8
  config.batch_size = config.evaluation.batch_size = 8
  for stage in (config.stage[name] for name in config.stages):
    stage.duration = '2 steps'
    if 'utkface_21_60' in stage.evaluation.sets:
      del stage.evaluation.sets.utkface_21_60  # noise has few of these ages
    for entry in itertools.chain(stage.sources.values(), stage.evaluation.sets.values()):
      entry.name = re.sub(r'\[(take|upto)=\d+,seed=0\]', '[take=8,seed=0]', entry.name)
      entry.name = re.sub(r'\[take=\d+,after=\d+,seed=0\]', '[take=4,after=8,seed=0]', entry.name)
  config.checkpoint.every = '2 steps'
  config.optimizer.sam = (
    0.0  # a second gradient in each of the programs, which tests/end_to_end/test_stages.py has
  )
  return config


def test_all_stages_train_and_eight_classes_are_scored_on_seven(tiny_sets, tmp_path):
  train(fitted(get('mobilenet_v1')), tmp_path, tiny_sets)
  assert [Checkpoints(tmp_path, stage).steps for stage in get().stages] == [[2]] * 4
  rows = {row['task']: row for row in evaluate(tmp_path, tiny_sets)}
  assert set(rows) == {'emotion8', 'emotion7'}
  assert (rows['emotion8']['n'], rows['emotion7']['n']) == (8, 4)
  ages = {row['task']: row for row in evaluate(tmp_path, tiny_sets, stage='attributes')}[
    'age_years'
  ]
  assert ages['mae'] != ages['mae_most_probable']


def test_smoke_is_short_and_narrow():
  config = get('rexnet_150,size=smoke')
  assert config.model.width == 1.5 / 8
  assert all(stage.duration == '20 steps' for stage in stages_of(config).values())
