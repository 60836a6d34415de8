"""Writes a `Program` as ONNX.

jax2onnx asks for an older orbax than mtface has, so it runs in an environment of its own
(`make setup-export`): this one hands it the program as weights and configuration (`convert.py`),
and then adds the metadata, and checks and measures what came out, by onnxruntime.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from mtface.errors import UserError
from mtface.files import local_path
from mtface.publish.onnx_model import INPUT, METADATA
from mtface.publish.program import Program

ENVIRONMENT = '.venv-export'  # that `make setup-export` makes
_PACKAGE = pathlib.Path(__file__).parents[1]
_FLAGS = '--xla_backend_optimization_level=0'  # it compiles what it never runs
_LAST_LINES = 300  # characters of the converter's error


def converter(given: str = '') -> str:
  """The Python that has jax2onnx: `given`, this one, or that of `ENVIRONMENT` in the current folder
  or in the checkout.

  Raises:
    UserError: there is none; it says how to get one.
  """
  if given:
    if not (path := local_path(given)).is_file():
      raise UserError(f'--converter={given}: no such file; expected a Python that has jax2onnx')
    return str(path.absolute())
  if importlib.util.find_spec('jax2onnx'):
    return sys.executable
  for folder in (pathlib.Path.cwd(), _PACKAGE.parent):
    if (path := folder / ENVIRONMENT / 'bin' / 'python').is_file():
      return str(path)
  raise UserError(
    '--format=onnx: needs jax2onnx, which does not go with the orbax of mtface, in an environment '
    f'of its own: run `make setup-export`, or `python3 -m venv {ENVIRONMENT} && {ENVIRONMENT}/bin/'
    "pip install 'jax2onnx>=0.17' ml-collections safetensors`, here; or name a Python that has it "
    'as --converter=PYTHON'
  )


def convert(program: Program, outputs: dict[str, str], python: str, path: pathlib.Path) -> None:
  """Writes a program as ONNX, without metadata.

  Args:
    program: what to write.
    outputs: {task: the name of its output}.
    python: see `converter`.
    path: the file to write.

  Raises:
    UserError: the converter cannot be run, or fails, as it does for a network with operators that
      it does not know.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    (folder / 'program').mkdir()
    program.save(folder / 'program')
    (folder / 'path').mkdir()  # not what else lies beside mtface: the environment has its own
    (folder / 'path' / 'mtface').symlink_to(_PACKAGE)
    names = json.dumps({'input': INPUT, **outputs})
    search = os.pathsep.join(filter(None, (f'{folder}/path', os.environ.get('PYTHONPATH'))))
    try:
      done = subprocess.run(
        [python, '-m', 'mtface.publish.convert', f'{folder}/program', str(path), names],
        env=os.environ | {'PYTHONPATH': search, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': _FLAGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
      )
    except OSError as error:
      raise UserError(
        f'--converter={python}: cannot be run ({error.strerror}); expected a Python that has '
        'jax2onnx'
      ) from None
  if done.returncode:
    last = (done.stdout.strip().splitlines() or ['it says nothing'])[-1][-_LAST_LINES:]
    raise UserError(
      f'--format=onnx: {python} could not convert the network ({last}); `make setup-export` makes '
      'an environment that can, and --format=stablehlo needs none'
    )


def write_about(path: pathlib.Path, about: dict[str, Any]) -> None:
  """Sets the metadata of an ONNX file."""
  import onnx

  model = onnx.load(path)
  onnx.helper.set_model_props(model, {METADATA: json.dumps(about)})
  onnx.save(model, path)
