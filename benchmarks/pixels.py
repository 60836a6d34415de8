"""Random pixels and labels in the shapes of real sets: they cost exactly as much, and both sides of
a comparison can make the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Task -> classes, as in mtface.tasks: the papers' three first, then more for what grows with tasks.
TASKS = {
  'smile': 2,
  'emotion7': 7,
  'gender': 2,
  'emotion8': 8,
  'age_group': 6,
  'ethnicity5': 5,
  'age_decades': 9,
  'group_emotion': 3,
}
THREE = ('smile', 'emotion7', 'gender')  # of Sang 2017
# Faces to train on, as in docs/results.md: GENKI-4K and UTKFace without a fold, FER-2013's split.
SIZES = {'genki4k': 3000, 'fer2013': 28709, 'utkface': 17780}
TINY_SIZES = {'genki4k': 30, 'fer2013': 90, 'utkface': 60}


@dataclasses.dataclass(frozen=True)
class Faces:
  """A set in memory that is labelled for one task.

  Attributes:
    name: of the set.
    task: what it is labelled for.
    images: uint8 [N, H, W, C].
    labels: int32 [N].
  """

  name: str
  task: str
  images: np.ndarray
  labels: np.ndarray


def faces(sizes: Mapping[str, int], image: Sequence[int]) -> list[Faces]:
  """Sets of these sizes, labelled for one of the three tasks each, in turn."""
  rng, found = np.random.default_rng(0), []
  for (name, size), task in zip(sizes.items(), itertools.cycle(THREE), strict=False):
    images = rng.integers(0, 256, (size, *image), dtype=np.uint8)
    found.append(Faces(name, task, images, rng.integers(0, TASKS[task], size).astype(np.int32)))
  return found


def batch(size: int, image: Sequence[int], tasks: Sequence[str]) -> dict[str, Any]:
  """A batch as the loader gives it, in which each sample is labelled for one task: image uint8 [B,
  H, W, C], labels int32 and mask bool {task: [B]}, source int32 and position uint32 [B].
  """
  rng = np.random.default_rng(1)
  turn = np.arange(size) % len(tasks)
  return {
    'image': rng.integers(0, 256, (size, *image), dtype=np.uint8),
    'labels': {t: rng.integers(0, TASKS[t], size).astype(np.int32) for t in tasks},
    'mask': {t: turn == i for i, t in enumerate(tasks)},
    'source': turn.astype(np.int32),
    'position': np.arange(size).astype(np.uint32),
  }


def write_sets(data_dir: pathlib.Path, sizes: Mapping[str, int], test: int) -> None:
  """Writes the sets as `mtface build` would: GENKI-4K, FER-2013 and UTKFace, gray48, so large that
  three of four folds are `sizes`; of FER-2013 the tests too, of so many faces. And `peer.npz` with
  the same pixels: {SET/images, SET/labels} for training, and `test/...`.
  """
  from benchmarks.thinned import write

  image, rng, arrays = (48, 48, 1), np.random.default_rng(0), {}
  for name, task in zip(sizes, THREE, strict=True):
    whole = sizes[name] if name == 'fer2013' else sizes[name] * 4 // 3
    splits = {'train': whole}
    if name == 'fer2013':
      splits |= {'public_test': test, 'private_test': test}
    pixels = {s: rng.integers(0, 256, (n, *image), dtype=np.uint8) for s, n in splits.items()}
    write(f'{name}/gray48', splits, data_dir, pixels)
    arrays[f'{name}/images'] = pixels['train'][: sizes[name]]
    arrays[f'{name}/labels'] = np.arange(sizes[name]) % TASKS[task]
    if name == 'fer2013':
      arrays['test/images'] = pixels['private_test']
      arrays['test/labels'] = np.arange(test) % TASKS[task]
  np.savez(data_dir / 'peer.npz', **arrays)
