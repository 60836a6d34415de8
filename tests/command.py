"""What a command line leaves on the terminal, and command lines in processes of their own."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
TINY = str(ROOT / 'tests' / 'tiny.py')


@dataclasses.dataclass
class Result:
  """What a command line left on the terminal."""

  code: int
  out: str
  err: str

  @property
  def error(self) -> str:
    """The one line of bad input: exit code 2, one such line, no traceback."""
    assert self.code == 2, self.err
    assert 'Traceback' not in self.err, self.err
    lines = [line for line in self.err.splitlines() if line.startswith('mtface: error: ')]
    assert len(lines) == 1, self.err
    assert self.err.rstrip().endswith(lines[0]), 'the error is the last that is said'
    return lines[0].removeprefix('mtface: error: ')

  @property
  def warnings(self) -> list[str]:
    return [line for line in self.err.splitlines() if line.startswith('mtface: warning: ')]


def python(*arguments: object, devices: int | None = None, cwd: pathlib.Path = ROOT) -> Result:
  """Runs `python -m ARGUMENTS`, on a number of virtual CPU devices where one is given."""
  started = start(*arguments, devices=devices, cwd=cwd)
  out, err = started.communicate()
  return Result(started.returncode, out, err)


def start(
  *arguments: object, devices: int | None = None, cwd: pathlib.Path = ROOT
) -> subprocess.Popen:
  """The same without waiting for its end."""
  env = dict(os.environ)
  if devices is not None:
    env['JAX_PLATFORMS'] = 'cpu'
    env['XLA_FLAGS'] = (
      f'{env.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={devices}'.strip()
    )
  command = [sys.executable, '-m', *map(str, arguments)]
  return subprocess.Popen(
    command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def free_port() -> int:
  """A TCP port that nothing listens on now."""
  with socket.socket() as found:
    found.bind(('localhost', 0))
    return found.getsockname()[1]
