"""Paths and references as a user writes them: `~/runs/a`, `runs/a@best`."""

from __future__ import annotations

import os
import pathlib
import re

from mtface.errors import UserError

_ADDRESS = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:/')  # pathlib makes gs:/bucket of gs://bucket; C:/ is a drive
_SELECTION = re.compile(r'(.+)@(last|best|\d+|average:\d+|ensemble:\d+)')


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
  """A path with its ~ expanded. Every path that a user gives goes through here, on the command line and from Python.

  Raises:
    UserError: an address such as gs://bucket/runs, of which pathlib would make a folder `gs:` of this machine; an unknown user's ~.
  """
  text = os.fspath(path)
  if _ADDRESS.match(text):
    raise UserError(
      f'{text}: is an address, and mtface reads and writes paths of this machine; mount the bucket (gcsfuse, mount-s3, rclone '
      'mount) and name the folder where it is mounted, or copy what is there'
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:  # ~nobody
    raise UserError(f'{text}: {error}; give the whole path') from error


def split_selection(text: str) -> tuple[str, str]:
  """(path or name, selection) of `PATH@last`, @best, @STEP, @average:K, @ensemble:K; '' where it ends in none of these.

  Any other @ is the path's own, as in /home/jane@example.org/run.
  """
  found = _SELECTION.fullmatch(text)
  return (found[1], found[2]) if found else (text, '')
