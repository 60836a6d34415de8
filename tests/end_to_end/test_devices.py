"""One device and eight of them compute the same thing. Virtual devices of a CPU need a process of
their own.
"""

import json
import math

import numpy as np
import pytest

from mtface.compiled.program import read_program
from tests.command import TINY, python


@pytest.fixture(scope='module')
def runs(tiny_data, tmp_path_factory):
  """What on_devices.py leaves: folders `one` and `eight`. The second also reads the checkpoints of
  the first.
  """
  folder = tmp_path_factory.mktemp('devices')
  for name, devices in (('one', 1), ('eight', 8)):
    (folder / name).mkdir()
    other = [folder / 'one' / 'run'] if name == 'eight' else []
    script = 'tests.end_to_end.on_devices'
    result = python(
      script, folder / name / 'run', tiny_data, folder / name, *other, devices=devices
    )
    assert result.code == 0, result.err
  return folder


def state(path):
  """{leaf: array} in float64, so that differences are not rounded once more."""
  with np.load(path) as arrays:
    return {name: arrays[name].astype(np.float64) for name in arrays}


def vector(arrays, part):
  return np.concatenate(
    [array.ravel() for name, array in sorted(arrays.items()) if name.startswith(f'.{part}')]
  )


def distance(a, b):
  return np.linalg.norm(a - b) / np.linalg.norm(b)


def metrics(path):
  return json.loads((path / 'metrics.json').read_text())


@pytest.mark.parametrize('part', ['params', 'stats', 'opt_state'])
def test_the_state_agrees_after_twenty_steps(runs, part):
  one, eight = (vector(state(runs / name / 'state.npz'), part) for name in ('one', 'eight'))
  assert distance(eight, one) < 1e-5


def test_it_is_not_that_nothing_moved(runs):
  first, last = (
    state(runs / 'eight' / f'{name}.npz') for name in ('restored', 'state')
  )  # steps 10 and 20
  assert distance(vector(last, 'params'), vector(first, 'params')) > 1e-2


def test_losses_agree_and_counts_are_equal(runs):
  one, eight = metrics(runs / 'one'), metrics(runs / 'eight')
  assert [line['step'] for line in one] == [line['step'] for line in eight] == list(range(1, 21))
  for a, b in zip(one, eight, strict=True):
    for name in a:
      if name.endswith('/loss'):
        assert math.isclose(a[name], b[name], rel_tol=1e-5), (a['step'], name)
      elif not name.startswith(('time', 'health')):
        assert a[name] == b[name], (a['step'], name)


def test_checkpoints_of_one_device_are_read_on_eight(runs):
  found, expected = (
    state(path) for path in (runs / 'eight' / 'restored.npz', runs / 'one' / 'step10.npz')
  )
  assert found.keys() == expected.keys()
  for name in expected:
    np.testing.assert_array_equal(found[name], expected[name])


def test_images_and_activations_stay_where_they_are(runs):
  found = read_program((runs / 'eight' / 'step.hlo').read_text(), 8, on_chip=False).sent()
  assert set(found) == {'all-reduce'}, found
  weights = sum(
    array.size
    for name, array in state(runs / 'eight' / 'state.npz').items()
    if name.startswith('.params')
  )
  # Gradients once (of the fast convolutions before their transform, 16/9 as many), four numbers a
  # channel of batch norm, the tally. The first layer's activations alone are 16 x 16 x 16 x 4 =
  # 16,384.
  assert weights < found['all-reduce'][1] / 4 < weights + 16_000


def test_bfloat16_stays_near_float32(runs):
  one, half = metrics(runs / 'one'), json.loads((runs / 'one' / 'bfloat16.json').read_text())
  losses = np.array([[line['train/loss'] for line in run] for run in (one, half)])
  assert (losses[0] != losses[1]).any(), 'the option does something'
  np.testing.assert_allclose(
    losses[1, 0], losses[0, 0], rtol=0.03
  )  # bfloat16 has three digits, the net 16 layers
  np.testing.assert_allclose(losses[1].mean(), losses[0].mean(), rtol=0.05)
  with np.load(runs / 'one' / 'bfloat16.npz') as arrays:
    assert all(np.isfinite(arrays[name]).all() for name in arrays)
    assert all(arrays[name].dtype == np.float32 for name in arrays if name.startswith('.params'))


@pytest.mark.parametrize('override', ['batch_size=12', 'evaluation.batch_size=12'])
def test_a_batch_that_the_devices_cannot_share(tiny_data, tmp_path, override):
  command = [
    'train',
    f'--config={TINY}',
    f'--data_dir={tiny_data}',
    f'--workdir={tmp_path}/w',
    f'--config.{override}',
  ]
  error = python('mtface', *command, devices=8).error
  assert (
    error == f'config.{override.replace("=", ": ")} cannot be split evenly over 8 devices; take a '
    'multiple of 8'
  )
  assert not (tmp_path / 'w').exists()


def test_evaluating_on_devices_that_cannot_share_the_batch(tiny_data, tiny_run):
  error = python(
    'mtface', 'evaluate', f'--workdir={tiny_run}', f'--data_dir={tiny_data}', devices=3
  ).error
  assert 'config.evaluation.batch_size: 8 cannot be split evenly over 3 devices' in error
