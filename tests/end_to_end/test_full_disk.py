"""A disk that is full, and one that cannot be written, for real. Full while the second checkpoint
is saved: test_damage.py.
"""

import re
import subprocess

import numpy as np
import pytest

from mtface.training.checkpoints import Checkpoints
from tests.cartoons import make_fer2013
from tests.command import TINY
from tests.end_to_end.conftest import PAGE
from tests.fakes import write_tiny

MEMORY_LEFT = re.compile(r'[\d.]+ GB of memory available')  # moves with what else the machine does


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
  from tfds_builders import parallel

  monkeypatch.setattr(parallel, 'num_cpus', lambda: 1)


def train(workdir, data_dir):
  return ['train', f'--config={TINY}', f'--workdir={workdir}', f'--data_dir={data_dir}']


@pytest.mark.parametrize(
  ('free', 'pieces'),
  [
    (
      0,
      ['run: the workdir cannot be written (No space left on device)', 'choose another --workdir'],
    ),
    (2 * PAGE, ['run: the metrics cannot be written (No space left on device)', 'free up space']),
    (20 * PAGE, ['checkpoints/main: a checkpoint cannot be written', 'free up space']),
  ],
  ids=['no config', 'no metrics', 'no checkpoint'],
)
def test_training_on_a_full_disk(mtface, tiny_data, tiny_run, disk, free, pieces):
  disk.leave(free)
  workdir = disk.folder / 'run'
  error = mtface(*train(workdir, tiny_data)).error
  assert all(piece in error for piece in pieces), error

  disk.empty()
  result = mtface(*train(workdir, tiny_data))
  assert result.code == 0, result.err
  assert not result.warnings, 'what was half-written did not look whole'
  steps = Checkpoints(workdir).steps
  assert steps == [4, 8, 12]
  for step in steps:
    assert (
      Checkpoints(workdir)._scores(step)['checksum']
      == Checkpoints(tiny_run)._scores(step)['checksum']
    )


def test_results_on_a_full_disk(mtface, tiny_data, tiny_run, disk):
  workdir = disk.folder / 'run'
  subprocess.run(['cp', '-r', tiny_run, workdir], check=True)
  command = ['evaluate', f'--workdir={workdir}', f'--data_dir={tiny_data}', '--on=smiles']
  assert mtface(*command).code == 0
  before = (workdir / 'results.json').read_text()
  disk.leave(0)
  error = mtface(*command, '--checkpoint=8').error
  assert error.startswith(f'{workdir}/results.json: cannot be written (No space left on device)')
  assert (workdir / 'results.json').read_text() == before
  disk.empty()
  assert mtface(*command, '--checkpoint=8').code == 0


def test_building_on_a_full_disk(mtface, tmp_path, disk):
  images = np.random.default_rng(0).integers(0, 256, (60, 48, 48), dtype=np.uint8)
  usages = ['Training'] * 58 + ['PublicTest', 'PrivateTest']
  make_fer2013(tmp_path / 'raw', list(zip([0] * 60, images, usages, strict=True)))
  disk.leave(30 * PAGE)
  command = [
    'build',
    'fer2013/gray48',
    f'--manual_dir={tmp_path}/raw',
    f'--data_dir={disk.folder}/data',
  ]
  error = mtface(*command).error
  assert error.startswith(f'{disk.folder}/data: the disk is full; nothing was built')
  assert '--data_dir' in error
  assert not list(disk.folder.rglob('1.0.0'))

  disk.empty()
  assert mtface(*command).code == 0
  assert not list(disk.folder.rglob('incomplete*'))


def test_a_full_disk_has_no_room_for_the_cache(mtface, disk):
  write_tiny(disk.folder)
  command = ['describe', f'--config={TINY}', f'--data_dir={disk.folder}']
  disk.leave(2 * PAGE)
  full = mtface(*command)
  assert full.code == 0, full.err
  assert 'the index cannot be written' in full.warnings[0]
  assert not list(disk.folder.rglob('arrays/train')), 'no half of one is left'
  disk.empty()
  roomy = mtface(*command)
  assert not roomy.warnings
  assert MEMORY_LEFT.sub('', roomy.out) == MEMORY_LEFT.sub('', full.out)
  assert list(disk.folder.rglob('arrays/train'))


def test_a_disk_that_is_read_only(mtface, tiny_data, tmp_path, disk):
  write_tiny(disk.folder)
  disk.read_only()
  error = mtface(*train(disk.folder / 'run', tiny_data)).error
  assert error.startswith(
    f'{disk.folder}/run: the workdir cannot be written (Read-only file system)'
  )

  make_fer2013(tmp_path / 'raw', [(0, np.zeros((48, 48), np.uint8), 'Training')])
  error = mtface(
    'build', 'fer2013', f'--manual_dir={tmp_path}/raw', f'--data_dir={disk.folder}'
  ).error
  assert 'Read-only file system' in error
  assert '--data_dir' in error

  described = mtface('describe', f'--config={TINY}', f'--data_dir={disk.folder}')
  assert described.code == 0, described.err
  assert 'the index cannot be written' in described.warnings[0]
