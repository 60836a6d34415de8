"""Folds and random draws that depend on image ids, not on the order in which a build wrote them."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtface import errors


def stratified_folds(
  image_ids: Sequence[Any] | np.ndarray,
  strata: Sequence[Any] | np.ndarray,
  k: int,
  *,
  seed: int = 0,
  groups: Sequence[Any] | np.ndarray | None = None,
) -> np.ndarray:
  """Assigns N images to k folds of equal size and equal mixture of strata.

  The fold of an image depends only on the set of (id, stratum, group), k and seed, not on the order
  of the rows or the machine. Within a stratum, images are ordered by a hash of seed and id and cut
  into k runs, so adding or removing an image in a rebuilt set moves only the few images at the ends
  of the runs.

  Args:
    image_ids: [N] text (or bytes, as returned by TFDS) or numbers, each unique.
    strata: [N] or [N, M], what to spread evenly, usually the label, or M labels taken together;
      give unlabelled images a value of their own.
    k: number of folds, 2 to N.
    seed: different seeds give different folds.
    groups: [N], images of one group (a subject, or copies of one image) share a fold; an image
      whose group is '' or None has no group.

  Returns: int32 [N], each image's fold, 0..k-1. Without groups fold sizes differ by at most 1, in
    total and in every stratum. With groups, those of several images are placed first, largest
    first, each in the fold that it unbalances least; single images then even out the rest.

  Raises:
    UserError: k is out of range, an id is not unique, or there are fewer groups than folds.
  """
  ids = [_text(image_id) for image_id in image_ids]
  members = ids if groups is None else [_text(group) for group in groups]
  if not len(ids) == len(strata) == len(members):
    raise ValueError(
      f'{len(ids)} image_ids, {len(strata)} strata and {len(members)} groups; expected equal '
      'numbers'
    )
  _check(ids, k)
  stratum = _stratum_indices(np.asarray(strata))
  sizes = np.bincount(stratum)
  filled = np.zeros((k, len(sizes)), np.int64)  # number of images in each fold and stratum so far
  folds = np.full(len(ids), -1, np.int32)
  if groups is not None:
    _place_groups(folds, filled, stratum, sizes, _group_rows(ids, members, k, seed))
  _deal_singles(folds, filled, stratum, _hashes(ids, seed))
  return folds


def draw(
  image_ids: Sequence[Any] | np.ndarray,
  groups: Sequence[Any] | np.ndarray,
  take: int,
  *,
  after: int = 0,
  seed: int = 0,
  usable: np.ndarray | None = None,
  at_most: bool = False,
) -> np.ndarray:
  """Draws `take` of N images, always the same ones wherever the set was built.

  Groups are put in a random order, by a hash of seed and name; within a group, images are ordered
  by id. The draw is the first `take` images in that order, or with `after`, the `take` images
  starting from the first group that the draw of `after` does not touch, so that a training draw of
  `after` images and its test draw share no group.

  Args:
    image_ids: [N], unique.
    groups: [N], images of one group (a subject, copies of one image) never end up in both draws; ''
      or None means no group.
    take: number of images.
    after: size of the draw to stay clear of.
    seed: different seeds give different orders.
    usable: bool [N], which images may be drawn; None: all.
    at_most: draw all images if there are fewer than `take`.

  Returns:
    int [take], the rows in ascending order.

  Raises:
    UserError: there are fewer images, or with `at_most` none at all.
  """
  rows, unit, order = _in_hash_order(image_ids, groups, seed, usable)
  start = after
  while 0 < start < len(order) and unit[order[start]] == unit[order[start - 1]]:
    start += 1
  if at_most:
    take = max(1, min(take, len(order) - start))
  if start + take > len(order):
    raise errors.UserError(
      f'{take} images{f" after {start}" if after else ""} requested, but only {len(order)} '
      'available; take fewer'
    )
  return np.sort(rows[order[start : start + take]])


def draw_each(
  image_ids: Sequence[Any] | np.ndarray,
  groups: Sequence[Any] | np.ndarray,
  labels: np.ndarray,
  classes: Sequence[str],
  each: int,
  *,
  seed: int = 0,
  usable: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws `each` of N images of every class, always the same ones wherever the set was built.

  The order is that of `draw`; of every class the first `each` images are taken.

  Args:
    image_ids: [N], unique.
    groups: [N], see `draw`.
    labels: int [N], the class of every image; of those that are not usable anything.
    classes: [C] names, for errors.
    each: number of images a class.
    seed: different seeds give different orders.
    usable: bool [N], which images have a label and may be drawn; None: all.

  Returns:
    Two arrays of rows in ascending order: int [each * C], the images drawn, and all usable images
    that share no group with one of them, so that both together may be fewer than all.

  Raises:
    UserError: a class has fewer than `each` images.
  """
  rows, unit, order = _in_hash_order(image_ids, groups, seed, usable)
  ordered = np.asarray(labels)[rows[order]]
  places = [np.flatnonzero(ordered == i) for i in range(len(classes))]
  for name, of_class in zip(classes, places, strict=True):
    if len(of_class) < each:
      raise errors.UserError(
        f'{each} images of every class requested, but only {len(of_class)} of {name!r} available; '
        'take fewer'
      )
  drawn = order[np.concatenate([of_class[:each] for of_class in places])]
  return np.sort(rows[drawn]), rows[~np.isin(unit, unit[drawn])]


