"""Work for the harness's tests: nothing that takes time, or a package."""

import pathlib

import numpy as np

from benchmarks.contestants import Program
from benchmarks.work import Unavailable, Work

WORKS = 'tests.benchmarks.works'


def counting(of):
  """Appends a letter to a file for each step, and says what it is told to."""
  path = pathlib.Path(of['to'])

  def run(steps):
    with path.open('a') as file:
      file.write(of['letter'] * steps)

  return Work(run, lambda: {'scores/a': np.array(of['scores'])}, {'parameters': of['parameters']})


def missing(of):
  raise Unavailable(f'{of["what"]} is not installed')


def broken(_):
  raise ValueError('this cannot be prepared')


def contestant(folder, letter='a', scores=(1.0, 2.0)):
  of = {'to': str(folder / 'steps'), 'letter': letter, 'scores': scores, 'parameters': 7}
  return Program(letter, f'{WORKS}:counting', of)
