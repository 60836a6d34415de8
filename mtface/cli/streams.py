"""What a program prints when nobody reads it any more: `mtface train ... | head -1`, a terminal
that was closed. It goes on in silence.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ESHUTDOWN)  # a pipe, a terminal, a socket


class _Output(io.FileIO):
  """A file descriptor that leads nowhere from the moment on that its reader is gone."""

  def write(self, data: Any) -> int:
    try:
      return super().write(data)
    except OSError as error:
      if error.errno not in _GONE:
        raise
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, self.fileno())  # also for libraries that write there by themselves
      os.close(nowhere)
      return len(data)


def outlive_readers() -> None:
  """Makes stdout and stderr such files. To be called once, by a program; what has replaced them (a
  test, a notebook) stays as it is.
  """
  _open_closed()
  if sys.stdout is sys.__stdout__:
    sys.stdout = _wrapped(sys.stdout, 1)
  if sys.stderr is sys.__stderr__:
    sys.stderr = _wrapped(sys.stderr, 2)


def _open_closed() -> None:
  """Opens /dev/null in place of standard files that are closed: the next file to be opened, a
  checkpoint, would be taken for them.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)


def _wrapped(before: TextIO | None, number: int) -> io.TextIOWrapper:
  raw: Any = _Output(number, 'w', closefd=False)
  line_buffering, unbuffered = number == 2 or raw.isatty(), False
  if isinstance(before, io.TextIOWrapper):
    before.flush()
    line_buffering, unbuffered = (
      before.line_buffering,
      before.write_through,
    )  # of -u and PYTHONUNBUFFERED
  return io.TextIOWrapper(
    io.BufferedWriter(raw),
    encoding=getattr(before, 'encoding', None) or 'utf-8',
    errors=getattr(before, 'errors', None) or 'backslashreplace',
    line_buffering=line_buffering or unbuffered,
    write_through=unbuffered,
  )
