"""Reads the tensors of weight files, whatever program wrote them, and never runs code from them.

.safetensors            https://huggingface.co/docs/safetensors
.pth, .pt, .bin, ...    torch.save, tensors only (`weights_only`), if PyTorch is installed
.mat                    MatConvNet (`matconvnet.py`)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from mtface.errors import UserError
from mtface.files import local_path
from mtface.models.matconvnet import read_matconvnet

_PICKLES = ('.pth', '.pt', '.bin', '.ckpt', '.pth.tar', '.pt.tar', '.tar')
_SUFFIXES = ('.safetensors', *_PICKLES, '.mat')


def is_weights_file(path: str | os.PathLike) -> bool:
  """Whether a path refers to a weight file, by its extension or because it is a file; otherwise it
  is the folder of a run.
  """
  return os.fspath(path).lower().endswith(_SUFFIXES) or local_path(path).is_file()


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The tensors of a safetensors file, of MatConvNet's .mat, or of a PyTorch file if PyTorch is
  installed, as they lie in PyTorch; floating-point tensors as float32.

  The file type is determined by the first bytes, or else by the extension. Tensors in nested
  dictionaries are named `outer.inner`.

  Raises:
    UserError: the file is missing, damaged, of another type or contains more than tensors, or
      PyTorch is needed but not installed.
  """
  path = local_path(path)
  if not path.is_file():
    raise UserError(f'{path}: no such weight file')
  kind = _kind_of(path)
  if kind == 'safetensors':
    try:
      found = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
      raise UserError(f'{path}: is not a complete safetensors file: {error}') from error
  elif kind == 'pickle':
    found = _read_pickle(path)
  elif kind == 'mat':
    found = read_matconvnet(path)
  else:
    raise UserError(f'{path}: {kind}; weights are read from {", ".join(_SUFFIXES)}')
  # ml_dtypes' bfloat16 is of kind 'V' to NumPy.
  return {
    name: x if x.dtype.kind in 'iub' else np.asarray(x, np.float32) for name, x in found.items()
  }


def _kind_of(path: pathlib.Path) -> str:
  """safetensors, pickle (of torch.save), mat (of MATLAB), or a description of what else it is."""
  try:
    with path.open('rb') as file:
      head = file.read(64)
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror})') from error
  if head.startswith(b'version https://git-lfs'):
    return 'is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`'
  if head.lstrip().startswith(b'<'):
    return 'is a web page, not a weight file; download it again'
  if head.startswith(b'MATLAB 5.0 MAT-file'):
    return 'mat'
  if head.startswith(b'MATLAB 7.3 MAT-file'):
    return "is a .mat of version 7.3, which is HDF5; save it in MATLAB as save(..., '-v7')"
  name = path.name.lower()
  if head[8:9] == b'{' or (name.endswith('.safetensors') and not head.startswith((b'PK', b'\x80'))):
    return 'safetensors'
  return (
    'pickle'
    if head.startswith((b'PK', b'\x80')) or name.endswith(_PICKLES)
    else 'is not a weight file'
  )


def _read_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Tensors of a torch.save file, read with `weights_only`, so no code in it is run."""
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f'{path}: reading this file needs PyTorch; pip install torch, or convert it elsewhere:'
      " safetensors.torch.save_file(torch.load('IN.pth', weights_only=True), 'OUT.safetensors')"
    ) from error
  harmless = getattr(
    torch.serialization, 'safe_globals', lambda _: contextlib.nullcontext()
  )  # since PyTorch 2.5
  try:
    with harmless([argparse.Namespace]):  # the training arguments
      found = torch.load(path, map_location='cpu', weights_only=True)
  except Exception as error:  # the type depends on version and damage
    raise UserError(
      f'{path}: contains more than tensors, or is damaged, so it is not loaded '
      f'({type(error).__name__}); save'
      ' model.state_dict() instead of the model'
    ) from error
  tensors = {name: x for name, x in _flat(found) if isinstance(x, torch.Tensor)}
  if not tensors:
    raise UserError(f'{path}: contains no named tensors; save model.state_dict() instead')
  return {name: (x.float() if x.is_floating_point() else x).numpy() for name, x in tensors.items()}


def _flat(tree: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """(outer.inner, value) pairs of nested dictionaries."""
  for key, value in tree.items() if isinstance(tree, Mapping) else ():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def notes_of(path: str | os.PathLike) -> dict[str, str]:
  """The metadata of a safetensors file."""
  path = local_path(path)
  if _kind_of(path) != 'safetensors':
    return {}
  with safetensors.safe_open(path, 'np') as file:
    return file.metadata() or {}
