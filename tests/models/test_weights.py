"""Files of weights: exact both ways, by timm's names, and errors that name the tensor. tests/parity
loads them into timm itself.
"""

import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mtface.config.schema import model
from mtface.errors import UserError
from mtface.models import weight_files, weights
from mtface.models.foreign_names import NAMINGS
from mtface.tasks import get_task
from tests.models.networks import random_network

SHAPE = (32, 32, 3)
TASKS = ['smile', 'gender']
FIELDS = {
  'resnet': {'depth': 8, 'width': 0.2},
  'vgg': {'width': 0.02},
  'bknet': {'width': 0.03125},
  'mobilenet': {'width': 0.1},
  'efficientnet': {'width': 0.1, 'depth': 1.1},
  'rexnet': {'width': 0.1},
}
SMALL = {'width': 0.1, 'depth': 0.1}


def imported(path, name='efficientnet', tasks=TASKS, classifier=None, **fields):
  found = [get_task(task) for task in tasks]
  return weights.import_weights(
    path, model(name, **(fields or SMALL)), found, SHAPE, classifier=classifier
  )


def same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


@pytest.fixture
def exported(tmp_path):
  """(parameters, statistics, the file in timm's format with gender for classifier)."""
  _, params, stats = random_network('efficientnet', TASKS, SHAPE, **SMALL)
  path = tmp_path / 'weights.safetensors'
  weights.export_weights(params, stats, path, model('efficientnet', **SMALL), classifier='gender')
  return params, stats, path


def changed(path, change):
  """The file with its tensors changed by a function."""
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)
  return path


@pytest.mark.parametrize('name', list(FIELDS))
def test_our_format_is_exact_for_every_network(name, tmp_path):
  _, params, stats = random_network(name, TASKS, SHAPE, **FIELDS[name])
  path = tmp_path / 'weights.safetensors'
  weights.export_weights(
    params, stats, path, model(name, **FIELDS[name]), format='mtface', notes={'run': 'r'}
  )
  found = imported(path, name, **FIELDS[name])
  assert same(found.params, params)
  assert same(found.stats, stats)
  assert found.kept == found.left == ()
  with safetensors.safe_open(path, 'np') as file:
    about = file.metadata()
  assert about['run'] == 'r'
  assert json.loads(about['model'])['name'] == name


@pytest.mark.parametrize('name', ['mobilenet', 'efficientnet', 'rexnet'])
def test_timms_format_is_exact_there_and_back(name, tmp_path):
  _, params, stats = random_network(name, TASKS, SHAPE, **FIELDS[name])
  one, two = tmp_path / 'one.safetensors', tmp_path / 'two.safetensors'
  weights.export_weights(params, stats, one, model(name, **FIELDS[name]), classifier='smile')
  found = imported(one, name, classifier='smile', **FIELDS[name])
  assert same(found.params['trunk'], params['trunk'])
  assert same(found.params['heads'], {'smile': params['heads']['smile']})
  assert same(found.stats, stats)
  assert found.kept == ('heads/gender/scores/bias', 'heads/gender/scores/kernel')
  whole = weights.overlaid(params, found.params)
  weights.export_weights(whole, found.stats, two, model(name, **FIELDS[name]), classifier='smile')
  assert same(safetensors.numpy.load_file(one), safetensors.numpy.load_file(two))


def test_what_is_overlaid_leaves_the_tree_below_it_as_it_was():
  tree = {'trunk': {'stem': 1, 'top': 2}, 'heads': {'smile': 3}}
  found = weights.overlaid(tree, {'trunk': {'top': 4}})
  assert found == {'trunk': {'stem': 1, 'top': 4}, 'heads': {'smile': 3}}
  assert tree == {'trunk': {'stem': 1, 'top': 2}, 'heads': {'smile': 3}}


