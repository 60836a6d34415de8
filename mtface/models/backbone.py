"""The structure of all networks but BKNet: images are rescaled as the network wants them, a trunk
sees them, and each task has a head on the mean of the trunk's last map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.errors import UserError
from mtface.models.convolution import Make, image_mean
from mtface.models.heads import LINEAR_INIT, Branch, Head, all_scores
from mtface.tasks import Task

INPUTS = ('half', 'imagenet', 'caffe', 'vggface')  # see `rescaled`
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green, red in 0..255
VGGFACE_MEAN = (129.1863, 104.7624, 93.5940)  # of red, green, blue in 0..255
_IMAGENET_MEAN, _IMAGENET_STD = (
  (0.485, 0.456, 0.406),
  (0.229, 0.224, 0.225),
)  # of red, green, blue in [0, 1]


class Backbone(nnx.Module):
  """A trunk and a head for each task: images float [B, H, W, C] in [-1, 1] -> {task: scores float32
  [B, classes of the task]}.

  Subclasses define the trunk; the rest is here. The trunk is called with (images, train, rngs) and
  returns a map [B, H', W', D]. Parameters are under `trunk/...` and `heads/TASK/...`.

  Args:
    out_features: D.
    dropout: rate before each last layer, and with a `branch` after each of its layers.
    branch: widths of the layers of every head (`heads.Branch`).
    age_hidden: widths of ReLU layers before the last one of tasks with years (`Task.values`).
    input: see `rescaled`.
    kernel_init: of the heads.
  """

  def __init__(
    self,
    trunk: nnx.Module,
    out_features: int,
    tasks: Sequence[Task],
    make: Make,
    *,
    dropout: float,
    branch: Sequence[int],
    input: str,
    age_hidden: Sequence[int] = (),
    kernel_init: Callable = LINEAR_INIT,
  ):
    self.trunk: Any = trunk
    self.input = input
    made: dict[str, Any] = {'dropout': dropout, 'kernel_init': kernel_init}

    def head(task: Task) -> nnx.Module:
      if branch:
        return Branch(out_features, task.num_classes, make, widths=branch, unbiased=True, **made)
      hidden = age_hidden if task.values is not None else ()
      return Head(out_features, task.num_classes, make, hidden=hidden, **made)

    self.heads: Any = nnx.Dict({task.name: head(task) for task in tasks})

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
    return all_scores(self.heads, x, train, rngs)


def rescaled(images: jax.Array, to: str) -> jax.Array:
  """Rescales images in [-1, 1] to what a network expects.

  `half`: unchanged; `imagenet`: normalised by ImageNet's mean and deviation of each colour;
  `caffe`: blue, green and red in 0..255 minus ImageNet's means, as in networks from Caffe or Keras
  (including Savchenko 2021's published MobileNet); `vggface`: red, green and blue in 0..255 minus
  the means of VGG-Face's images, as in its MatConvNet release (Parkhi 2015).
  """
  if to == 'half':
    return images

  def mean(of: tuple[float, ...]) -> jax.Array:
    return jnp.asarray([sum(of) / 3] if images.shape[-1] == 1 else of, images.dtype)

  if to == 'caffe':
    return (images[..., ::-1] + 1) * 127.5 - mean(_CAFFE_MEAN)
  if to == 'vggface':
    return (images + 1) * 127.5 - mean(VGGFACE_MEAN)
  return (images / 2 + 0.5 - mean(_IMAGENET_MEAN)) / mean(_IMAGENET_STD)


def check_fields(
  name: str,
  image_shape: Sequence[int],
  *,
  branch: Sequence[int],
  input: str,
  age_hidden: Sequence[int] = (),
  least: int = 32,
  **numbers: float,
) -> None:
  """Raises a `UserError` for a field of `config.model` or an image shape that is invalid for a
  network.

  Args:
    name: name of the network.
    image_shape: (H, W, C).
    branch: layer widths.
    age_hidden: layer widths; only one of the two may have any.
    input: one of INPUTS.
    least: pixels that an image needs each way; most trunks halve it five times.
    **numbers: `width` and `depth` must be positive; `dropout` and `drop_path` in [0, 1).
  """
  height, width, channels = image_shape
  if min(height, width) < least:
    raise UserError(
      f'model {name}: images of {height}x{width} are too small; expected at least {least}x{least}'
    )
  if input not in INPUTS:
    raise UserError(f'config.model.input {input!r} is unknown; expected {", ".join(INPUTS)}')
  if input != 'half' and channels not in (1, 3):
    raise UserError(
      f'config.model.input {input}: needs images with 1 or 3 channels, found {channels}'
    )
  _check_widths('age_hidden', age_hidden)
  _check_widths('branch', branch)
  if branch and age_hidden:
    raise UserError(
      f'config.model.age_hidden: {age_hidden!r} beside config.model.branch={branch!r}; the branch '
      'is of all tasks, so take one of them'
    )
  for field, value in numbers.items():
    factor = field in ('width', 'depth')
    good = not isinstance(value, bool) and isinstance(value, int | float)
    if not good or not (0 < value < float('inf') if factor else 0 <= value < 1):
      words = 'more than 0' if factor else 'at least 0 and less than 1'
      raise UserError(f'config.model.{field}: {value!r} is out of range; expected {words}')


def _check_widths(field: str, widths: Sequence[int]) -> None:
  if not isinstance(widths, tuple | list) or not all(type(n) is int and n > 0 for n in widths):
    raise UserError(
      f'config.model.{field}: {widths!r}; expected layer widths, such as (256,), or ()'
    )
