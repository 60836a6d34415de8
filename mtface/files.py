"""Paths and references as a user writes them: `~/runs/a`, `runs/a@best`."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mtface import process
from mtface.errors import UserError

_ADDRESS = re.compile(
  r'[A-Za-z][A-Za-z0-9+.-]+:/'
)  # pathlib makes gs:/bucket of gs://bucket; C:/ is a drive
_SELECTION = re.compile(r'(.+)@(last|best|\d+|average:\d+|ensemble:\d+)')


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
  """A path with its ~ expanded. Every path that a user gives goes through here, on the command line
  and from Python.

  Raises:
    UserError: an address such as gs://bucket/runs, of which pathlib would make a folder `gs:` of
      this machine; an unknown user's ~.
  """
  text = os.fspath(path)
  if _ADDRESS.match(text):
    raise UserError(
      f'{text}: is an address, and mtface reads and writes paths of this machine; mount the bucket '
      '(gcsfuse, mount-s3, rclone '
      'mount) and name the folder where it is mounted, or copy what is there'
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:  # ~nobody
    raise UserError(f'{text}: {error}; give the whole path') from error


def split_selection(text: str) -> tuple[str, str]:
  """(path or name, selection) of `PATH@last`, @best, @STEP, @average:K, @ensemble:K; '' where it
  ends in none of these.

  Any other @ is the path's own, as in /home/jane@example.org/run.
  """
  found = _SELECTION.fullmatch(text)
  return (found[1], found[2]) if found else (text, '')


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file whole or not at all."""
  write_text(path, json.dumps(content, indent=1))


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
  """Writes a CSV file with a head, whole or not at all."""
  with replaced(path) as partial, partial.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(rows)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file whole or not at all.

  Raises:
    UserError: it cannot be written, or the disk is full (as from the functions above).
  """
  with replaced(path) as partial:
    partial.write_text(text)


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a temporary name beside `path`, and renames it to `path` when the block went well:
  whoever opens `path` finds the old file or the new one, whole, and two writers do not mix. An
  error leaves nothing behind; a killed process may leave `.NAME.*.tmp`.
  """
  partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:12]}.tmp')
  try:
    yield partial
    partial.replace(path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """`whole`, for the files of a workdir: its folder is made, and the first process writes for all.

  Raises:
    UserError: it cannot be written, or the disk is full.
  """
  if not process.is_first():  # what the others have is the same
    yield pathlib.Path(os.devnull)
    return
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
      yield partial
  except OSError as error:
    raise UserError(
      f'{path}: cannot be written ({error.strerror or error}); free space, or make the workdir '
      'writable'
    ) from error


def file_name(text: str) -> str:
  """A selection's or a source's name as that of a file; a fold and its rest, [fold=0/4] and
  [fold!=0/4], have two.
  """
  return re.sub(r'[^\w.\-]+', '_', text.replace('!=', '_not_'))