def test_names_are_timms():
  # From the state_dict of timm 1.0.31's networks.
  names = {
    ('mobilenet', 'trunk/stages/3/5/pointwise/norm/var'): 'blocks.3.5.bn2.running_var',
    ('efficientnet', 'trunk/stages/0/0/project/norm/mean'): 'blocks.0.0.bn2.running_mean',
    ('efficientnet', 'trunk/stages/0/0/squeeze/reduce/bias'): 'blocks.0.0.se.conv_reduce.bias',
    ('efficientnet', 'trunk/stages/4/2/expand/norm/bias'): 'blocks.4.2.bn1.bias',
    ('efficientnet', 'trunk/stages/4/2/depthwise/norm/mean'): 'blocks.4.2.bn2.running_mean',
    ('efficientnet', 'trunk/stages/4/2/project/norm/var'): 'blocks.4.2.bn3.running_var',
    ('efficientnet', 'trunk/stages/4/2/project/conv/kernel'): 'blocks.4.2.conv_pwl.weight',
    ('efficientnet', 'trunk/top/norm/scale'): 'bn2.weight',
    ('rexnet', 'trunk/blocks/3/squeeze/reduce/kernel'): 'features.3.se.fc1.weight',
    ('rexnet', 'trunk/blocks/3/squeeze/norm/scale'): 'features.3.se.bn.weight',
    ('rexnet', 'trunk/blocks/3/squeeze/expand/kernel'): 'features.3.se.fc2.weight',
    ('rexnet', 'trunk/top/conv/kernel'): 'features.16.conv.weight',
  }
  assert {key: NAMINGS[key[0]][0].name(key[1]) for key in names} == names


def test_arrays_lie_as_in_pytorch(exported):
  params, _, path = exported
  tensors = safetensors.numpy.load_file(path)
  stem = np.asarray(params['trunk']['stem']['conv']['kernel'])  # height, width, in, out
  assert tensors['conv_stem.weight'].shape == (8, 3, 3, 3)
  assert tensors['conv_stem.weight'][5, 2, 0, 1] == stem[0, 1, 2, 5]
  assert tensors['blocks.1.0.conv_dw.weight'].shape == (48, 1, 3, 3)
  np.testing.assert_array_equal(
    tensors['classifier.weight'], params['heads']['gender']['scores']['kernel'].T
  )


def test_a_classifier_is_given_to_a_head_or_left_but_never_guessed(exported):
  params, _, path = exported
  with pytest.raises(
    UserError,
    match=r"has a classifier of 2 classes \(classifier.weight\); name the head .* 'leave'",
  ):
    imported(path)
  left = imported(path, classifier=weights.LEAVE)
  assert set(left.left) == {'classifier.weight', 'classifier.bias'}
  assert list(left.params) == ['trunk']
  to_smile = imported(path, classifier='smile')  # both have two classes
  np.testing.assert_array_equal(
    to_smile.params['heads']['smile']['scores']['kernel'],
    params['heads']['gender']['scores']['kernel'],
  )
  with pytest.raises(
    UserError, match=r"classifier 'age': the network has no such head; it has gender, smile"
  ):
    imported(path, classifier='age')
  with pytest.raises(UserError, match=r'heads/emotion7/scores/kernel 128x2, not 128x7'):
    imported(path, tasks=['emotion7'], classifier='emotion7')
  with pytest.raises(UserError, match=r'has hidden layers'):
    imported(path, tasks=['age_years'], classifier='age_years', age_hidden=(4,), **SMALL)


def test_a_tensor_too_many_or_too_few_is_named(exported):
  _, _, path = exported
  changed(
    path,
    lambda tensors: tensors.update(
      {'bn1.num_batches_tracked': np.array(3), 'extra.weight': np.zeros(2)}
    ),
  )
  with pytest.raises(UserError, match=r'does not match this network: unexpected extra.weight$'):
    imported(path, classifier='gender')
  changed(path, lambda tensors: [tensors.pop('extra.weight'), tensors.pop('bn2.running_var')])
  with pytest.raises(UserError, match=r'missing bn2.running_var \(our trunk/top/norm/var\)$'):
    imported(path, classifier='gender')
  changed(path, lambda tensors: tensors.pop('classifier.bias'))
  with pytest.raises(UserError, match=r'classifier.bias'):
    imported(path, classifier='gender')


def test_counters_are_left_and_said_so(exported):
  _, _, path = exported
  changed(path, lambda tensors: tensors.update({'bn1.num_batches_tracked': np.array(3)}))
  assert imported(path, classifier='gender').left == ('bn1.num_batches_tracked',)


def test_a_wider_network_is_refused_by_the_shape(exported):
  with pytest.raises(UserError, match=r'trunk/\S+ \S+, not \S+ .*config.model and image_shape'):
    imported(exported[2], classifier='gender', width=0.5, depth=0.1)


def test_half_precision_becomes_float32(exported):
  params, _, path = exported
  changed(
    path, lambda tensors: tensors.update({k: x.astype(np.float16) for k, x in tensors.items()})
  )
  found = imported(path, classifier='gender').params['trunk']['stem']['conv']['kernel']
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, params['trunk']['stem']['conv']['kernel'], rtol=1e-3)


