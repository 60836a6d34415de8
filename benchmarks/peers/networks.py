"""BKNet and EfficientNet-B0 in plain PyTorch, with the names of our paths, so that weights and
gradients are compared by name: `blocks/0/norms/1/scale` is `blocks.0.norms.1.weight`.

Both take images float [B, C, H, W], in any memory format, and give {task: scores [B, classes]}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BLOCKS = ((32, 32), (64, 64), (128, 128), (256, 256, 256))  # Sang 2017, section 3
# Tan & Le 2019, Table 1: expansion, channels, blocks, stride of the first, kernel size.
STAGES = (
  (1, 16, 1, 1, 3),
  (6, 24, 2, 2, 3),
  (6, 40, 2, 2, 5),
  (6, 80, 3, 2, 3),
  (6, 112, 3, 1, 5),
  (6, 192, 4, 2, 5),
  (6, 320, 1, 1, 3),
)


# --- BKNet --------------------------------------------------------------------------------------


class Block(nn.Module):
  def __init__(self, channels: Sequence[int], inside: int):
    super().__init__()
    pairs = list(zip([inside, *channels], channels, strict=False))
    self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
    self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    for convolution, norm in zip(self.convolutions, self.norms, strict=True):
      x = functional.relu(norm(convolution(x)), inplace=True)
    return functional.max_pool2d(x, 2)


class Branch(nn.Module):
  def __init__(self, features: int, width: int, classes: int, dropout: float):
    super().__init__()
    self.hidden = nn.ModuleList([nn.Linear(features, width), nn.Linear(width, width)])
    self.norms = nn.ModuleList([nn.BatchNorm1d(width), nn.BatchNorm1d(width)])
    self.scores, self.dropout = nn.Linear(width, classes), nn.Dropout(dropout)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    for layer, norm in zip(self.hidden, self.norms, strict=True):
      x = self.dropout(functional.relu(norm(layer(x))))
    return self.scores(x)


class BKNet(nn.Module):
  """Sang 2017; with `join`, Rohani 2023's, whose first block is joined to the last."""

  def __init__(
    self,
    tasks: Mapping[str, int],
    image: Sequence[int],
    width: float = 1.0,
    join: bool = False,
    dropout: float = 0.5,
  ):
    super().__init__()
    height, breadth, channels = image
    blocks: list[nn.Module] = []
    for block in BLOCKS:
      widths = [max(1, round(c * width)) for c in block]
      blocks.append(Block(widths, channels))
      channels = widths[-1]
    self.blocks, self.join = nn.ModuleList(blocks), join
    features = (height // 16) * (breadth // 16) * (channels + join * max(1, round(32 * width)))
    hidden = max(1, round(256 * width))
    self.branches = nn.ModuleDict(
      {name: Branch(features, hidden, classes, dropout) for name, classes in tasks.items()}
    )

  def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = early = self.blocks[0](x)
    for block in self.blocks[1:]:
      x = block(x)
    if self.join:
      x = torch.cat([x, functional.max_pool2d(early, 8)], 1)
    x = x.permute(0, 2, 3, 1).flatten(1)  # our order; a copy only where memory is in another
    return {name: branch(x) for name, branch in self.branches.items()}


# --- EfficientNet -------------------------------------------------------------------------------


class ConvNorm(nn.Module):
  def __init__(self, a: int, b: int, size: int, stride: int = 1, groups: int = 1, act: bool = True):
    super().__init__()
    self.conv = nn.Conv2d(a, b, size, stride, size // 2, groups=groups, bias=False)
    self.norm, self.act = nn.BatchNorm2d(b), act

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.norm(self.conv(x))
    return functional.silu(x, inplace=True) if self.act else x


class Squeeze(nn.Module):
  def __init__(self, channels: int, reduced: int):
    super().__init__()
    self.reduce, self.expand = nn.Conv2d(channels, reduced, 1), nn.Conv2d(reduced, channels, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return x * self.expand(functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class Residual(nn.Module):
  def __init__(self, a: int, b: int, size: int, stride: int, expansion: int):
    super().__init__()
    inside = a * expansion
    self.expand = ConvNorm(a, inside, 1) if expansion > 1 else None
    self.depthwise = ConvNorm(inside, inside, size, stride, inside)
    self.squeeze = Squeeze(inside, max(1, round(a * 0.25)))
    self.project = ConvNorm(inside, b, 1, act=False)
    self.skip = stride == 1 and a == b

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = x if self.expand is None else self.expand(x)
    y = self.project(self.squeeze(self.depthwise(y)))
    return x + y if self.skip else y


class Trunk(nn.Module):
  def __init__(self, channels: int, width: float):
    super().__init__()
    a = rounded(32 * width)
    self.stem, stages = ConvNorm(channels, a, 3, 2), []
    for expansion, out, count, stride, size in STAGES:
      blocks, b = [], rounded(out * width)
      for i in range(count):
        blocks.append(Residual(a, b, size, stride if i == 0 else 1, expansion))
        a = b
      stages.append(nn.ModuleList(blocks))
    self.stages, self.top = nn.ModuleList(stages), ConvNorm(a, rounded(1280 * width), 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.stem(x)
    for stage in self.stages:
      for block in stage:
        x = block(x)
    return self.top(x)


class Head(nn.Module):
  def __init__(self, features: int, classes: int, dropout: float):
    super().__init__()
    self.scores, self.dropout = nn.Linear(features, classes), nn.Dropout(dropout)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.scores(self.dropout(x))


class EfficientNet(nn.Module):
  """Tan & Le 2019, B0, with a linear layer a task; without stochastic depth."""

  def __init__(
    self, tasks: Mapping[str, int], image: Sequence[int], width: float = 1.0, dropout: float = 0.2
  ):
    super().__init__()
    self.trunk, features = Trunk(image[-1], width), rounded(1280 * width)
    self.heads = nn.ModuleDict(
      {name: Head(features, classes, dropout) for name, classes in tasks.items()}
    )

  def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = self.trunk(x).mean((2, 3))
    return {name: head(x) for name, head in self.heads.items()}


def rounded(channels: float) -> int:
  """Multiples of 8, as in the authors' code."""
  near = max(8, int(channels + 4) // 8 * 8)
  return near + 8 if near < 0.9 * channels else near


# --- Weights ------------------------------------------------------------------------------------

_LEAVES = {'scale': 'weight', 'kernel': 'weight', 'mean': 'running_mean', 'var': 'running_var'}


def torch_name(path: str) -> str:
  """PyTorch's name of a parameter or statistic of ours."""
  *layers, leaf = path.split('/')
  return '.'.join([*layers, _LEAVES.get(leaf, leaf)])


def to_torch(array: np.ndarray) -> torch.Tensor:
  """An array of ours as PyTorch has it: kernels [h, w, in, out] as [out, in, h, w]."""
  axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
  return torch.from_numpy(np.ascontiguousarray(array.transpose(axes)))


def from_torch(tensor: torch.Tensor) -> np.ndarray:
  """The way back."""
  array = tensor.detach().numpy()
  axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
  return array.transpose(axes)


def load(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
  """Takes all weights from arrays by our paths; PyTorch refuses what is missing or left over."""
  state = {torch_name(path): to_torch(x) for path, x in arrays.items()}
  counters = {k: v for k, v in module.state_dict().items() if k.endswith('num_batches_tracked')}
  module.load_state_dict(state | counters, strict=True)


def our_paths(arrays: Mapping[str, Any]) -> dict[str, str]:
  """{PyTorch's name: our path}."""
  return {torch_name(path): path for path in arrays}


def parameters(module: nn.Module) -> int:
  return sum(math.prod(p.shape) for p in module.parameters())
