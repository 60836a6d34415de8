"""Our backbones against timm's, with the same random weights: scores, statistics after one training
step, and files both ways.

`make test-parity` runs these in an environment of their own, which has PyTorch and timm; elsewhere
they are skipped.
"""

import jax
import numpy as np
import pytest

from mtface.config.schema import model
from mtface.models.network import abstract_network
from mtface.models.weight_files import read_torch
from mtface.models.weights import export_weights, import_weights, overlaid
from mtface.tasks import get_task

torch = pytest.importorskip('torch', reason='PyTorch is not installed: make test-parity')
timm = pytest.importorskip('timm', reason='timm is not installed: make test-parity')

TIMM = {'mobilenet': 'mobilenetv1_100', 'efficientnet': 'efficientnet_b0', 'rexnet': 'rexnet_150'}
CLASSES = 8
TASK = get_task('emotion8')


def config(name, **fields):
  return model(name, dropout=0.0, **({} if name == 'mobilenet' else {'drop_path': 0.0}), **fields)


def randomised(name, num_classes=CLASSES):
  """timm's network with random affine parameters and statistics too, at the scale that keeps
  signals alive.
  """
  torch.manual_seed(0)
  found = timm.create_model(name, num_classes=num_classes, drop_rate=0.0)
  draw = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for layer in found.modules():
      if isinstance(layer, torch.nn.BatchNorm2d):
        for tensor in (layer.weight, layer.running_var):
          tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
        for tensor in (layer.bias, layer.running_mean):
          tensor.copy_(0.3 * torch.randn(tensor.shape, generator=draw))
  return found


@pytest.fixture(scope='module', params=list(TIMM))
def pair(request, tmp_path_factory):
  """(our network's name, timm's network, the file with its weights)."""
  theirs = randomised(TIMM[request.param])
  path = tmp_path_factory.mktemp('weights') / f'{request.param}.pth'
  torch.save(theirs.state_dict(), path)
  return request.param, theirs, path


def imported(name, path, shape, **fields):
  network, params, stats = abstract_network(config(name, **fields), [TASK], shape)
  found = import_weights(path, config(name), [TASK], shape, classifier=TASK.name)
  assert not found.kept
  return network, overlaid(params, found.params), overlaid(stats, found.stats)


def images(height, width, batch):
  return np.random.default_rng(2).uniform(-1, 1, (batch, height, width, 3)).astype(np.float32)


def to_timm(x):
  return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def close(actual, expected, tolerance=1e-4):
  """Within a share of the largest."""
  expected = np.asarray(expected)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize('size', [(224, 224), (97, 113)])
def test_scores_and_features_are_timms(pair, size):
  name, theirs, path = pair
  network, params, stats = imported(name, path, (*size, 3))
  x = images(*size, batch=2)
  theirs.eval()
  with torch.no_grad():
    maps = theirs.forward_features(to_timm(x))
    expected, features = theirs.forward_head(maps), theirs.forward_head(maps, pre_logits=True)
  assert features.std() > 0.01  # or all of this would compare zeros
  ours = jax.jit(
    lambda x: (network.scores(params, stats, x)[TASK.name], network.features(params, stats, x))
  )
  scores, found = ours(x)
  close(scores, expected)
  close(found, features)


@pytest.mark.parametrize(('size', 'batch'), [((224, 224), 4), ((97, 113), 8)])
def test_statistics_after_a_training_step_are_timms(pair, size, batch, tmp_path):
  name, _, path = pair
  network, params, stats = imported(name, path, (*size, 3))
  theirs = timm.create_model(TIMM[name], num_classes=CLASSES, drop_rate=0.0)
  theirs.load_state_dict(torch.load(path))
  x = images(*size, batch)
  with torch.no_grad():
    expected = theirs.train()(to_timm(x))
  scores, new = jax.jit(network.train_scores)(params, stats, x, jax.random.key(0))
  close(
    scores[TASK.name], expected, 1e-3
  )  # through the normalisation of a few samples' squeezed values
  export_weights(params, new, tmp_path / 'after.safetensors', config(name), classifier=TASK.name)
  found, wanted = read_torch(tmp_path / 'after.safetensors'), theirs.state_dict()
  statistics = [key for key in wanted if 'running_' in key]
  assert len(statistics) > 50
  for key in statistics:
    close(found[key], wanted[key].numpy())


