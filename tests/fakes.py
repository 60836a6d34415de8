"""Small sources made in memory, for tests that need no prepared set."""

from __future__ import annotations

import numpy as np

from mtface.data.sources import Source
from mtface.tasks import get_task


def fake_source(name: str, size: int, tasks: dict[str, float], *, seed: int = 0, shape=(16, 16, 1)) -> Source:
  """`size` noise images with random labels; `tasks` gives the share of samples that are labelled for each task."""
  rng = np.random.default_rng(seed)
  labels, mask = {}, {}
  for task, share in tasks.items():
    kind = get_task(task)
    labels[task] = rng.integers(0, 2 if kind.multi_label else kind.num_classes, (size, *kind.label_shape)).astype(
      np.int32
    )
    known = np.arange(size) < round(share * size)
    mask[task] = np.broadcast_to(known.reshape(-1, *[1] * len(kind.label_shape)), labels[task].shape).copy()
  images = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
  ids = np.array([f'{name}_{i:05d}' for i in range(size)])
  return Source(name, images, np.arange(size), ids, labels, mask)
