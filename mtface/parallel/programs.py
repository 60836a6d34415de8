"""Compiled programs are kept in the user's cache folder: the same config compiles once a machine.

    ~/.cache/mtface/programs/jaxlib-VERSION-PROCESSOR/     ($XDG_CACHE_HOME in place of ~/.cache)

JAX decides what is the same program (the code, its flags, the device) and does the rest. It has no
eye for two things, which stand here: a program for one processor must not be run on another (jax
issue 38445), so the folder is named after it; and an entry may be damaged or half-written, so each
carries its checksum, is written under another name first, and is made again where it is not whole.

JAX's own settings hold: a JAX_COMPILATION_CACHE_DIR of the user's is left to JAX, and
JAX_ENABLE_COMPILATION_CACHE=0 turns it all off. Entries can be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
import platform
from typing import Any

from mtface import files
from mtface.parallel import jax_settings

LEAST_SECONDS = 0.3  # of compiling, for a program to be kept
MOST_BYTES = 2 << 30  # of a folder; what was not used for longest goes first
_SEAL = hashlib.sha256().digest_size
_CPUINFO = pathlib.Path('/proc/cpuinfo')
_NAMED = ('model name', 'cpu', 'flags', 'Features', 'CPU implementer', 'CPU part')


class Programs:
  """The entries of a folder by JAX's keys, in the form that JAX's cache asks for. No trouble with a
  file is more than a program that has to be compiled.
  """

  def __init__(self, folder: pathlib.Path, most_bytes: int = MOST_BYTES):
    self._path, self._most_bytes = folder, most_bytes

  def get(self, key: str) -> bytes | None:
    """What was put there, whole; None: nothing, or what is damaged, which is removed."""
    path = self._of(key)
    try:
      stored = path.read_bytes()
    except OSError:
      return None
    value, seal = stored[:-_SEAL], stored[-_SEAL:]
    is_whole = seal == _sealed(key, value)
    with contextlib.suppress(OSError):
      if is_whole:
        os.utime(path)  # when it was used last
      else:
        path.unlink()
    return value if is_whole else None

  def put(self, key: str, value: bytes) -> None:
    """Keeps it under `key`, and removes what is too much."""
    with contextlib.suppress(OSError):
      with files.whole(self._of(key)) as partial:
        partial.write_bytes(value + _sealed(key, value))
      self._remove_oldest()

  def _of(self, key: str) -> pathlib.Path:
    return self._path / f'{key}.program'

  def _remove_oldest(self) -> None:
    found = sorted((path.stat().st_mtime, path) for path in self._path.glob('*.program'))
    total = sum(path.stat().st_size for _, path in found)
    for _, path in found[:-1]:  # the newest one stays, however large
      if total <= self._most_bytes:
        return
      total -= path.stat().st_size
      path.unlink(missing_ok=True)


def _sealed(key: str, value: bytes) -> bytes:
  return hashlib.sha256(key.encode() + value).digest()


def keep_programs() -> None:
  """Lets JAX keep and use what this process compiles from now on, unless the user has said
  something about that, or the folder cannot be written.
  """
  if jax_settings.on_cpus(os.environ):
    # For each program that it loads, XLA's CPU compiler says as an error that this processor lacks
    # what are its own tuning flags. It is told to say what ends the process.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  import jax
  from jax._src import compilation_cache  # where JAX makes its cache has no public name

  values = jax.config.values
  if values['jax_compilation_cache_dir'] or not values['jax_enable_compilation_cache']:
    return
  if not (path := usable_folder()):
    return
  made = compilation_cache.get_file_cache

  def get_file_cache(asked: str) -> Any:
    return (Programs(path), asked) if asked == str(path) else made(asked)

  compilation_cache.get_file_cache = get_file_cache  # type: ignore[assignment]
  jax.config.update('jax_compilation_cache_dir', str(path))
  # autotuning of GPUs, which XLA keeps in files of its own without a checksum
  jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', LEAST_SECONDS)


def usable_folder() -> pathlib.Path | None:
  """The folder of this machine, made if it is not there; None if it cannot be written, or belongs
  to another user, whose programs would be run.
  """
  try:
    path = folder()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = path.stat().st_uid == os.getuid() if hasattr(os, 'getuid') else True
  except (OSError, RuntimeError):  # RuntimeError: there is no home
    return None
  return path if mine and os.access(path, os.W_OK | os.X_OK) else None


def folder() -> pathlib.Path:
  """Of the installed jaxlib, this processor and XLA_FLAGS."""
  base = os.environ.get('XDG_CACHE_HOME') or ''
  root = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path.home() / '.cache'
  known = f'{processor()}\n{os.environ.get("XLA_FLAGS", "")}'
  key = hashlib.sha256(known.encode()).hexdigest()[:16]
  return root / 'mtface' / 'programs' / f'jaxlib-{importlib.metadata.version("jaxlib")}-{key}'


def processor() -> str:
  """What the system says of the first processor: its model and what it can do."""
  try:
    lines = _CPUINFO.read_text().split('\n\n')[0].splitlines()
  except OSError:
    lines = []
  facts = [line for line in lines if line.partition(':')[0].strip() in _NAMED]
  return '\n'.join([platform.machine(), platform.processor(), *facts])


def about() -> str:
  """A line about where this process keeps its programs, for `mtface doctor`."""
  import jax

  path = jax.config.values['jax_compilation_cache_dir']
  if not path or not jax.config.values['jax_enable_compilation_cache']:
    return 'compiled programs: not kept'
  kept = [entry.stat().st_size for entry in pathlib.Path(path).glob('*.program')]
  return f'compiled programs: {path} ({len(kept):,}, {sum(kept) / 1e6:,.0f} MB)'