def torch_gradients(theirs, x, labels):
  """{name: gradient} of the mean cross-entropy in training, in the precision of the network."""
  dtype = next(theirs.parameters()).dtype
  scores = theirs.train()(to_timm(x).to(dtype))
  torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels)).backward()
  return {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}


def test_gradients_are_as_near_to_double_precision_as_timms(pair, tmp_path):
  name, _, path = pair
  x, labels = images(97, 113, 8), np.arange(8) % CLASSES
  network, params, stats = imported(name, path, (97, 113, 3))

  def loss(params, stats):
    scores, _ = network.train_scores(params, stats, x, jax.random.key(0))
    return -jax.nn.log_softmax(scores[TASK.name])[np.arange(8), labels].mean()

  gradients = jax.device_get(jax.jit(jax.grad(loss))(params, stats))
  export_weights(
    gradients, stats, tmp_path / 'gradients.safetensors', config(name), classifier=TASK.name
  )
  ours = read_torch(tmp_path / 'gradients.safetensors')
  found = []
  for precision in (torch.float64, torch.float32):
    theirs = timm.create_model(TIMM[name], num_classes=CLASSES, drop_rate=0.0)
    theirs.load_state_dict(torch.load(path))
    found.append(torch_gradients(theirs.to(precision), x, labels))
  exact, single = found

  def error(
    of,
  ):  # of the whole gradient; single arrays of float32 may be off by a tenth, in PyTorch too
    off = sum(((of[key] - exact[key]) ** 2).sum() for key in exact)
    return np.sqrt(off / sum((value**2).sum() for value in exact.values()))

  assert error(ours) < max(3 * error(single), 1e-4)


def test_bfloat16_stays_near(pair):
  name, theirs, path = pair
  network, params, stats = imported(name, path, (97, 113, 3), dtype='bfloat16')
  x = images(97, 113, batch=2)
  with torch.no_grad():
    expected = theirs.eval()(to_timm(x)).numpy()
  close(jax.jit(network.scores)(params, stats, x)[TASK.name], expected, 0.1)


def test_timm_loads_what_we_export_strictly(pair, tmp_path):
  import safetensors.torch

  name, theirs, path = pair
  _, params, stats = imported(name, path, (64, 64, 3))
  for classifier, classes in ((TASK.name, CLASSES), (None, 0)):
    export_weights(
      params, stats, tmp_path / 'ours.safetensors', config(name), classifier=classifier
    )
    again = timm.create_model(TIMM[name], num_classes=classes)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / 'ours.safetensors'), strict=True)
    original = theirs.state_dict()
    for key, tensor in again.state_dict().items():
      if not key.endswith('num_batches_tracked'):
        assert torch.equal(tensor, original[key]), key


def test_a_pickled_module_is_not_loaded(pair, tmp_path):
  from mtface.errors import UserError

  torch.save(pair[1], tmp_path / 'module.pt')
  with pytest.raises(UserError, match=r'contains more than tensors'):
    read_torch(tmp_path / 'module.pt')


# Tan & Le 2019, Table 2, gives 7.8, 9.2, 12, 19, 30, 43, 66 M with 1000 classes, in fewer digits
# than a wrong channel would change.
@pytest.mark.parametrize('number', range(1, 8))
def test_the_family_of_efficientnet_has_timms_parameters(number):
  widths, depths = (1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0), (1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1)
  fields = model('efficientnet', width=widths[number - 1], depth=depths[number - 1])
  _, params, _ = abstract_network(fields, [], (224, 224, 3))
  with torch.device('meta'):
    theirs = timm.create_model(f'efficientnet_b{number}', num_classes=0)
  assert sum(x.size for x in jax.tree.leaves(params)) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
  ('name', 'theirs', 'width'),
  [
    ('rexnet', 'rexnet_100', 1.0),
    ('rexnet', 'rexnet_130', 1.3),
    ('rexnet', 'rexnet_200', 2.0),
    ('rexnet', 'rexnet_300', 3.0),
    ('mobilenet', 'mobilenetv1_125', 1.25),
  ],
)
def test_other_widths_have_timms_parameters(name, theirs, width):
  _, params, _ = abstract_network(model(name, width=width), [], (224, 224, 3))
  with torch.device('meta'):
    found = timm.create_model(theirs, num_classes=0)
  assert sum(x.size for x in jax.tree.leaves(params)) == sum(p.numel() for p in found.parameters())
