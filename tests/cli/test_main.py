import itertools
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from mtface.cli import main as cli
from mtface.cli.commands import COMMANDS, Command
from mtface.cli.flags import FLAGS, define_flags
from mtface.errors import UserError
from tests.command import TINY, python


@pytest.mark.parametrize('argv', [[], ['help'], ['--help'], ['-h']])
def test_help_lists_the_commands(mtface, argv):
  result = mtface(*argv)
  assert (result.code, result.err) == (0, '')
  for command in [*COMMANDS, 'help']:
    assert f'  {command} ' in result.out


@pytest.mark.parametrize('command', list(COMMANDS))
def test_help_of_a_command_lists_its_flags(mtface, command):
  result = mtface(command, '--help')
  assert (result.code, result.err) == (0, '')
  for flag in COMMANDS[command].flags:
    assert f'--{flag}' in result.out


def test_every_flag_has_its_help():
  used = {flag for command in COMMANDS.values() for flag in command.flags}
  assert used == set(FLAGS)


@pytest.mark.parametrize(
  ('words', 'expected'),
  [
    (['predict', '--workdir=w', '--every=0', 'a.png'], '--every=0: 0 is not a positive'),
    (['audit', '--workdir=w', '--resamples=0'], '--resamples=0: 0 is not a positive'),
    (['crossval', '--config=demo', '--workdir=w', '--folds=1'], '--folds=1: 1 is not integer >= 2'),
    (['classify', '--seed=-1'], '--seed=-1: -1 is not a non-negative'),
  ],
)
def test_a_number_that_is_too_small_is_refused_before_anything_is_loaded(mtface, words, expected):
  assert expected in mtface(*words).error


def test_numbers_that_flags_have_by_default_are_allowed():
  for name, flag in FLAGS.items():
    assert flag.least is None or flag.default is None or flag.default >= flag.least, name


def test_describe_and_params(mtface, tiny_data):
  described = mtface('describe', f'--config={TINY}', f'--data_dir={tiny_data}')
  assert described.code == 0, described.err
  # 24 smiles are drawn 30 times: labels of 40 people are 75%.
  assert 'labelled samples per epoch: gender 30, smile 30' in described.out
  assert 'epoch: 60 samples, 7.5 steps of 8' in described.out
  params = mtface('params', f'--config={TINY}')
  # Convolutions of 1, 1, 2, 2, 4, 4, 8, 8 and 8 channels; each branch 8 x 8 twice and 8 x 2;
  # biases.
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
  result = mtface(
    'describe', '--config.batch_size', '4', '--data_dir', str(tiny_data), '--config', TINY
  )
  assert 'steps of 4' in result.out, result.err


# --- How it ends ----------------------------------------------------------------------------------


def test_a_bug_keeps_its_traceback(monkeypatch):
  def broken(*_):
    raise ZeroDivisionError

  monkeypatch.setitem(COMMANDS, 'params', Command(broken, ()))
  with pytest.raises(ZeroDivisionError):
    cli.main(['params'])


@pytest.mark.parametrize(
  ('command', 'how'),
  [('train', '; rerun the same command to resume training'), ('predict', '')],
)
def test_an_interrupted_command_says_how_to_go_on(mtface, monkeypatch, command, how):
  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setitem(COMMANDS, command, Command(interrupted, ()))
  result = mtface(command)
  assert (result.code, result.err) == (130, f'mtface: interrupted{how}\n')


def test_an_error_is_one_line_whatever_it_holds(mtface, monkeypatch):
  def wrong(*_):
    raise UserError('first\nsecond')

  monkeypatch.setitem(COMMANDS, 'params', Command(wrong, ()))
  assert mtface('params').error == 'first second'


def test_the_module_and_the_installed_command(tmp_path):
  assert python('mtface', 'help').out.startswith('mtface <command>')
  script = pathlib.Path(sys.executable).with_name('mtface')
  if not script.exists():
    pytest.skip('mtface is not installed as a command here')
  done = subprocess.run([script, 'help'], cwd=tmp_path, capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, '')
  assert 'evaluate' in done.stdout


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('', []),
    ('people', ['people']),
    ('people, a/b:train', ['people', 'a/b:train']),
    (
      'a/b:train[take=3,after=2,seed=0],c/d:x[fold!=0/4],e',
      ['a/b:train[take=3,after=2,seed=0]', 'c/d:x[fold!=0/4]', 'e'],
    ),
  ],
)
def test_commas_in_brackets_are_a_sources_own(text, expected):
  args = flags.FlagValues()
  define_flags(args, ['on'])
  args(['mtface', f'--on={text}'])
  assert args.on == expected
  args = flags.FlagValues()
  define_flags(args, ['on'])
  args(['mtface'])
  assert args.on == []
