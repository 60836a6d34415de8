"""A process that starts itself anew: when, how often, and that nothing else about it changes."""

import os
import subprocess
import sys

import pytest

from mtface.cli import start
from mtface.cli.commands import COMMANDS
from mtface.parallel import jax_settings
from tests.command import ROOT


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """A machine on which the setting is of use: glibc 2.36, huge pages on request, no devices."""
  mode = tmp_path / 'enabled'
  mode.write_text('always [madvise] never\n')
  monkeypatch.setattr(start, '_MODE', mode)
  monkeypatch.setattr(start, '_glibc', lambda: (2, 36))
  monkeypatch.setattr(jax_settings, '_DEVICE_FILES', (str(tmp_path / 'nvidia[0-9]*'),))
  monkeypatch.setattr(sys, 'platform', 'linux')
  return tmp_path


def test_it_is_of_use_to_commands_that_compute(machine):
  assert start.reason_not_to(['train', '--config=demo'], {}) == ''
  assert COMMANDS.keys() >= start.COMPUTING
  for argv in ([], ['help'], ['params'], ['describe', 'train'], ['train', '--help']):
    assert start.reason_not_to(argv, {}) == 'a command that computes little'


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({'MTFACE_RESTART': '0'}, 'MTFACE_RESTART=0'),
    ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}, 'GLIBC_TUNABLES=glibc.malloc.hugetlb=1'),
    ({'GLIBC_TUNABLES': 'glibc.malloc.arena_max=2'}, 'GLIBC_TUNABLES=glibc.malloc.arena_max=2'),
    ({'LD_PRELOAD': 'libtcmalloc.so'}, 'LD_PRELOAD=libtcmalloc.so, which may be'),
    ({'JAX_PLATFORMS': 'cuda,cpu'}, 'JAX computes on accelerators'),
    ({'GLIBC_TUNABLES': 'glibc.rtld.nns=5', 'JAX_PLATFORMS': 'cpu'}, ''),
    ({'MTFACE_RESTART': '1'}, ''),
  ],
)
def test_what_the_environment_says_is_followed(machine, environment, expected):
  found = start.reason_not_to(['train'], environment)
  assert found.startswith(expected) and bool(found) == bool(expected)


@pytest.mark.parametrize(
  ('change', 'expected'),
  [
    (lambda m, _: m.setattr(sys, 'platform', 'darwin'), 'needs glibc 2.35 on Linux'),
    (lambda m, _: m.setattr(start, '_glibc', lambda: ()), 'needs glibc 2.35 on Linux'),
    (lambda m, _: m.setattr(start, '_glibc', lambda: (2, 31)), 'on Linux, is glibc 2.31'),
    (lambda m, at: m.setattr(start, '_MODE', at / 'none'), 'has no transparent huge pages'),
    (lambda _, at: (at / 'enabled').write_text('[always] madvise never'), 'is [always] madvise'),
    (lambda _, at: (at / 'enabled').write_text('always madvise [never]'), 'where it is madvise'),
  ],
)
def test_machines_on_which_it_would_do_nothing(machine, monkeypatch, change, expected):
  change(monkeypatch, machine)
  assert expected in start.reason_not_to(['train'], {})


def test_musl_has_no_such_version(monkeypatch):
  def unknown(_):
    raise ValueError('unrecognized configuration name')

  monkeypatch.setattr(os, 'confstr', unknown)
  assert start._glibc() == ()


def test_a_device_counts_where_there_is_a_plugin_for_it(machine, monkeypatch):
  for device, plugin in ((False, False), (True, False), (False, True), (True, True)):
    if device:
      (machine / 'nvidia0').touch()
    monkeypatch.setattr(jax_settings, '_plugins', lambda plugin=plugin: plugin)
    assert jax_settings.on_cpus({}) == (not (device and plugin))
    (machine / 'nvidia0').unlink(missing_ok=True)


def test_settings_of_the_users_own_stay():
  assert start.added('glibc.rtld.nns=5') == 'glibc.rtld.nns=5:glibc.malloc.hugetlb=1'


def test_the_program_is_not_this_test(machine, monkeypatch):
  monkeypatch.setattr(os, 'execve', lambda *_: pytest.fail('started anew'))
  start.restart(['train'])


@pytest.fixture
def began(tmp_path):
  """Runs a program; returns (what it leaves, the environment's setting at each start of it)."""
  record = tmp_path / 'starts'
  (tmp_path / 'sitecustomize.py').write_text(
    'import os, sys\n'
    f'with open({str(record)!r}, "a") as file:\n'
    '  print(os.getpid(), os.environ.get("GLIBC_TUNABLES", "-"), sys.stdin.fileno(), file=file)\n'
  )

  def run(*command, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ('GLIBC_TUNABLES', 'LD_PRELOAD')}
    env = kept | {'PYTHONPATH': f'{tmp_path}:{ROOT}', 'JAX_PLATFORMS': 'cpu'} | environment
    done = subprocess.run(
      [sys.executable, *command], env=env, cwd=ROOT, input='x', capture_output=True, text=True
    )
    starts = [line.split() for line in record.read_text().splitlines()]
    assert len({number for number, *_ in starts}) == 1, 'the process keeps its number'
    record.unlink()
    return done, [tunables for _, tunables, _ in starts]

  return run


@pytest.mark.skipif(start._machine() != '', reason='the setting does nothing on this machine')
def test_a_process_starts_anew_once_and_says_what_it_would_have_said(began):
  command = ('-m', 'mtface', 'train', '--nonsense=ä b')
  plain, starts = began(*command, MTFACE_RESTART='0')
  assert starts == ['-']
  again, starts = began(*command)
  assert starts == ['-', start.HUGE_PAGES]
  assert (again.returncode, again.stdout, again.stderr) == (2, plain.stdout, plain.stderr)
  assert 'nonsense' in plain.stderr
  # from Python, as a library would call it
  program = 'import sys; from mtface.cli import entry; sys.argv = ["mtface", "train", "-x"]; '
  _, starts = began('-c', program + 'entry.main()')
  assert starts == ['-']


def test_a_script_of_that_name_is_the_program(began, tmp_path):
  script = tmp_path / 'mtface'
  script.write_text('from mtface.cli.entry import main\nmain()\n')
  _, starts = began(str(script), 'train', '--nonsense')
  assert starts == ['-', start.HUGE_PAGES][: 1 if start._machine() else 2]
