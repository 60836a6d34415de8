"""`mtface compile` as its user runs it, for devices of a CPU; compilers of other devices have tests
of their own (test_bounds_*.py).
"""

import json
import math
import os
import re

import jax
import pytest

from mtface.compiled.abstract import abstract_program
from mtface.compiled.apart import environment
from mtface.compiled.compile import Job, compile_job
from mtface.compiled.targets import CARDS, HERE, Target
from mtface.errors import UserError
from tests.command import TINY, python
from tests.tiny import get_config

CPU8 = ('compile', f'--config={TINY}', '--target=cpu:8', '--batch_size=2')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(what it prints, its records, the folder of its texts) of the training step."""
  folder = tmp_path_factory.mktemp('compiled')
  done = python('mtface', *CPU8, f'--json={folder}/figures.json', f'--text={folder}/texts')
  assert done.code == 0, done.err
  return done.out, json.loads((folder / 'figures.json').read_text()), folder / 'texts'


def parameters():
  state, _, _ = abstract_program(get_config(), 'train').arguments(16)
  return sum(x.size for x in jax.tree.leaves(state.params))


def test_the_record(trained):
  _, (record,), _ = trained
  assert record['config'] == 'tiny'
  assert (record['target'], record['devices'], record['images']) == ('cpu:8', 8, 2)
  assert record['roofline']['images_per_second'] is None, 'nothing is known of a CPU'
  assert record['flops_image'] > 0
  assert record['versions']['jax'] == jax.__version__


def test_memory_is_what_goes_in(trained):
  _, (record,), _ = trained
  state, tally, batch = abstract_program(get_config(), 'train').arguments(16)
  nbytes = [x.size * x.dtype.itemsize for x in jax.tree.leaves((state, tally))]
  shares = [x.size * x.dtype.itemsize // 8 for x in jax.tree.leaves(batch)]
  given = sum(nbytes) + sum(shares)
  # Without what the step does not look at: `source`, 2 numbers of 4 bytes a device.
  assert given - 8 <= record['memory']['arguments'] <= given
  assert record['memory']['total'] > record['memory']['arguments']


def test_gradients_are_sent_once(trained):
  _, (record,), _ = trained
  assert set(record['collectives']) == {'all-reduce'}
  sent = record['collectives']['all-reduce']['bytes'] / 4
  assert parameters() < sent < 2 * parameters(), 'and sums of batch norm, more on a CPU'
  assert {item['group'] for item in record['each_collective']} == {8}
  assert 0 < record['waiting'] < record['collectives']['all-reduce']['number']


def test_ghost_batches_of_a_device_wait_for_no_other(trained, tmp_path):
  done = python('mtface', *CPU8, '--config.ghost_batch=2', f'--json={tmp_path}/figures.json')
  assert done.code == 0, done.err
  (record,) = json.loads((tmp_path / 'figures.json').read_text())
  assert record['waiting'] == 0
  assert set(record['collectives']) == {'all-reduce'}
  assert record['collectives']['all-reduce']['number'] < trained[1][0]['waiting']


def test_the_table_and_the_programs_text(trained):
  out, (record,), texts = trained
  assert out.startswith('tiny: training step, float32\n')
  rows = {
    line.rsplit('  ', 1)[0].strip(): line.split()[-1] for line in out.splitlines() if '  ' in line
  }
  assert rows['devices'] == '8'
  assert rows['all-reduce'] == str(record['collectives']['all-reduce']['number'])
  assert 'roofline' not in out
  text = (texts / 'tiny-train-cpu_8.hlo.txt').read_text()
  assert text.startswith('HloModule') and 'num_partitions=8' in text


def test_the_evaluation_sends_scores_alone(tmp_path):
  done = python('mtface', *CPU8, '--program=evaluate', f'--json={tmp_path}/figures.json')
  assert done.code == 0, done.err
  (record,) = json.loads((tmp_path / 'figures.json').read_text())
  assert 'evaluation' in done.out.splitlines()[0]
  assert set(record['collectives']) == {'all-gather'}
  scores = 16 * (2 + 2) * 4  # of all images, of both tasks, on every device
  assert record['collectives']['all-gather']['bytes'] == scores
  assert math.isclose(record['memory']['outputs'], scores, abs_tol=64)  # and their addresses


def test_parameters_are_shared_as_the_config_says(tmp_path):
  done = python(
    'mtface',
    *CPU8,
    '--program=evaluate',
    '--config.mesh.fsdp=4',
    '--config.mesh.shard_from=64',
    f'--json={tmp_path}/figures.json',
  )
  assert done.code == 0, done.err
  (record,) = json.loads((tmp_path / 'figures.json').read_text())
  params, stats, images = abstract_program(get_config(), 'evaluate').arguments(16)
  leaves = jax.tree.leaves((params, stats))
  whole = sum(4 * x.size for x in leaves) + images.size // 8
  saved = sum(4 * x.size * 3 // 4 for x in leaves if x.size >= 64)
  assert saved > 0
  assert record['memory']['arguments'] == whole - saved
  assert {item['group'] for item in record['each_collective']} == {4, 8}, 'parameters, and scores'


def test_what_the_other_process_refuses_is_one_line():
  error = python('mtface', 'compile', f'--config={TINY}', '--target=cpu:3').error
  words = (
    'config.batch_size: 8 cannot be split evenly over 3 devices; take a multiple of 3, or name'
  )
  assert words in error


@pytest.mark.parametrize(
  'stage, changes, words',
  [
    ('second', {}, '--stage=second: the run has main'),
    ('', {'mesh.fsdp': 4}, 'config.mesh.fsdp: 1 devices cannot be split evenly'),
    ('', {'optimizer.rate': -1.0}, 'config.optimizer.rate: -1.0 is out of range'),
    ('', {'tasks.smile.loss': 'hinge'}, "config.tasks.smile.loss 'hinge' is unknown"),
    ('', {'image_shape': (8, 8, 1)}, 'images of 8x8 are too small'),
  ],
)
def test_what_is_refused(stage, changes, words):
  config = get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=re.escape(words)):
    compile_job(Job(config.to_dict(), HERE, 'train', stage=stage))


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--target=foo:8'], "--target=foo:8: 'foo' is unknown; there are h100"),
    (['--target='], '--target=: names no devices'),
    (['--batch_size=-2'], '--batch_size=-2: expected images a device'),
    (['--program=export'], '--program=export: expected train or evaluate'),
  ],
)
def test_what_is_refused_at_once_is_one_line(mtface, flags, words):
  assert words in mtface('compile', f'--config={TINY}', *flags).error


def test_environments():
  given = {'XLA_FLAGS': '--a', 'PYTHONPATH': '/x', 'JAX_PLATFORMS': 'cuda', 'HOME': '/me'}
  found = environment(Target('cpu:8', CARDS['cpu'], (8,)), given)
  assert found['XLA_FLAGS'] == '--a --xla_force_host_platform_device_count=8'
  assert found['JAX_PLATFORMS'] == 'cpu'
  assert found['PYTHONPATH'].endswith(f'{os.pathsep}/x')
  gpu = environment(Target('h100:8', CARDS['h100'], (1, 8)), given)
  assert (gpu['JAX_PLATFORMS'], gpu['XLA_FLAGS']) == ('cpu', '--a --xla_gpu_autotune_level=0')
  assert environment(Target('v5e:2x2', CARDS['v5e'], (2, 2)), given)['TPU_SKIP_MDS_QUERY'] == '1'
  here = environment(Target('here', CARDS['cpu'], ()), given)
  assert (here['JAX_PLATFORMS'], here['XLA_FLAGS']) == ('cuda', '--a')
