"""Weights of ResNet and VGG from the programs that others have them from. tests/parity compares
what they compute.
"""

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.io

from mtface.config.schema import model
from mtface.errors import UserError
from mtface.models import weights
from mtface.models.weight_files import read_torch
from mtface.tasks import get_task
from tests.models.networks import random_network

RESNET = {'depth': 14, 'width': 0.2}
VGG = {'width': 1 / 64}
TASKS = ['smile', 'gender']
SHAPES = {'resnet': (8, 8, 3), 'vgg': (64, 96, 3)}
MEAN = np.array([129.1863, 104.7624, 93.5940])


def network(name, **fields):
  """(config.model, parameters, statistics)."""
  fields = {'resnet': RESNET, 'vgg': VGG}[name] | fields
  _, params, stats = random_network(name, TASKS, SHAPES[name], **fields)
  return model(name, **fields), params, stats


def imported(path, fields, classifier='smile'):
  tasks = [get_task(task) for task in TASKS]
  return weights.import_weights(path, fields, tasks, SHAPES[fields.name], classifier=classifier)


def exported(path, fields, params, stats, **more):
  weights.export_weights(params, stats, path, fields, classifier='smile', **more)
  return safetensors.numpy.load_file(path)


def same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


@pytest.mark.parametrize(
  ('name', 'fields'),
  [('resnet', {}), ('resnet', {'version': 'v2'}), ('vgg', {}), ('vgg', {'input': 'vggface'})],
)
def test_what_is_written_is_read_again_exactly(name, fields, tmp_path):
  fields, params, stats = network(name, **fields)
  exported(tmp_path / 'a.safetensors', fields, params, stats)
  found = imported(tmp_path / 'a.safetensors', fields)
  assert same(found.params['trunk'], params['trunk'])
  assert same(found.params['heads'], {'smile': params['heads']['smile']})
  assert same(found.stats, stats)
  assert found.kept == ('heads/gender/scores/bias', 'heads/gender/scores/kernel')


def test_names_are_those_of_akamasters_resnet(tmp_path):
  # The state_dict of pytorch_resnet_cifar10, with two blocks a stage.
  fields, params, stats = network('resnet')
  tensors = exported(tmp_path / 'a.safetensors', fields, params, stats)
  norms = ('weight', 'bias', 'running_mean', 'running_var')
  expected = {'conv1.weight', 'linear.weight', 'linear.bias', *(f'bn1.{leaf}' for leaf in norms)}
  for stage in (1, 2, 3):
    for block in (0, 1):
      for number in (1, 2):
        at = f'layer{stage}.{block}'
        expected |= {f'{at}.conv{number}.weight', *(f'{at}.bn{number}.{leaf}' for leaf in norms)}
  assert set(tensors) == expected
  kernel = params['trunk']['stages'][1][0]['first']['conv']['kernel']
  np.testing.assert_array_equal(tensors['layer2.0.conv1.weight'][5, 2, 0, 1], kernel[0, 1, 2, 5])
  # Others call the last layer fc; projections make it another network.
  tensors['fc.weight'], tensors['fc.bias'] = (
    tensors.pop('linear.weight'),
    tensors.pop('linear.bias'),
  )
  safetensors.numpy.save_file(tensors, tmp_path / 'b.safetensors')
  assert same(imported(tmp_path / 'b.safetensors', fields).params['trunk'], params['trunk'])
  tensors['layer2.0.downsample.0.weight'] = np.zeros((7, 4, 1, 1), np.float32)
  safetensors.numpy.save_file(tensors, tmp_path / 'b.safetensors')
  with pytest.raises(UserError, match=r'network: unexpected layer2\.0\.downsample\.0\.weight$'):
    imported(tmp_path / 'b.safetensors', fields)


