"""Cores as devices: when."""

import pytest

from mtface import process
from mtface.parallel import cores, jax_settings
from tests.tiny import get_config


@pytest.fixture
def four(tmp_path, monkeypatch):
  """A machine of four cores without accelerators."""
  monkeypatch.setattr(process, 'cores', lambda: 4)
  monkeypatch.setattr(jax_settings, '_DEVICE_FILES', (str(tmp_path / 'nvidia[0-9]*'),))


@pytest.mark.parametrize(
  ('sizes', 'environment', 'expected'),
  [
    ([128, 1024], {}, ''),
    ([128], {'XLA_FLAGS': '--xla_cpu_enable_fast_math=false'}, ''),
    ([128], {'MTFACE_CORES': '0'}, 'MTFACE_CORES=0'),
    ([128], {'JAX_NUM_CPU_DEVICES': '8'}, 'JAX_NUM_CPU_DEVICES=8'),
    ([128], {'XLA_FLAGS': f'{cores.DEVICES}=2'}, f'XLA_FLAGS={cores.DEVICES}=2'),
    ([128], {'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=true'}, 'XLA_FLAGS=--xla_cpu_multi'),
    ([128], {'JAX_PLATFORMS': 'cuda'}, 'JAX computes on accelerators'),
    ([112, 128], {}, 'batches of 112 have fewer than 65,536 pixels for each of 4 cores'),
    ([130], {}, 'batches of 130 have no equal parts for 4 cores'),
    ([], {}, 'nothing is known of the batches'),
  ],
)
def test_when(four, sizes, environment, expected):
  of_48 = [cores.Batch(size, 48 * 48) for size in sizes]
  assert cores.reason_not_to(of_48, environment).startswith(expected)
  assert bool(cores.reason_not_to(of_48, environment)) == bool(expected)


def test_one_core_is_one_device(four, monkeypatch):
  monkeypatch.setattr(process, 'cores', lambda: 1)
  assert cores.reason_not_to([cores.Batch(128, 2304)], {}) == 'there is one core'


def test_flags_of_the_user_stay(four):
  config = get_config()  # images of 16x16
  config.batch_size = config.evaluation.batch_size = 1024
  environment = {'XLA_FLAGS': '--xla_a=1'}
  cores.use_cores(config, environment)
  assert environment['XLA_FLAGS'] == f'--xla_a=1 {cores.DEVICES}=4 {cores.ALONE}'
  told = dict(environment)
  cores.use_cores(config, environment)  # a process that this one starts
  assert environment == told


def test_no_run_is_recorded_as_one_with_other_numbers(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', f'--xla_a=1 {cores.DEVICES}=4 {cores.ALONE}')
  assert jax_settings.of_numbers()['XLA_FLAGS'] == '--xla_a=1'


def test_batches_of_all_stages_count_and_split_parameters_stay_split(four):
  config = get_config()
  config.batch_size, config.evaluation.batch_size = 96, 256
  assert cores.batches(config) == [(96, 256), (256, 256)]
  config.mesh.fsdp = 2
  assert cores.batches(config) == []
  config.mesh.fsdp = 1
  del config.evaluation  # the command says what is wrong
  assert cores.batches(config) == []
