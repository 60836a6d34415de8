"""Run by test_build.py as a process of its own, which it kills: a build in which every image takes
long.
"""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import sys
import time
from typing import Any

from mtface.data.build import build
from tfds_builders.utkface import utkface_dataset_builder as utkface


def slow_convert(path: pathlib.Path, *, pids: pathlib.Path) -> list[Any]:
  """Leaves this process's id in the folder `pids`, then does what the builder does."""
  (pids / str(os.getpid())).touch()
  time.sleep(0.1)
  return utkface.convert(path, size=48, channels=1)


def main(manual_dir: str, data_dir: str, pids: str) -> None:
  """Builds utkface/gray48 slowly, with two workers."""
  utkface.Builder.converter = lambda self: functools.partial(slow_convert, pids=pathlib.Path(pids))
  build('utkface/gray48', data_dir=data_dir, manual_dir=manual_dir, workers=2)


if __name__ == '__main__':
  signal.signal(
    signal.SIGINT, signal.default_int_handler
  )  # a script's background jobs start with it ignored
  main(*sys.argv[1:])
