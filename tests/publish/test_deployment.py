"""The examples of docs/deployment.md, run as they stand there."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mtface.faces.cropping import Crop
from mtface.publish import stablehlo_file
from mtface.publish.contract import output_names
from tests.command import ROOT
from tests.publish.programs import config_of, expected, images_of, program_of

NODE = pathlib.Path(os.environ.get('MTFACE_NODE', ROOT / '.node'))  # as `make test-export` has it
PACKAGE = 'onnxruntime-web'


def example(language, word):
  """The one block of code of a language that has a word."""
  page = (ROOT / 'docs/deployment.md').read_text()
  blocks = re.findall(rf'```{language}\n(.*?)```', page, flags=re.DOTALL)
  (found,) = [block for block in blocks if word in block]
  return found


def answers(command, folder):
  """{task: {class: number}} that a command prints, a line each."""
  done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  lines = [line.split(' ', 1) for line in done.stdout.splitlines()]
  return {task: json.loads(numbers) for task, numbers in lines}


@pytest.fixture
def onnx_folder(tmp_path):
  """A folder with face.onnx and face.raw."""
  pytest.importorskip('onnx')
  pytest.importorskip('onnxruntime')
  from tests.publish import exported

  exported.write(tmp_path / 'face.onnx', Crop(16, 1))
  np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8).tofile(tmp_path / 'face.raw')
  return tmp_path


def said(folder):
  """The same by onnxruntime, without the metadata."""
  import onnxruntime

  session = onnxruntime.InferenceSession(str(folder / 'face.onnx'))
  image = np.fromfile(folder / 'face.raw', np.uint8).reshape(1, 16, 16, 1)
  names = [of.name for of in session.get_outputs()]
  found = session.run(names, {'image': image})
  return {name: rows[0] for name, rows in zip(names, found, strict=True)}


def agree(found, wanted, atol):
  assert set(found) == set(wanted)
  for task, numbers in wanted.items():
    np.testing.assert_allclose(list(found[task].values()), numbers, atol=atol, err_msg=task)


def test_python(onnx_folder):
  found = answers([sys.executable, '-c', example('python', 'onnxruntime')], onnx_folder)
  agree(found, said(onnx_folder), atol=1e-6)
  assert list(found['smile']) == ['no_smile', 'smile']


def test_javascript(onnx_folder):
  node = shutil.which('node')
  if node is None or not (NODE / 'node_modules' / PACKAGE).is_dir():
    pytest.skip(f'needs Node.js and {PACKAGE} in {NODE}: make test-export')
  (onnx_folder / 'node_modules').symlink_to(NODE / 'node_modules')
  (onnx_folder / 'example.mjs').write_text(example('js', 'onnxruntime'))
  found = answers([node, 'example.mjs'], onnx_folder)
  agree(found, said(onnx_folder), atol=1e-5)
  assert list(found['smile']) == ['no_smile', 'smile']


def test_jax(tmp_path):
  config = config_of('bknet')
  program = program_of(config)
  outputs = output_names(program.tasks)
  tasks = [
    {
      'name': name,
      'output': output,
      'classes': list(program.parts[0].network.outputs.answered[name].classes),
    }
    for name, output in outputs.items()
  ]
  about = {'tasks': tasks, 'image': {'shape': list(program.image_shape)}}
  stablehlo_file.write(program, outputs, tmp_path / 'face.stablehlo')
  stablehlo_file.write_about(tmp_path / 'face.stablehlo', about)
  images_of(config)[2].tofile(tmp_path / 'face.raw')
  found = answers([sys.executable, '-c', example('python', 'jax')], tmp_path)
  agree(found, {task: rows[2] for task, rows in expected(config).items()}, atol=1e-5)
