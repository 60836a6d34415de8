"""A configuration in sentences, for people who do not read configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from mtface.config.schema import flat, tasks_of
from mtface.data.names import Draw, Each, Fold, Range, SourceName, Uncopied
from mtface.tasks import Task

_MIXTURES = {
  'equal': 'every task has the same number of labelled faces in an epoch',
  'proportional': 'sources take part in proportion to their size',
  'alternate': 'batches take turns between the sources',
}
_SCHEDULES = {
  'exponential': 'falls exponentially',
  'polynomial': 'falls as a polynomial of the step',
  'one_cycle': 'rises and then falls in one cycle',
  'cosine': 'falls as a cosine',
}
_NAMED = 12  # classes that are listed by name


def in_words(config: ConfigDict) -> list[str]:
  """What an experiment (of one stage) is, a paragraph a topic: the network and what it answers,
  what it is trained on, how, and what it is measured on.
  """
  return [_network(config), _data(config), _training(config), _measured(config)]


def of_task(task: Task) -> str:
  """A task with its classes."""
  if task.num_classes > _NAMED:
    return f'{task.name} ({task.num_classes:,} classes)'
  how = 'each yes or no: ' if task.multi_label else ''
  return f'{task.name} ({how}{", ".join(task.classes)})'


def of_source(name: str) -> str:
  """A source's name in words: the set, its split, and which part of it."""
  source = SourceName.parse(name)
  limits = [_limit(of) for of in source.limits]
  part = [_part(source.part)] if source.part else []
  return ', '.join([f'{source.set_name}, split {source.split}', *limits, *part])


def _limit(of: Range | Uncopied) -> str:
  if isinstance(of, Uncopied):
    return f'without copies of faces in {" and ".join(of.splits)}'
  return f'with {of.of} {of.least}' + (f' to {of.most}' if of.most > of.least else '')


def _part(part: Fold | Draw | Each) -> str:
  if isinstance(part, Fold):
    kept = 'images' if part.by_image else 'people and copies of a picture'
    which = 'all folds but' if part.others else 'only fold'
    return f'{which} {part.index} of {part.of} (folds keep {kept} together)'
  if isinstance(part, Draw):
    after = f' after the first {part.after:,}' if part.after else ''
    return f'{"up to " if part.at_most else ""}{part.take:,} faces drawn by seed {part.seed}{after}'
  which = 'all but' if part.others else 'only'
  return f'{which} {part.each} faces of each class of {part.of}, drawn by seed {part.seed}'


def _network(config: ConfigDict) -> str:
  height, width, channels = config.image_shape
  colour = 'grey' if channels == 1 else 'colour'
  tasks = '; '.join(of_task(task) for task in tasks_of(config).values())
  options = _options(config.model, ('name', 'dtype'))
  layer = (
    'one output layer over the union of their classes'
    if config.outputs.layer == 'union'
    else 'an output layer for each'
  )
  return (
    f'One network, {config.model.name} ({options}), computed in {config.model.dtype}, looks at '
    f'faces of {height}x{width} pixels in {colour} and answers {_count(config.tasks, "task")}, '
    f'with {layer}: {tasks}.'
  )


def _data(config: ConfigDict) -> str:
  sources = '; '.join(
    f'{of_source(of.name)}, for {", ".join(of.tasks or ["all of its labels"])}'
    for of in config.sources.values()
  )
  how = _MIXTURES.get(config.mixture, 'see its definition')
  return f'It is trained on {sources}. The mixture is {config.mixture}: {how}.'


def _training(config: ConfigDict) -> str:
  optimizer, augment = config.optimizer, config.augment
  start = config.start.weights
  schedule = _SCHEDULES.get(optimizer.schedule, f'follows {optimizer.schedule}')
  frozen = f' Parameters that stay as they are: {", ".join(config.freeze.params)}.'
  sam = f', with SAM of radius {optimizer.sam:g}' if optimizer.sam else ''
  return (
    f'Weights are {f"taken from {start}" if start else "drawn at random"} with seed {config.seed}. '
    f'Training takes {config.duration} in batches of {config.batch_size} with {optimizer.name}'
    f'{sam}, at a learning rate of {optimizer.rate:g} that {schedule}. Losses: {_losses(config)}; '
    f'they are averaged over {config.loss.over} faces, with an L2 penalty of {config.loss.l2:g}. '
    f'Faces are augmented by {augment.name} ({_options(augment, ("name",))}).'
    f'{frozen if config.freeze.params else ""}'
  )


def _losses(config: ConfigDict) -> str:
  found = []
  for name, entry in config.tasks.items():
    weight = f' times {entry.weight:g}' if entry.weight != 1 else ''
    balanced = ', classes weighted equally' if entry.class_weights == 'balanced' else ''
    found.append(f'{name} {entry.loss.replace("_", " ")}{weight}{balanced}')
  return ', '.join(found)


def _measured(config: ConfigDict) -> str:
  sets = '; '.join(f'{name} ({of_source(of.name)})' for name, of in config.evaluation.sets.items())
  if not sets:
    return 'The configuration names no sets to measure it on.'
  best = ', '.join(config.evaluation.best_on)
  chosen = f' The best checkpoint is chosen on {best}.' if best else ''
  return f'It is measured on {sets}.{chosen}'


def _count(things: Mapping[str, Any], noun: str) -> str:
  return f'{len(things)} {noun}{"" if len(things) == 1 else "s"}'


def _options(group: ConfigDict, without: tuple[str, ...]) -> str:
  values = {
    k: v for k, v in flat(group.to_dict()).items() if k not in without and v not in ([], ())
  }
  return ', '.join(f'{key.replace("_", " ")} {_text(value)}' for key, value in values.items())


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return 'on' if value else 'off'
  if isinstance(value, float):
    return f'{value:g}'
  return '+'.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
