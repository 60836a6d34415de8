"""Weights in and out: timm's, as PyTorch's users have them, and our own, in one file without any
code in it.

Two formats, both safetensors (https://huggingface.co/docs/safetensors):

    timm     a backbone by timm's names, for `load_state_dict`; read also from PyTorch's files
             (.pth, .pt, .bin, .ckpt, .pth.tar)
    mtface   any network by our own paths, `trunk/stem/conv/kernel`, arrays as they are; exact

Nothing is matched by guess: a tensor that is left over on either side is an error that names it.
Others' trainings put a word before all names (`module.`, `model.`, `_orig_mod.`) or the tensors
into a dictionary (`state_dict`, `model_ema`): the words before the network's own names are taken
off, and what lies elsewhere is left. Pickled modules are never loaded, since to unpickle is to run
whatever the file says.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from mtface.errors import UserError
from mtface.files import local_path, whole
from mtface.models.network import abstract_network
from mtface.models.paths import Params, Stats, by_path, head_of
from mtface.models.timm_names import (
  CLASSIFIERS,
  IGNORED,
  classifier_names,
  from_torch,
  timm_name,
  to_torch,
)
from mtface.tasks import Task

FORMATS = ('timm', 'mtface')
LEAVE = 'leave'  # stands for no head: a file's classifier that is not wanted
_PICKLES = ('.pth', '.pt', '.bin', '.ckpt', '.pth.tar', '.pt.tar', '.tar')
_SUFFIXES = ('.safetensors', *_PICKLES)
_LISTED = 5  # names in an error


@dataclasses.dataclass(frozen=True)
class Imported:
  """What a file gave to a network.

  Attributes:
    params, stats: trees of the network's, with only the arrays that were found, float32.
    found: their paths.
    kept: paths of the network that the file has nothing for: heads, which stay as they are
      initialised.
    left: tensors of the file that were not wanted: a classifier that was to be left, heads of other
      tasks, counters.
    prefix: what was taken off the names of the file, as in 'module.'; what it has beside is in
      `left` too.
  """

  params: Params
  stats: Stats
  found: tuple[str, ...]
  kept: tuple[str, ...]
  left: tuple[str, ...]
  prefix: str = ''

  def summary(self) -> str:
    """A line for the user."""
    stripped = ''
    if self.prefix:
      beside = sum(not name.startswith(self.prefix) for name in self.left)
      stripped = f' (those of {self.prefix}*, without that prefix; {beside:,} beside them are left)'
    return f'{len(self.found):,} arrays{stripped}; drawn: {", ".join(self.kept) or "none"}'


def is_weights_file(path: str | os.PathLike) -> bool:
  """Whether a path is of a file of weights, by its ending or because it is a file; otherwise it is
  a run's folder.
  """
  return os.fspath(path).lower().endswith(_SUFFIXES) or local_path(path).is_file()


def import_weights(
  path: str | os.PathLike,
  model: ConfigDict,
  tasks: Sequence[Task],
  image_shape: Sequence[int],
  *,
  classifier: str | None = None,
) -> Imported:
  """Reads the trunk of a network, and the heads that the file has.

  Args:
    path: a file in one of the formats above; what `export_weights` wrote says itself which.
    model: `config.model` of the network that is to have the weights.
    tasks: its heads.
    image_shape: (H, W, C) of its images.
    classifier: the head (a task's name) that gets the classifier of a file in timm's format, or
      'leave'. None: the file must have none.

  Raises:
    UserError: a file that cannot be read, is of another network, or has a tensor too many or too
      few.
  """
  tensors, notes = read_torch(path), _notes(path)
  wanted = trained_input(path)
  if wanted is not None and wanted != model.get('input', wanted):
    raise UserError(
      f'{path}: was trained on images scaled as {wanted}, config.model.input says {model.input}; '
      f'set config.model.input={wanted}'
    )
  _, params, stats = abstract_network(model, tasks, image_shape)
  shapes = by_path(params) | by_path(stats)
  if notes.get('format') == 'mtface':
    if classifier not in (None, 'leave'):
      raise UserError(
        f'{path}: has its heads by the names of their tasks; classifier={classifier!r} is for '
        'files of timm'
      )
    arrays, left = _match(path, tensors, shapes)
    prefix = ''
  else:
    arrays, left, prefix = _match_timm(path, tensors, shapes, model.name, classifier)
  _check_arrays(path, arrays, shapes)
  kept = tuple(name for name in shapes if name not in arrays)
  return Imported(
    _filled(params, arrays), _filled(stats, arrays), tuple(arrays), kept, left, prefix
  )


def export_weights(
  params: Params,
  stats: Stats,
  path: str | os.PathLike,
  model: ConfigDict,
  *,
  format: str = 'timm',
  classifier: str | None = None,
  notes: Mapping[str, str] | None = None,
) -> None:
  """Writes a network to a safetensors file.

  Args:
    params, stats: of one network.
    path: of the file, whose folder must be there.
    model: its `config.model`.
    format: `timm` for a backbone of timm's, or `mtface` for all of any network.
    classifier: with `timm`, the head (a task's name) that becomes the classifier; None: the file
      has none (timm's `num_classes=0`).
    notes: more of the file's metadata, text only.

  Raises:
    UserError: an unknown format, network or head, or a folder that is not there.
  """
  path = local_path(path)
  arrays = {
    name: np.asarray(x, np.float32) for name, x in (by_path(params) | by_path(stats)).items()
  }
  if format not in FORMATS:
    raise UserError(f'--format={format}: unknown; there are {", ".join(FORMATS)}')
  if format == 'timm':
    arrays = _as_timm(arrays, model.name, classifier)
  elif classifier is not None:
    raise UserError(
      f'--classifier={classifier}: only timm has a classifier; a file of format mtface has all '
      'heads'
    )
  if not path.parent.is_dir():
    raise UserError(f'--to={path}: the folder {path.parent} is not there')
  about = {'format': format, 'model': json.dumps(model.to_dict()), **(notes or {})}
  with whole(path) as partial:
    safetensors.numpy.save_file(arrays, partial, about)


def trained_input(path: str | os.PathLike) -> str | None:
  """How the weights of a file want their images, a name in `mobile.INPUTS`, if the file says so (as
  those of `export_weights` do).
  """
  try:
    return json.loads(_notes(path)['model']).get('input')
  except (
    KeyError,
    ValueError,
    OSError,
    UserError,
    safetensors.SafetensorError,
  ):  # what is wrong is said where it is read
    return None


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The tensors of a safetensors file, or of one of PyTorch's if that is there to read it; numbers
  with a fraction as float32.

  What a file is its first bytes say, and its ending where they do not. Tensors in dictionaries are
  named `outer.inner`.

  Raises:
    UserError: no such file, one that is damaged, that holds more than tensors, or of another kind;
      or PyTorch is needed and missing.
  """
  path = local_path(path)
  if not path.is_file():
    raise UserError(f'{path}: no such file of weights')
  kind = _kind_of(path)
  if kind == 'safetensors':
    try:
      found = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
      raise UserError(f'{path}: is no whole safetensors file: {error}') from error
  elif kind == 'pickle':
    found = _read_pickle(path)
  else:
    raise UserError(f'{path}: {kind}; weights are read from {", ".join(_SUFFIXES)}')
  # ml_dtypes' bfloat16 is of kind 'V' to NumPy.
  return {
    name: x if x.dtype.kind in 'iub' else np.asarray(x, np.float32) for name, x in found.items()
  }


def overlaid(tree: dict[Any, Any], part: dict[Any, Any]) -> dict[Any, Any]:
  """`tree` with the arrays that `part`, a tree of some of its paths, has."""
  result = dict(tree)
  for key, value in part.items():
    result[key] = overlaid(tree[key], value) if isinstance(value, dict) else value
  return result


# --- Reading --------------------------------------------------------------------------------------


def _kind_of(path: pathlib.Path) -> str:
  """safetensors, pickle (of torch.save), or what else the file is, in words."""
  try:
    with path.open('rb') as file:
      head = file.read(64)
  except OSError as error:
    raise UserError(f'{path}: cannot be read ({error.strerror})') from error
  if head.startswith(b'version https://git-lfs'):
    return 'is a pointer of Git LFS, not the file itself, which `git lfs pull` fetches'
  if head.lstrip().startswith(b'<'):
    return 'is a web page, not the file that was to be downloaded'
  name = path.name.lower()
  if head[8:9] == b'{' or (name.endswith('.safetensors') and not head.startswith((b'PK', b'\x80'))):
    return 'safetensors'
  return (
    'pickle'
    if head.startswith((b'PK', b'\x80')) or name.endswith(_PICKLES)
    else 'is of another kind'
  )


def _read_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Tensors of a file of torch.save, read with `weights_only`: nothing in it is run."""
  try:
    import torch
  except ImportError as error:
    raise UserError(
      f'{path}: only PyTorch reads this; pip install torch, or where it is, convert the file:'
      " safetensors.torch.save_file(torch.load('IN.pth', weights_only=True), 'OUT.safetensors')"
    ) from error
  harmless = getattr(
    torch.serialization, 'safe_globals', lambda _: contextlib.nullcontext()
  )  # since PyTorch 2.5
  try:
    with harmless([argparse.Namespace]):  # the arguments of the training
      found = torch.load(path, map_location='cpu', weights_only=True)
  except Exception as error:  # of many kinds, by version and by damage
    raise UserError(
      f'{path}: holds more than tensors, or is damaged, and is not loaded '
      f'({type(error).__name__}); where it comes from, save'
      ' model.state_dict() in place of the model'
    ) from error
  tensors = {name: x for name, x in _flat(found) if isinstance(x, torch.Tensor)}
  if not tensors:
    raise UserError(
      f'{path}: holds no tensors by name; where it comes from, save model.state_dict()'
    )
  return {name: (x.float() if x.is_floating_point() else x).numpy() for name, x in tensors.items()}


def _flat(tree: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """(outer.inner, value) of dictionaries in dictionaries."""
  for key, value in tree.items() if isinstance(tree, Mapping) else ():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def _notes(path: str | os.PathLike) -> dict[str, str]:
  """The metadata of a safetensors file."""
  path = local_path(path)
  if _kind_of(path) != 'safetensors':
    return {}
  with safetensors.safe_open(path, 'np') as file:
    return file.metadata() or {}


def _match(
  path: str | os.PathLike, tensors: dict[str, np.ndarray], shapes: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """Arrays by path and what was left, of a file in our own format. Heads are taken whole, or not at
  all.
  """
  heads = {head_of(name) for name in tensors} & {head_of(name) for name in shapes} - {None}
  wanted = [name for name in shapes if head_of(name) is None or head_of(name) in heads]
  left = tuple(name for name in tensors if head_of(name) is not None and head_of(name) not in heads)
  _check_names(
    path, {name: name for name in wanted}, [name for name in tensors if name not in left]
  )
  return {name: tensors[name] for name in wanted}, left


def _match_timm(
  path: str | os.PathLike,
  tensors: dict[str, np.ndarray],
  shapes: Mapping[str, Any],
  model: str,
  classifier: str | None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str]:
  """The same of a file in timm's format, and the prefix that its names have."""
  if model not in CLASSIFIERS:
    raise UserError(
      f'{path}: model {model} is no network of timm; it reads files that `mtface export '
      '--format=mtface` wrote'
    )
  wanted = {name: timm_name(model, name) for name in shapes if head_of(name) is None}
  names = classifier_names(model)
  prefix = _prefix_of(tensors, tuple(wanted.values()))
  beside = [name for name in tensors if not name.startswith(prefix)]
  tensors = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
  has = [name for name in names.values() if name in tensors]
  if has and classifier is None:
    rows = len(tensors[has[0]])
    raise UserError(
      f'{path}: has a classifier of {rows} classes ({has[0]}); name the head that gets it, or '
      f'{LEAVE!r}'
    )
  left = [name for name in tensors if IGNORED.search(name)]
  if classifier == LEAVE:
    left += has
  elif classifier is not None:
    wanted |= {_last_layer(shapes, classifier, leaf): name for leaf, name in names.items()}
  _check_names(path, wanted, [name for name in tensors if name not in left])
  arrays = {ours: from_torch(tensors[theirs]) for ours, theirs in wanted.items()}
  return arrays, (*(f'{prefix}{name}' for name in left), *beside), prefix


def _prefix_of(names: Collection[str], wanted: Sequence[str]) -> str:
  """What stands in a file before the names of a network: 'module.', 'state_dict.model.'; '' where
  most of them are there as they are.

  Of two that have the whole network the running average counts, as in timm (`use_ema`), and then
  the shorter.
  """
  hits = collections.Counter(
    name.removesuffix(ending)
    for ending in wanted
    for name in names
    if name == ending or name.endswith(f'.{ending}')
  )
  if not hits:
    return ''
  best = max(
    hits,
    key=lambda prefix: (hits[prefix], not prefix, 'ema' in prefix.lower(), -len(prefix), prefix),
  )
  return best if hits[best] > len(wanted) / 2 else ''


def _check_names(path: str | os.PathLike, wanted: Mapping[str, str], given: Sequence[str]) -> None:
  """Raises a `UserError` unless the names in the file (values of `wanted`) and those given are the
  same.
  """
  known = set(wanted.values())
  extra = [name for name in given if name not in known]
  missing = [
    f'{theirs} (our {ours})' if ours != theirs else ours
    for ours, theirs in wanted.items()
    if theirs not in given
  ]
  if extra or missing:
    parts = [f'the file has {_listed(extra)} too many'] if extra else []
    parts += [f'it lacks {_listed(missing)}'] if missing else []
    raise UserError(f'{path}: is not of this network: {"; ".join(parts)}')


def _check_arrays(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> None:
  wrong = [
    f'{name} {"x".join(map(str, x.shape))}, not {"x".join(map(str, shapes[name].shape))}'
    for name, x in arrays.items()
    if x.shape != shapes[name].shape or x.dtype != np.float32
  ]
  if wrong:
    raise UserError(
      f'{path}: is not of this network: {_listed(wrong)} (config.model and image_shape say the '
      'latter)'
    )
  if spoilt := [name for name, x in arrays.items() if not np.isfinite(x).all()]:
    raise UserError(
      f'{path}: has NaN or infinity in {_listed(spoilt)}; take another file, the training that '
      'wrote it failed'
    )


def _listed(names: Sequence[str]) -> str:
  more = f' and {len(names) - _LISTED} more' if len(names) > _LISTED else ''
  return ', '.join(names[:_LISTED]) + more


# --- Trees ----------------------------------------------------------------------------------------


def _filled(
  tree: dict[Any, Any], arrays: Mapping[str, np.ndarray], prefix: str = ''
) -> dict[Any, Any]:
  """The part of a tree whose paths are in `arrays`, with these for leaves."""
  result: dict[Any, Any] = {}
  for key, value in tree.items():
    path = f'{prefix}{key}'
    if isinstance(value, dict):
      if part := _filled(value, arrays, f'{path}/'):
        result[key] = part
    elif path in arrays:
      result[key] = arrays[path]
  return result


def _last_layer(shapes: Mapping[str, Any], task: str, leaf: str) -> str:
  """The path of a head's `kernel` or `bias` where the head is one linear layer, as timm's is."""
  heads = sorted({head_of(name) for name in shapes} - {None}, key=str)
  if task not in heads:
    raise UserError(
      f'classifier {task!r}: the network has no such head; it has {", ".join(map(str, heads))}'
    )
  if any(f'/{task}/hidden/' in name for name in shapes):
    raise UserError(
      f"classifier {task!r}: that head has hidden layers (config.model.age_hidden), which timm's "
      'has not'
    )
  return f'heads/{task}/scores/{leaf}'


def _as_timm(
  arrays: Mapping[str, np.ndarray], model: str, classifier: str | None
) -> dict[str, np.ndarray]:
  """Arrays by timm's names."""
  if model not in CLASSIFIERS:
    raise UserError(f'--format=timm: model {model} is no network of timm; take --format=mtface')
  names = {name: timm_name(model, name) for name in arrays if head_of(name) is None}
  if classifier is not None:
    names |= {
      _last_layer(arrays, classifier, leaf): name for leaf, name in classifier_names(model).items()
    }
  return {theirs: to_torch(arrays[ours]) for ours, theirs in names.items()}
