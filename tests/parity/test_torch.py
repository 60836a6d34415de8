"""Our ResNets and VGG-16 against the same in plain PyTorch, with the same weights: scores,
gradients, and what one step of SGD leaves.

`make test-parity` runs these in an environment of their own, which has PyTorch; elsewhere they are
skipped. The modules here have the names of those that weights come from: akamaster's ResNet and
torchvision's vgg16.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtface.config.schema import model
from mtface.models.network import abstract_network
from mtface.models.weight_files import read_torch
from mtface.models.weights import export_weights, import_weights, overlaid
from mtface.tasks import get_task

torch = pytest.importorskip('torch', reason='PyTorch is not installed: make test-parity')
nn, functional = torch.nn, torch.nn.functional

CLASSES = 8
TASK = get_task('emotion8')
BATCH = 16


def convolution(a, b, stride=1):
  return nn.Conv2d(a, b, 3, stride, 1, bias=False)


class Block(nn.Module):
  """He et al. 2015, figure 2; `first` of the network for He et al. 2016, figure 1b."""

  def __init__(self, a, b, stride, version, first):
    super().__init__()
    self.version, self.first, self.more = version, first, b - a
    self.conv1, self.conv2 = convolution(a, b, stride), convolution(b, b)
    self.bn1, self.bn2 = nn.BatchNorm2d(b if version == 'v1' else a), nn.BatchNorm2d(b)
    self.stride = stride

  def shortcut(self, x):
    x = x[:, :, :: self.stride, :: self.stride]
    return functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))

  def forward(self, x):
    if self.version == 'v1':
      y = functional.relu(self.bn1(self.conv1(x)))
      return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
    y = functional.relu(self.bn1(x))
    x = y if self.first else x
    y = functional.relu(self.bn2(self.conv1(y)))
    return self.conv2(y) + self.shortcut(x)


class ResNet(nn.Module):
  def __init__(self, depth, version, width, channels):
    super().__init__()
    self.version, a = version, round(16 * width)
    self.conv1 = convolution(channels, a)
    if version == 'v1':
      self.bn1 = nn.BatchNorm2d(a)
    for stage in (1, 2, 3):
      blocks = []
      for i in range((depth - 2) // 6):
        b = round(8 * 2**stage * width)
        stride = 2 if stage > 1 and i == 0 else 1
        blocks.append(Block(a, b, stride, version, stage == 1 and i == 0))
        a = b
      setattr(self, f'layer{stage}', nn.Sequential(*blocks))
    if version == 'v2':
      self.bn = nn.BatchNorm2d(a)
    self.linear = nn.Linear(a, CLASSES)

  def forward(self, x):
    x = self.conv1(x)
    x = functional.relu(self.bn1(x)) if self.version == 'v1' else x
    x = self.layer3(self.layer2(self.layer1(x)))
    x = x if self.version == 'v1' else functional.relu(self.bn(x))
    return self.linear(x.mean((2, 3)))


class VGG(nn.Module):
  def __init__(self, size, width, channels):
    super().__init__()
    layers, c = [], channels
    for d in (64, 64, 'M', 128, 128, 'M', *[256] * 3, 'M', *[512] * 3, 'M', *[512] * 3, 'M'):
      if d == 'M':
        layers.append(nn.MaxPool2d(2))
      else:
        layers += [nn.Conv2d(c, round(d * width), 3, padding=1), nn.ReLU()]
        c = round(d * width)
    self.features, features = nn.Sequential(*layers), round(4096 * width)
    flat, drop = c * (size[0] // 32) * (size[1] // 32), nn.Dropout(0.0)
    self.classifier = nn.Sequential(
      *(nn.Linear(flat, features), nn.ReLU(), drop),
      *(nn.Linear(features, features), nn.ReLU(), drop),
      nn.Linear(features, CLASSES),
    )

  def forward(self, x):
    return self.classifier(self.features(x).flatten(1))


# (config.model, image size, theirs)
KINDS = {
  'resnet v1': (
    ('resnet', {'depth': 14, 'width': 0.5}),
    (19, 24),
    lambda: ResNet(14, 'v1', 0.5, 3),
  ),
  'resnet v2': (
    ('resnet', {'depth': 14, 'width': 0.5, 'version': 'v2'}),
    (19, 24),
    lambda: ResNet(14, 'v2', 0.5, 3),
  ),
  'resnet-110': (('resnet', {'depth': 110}), (32, 32), lambda: ResNet(110, 'v1', 1.0, 3)),
  'vgg': (('vgg', {'width': 1 / 16}), (64, 96), lambda: VGG((64, 96), 1 / 16, 3)),
  'vgg-16': (('vgg', {}), (32, 32), lambda: VGG((32, 32), 1.0, 3)),
}
SMALL = ('resnet v1', 'resnet v2', 'vgg')


def randomised(theirs):
  """Weights at the scale that keeps signals alive, and random affine parameters and statistics."""
  draw = torch.Generator().manual_seed(1)
  with torch.no_grad():
    for layer in theirs.modules():
      if isinstance(layer, nn.Conv2d | nn.Linear):
        fan = layer.weight[0].numel()
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw) * (2 / fan) ** 0.5)
      if isinstance(layer, nn.BatchNorm2d):
        for tensor in (layer.weight, layer.running_var):
          tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
      for tensor in (getattr(layer, 'bias', None), getattr(layer, 'running_mean', None)):
        if isinstance(tensor, torch.Tensor):
          tensor.copy_(0.1 * torch.randn(tensor.shape, generator=draw))
  return theirs


def pair(kind, folder):
  """(config.model, network, parameters, statistics, theirs, image size)."""
  (name, fields), size, make = KINDS[kind]
  fields, theirs = model(name, **{'dropout': 0.0} | fields), randomised(make())
  torch.save(theirs.state_dict(), folder / 'theirs.pth')
  shape = (*size, 3)
  network, params, stats = abstract_network(fields, [TASK], shape)
  found = import_weights(folder / 'theirs.pth', fields, [TASK], shape, classifier=TASK.name)
  assert not found.kept
  whole = overlaid(params, found.params), overlaid(stats, found.stats)
  return fields, network, *whole, theirs, size


def images(size):
  return np.random.default_rng(2).uniform(-1, 1, (BATCH, *size, 3)).astype(np.float32)


def to_torch(x):
  return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def distance(actual, expected):
  """Of two dictionaries of arrays, as a share of the second's length."""
  off = sum(((actual[k] - np.asarray(v)) ** 2).sum() for k, v in expected.items())
  return np.sqrt(off / sum((np.asarray(v) ** 2).sum() for v in expected.values()))


