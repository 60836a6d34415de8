"""Each in a process of its own: what is replaced is stdout and stderr."""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.command import ROOT

OUTLIVES = 'import os, sys\nfrom mtface.cli.streams import outlive_readers\noutlive_readers()\n'


def run(program, **options):
  command = [sys.executable, '-c', OUTLIVES + textwrap.dedent(program)]
  return subprocess.Popen(command, cwd=ROOT, **options)


@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_a_program_goes_on_when_its_reader_is_gone(tmp_path, stream, unbuffered):
  done = tmp_path / 'done'
  program = f"""
    sys.{stream}.write('first\\n')
    sys.{stream}.flush()
    sys.stdin.read()
    for _ in range(3):
      print('x' * 100_000, file=sys.{stream}, flush=True)
    os.write(sys.{stream}.fileno(), b'of a library')
    print('left in the buffer', file=sys.{stream})
    open({str(done)!r}, 'w')
  """
  other = 'stderr' if stream == 'stdout' else 'stdout'
  options = {
    stream: subprocess.PIPE,
    other: (tmp_path / 'other').open('w'),
    'stdin': subprocess.PIPE,
  }
  process = run(program, env=os.environ | {'PYTHONUNBUFFERED': unbuffered}, **options)
  reader = getattr(process, stream)
  assert reader.readline() == b'first\n'
  reader.close()
  process.stdin.close()
  assert process.wait(60) == 0
  assert done.exists()
  assert (tmp_path / 'other').read_text() == ''


def test_what_is_read_is_whole():
  process = run(
    "print('ä', 1)\nprint('ö', file=sys.stderr)", stdout=subprocess.PIPE, stderr=subprocess.PIPE
  )
  assert [text.decode() for text in process.communicate()] == ['ä 1\n', 'ö\n']


def test_a_full_disk_is_an_error_all_the_same():
  with open('/dev/full', 'w') as full:
    process = run("print('x', flush=True)", stdout=full, stderr=subprocess.PIPE)
    assert b'No space left' in process.communicate()[1]
  assert process.returncode


def test_files_are_not_taken_for_streams_that_are_closed(tmp_path):
  checkpoint = tmp_path / 'checkpoint'
  program = f"""
    with open({str(checkpoint)!r}, 'w') as file:
      print('to nobody', flush=True)
      os.write(2, b'of a library')
      assert file.fileno() > 2
  """
  command = [sys.executable, '-c', OUTLIVES + textwrap.dedent(program)]
  shell = 'exec "$@" >&- 2>&-'
  assert subprocess.run(['sh', '-c', shell, 'sh', *command], cwd=ROOT).returncode == 0
  assert checkpoint.read_text() == ''
