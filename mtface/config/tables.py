"""What a run can name, a table each: networks, losses, optimisers, schedules, augmentations,
mixtures, trackers and builders of data sets. The entries of mtface stand here, with their options
and defaults; modules of your own add theirs to the same tables (docs/extending.md).

An entry of mtface names its function or class as text, so that a config can be read without JAX.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mtface.errors import UserError


@dataclasses.dataclass(frozen=True)
class Entry:
  """An entry of a table.

  Attributes:
    target: the function or class, or 'module:name' of it.
    options: its options with their defaults, which also give their types.
    traits: what else must be known of it, see the table.
  """

  target: Any
  options: Mapping[str, Any]
  traits: Mapping[str, Any]

  def load(self) -> Any:
    """The function or class."""
    if not isinstance(self.target, str):
      return self.target
    module, _, name = self.target.partition(':')
    return getattr(importlib.import_module(module), name)


class Table(Mapping[str, Entry]):
  """Entries by name.

  Attributes:
    what: what an entry is, for errors.
  """

  def __init__(self, what: str, **traits: Any):
    """`traits` are the defaults of what else must be known of an entry."""
    self.what = what
    self._traits = traits
    self._entries: dict[str, Entry] = {}

  def add(
    self, name: str, target: Any, options: Mapping[str, Any] | None = None, **traits: Any
  ) -> None:
    """Adds an entry, see `Entry`.

    Raises:
      UserError: the name is taken by another function or class, or a trait is unknown.
    """
    if unknown := sorted(traits.keys() - self._traits.keys()):
      known = ', '.join(self._traits) or 'none'
      raise UserError(
        f'{self.what} {name!r}: {unknown[0]!r} is not a trait; the traits are: {known}'
      )
    if name in self._entries and _place(self._entries[name].target) != _place(target):
      raise UserError(f'{self.what} {name!r} is registered already; choose another name')
    self._entries[name] = Entry(target, dict(options or {}), self._traits | traits)

  def register(
    self, name: str, options: Mapping[str, Any] | None = None, **traits: Any
  ) -> Callable[[Any], Any]:
    """`add`, as a decorator of the function or class."""

    def registered(target: Any) -> Any:
      self.add(name, target, options, **traits)
      return target

    return registered

  def entry(self, name: Any, field: str) -> Entry:
    """An entry; a `UserError` that begins with `field`, which named it, if there is none."""
    if name not in self._entries:
      raise UserError(f'{field} {name!r} is unknown; there are {", ".join(self._entries)}')
    return self._entries[name]

  def __getitem__(self, name: str) -> Entry:
    return self._entries[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


def _place(target: Any) -> str:
  """Where a function or class is defined: a module that is loaded again may register again."""
  if isinstance(target, str):
    return target
  return f'{getattr(target, "__module__", "")}:{getattr(target, "__qualname__", repr(target))}'


# config.model.name. The class is called with (tasks, image_shape, *, rngs, dtype, **options), and
# maps images [B, H, W, C] in [-1, 1] to {task: scores [B, classes]}; `.features(images)` gives what
# its heads see, [B, D].
NETWORKS = Table('network')

NETWORKS.add(
  'bknet',
  'mtface.models.bknet:BKNet',
  {
    'width': 1.0,  # factor on all channel counts
    'join': False,  # MBKNet's join of the first and the last block
    'dropout': 0.5,
    'init': 'gaussian',  # gaussian (std 0.01, as published) | he
  },
)
NETWORKS.add(
  'mobilenet',
  'mtface.models.mobilenet:MobileNet',
  {
    'width': 1.0,
    'dropout': 0.0,  # before each last layer
    'age_hidden': (),  # widths of layers before the last one of tasks with years
    'branch': (),  # widths of layers with batch norm and dropout before every task's last one
    # half: images in [-1, 1] | imagenet: of ImageNet's mean and deviation | caffe: BGR less means |
    # vggface: RGB less VGG-Face's means (backbone.rescaled)
    'input': 'half',
  },
)
NETWORKS.add(
  'efficientnet',  # mtface/models/efficientnet.py has the widths and depths of B0 to B7
  'mtface.models.efficientnet:EfficientNet',
  {
    'width': 1.0,
    'depth': 1.0,  # factor on the blocks of each stage
    'dropout': 0.2,
    'drop_path': 0.2,  # greatest rate of stochastic depth
    'age_hidden': (),
    'branch': (),
    'input': 'half',
  },
)
NETWORKS.add(
  'rexnet',
  'mtface.models.rexnet:RexNet',
  {
    'width': 1.5,  # RexNet-150
    'dropout': 0.2,
    'drop_path': 0.0,
    'age_hidden': (),
    'branch': (),
    'input': 'half',
  },
)
NETWORKS.add(
  'resnet',
  'mtface.models.resnet:ResNet',
  {
    'depth': 32,  # 6n + 2
    'version': 'v1',  # v1 | v2: normalisation and ReLU before the convolutions
    'width': 1.0,
    'dropout': 0.0,
    'branch': (),
    'input': 'half',
  },
)
NETWORKS.add(
  'vgg',
  'mtface.models.vgg:VGG',
  {
    'width': 1.0,  # factor on all channels, and on fc6 and fc7
    'dropout': 0.5,
    'branch': (),
    'input': 'half',
    'init': 'he',  # he | gaussian (std 0.01)
  },
)

# config.tasks.TASK.loss: term(scores, labels, mask, class_weights=None, **options) -> [B].
# labels: what they are of: single (one class of several) | multi (a yes or no for each class) |
# both. In a union of label spaces (config.outputs), those for `multi` or `both` are taken over the
# classes of all tasks at once.
# readout: how scores are read, see `mtface.outputs.READOUTS`.
# shares: whether labels may also be shares of the classes, [B, C].
LOSSES = Table('loss', labels='single', readout='softmax', shares=False)
LOSSES.add(
  'softmax_cross_entropy',
  'mtface.losses:softmax_cross_entropy',
  {'smoothing': 0.0},  # of what is certain, this share is spread over all classes
  shares=True,
)
LOSSES.add(
  'label_distribution',
  'mtface.losses:label_distribution',
  {'deviation': 2.0},  # in classes, such as years
  shares=True,
)
LOSSES.add('multiclass_squared_hinge', 'mtface.losses:multiclass_squared_hinge', readout='margins')
LOSSES.add(
  'sigmoid_cross_entropy',
  'mtface.losses:sigmoid_cross_entropy',
  # what the sum over a sample's classes is divided by: labelled: the number of those that are
  # labelled (Pons 2018's N) | all: the number of all outputs | none: nothing (Zhang 2016, eq. 2)
  {'mean_over': 'labelled'},
  labels='both',
  readout='sigmoid',
)

# config.optimizer.name: make(rate, **options) -> optax.GradientTransformation, where `rate` is the
# schedule.
OPTIMIZERS = Table('optimiser')
OPTIMIZERS.add('sgd', 'mtface.training.optim:sgd', {'momentum': 0.9, 'nesterov': False})
OPTIMIZERS.add(
  'adam',
  'mtface.training.optim:adam',
  {
    'momentum': 0.9,  # beta1
    'beta2': 0.999,
    'nesterov': False,
  },
)
OPTIMIZERS.add(
  'adamw',
  'mtface.training.optim:adamw',
  {
    'momentum': 0.9,
    'beta2': 0.999,
    'weight_decay': 1e-4,  # of kernels, times the learning rate; beside config.loss.l2
  },
)

# config.optimizer.schedule: make(rate, steps, **options) -> optax.Schedule.
# follows_length: the rate follows from the length of the run, which then cannot be changed.
SCHEDULES = Table('schedule', follows_length=False)
SCHEDULES.add(
  'exponential',
  'mtface.training.optim:exponential',
  {
    'decay': 0.8,  # rate * decay^(step / decay_steps)
    'decay_steps': 10000,
    'staircase': False,  # in steps: rate * decay^floor(step / decay_steps)
  },
)
SCHEDULES.add(
  'polynomial',
  'mtface.training.optim:polynomial',
  {
    'power': 1.0,  # rate * (1 - step / steps)^power; 0: constant
    'end': 0.0,
  },
  follows_length=True,
)
SCHEDULES.add(
  'one_cycle',
  'mtface.training.optim:one_cycle',
  {'warmup': 0.25},  # share of the duration in which the rate rises
  follows_length=True,
)
SCHEDULES.add(
  'cosine',
  'mtface.training.optim:cosine',
  {
    'warmup': 0.05,  # share of the duration in which the rate rises linearly from 0
    'end': 0.0,  # share of the rate that is left at the end
  },
  follows_length=True,
)

# config.augment.name: augment(images uint8 [B, H, W, C], positions uint32 [B], key, **options) ->
# float32 [B, H, W, C] in 0..255.
AUGMENTATIONS = Table('augmentation')
AUGMENTATIONS.add(
  'crop_flip_rotate',
  'mtface.data.augment:augment',
  {
    'pad': 4,  # pixels: random crop after padding this much on each side
    'flip': True,
    'rotate': 15.0,  # degrees, uniform in [-rotate, rotate]
    'zoom': 0.0,  # larger or smaller by a factor of up to 1 + zoom
    'stretch': 0.0,  # wider by a factor of up to 1 + stretch and lower by as much, or the reverse
    'brightness': 0.0,  # share of 255, uniform in [-brightness, brightness]
    'contrast': 0.0,  # distances from the mean times 1 + uniform in [-contrast, contrast]
    'erase': 0.0,  # share of the samples in which a rectangle is painted over
  },
)

# config.mixture: make(sources, *, seed, batch_size) -> mtface.data.mixing.Mixture.
# shares: whether it is also called with shares={task: config.tasks.TASK.share}.
# groups: whether it can be called with groups={source's index: codes [N]} (config.balance).
MIXTURES = Table('mixture', shares=False, groups=False)
MIXTURES.add('equal', 'mtface.data.mixing:equal', shares=True, groups=True)
MIXTURES.add('proportional', 'mtface.data.mixing:proportional', groups=True)
MIXTURES.add('alternate', 'mtface.data.mixing:alternate')

# config.tracker: open(*, project, run_id, name, config, workdir) -> a run with `log(values, step)`
# and `finish()`; the same `run_id` means that the run goes on (mtface/training/trackers.py).
# package: what has to be installed, by an extra of the same name.
TRACKERS = Table('tracker', package='')
TRACKERS.add('trackio', 'mtface.training.trackers:trackio', package='trackio')
TRACKERS.add('wandb', 'mtface.training.trackers:wandb', package='wandb')

# `mtface build NAME/CONFIG`: a `tfds_builders.base.FaceBuilder`. Those in tfds_builders/ are found
# by their folders.
BUILDERS = Table('builder')
