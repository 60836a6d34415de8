"""What other programs call the layers of our networks, and how their arrays lie: what `weights.py`
reads and writes by. A path of ours is like `trunk/stages/0/1/expand/conv/kernel`.

    mobilenet, efficientnet, rexnet
              timm 1.0 (Wightman, "PyTorch image models"): `mobilenetv1_*`, `efficientnet_b*`,
              `rexnet_*`
    resnet    akamaster/pytorch_resnet_cifar10, images as `imagenet`; the last layer may be `fc` too
    vgg       torchvision's `vgg16`, images as `imagenet`; VGG-Face (Parkhi 2015), images as
              `vggface`: from MatConvNet (`matconvnet.py`), its conversion `vgg_face_dag` (Albanie),
              or from Torch 7 (prlz77/vgg-face.pytorch), which wants blue, green and red

ResNets with projections (`downsample`, "option B") are other networks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

# Tensors of PyTorch that count something, and that no network computes with.
IGNORED = re.compile(r'(^|\.)num_batches_tracked$')

_BLOCK = r'trunk/stages/(\d+)/(\d+)'
_TIMM: dict[str, tuple[tuple[str, str], ...]] = {  # the first that matches counts
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
# v2 has its first normalisation in the first block, and its last one behind all blocks.
_RESNET = (
  (r'trunk/stem(?:/conv)?', 'conv1'),
  (r'trunk/stem/norm', 'bn1'),
  (r'trunk/norm', 'bn'),
  *(
    (rf'trunk/stages/{stage}/(\d+)/{ours}/{kind}', rf'layer{stage + 1}.\1.{theirs}{number}')
    for stage in range(3)
    for number, ours in enumerate(('first', 'second'), 1)
    for kind, theirs in (('conv', 'conv'), ('norm', 'bn'))
  ),
)
_CONVOLUTIONS = (2, 2, 3, 3, 3)  # of each block of VGG-16
# A convolution takes two places, itself and its ReLU, and a pool one.
_TORCHVISION = (
  *(
    (
      f'trunk/conv{block}_{layer + 1}',
      f'features.{2 * (sum(_CONVOLUTIONS[: block - 1]) + layer) + block - 1}',
    )
    for block, layers in enumerate(_CONVOLUTIONS, 1)
    for layer in range(layers)
  ),
  ('trunk/fc6', 'classifier.0'),
  ('trunk/fc7', 'classifier.3'),
)
_VGGFACE = ((r'trunk/(conv\d_\d|fc\d)', r'\1'),)
_TORCH7 = ((r'trunk/conv(\d_\d)', r'conv_\1'), (r'trunk/(fc\d)', r'\1'))
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


@dataclasses.dataclass(frozen=True)
class Naming:
  """What a program calls the layers of a network.

  Attributes:
    program: whose names these are.
    layers: (pattern of our paths, their name); the first that matches counts.
    classifier: their name of the last linear layer.
    input: the scale of images that weights with such names expect (`backbone.INPUTS`); '' if it is
      not known.
    reversed_colours: our kernel whose input channels are blue, green, red there; '' for none.
    flat: pattern of our kernels over a whole map that are linear layers there.
  """

  program: str
  layers: Sequence[tuple[str, str]]
  classifier: str
  input: str = ''
  reversed_colours: str = ''
  flat: str = r'trunk/fc\d/kernel'

  def name(self, path: str) -> str:
    """Their name of a parameter or statistic of a trunk of ours."""
    layer, _, leaf = path.rpartition('/')
    for pattern, name in self.layers:
      if found := re.fullmatch(pattern, layer):
        return f'{found.expand(name)}.{_LEAVES[leaf]}'
    raise ValueError(f'{self.program}: no layer is known for {path}')

  def last(self) -> dict[str, str]:
    """{'kernel': name, 'bias': name} of the last linear layer."""
    return {leaf: f'{self.classifier}.{_LEAVES[leaf]}' for leaf in ('kernel', 'bias')}


# By network; files are written by the first.
NAMINGS: Mapping[str, tuple[Naming, ...]] = {
  'mobilenet': (Naming('timm', _TIMM['mobilenet'], 'classifier'),),
  'efficientnet': (Naming('timm', _TIMM['efficientnet'], 'classifier'),),
  'rexnet': (Naming('timm', _TIMM['rexnet'], 'head.fc'),),
  'resnet': (Naming('akamaster', _RESNET, 'linear'), Naming('akamaster', _RESNET, 'fc')),
  'vgg': (
    Naming('torchvision', _TORCHVISION, 'classifier.6'),
    Naming('VGG-Face', _VGGFACE, 'fc8', 'vggface'),
    Naming('VGG-Face of Torch 7', _TORCH7, 'fc8', 'vggface', 'trunk/conv1_1/kernel'),
  ),
}


def to_torch(array: np.ndarray, flat: bool = False) -> np.ndarray:
  """A kernel [h, w, C, D] as PyTorch has it, [D, C, h, w], or `flat` [D, C * h * w]; a linear
  layer's [C, D] as [D, C]; a vector as it is.
  """
  kernel = np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
  return kernel.reshape(len(kernel), -1) if flat else kernel


def from_torch(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """The other way round, for a parameter of ours of a `shape`: a linear layer may be a convolution
  over the whole map, and a convolution a linear layer. An array of another size is left for the
  caller to refuse.
  """
  if array.ndim == 2 and len(shape) == 4 and array.size == np.prod(shape):
    array = array.reshape(shape[3], shape[2], *shape[:2])
  elif array.ndim == 4 and len(shape) == 2 and array.shape[2:] == (1, 1):
    array = array[:, :, 0, 0]
  return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)
