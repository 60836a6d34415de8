"""The rows of papers' tables as runs, on noise under the names of the real sets."""

from __future__ import annotations

import dataclasses
import pathlib
import re

from ml_collections import ConfigDict

from mtface.config.files import config_folder, load_config_file, load_module
from mtface.config.stages import stages_of
from mtface.data.names import Draw, SourceName
from tests.fakes import write_prepared


def get(paper: str, argument: str | None = None) -> ConfigDict:
  """A shipped config."""
  return load_config_file(config_folder() / f'{paper}.py', argument)


def arguments(paper: str) -> list[str]:
  """The arguments of all rows that a run of ours fills, each once."""
  tables = load_module(config_folder() / f'{paper}.py').TABLES
  found = {}
  for table in tables.values():
    for row in table.rows.values():
      if row.arguments:
        found[','.join(f'{name}={values[0]}' for name, values in row.arguments.items())] = True
  return list(found)


def named(config: ConfigDict) -> list[ConfigDict]:
  """The entries of all sources of all stages; changing them changes the config."""
  stages = [config.stage[name] for name in config.stages]
  return [
    entry for of in stages for group in (of.sources, of.evaluation.sets) for entry in group.values()
  ]


def fitted(config: ConfigDict, size: int, steps: int = 2) -> ConfigDict:
  """The config for images of `size`, draws of few faces, 2 steps of 8 samples a stage."""
  for entry in named(config):
    name = re.sub(r'each(!?)=\d+', r'each\1=1', entry.name)
    parsed = SourceName.parse(name)
    if isinstance(parsed.part, Draw):
      part = dataclasses.replace(
        parsed.part, take=8, after=8 if parsed.part.after else 0, at_most=True
      )
      name = str(dataclasses.replace(parsed, part=part))
    entry.name = name
  config.optimizer.rate *= 0.1  # noise and drawn weights of a VGG-16 diverge at the papers' rates
  config.image_shape = (size, size, 3)
  config.duration = config.checkpoint.every = config.log_every = f'{steps} steps'
  config.batch_size = config.evaluation.batch_size = 8
  return config


def write_sets(
  folder: pathlib.Path, config: ConfigDict, size: int, tasks: dict[str, tuple]
) -> None:
  """Writes noise for every set that a config names; `tasks`: what a set labels, by its name."""
  for stage in stages_of(config).values():
    for entry in [*stage.sources.values(), *stage.evaluation.sets.values()]:
      name = SourceName.parse(entry.name)
      if not (folder / name.set_name).exists():
        splits = dict.fromkeys(('train', 'validation', 'test', 'public_test', 'private_test'), 48)
        of = dict.fromkeys(tasks[name.set_name.partition('_')[0].partition('/')[0]], 1.0)
        people = 24 if 'celeba' in name.set_name else 0
        shape = (size, size, 3)
        write_prepared(folder, name.set_name, splits, of, shape=shape, subjects=people)
