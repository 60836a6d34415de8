"""Paths and references as users write them: `~/runs/a`, `runs/a@best`."""

from __future__ import annotations

import contextlib
import csv
import hashlib
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
)  # pathlib turns gs://bucket into gs:/bucket; C:/ is a drive
_LONGEST = 180  # bytes of a file's name, of 255; some get a beginning and an end
_SELECTION = re.compile(r'(.+)@((?:last|best|\d+|average:\d+|ensemble:\d+)(?::flip|:ten)?)')


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
  """A path with ~ expanded. Every path that a user passes, on the command line or from Python, goes
  through here.

  Raises:
    UserError: an address such as gs://bucket/runs, which pathlib would turn into a local folder
      `gs:`, or the ~ of an unknown user.
  """
  text = os.fspath(path)
  if _ADDRESS.match(text):
    raise UserError(
      f'{text}: is a remote address, but mtface reads and writes local paths; mount the bucket '
      '(gcsfuse, mount-s3, rclone '
      'mount) and pass the mount point, or copy the files here'
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:  # ~nobody
    raise UserError(f'{text}: {error}; pass the full path') from error


def split_selection(text: str) -> tuple[str, str]:
  """Splits `PATH@last`, @best, @STEP, @average:K or @ensemble:K into (path or name, selection); the
  selection is '' if there is none.

  Any other @ is part of the path, as in /home/jane@example.org/run.
  """
  found = _SELECTION.fullmatch(text)
  return (found[1], found[2]) if found else (text, '')


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file atomically."""
  write_text(path, json.dumps(content, indent=1))


def write_csv(path: pathlib.Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
  """Writes a CSV file with a header row, atomically."""
  with replaced(path) as partial, partial.open('w', newline='', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(rows)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file atomically.

  Raises:
    UserError: it cannot be written, or the disk is full (also raised by the functions above).
  """
  with replaced(path) as partial:
    partial.write_text(text, encoding='utf-8')


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
  """Like `whole`, for the files of a workdir: creates the folder; the first process writes for all.

  Raises:
    UserError: it cannot be written, or the disk is full.
  """
  if not process.is_first():  # the first process writes for all; the others hold the same data
    yield pathlib.Path(os.devnull)
    return
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
      yield partial
  except OSError as error:
    raise UserError(
      f'{path}: cannot be written ({error.strerror or error}); free up disk space, or make its '
      'folder writable'
    ) from error


def file_name(text: str) -> str:
  """The name of a selection or source as a file name; a fold and its complement, [fold=0/4] and
  [fold!=0/4], get different names. Of a long one, which file systems refuse, a digest is the end.
  """
  name = re.sub(r'[^\w.\-]+', '_', text.replace('!=', '_not_'))
  kept = name.encode()[:_LONGEST].decode(errors='ignore')
  return name if kept == name else f'{kept}_{hashlib.sha256(text.encode()).hexdigest()[:12]}'
