import pathlib
import shutil

import pytest

from mtface.config_files import config_folder, find_config, load_config_file, shipped_module, split_names
from mtface.errors import UserError
from tests.command import ROOT, TINY


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
    UserError, match=r'no such file, and no shipped config of that name; there are demo, rohani2023, sang2017'
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
    ('sang2017:A1,fold=1,size=smoke,demo, rohani2023:C', ['sang2017:A1,fold=1,size=smoke', 'demo', 'rohani2023:C']),
    ('configs/demo.py,sang2017:row=A3,fold=1', ['configs/demo.py', 'sang2017:row=A3,fold=1']),
  ],
)
def test_names_with_commas_in_their_arguments(names, expected):
  assert split_names(names) == expected


def test_shipped_modules():
  assert shipped_module('rohani2023').TABLES['2'].title.startswith('Rohani')
  assert shipped_module('nothing') is None
