"""The networks once more, in NumPy and float64, from the papers' tables: what a test compares
the whole of ours with.

Trees of parameters and statistics are ours; nothing else is. In training `Norms` takes a batch's
own statistics and writes the new running ones into the tree of statistics.
"""

import numpy as np
from scipy import special


def relu(x):
  return np.maximum(x, 0)


def relu6(x):
  return np.clip(x, 0, 6)


def silu(x):
  return x * special.expit(x)


def windows(x, size, stride):
  """[B, H', W', C, size, size]: what a kernel sees, size // 2 zeros around the image."""
  half = size // 2
  padded = np.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[
    :, ::stride, ::stride
  ]


def conv(x, kernel, stride=1):
  return np.einsum('bhwcij,ijcd->bhwd', windows(x, len(kernel), stride), kernel)


def depthwise(x, kernel, stride):
  return np.einsum('bhwcij,ijc->bhwc', windows(x, len(kernel), stride), kernel[:, :, 0])


class Norms:
  """Batch normalisations of a network, in evaluation or in training (Ioffe & Szegedy 2015);
  momentum 0.9, epsilon 1e-5.
  """

  def __init__(self, train, unbiased):
    self.train, self.unbiased = train, unbiased

  def __call__(self, x, params, stats):
    mean, var = stats['mean'], stats['var']
    if self.train:
      flat = x.reshape(-1, x.shape[-1])
      mean, var = flat.mean(0), flat.var(0)
      stats['mean'] = 0.9 * stats['mean'] + 0.1 * mean
      stats['var'] = 0.9 * stats['var'] + 0.1 * (flat.var(0, ddof=1) if self.unbiased else var)
    return (x - mean) / np.sqrt(var + 1e-5) * params['scale'] + params['bias']


def bknet(params, stats, x, norms, *, join=False):
  """{task: scores} (Sang 2017, figure 3; with `join` Rohani 2023, figure 2)."""
  blocks = []
  for b in range(4):
    block, kept = params['blocks'][b], stats['blocks'][b]
    for c in range(len(block['convolutions'])):
      layer = block['convolutions'][c]
      x = relu(norms(conv(x, layer['kernel']) + layer['bias'], block['norms'][c], kept['norms'][c]))
    x = pool(x)
    blocks.append(x)
  if join:
    x = np.concatenate([x, pool(pool(pool(blocks[0])))], -1)
  return branches(params['branches'], stats['branches'], x.reshape(len(x), -1), norms)


def branches(params, stats, x, norms):
  """{task: scores} from features: hidden layers with normalisation (Sang 2017, section 3.1)."""
  scores = {}
  for task, branch in params.items():
    y = x
    for i in range(len(branch['hidden'])):
      dense, norm = branch['hidden'][i], (branch['norms'][i], stats[task]['norms'][i])
      y = relu(norms(y @ dense['kernel'] + dense['bias'], *norm))
    scores[task] = y @ branch['scores']['kernel'] + branch['scores']['bias']
  return scores


def pool(x):
  b, h, w, c = x.shape
  return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


def conv_norm(x, params, stats, norms, activation, stride=1, convolve=conv):
  return activation(
    norms(convolve(x, params['conv']['kernel'], stride), params['norm'], stats['norm'])
  )


def heads(params, x):
  """{task: scores} from a trunk's last map; hidden layers are of ReLUs."""
  found = {}
  for task, head in params['heads'].items():
    y = x.mean((1, 2))
    for i in range(len(head.get('hidden', ()))):
      y = relu(y @ head['hidden'][i]['kernel'] + head['hidden'][i]['bias'])
    found[task] = y @ head['scores']['kernel'] + head['scores']['bias']
  return found


def mobilenet(params, stats, x, norms, strides):
  """Howard et al. 2017, Table 1; `strides`: those of each stage's first block."""
  trunk, kept = params['trunk'], stats['trunk']
  x = conv_norm(x, trunk['stem'], kept['stem'], norms, relu6, 2)
  for s, first in enumerate(strides):
    for b in range(len(trunk['stages'][s])):
      block, own = trunk['stages'][s][b], kept['stages'][s][b]
      x = conv_norm(
        x, block['depthwise'], own['depthwise'], norms, relu6, 1 if b else first, depthwise
      )
      x = conv_norm(x, block['pointwise'], own['pointwise'], norms, relu6)
  return heads(params, x)


