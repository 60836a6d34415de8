"""Reads VGG-Face as it was released for MatConvNet (Parkhi et al. 2015): vgg_face.mat of the
authors, and vgg-face.mat of MatConvNet's own pages.

A file holds a cell array `layers` of structs with `name`, `type` and either `weights` {kernel,
bias} or, in older ones, `filters` and `biases`; kernels lie as ours, [height, width, in, out],
dense ones too. The mean of the images is `averageImage` of `normalization`. All of it is at the
top, in `meta`, or in `net`.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import scipy.io

from mtface.errors import UserError
from mtface.models.backbone import VGGFACE_MEAN
from mtface.models.foreign_names import to_torch

_EXPECTED = 'expected a network for MatConvNet, such as vgg_face.mat'
_NEAR = 0.01  # of 0..255: what tells two sets of images apart, and not their rounding


def read_matconvnet(path: pathlib.Path) -> dict[str, np.ndarray]:
  """{'conv1_1.weight': ...} of a network for MatConvNet, as its arrays lie in PyTorch.

  Raises:
    UserError: the file is damaged, has no layers of MatConvNet, or a mean other than VGG-Face's.
  """
  try:
    content = scipy.io.loadmat(path, struct_as_record=False)
  except Exception as error:  # the type depends on the damage
    raise UserError(f'{path}: is not a complete .mat file ({type(error).__name__})') from error
  network = _part(content, 'net') or content
  layers = _part(network, 'layers')
  structs = [_one(x) for x in (layers.flat if isinstance(layers, np.ndarray) else [layers])]
  if not all(isinstance(x, scipy.io.matlab.mat_struct) for x in structs):
    raise UserError(f'{path}: has no cell array `layers` of structs; {_EXPECTED}')
  _check_mean(path, _part(_part(network, 'meta') or network, 'normalization'))
  tensors: dict[str, np.ndarray] = {}
  for layer in structs:
    name, arrays = str(np.squeeze(_part(layer, 'name'))), _arrays(layer)
    if arrays is None:
      continue
    if any(x.dtype.kind != 'f' for x in arrays) or not 0 < arrays[0].ndim <= 4:
      raise UserError(f'{path}: layer {name} is not a kernel and a bias of numbers; {_EXPECTED}')
    kernel, bias = arrays
    # MATLAB leaves out last dimensions of 1.
    kernel = to_torch(kernel.reshape(kernel.shape + (1,) * (4 - kernel.ndim)))
    tensors |= {f'{name}.weight': kernel, f'{name}.bias': bias.reshape(-1)}
  return tensors


def _one(value: Any) -> Any:
  """What is inside of cells and structs of one element."""
  while isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
    value = value.item()
  return value


def _part(of: Any, name: str) -> Any:
  """A field of a struct, or a variable of a file; None if there is none."""
  return _one(of.get(name) if isinstance(of, dict) else getattr(of, name, None))


def _arrays(layer: Any) -> list[np.ndarray] | None:
  """[kernel, bias] of a layer; None for one without, such as a ReLU."""
  weights = _part(layer, 'weights')
  found = list(weights.flat) if isinstance(weights, np.ndarray) else []
  if not found:
    found = [_part(layer, 'filters'), _part(layer, 'biases')]
  return [np.asarray(x) for x in found] if len(found) == 2 and found[0] is not None else None


def _check_mean(path: pathlib.Path, normalization: Any) -> None:
  """Raises a `UserError` for weights that were trained on other images; a mean may be a colour or
  an image.
  """
  average = _part(normalization, 'averageImage')
  if average is None:
    return
  mean = np.asarray(average, np.float64).reshape(-1, 3).mean(0)
  if np.abs(mean - VGGFACE_MEAN).max() > _NEAR:
    given, expected = (', '.join(f'{x:.2f}' for x in of) for of in (mean, VGGFACE_MEAN))
    raise UserError(
      f'{path}: averageImage is ({given}), so that these are not the weights of VGG-Face, whose '
      f'images have the mean ({expected})'
    )
