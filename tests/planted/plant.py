"""Plants bugs in a copy of this checkout, one at a time, and says which tests notice: `make
test-planted`.

The bugs are in the tables beside this file, `*.toml`, a bug a table `[[bug]]`:

    what    what is wrong then, in a few words
    file    where
    old     the text to replace, which must be there exactly once
    new     what takes its place
    tests   pytest's names of the tests each of which must go red

A test that stays green does not guard what it says it does; a text that is gone means that the
table is out of date. Both are failures.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]
_TEST_SECONDS, _RUN_SECONDS = 300, 1200
# Imports take longer than most tests: they are made once, in a process that is forked for every
# bug.
_FORKS = multiprocessing.get_context('forkserver')
_LIBRARIES = (
  'cv2,flax.nnx,grain,jax,matplotlib,optax,orbax.checkpoint,pytest,'
  'scipy.optimize,scipy.signal,scipy.stats,sklearn.metrics'
)


@dataclasses.dataclass(frozen=True)
class Bug:
  """One row of a table, see the module's docstring."""

  what: str
  file: str
  old: str
  new: str
  tests: tuple[str, ...]


def read_bugs(folder: pathlib.Path) -> dict[str, Bug]:
  """{TABLE NUMBER: bug} of all tables in a folder, as in `data 3`."""
  found = {}
  for path in sorted(folder.glob('*.toml')):
    for number, row in enumerate(tomllib.loads(path.read_text())['bug'], 1):
      found[f'{path.stem} {number}'] = Bug(**row | {'tests': tuple(row['tests'])})
  return found


def out_of_date(root: pathlib.Path, bug: Bug) -> str:
  """Why a bug cannot be planted; '' where it can."""
  path = root / bug.file
  times = path.read_text().count(bug.old) if path.is_file() else 0
  return '' if times == 1 else f'OUT OF DATE: {bug.file} has the text {times} times'


def copy_checkout(root: pathlib.Path, to: pathlib.Path) -> pathlib.Path:
  """Copies what git knows of the checkout, or would; builds, environments and data stay behind."""
  listed = subprocess.run(
    ['git', '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    capture_output=True,
    check=True,
  )
  for name in filter(None, listed.stdout.decode().split('\0')):
    if (root / name).is_file():
      (to / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(root / name, to / name)
  return to


def run_tests(copy: pathlib.Path, tests: Sequence[str]) -> tuple[int | None, list[str], str]:
  """(pytest's exit code, or None where it did not end; the tests that went red; what pytest
  printed).
  """
  output = copy.parent / f'{copy.name}.out'
  running = _FORKS.Process(target=_pytest, args=(copy, output, tests))
  running.start()
  running.join(_RUN_SECONDS)
  if running.is_alive():
    running.kill()
    running.join()
    return None, [], ''
  text = output.read_text(errors='replace')
  return (
    running.exitcode,
    list(dict.fromkeys(re.findall(r'^(?:FAILED|ERROR) (\S+::\w+)', text, re.M))),
    text,
  )


def _pytest(copy: pathlib.Path, output: pathlib.Path, tests: Sequence[str]) -> None:
  """In a process that has imported all libraries and nothing of ours: runs tests of a copy."""
  import pytest

  for stream in (1, 2):
    os.dup2(
      os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND | (os.O_TRUNC if stream == 1 else 0)),
      stream,
    )
  os.chdir(copy)
  os.environ |= {'PYTHONPATH': str(copy), 'TMPDIR': str(copy.parent)}
  sys.path[:] = [
    str(copy),
    *(path for path in sys.path if path != str(pathlib.Path(__file__).parent)),
  ]
  sys.argv, sys.dont_write_bytecode = ['pytest'], True
  sys.exit(
    pytest.main(
      ['-p', 'no:cacheprovider', '-rfE', '--tb=line', f'--timeout={_TEST_SECONDS}', *tests]
    )
  )


def plant(copy: pathlib.Path, bug: Bug) -> str:
  """What became of a bug: the tests that noticed it, or in capitals what is wrong with the table or
  the tests.
  """
  if why := out_of_date(copy, bug):
    return why
  path = copy / bug.file
  text = path.read_text()
  path.write_text(text.replace(bug.old, bug.new))
  try:
    code, red, output = run_tests(copy, bug.tests)
  finally:
    path.write_text(text)
  if code not in (0, 1):  # not collected, or it hangs: no test has said what is wrong
    return f'NOT RUN: pytest ended with {code}: {(output.strip().splitlines() or [""])[-1]}'
  if green := [
    test
    for test in bug.tests
    if not any(name == test or name.startswith(f'{test}::') for name in red)
  ]:
    also = f'; red: {", ".join(red)}' if red else ''
    return f'NOT NOTICED by {", ".join(green)}{also}'
  return ', '.join(red)


def plant_all(copies: Sequence[pathlib.Path], bugs: dict[str, Bug]) -> dict[str, str]:
  """{row: what became of it}, one copy of the checkout for each job; a line is printed for each as
  it ends.
  """
  free: queue.Queue[pathlib.Path] = queue.Queue()
  for copy in copies:
    free.put(copy)

  def one(bug: Bug) -> str:
    copy = free.get()
    try:
      return plant(copy, bug)
    finally:
      free.put(copy)

  with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
    running = {row: pool.submit(one, bug) for row, bug in bugs.items()}
    for row, future in running.items():
      print(f'| {row} | {bugs[row].what} | {bugs[row].file} | {future.result()} |', flush=True)
  return {row: future.result() for row, future in running.items()}


def red_without(copy: pathlib.Path, bugs: dict[str, Bug]) -> list[str]:
  """The tests of the bugs that are red without any bug."""
  code, red, output = run_tests(copy, sorted({test for bug in bugs.values() for test in bug.tests}))
  return red or ([output] if code else [])


def main(argv: Sequence[str], root: pathlib.Path = ROOT) -> int:
  """The command; 1 where a bug was not noticed."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('rows', nargs='*', help='tables, or rows as "data 3"; none: all')
  parser.add_argument('--jobs', type=int, default=2)
  parser.add_argument(
    '--preload', default=f'{_LIBRARIES},tensorflow_datasets', help='libraries that tests import'
  )
  given = parser.parse_args(argv)
  bugs = read_bugs(root / 'tests/planted')
  bugs = {
    row: bug
    for row, bug in bugs.items()
    if not given.rows or {row, row.split()[0]} & set(given.rows)
  }
  started = time.monotonic()
  with tempfile.TemporaryDirectory(prefix='planted-') as folder:
    _FORKS.set_forkserver_preload(given.preload.split(','))
    # What tests/conftest.py sets before JAX is imported, and one cache of compiled programs for
    # all.
    os.environ |= {
      'JAX_COMPILATION_CACHE_DIR': f'{folder}/xla',
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
      # No bytecode: a file that is changed twice within a second, to the same length, would not be
      # compiled again.
      'PYTHONDONTWRITEBYTECODE': '1',
    }
    copies = [copy_checkout(root, pathlib.Path(folder) / str(job)) for job in range(given.jobs)]
    if red := red_without(copies[0], bugs):
      print('red without any bug:', *red, sep='\n')
      return 1
    print('| row | bug | file | red |\n|---|---|---|---|')
    found = plant_all(copies, bugs)
  bad = [row for row, what in found.items() if what[:3].isupper()]
  print(
    f'\n{len(found) - len(bad)} of {len(found)} noticed in {time.monotonic() - started:.0f} s; '
    f'not: {", ".join(bad)}'
  )
  return 1 if bad or not found else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
