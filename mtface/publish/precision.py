"""Smaller numbers for an ONNX file, by onnxruntime's own tools: float16, or int8 with a scale for
each layer that is learnt from training images.
"""

from __future__ import annotations

import contextlib
import logging
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from mtface.errors import UserError, first_line
from mtface.evaluation.chosen import Chosen
from mtface.publish.measured import spread
from mtface.publish.onnx_model import INPUT

PRECISIONS = ('float32', 'float16', 'int8')
CALIBRATION = 256  # training images
_BATCH = 32
_QUANTISED = ('Conv', 'Gemm', 'MatMul', 'MaxPool', 'Relu', 'Clip')
_WEIGHTED = ('Conv', 'Gemm', 'MatMul')


def to_float16(path: pathlib.Path, to: pathlib.Path) -> None:
  """Writes an ONNX file with weights and computation in float16; the softmax over classes stays in
  float32, and so do the outputs.
  """
  import onnx
  from onnxruntime.transformers import float16

  kept = [*float16.DEFAULT_OP_BLOCK_LIST, 'Softmax']
  model = float16.convert_float_to_float16(onnx.load(path), keep_io_types=True, op_block_list=kept)
  onnx.save(model, to)


def to_int8(path: pathlib.Path, to: pathlib.Path, images: np.ndarray) -> None:
  """Writes an ONNX file with convolutions and dense layers in int8: static quantisation, a scale
  for each output channel of a kernel. The last layer of each head stays in float32: it is small,
  and its scores are what the answers are made of.

  Args:
    path: the file to read.
    to: the file to write.
    images: training images, uint8 [N, H, W, C], of which the ranges of layers are learnt.
  """
  from onnxruntime import quantization
  from onnxruntime.quantization import shape_inference

  with tempfile.TemporaryDirectory() as folder, _quiet():
    joined = pathlib.Path(folder) / 'joined.onnx'  # batch norms are in the kernels then
    shape_inference.quant_pre_process(str(path), str(joined), skip_symbolic_shape=True)
    quantization.quantize_static(
      str(joined),
      str(to),
      _reader(images),
      quant_format=quantization.QuantFormat.QDQ,
      op_types_to_quantize=list(_QUANTISED),
      nodes_to_exclude=_last_layers(joined),
      per_channel=True,
      # onnxruntime has kernels for unsigned maps and signed weights only; signed maps that several
      # layers read are not converted, and their layers run in float32.
      activation_type=quantization.QuantType.QUInt8,
      weight_type=quantization.QuantType.QInt8,
    )


def _reader(images: np.ndarray) -> Any:
  from onnxruntime import quantization

  class Images(quantization.CalibrationDataReader):
    """Batches of images, once."""

    def __init__(self) -> None:
      self._batches: Iterator[np.ndarray] = (
        images[start : start + _BATCH] for start in range(0, len(images), _BATCH)
      )

    def get_next(self) -> dict[str, np.ndarray] | None:
      """The next batch by the input's name."""
      batch = next(self._batches, None)
      return None if batch is None else {INPUT: batch}

  return Images()


def _last_layers(path: pathlib.Path) -> list[str]:
  """The names of those layers with weights behind which there are no others."""
  import onnx

  nodes = list(onnx.load(path).graph.node)
  before: set[str] = set()  # values that a layer with weights is made of
  last = []
  for node in reversed(nodes):  # ONNX sorts them
    weighted = node.op_type in _WEIGHTED
    if weighted and before.isdisjoint(node.output):
      last.append(node.name)
    if weighted or not before.isdisjoint(node.output):
      before.update(node.input)
  return last


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Without the tools' warnings, which ask for what was done (pre-processing)."""
  level = logging.root.level
  logging.root.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logging.root.setLevel(level)


def calibration_images(chosen: Chosen) -> np.ndarray:
  """Some images of each training source of the (first) run, evenly, uint8 [N, H, W, C].

  Raises:
    UserError: a source is not there.
  """
  own = chosen.evaluators[0]
  names = [source.name for source in own.config.sources.values()]
  each = -(-CALIBRATION // len(names))
  try:
    sources = [own.source(name, labelled=False) for name in names]
  except UserError as error:
    raise UserError(
      f'--int8: learns the ranges of its layers from training images: {first_line(error)}'
    ) from None
  images = np.concatenate([of.gather(spread(len(of), each)) for of in sources])
  return images[np.random.default_rng(0).permutation(len(images))]
