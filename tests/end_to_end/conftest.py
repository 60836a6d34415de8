"""A disk that can be filled: a small file system in memory. Mounting one takes root."""

import os
import subprocess

import pytest

SIZE = 8 << 20
PAGE = 4096


def pages(folder):
  """How many pages the files of a folder take on such a disk."""
  return sum(-(-path.stat().st_size // PAGE) for path in folder.rglob('*') if path.is_file())


class Disk:
  """A file system of 8 MiB, a file that fills it, and a folder on it."""

  def __init__(self, folder):
    self.folder = folder
    self._filler = folder / 'filler'

  def leave(self, free):
    """Fills the disk up to `free` bytes."""
    with self._filler.open('ab') as file:
      while (count := os.statvfs(self.folder).f_bavail * PAGE - free) > 0:
        file.write(bytes(count))
        file.flush()

  def empty(self):
    self._filler.unlink()

  def read_only(self):
    subprocess.run(['mount', '-o', 'remount,ro', self.folder], check=True)


@pytest.fixture
def disk(tmp_path):
  folder = tmp_path / 'disk'
  folder.mkdir()
  mounted = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'tmpfs', folder], capture_output=True
  )
  if mounted.returncode:
    pytest.skip(f'cannot mount a small disk here: {mounted.stderr.decode().strip()}')
  yield Disk(folder)
  subprocess.run(['umount', '-l', folder], check=True)
