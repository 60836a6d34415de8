"""VGG-16 (Simonyan & Zisserman 2015, configuration D), which is VGG-Face (Parkhi et al. 2015) as
Zhang 2016 fine-tunes it (Table 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.errors import UserError
from mtface.models.backbone import Backbone, check_fields
from mtface.models.convolution import Make, scaled
from mtface.models.heads import INITS, check_init, dropped
from mtface.models.layers import Conv3x3, max_pool_2x2
from mtface.tasks import Task

BLOCKS = (
  (64, 64),
  (128, 128),
  (256, 256, 256),
  (512, 512, 512),
  (512, 512, 512),
)  # channels of each convolution; a pool after each block
DENSE = 4096  # features of fc6 and fc7
_POOLING = 2 ** len(BLOCKS)


class Dense(nnx.Module):
  """A fully connected layer as a convolution over the whole map, as Table 1 has it, with ReLU and
  dropout: [B, H, W, C] -> [B, 1, 1, features].

  Attributes:
    kernel: [H, W, C, features].
    bias: [features].
    frozen: without dropout in training too (`network.abstract_network` sets it).
  """

  def __init__(
    self,
    in_shape: tuple[int, int, int],
    features: int,
    make: Make,
    *,
    dropout: float,
    kernel_init: Callable,
  ):
    self.kernel = nnx.Param(kernel_init(make.rngs.params(), (*in_shape, features), jnp.float32))
    self.bias = nnx.Param(jnp.zeros((features,), jnp.float32))
    self.dropout, self.dtype, self.frozen = nnx.Dropout(dropout), make.dtype, False

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    dtype, kernel = self.dtype or jnp.float32, self.kernel[...]
    flat = x.reshape(x.shape[0], -1).astype(dtype)
    y = flat @ kernel.reshape(-1, kernel.shape[-1]).astype(dtype) + self.bias[...].astype(dtype)
    y = dropped(self.dropout, jax.nn.relu(y), train and not self.frozen, rngs)
    return y[:, None, None]


class Trunk(nnx.Module):
  """Images [B, H, W, C] -> [B, 1, 1, `features`]: what fc7 gives.

  Layers are called as in the papers: conv1_1 ... conv5_3, fc6, fc7.
  """

  def __init__(
    self,
    image_shape: tuple[int, int, int],
    width: float,
    dropout: float,
    kernel_init: Callable,
    make: Make,
  ):
    height, breadth, features = image_shape
    made: dict[str, Any] = {'kernel_init': kernel_init, 'dtype': make.dtype, 'rngs': make.rngs}
    for name, channels in layer_names():
      out = scaled(channels, width)
      setattr(self, name, Conv3x3(features, out, **made))
      features = out
    last, self.features = (height // _POOLING, breadth // _POOLING, features), scaled(DENSE, width)
    more: dict[str, Any] = {'dropout': dropout, 'kernel_init': kernel_init}
    self.fc6 = Dense(last, self.features, make, **more)
    self.fc7 = Dense((1, 1, self.features), self.features, make, **more)

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    for number, block in enumerate(BLOCKS, 1):
      for layer in range(1, len(block) + 1):
        x = jax.nn.relu(getattr(self, f'conv{number}_{layer}')(x))
      x = max_pool_2x2(x)
    return self.fc7(self.fc6(x, train, rngs), train, rngs)


def layer_names() -> list[tuple[str, int]]:
  """(name, channels) of each convolution, in order."""
  return [
    (f'conv{number}_{layer}', channels)
    for number, block in enumerate(BLOCKS, 1)
    for layer, channels in enumerate(block, 1)
  ]


class VGG(Backbone):
  """VGG-16 without batch normalisation, and a linear layer a task in the place of fc8.

  With 224x224x3 images it has 145,002,878 parameters for the 2622 people of VGG-Face, 134,268,738
  for two classes.

  Args:
    tasks: one head each, in this order.
    image_shape: (H, W, C) of the input in pixels, multiples of 32; published for 224x224.
    width: factor on all channels and on fc6 and fc7, rounded up.
    dropout: rate behind fc6 and fc7 (published: 0.5), and in a `branch`.
    branch: widths of the layers of every head (`heads.Branch`).
    input: see `backbone.rescaled`.
    init: `he`, or `gaussian` (Parkhi 2015, section 4: std 0.01).
    dtype: of the computation; parameters stay float32. None: float32.

  Raises:
    UserError: a field out of its range, or an image of another size.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    image_shape: tuple[int, int, int],
    *,
    rngs: nnx.Rngs,
    width: float,
    dropout: float,
    branch: Sequence[int],
    input: str,
    init: str,
    dtype: jnp.dtype | None,
  ):
    check_fields('vgg', image_shape, branch=branch, input=input, width=width, dropout=dropout)
    check_init(init)
    height, breadth, _ = image_shape
    if height % _POOLING or breadth % _POOLING:
      raise UserError(
        f'model vgg: images of {height}x{breadth}: {len(BLOCKS)} pools halve them; expected '
        f'multiples of {_POOLING}, as 224x224'
      )
    make = Make(rngs, dtype)
    trunk = Trunk(image_shape, width, dropout, INITS[init], make)
    super().__init__(
      trunk,
      trunk.features,
      tasks,
      make,
      dropout=dropout if branch else 0.0,  # fc7 has one of its own
      branch=branch,
      input=input,
      kernel_init=INITS[init],
    )
