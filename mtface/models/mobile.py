"""Building blocks of MobileNet, EfficientNet and RexNet, and the structure that the three share: a
trunk, and a linear layer for each task.

Shapes, padding and statistics follow PyTorch's layers, since the published weights of these
networks come from PyTorch: k // 2 zeros on each side of an image, and an unbiased running variance.
tests/parity compares them with timm's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mtface.errors import UserError
from mtface.models.depthwise import depthwise_conv
from mtface.models.layers import BatchNorm
from mtface.models.platforms import by_platform
from mtface.tasks import Task

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'relu': jax.nn.relu,
  'relu6': lambda x: jnp.clip(x, 0, 6),  # Howard et al. 2017's code
  'silu': jax.nn.silu,  # "swish", Ramachandran et al. 2017
  'none': lambda x: x,
}
INPUTS = ('half', 'imagenet', 'caffe')  # see `rescaled`
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green, red in 0..255
_IMAGENET_MEAN, _IMAGENET_STD = (
  (0.485, 0.456, 0.406),
  (0.229, 0.224, 0.225),
)  # of red, green, blue in [0, 1]
# All three papers: normal with variance 2 / fan-out (He et al. 2015).
_INIT = nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal')
_LEAST = 32  # pixels: the trunks halve an image five times


@dataclasses.dataclass(frozen=True)
class Make:
  """What all layers of a network share: the `dtype` of the computation (None: float32) and the
  random streams for initial weights.
  """

  rngs: nnx.Rngs
  dtype: Any = None


class Conv(nnx.Module):
  """A convolution with an odd kernel size: float [B, H, W, in_features] -> [B, ceil(H / stride),
  ceil(W / stride), out_features].

  Attributes:
    kernel: [size, size, in_features, out_features], or [size, size, 1, features] for a `depthwise`
      one.
    bias: [out_features]; None if a batch normalisation follows.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    size: int,
    make: Make,
    *,
    stride: int = 1,
    depthwise: bool = False,
    bias: bool = False,
  ):
    if depthwise:  # each value reaches size * size outputs; the published networks initialise it so
      kernel = jnp.swapaxes(
        _INIT(make.rngs.params(), (size, size, out_features, 1), jnp.float32), 2, 3
      )
    else:
      kernel = _INIT(make.rngs.params(), (size, size, in_features, out_features), jnp.float32)
    self.kernel = nnx.Param(kernel)
    self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if bias else None
    self.stride, self.depthwise, self.dtype = stride, depthwise, make.dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    dtype = self.dtype or jnp.float32
    x, kernel = x.astype(dtype), self.kernel[...].astype(dtype)
    y = depthwise_conv(x, kernel, self.stride) if self.depthwise else conv(x, kernel, self.stride)
    return y if self.bias is None else y + self.bias[...].astype(dtype)


