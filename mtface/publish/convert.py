"""`python -m mtface.publish.convert FOLDER FILE`: from a saved `Program` to ONNX, by jax2onnx.

Runs in an environment of its own (`onnx_file.py` says why), which has jax2onnx, ml_collections and
safetensors, but neither mtface's data libraries nor its orbax.
"""

from __future__ import annotations

import json
import logging
import pathlib
import sys

import jax
import numpy as np

from mtface.errors import UserError
from mtface.publish.program import Program

# What onnxruntime has read since 1.14 (February 2023), and other programs since then.
OPSET = 18


def convert(folder: pathlib.Path, path: pathlib.Path, names: dict[str, str]) -> None:
  """Writes the program in `folder` to `path`: one input, and an output a task.

  Args:
    folder: of `Program.save`.
    path: the file to write.
    names: {'input': its name, task: the name of its output}.
  """
  import onnx
  from jax2onnx import to_onnx

  program = Program.load(folder)
  model = to_onnx(
    program.answers,
    [jax.ShapeDtypeStruct(('N', *program.image_shape), np.uint8)],
    model_name='mtface',
    opset=OPSET,
    input_names=[names['input']],
    output_names=[names[task] for task in program.tasks],
  )
  onnx.save(model, path)


def main() -> None:
  """Takes the folder, the file and the names as JSON."""
  folder, path, names = sys.argv[1:]
  logging.getLogger('onnx_ir').setLevel(logging.ERROR)  # warns of shapes that it leaves out
  try:
    convert(pathlib.Path(folder), pathlib.Path(path), json.loads(names))
  except UserError as error:
    sys.exit(str(error))


if __name__ == '__main__':
  main()
