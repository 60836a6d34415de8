"""Batch-norm statistics of averaged weights, measured anew: those of the single networks do not fit
the mean of their weights (Izmailov et al. 2018, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mtface import process
from mtface.config.schema import check_shareable
from mtface.data.augment import make_augment
from mtface.data.inputs import scale_images
from mtface.data.loader import BatchSource, load_batches
from mtface.models.paths import Params, Stats, matches, path_name
from mtface.models.platforms import spread_over
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere
from mtface.progress import progress
from mtface.training.run import Run, still_parts

SAMPLES = 20_000


def re_estimated(run: Run, mesh: Mesh, params: Params, stats: Stats) -> Stats:
  """Batch-norm statistics of `params`: the mean of the batch statistics over 20,000 training
  samples, augmented as in training.

  A batch norm's update is new = m * old + (1 - m) * batch. Started from zeros, and again for each
  batch, new / (1 - m) is the batch's own statistic; m itself is the difference that starting from
  ones makes. A statistic that is frozen stays as it is in `stats`.
  """
  config = run.config
  check_shareable(config.batch_size, mesh.size, 'batch_size')
  key, augment = jax.random.key(config.seed), make_augment(config.augment)
  still = still_parts(config)

  def chosen(function: Callable[[Any, Any], Any], moving: Stats, frozen: Stats) -> Stats:
    return jax.tree_util.tree_map_with_path(
      lambda path, x, kept: kept if matches(still, path_name(path)) else function(x, kept),
      moving,
      frozen,
    )

  @jax.jit
  def updated(params: Params, start: Stats, images: jax.Array, positions: jax.Array) -> Stats:
    with spread_over(mesh):
      inputs = scale_images(augment(images, positions, key))
      _, new = run.network.train_scores(params, start, inputs, key)
    return jax.lax.with_sharding_constraint(new, everywhere(mesh))

  stats = jax.device_get(stats)
  zeros = chosen(lambda x, _: np.zeros_like(x), stats, stats)
  ones = chosen(lambda x, _: np.ones_like(x), stats, stats)
  steps = max(1, min(SAMPLES, run.mixture.epoch_size) // config.batch_size)
  source = BatchSource(run.sources, run.mixture, config.batch_size, process.index, process.count)
  batches = to_devices(load_batches(source, 0, steps), mesh)
  total: Any = jax.tree.map(np.zeros_like, stats)
  momentum: Any = None
  for batch in progress(batches, 're-estimating batch norm', total=steps):
    arrays = batch['image'], batch['position']
    new = jax.device_get(updated(params, zeros, *arrays))
    if momentum is None:
      from_ones = jax.device_get(updated(params, ones, *arrays))
      # People choose round numbers.
      momentum = jax.tree.map(
        lambda a, b: np.round(np.mean(a - b, dtype=np.float64), 5), from_ones, new
      )
    total = jax.tree.map(np.add, total, new)
  means = jax.tree.map(lambda x, m: (x / steps / (1 - m)).astype(np.float32), total, momentum)
  return chosen(lambda x, _: x, means, stats)
