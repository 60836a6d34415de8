"""Sources: prepared sets as arrays in memory.

A set that `mtface build` has prepared is decoded once. Its pixels stay uint8 in one array that is memory-mapped from a cache beside
the shards, so that a second run (or a second process on this host) starts at once and shares the pages.

A source is named by one line of text, as in `genki4k/gray48:train[fold!=0/4]`: see mtface/data/names.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtface.data.folds import draw, stratified_folds
from mtface.data.names import Draw, Fold, Range, SourceName
from mtface.errors import UserError
from mtface.files import local_path
from mtface.progress import progress, warn
from mtface.tasks import get_task

FOLD_SEED = 0  # folds belong to the set, not to the run: every experiment sees the same ones
_ATTRIBUTE = 'attributes.'  # begins the key of a column of attributes
_MOST_STRATUM_CLASSES = 16  # ages in years would make a stratum of nearly every sample


@dataclasses.dataclass(frozen=True)
class Source:
  """Faces in memory, with the labels that this source gives.

  Attributes:
    name: the source's name, see the module's docstring.
    images: uint8 [M, H, W, C], every face of the split (memory-mapped where the cache could be written).
    rows: int [N], which of them belong to this source (a fold is a selection, not a copy).
    image_ids: text [N].
    labels: task name -> int32 [N], or [N, C] for a multi-label task.
    mask: the same shapes, bool; False where the label is unknown (the label's value then means nothing).
    attributes: what else the set says, by name: [N, ...] of the builder's type, text as str; empty if it says nothing else.
    subjects: text [N], who it is; '' where that is not known.
  """

  name: str
  images: np.ndarray
  rows: np.ndarray
  image_ids: np.ndarray
  labels: dict[str, np.ndarray]
  mask: dict[str, np.ndarray]
  attributes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  subjects: np.ndarray = None  # type: ignore[assignment]  # of nobody, unless they are given

  def __post_init__(self) -> None:
    if self.subjects is None:
      object.__setattr__(self, 'subjects', np.full(len(self.rows), ''))

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C) in pixels."""
    h, w, c = self.images.shape[1:]
    return h, w, c

  def labelled(self, task: str) -> np.ndarray:
    """bool [N]: whether anything is known of `task`; for a multi-label task, of any of its classes."""
    mask = self.mask[task]
    return np.any(mask.reshape(len(mask), -1), axis=1)

  def gather(self, indices: np.ndarray) -> np.ndarray:
    """uint8 [len(indices), H, W, C]."""
    return self.images[self.rows[indices]]

  def take(self, indices: np.ndarray) -> Source:
    """The source of these samples alone; the images are not copied."""
    fields = ('labels', 'mask', 'attributes')
    taken: dict[str, Any] = {field: {key: x[indices] for key, x in getattr(self, field).items()} for field in fields}
    taken |= {field: getattr(self, field)[indices] for field in ('rows', 'image_ids', 'subjects')}
    return dataclasses.replace(self, **taken)


def load_source(name: str, data_dir: str | os.PathLike, tasks: Sequence[str] | None = None) -> Source:
  """Loads one source.

  Args:
    name: e.g. `genki4k/gray48:train[fold!=0/4]`.
    data_dir: where `mtface build` put the prepared sets.
    tasks: which of its label sets to take; None takes all.

  Raises:
    UserError: the set is not prepared or is damaged, or it has no such split or task.
  """
  parts = SourceName.parse(name)
  arrays = _load_split(parts.set_name, parts.split, local_path(data_dir))
  have = sorted(key.removeprefix('labels.') for key in arrays if key.startswith('labels.'))
  for task in tasks or ():
    get_task(task)  # a name that is no task's has an error of its own
    if task not in have:
      raise UserError(f'{name}: has no labels for task {task!r}; it has {", ".join(have)}')
  try:
    rows = _rows_of(parts, arrays, have)
  except UserError as error:
    raise UserError(f'{name}: {error}') from error
  chosen = tuple(tasks) if tasks else have
  return Source(
    name=name,
    images=arrays['images'],
    rows=rows,
    image_ids=arrays['image_ids'][rows],
    labels={t: arrays[f'labels.{t}'][rows] for t in chosen},
    mask={t: arrays[f'mask.{t}'][rows] for t in chosen},
    attributes={key.removeprefix(_ATTRIBUTE): arrays[key][rows] for key in arrays if key.startswith(_ATTRIBUTE)},
    subjects=arrays['subjects'][rows],
  )


def check_shapes(sources: Iterable[Source], image_shape: Sequence[int]) -> None:
  """Raises a `UserError` for a source whose images are not of `image_shape` (H, W, C)."""
  for source in sources:
    if source.image_shape != tuple(image_shape):
      h, w, c = source.image_shape
      raise UserError(
        f'{source.name}: its images are {h}x{w}x{c}, config.image_shape says {"x".join(map(str, image_shape))}; '
        'take the config of the set that fits (gray48, rgb224) or change config.image_shape'
      )


def _rows_of(name: SourceName, arrays: dict[str, np.ndarray], tasks: Sequence[str]) -> np.ndarray:
  """int [N]: the faces of a part of the split, `tasks` being all label sets of the set.

  A draw takes from those that the ranges leave; folds are those of the whole split, so that no range moves a face to another.
  """
  part, everyone = name.part, np.full(len(arrays['images']), True)
  inside = np.all([everyone, *(_is_in(limits, arrays) for limits in name.ranges)], axis=0)
  if isinstance(part, Fold):
    return np.flatnonzero(inside & ((_folds_of(arrays, tasks, part) == part.index) != part.others))
  if isinstance(part, Draw):
    # Only faces with all labels of the set, so that every task's runs draw the same ones.
    labelled = [arrays[f'mask.{t}'].reshape(len(everyone), -1).any(axis=1) for t in tasks]
    usable = np.all([inside, *labelled], axis=0)
    return draw(arrays['image_ids'], arrays['groups'], part.take, after=part.after, seed=part.seed, usable=usable)
  if not inside.any():
    raise UserError('no face is in this range')
  return np.flatnonzero(inside)


def _is_in(limits: Range, arrays: dict[str, np.ndarray]) -> np.ndarray:
  """bool [M]: whether a label is known and in the range, or an attribute is."""
  name = limits.of
  for values in (arrays.get(f'labels.{name}'), arrays.get(f'{_ATTRIBUTE}{name}')):
    if values is not None and values.ndim == 1 and values.dtype.kind in 'biuf':
      known = arrays.get(f'mask.{name}', True)
      return known & (values >= limits.least) & (values <= limits.most)
  numbers = {k.partition('.')[2] for k, v in arrays.items() if v.ndim == 1 and v.dtype.kind in 'biuf' and '.' in k}
  raise UserError(f'has no label or attribute {name!r} that is one number; it has {", ".join(sorted(numbers))}')


def _folds_of(arrays: dict[str, np.ndarray], tasks: Sequence[str], part: Fold) -> np.ndarray:
  """int [M]: the fold of every face. All labels of the set make the strata, so that every task sees the same folds.

  Folds by image are strata of who it is as well: everybody is in each of them, as far as their images go.
  """
  columns = []
  for task in tasks:
    labels, kind = arrays[f'labels.{task}'], get_task(task)
    few = kind.num_classes <= _MOST_STRATUM_CLASSES or (part.by_image and kind.kind == 'identity')
    if labels.ndim == 1 and few:
      columns.append(np.where(arrays[f'mask.{task}'], labels, -1))
  strata = np.zeros(len(arrays['images']), np.int64)
  if columns:
    strata = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
  groups = _groups(arrays['images'], [''] * len(strata)) if part.by_image else arrays['groups']
  return stratified_folds(arrays['image_ids'], strata, part.of, seed=FOLD_SEED, groups=groups)


# --- Decoding and the cache ---------------------------------------------------------------------------------------------------------

_CACHE_FORMAT = 3


def prepared_dir(set_name: str, data_dir: pathlib.Path) -> pathlib.Path:
  """The newest version's folder of a prepared set; `UserError`, which says how to build it, if there is none."""
  if '/' not in set_name:
    raise UserError(f'source {set_name!r}: name the prepared config too, as in {set_name}/gray48')
  folder = local_path(data_dir) / set_name
  versions = sorted(
    (p for p in folder.glob('*') if re.fullmatch(r'\d+\.\d+\.\d+', p.name) and (p / 'dataset_info.json').exists()),
    key=lambda p: tuple(map(int, p.name.split('.'))),
  )
  if not versions:
    raise UserError(
      f'{folder}: no prepared set is here; build it with `mtface build {set_name} --data_dir={data_dir}` '
      '(real sets also need --manual_dir), or pass the --data_dir that holds it'
    )
  return versions[-1]


def _load_split(set_name: str, split: str, data_dir: pathlib.Path) -> dict[str, np.ndarray]:
  """All arrays of a split, from the cache if it is whole, otherwise decoded (and cached, where the folder can be written)."""
  folder = prepared_dir(set_name, data_dir)
  cache = folder / 'arrays' / split
  arrays = _read_cache(cache)
  if arrays is None:
    arrays = _decode(folder, set_name, split)
    if _write_cache(cache, arrays):
      arrays = _read_cache(cache) or arrays
  return arrays


def _decode(folder: pathlib.Path, set_name: str, split: str) -> dict[str, np.ndarray]:
  import tensorflow_datasets as tfds  # a second of imports that a cached run does not need

  try:
    builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
      raise UserError(f'{set_name}: has no split {split!r}; it has {", ".join(sorted(builder.info.splits))}')
    records = builder.as_data_source(split)
    columns = _columns(records, builder.info.splits[split].num_examples, f'{set_name}:{split}', _task_names(builder))
  except UserError:
    raise
  except Exception as error:  # array_record and TFDS raise many types for a damaged file
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise UserError(
      f'{folder}: the prepared set cannot be read ({first_line}); build it again with `mtface build {set_name} --overwrite`'
    ) from error
  order = np.argsort(columns['image_ids'], kind='stable')  # the order of the shards would depend on their number
  return {key: np.ascontiguousarray(column[order]) for key, column in columns.items()}


def _task_names(builder: Any) -> dict[str, str]:
  """The task of each label set: its own name, but identities say among how many people, as in `identity:158`."""
  labels = builder.info.features['labels']
  return {name: f'{name}:{labels[name].num_classes}' if name == 'identity' else name for name in labels}


def _columns(
  records: Sequence[dict[str, Any]], count: int, what: str, task_names: Mapping[str, str]
) -> dict[str, np.ndarray]:
  """Decodes the records into preallocated columns."""
  columns: dict[str, np.ndarray] = {}
  ids, subjects = [], []
  attributes: dict[str, list[Any]] = {}
  for i, record in enumerate(progress(records, f'decoding {what}', total=count)):
    flat = {'images': record['image']}
    flat |= {f'labels.{task_names[t]}': v for t, v in record['labels'].items()}
    flat |= {f'mask.{task_names[t]}': v for t, v in record['mask'].items()}
    for key, value in flat.items():
      if key not in columns:
        columns[key] = np.zeros((count, *np.shape(value)), _dtype(key))
      columns[key][i] = value
    ids.append(record['image_id'].decode())
    subjects.append(record['subject'].decode() if 'subject' in record else '')
    for key, value in record.get('attributes', {}).items():
      attributes.setdefault(key, []).append(value.decode() if isinstance(value, bytes) else value)
  if len(ids) != count or not count:
    raise UserError(f'{what}: {len(ids)} records were read where {count} were promised; build the set again')
  columns['image_ids'] = np.array(ids)
  columns['subjects'] = np.array(subjects)
  columns |= {f'{_ATTRIBUTE}{key}': np.array(values) for key, values in attributes.items()}
  columns['groups'] = _groups(columns['images'], attributes.get('clip', subjects))
  for task in [key.removeprefix('labels.') for key in columns if key.startswith('labels.')]:
    _check_labels(task, columns, what)
  return columns


def _dtype(key: str) -> type:
  return np.uint8 if key == 'images' else bool if key.startswith('mask.') else np.int32


def _groups(images: np.ndarray, subjects: Sequence[str]) -> np.ndarray:
  """text [M]: what must not be parted by folds: a subject's images (or a clip's), and copies of one image."""
  import hashlib

  hashes = [hashlib.blake2b(image.tobytes(), digest_size=12).hexdigest() for image in images]
  return np.array([subject or f'image {digest}' for subject, digest in zip(subjects, hashes, strict=True)])


def _check_labels(name: str, columns: dict[str, np.ndarray], what: str) -> None:
  labels, mask, task = columns[f'labels.{name}'], columns[f'mask.{name}'], get_task(name)
  top = 2 if task.multi_label else task.num_classes
  bad = np.argwhere(mask & ((labels < 0) | (labels >= top)))
  if len(bad):
    where = columns['image_ids'][bad[0][0]]
    raise UserError(
      f'{what}: label {labels[tuple(bad[0])]} of {where} is out of range for task {task.name} (0 to {top - 1})'
    )


def _read_cache(cache: pathlib.Path) -> dict[str, np.ndarray] | None:
  """The cached arrays, memory-mapped, or None where they are absent or damaged."""
  try:
    index = json.loads((cache / 'index.json').read_text())
    if index['format'] != _CACHE_FORMAT:
      return None
    for name, size in index['bytes'].items():
      if (cache / name).stat().st_size != size:
        raise ValueError(f'{name} has a wrong size')
    arrays = {name.removesuffix('.npy'): np.load(cache / name, mmap_mode='r') for name in index['bytes']}
    return {key: (value if key == 'images' else np.array(value)) for key, value in arrays.items()}
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
    warn(f'{cache}: the cache is damaged ({error}) and is made again')
    return None


def _write_cache(cache: pathlib.Path, arrays: dict[str, np.ndarray]) -> bool:
  """Writes the arrays under a temporary name and renames, so that a killed process leaves no half cache."""
  temporary = None
  try:
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f'.{cache.name}.', dir=cache.parent))
    for key, value in arrays.items():
      np.save(temporary / f'{key}.npy', value)
    sizes = {p.name: p.stat().st_size for p in temporary.glob('*.npy')}
    (temporary / 'index.json').write_text(json.dumps({'format': _CACHE_FORMAT, 'bytes': sizes}))
    shutil.rmtree(cache, ignore_errors=True)
    temporary.rename(cache)
    return True
  except OSError as error:  # a read-only data_dir or a full disk: go on without a cache
    warn(f'{cache}: no cache could be written ({error}); the set is decoded at every start')
    if temporary is not None:
      shutil.rmtree(temporary, ignore_errors=True)
    return False
