"""A run by the command line on cores as devices computes what it computes on all of them as one."""

import csv
import json

import numpy as np
import pytest

from mtface import process
from mtface.training.logs import read_metrics
from tests.command import python


def trained(folder, data_dir):
  """(config.json, losses, probabilities) of a short run by the command."""
  size = 256 * process.cores()  # images of 16x16
  changes = {
    'model.width': 1 / 4,  # 32 channels and more: large enough for the loops over images
    'batch_size': size,
    'evaluation.batch_size': size,
    'duration': '2 steps',
    'log_every': '1 steps',
    'checkpoint.every': '2 steps',
  }
  config = [f'--config.{name}={value}' for name, value in changes.items()]
  where = [f'--workdir={folder}', f'--data_dir={data_dir}']
  for command in (['train', '--config=tests/tiny.py', *config], ['evaluate', '--predictions']):
    done = python('mtface', *command, *where)
    assert done.code == 0, done.err
  losses = [line['train/loss'] for line in read_metrics(folder) if 'train/loss' in line]
  said = [
    float(value)
    for path in sorted((folder / 'predictions').rglob('*.csv'))
    for row in csv.DictReader(path.open())
    for name, value in row.items()
    if '/' in name  # TASK/CLASS
  ]
  return json.loads((folder / 'config.json').read_text()), losses, said


@pytest.mark.skipif(process.cores() == 1, reason='this machine has one core')
def test_a_run_computes_the_same(tiny_data, tmp_path, monkeypatch):
  saved, losses, said = trained(tmp_path / 'cores', tiny_data)
  assert saved['hardware']['devices'] == process.cores()
  monkeypatch.setenv('MTFACE_CORES', '0')
  one_saved, one_losses, one_said = trained(tmp_path / 'one', tiny_data)
  assert one_saved['hardware']['devices'] == 1
  assert saved['jax_settings'] == one_saved['jax_settings']
  assert len(losses) == 2 and len(said) > 0
  np.testing.assert_allclose(losses, one_losses, rtol=1e-4)
  np.testing.assert_allclose(said, one_said, atol=1e-3)