def test_heads_of_our_format_are_taken_by_name(tmp_path):
  _, params, stats = random_network('efficientnet', ['smile', 'emotion7'], SHAPE, **SMALL)
  path = tmp_path / 'weights.safetensors'
  weights.export_weights(params, stats, path, model('efficientnet', **SMALL), format='mtface')
  found = imported(path, tasks=['smile', 'gender'])
  assert list(found.params['heads']) == ['smile']
  assert found.kept == ('heads/gender/scores/bias', 'heads/gender/scores/kernel')
  assert set(found.left) == {'heads/emotion7/scores/bias', 'heads/emotion7/scores/kernel'}
  with pytest.raises(
    UserError, match=r"classifier='smile' applies only to files of other programs"
  ):
    imported(path, classifier='smile')
  tensors = safetensors.numpy.load_file(path)
  del tensors['heads/smile/scores/bias']
  safetensors.numpy.save_file(tensors, path, {'format': 'mtface'})
  with pytest.raises(UserError, match=r'missing heads/smile/scores/bias$'):
    imported(path, tasks=['smile', 'gender'])


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(UserError, match='no such weight file'):
    weight_files.read_torch(tmp_path / 'none.safetensors')
  contents = {
    'cut.safetensors': b'\x10\0\0\0\0\0\0\0{',
    'model.onnx': b'\x08\x08',
    'page.safetensors': b'\n<!DOCTYPE html><html>404</html>',
    'pointer.pth': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
  }
  for name, content in contents.items():
    (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match='is not a complete safetensors file'):
    weight_files.read_torch(tmp_path / 'cut.safetensors')
  with pytest.raises(
    UserError, match=r'is not a weight file; weights are read from \.safetensors, \.pth, \.pt'
  ):
    weight_files.read_torch(tmp_path / 'model.onnx')
  with pytest.raises(UserError, match='is a web page, not a weight file'):
    weight_files.read_torch(tmp_path / 'page.safetensors')
  with pytest.raises(UserError, match=r'Git LFS pointer.*git lfs pull'):
    weight_files.read_torch(tmp_path / 'pointer.pth')


# --- What others make of such files ---------------------------------------------------------------


@pytest.mark.parametrize(
  'prefix', ['module.', 'model.', '_orig_mod.', 'module._orig_mod.', 'state_dict.backbone.']
)
def test_a_prefix_of_all_names_is_taken_off_and_said(exported, prefix):
  params, stats, path = exported
  tensors = {f'{prefix}{name}': x for name, x in safetensors.numpy.load_file(path).items()}
  safetensors.numpy.save_file(tensors | {'epoch': np.array([3.0])}, path)
  found = imported(path, classifier=weights.LEAVE)
  assert found.prefix == prefix
  assert same(found.params, {'trunk': params['trunk']})
  assert same(found.stats, stats)
  assert set(found.left) == {f'{prefix}classifier.weight', f'{prefix}classifier.bias', 'epoch'}
  assert f'(from {prefix}*, prefix stripped; 1 others ignored)' in found.summary()
  del tensors[f'{prefix}bn2.running_var']
  safetensors.numpy.save_file(tensors, path)
  with pytest.raises(UserError, match=r'missing bn2.running_var \(our trunk/top/norm/var\)$'):
    imported(path, classifier=weights.LEAVE)


def test_of_two_networks_the_average_is_taken(exported):
  params, _, path = exported
  tensors = safetensors.numpy.load_file(path)
  both = {f'model.{k}': x + 1 for k, x in tensors.items()} | {
    f'model_ema.module.{k}': x for k, x in tensors.items()
  }
  safetensors.numpy.save_file(both, path)
  found = imported(path, classifier='gender')
  assert found.prefix == 'model_ema.module.'
  assert same(found.params['trunk'], params['trunk'])
  # As they are before all else, so that no name can hide the network itself.
  plain = tensors | {f'ema.{k}': x + 1 for k, x in tensors.items() if k == 'conv_stem.weight'}
  safetensors.numpy.save_file(plain, path)
  with pytest.raises(UserError, match=r'unexpected ema.conv_stem.weight'):
    imported(path, classifier='gender')


def test_weights_with_nan_are_refused(exported):
  _, _, path = exported
  changed(
    path,
    lambda tensors: tensors.update({'bn1.weight': np.full_like(tensors['bn1.weight'], np.nan)}),
  )
  with pytest.raises(
    UserError, match=r'has NaN or infinity in trunk/stem/norm/scale; use another file'
  ):
    imported(path, classifier='gender')


