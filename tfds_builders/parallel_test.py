import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

from tfds_builders import parallel

ROOT = pathlib.Path(__file__).parents[1]
ENV = os.environ | {'PYTHONPATH': str(ROOT)}


@pytest.mark.parametrize('workers', [1, 2])
def test_items_are_read_only_as_fast_as_results_are_taken(workers):
  read = []

  def items():
    for i in range(10_000):
      read.append(i)
      yield -i

  results = parallel.ordered_map(abs, items(), workers=workers, chunk=3)
  assert [next(results) for _ in range(50)] == list(range(50))
  ahead = 1 if workers == 1 else 3 * (4 * workers + 1)
  assert len(read) <= 50 + ahead
  results.close()


def test_workers_do_not_run_the_program_again(tmp_path):
  program = """
from tfds_builders import parallel
mapped = list(parallel.ordered_map(abs, [-1, -2, -3], workers=2, chunk=1))
print(mapped, __spec__ is None, "__file__" in globals())
"""
  (tmp_path / 'script.py').write_text(program)
  as_file = subprocess.run(
    [sys.executable, tmp_path / 'script.py'], capture_output=True, text=True, cwd=ROOT, env=ENV
  )
  assert (as_file.stdout, as_file.stderr) == ('[1, 2, 3] True True\n', '')
  from_stdin = subprocess.run(
    [sys.executable], input=program, capture_output=True, text=True, cwd=ROOT, env=ENV
  )
  assert (from_stdin.stdout[:9], from_stdin.stderr) == ('[1, 2, 3]', '')


def test_a_long_tmpdir_has_no_room_for_a_socket(tmp_path, monkeypatch):
  assert parallel._context('os').get_start_method() == 'forkserver'
  long = tmp_path / ('x' * 100)
  long.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(long))
  assert parallel._context('os').get_start_method() == 'spawn'
  assert list(parallel.ordered_map(abs, [-1, -2], workers=2)) == [1, 2]


def test_a_daemon_works_alone(monkeypatch):
  monkeypatch.setattr(multiprocessing.current_process(), '_config', {'daemon': True})
  monkeypatch.setattr(parallel.futures, 'ProcessPoolExecutor', None)
  assert list(parallel.ordered_map(abs, [-1, -2], workers=2)) == [1, 2]
