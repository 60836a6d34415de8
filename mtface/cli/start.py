"""The first thing that a process of `mtface` does: it starts itself anew if the memory allocator of
the C library has to be told something, which it hears only when a process begins.

XLA asks for its large buffers anew at every step. On CPUs that is malloc, and glibc's gives such
memory back to the kernel at once: every page of it is then a fault, and is zeroed, step after step,
a fifth of the processor time of a training run (benchmarks/README.md). In huge pages, the same
memory is a hundredth as many faults. The new process keeps its number, files and arguments.

Nothing here imports JAX, NumPy or the commands. Only the entry point (mtface/cli/entry.py) restarts
anything, and only in a process that is `mtface`: whoever uses it from Python is left alone.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

from mtface.parallel import jax_settings

SWITCH = 'MTFACE_RESTART'  # 0: never
TUNABLES = 'GLIBC_TUNABLES'
HUGE_PAGES = 'glibc.malloc.hugetlb=1'  # madvise(MADV_HUGEPAGE) on what malloc takes
# The commands that compute enough for two tenths of a second to be worth it.
COMPUTING = frozenset(
  [
    'train',
    'evaluate',
    'predict',
    'crossval',
    'sweep',
    'search',
    'export',
    'report',
    'associate',
    'features',
    'classify',
    'identify',
    'video',
    'calibrate',
    'audit',
    'doctor',
  ]
)
_LEAST_GLIBC = (2, 35)  # the first one that has the setting
_MODE = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def restart(argv: Sequence[str]) -> None:
  """Starts this process anew with the setting in its environment, if that is of use: see
  `reason_not_to`. It does not return then, and the new one finds nothing more to do.
  """
  if not is_the_program() or reason_not_to(argv, os.environ):
    return
  environment = {**os.environ, TUNABLES: added(os.environ.get(TUNABLES, ''))}
  try:
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
  except OSError:  # it goes on as it is: slower, with the same results
    return


def is_the_program() -> bool:
  """Whether the process is `mtface` or `python -m mtface`, and not a debugger, a test or a script
  of somebody's that calls it.
  """
  begun = sys.modules['__main__']
  name = getattr(getattr(begun, '__spec__', None), 'name', '') or ''
  script = pathlib.Path(getattr(begun, '__file__', None) or '').name
  return bool(sys.executable) and (name == 'mtface.__main__' or (not name and script == 'mtface'))


def added(tunables: str) -> str:
  """The setting beside those of the user's own."""
  return f'{tunables}:{HUGE_PAGES}' if tunables else HUGE_PAGES


def reason_not_to(argv: Sequence[str], environment: Mapping[str, str]) -> str:
  """Why a process with these arguments should stay as it is; '' if it should start anew."""
  if environment.get(SWITCH, '1').lower() in ('0', 'false', 'no', 'off'):
    return f'{SWITCH}={environment[SWITCH]}'
  if 'glibc.malloc.' in environment.get(TUNABLES, ''):
    return f'{TUNABLES}={environment[TUNABLES]}'
  if preloaded := environment.get('LD_PRELOAD'):
    return f'LD_PRELOAD={preloaded}, which may be another allocator'
  if not COMPUTING.intersection(argv[:1]) or {'-h', '--help'}.intersection(argv):
    return 'a command that computes little'
  return _machine() or ('' if jax_settings.on_cpus(environment) else 'JAX computes on accelerators')


def _machine() -> str:
  """Why the setting would do nothing on this machine."""
  if sys.platform != 'linux' or (version := _glibc()) < _LEAST_GLIBC:
    found = f'glibc {".".join(map(str, version))}' if sys.platform == 'linux' and version else ''
    return f'needs glibc {_LEAST_GLIBC[0]}.{_LEAST_GLIBC[1]} on Linux{found and f", is {found}"}'
  try:
    mode = _MODE.read_text()
  except OSError:
    return 'this kernel has no transparent huge pages'
  if '[madvise]' not in mode:
    return f'{_MODE} is {mode.strip()}, and glibc acts where it is madvise'
  return ''


def _glibc() -> tuple[int, ...]:
  """The version of glibc; () of another C library."""
  try:
    name, _, version = (os.confstr('CS_GNU_LIBC_VERSION') or '').partition(' ')
    return tuple(int(part) for part in version.split('.')[:2]) if name == 'glibc' else ()
  except (ValueError, OSError):  # musl knows no such name
    return ()


def about() -> str:
  """A line about this process's allocator, for `mtface doctor`."""
  if HUGE_PAGES in os.environ.get(TUNABLES, ''):
    return f'memory: in huge pages ({TUNABLES}={HUGE_PAGES}; {SWITCH}=0 leaves it as it was)'
  why = reason_not_to(['doctor'], os.environ) or 'this process was not started by `mtface`'
  return f'memory: as the C library has it ({why})'