def test_what_a_file_is_its_content_says(exported, tmp_path):
  for name in ('A.SAFETENSORS', 'pytorch_model.bin', 'weights'):
    path = tmp_path / name
    path.write_bytes(exported[2].read_bytes())
    assert weight_files.is_weights_file(path)
    assert same(weight_files.read_torch(path), safetensors.numpy.load_file(exported[2]))
  for name in (
    'model_best.pth.tar',
    'last.CKPT',
    'a.pt',
  ):  # not there: the ending says that no run's folder is meant
    assert weight_files.is_weights_file(tmp_path / name)
  assert not weight_files.is_weights_file(tmp_path)


class Tensor:
  """As much of PyTorch's as is asked for."""

  def __init__(self, array):
    self.array = array

  def is_floating_point(self):
    return self.array.dtype.kind == 'f'

  def float(self):
    return Tensor(self.array.astype(np.float32))

  def numpy(self):
    return self.array


@pytest.mark.parametrize(
  'name', ['model_best.pth.tar', 'epoch=3.ckpt', 'a.PTH', 'pytorch_model.bin']
)
def test_a_checkpoint_of_pytorch_is_read_without_running_it(exported, tmp_path, monkeypatch, name):
  """PyTorch is not in this environment: a stand-in for it shows what is asked of it, and what
  becomes of its answer.
  """
  import sys
  import types

  params, _, path = exported
  tensors = {f'module.{k}': Tensor(x) for k, x in safetensors.numpy.load_file(path).items()}
  content = {
    'epoch': 3,
    'state_dict': tensors,
    'optimizer': {'state': {0: {'momentum': Tensor(np.ones(2))}}},
  }

  def load(file, map_location, weights_only):
    assert (file.name, map_location, weights_only) == (name, 'cpu', True)
    return content

  torch = types.SimpleNamespace(load=load, Tensor=Tensor, serialization=None)
  monkeypatch.setitem(sys.modules, 'torch', torch)
  (tmp_path / name).write_bytes(b'PK\3\4')
  found = imported(tmp_path / name, classifier=weights.LEAVE)
  assert found.prefix == 'state_dict.module.'
  assert same(found.params, {'trunk': params['trunk']})
  assert 'optimizer.state.0.momentum' in found.left
  content.clear()
  with pytest.raises(UserError, match='contains no named tensors'):
    weight_files.read_torch(tmp_path / name)


def test_a_pth_file_without_pytorch_says_how_to_convert_it(tmp_path, monkeypatch):
  import sys

  monkeypatch.setitem(sys.modules, 'torch', None)  # import raises ImportError
  (tmp_path / 'model.pth').write_bytes(b'')
  with pytest.raises(
    UserError,
    match=r'pip install torch, or convert it elsewhere: safetensors.torch.save_file',
  ):
    weight_files.read_torch(tmp_path / 'model.pth')


def test_what_cannot_be_written(tmp_path):
  _, params, stats = random_network('bknet', ['smile'], (16, 16, 1), width=0.03125)
  fields = model('bknet', width=0.03125)
  with pytest.raises(
    UserError, match=r'--format=torch: model bknet: no program .* use --format=mtface'
  ):
    weights.export_weights(params, stats, tmp_path / 'a.safetensors', fields)
  with pytest.raises(
    UserError, match='--format=onnx: unknown format; expected torch, timm, mtface'
  ):
    weights.export_weights(params, stats, tmp_path / 'a.safetensors', fields, format='onnx')
  with pytest.raises(UserError, match='applies only to --format=torch'):
    weights.export_weights(
      params, stats, tmp_path / 'a.safetensors', fields, format='mtface', classifier='smile'
    )
  with pytest.raises(UserError, match=r'the folder .* does not exist'):
    weights.export_weights(
      params, stats, tmp_path / 'none' / 'a.safetensors', fields, format='mtface'
    )
  assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_the_file_of_before(exported, monkeypatch):
  params, stats, path = exported
  before = path.read_bytes()

  def killed(_, path, *more):
    path.write_bytes(before[: len(before) // 2])
    raise KeyboardInterrupt

  monkeypatch.setattr(safetensors.numpy, 'save_file', killed)
  with pytest.raises(KeyboardInterrupt):
    weights.export_weights(params, stats, path, model('efficientnet', **SMALL))
  assert path.read_bytes() == before
  assert list(path.parent.iterdir()) == [path]


def test_a_file_that_wants_other_images_is_refused(exported):
  _, _, path = exported  # trained on images in [-1, 1]
  with pytest.raises(
    UserError,
    match=r'trained on images scaled as half, but config.model.input is imagenet; set con',
  ):
    imported(path, classifier='gender', **SMALL, input='imagenet')
  safetensors.numpy.save_file(
    safetensors.numpy.load_file(path), path
  )  # as timm's: without a word on it
  assert imported(path, classifier='gender', **SMALL, input='imagenet').found