def efficientnet(params, stats, x, norms, strides):
  """Tan & Le 2019, Table 1; `strides`: those of each stage's first block."""
  trunk, kept = params['trunk'], stats['trunk']
  x = conv_norm(x, trunk['stem'], kept['stem'], norms, silu, 2)
  for s, first in enumerate(strides):
    for b in range(len(trunk['stages'][s])):
      block, own, stride, before = trunk['stages'][s][b], kept['stages'][s][b], 1 if b else first, x
      if 'expand' in block:
        x = conv_norm(x, block['expand'], own['expand'], norms, silu)
      x = conv_norm(x, block['depthwise'], own['depthwise'], norms, silu, stride, depthwise)
      squeeze = block['squeeze']
      y = silu(
        conv(x.mean((1, 2), keepdims=True), squeeze['reduce']['kernel']) + squeeze['reduce']['bias']
      )
      x = x * special.expit(conv(y, squeeze['expand']['kernel']) + squeeze['expand']['bias'])
      x = conv_norm(x, block['project'], own['project'], norms, lambda x: x)
      x = x + before if stride == 1 and x.shape == before.shape else x
  return heads(params, conv_norm(x, trunk['top'], kept['top'], norms, silu))


def rexnet(params, stats, x, norms, strides):
  """Han et al. 2021 and its authors' code; `strides`: of each block."""
  trunk, kept = params['trunk'], stats['trunk']
  x = conv_norm(x, trunk['stem'], kept['stem'], norms, silu, 2)
  for b, stride in enumerate(strides):
    block, own, before = trunk['blocks'][b], kept['blocks'][b], x
    if 'expand' in block:
      x = conv_norm(x, block['expand'], own['expand'], norms, silu)
    x = conv_norm(x, block['depthwise'], own['depthwise'], norms, lambda x: x, stride, depthwise)
    if 'squeeze' in block:
      squeeze = block['squeeze']
      y = (
        conv(x.mean((1, 2), keepdims=True), squeeze['reduce']['kernel']) + squeeze['reduce']['bias']
      )
      y = relu(norms(y, squeeze['norm'], own['squeeze']['norm']))
      x = x * special.expit(conv(y, squeeze['expand']['kernel']) + squeeze['expand']['bias'])
    x = conv_norm(relu6(x), block['project'], own['project'], norms, lambda x: x)
    if stride == 1 and x.shape[-1] >= before.shape[-1]:
      x[..., : before.shape[-1]] += before
  return heads(params, conv_norm(x, trunk['top'], kept['top'], norms, silu))


def shorter(x, channels):
  """He et al. 2015, section 3.3, option A: half of the new channels of zeros on each side."""
  stride = 1 if x.shape[-1] == channels else 2
  y = np.zeros((*x[:, ::stride, ::stride].shape[:3], channels))
  before = (channels - x.shape[-1]) // 2
  y[..., before : before + x.shape[-1]] = x[:, ::stride, ::stride]
  return y


def resnet(params, stats, x, norms):
  """He et al. 2015, section 4.2, with a branch for heads."""
  trunk, kept = params['trunk'], stats['trunk']
  x = conv_norm(x, trunk['stem'], kept['stem'], norms, relu)
  for s in range(3):
    for b in range(len(trunk['stages'][s])):
      block, own = trunk['stages'][s][b], kept['stages'][s][b]
      y = conv_norm(x, block['first'], own['first'], norms, relu, 2 if s and not b else 1)
      y = conv_norm(y, block['second'], own['second'], norms, lambda x: x)
      x = relu(y + shorter(x, y.shape[-1]))
  return branches(params['heads'], stats['heads'], x.mean((1, 2)), norms)


def resnet_v2(params, stats, x, norms):
  """He et al. 2016, figure 1b and appendix."""
  trunk, kept = params['trunk'], stats['trunk']
  x = conv(x, trunk['stem']['kernel'])
  for s in range(3):
    for b in range(len(trunk['stages'][s])):
      block, own = trunk['stages'][s][b], kept['stages'][s][b]
      y = relu(norms(x, block['first']['norm'], own['first']['norm']))
      x = y if s == b == 0 else x
      y = conv(y, block['first']['conv']['kernel'], 2 if s and not b else 1)
      y = relu(norms(y, block['second']['norm'], own['second']['norm']))
      y = conv(y, block['second']['conv']['kernel'])
      x = y + shorter(x, y.shape[-1])
  x = relu(norms(x, trunk['norm'], kept['norm']))
  return heads(params, x)


def vgg(params, x):
  """Zhang 2016, Table 1, without dropout."""
  trunk = params['trunk']
  for number, layers in enumerate((2, 2, 3, 3, 3), 1):
    for layer in range(1, layers + 1):
      weights = trunk[f'conv{number}_{layer}']
      x = relu(conv(x, weights['kernel']) + weights['bias'])
    x = pool(x)
  for name in ('fc6', 'fc7'):  # over all pixels of what is left
    x = relu(np.einsum('bhwc,hwcd->bd', x, trunk[name]['kernel']) + trunk[name]['bias'])
    x = x[:, None, None]
  return heads(params, x)