@pytest.mark.parametrize('kind', KINDS)
def test_scores_are_pytorchs(kind, tmp_path):
  _, network, params, stats, theirs, size = pair(kind, tmp_path)
  x = images(size)
  with torch.no_grad():
    expected = theirs.eval()(to_torch(x)).numpy()
  assert expected.std() > 0.01  # or all of this would compare zeros
  scores = jax.jit(network.scores)(params, stats, x)[TASK.name]
  np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('kind', SMALL)
def test_gradients_and_a_step_are_pytorchs(kind, tmp_path):
  """In training: the gradient is as near to double precision as PyTorch's, and so are parameters
  and statistics after a step of SGD with momentum.
  """
  fields, network, params, stats, theirs, size = pair(kind, tmp_path)
  x, labels = images(size), np.arange(BATCH) % CLASSES

  def loss(params, stats):
    scores, new = network.train_scores(params, stats, x, jax.random.key(0))
    return -jax.nn.log_softmax(scores[TASK.name])[jnp.arange(BATCH), labels].mean(), new

  grads, new = jax.jit(jax.grad(loss, has_aux=True))(params, stats)
  optimizer = optax.sgd(0.1, momentum=0.9)
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  files = {'gradients': (grads, stats), 'after': (optax.apply_updates(params, updates), new)}
  ours = {}
  for name, trees in files.items():
    export_weights(*trees, tmp_path / f'{name}.safetensors', fields, classifier=TASK.name)
    ours[name] = read_torch(tmp_path / f'{name}.safetensors')

  found = []
  for dtype in (torch.float64, torch.float32):
    theirs.load_state_dict(torch.load(tmp_path / 'theirs.pth'))
    theirs.to(dtype).train()
    sgd = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    sgd.zero_grad()
    functional.cross_entropy(theirs(to_torch(x).to(dtype)), torch.from_numpy(labels)).backward()
    gradients = {name: p.grad.numpy().copy() for name, p in theirs.named_parameters()}
    sgd.step()
    after = {k: v.numpy().copy() for k, v in theirs.state_dict().items() if 'num_' not in k}
    found.append({'gradients': gradients, 'after': after})
  exact, single = found
  assert set(ours['after']) == set(exact['after'])
  for name in files:
    allowed = max(3 * distance(single[name], exact[name]), 1e-5)
    assert distance(ours[name], exact[name]) < allowed, name
  before = {k: v.numpy() for k, v in torch.load(tmp_path / 'theirs.pth').items()}
  assert distance(before, exact['after']) > 1e-3  # or nothing would have been compared


@pytest.mark.parametrize('kind', SMALL)
def test_pytorch_loads_what_we_export_strictly(kind, tmp_path):
  import safetensors.torch

  fields, _, params, stats, theirs, _ = pair(kind, tmp_path)
  export_weights(params, stats, tmp_path / 'a.safetensors', fields, classifier=TASK.name)
  again = KINDS[kind][2]()
  missing = again.load_state_dict(safetensors.torch.load_file(tmp_path / 'a.safetensors'), False)
  assert all('num_batches_tracked' in name for name in missing.missing_keys)
  assert not missing.unexpected_keys
  original = theirs.state_dict()
  for key, tensor in again.state_dict().items():
    if not key.endswith('num_batches_tracked'):
      assert torch.equal(tensor, original[key]), key
