import os
import pathlib
import subprocess
import sys

import pytest

from mtface.config.saved import read_config
from mtface.data import build
from mtface.errors import UserError
from mtface.evaluation.compare import compare
from mtface.evaluation.sweep import sweep_configs
from mtface.files import local_path, split_selection
from mtface.training import loop as train
from mtface.training.start import saved_weights
from tests.tiny import get_config


@pytest.mark.parametrize(
  'path',
  [
    'gs://bucket/runs',
    's3://b',
    'hdfs://host/x',
    'file:///x',
    'https://host/x.pth',
    pathlib.Path('gs://b/a'),
  ],
)
def test_an_address_is_no_path(path):
  with pytest.raises(UserError, match=r'^\S+: is a remote address, .*mount the bucket .* or copy'):
    local_path(path)


def test_paths_of_this_machine(monkeypatch):
  monkeypatch.setenv('HOME', '/home/jane@example.org')
  expected = {
    '~/a': '/home/jane@example.org/a',
    'C:/faces': 'C:/faces',
    'a:b/c': 'a:b/c',
    './gs:x': 'gs:x',
    'x//y': 'x/y',
    'a/gs:/b': 'a/gs:/b',
  }
  assert {path: str(local_path(path)) for path in expected} == expected
  with pytest.raises(UserError, match=r'^~nobody-of-that-name/x: .*pass the full path$'):
    local_path('~nobody-of-that-name/x')


def test_python_is_refused_as_the_command_line_is(tmp_path, monkeypatch, tiny_data):
  monkeypatch.chdir(tmp_path)
  for call in (
    lambda: train.train(get_config(), 'gs://b/run', tiny_data),
    lambda: train.train(get_config(), 'run', 'gs://b/data'),
    lambda: build.build('synthetic_faces/smile_gray48', data_dir='gs://b/data'),
    lambda: build.build('fer2013/gray48', data_dir='data', manual_dir='s3://b/raw'),
    lambda: read_config('gs://b/run'),
    lambda: saved_weights('gs://b/run'),
    lambda: compare('gs://b/a@last', 'gs://b/b@last'),
    lambda: sweep_configs([get_config()], '', 'gs://b/sweep', tiny_data),
  ):
    with pytest.raises(UserError, match='is a remote address'):
      call()
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('flag', ['--workdir', '--data_dir', '--to'])
def test_flags(mtface, tmp_path, monkeypatch, tiny_run, flag):
  monkeypatch.chdir(tmp_path)
  flags = {'--workdir': str(tiny_run), '--data_dir': 'data', '--to': 'a.safetensors'} | {
    flag: 's3://b/x.safetensors'
  }
  assert (
    'is a remote address'
    in mtface('export', *(f'{name}={value}' for name, value in flags.items())).error
  )
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('/home/jane@example.org/run', ('/home/jane@example.org/run', '')),
    ('/home/jane@example.org/run@last', ('/home/jane@example.org/run', 'last')),
    ('run@best', ('run', 'best')),
    ('a@2/run@400', ('a@2/run', '400')),
    ('run@average:3', ('run', 'average:3')),
    ('run@ensemble:10', ('run', 'ensemble:10')),
    ('run@last:flip', ('run', 'last:flip')),
    ('run@average:3:ten', ('run', 'average:3:ten')),
    ('run@last:upside', ('run@last:upside', '')),
    ('run@latest', ('run@latest', '')),
    ('run@last@best', ('run@last', 'best')),
    ('run@', ('run@', '')),
    ('@last', ('@last', '')),
  ],
)
def test_only_a_selection_at_the_end_is_one(text, expected):
  assert split_selection(text) == expected


def test_files_are_utf_8_whatever_the_locale_says(tmp_path):
  code = (
    'import pathlib; from mtface.files import write_csv, write_text\n'
    "write_csv(pathlib.Path('a.csv'), ['mood'], [['fröhlich']])\n"
    "write_text(pathlib.Path('a.html'), 'fröhlich')\n"
  )
  (tmp_path / 'code.py').write_text(code, encoding='utf-8')
  root = pathlib.Path(__file__).parents[1]
  env = os.environ | {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONPATH': str(root)}
  subprocess.run([sys.executable, '-X', 'utf8=0', 'code.py'], cwd=tmp_path, env=env, check=True)
  assert (tmp_path / 'a.csv').read_text(encoding='utf-8') == 'mood\nfröhlich\n'
  assert (tmp_path / 'a.html').read_text(encoding='utf-8') == 'fröhlich'
