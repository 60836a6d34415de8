import pathlib
import shutil

import pytest

from mtface.config.files import (
  choose,
  config_folder,
  find_config,
  load_config,
  load_config_file,
  shipped_module,
  split_names,
)
from mtface.errors import UserError
from tests.command import ROOT, TINY
from tests.tiny import get_config as get_tiny


@pytest.mark.parametrize('name', ['sang2017', 'configs/sang2017.py', 'sang2017.py'])
def test_shipped_configs_are_found_from_anywhere(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  assert find_config(name) == ROOT / 'configs' / 'sang2017.py'


def test_a_file_of_ones_own_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'configs').mkdir()
  shutil.copy(TINY, tmp_path / 'configs/sang2017.py')
  assert find_config('configs/sang2017.py') == pathlib.Path('configs/sang2017.py')
  assert load_config_file(find_config('configs/sang2017.py')).batch_size == 8


@pytest.mark.parametrize('name', ['sang', 'nowhere/sang2017.py', '/configs', ''])
def test_configs_that_are_not_there(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(
    UserError,
    match=r'no such file, and no shipped config of that name; there are demo, faces, mine',
  ):
    find_config(name)


def test_a_config_is_named_after_its_file_and_argument():
  path = config_folder() / 'sang2017.py'
  assert load_config_file(path, 'A4,fold=2').name == 'sang2017:A4,fold=2'
  assert load_config_file(path).name == 'sang2017'
  assert load_config_file(pathlib.Path(TINY)).name == 'tiny'  # it says so itself


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    ('demo', ['demo']),
    ('sang2017:A1,sang2017:A2', ['sang2017:A1', 'sang2017:A2']),
    (
      'sang2017:A1,fold=1,size=smoke,demo, rohani2023:C',
      ['sang2017:A1,fold=1,size=smoke', 'demo', 'rohani2023:C'],
    ),
    ('configs/demo.py,sang2017:row=A3,fold=1', ['configs/demo.py', 'sang2017:row=A3,fold=1']),
  ],
)
def test_names_with_commas_in_their_arguments(names, expected):
  assert split_names(names) == expected


def test_shipped_modules():
  assert shipped_module('rohani2023').TABLES['2'].title.startswith('Rohani')
  assert shipped_module('nothing') is None


def written(tmp_path, body):
  """A config file: tests/tiny.py with these lines at the end of get_config(arg=None)."""
  path = tmp_path / 'own.py'
  lines = [
    'from tests.tiny import get_config as tiny',
    '',
    'def get_config(arg=None):',
    '  config = tiny()',
    *body,
  ]
  path.write_text('\n'.join(lines) + '\n')
  return path


def test_arguments_reach_the_file(tmp_path):
  path = written(
    tmp_path, ['  config.seed = int(arg or 7)', '  config.name = ""', '  return config']
  )
  assert [load_config(f'{path}{text}').seed for text in ('', ':', ':3')] == [7, 7, 3]
  assert [load_config(f'{path}{text}').name for text in ('', ':3')] == ['own', 'own:3']


@pytest.mark.parametrize(
  ('body', 'words'),
  [
    (
      ['  return None'],
      'get_config returned NoneType; expected what mtface.config.experiment',
    ),
    (
      ['  return config.to_dict()'],
      'get_config returned dict; expected what mtface.config.experiment',
    ),
    (
      ['  del config["batch_size"]', '  return config'],
      'the field batch_size is missing; a config starts from',
    ),
  ],
)
def test_what_is_no_config(tmp_path, body, words):
  path = written(tmp_path, body)
  with pytest.raises(UserError, match=rf'^{path}: {words}'):
    load_config(str(path))


def test_an_error_names_the_line_that_raised_it(tmp_path):
  # get_config is called in line 7; what is wrong is in line 9.
  body = [
    '  return one(config)',
    '',
    'def one(config):',
    '  return two(config)',
    '',
    'def two(config):',
    '  return 1 / 0',
  ]
  path = written(tmp_path, body)
  with pytest.raises(
    UserError, match=rf'^{path}:11: ZeroDivisionError: division by zero; correct the config file$'
  ):
    load_config(str(path))
  path.write_text('x = (\n')
  with pytest.raises(UserError, match=rf'^{path}:1: SyntaxError: '):
    load_config(str(path))


@pytest.mark.parametrize(
  ('flag', 'words'),
  [
    ('--config.rate=1', "there is no field 'rate'; the fields here are: arguments, augment, "),
    ('--config.optimizer.lr=1', "there is no field 'lr'; the fields here are: accumulate, "),
    ('--config.seed.x=1', "there is no field 'x'; the fields here are: none"),
  ],
)
def test_overrides_of_fields_that_are_not_there(flag, words):
  good = [
    '--config.optimizer.rate=1',
    '--config=tiny',
    '--other=2',
    '--config.tasks.smile.weight=2',
  ]
  choose(get_tiny(), good)
  with pytest.raises(UserError, match=f'^{flag.partition("=")[0]}: {words}'):
    choose(get_tiny(), [*good, flag])
