"""A `Program` as StableHLO, in the form of `jax.export`.

The file is a zip archive of two entries: what `jax.export` serialises, for CPUs, GPUs and TPUs and
batches of any size, and the metadata as JSON. Reading it takes JAX and no mtface:

    file = zipfile.ZipFile('face.stablehlo')
    about = json.loads(file.read('mtface.json'))
    program = jax.export.deserialize(bytearray(file.read('program.bin')))
    answers = program.call(images)  # {output: [N, C]}

JAX promises to read such files for six months, and older JAX to read those of newer ones for three
weeks (https://docs.jax.dev/en/latest/export/export.html, "Compatibility guarantees"). Keep the run,
or its weights as safetensors, for longer.
"""

from __future__ import annotations

import json
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from mtface.outputs import Scores
from mtface.publish.program import Program

ABOUT, PROGRAM = 'mtface.json', 'program.bin'
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')


def write(program: Program, outputs: Mapping[str, str], path: pathlib.Path) -> None:
  """Writes a program, without metadata.

  Args:
    program: what to write.
    outputs: {task: the name of its output}.
    path: the file to write.
  """

  def answers(image: jax.Array) -> dict[str, jax.Array]:
    return dict(zip(outputs.values(), program.answers(image), strict=True))

  (batch,) = export.symbolic_shape('N')
  images = jax.ShapeDtypeStruct((batch, *program.image_shape), np.uint8)
  exported = export.export(jax.jit(answers), platforms=PLATFORMS)(images)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as file:
    file.writestr(PROGRAM, bytes(exported.serialize()))


def write_about(path: pathlib.Path, about: dict[str, Any]) -> None:
  """Adds the metadata to a file that has none."""
  with zipfile.ZipFile(path, 'a') as file:
    file.writestr(ABOUT, json.dumps(about))


class StableHloModel:
  """A file as its users read it: `say` is that of `mtface.publish.predictor.Model`."""

  def __init__(self, path: pathlib.Path, outputs: Mapping[str, str]):
    """Loads the file; `outputs` names each task's output."""
    self._outputs = dict(outputs)
    with zipfile.ZipFile(path) as file:
      exported = export.deserialize(bytearray(file.read(PROGRAM)))
    self._call = jax.jit(exported.call)

  def say(self, images: Sequence[np.ndarray]) -> Scores:
    """{task: [N, C]} of images uint8 [N, H, W, C], the only entry of a list."""
    said = self._call(images[0])
    return {task: np.asarray(said[name]) for task, name in self._outputs.items()}
