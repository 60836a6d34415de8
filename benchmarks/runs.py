"""Whole runs of mtface on sets of random pixels: what the benchmarks of commands are made of."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Callable, Sequence

from benchmarks.contestants import Failed, environment
from benchmarks.machine import ROOT
from benchmarks.pixels import SIZES, TINY_SIZES, write_sets

DATA, RUN = '{case}/data', '{case}/run'
WEIGHTS = '{case}/run.safetensors'


def mtface(python: str, *words: object) -> None:
  """Runs a command of mtface to its end."""
  command = [python, '-m', 'mtface', *map(str, words)]
  done = subprocess.run(command, cwd=ROOT, env=environment({}), capture_output=True, text=True)
  if done.returncode:
    raise Failed(f'{" ".join(command)}\n{done.stderr}')


def width(tiny: bool) -> float:
  """Of BKNet."""
  return 0.125 if tiny else 1.0


def config_flags(tiny: bool, steps: int, every: int, batch: int = 128) -> list[str]:
  """Sang 2017's published recipe, for so many steps, with a checkpoint after each `every`. Nothing
  is evaluated beside training; weights are drawn large enough to give scores that differ.
  """
  return [
    '--config=sang2017:A2,gender=utkface',
    f'--config.model.width={width(tiny)}',
    '--config.model.init=he',
    f'--config.batch_size={batch}',
    f'--config.duration={steps} steps',
    f'--config.checkpoint.every={every} steps',
    '--config.log_every=50 steps',
    '--config.evaluation.during_training=()',
    '--config.evaluation.best_on=()',
  ]


def sets(tiny: bool, test: int = 3589) -> Callable[[pathlib.Path, str], None]:
  """Writes the sets, with so many faces to test on, into the case's folder."""

  def prepare(folder: pathlib.Path, python: str) -> None:
    del python
    (folder / 'data').mkdir()
    write_sets(folder / 'data', TINY_SIZES if tiny else SIZES, 40 if tiny else test)

  return prepare


def trained(
  tiny: bool, test: int = 3589, checkpoints: int = 1
) -> Callable[[pathlib.Path, str], None]:
  """Writes the sets, trains a step for each checkpoint, and exports the last one's weights."""

  def prepare(folder: pathlib.Path, python: str) -> None:
    sets(tiny, test)(folder, python)
    flags = config_flags(tiny, checkpoints, 1, 8 if tiny else 128)
    places = [f'--data_dir={folder}/data', f'--workdir={folder}/run']
    mtface(python, 'train', *flags, *places)
    weights = ['--format=mtface', f'--to={folder}/run.safetensors']
    mtface(python, 'export', f'--workdir={folder}/run', *weights)

  return prepare


def evaluate_words(checkpoint: str = 'last') -> Sequence[str]:
  """The command that evaluates the run on FER-2013's private test."""
  places = [f'--workdir={RUN}', f'--data_dir={DATA}', '--on=fer2013_private']
  return ['-m', 'mtface', 'evaluate', *places, f'--checkpoint={checkpoint}']


def accuracies(fresh: pathlib.Path) -> dict[str, float]:
  """{accuracy/TASK: share} that `mtface evaluate` left in the case's run."""
  rows = json.loads((fresh.parent / 'run' / 'results.json').read_text())['results']
  return {f'accuracy/{row["task"]}': row['accuracy'] for row in rows}


def figures(fresh: pathlib.Path) -> dict[str, float]:
  """What a peer's script left."""
  return json.loads((fresh / 'figures.json').read_text())
