import ast
import json
import os
import subprocess
import sys

import jax
import pytest

from mtface.parallel import jax_settings
from mtface.training.workdir import write_config
from tests.command import ROOT
from tests.tiny import get_config


def test_what_only_forbids_is_set_aside(monkeypatch):
  monkeypatch.setenv('JAX_NUMPY_RANK_PROMOTION', 'raise')
  monkeypatch.setenv('JAX_NUMPY_DTYPE_PROMOTION', 'strict')
  monkeypatch.setenv('JAX_TRANSFER_GUARD', 'allow')
  monkeypatch.setenv('JAX_ENABLE_X64', '1')
  assert jax_settings.set_aside() == [
    'JAX_NUMPY_RANK_PROMOTION=raise',
    'JAX_NUMPY_DTYPE_PROMOTION=strict',
  ]
  assert 'JAX_NUMPY_RANK_PROMOTION' not in os.environ
  assert os.environ['JAX_ENABLE_X64'] == '1', 'it changes numbers'


@pytest.mark.parametrize(
  ('setting', 'said'),
  [
    ('JAX_PLATFORMS=cuda', 'JAX_PLATFORMS=cuda: JAX cannot start with this setting'),
    ('JAX_PLATFORMS=nowhere', 'JAX_PLATFORMS=nowhere: JAX cannot start with this setting'),
    (
      'JAX_ENABLE_X64=maybe',
      'JAX_ENABLE_X64=maybe: JAX cannot start with this setting (invalid truth value',
    ),
    (
      'JAX_DEFAULT_PRNG_IMPL=dice',
      'JAX_DEFAULT_PRNG_IMPL=dice: JAX cannot start with this setting (Invalid value',
    ),
  ],
)
def test_a_setting_that_jax_refuses_is_a_line(tmp_path, setting, said):
  name, _, value = setting.partition('=')
  if value == 'cuda' and any(device.platform == 'gpu' for device in jax.devices()):
    pytest.skip('there is one here')
  command = [sys.executable, '-m', 'mtface', 'doctor']
  done = subprocess.run(
    command, cwd=ROOT, env=os.environ | {name: value}, capture_output=True, text=True
  )
  assert done.returncode == 2, done.stderr
  lines = [line for line in done.stderr.splitlines() if line.startswith('mtface: error: ')]
  assert len(lines) == 1
  assert said in lines[0]
  assert 'Traceback' not in done.stderr


def test_a_bug_is_no_setting(monkeypatch):
  monkeypatch.setenv('JAX_ENABLE_X64', '1')
  try:
    raise ValueError('jax_enable_x64')
  except ValueError as error:
    assert jax_settings.refusal(error) == ''


def test_what_changes_numbers_is_recorded_and_a_change_said(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv(
    'XLA_FLAGS', ' --xla_cpu_enable_fast_math=true  --xla_force_host_platform_device_count=8'
  )
  values = jax.config.values | {'jax_enable_x64': True, 'jax_default_prng_impl': 'rbg'}
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(type(jax.config), 'values', values)
    write_config(get_config(), tmp_path)
  (tmp_path / 'checkpoints/main/000000004').mkdir(parents=True)  # the run has begun
  found = json.loads((tmp_path / 'config.json').read_text())['jax_settings']
  assert found == {
    'jax_enable_x64': True,
    'jax_default_prng_impl': 'rbg',
    'XLA_FLAGS': '--xla_cpu_enable_fast_math=true',
  }
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(type(jax.config), 'values', values)
    write_config(get_config(), tmp_path)
    assert capsys.readouterr().err == ''
    patched.setattr(type(jax.config), 'values', values | {'jax_enable_x64': False})
    write_config(get_config(), tmp_path)
  said = capsys.readouterr().err
  assert 'jax_enable_x64 was True, is as JAX has it' in said
  assert 'prng' not in said


def test_the_usual_settings_are_jaxs_own():
  usual = jax_settings._OF_NUMBERS
  program = f'import jax; print({{name: jax.config.values[name] for name in {list(usual)}}})'
  env = {name: value for name, value in os.environ.items() if not name.startswith('JAX_')}
  done = subprocess.run([sys.executable, '-c', program], env=env, capture_output=True, text=True)
  assert ast.literal_eval(done.stdout) == usual, done.stderr
