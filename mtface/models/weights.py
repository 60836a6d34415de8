"""Reads and writes weights: those of other programs, mostly for PyTorch, and our own, in single
files that contain no code.

Two formats are written, both safetensors (https://huggingface.co/docs/safetensors):

    torch    a backbone by the names of a program for PyTorch, for `load_state_dict`
             (`foreign_names.py`); read also from the files of `weight_files.py`. `timm` is the
             same, where that program is timm
    mtface   any network by our own paths, `trunk/stem/conv/kernel`, arrays as they are; exact

Names are never guessed: a tensor left over on either side is an error that names it. Training
programs often prefix all names (`module.`, `model.`, `_orig_mod.`) or nest the tensors in a
dictionary (`state_dict`, `model_ema`): prefixes of the network's own names are stripped, and
everything else is ignored. Pickled modules are never loaded, since unpickling runs code from the
file.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from ml_collections import ConfigDict

from mtface.errors import UserError, first_line
from mtface.files import local_path, replaced
from mtface.models.foreign_names import IGNORED, NAMINGS, Naming, from_torch, to_torch
from mtface.models.network import abstract_network
from mtface.models.paths import Params, Stats, by_path, head_of
from mtface.models.weight_files import notes_of, read_torch
from mtface.outputs import Outputs
from mtface.tasks import Task

FORMATS = ('torch', 'timm', 'mtface')
LEAVE = 'leave'  # no head: the file's classifier is ignored
_LISTED = 5  # most names to list in an error


@dataclasses.dataclass(frozen=True)
class Imported:
  """The weights that a file provides for a network.

  Attributes:
    params, stats: trees like the network's, with only the arrays that were found, float32.
    found: their paths.
    kept: paths of the network that the file has no weights for: heads, which keep their random
      initialisation.
    left: tensors of the file that were ignored: a classifier to leave out, heads of other tasks,
      counters.
    prefix: the prefix stripped from the file's names, as in 'module.'; tensors without it are in
      `left` too.
  """

  params: Params
  stats: Stats
  found: tuple[str, ...]
  kept: tuple[str, ...]
  left: tuple[str, ...]
  prefix: str = ''

  def summary(self) -> str:
    """A one-line summary for the user."""
    stripped = ''
    if self.prefix:
      beside = sum(not name.startswith(self.prefix) for name in self.left)
      stripped = f' (from {self.prefix}*, prefix stripped; {beside:,} others ignored)'
    return f'{len(self.found):,} arrays{stripped}; initialised at random: '
    f'{", ".join(self.kept) or "none"}'


def import_weights(
  path: str | os.PathLike,
  model: ConfigDict,
  tasks: Outputs | Sequence[Task],
  image_shape: Sequence[int],
  *,
  classifier: str | None = None,
) -> Imported:
  """Reads the trunk of a network, and those heads that the file has.

  Args:
    path: a file in one of the formats above; files from `export_weights` say which.
    model: `config.model` of the network to load the weights into.
    tasks: what it predicts, see `network.make_network`.
    image_shape: (H, W, C) of its images.
    classifier: the head (a task's name) that gets the classifier of another program's file, or
      'leave'. None: the file must not have one.

  Raises:
    UserError: the file cannot be read, belongs to another network, has unexpected or missing
      tensors, or was trained on images of another scale than `model.input`.
  """
  tensors, notes = read_torch(path), notes_of(path)
  _check_input(path, trained_input(path), model)
  network, params, stats = abstract_network(model, tasks, image_shape)
  shapes = by_path(params) | by_path(stats)
  if notes.get('format') == 'mtface':
    if classifier not in (None, 'leave'):
      raise UserError(
        f'{path}: names its heads by task; classifier={classifier!r} applies only to files of '
        'other programs'
      )
    arrays, left = _match(path, tensors, shapes, _other_heads(notes, network.outputs))
    prefix = ''
  else:
    naming = _naming(path, tensors, shapes, model.name)
    _check_input(path, naming.input, model)
    arrays, left, prefix = _match_foreign(path, tensors, shapes, naming, classifier)
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
  format: str = 'torch',
  classifier: str | None = None,
  notes: Mapping[str, str] | None = None,
) -> None:
  """Writes a network to a safetensors file.

  Args:
    params: the parameters of one network.
    stats: its statistics.
    path: the file to write, in an existing folder.
    model: the network's `config.model`.
    format: `torch` or `timm` for a backbone, or `mtface` for every array of any network.
    classifier: with the former, the head (a task's name) that becomes the classifier; None: no
      classifier (timm's `num_classes=0`).
    notes: further metadata for the file, text only.

  Raises:
    UserError: unknown format, network or head, the folder does not exist, or the file cannot be
      written.
  """
  path = local_path(path)
  arrays = {
    name: np.asarray(x, np.float32) for name, x in (by_path(params) | by_path(stats)).items()
  }
  if format not in FORMATS:
    raise UserError(f'--format={format}: unknown format; expected {", ".join(FORMATS)}')
  if format != 'mtface':
    arrays = _as_foreign(arrays, model.name, format, classifier)
  elif classifier is not None:
    raise UserError(
      f'--classifier={classifier}: applies only to --format=torch; format mtface includes all heads'
    )
  if not path.parent.is_dir():
    raise UserError(f'--to={path}: the folder {path.parent} does not exist')
  about = {'format': format, 'model': json.dumps(model.to_dict()), **(notes or {})}
  with replaced(path) as partial:
    try:
      safetensors.numpy.save_file(arrays, partial, about)
    except safetensors.SafetensorError as error:  # the disk is full, or cannot be written
      raise OSError(first_line(error)) from None


def trained_input(path: str | os.PathLike) -> str | None:
  """The image scaling that a file's weights expect, a name in `backbone.INPUTS`, if the file says
  so (as files from `export_weights` do).
  """
  try:
    return json.loads(notes_of(path)['model']).get('input')
  except (
    KeyError,
    ValueError,
    OSError,
    UserError,
    safetensors.SafetensorError,
  ):  # errors are reported when the file is read
    return None


def overlaid(tree: dict[Any, Any], part: dict[Any, Any]) -> dict[Any, Any]:
  """`tree` with the arrays of `part`, a tree of some of its paths, replaced."""
  result = dict(tree)
  for key, value in part.items():
    result[key] = overlaid(tree[key], value) if isinstance(value, dict) else value
  return result


# --- Reading --------------------------------------------------------------------------------------


def _other_heads(notes: Mapping[str, str], outputs: Outputs) -> frozenset[str]:
  """The heads of a file in our own format that have other classes than ours of the same name."""
  try:
    classes = json.loads(notes.get('tasks', '{}')).items()
    return outputs.other_layers(Outputs.heads(Task(name, tuple(of)) for name, of in classes))
  except (ValueError, TypeError, AttributeError):  # of a user's own notes
    return frozenset()


def _match(
  path: str | os.PathLike,
  tensors: dict[str, np.ndarray],
  shapes: Mapping[str, Any],
  others: Collection[str],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """Arrays by path, and the ignored tensors, of a file in our own format. Heads are loaded
  completely or not at all, and not those of `others`.
  """
  heads = {head_of(name) for name in tensors} & {head_of(name) for name in shapes} - {None, *others}
  wanted = [name for name in shapes if head_of(name) is None or head_of(name) in heads]
  left = tuple(name for name in tensors if head_of(name) is not None and head_of(name) not in heads)
  _check_names(
    path, {name: name for name in wanted}, [name for name in tensors if name not in left]
  )
  return {name: tensors[name] for name in wanted}, left


def _naming(
  path: str | os.PathLike, tensors: Collection[str], shapes: Mapping[str, Any], model: str
) -> Naming:
  """Of the programs that have this network, the one whose names the file has most of."""
  if model not in NAMINGS:
    raise UserError(
      f'{path}: no other program is known to have model {model}; it reads files that `mtface '
      'export --format=mtface` wrote'
    )
  trunk = [name for name in shapes if head_of(name) is None]

  def found(naming: Naming) -> int:
    wanted = [*map(naming.name, trunk), *naming.last().values()]
    prefix = _prefix_of(tensors, wanted)
    return sum(f'{prefix}{name}' in tensors for name in wanted)

  return max(NAMINGS[model], key=found)


def _match_foreign(
  path: str | os.PathLike,
  tensors: dict[str, np.ndarray],
  shapes: Mapping[str, Any],
  naming: Naming,
  classifier: str | None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...], str]:
  """The same for a file of another program, and the prefix of its names."""
  wanted = {name: naming.name(name) for name in shapes if head_of(name) is None}
  names = naming.last()
  prefix = _prefix_of(tensors, tuple(wanted.values()))
  beside = [name for name in tensors if not name.startswith(prefix)]
  tensors = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
  has = [name for name in names.values() if name in tensors]
  if has and classifier is None:
    rows = len(tensors[has[0]])
    raise UserError(
      f'{path}: has a classifier of {rows} classes ({has[0]}); name the head to load it into, or '
      f'{LEAVE!r}'
    )
  left = [name for name in tensors if IGNORED.search(name)]
  if classifier == LEAVE:
    left += has
  elif classifier is not None:
    wanted |= {_last_layer(shapes, classifier, leaf): name for leaf, name in names.items()}
  _check_names(path, wanted, [name for name in tensors if name not in left])
  arrays = {
    ours: from_torch(tensors[theirs], shapes[ours].shape) for ours, theirs in wanted.items()
  }
  if naming.reversed_colours:
    arrays[naming.reversed_colours] = arrays[naming.reversed_colours][:, :, ::-1]
  return arrays, (*(f'{prefix}{name}' for name in left), *beside), prefix


def _check_input(path: str | os.PathLike, wanted: str | None, model: ConfigDict) -> None:
  """Raises a `UserError` where weights expect images of another scale; '' or None: it is not
  known.
  """
  if wanted and wanted != model.get('input', wanted):
    raise UserError(
      f'{path}: trained on images scaled as {wanted}, but config.model.input is {model.input}; '
      f'set config.model.input={wanted}'
    )


def _prefix_of(names: Collection[str], wanted: Sequence[str]) -> str:
  """The prefix of a network's names in a file: 'module.', 'state_dict.model.'; '' if most of the
  names occur without one.

  If several prefixes have the whole network, the running average wins, as in timm (`use_ema`), then
  the shortest.
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
  """Raises a `UserError` unless the file's names are exactly the expected ones (the values of
  `wanted`).
  """
  known = set(wanted.values())
  extra = [name for name in given if name not in known]
  missing = [
    f'{theirs} (our {ours})' if ours != theirs else ours
    for ours, theirs in wanted.items()
    if theirs not in given
  ]
  if extra or missing:
    parts = [f'unexpected {_listed(extra)}'] if extra else []
    parts += [f'missing {_listed(missing)}'] if missing else []
    raise UserError(f'{path}: does not match this network: {"; ".join(parts)}')


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
      f'{path}: does not match this network: {_listed(wrong)} (config.model and image_shape '
      'say the '
      'latter)'
    )
  if spoilt := [name for name, x in arrays.items() if not np.isfinite(x).all()]:
    raise UserError(
      f'{path}: has NaN or infinity in {_listed(spoilt)}; use another file, the training run that '
      'wrote it diverged'
    )


def _listed(names: Sequence[str]) -> str:
  more = f' and {len(names) - _LISTED} more' if len(names) > _LISTED else ''
  return ', '.join(names[:_LISTED]) + more


# --- Trees ----------------------------------------------------------------------------------------


def _filled(
  tree: dict[Any, Any], arrays: Mapping[str, np.ndarray], prefix: str = ''
) -> dict[Any, Any]:
  """The part of a tree whose paths are in `arrays`, with these as leaves."""
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
  """The path of a head's `kernel` or `bias` if the head is a single linear layer, as in other
  programs.
  """
  heads = sorted({head_of(name) for name in shapes} - {None}, key=str)
  if task not in heads:
    raise UserError(
      f'classifier {task!r}: the network has no such head; it has {", ".join(map(str, heads))}'
    )
  if any(f'/{task}/hidden/' in name for name in shapes):
    raise UserError(
      f'classifier {task!r}: that head has hidden layers (config.model.age_hidden or branch), '
      'unlike the classifiers of other programs'
    )
  return f'heads/{task}/scores/{leaf}'


def _as_foreign(
  arrays: Mapping[str, np.ndarray], model: str, format: str, classifier: str | None
) -> dict[str, np.ndarray]:
  """Arrays by another program's names."""
  naming = NAMINGS.get(model, (None,))[0]
  if naming is None or (format == 'timm' and naming.program != 'timm'):
    have = 'mtface' if naming is None else 'torch or mtface'
    what = 'no program for PyTorch is known to have it' if naming is None else 'timm has no such'
    raise UserError(f'--format={format}: model {model}: {what}; use --format={have}')
  names = {name: naming.name(name) for name in arrays if head_of(name) is None}
  if classifier is not None:
    names |= {_last_layer(arrays, classifier, leaf): name for leaf, name in naming.last().items()}
  return {
    theirs: to_torch(arrays[ours], bool(re.fullmatch(naming.flat, ours)))
    for ours, theirs in names.items()
  }