def _in_hash_order(
  image_ids: Sequence[Any] | np.ndarray,
  groups: Sequence[Any] | np.ndarray,
  seed: int,
  usable: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The M usable rows, int [M] in ascending order; the group of each, int [M]; and their order for
  a draw, a permutation of M: groups by a hash of seed and name, within a group by id.
  """
  ids = [_text(image_id) for image_id in image_ids]
  rows = np.arange(len(ids)) if usable is None else np.flatnonzero(usable)
  members = [_text(group) for group in groups]
  units = np.array([members[row] or f'alone {ids[row]}' for row in rows])
  names, unit = np.unique(units, return_inverse=True)
  hashes = _hashes([f'draw:{name}' for name in names.tolist()], seed)
  by_id = np.argsort(np.array([ids[row] for row in rows]), kind='stable')
  return rows, unit, by_id[np.lexsort((hashes[unit[by_id], 1], hashes[unit[by_id], 0]))]


def _text(value: Any) -> str:
  if value is None:
    return ''
  return value.decode() if isinstance(value, bytes) else str(value)


def _stratum_indices(strata: np.ndarray) -> np.ndarray:
  """int [N]: each row's index in the sorted list of distinct strata."""
  _, indices = np.unique(strata, return_inverse=True, axis=0 if strata.ndim > 1 else None)
  return indices.reshape(-1)


def _check(ids: list[str], k: int) -> None:
  if k < 2:
    raise errors.UserError(f'folds={k}: expected at least 2')
  if k > len(ids):
    raise errors.UserError(
      f'folds={k}: there are only {len(ids)} images; use at most one fold per image'
    )
  if len(set(ids)) < len(ids):
    repeated, _ = collections.Counter(ids).most_common(1)[0]
    raise errors.UserError(
      f"image_id '{repeated}' occurs more than once; expected unique ids; rebuild the set"
    )


def _hashes(texts: list[str], seed: int) -> np.ndarray:
  """uint64 [N, 2]; 128 bits, so that two ids never tie. Python's own hash differs between
  processes.
  """
  start = hashlib.blake2b(f'{seed}:'.encode(), digest_size=16)

  def digest(text: str) -> bytes:
    state = start.copy()
    state.update(text.encode())
    return state.digest()

  return np.frombuffer(b''.join(map(digest, texts)), '>u8').reshape(-1, 2)


def _group_rows(ids: list[str], members: list[str], k: int, seed: int) -> list[np.ndarray]:
  """The rows of each group of several images, largest first, then by hash."""
  is_grouped = np.array([bool(group) for group in members])
  names, group, counts = np.unique(
    np.array(members)[is_grouped], return_inverse=True, return_counts=True
  )
  num_units = len(names) + int(np.sum(~is_grouped))
  if num_units < k:
    raise errors.UserError(
      f'folds={k}: the {len(ids)} images form only {num_units} groups; use fewer folds'
    )
  rows = np.flatnonzero(is_grouped)[np.argsort(group, kind='stable')]
  rows_of = np.split(rows, np.cumsum(counts)[:-1])
  hashes = _hashes([f'group:{name}' for name in names], seed)
  order = np.lexsort((hashes[:, 1], hashes[:, 0], -counts))
  return [rows_of[i] for i in order if counts[i] > 1]


def _place_groups(
  folds: np.ndarray,
  filled: np.ndarray,
  stratum: np.ndarray,
  sizes: np.ndarray,
  group_rows: list[np.ndarray],
) -> None:
  """Writes into `folds` and `filled` the fold of each group of several images.

  Imbalance is the sum over folds and strata of filled^2 / stratum size, plus the same for whole
  folds: both are smallest when all are equal. `cost` is what one more group adds, up to a term that
  is the same for all folds.
  """
  totals = filled.sum(axis=1)
  num_images = len(stratum)
  for rows in group_rows:
    present, counts = np.unique(stratum[rows], return_counts=True)
    cost = filled[:, present] @ (counts / sizes[present]) + totals * (len(rows) / num_images)
    fold = int(np.argmin(cost))
    folds[rows] = fold
    filled[fold, present] += counts
    totals[fold] += len(rows)


def _deal_singles(
  folds: np.ndarray, filled: np.ndarray, stratum: np.ndarray, hashes: np.ndarray
) -> None:
  """Writes into `folds` the fold of each image that has none yet, stratum by stratum, in hash
  order.
  """
  rows = np.flatnonzero(folds < 0)
  rows = rows[np.lexsort((hashes[rows, 1], hashes[rows, 0], stratum[rows]))]
  bounds = np.searchsorted(stratum[rows], np.arange(filled.shape[1] + 1))
  totals = filled.sum(axis=1)
  for s in range(filled.shape[1]):
    run = rows[bounds[s] : bounds[s + 1]]
    shares = _level(filled[:, s], totals, len(run))
    folds[run] = np.repeat(np.arange(len(totals), dtype=np.int32), shares)
    totals += shares


def _level(filled: np.ndarray, totals: np.ndarray, amount: int) -> np.ndarray:
  """How many of `amount` images each fold gets so that `filled + result` is as level as possible,
  like water.

  Images that do not fill a whole layer go to the folds with the fewest images in total.
  """
  shares = np.zeros_like(filled)
  if amount == 0:
    return shares
  lowest_first = np.sort(filled)
  # The first j folds can be raised to the level of fold j with this many images.
  needed = np.arange(len(filled)) * lowest_first - np.concatenate(
    [[0], np.cumsum(lowest_first)[:-1]]
  )
  j = int(np.searchsorted(needed, amount, side='right'))  # number of folds under water
  level, rest = divmod(int(amount - needed[j - 1]), j)
  level += int(lowest_first[j - 1])
  shares = np.maximum(level - filled, 0)
  candidates = np.flatnonzero(filled <= level)
  shares[candidates[np.lexsort((candidates, totals[candidates] + shares[candidates]))[:rest]]] += 1
  return shares
