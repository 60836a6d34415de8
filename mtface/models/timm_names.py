"""What timm calls the layers of MobileNet, EfficientNet and RexNet, and how its arrays lie: what
`weights.py` reads and writes by.

timm 1.0 (Wightman, "PyTorch image models"): `mobilenetv1_*`, `efficientnet_b*`, `rexnet_*`. A path
of ours is like `trunk/stages/0/1/expand/conv/kernel`.
"""

from __future__ import annotations

import re

import numpy as np

CLASSIFIERS = {'mobilenet': 'classifier', 'efficientnet': 'classifier', 'rexnet': 'head.fc'}
# Tensors of PyTorch that count something, and that no network computes with.
IGNORED = re.compile(r'(^|\.)num_batches_tracked$')

_BLOCK = r'trunk/stages/(\d+)/(\d+)'
_LAYERS: dict[str, tuple[tuple[str, str], ...]] = {  # the first that matches counts
  'mobilenet': (
    (r'trunk/stem/conv', 'conv_stem'),
    (r'trunk/stem/norm', 'bn1'),
    (_BLOCK + '/depthwise/conv', r'blocks.\1.\2.conv_dw'),
    (_BLOCK + '/depthwise/norm', r'blocks.\1.\2.bn1'),
    (_BLOCK + '/pointwise/conv', r'blocks.\1.\2.conv_pw'),
    (_BLOCK + '/pointwise/norm', r'blocks.\1.\2.bn2'),
  ),
  'efficientnet': (
    (r'trunk/stem/conv', 'conv_stem'),
    (r'trunk/stem/norm', 'bn1'),
    # The first stage expands nothing, and timm counts the normalisations of a block.
    (r'trunk/stages/0/(\d+)/depthwise/norm', r'blocks.0.\1.bn1'),
    (r'trunk/stages/0/(\d+)/project/conv', r'blocks.0.\1.conv_pw'),
    (r'trunk/stages/0/(\d+)/project/norm', r'blocks.0.\1.bn2'),
    (_BLOCK + '/expand/conv', r'blocks.\1.\2.conv_pw'),
    (_BLOCK + '/expand/norm', r'blocks.\1.\2.bn1'),
    (_BLOCK + '/depthwise/conv', r'blocks.\1.\2.conv_dw'),
    (_BLOCK + '/depthwise/norm', r'blocks.\1.\2.bn2'),
    (_BLOCK + '/squeeze/(reduce|expand)', r'blocks.\1.\2.se.conv_\3'),
    (_BLOCK + '/project/conv', r'blocks.\1.\2.conv_pwl'),
    (_BLOCK + '/project/norm', r'blocks.\1.\2.bn3'),
    (r'trunk/top/conv', 'conv_head'),
    (r'trunk/top/norm', 'bn2'),
  ),
  'rexnet': (
    (r'trunk/stem/conv', 'stem.conv'),
    (r'trunk/stem/norm', 'stem.bn'),
    (r'trunk/blocks/(\d+)/squeeze/reduce', r'features.\1.se.fc1'),
    (r'trunk/blocks/(\d+)/squeeze/norm', r'features.\1.se.bn'),
    (r'trunk/blocks/(\d+)/squeeze/expand', r'features.\1.se.fc2'),
    (r'trunk/blocks/(\d+)/expand/conv', r'features.\1.conv_exp.conv'),
    (r'trunk/blocks/(\d+)/expand/norm', r'features.\1.conv_exp.bn'),
    (r'trunk/blocks/(\d+)/depthwise/conv', r'features.\1.conv_dw.conv'),
    (r'trunk/blocks/(\d+)/depthwise/norm', r'features.\1.conv_dw.bn'),
    (r'trunk/blocks/(\d+)/project/conv', r'features.\1.conv_pwl.conv'),
    (r'trunk/blocks/(\d+)/project/norm', r'features.\1.conv_pwl.bn'),
    (r'trunk/top/conv', 'features.16.conv'),
    (r'trunk/top/norm', 'features.16.bn'),
  ),
}
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def timm_name(model: str, path: str) -> str:
  """The name in timm of a parameter or statistic of a trunk of ours."""
  layer, _, leaf = path.rpartition('/')
  for pattern, name in _LAYERS[model]:
    if found := re.fullmatch(pattern, layer):
      return f'{found.expand(name)}.{_LEAVES[leaf]}'
  raise ValueError(f'{model}: no layer of timm is known for {path}')


def classifier_names(model: str) -> dict[str, str]:
  """{'kernel': name, 'bias': name} of the last linear layer."""
  return {leaf: f'{CLASSIFIERS[model]}.{_LEAVES[leaf]}' for leaf in ('kernel', 'bias')}


def to_torch(array: np.ndarray) -> np.ndarray:
  """A kernel [k, k, C, D] as PyTorch has it, [D, C, k, k]; a linear layer's [C, D] as [D, C]; a
  vector as it is.
  """
  return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


def from_torch(array: np.ndarray) -> np.ndarray:
  """The other way round."""
  return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)
