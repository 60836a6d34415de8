import json
import pathlib
import re
import shutil
import subprocess
import tarfile
import tomllib

import pytest

from mtface.faces.cropping import Crop
from mtface.publish import demo_page

onnx = pytest.importorskip('onnx', reason='pip install onnx: it writes the network of these tests')
pytest.importorskip('onnxruntime', reason="pip install 'mtface[export]'")
from tests.publish import exported  # noqa: E402


@pytest.fixture(scope='module')
def network(tmp_path_factory):
  return exported.write(tmp_path_factory.mktemp('exported') / 'drawn.onnx', Crop(24, 3, 'crop1'))


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache of downloads."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache' / 'mtface'


@pytest.fixture
def npm(tmp_path, monkeypatch):
  """Puts a program in npm's place, the only one on the path beside the shell's."""

  def install(script):
    path = tmp_path / 'bin' / 'npm'
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv('PATH', f'{path.parent}:/usr/bin:/bin')

  return install


@pytest.fixture
def runtime(tmp_path, monkeypatch):
  """An archive like onnxruntime-web's, and its SHA-512 in place of the real one's."""
  path = tmp_path / 'archive.tgz'
  with tarfile.open(path, 'w:gz') as archive:
    for name in demo_page.RUNTIME_FILES:
      content = tmp_path / 'content'
      content.write_text(f'this is {name}')
      archive.add(content, name)
  monkeypatch.setattr(demo_page, 'RUNTIME_INTEGRITY', demo_page.integrity(path))
  return path


def test_a_page_is_whole(mtface, network, cache, npm, runtime, tmp_path):
  npm(f'echo "$@" >> {tmp_path}/calls; cp {runtime} onnxruntime-web.tgz')
  folder = tmp_path / 'page'
  for _ in range(2):  # the second takes the archive from the cache, and replaces the page
    done = mtface('demo-page', f'--export={network}', f'--to={folder}')
    assert done.code == 0, done.err
    assert done.out.startswith(f'page: {folder}/index.html')
  assert (tmp_path / 'calls').read_text().splitlines() == [
    f'pack onnxruntime-web@{demo_page.RUNTIME_VERSION} --ignore-scripts --json'
  ]
  assert (folder / 'model.onnx').read_bytes() == network.read_bytes()
  assert 'ort.wasm.bundle' in (folder / 'ort/ort.js').read_text()
  assert 'Permission is hereby granted' in (folder / 'detector/LICENSE').read_text()
  here = {path.name for path in folder.iterdir()}
  used = {path.name for path in demo_page.PAGE.iterdir() if path.name != 'package.json'}
  assert here == used | {'model.onnx', 'model.json', 'ort', 'detector'}
  settings = json.loads((folder / 'model.json').read_text())
  years = next(task for task in settings['tasks'] if task['name'] == 'age_years')
  assert years['values'] == list(range(117))
  assert settings['crop']['geometry']['kind'] == 'aligned'


def test_modules_and_files_that_are_named_are_there():
  """What the page's files name of each other is one of them, or is written by the command."""
  written = {'ort/ort.js', 'ort/ort.wasm', 'model.json', 'model.onnx', 'detector/${name}.onnx'}
  names = {path.name for path in demo_page.PAGE.iterdir()}
  for path in demo_page.PAGE.iterdir():
    for name in re.findall(r"['`]\./([^'`]+)['`]", path.read_text()):
      assert name in names | written, (path.name, name)


@pytest.mark.skipif(not shutil.which('node'), reason='Node.js is not installed')
@pytest.mark.parametrize('name', sorted(path.name for path in demo_page.PAGE.glob('*.js')))
def test_a_module_is_javascript(name):
  done = subprocess.run(['node', '--check', demo_page.PAGE / name], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def without(network, path, change):
  model = onnx.load(network)
  change(model)
  onnx.save(model, path)
  return path


def test_what_is_no_exported_file(mtface, network, cache, tmp_path):
  page = f'--to={tmp_path}/page'
  text = tmp_path / 'text.onnx'
  text.write_text('no network')
  bare = without(network, tmp_path / 'bare.onnx', lambda model: model.ClearField('metadata_props'))

  def damage(model):
    model.metadata_props[0].value = json.dumps({'format': 1, 'tasks': []})

  damaged = without(network, tmp_path / 'damaged.onnx', damage)
  for argv, message in (
    ((page,), 'pass the network as --export=MODEL.onnx and a folder as --to=FOLDER'),
    ((f'--export={network}',), 'pass the network as --export=MODEL.onnx'),
    ((f'--export={tmp_path}/none.onnx', page), 'none.onnx: no such file'),
    ((f'--export={text}', page), 'text.onnx: cannot be read as ONNX'),
    ((f'--export={bare}', page), 'bare.onnx: has no metadata of mtface'),
    ((f'--export={damaged}', page), 'damaged.onnx: its metadata are damaged'),
  ):
    assert message in mtface('demo-page', *argv).error
  assert not (tmp_path / 'page').exists()


def test_a_folder_with_other_files_is_left_alone(mtface, network, tmp_path):
  folder = tmp_path / 'site'
  folder.mkdir()
  (folder / 'index.html').write_text('mine')
  error = mtface('demo-page', f'--export={network}', f'--to={folder}').error
  assert 'holds other files; pass a new or empty folder' in error
  assert [path.name for path in folder.iterdir()] == ['index.html']
  assert 'is a file' in mtface('demo-page', f'--export={network}', f'--to={network}').error


def test_another_programs_model_is_left_alone(mtface, network, tmp_path):
  folder = tmp_path / 'tfjs'
  folder.mkdir()
  for content in ('{"modelTopology": {}, "weightsManifest": []}', 'no JSON', '3'):
    (folder / 'model.json').write_text(content)
    error = mtface('demo-page', f'--export={network}', f'--to={folder}').error
    assert 'holds other files; pass a new or empty folder' in error
    assert (folder / 'model.json').read_text() == content


def test_npm_is_missing(mtface, network, cache, tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  error = mtface('demo-page', f'--export={network}', f'--to={tmp_path}/page').error
  assert f'onnxruntime-web@{demo_page.RUNTIME_VERSION}' in error
  assert f'writes elsewhere into {cache}' in error
  assert not (tmp_path / 'page').exists()


@pytest.mark.parametrize(
  ('script', 'message'),
  [
    ('echo \'{"error": {"summary": "no such host"}}\'; exit 1', 'failed: no such host'),
    ('exit 1', 'failed: it does not say why'),
    ('echo other > onnxruntime-web.tgz', 'its SHA-512 differs'),
  ],
)
def test_npm_does_not_get_it(mtface, network, cache, npm, tmp_path, script, message):
  npm(script)
  error = mtface('demo-page', f'--export={network}', f'--to={tmp_path}/page').error
  assert message in error
  assert not list(cache.iterdir()), 'nothing is left that the next command would take'
  assert not (tmp_path / 'page').exists()


def test_the_wheel_has_the_page():
  root = pathlib.Path(demo_page.__file__).parents[2]
  wheel = tomllib.loads((root / 'pyproject.toml').read_text())['tool']['hatch']['build']['targets']
  assert 'mtface' in wheel['wheel']['packages']
  assert not any('page' in pattern for pattern in wheel['wheel']['exclude'])
