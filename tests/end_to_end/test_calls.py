"""Several steps a call with the images on the devices: on several devices, in several processes."""

import json
import math

import pytest

from mtface.compiled.program import read_program
from mtface.training.logs import read_metrics
from tests.command import TINY, free_port, python, start

# 12 steps of 8 in calls of at most 3, which lines and checkpoints cut short. At the rate of
# tests/tiny.py, ten steps let rounding grow to 4e-5 of a loss; at this one it stays below 1e-6.
OVERRIDES = ('--config.store=device', '--config.steps_a_call=3', '--config.log_every=5 steps')
OVERRIDES += ('--config.optimizer.rate=1e-4',)


def train(folder, data_dir, processes, devices):
  """Lines of the log."""
  command = ['train', f'--config={TINY}', f'--workdir={folder}', f'--data_dir={data_dir}']
  command += OVERRIDES
  port, started = free_port(), []
  for k in range(processes):
    place = [f'--coordinator=localhost:{port}', f'--processes={processes}', f'--process={k}']
    line = command + (place if processes > 1 else [])
    started.append(start('mtface', *line, devices=devices))
  results = [process.communicate(timeout=280) for process in started]
  assert [process.returncode for process in started] == [0] * processes, results
  assert '64 images, 0.00 GB decoded: on each device' in results[0][0]
  return read_metrics(folder)


def test_two_processes_compute_what_one_does(tiny_data, tmp_path):
  one, two = train(tmp_path / 'one', tiny_data, 1, 4), train(tmp_path / 'two', tiny_data, 2, 2)
  assert [line['step'] for line in one] == [line['step'] for line in two] == [5, 10]
  for a, b in zip(one, two, strict=True):
    for name in a:
      if name.endswith('/loss'):
        assert math.isclose(a[name], b[name], rel_tol=1e-5), (a['step'], name)
      elif not name.startswith(('time', 'health')):
        assert a[name] == b[name], (a['step'], name)


@pytest.mark.parametrize('steps', [1, 3])
def test_nothing_but_sums_travels_between_devices(tiny_data, tmp_path, steps):
  result = python('tests.end_to_end.on_calls', tiny_data, tmp_path / 'out', steps, devices=4)
  assert result.code == 0, result.err
  found = read_program((tmp_path / 'out' / 'step.hlo').read_text(), 4, on_chip=False).sent()
  assert set(found) == {'all-reduce'}, found
  shape = json.loads((tmp_path / 'out' / 'shapes.json').read_text())['sample']
  assert shape == ([8] if steps == 1 else [steps, 8])