def test_names_are_those_of_torchvisions_vgg16(tmp_path):
  fields, params, stats = network('vgg')
  tensors = exported(tmp_path / 'a.safetensors', fields, params, stats, format='torch')
  # torchvision's configuration D: places of the convolutions, and of the linear layers.
  places = {*(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
  layers = [*(f'features.{n}' for n in places), *(f'classifier.{n}' for n in (0, 3, 6))]
  assert set(tensors) == {f'{layer}.{leaf}' for layer in layers for leaf in ('weight', 'bias')}
  # PyTorch sees a map [C, H, W] as a vector; ours is [H, W, C] = [2, 3, 8].
  fc6 = np.asarray(params['trunk']['fc6']['kernel'])
  assert fc6.shape == (2, 3, 8, 64)
  assert tensors['classifier.0.weight'].shape == (64, 48)
  x = np.random.default_rng(0).normal(size=(2, 3, 8))
  np.testing.assert_allclose(
    tensors['classifier.0.weight'] @ x.transpose(2, 0, 1).reshape(-1),
    np.einsum('hwc,hwcd->d', x, fc6),
    rtol=1e-4,
    atol=1e-5,
  )
  assert tensors['classifier.3.weight'].shape == (64, 64)
  with pytest.raises(
    UserError, match=r'--format=timm: model vgg: timm has no such; use --format=t'
  ):
    weights.export_weights(params, stats, tmp_path / 'b.safetensors', fields, format='timm')


def test_weights_of_another_image_size_are_refused_by_the_shape(tmp_path):
  fields, params, stats = network('vgg')
  exported(tmp_path / 'a.safetensors', fields, params, stats)
  with pytest.raises(UserError, match=r'trunk/fc6/kernel 48x64, not 1x1x8x64 \(config.model and i'):
    weights.import_weights(
      tmp_path / 'a.safetensors', fields, [get_task('smile')], (32, 32, 3), classifier='smile'
    )


# --- VGG-Face -------------------------------------------------------------------------------------


def vgg_face(conv='conv{}', **fields):
  """(config.model, parameters, the tensors of a conversion of VGG-Face to PyTorch)."""
  fields, params, _ = network('vgg', **{'input': 'vggface'} | fields)
  layers = {name: params['trunk'][name] for name in params['trunk']}
  layers['fc8'] = params['heads']['smile']['scores']
  tensors = {}
  for name, layer in layers.items():
    theirs = name.replace('conv', 'conv_') if conv == 'conv_{}' else name
    kernel = np.asarray(layer['kernel'])
    if kernel.ndim == 4:
      kernel = kernel.transpose(3, 2, 0, 1)
      kernel = kernel if name.startswith('conv') else kernel.reshape(len(kernel), -1)
    else:
      kernel = kernel.T
    tensors[f'{theirs}.weight'] = np.ascontiguousarray(kernel)
    tensors[f'{theirs}.bias'] = np.asarray(layer['bias'])
  return fields, params, tensors


def test_vgg_face_of_pytorch_is_read(tmp_path):
  fields, params, tensors = vgg_face()
  safetensors.numpy.save_file(tensors, tmp_path / 'vgg_face_dag.safetensors')
  found = imported(tmp_path / 'vgg_face_dag.safetensors', fields)
  assert same(found.params['trunk'], params['trunk'])
  assert same(found.params['heads']['smile'], params['heads']['smile'])


def test_vgg_face_of_torch_7_sees_blue_first(tmp_path):
  fields, params, tensors = vgg_face('conv_{}')
  safetensors.numpy.save_file(tensors, tmp_path / 'a.safetensors')
  found = imported(tmp_path / 'a.safetensors', fields, weights.LEAVE).params['trunk']
  assert same(
    {k: v for k, v in found.items() if k != 'conv1_1'},
    {k: v for k, v in params['trunk'].items() if k != 'conv1_1'},
  )
  kernel = np.asarray(params['trunk']['conv1_1']['kernel'])
  np.testing.assert_array_equal(found['conv1_1']['kernel'], kernel[:, :, [2, 1, 0]])


@pytest.mark.parametrize('conv', ['conv{}', 'conv_{}'])
def test_vgg_face_wants_its_own_scale_of_images(conv, tmp_path):
  fields, _, tensors = vgg_face(conv, input='half')
  safetensors.numpy.save_file(tensors, tmp_path / 'a.safetensors')
  with pytest.raises(
    UserError,
    match=r'scaled as vggface, but config.model.input is half; set config.model.input=vggface',
  ):
    imported(tmp_path / 'a.safetensors', fields)


def cells(values):
  found = np.empty((1, len(values)), object)
  found[0] = values
  return found


def mat_layers(params, old=False):
  """The cell array of vgg_face.mat; `old`: as MatConvNet before beta 10 wrote it."""
  layers = []
  for name, layer in (params['trunk'] | {'fc8': params['heads']['smile']['scores']}).items():
    kernel, bias = np.asarray(layer['kernel']), np.asarray(layer['bias'])[:, None]
    kernel = kernel if kernel.ndim == 4 else kernel[None, None]
    arrays = {'filters': kernel, 'biases': bias} if old else {'weights': cells([kernel, bias])}
    layers.append({'name': name, 'type': 'conv', **arrays})
    layers.append({'name': f'relu_{name}', 'type': 'relu'})
  return cells([*layers, {'name': 'prob', 'type': 'softmax'}])


def forms(params):
  """What the two releases look like, and an older one."""
  normal = {'averageImage': MEAN.reshape(1, 1, 3).astype(np.float32), 'imageSize': [224, 224, 3]}
  whole = {'averageImage': np.broadcast_to(MEAN, (4, 4, 3)), 'imageSize': [4, 4, 3]}
  return {
    'matconvnet': {'layers': mat_layers(params), 'meta': {'normalization': normal}},
    'authors': {'net': {'layers': mat_layers(params), 'normalization': normal, 'classes': {}}},
    'old': {'layers': mat_layers(params, old=True), 'normalization': whole},
  }


@pytest.mark.parametrize('form', ['matconvnet', 'authors', 'old'])
def test_vgg_face_of_matconvnet_is_read(form, tmp_path):
  fields, params, _ = vgg_face()
  path = tmp_path / 'vgg_face.mat'
  scipy.io.savemat(path, forms(params)[form], do_compression=True)
  found = imported(path, fields)
  assert same(found.params['trunk'], params['trunk'])
  assert same(found.params['heads']['smile'], params['heads']['smile'])
  assert set(imported(path, fields, weights.LEAVE).left) == {'fc8.weight', 'fc8.bias'}
  with pytest.raises(UserError, match=r'scaled as vggface, but config.model.input is imagenet'):
    imported(path, model('vgg', **VGG, input='imagenet'))


def test_mat_files_that_are_no_vgg_face(tmp_path):
  fields, params, _ = vgg_face()
  path, content = tmp_path / 'a.mat', forms(params)['matconvnet']
  content['meta']['normalization']['averageImage'] = np.array([123.68, 116.779, 103.939])
  scipy.io.savemat(path, content)
  with pytest.raises(
    UserError, match=r'averageImage is \(123.68, 116.78, 103.94\), so .* VGG-Face'
  ):
    imported(path, fields)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match=r'a.mat: is not a complete .mat file'):
    imported(path, fields)
  path.write_bytes(b'MATLAB 7.3 MAT-file, Platform: GLNXA64' + bytes(500))
  with pytest.raises(UserError, match=r"of version 7.3, which is HDF5; save it .* '-v7'"):
    imported(path, fields)
  for wrong in (
    {'x': np.ones(3)},
    {'layers': 'conv'},
    {'layers': cells([{'name': 'a', 'weights': cells(['b', 'c'])}])},
    {'net': {'layers': 3.0}},
  ):
    scipy.io.savemat(path, wrong)
    with pytest.raises(UserError, match=r'expected a network for MatConvNet, such as vgg_face.mat'):
      imported(path, fields)
  scipy.io.savemat(path, {'layers': cells([{'name': 'fc1', 'type': 'relu'}])})
  with pytest.raises(UserError, match='does not match this network: missing'):
    imported(path, fields)


def test_a_mat_file_without_a_mean_and_with_one_class(tmp_path):
  # MATLAB leaves out last dimensions of 1.
  kernel = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
  layer = {'name': 'conv1_1', 'weights': cells([kernel, np.float32(7)])}
  scipy.io.savemat(tmp_path / 'a.mat', {'layers': cells([layer])})
  found = read_torch(tmp_path / 'a.mat')
  np.testing.assert_array_equal(found['conv1_1.weight'], kernel.transpose(2, 0, 1)[None])
  np.testing.assert_array_equal(found['conv1_1.bias'], [7])
