"""`mtface params` and `mtface describe`: what a config will do, before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax
from ml_collections import ConfigDict

from mtface.config.schema import outputs_of
from mtface.config.stages import MAIN, stages_of
from mtface.models.network import abstract_network
from mtface.models.paths import HEADS, Params, is_batch_norm, matches, parameter_table
from mtface.outputs import UNION
from mtface.parallel.resident import plan_residence
from mtface.parallel.sharding import make_mesh
from mtface.training.checks import check_experiment
from mtface.training.optim import factor_of, make_optimizer, rate_factors
from mtface.training.run import Run


def parameter_report(config: ConfigDict) -> str:
  """A table of each stage's parameters, and their number with and without batch normalisation
  (which papers do not count).
  """
  return _by_stage({name: _parameters(stage) for name, stage in stages_of(config).items()})


def _parameters(config: ConfigDict) -> str:
  _, params, _ = abstract_network(config.model, outputs_of(config), config.image_shape)
  table = parameter_table(params)
  longest = max(len(path) for path, _, _ in table)
  lines = [
    f'{path:<{longest}}  {"x".join(map(str, shape)):>14}  {count:>10,}'
    for path, shape, count in table
  ]
  total = sum(count for _, _, count in table)
  norms = sum(count for path, _, count in table if is_batch_norm(path))
  lines += [
    '',
    f'parameters: {total:,}',
    f'parameters without batch normalisation: {total - norms:,}',
  ]
  return '\n'.join(lines)


def describe(config: ConfigDict, data_dir: str | os.PathLike) -> str:
  """For each stage: sources, samples and labels per epoch after mixing, steps, what is trained at
  which rate, and memory.

  Raises:
    UserError: for anything that `train` would refuse.
  """
  found = {name: _describe(run) for name, run in check_experiment(config, data_dir).items()}
  return (
    f'{config.name}\n\n{_by_stage(found)}'
    if len(found) > 1
    else f'{config.name}: {_by_stage(found)}'
  )


def _by_stage(texts: Mapping[str, str]) -> str:
  return '\n\n'.join(
    text if name == MAIN else f'stage {name}: {text}' for name, text in texts.items()
  )


def _describe(run: Run) -> str:
  config = run.config
  lines = [f'tasks {", ".join(run.tasks)}; mixture {config.mixture}', '']
  lines += _source_lines(run) + _output_lines(run)
  epoch = run.mixture.epoch_size
  lines += [
    '',
    f'labelled samples per epoch: {", ".join(f"{t} {n:,}" for t, n in run.mixture.counts.items())}',
  ]
  lines += [
    f'epoch: {epoch:,} samples, {epoch / config.batch_size:,.1f} steps of {config.batch_size}'
  ]
  length = f' = {run.steps:,} steps, {run.steps * config.batch_size / epoch:.1f} epochs'
  lines += [f'run: {config.duration}{"" if run.seconds else length}']
  lines += _training_lines(config, run.params)
  lines += [
    f'images: {line}' for line in dict.fromkeys(str(source.images) for source in run.sources)
  ]
  residence = plan_residence(config.store, run.sources, make_mesh(config.mesh.fsdp))
  lines += [f'images: {residence.text}'] if residence.text else []
  lines += [f'memory: {_device_bytes(config, run.params) / 1e6:,.1f} MB per device']
  lines[-1] += ' for parameters and optimiser state; what a step takes: mtface compile'
  return '\n'.join(lines)


def _output_lines(run: Run) -> list[str]:
  """Of one layer over a union of label spaces: how many outputs it has, and which tasks share."""
  outputs = run.network.outputs
  if run.config.outputs.layer != UNION:
    return []
  shared = outputs.shared()
  by_tasks: dict[tuple[str, ...], list[str]] = {}
  for name, tasks in shared.items():
    by_tasks.setdefault(tasks, []).append(name)
  which = '; '.join(f'{", ".join(of)} by {" and ".join(tasks)}' for tasks, of in by_tasks.items())
  size = outputs.layers[0].num_classes
  return ['', f'one output layer of {size}; shared: {which or "none"}']


def _training_lines(config: ConfigDict, params: Params) -> list[str]:
  """What is trained at which rate: one line if everything is trained alike, otherwise one for each
  part of the network.
  """
  optimizer = config.optimizer
  how = optimizer.name + (f' with SAM of radius {optimizer.sam:g}' if optimizer.sam else '')
  start = config.start.weights or 'initialised at random'
  lines = [f'weights: {start}; {how}, learning rate {optimizer.rate:g} ({optimizer.schedule})']
  if not config.freeze.params and not optimizer.factors:
    return lines
  counts: dict[tuple[str, str], int] = {}
  for path, _, count in parameter_table(params):
    key = _part(path), _rate(path, config)
    counts[key] = counts.get(key, 0) + count
  longest = max(len(part) for part, _ in counts)
  return lines + [
    f'  {part:<{longest}}  {count:>10,} parameters  {rate}'
    for (part, rate), count in counts.items()
  ]


def _part(path: str) -> str:
  """The part of the network that a parameter belongs to: a task's head, or the first part of its
  name.
  """
  words = path.split('/')
  return '/'.join(words[: 2 if words[0] in HEADS else 1])


def _rate(path: str, config: ConfigDict) -> str:
  if matches(config.freeze.params, path):
    norms = ' (batch norms use running statistics)' if config.freeze.norms == 'running' else ''
    return f'frozen{norms}'
  factor = factor_of(path, rate_factors(config.optimizer.factors))
  return f'learning rate {factor * config.optimizer.rate:g}'


def _device_bytes(config: ConfigDict, params: Params) -> int:
  """Parameters, plus what the optimiser keeps for those that are trained."""
  optimizer = make_optimizer(config.optimizer, 1, config.freeze.params)
  kept = jax.eval_shape(optimizer.init, params)
  arrays = [x for x in jax.tree.leaves((params, kept)) if x.ndim]  # without counters
  return sum(x.size * x.dtype.itemsize for x in arrays)


def _source_lines(run: Run) -> list[str]:
  longest = max(len(source.name) for source in run.sources)
  lines = [f'{"source":<{longest}}  {"samples":>8}  {"drawn":>8}  {"each":>9}  labels']
  for source, draws in zip(run.sources, run.mixture.draws, strict=True):
    labels = ', '.join(f'{task} {int(source.labelled(task).sum()):,}' for task in source.labels)
    each = f'{draws // len(source)}-{-(-draws // len(source))} times'
    lines.append(f'{source.name:<{longest}}  {len(source):>8,}  {draws:>8,}  {each:>9}  {labels}')
  return lines
