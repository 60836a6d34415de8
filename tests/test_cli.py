import itertools
import pathlib
import shutil
import subprocess
import sys

import pytest

from mtface import cli
from mtface.errors import UserError
from tests.command import ROOT, TINY, python


@pytest.mark.parametrize('argv', [[], ['help'], ['--help'], ['-h']])
def test_help_lists_the_commands(mtface, argv):
  result = mtface(*argv)
  assert (result.code, result.err) == (0, '')
  for command in cli.COMMANDS:
    assert f'  {command} ' in result.out


@pytest.mark.parametrize('command', list(cli.COMMANDS))
def test_help_of_a_command_lists_its_flags(mtface, command):
  result = mtface(command, '--help')
  assert (result.code, result.err) == (0, '')
  for flag in cli.COMMANDS[command][1]:
    assert f'--{flag}' in result.out


def test_every_flag_has_its_help():
  used = {flag for _, flags in cli.COMMANDS.values() for flag in flags}
  assert used == set(cli._FLAG_HELP)


def test_describe_and_params(mtface, tiny_data):
  described = mtface('describe', f'--config={TINY}', f'--data_dir={tiny_data}')
  assert described.code == 0, described.err
  # 24 smiles are drawn 30 times: labels of 40 people are 75%.
  assert 'labelled samples an epoch: gender 30, smile 30' in described.out
  assert 'epoch: 60 samples, 7.5 steps of 8' in described.out
  params = mtface('params', f'--config={TINY}')
  # Convolutions of 1, 1, 2, 2, 4, 4, 8, 8 and 8 channels; each branch 8 x 8 twice and 8 x 2; biases.
  channels = [1, 1, 1, 2, 2, 4, 4, 8, 8, 8]
  convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(channels))
  branches = 2 * (2 * (8 * 8 + 8) + 8 * 2 + 2)
  assert f'parameters without batch normalisation: {convolutions + branches:,}' in params.out


def test_the_data_dir_comes_from_the_environment(mtface, tiny_data, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tiny_data))
  assert mtface('describe', f'--config={TINY}').code == 0
  monkeypatch.setenv('TFDS_DATA_DIR', str(tiny_data / 'elsewhere'))
  assert 'elsewhere' in mtface('describe', f'--config={TINY}').error


def test_one_command_after_the_other_in_one_process(mtface, tiny_data):
  # absl's global flags would keep the first one's values.
  first = mtface('describe', f'--config={TINY}', f'--data_dir={tiny_data}', '--config.batch_size=4')
  second = mtface('describe', f'--config={TINY}', f'--data_dir={tiny_data}')
  assert 'steps of 4' in first.out
  assert 'steps of 8' in second.out


@pytest.mark.parametrize(
  ('override', 'expected'),
  [
    ('--config.batch_size=16', '3.8 steps of 16'),
    ('--config.duration=2 epochs', 'run: 2 epochs = 15 steps'),
    ('--config.mixture=proportional', 'mixture proportional'),
    ('--config.sources.people.name=tiny/people:test', 'tiny/people:test'),
    ("--config.sources.smiles.tasks=('smile',)", 'gender 30, smile 30'),
  ],
)
def test_overrides_reach_the_config(mtface, tiny_data, override, expected):
  result = mtface('describe', f'--config={TINY}', f'--data_dir={tiny_data}', override)
  assert expected in result.out, result.err


def test_flags_may_stand_anywhere_and_apart(mtface, tiny_data):
  result = mtface('describe', '--config.batch_size', '4', '--data_dir', str(tiny_data), '--config', TINY)
  assert 'steps of 4' in result.out, result.err


# --- Which file a config is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['sang2017', 'configs/sang2017.py', 'sang2017.py'])
def test_shipped_configs_are_found_from_anywhere(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  assert cli.find_config(name) == ROOT / 'configs' / 'sang2017.py'


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').mkdir()
  shutil.copy(TINY, tmp_path / 'configs/sang2017.py')
  assert cli.find_config('configs/sang2017.py') == pathlib.Path('configs/sang2017.py')
  assert cli.load_config_file(cli.find_config('configs/sang2017.py')).batch_size == 8


@pytest.mark.parametrize('name', ['sang', 'nowhere/sang2017.py', '/configs', ''])
def test_configs_that_are_not_there(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(
    UserError, match=r'no such file, and no shipped config of that name; there are demo, rohani2023, sang2017'
  ):
    cli.find_config(name)


def test_a_config_is_named_after_its_file_and_argument():
  path = cli.config_folder() / 'sang2017.py'
  assert cli.load_config_file(path, 'A4,fold=2').name == 'sang2017:A4,fold=2'
  assert cli.load_config_file(path).name == 'sang2017'
  assert cli.load_config_file(pathlib.Path(TINY)).name == 'tiny'  # it says so itself


# --- How it ends --------------------------------------------------------------------------------------------------------------------


def test_a_bug_keeps_its_traceback(monkeypatch):
  def broken(*_):
    raise ZeroDivisionError

  monkeypatch.setitem(cli.COMMANDS, 'help', (broken, ()))
  with pytest.raises(ZeroDivisionError):
    cli.main(['help'])


def test_an_interrupted_command_says_how_to_go_on(mtface, monkeypatch):
  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setitem(cli.COMMANDS, 'help', (interrupted, ()))
  result = mtface('help')
  assert (result.code, result.err) == (130, 'mtface: interrupted; the same command continues a training run\n')


def test_an_error_is_one_line_whatever_it_holds(mtface, monkeypatch):
  def wrong(*_):
    raise UserError('first\nsecond')

  monkeypatch.setitem(cli.COMMANDS, 'help', (wrong, ()))
  assert mtface('help').error == 'first second'


def test_the_module_and_the_installed_command(tmp_path):
  assert python('mtface', 'help').out.startswith('mtface <command>')
  script = pathlib.Path(sys.executable).with_name('mtface')
  if not script.exists():
    pytest.skip('mtface is not installed as a command here')
  done = subprocess.run([script, 'help'], cwd=tmp_path, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, '')
  assert 'evaluate' in done.stdout