def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Convolves x [B, H, W, C] with kernel [k, k, C, D], k // 2 zeros on each side; 1x1 as a matrix
  product.
  """
  size = kernel.shape[0]
  if size == 1 and stride == 1:
    return x @ kernel[0, 0]

  def product(x, kernel):
    return _patches(x, size, stride) @ kernel.reshape(-1, kernel.shape[-1])

  def xla(x, kernel):
    padding, layout = [(size // 2, size // 2)] * 2, ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout)

  return by_platform(product, xla)(x, kernel)


def _patches(x: jax.Array, size: int, stride: int) -> jax.Array:
  """[B, H', W', size * size * C]: the patch that the kernel sees at each position. XLA's kernel
  gradient is slow on CPUs, a matrix product's is not.
  """
  half, (_, h, w, _) = size // 2, x.shape
  padded = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)))
  shifted = [
    padded[:, i : i + h : stride, j : j + w : stride] for i in range(size) for j in range(size)
  ]
  return jnp.concatenate(shifted, -1)


class ConvNorm(nnx.Module):
  """A convolution without bias, batch normalisation, and an activation, a name in ACTIVATIONS."""

  def __init__(
    self,
    in_features: int,
    out_features: int,
    size: int,
    make: Make,
    *,
    activation: str,
    stride: int = 1,
    depthwise: bool = False,
  ):
    self.conv = Conv(in_features, out_features, size, make, stride=stride, depthwise=depthwise)
    self.norm = BatchNorm(out_features, unbiased=True, dtype=make.dtype)
    self.activation = activation

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    return ACTIVATIONS[self.activation](self.norm(self.conv(x), train))


class SqueezeExcite(nnx.Module):
  """Squeeze-and-excitation: weighs channels by the whole image (Hu et al. 2018, section 3): [B, H,
  W, C] -> the same.

  Global mean, layer to `reduced` values, activation, layer back to C values, sigmoid. RexNet adds a
  batch normalisation (`norm`) inside.
  """

  def __init__(
    self, features: int, reduced: int, make: Make, *, activation: str, norm: bool = False
  ):
    self.reduce = Conv(features, reduced, 1, make, bias=True)
    self.norm = BatchNorm(reduced, unbiased=True, dtype=make.dtype) if norm else None
    self.expand = Conv(reduced, features, 1, make, bias=True)
    self.activation = activation

  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    squeezed = self.reduce(image_mean(x)[:, None, None])
    if self.norm is not None:
      squeezed = self.norm(squeezed, train)
    return x * jax.nn.sigmoid(self.expand(ACTIVATIONS[self.activation](squeezed)))


def image_mean(x: jax.Array) -> jax.Array:
  """The mean over each image, [B, H, W, C] -> [B, C], summed in float32."""
  return jnp.mean(x, (1, 2), dtype=jnp.float32)


class StochasticDepth(nnx.Module):
  """Drops a branch with probability `rate`, independently for each sample, and scales it up where
  it is kept (Huang et al. 2016).

  Only in training; never while `frozen` (set by `network.abstract_network`).
  """

  def __init__(self, rate: float):
    self.rate, self.frozen = rate, False

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    if not train or self.frozen or self.rate == 0:
      return x
    if rngs is None:
      raise ValueError('stochastic depth needs a `dropout` stream in rngs during training')
    stays = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, (len(x), *[1] * (x.ndim - 1)))
    return jnp.where(stays, x / (1 - self.rate), 0).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Shape:
  """The shape of an inverted residual: channels in, inside and out, kernel size and stride;
  `reduced`: channels of squeeze-excite, 0 for none.
  """

  in_features: int
  inside: int
  out_features: int
  size: int
  stride: int
  reduced: int
  drop_path: float = 0.0


class InvertedResidual(nnx.Module):
  """Expand 1x1, depthwise, squeeze-excite, project 1x1 without activation (Sandler et al. 2018; Tan
  & Le 2019; Han et al. 2021).

  If stride is 1 and the output has as many channels as the input, the input is added, and
  `shape.drop_path` is the rate at which the rest is dropped. There is no expansion if `inside`
  equals `in_features`. RexNet differs: its activation comes after the squeeze (`late`), not before
  it (`early`), the squeeze has a batch normalisation, and the input is also added to the first
  channels of a wider output (`widening`).
  """

  def __init__(
    self,
    shape: Shape,
    make: Make,
    *,
    activation: str = 'silu',
    early: str = 'silu',
    late: str = 'none',
    squeeze: str = 'silu',
    squeeze_norm: bool = False,
    widening: bool = False,
  ):
    inside, more = shape.inside, shape.out_features - shape.in_features
    self.skip = shape.stride == 1 and (more == 0 or (widening and more > 0))
    expands = inside != shape.in_features
    self.expand = (
      ConvNorm(shape.in_features, inside, 1, make, activation=activation) if expands else None
    )
    self.depthwise = ConvNorm(
      inside, inside, shape.size, make, activation=early, stride=shape.stride, depthwise=True
    )
    self.squeeze = (
      SqueezeExcite(inside, shape.reduced, make, activation=squeeze, norm=squeeze_norm)
      if shape.reduced
      else None
    )
    self.project = ConvNorm(inside, shape.out_features, 1, make, activation='none')
    self.drop = StochasticDepth(shape.drop_path)
    self.late = late

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    y = x if self.expand is None else self.expand(x, train)
    y = self.depthwise(y, train)
    if self.squeeze is not None:
      y = self.squeeze(y, train)
    y = self.project(ACTIVATIONS[self.late](y), train)
    if not self.skip:
      return y
    y = self.drop(y, train, rngs)
    more = y.shape[-1] - x.shape[-1]
    return y + (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more))) if more else x)


class Head(nnx.Module):
  """One task's layers: features [B, D] -> scores float32 [B, C].

  Dropout and one linear layer; before them ReLU layers of the given widths, if any ("several new
  layers can be added before the final fully connected layer", Savchenko 2021, section 2.2).
  """

  def __init__(
    self, in_features: int, classes: int, make: Make, *, hidden: Sequence[int], dropout: float
  ):
    layers = []
    for width in hidden:
      layers.append(nnx.Linear(in_features, width, dtype=make.dtype, rngs=make.rngs))
      in_features = width
    self.hidden = nnx.List(layers)
    self.dropout = nnx.Dropout(dropout)
    self.scores = nnx.Linear(in_features, classes, dtype=make.dtype, rngs=make.rngs)

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    for layer in self.hidden:
      x = jax.nn.relu(layer(x))
    return self.scores(self.dropout(x, deterministic=not train, rngs=rngs)).astype(jnp.float32)


class MobileModel(nnx.Module):
  """A trunk and a head for each task: images float [B, H, W, C] in [-1, 1] -> {task: scores float32
  [B, classes of the task]}.

  Subclasses define the trunk; the rest is here. The trunk is called with (images, train, rngs) and
  returns a map [B, H', W', D]. Parameters are under `trunk/...` and `heads/TASK/...`.
  """

  def __init__(
    self,
    trunk: nnx.Module,
    out_features: int,
    tasks: Sequence[Task],
    make: Make,
    *,
    dropout: float,
    age_hidden: Sequence[int],
    input: str,
  ):
    self.trunk: Any = trunk
    self.input = input
    heads = {}
    for task in tasks:
      hidden = age_hidden if task.values is not None else ()
      heads[task.name] = Head(out_features, task.num_classes, make, hidden=hidden, dropout=dropout)
    self.heads: Any = nnx.Dict(heads)

  def features(
    self, images: jax.Array, train: bool = False, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """The input of all heads, float32 [B, D]: the mean of the trunk's last map."""
    return image_mean(self.trunk(rescaled(images, self.input), train, rngs))

  def __call__(
    self, images: jax.Array, train: bool = False, rngs: nnx.Rngs | None = None
  ) -> dict[str, jax.Array]:
    """The scores of each task. In training, `rngs` needs a `dropout` stream, and running statistics
    are updated.
    """
    x = self.features(images, train, rngs)
    return {task: head(x, train, rngs) for task, head in self.heads.items()}


def rescaled(images: jax.Array, to: str) -> jax.Array:
  """Rescales images in [-1, 1] to what a network expects.

  `half`: unchanged; `imagenet`: normalised by ImageNet's mean and deviation of each colour;
  `caffe`: blue, green and red in 0..255 minus ImageNet's means, as in networks from Caffe or Keras
  (including Savchenko 2021's published MobileNet).
  """
  if to == 'half':
    return images
  grey = images.shape[-1] == 1
  means = [
    jnp.asarray([sum(x) / 3] if grey else x, images.dtype)
    for x in (_CAFFE_MEAN, _IMAGENET_MEAN, _IMAGENET_STD)
  ]
  caffe_mean, mean, std = means
  if to == 'caffe':
    return (images[..., ::-1] + 1) * 127.5 - caffe_mean
  return (images / 2 + 0.5 - mean) / std


def check_fields(
  name: str, image_shape: Sequence[int], *, age_hidden: Sequence[int], input: str, **numbers: float
) -> None:
  """Raises a `UserError` for a field of `config.model` or an image shape that is invalid for a
  mobile network.

  Args:
    name: name of the network.
    image_shape: (H, W, C).
    age_hidden: layer widths.
    input: one of INPUTS.
    **numbers: `width` and `depth` must be positive; `dropout` and `drop_path` in [0, 1).
  """
  height, width, channels = image_shape
  if min(height, width) < _LEAST:
    raise UserError(
      f'model {name}: images of {height}x{width} are too small; expected at least {_LEAST}x{_LEAST}'
    )
  if input not in INPUTS:
    raise UserError(f'config.model.input {input!r} is unknown; expected {", ".join(INPUTS)}')
  if input != 'half' and channels not in (1, 3):
    raise UserError(
      f'config.model.input {input}: needs images with 1 or 3 channels, found {channels}'
    )
  if not isinstance(age_hidden, tuple | list) or not all(
    type(n) is int and n > 0 for n in age_hidden
  ):
    raise UserError(
      f'config.model.age_hidden: {age_hidden!r}; expected layer widths, such as (256,), or ()'
    )
  for field, value in numbers.items():
    factor = field in ('width', 'depth')
    good = not isinstance(value, bool) and isinstance(value, int | float)
    if not good or not (0 < value < float('inf') if factor else 0 <= value < 1):
      words = 'more than 0' if factor else 'at least 0 and less than 1'
      raise UserError(f'config.model.{field}: {value!r} is out of range; expected {words}')


def round_channels(channels: float, divisor: int = 8) -> int:
  """The multiple of `divisor` nearest to a number of channels, at least `divisor` and at least 90%
  of the number.

  All three networks scale their widths by this rule (Sandler et al. 2018's code).
  """
  rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
  return rounded + divisor if rounded < 0.9 * channels else rounded
