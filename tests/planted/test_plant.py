"""Planting in a project of two lines: what is noticed, what is not, and tables that are out of
date.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.planted import plant

PLANT = pathlib.Path(__file__).with_name('plant.py')


@pytest.fixture
def project(tmp_path):
  """A checkout of one module, one test and a copy of plant.py; returns a function that plants rows
  and gives (exit code, output).
  """
  (tmp_path / 'tests/planted').mkdir(parents=True)
  shutil.copy(PLANT, tmp_path / 'tests/planted')
  (tmp_path / 'sums.py').write_text('def add(a, b):\n  return a + b\n')
  (tmp_path / 'tests/test_sums.py').write_text(
    'from sums import add\n\ndef test_add():\n  assert add(2, 2) == 4\n\ndef test_zero():\n  '
    'assert add(0, 0) == 0\n'
  )
  subprocess.run(['git', 'init', '-q', tmp_path], check=True)

  def run(*rows):
    lines = [
      f'[[bug]]\nwhat = "w"\nfile = "sums.py"\nold = "{old}"\nnew = "{new}"\ntests = {tests}'
      for old, new, tests in rows
    ]
    (tmp_path / 'tests/planted/all.toml').write_text('\n'.join(lines))
    command = [sys.executable, tmp_path / 'tests/planted/plant.py', '--jobs=1', '--preload=pytest']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (tmp_path / 'sums.py').read_text() == 'def add(a, b):\n  return a + b\n', (
      'bugs are planted in a copy'
    )
    return done.returncode, done.stdout

  return run


def test_a_bug_that_every_named_test_notices(project):
  code, out = project(
    ('a + b', 'a - b', ['tests/test_sums.py::test_add']),
    ('a + b', 'a + b + 1', ['tests/test_sums.py']),
  )
  assert code == 0
  assert '| all 1 | w | sums.py | tests/test_sums.py::test_add |' in out
  assert (
    '| all 2 | w | sums.py | tests/test_sums.py::test_add, tests/test_sums.py::test_zero |' in out
  )
  assert '2 of 2 noticed' in out


def test_bugs_that_are_not_noticed_and_rows_that_are_out_of_date(project):
  both = ['tests/test_sums.py::test_add', 'tests/test_sums.py::test_zero']
  code, out = project(
    ('a + b', 'a * b', both), ('a', 'c', both), ('a - b', 'a', both), ('a + b', 'a +', both)
  )
  assert code == 1
  assert (
    '| all 1 | w | sums.py | NOT NOTICED by tests/test_sums.py::test_add, '
    'tests/test_sums.py::test_zero |' in out
  )
  assert '| all 2 | w | sums.py | OUT OF DATE: sums.py has the text 3 times |' in out
  assert '| all 3 | w | sums.py | OUT OF DATE: sums.py has the text 0 times |' in out
  assert '| all 4 | w | sums.py | NOT RUN: pytest ended with ' in out, 'it does not even compile'
  assert '0 of 4 noticed' in out


def test_a_test_that_is_red_anyway_shows_nothing(project):
  code, out = project(('a + b', 'a - b', ['tests/test_sums.py', 'tests/test_gone.py::test_gone']))
  assert code == 1
  assert out.startswith('red without any bug:')


def test_the_tables_are_of_the_code_as_it_is():
  root = PLANT.parents[2]
  bugs = plant.read_bugs(PLANT.parent)
  assert len(bugs) > 200
  assert {row: why for row, bug in bugs.items() if (why := plant.out_of_date(root, bug))} == {}
  files = {test.partition('::')[0] for bug in bugs.values() for test in bug.tests}
  assert [name for name in files if not (root / name).is_file()] == []
