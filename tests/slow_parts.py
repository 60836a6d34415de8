"""Run by tfds_builders/parts_test.py as a process of its own, which it kills: a build by parts in
which every image takes long.
"""

from __future__ import annotations

import functools
import pathlib
import sys
import time
from typing import Any

from mtface.data.build import build
from tfds_builders import imdb_wiki
from tfds_builders.wiki import wiki_dataset_builder as wiki

PART_SIZE = 4


def convert(
  entry: imdb_wiki.Entry, *, log: pathlib.Path, seconds: float, size: int = 48, channels: int = 1
) -> list[Any]:
  """Does what the builder does, `seconds` later, and notes in the folder `log` that this image has
  been converted once more.
  """
  time.sleep(seconds)
  with (log / entry.path.stem).open('a') as file:
    file.write('x')
  return imdb_wiki.convert(entry, size=size, channels=channels)


def main(manual_dir: str, data_dir: str, log: str) -> None:
  """Builds wiki/gray48 slowly, with two workers."""
  wiki.Builder.PART_SIZE = PART_SIZE
  wiki.Builder.converter = lambda self: functools.partial(
    convert, log=pathlib.Path(log), seconds=0.05
  )
  build('wiki/gray48', data_dir=data_dir, manual_dir=manual_dir, workers=2)


if __name__ == '__main__':
  main(*sys.argv[1:])
