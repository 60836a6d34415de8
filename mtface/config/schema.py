"""Experiments as `ml_collections.ConfigDict`: the fields, their defaults and units.

Every file in configs/ starts from `experiment()` and changes what its paper says. Any field can be
overridden on the command line, as in `--config.batch_size=256` or `--config.model.width=0.5`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mtface.config import tables
from mtface.config.imports import load_imports
from mtface.errors import UserError
from mtface.outputs import READOUTS, UNION, Outputs
from mtface.tasks import Task, get_task

# Groups whose entry is chosen by a field: (group, field that names it, table). The entry's options
# are fields of the group.
_CHOICES = (
  ('model', 'name', tables.NETWORKS),
  ('augment', 'name', tables.AUGMENTATIONS),
  ('optimizer', 'name', tables.OPTIMIZERS),
  ('optimizer', 'schedule', tables.SCHEDULES),
  ('tasks.*', 'loss', tables.LOSSES),
)


def experiment(imports: Sequence[str] = ()) -> ConfigDict:
  """All fields of an experiment with their defaults. A duration is text: '10 epochs', '2000 steps'
  or '300000 examples'.

  Args:
    imports: modules of the user's own, which are imported now, so that what they register can be
      named in the config file; commands import them too.
  """
  load_imports(imports)
  return ConfigDict(
    {
      'name': '',
      # those of the config file, by name; `mtface table` finds a paper's rows by them
      'arguments': {},
      'imports': tuple(imports),  # modules of the user's own (mtface/config/imports.py)
      # tasks in a set's own words: name -> {'classes': names, 'multi_label': bool}
      'classes': {},
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
      # name of ours -> see `teacher()`; networks that label what sources leave open
      'teachers': {},
      'mixture': 'equal',  # a name in `tables.MIXTURES` (mtface/data/mixing.py)
      # labels or attributes, as in ('gender', 'ethnicity5'), whose groups are drawn equally often
      # within each source that has them (mtface/data/mixing.py); none: as they are
      'balance': (),
      # where images are: memory | stream | device | auto, by their size and free memory
      # (mtface/data/store.py)
      'store': 'auto',
      # steps that one call of the compiled program runs (mtface/training/calls.py); 0: 1 on CPUs,
      # more on accelerators where steps are short
      'steps_a_call': 0,
      'image_shape': (48, 48, 1),  # height, width in pixels, channels; what the sources must have
      'batch_size': 128,  # global, over all devices
      # images of which batch norms take their statistics together in training ("ghost batches",
      # Hoffer 2017); 0: the whole batch. Those of a device's own images wait for no other device
      'ghost_batch': 0,
      # decay of moving averages of the weights, which are then what is evaluated, ranked and
      # exported, as 0.999; 0: none (mtface/training/state.py)
      'ema': 0.0,
      'duration': '10 epochs',
      'model': model('bknet'),
      'outputs': {
        # heads: one for each task | union: one layer over all tasks' classes, in which equal names
        # are one output (mtface/outputs.py)
        'layer': 'heads',
        'apart': (),  # tasks whose classes are outputs of their own in the union all the same
      },
      'augment': augmentation(),
      # blends of two samples (mtface/data/blend.py): none | mixup | cutmix; shares are Beta(alpha,
      # alpha)
      'blend': {'name': 'none', 'alpha': 0.2},
      'loss': {
        # divide a task's loss by all samples of the batch (the papers' N), or by the 'labelled'
        # ones
        'over': 'all',
        'l2': 0.0,  # lambda of lambda * ||W||^2
        # squares: of all kernels | tensorflow: half of them | caffe: half of those of all
        # parameters, biases too (losses.weight_penalty)
        'decay': 'squares',
      },
      'optimizer': optimizer(),
      'evaluation': {
        # selections that are measured unless others are asked for (mtface/training/selection.py)
        'checkpoints': ('last',),
        'sets': {},  # name of ours -> see `source()`; what `mtface evaluate` measures
        'during_training': (),  # which of them each checkpoint is measured on
        # the best checkpoint has the highest mean accuracy over these; keep test sets out of it
        'best_on': (),
        # checkpoints in a row that are not better than the best one before training stops; 0: never
        'patience': 0,
        'batch_size': 512,
      },
      'checkpoint': {
        'every': '1 epochs',
        'keep_last': 10,
      },
      'log_every': '50 steps',
      'log_gradients': False,  # norms of the gradient too, by layer (mtface/training/gradients.py)
      # where lines of the log are also sent: NAME[:PROJECT], with a name in `tables.TRACKERS`;
      # '': nowhere
      'tracker': '',
      # steps that are traced by JAX's profiler into WORKDIR/profile: `steps` of them after step
      # `start`; 0: none (mtface/training/profiling.py)
      'profile': {'start': 10, 'steps': 0},
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
  """A network of `tables.NETWORKS`: its options, and `dtype`, that of the computation:
  float32 | bfloat16.
  """
  options = tables.NETWORKS.entry(name, 'config.model.name').options
  return _made({'name': name, **options, 'dtype': 'float32'}, changes, f'network {name}')


def augmentation(name: str = 'crop_flip_rotate', **changes: Any) -> ConfigDict:
  """An augmentation of `tables.AUGMENTATIONS` with its options."""
  options = tables.AUGMENTATIONS.entry(name, 'config.augment.name').options
  return _made({'name': name, **options}, changes, f'augmentation {name}')


def optimizer(name: str = 'sgd', schedule: str = 'exponential', **changes: Any) -> ConfigDict:
  """An optimiser of `tables.OPTIMIZERS` and a schedule of `tables.SCHEDULES` with their options,
  and what does not depend on them.
  """
  common = {
    'name': name,
    'rate': 0.01,
    'schedule': schedule,
    'clip': 0.0,  # greatest norm of the gradient over all parameters; 0: no limit
    'accumulate': 1,  # batches whose gradients are averaged for one update
    # 'PATTERN=FACTOR' of the learning rate; the first pattern that a parameter's path begins with
    # counts
    'factors': (),
    'sam': 0.0,  # sharpness-aware minimisation: its radius rho; 0: off
  }
  options = tables.OPTIMIZERS.entry(name, 'config.optimizer.name').options
  of_schedule = tables.SCHEDULES.entry(schedule, 'config.optimizer.schedule').options
  what = f'optimiser {name} with the schedule {schedule}'
  return _made({**common, **options, **of_schedule}, changes, what)


def task(
  loss: str = 'softmax_cross_entropy',
  weight: float = 1.0,
  class_weights: str = 'none',
  top: int = 1,
  share: float = 1.0,
  votes: bool = False,
  **options: Any,
) -> ConfigDict:
  """What is asked of one task.

  Args:
    loss: a name in `tables.LOSSES`.
    weight: mu_t of the total loss.
    class_weights: none, or balanced (Savchenko 2021, eq. 2: from the counts of the training
      sources).
    top: of ages: the prediction is the mean of so many of the most probable years (Savchenko 2021,
      eq. 1); 1 is the most probable.
    share: its part of the labels of an epoch, as a ratio to the other tasks', where the mixture is
      `equal` (mtface/data/mixing.py).
    votes: learn annotators' votes where a source has them, in place of one label
      (mtface/data/votes.py).
    **options: of the loss.
  """
  common = {'loss': loss, 'weight': weight, 'class_weights': class_weights, 'top': top}
  common |= {'share': share, 'votes': votes}
  return _made({**common, **tables.LOSSES.entry(loss, 'loss').options}, options, f'loss {loss}')


def _made(fields: dict[str, Any], changes: dict[str, Any], what: str) -> ConfigDict:
  if unknown := [name for name in changes if name not in fields]:
    raise UserError(f'{what}: there is no option {unknown[0]!r}; there are {", ".join(fields)}')
  return ConfigDict(fields | changes)


def tasks_of(config: ConfigDict) -> dict[str, Task]:
  """The tasks of `config.tasks` by name."""
  return {name: get_task(name) for name in config.tasks}


def outputs_of(config: ConfigDict) -> Outputs:
  """Which scores of the network answer which task, from `config.outputs`, and how they are read,
  from the tasks' losses.

  Raises:
    UserError: an unknown layer or loss, or `apart` names no task, or is set without a union.
  """
  tasks, layer = tasks_of(config), config.outputs.layer
  readouts = {
    name: tables.LOSSES.entry(config.tasks[name].loss, f'config.tasks.{name}.loss').traits[
      'readout'
    ]
    for name in tasks
  }
  for name, readout in readouts.items():
    if readout not in READOUTS:
      raise UserError(
        f'config.tasks.{name}.loss: {config.tasks[name].loss} is registered with the readout '
        f'{readout!r}; there are {", ".join(READOUTS)}'
      )
  if layer == 'heads':
    if config.outputs.apart:
      raise UserError(
        f'config.outputs.apart: {config.outputs.apart!r}; heads share nothing, so leave it empty, '
        f'or take config.outputs.layer={UNION}'
      )
    return Outputs.heads(tasks.values(), readouts)
  if layer != UNION:
    raise UserError(f'config.outputs.layer {layer!r} is unknown; there are heads, {UNION}')
  for name in config.outputs.apart:
    if name not in tasks:
      raise UserError(
        f'config.outputs.apart: {name!r} is not among config.tasks ({", ".join(tasks)})'
      )
  return Outputs.union(tasks.values(), readouts, config.outputs.apart)


def source(name: str, *tasks: str) -> ConfigDict:
  """A source by its name (mtface/data/sources.py) and the label sets that are taken from it (none
  named: all of the experiment's).
  """
  return ConfigDict({'name': name, 'tasks': tasks})


def teacher(
  weights: str,
  *tasks: str,
  temperature: float = 1.0,
  weight: float = 1.0,
  where: str = 'unlabelled',
) -> ConfigDict:
  """A network that labels faces for a student (mtface/training/teachers.py).

  Args:
    weights: stage:NAME[@last|best|STEP], an earlier stage, or WORKDIR[@...], another run's last;
      `:flip` or `:ten` behind it: the mean over views of each face, as in @last:flip.
    tasks: what it teaches.
    temperature: of its probabilities, and of the student's in that part of the loss.
    weight: of that part of a task's loss.
    where: unlabelled: faces that have no label of their own for the task; all: others too.
  """
  return ConfigDict(
    {
      'weights': weights,
      'tasks': tasks,
      'temperature': temperature,
      'weight': weight,
      'where': where,
    }
  )


def complete(config: ConfigDict) -> list[str]:
  """Gives the groups of `_CHOICES` the options of the entries that they name, where they are
  missing, and takes those of other entries away.

  Returns:
    Fields that were taken away although somebody had set them: their values are not the defaults.
  """
  lost = []
  for group, chosen in _groups(config):
    choices = [(name, table) for of, name, table in _CHOICES if of == chosen]
    options: dict[str, Any] = {}
    for name, table in choices:
      if group.get(name) in table:
        options |= table[group[name]].options
    with group.unlocked():
      for key in [key for key in group if key not in options]:
        others = [
          of.options[key] for _, table in choices for of in table.values() if key in of.options
        ]
        if others and key not in _common(chosen):
          lost += [f'{chosen}.{key}'] if group[key] not in others else []
          del group[key]
      for key, value in options.items():
        if key not in group:
          group[key] = value
  return lost


def options_of(group: ConfigDict, entry: tables.Entry) -> dict[str, Any]:
  """The values in a group of the options of an entry that it names."""
  return {name: group[name] for name in entry.options}


def switched(config: ConfigDict, field: str, name: str) -> bool:
  """Names another entry in a field, as `model.name`, with the defaults of its options.

  Returns:
    Whether the field names an entry of a table, and the entry is there.
  """
  *path, last = field.split('.')
  for of, key, table in _CHOICES:
    if key == last and re.fullmatch(of.replace('*', '[^.]+'), '.'.join(path)) and name in table:
      group: Any = config
      for part in path:
        group = group.get(part) if isinstance(group, ConfigDict) else None
      if not isinstance(group, ConfigDict) or key not in group:
        return False
      if group[key] != name:
        with group.unlocked():
          for option in table[group[key]].options if group[key] in table else ():
            if option in group:
              del group[option]
          group[key] = name
        complete(config)
      return True
  return False


def _groups(config: ConfigDict) -> Iterator[tuple[ConfigDict, str]]:
  """The groups of `_CHOICES` that a config has, each with its name there."""
  for of in dict.fromkeys(of for of, _, _ in _CHOICES):
    found = config.get('tasks', {}).values() if of == 'tasks.*' else [config.get(of)]
    yield from ((group, of) for group in found if isinstance(group, ConfigDict))


def _common(group: str) -> set[str]:
  """The fields of a group that all of its entries have."""
  made = {'model': model('bknet'), 'augment': augmentation(), 'optimizer': optimizer()}
  default = made.get(group) or task()
  chosen = [(name, table) for of, name, table in _CHOICES if of == group]
  return set(default) - {key for name, table in chosen for key in table[default[name]].options}


def check_fields(config: ConfigDict, where: str) -> None:
  """Raises a `UserError` that begins with `where` for a field of `experiment()`, `task()` or
  `source()` that is missing.
  """
  have = flat(config.to_dict())
  missing = [
    name
    for name in fields_of(config)
    if name not in have and name not in ('arguments', 'classes', 'stage')
  ]
  if missing:
    raise UserError(
      f'{where}: the field {missing[0]} is missing; a config starts from experiment(), task() and '
      'source() of mtface.config'
    )


def fields_of(config: ConfigDict) -> dict[str, Any]:
  """{name with dots: default} of the fields that a config must have: those of its network,
  optimiser, and of each of its tasks and sources too.

  Raises:
    UserError: a network, optimiser, schedule, augmentation or loss is not in its table.
  """
  have, default = flat(config.to_dict()), experiment()
  default.model = model(have.get('model.name', 'bknet'))
  default.augment = augmentation(have.get('augment.name', 'crop_flip_rotate'))
  default.optimizer = optimizer(
    have.get('optimizer.name', 'sgd'), have.get('optimizer.schedule', 'exponential')
  )
  fields = flat(default.to_dict())
  for group in ('tasks', 'sources', 'teachers', 'evaluation.sets'):
    names = dict.fromkeys(
      name.removeprefix(f'{group}.').split('.')[0] for name in have if name.startswith(f'{group}.')
    )
    if names:
      del fields[group]
    for name in names:
      entry = teacher('') if group == 'teachers' else source('')
      if group == 'tasks':
        loss = have.get(f'tasks.{name}.loss', 'softmax_cross_entropy')
        tables.LOSSES.entry(loss, f'config.tasks.{name}.loss')
        entry = task(loss)
      fields |= {f'{group}.{name}.{key}': value for key, value in flat(entry.to_dict()).items()}
  return fields


def check_shareable(batch_size: int, devices: int, field: str) -> None:
  """Raises a `UserError` for a batch that the devices cannot share equally."""
  if batch_size % devices:
    raise UserError(
      f'config.{field}: {batch_size} cannot be split evenly over {devices} devices; take a '
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
