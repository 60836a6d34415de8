"""`mtface params` and `mtface describe`: what a config stands for, before anything is trained."""

from __future__ import annotations

import os

import numpy as np
from ml_collections import ConfigDict

from mtface.data.sources import Source
from mtface.models.network import abstract_network, is_batch_norm, parameter_table
from mtface.tasks import get_task
from mtface.train import Run, prepare


def parameter_report(config: ConfigDict) -> str:
  """Table of the parameters, and their number with and without batch normalisation (which papers leave out)."""
  tasks = [get_task(name) for name in config.tasks]
  _, params, _ = abstract_network(config.model, tasks, config.image_shape)
  table = parameter_table(params)
  longest = max(len(path) for path, _, _ in table)
  lines = [f'{path:<{longest}}  {"x".join(map(str, shape)):>14}  {count:>10,}' for path, shape, count in table]
  total = sum(count for _, _, count in table)
  norms = sum(count for path, _, count in table if is_batch_norm(path))
  lines += ['', f'parameters: {total:,}', f'parameters without batch normalisation: {total - norms:,}']
  return '\n'.join(lines)


def describe(config: ConfigDict, data_dir: str | os.PathLike) -> str:
  """Sources, samples and labels an epoch after mixing, steps, and memory."""
  run = prepare(config, data_dir)
  lines = [f'{config.name}: tasks {", ".join(run.tasks)}; mixture {config.mixture}', '']
  lines += _source_lines(run)
  epoch = run.mixture.epoch_size
  lines += ['', f'labelled samples an epoch: {", ".join(f"{t} {n:,}" for t, n in run.mixture.counts.items())}']
  lines += [f'epoch: {epoch:,} samples, {epoch / config.batch_size:,.1f} steps of {config.batch_size}']
  lines += [f'run: {config.duration} = {run.steps:,} steps, {run.steps * config.batch_size / epoch:.1f} epochs']
  images = sum(_image_bytes(source) for source in run.sources)
  weights = sum(count for _, _, count in parameter_table(run.params))
  lines += [
    f'memory: images {images / 1e6:,.0f} MB on the host; parameters and momentum {8 * weights / 1e6:,.1f} MB a device'
  ]
  return '\n'.join(lines)


def _source_lines(run: Run) -> list[str]:
  longest = max(len(source.name) for source in run.sources)
  lines = [f'{"source":<{longest}}  {"samples":>8}  {"drawn":>8}  {"each":>9}  labels']
  for source, draws in zip(run.sources, run.mixture.draws, strict=True):
    labels = ', '.join(f'{task} {int(source.labelled(task).sum()):,}' for task in source.labels)
    each = f'{draws // len(source)}-{-(-draws // len(source))} times'
    lines.append(f'{source.name:<{longest}}  {len(source):>8,}  {draws:>8,}  {each:>9}  {labels}')
  return lines


def _image_bytes(source: Source) -> int:
  return len(source) * int(np.prod(source.image_shape))
