"""How much memory this process may still use: on the machine, and within the limits set by a
scheduler or container.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

_GROUPS = pathlib.Path('/sys/fs/cgroup')
# of control groups: (file of the limit, the line of memory.stat for memory that cannot be
# reclaimed)
_KINDS = {
  'memory': ('memory.limit_in_bytes', 'total_rss'),  # version 1
  '': ('memory.max', 'anon'),  # version 2
}


def available() -> int:
  """Bytes that can be allocated without swapping or being killed; 4 GB if the system does not
  say.
  """
  return max(0, min(_machine(), *_groups()))


def _machine() -> int:
  try:
    fields = dict(
      line.split(':') for line in pathlib.Path('/proc/meminfo').read_text().splitlines()
    )
    return int(fields['MemAvailable'].split()[0]) * 1024
  except (OSError, KeyError, ValueError):
    return 4 << 30


def _groups() -> Iterator[int]:
  """What is available within the limit of each control group of this process."""
  yield 1 << 62
  try:
    lines = pathlib.Path('/proc/self/cgroup').read_text().splitlines()
  except OSError:
    return
  for line in lines:
    _, kind, path = line.split(':', 2)
    if kind in _KINDS:
      limit_file, used_line = _KINDS[kind]
      folder = _GROUPS / kind / path.lstrip('/')
      for group in [folder, *folder.parents]:
        if _GROUPS in group.parents or group == _GROUPS:
          yield from _left(group, limit_file, used_line)


def _left(group: pathlib.Path, limit_file: str, used_line: str) -> Iterator[int]:
  try:
    limit = int((group / limit_file).read_text())  # "max" where there is none
    stat = dict(line.split() for line in (group / 'memory.stat').read_text().splitlines())
    yield limit - int(stat[used_line])
  except (OSError, ValueError, KeyError):
    return
