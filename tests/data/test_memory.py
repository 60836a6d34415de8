import pathlib

import pytest

from mtface.data import memory


def test_what_the_machine_has_left():
  text = pathlib.Path('/proc/meminfo').read_text()
  left = (
    int(next(line for line in text.splitlines() if line.startswith('MemAvailable')).split()[1])
    * 1024
  )
  assert memory.available() <= left * 1.2


@pytest.mark.parametrize(
  ('line', 'folder', 'files', 'left'),
  [
    ('0::/job', 'job', {'memory.max': '1000', 'memory.stat': 'anon 300\nfile 500\n'}, 700),
    ('0::/job/step', 'job', {'memory.max': '1000', 'memory.stat': 'anon 300\nfile 500\n'}, 700),
    ('0::/job', 'job', {'memory.max': 'max', 'memory.stat': 'anon 300\n'}, None),
    (
      '7:memory:/job',
      'memory/job',
      {'memory.limit_in_bytes': '1000', 'memory.stat': 'total_rss 999\n'},
      1,
    ),
    (
      '7:memory:/job',
      'memory/job',
      {'memory.limit_in_bytes': '1000', 'memory.stat': 'total_rss 1999\n'},
      0,
    ),
    (
      '7:cpu:/job',
      'cpu/job',
      {'memory.limit_in_bytes': '1000', 'memory.stat': 'total_rss 0\n'},
      None,
    ),
  ],
)
def test_limits_of_control_groups(tmp_path, monkeypatch, line, folder, files, left):
  (tmp_path / folder).mkdir(parents=True)
  for name, text in files.items():
    (tmp_path / folder / name).write_text(text)
  read = pathlib.Path.read_text
  own = {'/proc/self/cgroup': line, '/proc/meminfo': 'MemAvailable: 5000 kB\n'}
  monkeypatch.setattr(
    pathlib.Path, 'read_text', lambda self, *a, **k: own.get(str(self)) or read(self, *a, **k)
  )
  monkeypatch.setattr(memory, '_GROUPS', tmp_path)
  assert memory.available() == (5000 * 1024 if left is None else left)
