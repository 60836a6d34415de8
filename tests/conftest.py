"""What all tests share: compiled programs, the tiny sets, one trained run, and the command line in
this process.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile

import pytest

from tests.command import Result
from tests.fakes import write_tiny


def pytest_configure(config):
  # Before JAX is imported. Tests compile the same few programs over and over, here and in processes
  # of their own.
  config.xla_cache = tempfile.mkdtemp(prefix='mtface-xla-')
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', config.xla_cache)
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
  # What is loaded from that cache makes XLA's CPU compiler say on stderr that this machine lacks
  # its own tuning flags.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  # Tests compile much and run little. What a program computes does not depend on it, but for
  # rounding.
  os.environ['XLA_FLAGS'] = (
    f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=1'.strip()
  )


def pytest_unconfigure(config):
  shutil.rmtree(config.xla_cache, ignore_errors=True)


@pytest.fixture
def mtface(capfd):
  """Runs one command line through the entry point, in this process: the imports of JAX take longer
  than most commands.
  """
  from absl import logging

  from mtface.cli import main as cli

  def run(*argv: str) -> Result:
    logging.get_absl_handler().python_handler.stream = sys.stderr
    capfd.readouterr()
    with pytest.raises(SystemExit) as exit_code:
      cli.main([str(item) for item in argv])
    captured = capfd.readouterr()
    return Result(exit_code.value.code or 0, captured.out, captured.err)

  return run


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory) -> pathlib.Path:
  """The prepared sets of tests/tiny.py. Not to be changed."""
  data_dir = tmp_path_factory.mktemp('tiny_data')
  write_tiny(data_dir)
  return data_dir


@pytest.fixture(scope='session')
def _trained(tiny_data, tmp_path_factory):
  """(workdir, the compiled training step) of tests/tiny.py."""
  from mtface.training import loop as train
  from tests.tiny import get_config

  workdir, steps = tmp_path_factory.mktemp('tiny_run') / 'run', []
  jit_step = train.jit_step
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(train, 'jit_step', lambda *args: steps.append(jit_step(*args)) or steps[-1])
    train.train(get_config(), workdir, tiny_data)
  return workdir, steps[0]


@pytest.fixture(scope='session')
def tiny_run(_trained) -> pathlib.Path:
  """The workdir of tests/tiny.py, trained to its 12 steps with checkpoints at 4, 8 and 12. Not to
  be changed.
  """
  return _trained[0]


@pytest.fixture(scope='session')
def tiny_step(_trained):
  """The training step of that run: another one would take as long to compile."""
  return _trained[1]


@pytest.fixture
def run_copy(tiny_run, tmp_path) -> pathlib.Path:
  """A copy of that workdir to be damaged."""
  return shutil.copytree(tiny_run, tmp_path / 'run')
