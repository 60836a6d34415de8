"""Batches of the same arrays by other loaders, a record at a time: PyTorch's DataLoader, grain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.pixels import SIZES, THREE, TINY_SIZES, Faces, faces
from benchmarks.work import Work, needed


class Records:
  """Faces of several sets one after the other, as a map-style data set: what both loaders take."""

  def __init__(self, sets: list[Faces]):
    self._images = np.concatenate([of.images for of in sets])
    self._labels = np.concatenate([of.labels for of in sets])
    self._tasks = np.concatenate([np.full(len(of.labels), THREE.index(of.task)) for of in sets])

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, i: int) -> dict[str, Any]:
    label, mine = int(self._labels[i]), int(self._tasks[i])
    return {
      'image': self._images[i],
      'labels': {t: label if k == mine else 0 for k, t in enumerate(THREE)},
      'mask': {t: k == mine for k, t in enumerate(THREE)},
    }

  def weights(self) -> np.ndarray:
    """float [N]: with these, each task has as many draws."""
    return 1.0 / np.bincount(self._tasks)[self._tasks]


def records(of: Mapping[str, Any]) -> Records:
  """The sets of the loader's benchmark; options `tiny` and `image`."""
  image = of.get('image', (48, 48, 1))
  return Records(faces(TINY_SIZES if of['tiny'] else SIZES, image))


def _endless(make: Any) -> Iterator[Any]:
  while True:
    yield from make()


def _consuming(batches: Iterator[Any]) -> Work:
  next(batches)

  def run(steps: int) -> None:
    for _ in range(steps):
      next(batches)

  return Work(run)


def torch(of: Mapping[str, Any]) -> Work:
  """PyTorch's DataLoader, with a WeightedRandomSampler that draws each task equally often. Options:
  batch, tiny, workers.
  """
  needed('torch')
  from torch.utils.data import DataLoader, WeightedRandomSampler

  made = records(of)
  sampler = WeightedRandomSampler(made.weights(), len(made))
  workers = of['workers']
  loader = DataLoader(
    made,
    of['batch'],
    sampler=sampler,
    num_workers=workers,
    persistent_workers=workers > 0,
    drop_last=True,
  )
  return _consuming(_endless(lambda: iter(loader)))


def grain(of: Mapping[str, Any]) -> Work:
  """grain's own way: shuffled, a record at a time, batched, in as many threads as it takes by
  itself. Options: batch, tiny.
  """
  module = needed('grain', 'pip install grain')
  data = module.MapDataset.source(records(of)).seed(0).shuffle().repeat()
  return _consuming(iter(data.batch(of['batch'], drop_remainder=True).to_iter_dataset()))
