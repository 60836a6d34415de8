"""Runs a command with a limited amount of memory, and says how much it took.

    python -m benchmarks.limited --gigabytes=4 -- mtface build synthetic_faces/people_rgb224_300000
    --data_dir=...

The command and all its children are put into a memory control group of their own (Linux, as root):
the kernel ends them if they need more, page cache included, which it gives back first. What is
printed at the end as one line of JSON:

    seconds     wall time
    exit        the command's exit code
    anonymous   the most that all processes together held at a time of memory that cannot be read
                back from a file, in MB (sampled)
    limit_hits  how often the kernel had to give back page cache to stay within the limit
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

_V1, _V2 = pathlib.Path('/sys/fs/cgroup/memory'), pathlib.Path('/sys/fs/cgroup')
_EVERY = 0.2  # seconds


class Group:
  """A memory control group, of version 1 or 2."""

  def __init__(self, limit: int):
    self._v1 = (_V1 / 'memory.limit_in_bytes').exists()
    self._folder = (_V1 if self._v1 else _V2) / f'limited-{os.getpid()}'
    try:
      self._folder.mkdir()
      (self._folder / ('memory.limit_in_bytes' if self._v1 else 'memory.max')).write_text(
        str(limit)
      )
    except OSError as error:
      sys.exit(
        f'{self._folder}: no control group can be made ({error.strerror}); run as root, on Linux'
      )

  def enter(self) -> None:
    """Moves the calling process into the group."""
    (self._folder / 'cgroup.procs').write_text(str(os.getpid()))

  def anonymous(self) -> int:
    """Bytes of anonymous memory of all its processes."""
    stat = dict(line.split() for line in (self._folder / 'memory.stat').read_text().splitlines())
    return int(stat['total_rss' if self._v1 else 'anon'])

  def limit_hits(self) -> int:
    """How often an allocation met the limit."""
    if self._v1:
      return int((self._folder / 'memory.failcnt').read_text())
    return int(
      dict(line.split() for line in (self._folder / 'memory.events').read_text().splitlines())[
        'max'
      ]
    )

  def remove(self) -> None:
    """Removes the group, whose processes end by now."""
    for _ in range(50):
      with contextlib.suppress(OSError):
        self._folder.rmdir()
        return
      time.sleep(_EVERY)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--gigabytes', type=float, default=4.0)
  parser.add_argument('command', nargs='+')
  options = parser.parse_args()
  group = Group(int(options.gigabytes * 2**30))
  start, peak = time.monotonic(), 0
  with subprocess.Popen(options.command, preexec_fn=group.enter) as command:
    while command.poll() is None:
      peak = max(peak, group.anonymous())
      time.sleep(_EVERY)
  found = {'seconds': round(time.monotonic() - start, 1), 'exit': command.returncode}
  found |= {'anonymous': round(peak / 1e6), 'limit_hits': group.limit_hits()}
  print(json.dumps(found), flush=True)
  group.remove()
  sys.exit(command.returncode)


if __name__ == '__main__':
  main()
