"""Experiments as `ml_collections.ConfigDict`: the fields, their defaults and units, and the
arguments of config files.

Every file in configs/ starts from `experiment()` and changes what its paper says. Any field can be
overridden on the command line, as in `--config.batch_size=256` or `--config.model.width=0.5`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mtface.errors import UserError
from mtface.tasks import Task, get_task

MODELS: dict[
  str, dict[str, Any]
] = {  # the fields of each network; their defaults are the published network
  'bknet': {
    'width': 1.0,  # factor on all channel counts
    'join': False,  # MBKNet's join of the first and the last block
    'dropout': 0.5,
    'init': 'gaussian',  # gaussian (std 0.01, as published) | he
  },
  'mobilenet': {
    'width': 1.0,
    'dropout': 0.0,  # before each last layer
    'age_hidden': (),  # widths of layers before the last one of tasks with years
    # half: images in [-1, 1] | imagenet: of ImageNet's mean and deviation | caffe: BGR less means
    # (mobile.rescaled)
    'input': 'half',
  },
  'efficientnet': {  # mtface/models/efficientnet.py has the widths and depths of B0 to B7
    'width': 1.0,
    'depth': 1.0,  # factor on the blocks of each stage
    'dropout': 0.2,
    'drop_path': 0.2,  # greatest rate of stochastic depth
    'age_hidden': (),
    'input': 'half',
  },
  'rexnet': {
    'width': 1.5,  # RexNet-150
    'dropout': 0.2,
    'drop_path': 0.0,
    'age_hidden': (),
    'input': 'half',
  },
}


def experiment() -> ConfigDict:
  """All fields of an experiment with their defaults. A duration is text: '10 epochs', '2000 steps'
  or '300000 examples'.
  """
  return ConfigDict(
    {
      'name': '',
      # those of the config file, by name; `mtface table` finds a paper's rows by them
      'arguments': {},
      'seed': 0,  # of weights, order, augmentation and dropout
      # names of stages, in the order of training (mtface/config/stages.py); none: the config is the
      # only one
      'stages': (),
      'stage': {},  # name of a stage -> the fields that it changes, see `stage()`
      'start': {
        # where they come from: stage:NAME | WORKDIR[@last|best|STEP] | a file
        # (mtface/training/start.py); '': drawn
        'weights': '',
        'fresh': (),  # patterns of parameters that are drawn all the same
      },
      'freeze': {
        # patterns of parameters that stay as they are: regular expressions that their paths begin
        # with, as in 'trunk'
        'params': (),
        # batch norms that are frozen: by their running statistics, which stay | batch: as the
        # others
        'norms': 'running',
      },
      'tasks': {},  # task name -> see `task()`
      'sources': {},  # name of ours -> see `source()`; what is trained on
      'mixture': 'equal',  # equal | proportional | alternate (mtface/data/mixing.py)
      # where images are: memory | stream | auto, by their size and free memory
      # (mtface/data/store.py)
      'store': 'auto',
      'image_shape': (48, 48, 1),  # height, width in pixels, channels; what the sources must have
      'batch_size': 128,  # global, over all devices
      'duration': '10 epochs',
      'model': model('bknet'),
      'augment': {
        'pad': 4,  # pixels: random crop after padding this much on each side
        'flip': True,
        'rotate': 15.0,  # degrees, uniform in [-rotate, rotate]
      },
      'loss': {
        # divide a task's loss by all samples of the batch (the papers' N), or by the 'labelled'
        # ones
        'over': 'all',
        'l2': 0.0,  # lambda of lambda * ||W||^2
      },
      'optimizer': {
        'name': 'sgd',  # sgd | adam
        'momentum': 0.9,  # of SGD; of Adam, beta1
        'beta2': 0.999,  # of Adam
        'nesterov': False,
        'clip': 0.0,  # greatest norm of the gradient over all parameters; 0: no limit
        # exponential: rate * decay^(step / decay_steps) | one_cycle: up to rate and down to zero
        'schedule': 'exponential',
        'rate': 0.01,
        'decay': 0.8,
        'decay_steps': 10000,
        'warmup': 0.25,  # one_cycle: share of the duration in which the rate rises
        # 'PATTERN=FACTOR' of the learning rate; the first pattern that a parameter's path begins
        # with counts
        'factors': (),
        'sam': 0.0,  # sharpness-aware minimisation: its radius rho; 0: off
      },
      'evaluation': {
        # selections that are measured unless others are asked for (mtface/training/selection.py)
        'checkpoints': ('last',),
        'sets': {},  # name of ours -> see `source()`; what `mtface evaluate` measures
        'during_training': (),  # which of them each checkpoint is measured on
        # the best checkpoint has the highest mean accuracy over these; keep test sets out of it
        'best_on': (),
        'batch_size': 512,
      },
      'checkpoint': {
        'every': '1 epochs',
        'keep_last': 10,
      },
      'log_every': '50 steps',
      'mesh': {
        'fsdp': 1,  # devices that share the large parameters; a divisor of the number of devices
        'shard_from': 1_000_000,  # elements of the smallest array that is shared so
      },
      'distributed': {
        'start_timeout': 600,  # seconds that processes have to find each other: nodes start slowly
        'heartbeat': 20,  # seconds of silence after which a process counts as lost
      },
    }
  )


def model(name: str, **changes: Any) -> ConfigDict:
  """The fields of a network of `MODELS`, and `dtype`, that of the computation:
  float32 | bfloat16.
  """
  return ConfigDict({'name': name} | MODELS[name] | {'dtype': 'float32'} | changes)


def task(
  loss: str = 'softmax_cross_entropy',
  weight: float = 1.0,
  class_weights: str = 'none',
  top: int = 1,
) -> ConfigDict:
  """What is asked of one task.

  Args:
    loss: a name in `losses.TERMS`.
    weight: mu_t of the total loss.
    class_weights: none, or balanced (Savchenko 2021, eq. 2: from the counts of the training
      sources).
    top: of ages: the prediction is the mean of so many of the most probable years (Savchenko 2021,
      eq. 1); 1 is the most probable.
  """
  return ConfigDict({'loss': loss, 'weight': weight, 'class_weights': class_weights, 'top': top})


def tasks_of(config: ConfigDict) -> dict[str, Task]:
  """The tasks of `config.tasks` by name."""
  return {name: get_task(name) for name in config.tasks}


def source(name: str, *tasks: str) -> ConfigDict:
  """A source by its name (mtface/data/sources.py) and the label sets that are taken from it (none
  named: all of the experiment's).
  """
  return ConfigDict({'name': name, 'tasks': tasks})


def check_fields(config: ConfigDict, where: str) -> None:
  """Raises a `UserError` that begins with `where` for a field of `experiment()`, `task()` or
  `source()` that is missing.
  """
  have = flat(config.to_dict())
  network = have.get('model.name', 'bknet')
  if network not in MODELS:
    raise UserError(f'{where}.model.name {network!r} is unknown; there are {", ".join(MODELS)}')
  missing = [
    name for name in fields_of(config) if name not in have and name not in ('arguments', 'stage')
  ]
  if missing:
    raise UserError(
      f'{where}: the field {missing[0]} is missing; a config starts from experiment(), task() and '
      'source() of mtface.config.schema'
    )


def fields_of(config: ConfigDict) -> dict[str, Any]:
  """{name with dots: default} of the fields that a config must have: those of its network, of each
  of its tasks and sources too.
  """
  have, default = flat(config.to_dict()), experiment()
  default.model = model(have.get('model.name', 'bknet'))
  fields = flat(default.to_dict())
  for group, entry in (('tasks', task()), ('sources', source('')), ('evaluation.sets', source(''))):
    names = dict.fromkeys(
      name.removeprefix(f'{group}.').split('.')[0] for name in have if name.startswith(f'{group}.')
    )
    if names:
      del fields[group]
    fields |= {
      f'{group}.{name}.{key}': value
      for name in names
      for key, value in flat(entry.to_dict()).items()
    }
  return fields


def check_shareable(batch_size: int, devices: int, field: str) -> None:
  """Raises a `UserError` for a batch that the devices cannot share equally."""
  if batch_size % devices:
    raise UserError(
      f'config.{field}: {batch_size} cannot be shared equally by {devices} devices; take a '
      f'multiple of {devices}'
    )


def flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dictionaries as {'a.b': value}; tuples as lists, as in JSON."""
  found: dict[str, Any] = {}
  for key, value in tree.items():
    name = f'{prefix}{key}'
    if isinstance(value, Mapping) and value:
      found |= flat(value, f'{name}.')
    else:
      found[name] = list(value) if isinstance(value, tuple) else value
  return found
