"""The script that scores a run on folders and csvs of other people's sets."""

import csv
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from benchmarks.unseen import form, of_folders
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.training.loop import train
from tests.fakes import write_prepared
from tests.tiny import get_config


def write_images(folder, count, seed=0):
  folder.mkdir(parents=True)
  rng = np.random.default_rng(seed)
  for i in range(count):
    cv2.imwrite(str(folder / f'{i}.png'), rng.integers(0, 256, (32, 32), dtype=np.uint8))


def test_folders_become_a_csv(tmp_path, capsys):
  for i, name in enumerate(('Anger', 'happy', 'contempt')):
    write_images(tmp_path / 'other' / name, i + 1, i)
  (tmp_path / 'other' / 'happy' / 'notes.txt').write_text('no image')
  table = of_folders(tmp_path / 'other', 'emotion7', {}, tmp_path / 'to')
  with table.open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['emotion7'] for row in rows] == ['angry', 'happy', 'happy']
  assert all((table.parent / row['path']).is_file() for row in rows)
  assert 'contempt: no class of emotion7; 3 images are left out' in capsys.readouterr().out
  with pytest.raises(UserError, match='no folder with images is called as a class of smile'):
    of_folders(tmp_path / 'other', 'smile', {}, tmp_path / 'to')
  named = of_folders(tmp_path / 'other', 'smile', {'happy': 'smile'}, tmp_path / 'named')
  assert named.read_text().count(',smile') == 3  # the header too


@pytest.mark.parametrize(
  ('shape', 'crop', 'expected'),
  [
    ((48, 48, 1), 'found', 'gray48'),
    ((64, 64, 3), 'crop2', 'rgb64_crop2'),
    ((48, 48, 1), 'whole', 'gray48_whole'),
  ],
)
def test_the_form_is_that_of_the_run(shape, crop, expected):
  assert form(shape, crop) == expected


def test_a_run_is_scored(tmp_path):
  data_dir, run_dir = tmp_path / 'data', tmp_path / 'run'
  sizes = {'train': 40, 'test': 8}
  write_prepared(data_dir, 'tiny/smile', sizes, {'smile': 1.0}, shape=(32, 32, 1))
  write_prepared(data_dir, 'tiny/people', sizes, {'gender': 1.0}, seed=9, shape=(32, 32, 1))
  config = get_config()
  config.image_shape, config.duration = (32, 32, 1), '2 steps'
  train(config, run_dir, data_dir)
  write_images(tmp_path / 'other' / 'yes', 5)
  write_images(tmp_path / 'other' / 'no', 3, seed=1)
  known = load_source('tiny/smile:train', data_dir).gather([7])[0]
  cv2.imwrite(str(tmp_path / 'other' / 'no' / 'known.png'), known)
  command = [sys.executable, '-m', 'benchmarks.unseen', f'--workdir={run_dir}']
  command += [f'--data_dir={data_dir}', f'--set={tmp_path / "other"}', '--task=smile']
  command += ['--classes=yes=smile,no=no_smile', '--crop=whole']
  run = subprocess.run(command, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  assert 'crop whole, chosen in advance' in run.stdout
  assert 'faces that the run was trained on: 1' in run.stdout
  assert re.search(r'smile +\| +9\b', run.stdout)
