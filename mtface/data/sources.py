"""Sources: parts of prepared sets, with their labels in memory and their images where
`mtface/data/store.py` has them.

A source is named by one line of text, as in `genki4k/gray48:train[fold!=0/4]`: see
mtface/data/names.py.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtface.data.folds import draw, draw_each, stratified_folds
from mtface.data.index import ATTRIBUTE, Index, groups, load_index
from mtface.data.names import Draw, Each, Fold, Range, SourceName, Uncopied
from mtface.data.prepared import check_words
from mtface.data.store import Images
from mtface.errors import UserError
from mtface.files import local_path
from mtface.tasks import get_task

FOLD_SEED = 0  # folds belong to the set, not to the run: every experiment sees the same ones
_MOST_STRATUM_CLASSES = 16  # ages in years would make a stratum of nearly every sample


@dataclasses.dataclass(frozen=True)
class Source:
  """Faces, with the labels that this source gives.

  Attributes:
    name: the source's name, see the module's docstring.
    images: uint8 [M, H, W, C], every face of the split: an array, or `store.Images`, of which rows
      can be asked for in the same way.
    rows: int [N], which of them belong to this source (a fold is a selection, not a copy).
    image_ids: text [N].
    labels: task name -> int32 [N], or [N, C] for a multi-label task; or float32 [N, C], shares of
      annotators' votes (mtface/data/votes.py).
    mask: bool [N], or [N, C] for a multi-label task; False where the label is unknown (the label's
      value then means nothing).
    attributes: what else the set says, by name: [N, ...] of the builder's type, text as str; empty
      if it says nothing else.
    subjects: text [N], who it is; '' where that is not known.
    fingerprint: of the split that it is a part of, see `mtface/data/index.py`; '' of one that was
      made in memory.
    shares: {task: float16 [N, C]}, what teachers say (`mtface/training/teachers.py`).
    taught: {task: bool [N]}, of which samples that is to be learnt.
  """

  name: str
  images: Any
  rows: np.ndarray
  image_ids: np.ndarray
  labels: dict[str, np.ndarray]
  mask: dict[str, np.ndarray]
  attributes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  subjects: np.ndarray = None  # type: ignore[assignment]  # of nobody, unless they are given
  fingerprint: str = ''
  shares: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  taught: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

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
    """bool [N]: whether anything is known of `task`; for a multi-label task, of
    any of its classes.
    """
    mask = self.mask[task]
    return np.any(mask.reshape(len(mask), -1), axis=1)

  def gather(self, indices: np.ndarray) -> np.ndarray:
    """uint8 [len(indices), H, W, C]."""
    return self.images[self.rows[indices]]

  def gather_into(self, images: np.ndarray, places: np.ndarray, indices: np.ndarray) -> None:
    """Writes the images of `indices` to `images[places]`, uint8 [B, H, W, C]."""
    if isinstance(self.images, Images):
      self.images.read_into(images, places, self.rows[indices])
    else:
      images[places] = self.images[self.rows[indices]]

  def take(self, indices: np.ndarray) -> Source:
    """The source of these samples alone; the images are not copied."""
    fields = ('labels', 'mask', 'attributes', 'shares', 'taught')
    taken: dict[str, Any] = {
      field: {key: x[indices] for key, x in getattr(self, field).items()} for field in fields
    }
    taken |= {field: getattr(self, field)[indices] for field in ('rows', 'image_ids', 'subjects')}
    return dataclasses.replace(self, **taken)


def load_source(
  name: str, data_dir: str | os.PathLike, tasks: Sequence[str] | None = None, store: str = 'auto'
) -> Source:
  """Loads one source: its labels. Images are read when they are asked for.

  Args:
    name: e.g. `genki4k/gray48:train[fold!=0/4]`.
    data_dir: where `mtface build` put the prepared sets.
    tasks: which of its label sets to take; None takes all.
    store: where its images are to be while they are used, see `mtface/data/store.py`.

  Raises:
    UserError: the set is not prepared or is damaged, or it has no such split or task.
  """
  parts = SourceName.parse(name)
  index = load_index(parts.set_name, parts.split, local_path(data_dir))
  for task in tasks or ():
    get_task(task)  # a name that is no task's has an error of its own
    if task not in index.tasks:
      raise UserError(f'{name}: has no labels for task {task!r}; it has {", ".join(index.tasks)}')
  check_words(parts.set_name, tasks or (), data_dir)
  try:
    rows = _rows_of(parts, index, local_path(data_dir))
  except UserError as error:
    raise UserError(f'{name}: {error}') from error
  chosen, columns = tuple(tasks) if tasks else index.tasks, index.columns
  return Source(
    name=name,
    images=Images(index, store),
    rows=rows,
    image_ids=_as_text(columns['image_ids'][rows]),
    labels={t: columns[f'labels.{t}'][rows] for t in chosen},
    mask={t: columns[f'mask.{t}'][rows] for t in chosen},
    attributes=_Attributes(columns, rows),
    subjects=_as_text(columns['subjects'][rows]),
    fingerprint=index.fingerprint,
  )


def fingerprint(name: str, data_dir: str | os.PathLike) -> str:
  """16 hex digits of what the split holds that a source is a part of; others where the set was
  built again with another content.

  Raises:
    UserError: as `load_source`.
  """
  parts = SourceName.parse(name)
  return load_index(parts.set_name, parts.split, local_path(data_dir)).fingerprint


class _Attributes(Mapping[str, np.ndarray]):
  """The attributes of some rows, each taken when it is asked for first: few are, of sets that have
  many.
  """

  def __init__(self, columns: Mapping[str, np.ndarray], rows: np.ndarray):
    self._columns = {
      key.removeprefix(ATTRIBUTE): columns[key] for key in columns if key.startswith(ATTRIBUTE)
    }
    self._rows = rows
    self._taken: dict[str, np.ndarray] = {}

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._taken:
      self._taken[name] = _as_text(self._columns[name][self._rows])
    return self._taken[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._columns)

  def __len__(self) -> int:
    return len(self._columns)


def _as_text(values: np.ndarray) -> np.ndarray:
  """Bytes of UTF-8 as text; what is no text stays as it is."""
  return np.char.decode(values, 'utf-8') if values.dtype.kind == 'S' else values


def _rows_of(name: SourceName, index: Index, data_dir: pathlib.Path) -> np.ndarray:
  """int [N]: the faces of a part of the split.

  A draw takes from those that the ranges leave; folds are those of the whole split, so that no
  range moves a face to another.
  """
  part, columns, everyone = name.part, index.columns, np.full(len(index), True)
  within = [
    _is_uncopied(of, name, columns, data_dir) if isinstance(of, Uncopied) else _is_in(of, columns)
    for of in name.limits
  ]
  inside = np.all([everyone, *within], axis=0)
  if isinstance(part, Fold):
    return np.flatnonzero(inside & ((_folds_of(index, part) == part.index) != part.others))
  if isinstance(part, Draw):
    return _drawn(index, part, inside)
  if isinstance(part, Each):
    return _drawn_each(index, part, inside)
  if not inside.any():
    raise UserError('no face is in this range')
  return np.flatnonzero(inside)


def _drawn(index: Index, part: Draw, inside: np.ndarray) -> np.ndarray:
  """int [take]: by default only of faces with all labels of the set, so that every task's runs draw
  the same ones.
  """
  labelled = [_is_labelled(index, task) for task in part.of or index.tasks]
  return draw(
    index.columns['image_ids'],
    index.columns['groups'],
    part.take,
    after=part.after,
    seed=part.seed,
    usable=np.all([inside, *labelled], axis=0),
    at_most=part.at_most,
  )


def _drawn_each(index: Index, part: Each, inside: np.ndarray) -> np.ndarray:
  """int [N]: the faces drawn of every class, or those that are left."""
  columns, usable = index.columns, inside & _is_labelled(index, part.of)
  task = get_task(part.of)
  if task.multi_label:
    raise UserError(f'{part}: {task.name} has several labels per face; name a task that has one')
  drawn, others = draw_each(
    columns['image_ids'],
    columns['groups'],
    columns[f'labels.{part.of}'],
    task.classes,
    part.each,
    seed=part.seed,
    usable=usable,
  )
  if part.others and not len(others):
    raise UserError(f'{part}: no face is left; take fewer')
  return others if part.others else drawn


def _is_labelled(index: Index, task: str) -> np.ndarray:
  """bool [M]: whether anything is known of a task."""
  if task not in index.tasks:
    get_task(task)
    raise UserError(f'has no labels for task {task!r}; it has {", ".join(index.tasks)}')
  return np.any(index.columns[f'mask.{task}'].reshape(len(index), -1), axis=1)


def _is_uncopied(
  of: Uncopied, name: SourceName, columns: Mapping[str, np.ndarray], data_dir: pathlib.Path
) -> np.ndarray:
  """bool [M]: whether none of the other splits has the same stored pixels."""
  if name.split in of.splits:
    raise UserError(f'{of}: names the split itself; name another')
  others = [load_index(name.set_name, split, data_dir).columns['digests'] for split in of.splits]
  return ~np.isin(columns['digests'], np.concatenate(others))


def _is_in(limits: Range, columns: Mapping[str, np.ndarray]) -> np.ndarray:
  """bool [M]: whether a label is known and in the range, or an attribute is."""
  name = limits.of
  for values in (columns.get(f'labels.{name}'), columns.get(f'{ATTRIBUTE}{name}')):
    if values is not None and values.ndim == 1 and values.dtype.kind in 'biuf':
      known = columns.get(f'mask.{name}', True)
      return known & (values >= limits.least) & (values <= limits.most)
  numbers = {
    k.partition('.')[2]
    for k, v in columns.items()
    if v.ndim == 1 and v.dtype.kind in 'biuf' and '.' in k
  }
  raise UserError(
    f'has no label or attribute {name!r} that is one number; it has {", ".join(sorted(numbers))}'
  )


def _folds_of(index: Index, part: Fold) -> np.ndarray:
  """int [M]: the fold of every face. All labels of the set make the strata, so that every task sees
  the same folds.

  Folds by image are strata of who it is as well: everybody is in each of them, as far as their
  images go.
  """
  strata_columns, columns = [], index.columns
  for task in index.tasks:
    labels, kind = columns[f'labels.{task}'], get_task(task)
    few = kind.num_classes <= _MOST_STRATUM_CLASSES or (part.by_image and kind.kind == 'identity')
    if labels.ndim == 1 and few:
      strata_columns.append(np.where(columns[f'mask.{task}'], labels, -1))
  strata = np.zeros(len(index), np.int64)
  if strata_columns:
    strata = np.unique(np.stack(strata_columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
  together = groups(columns['digests']) if part.by_image else columns['groups']
  return stratified_folds(columns['image_ids'], strata, part.of, seed=FOLD_SEED, groups=together)
