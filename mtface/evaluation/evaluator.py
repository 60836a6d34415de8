"""A trained run, ready to be measured: its networks by selection, and what they say of sets."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from mtface.config.saved import read_config
from mtface.config.schema import check_shareable, outputs_of
from mtface.config.stages import MAIN, stage_of
from mtface.data.inputs import check_images
from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.evaluation.results import Row
from mtface.evaluation.statistics import re_estimated
from mtface.files import local_path
from mtface.inference.readout import comparable, concatenated
from mtface.inference.runner import FeatureExtractor, Networks, Scorer
from mtface.models.network import abstract_network
from mtface.models.paths import Params, Stats
from mtface.outputs import Scores
from mtface.parallel.sharding import make_mesh, state_shardings
from mtface.training.checkpoints import Checkpoints, average
from mtface.training.run import Run, prepare, still_parts
from mtface.training.selection import Selection

AVERAGED = ' (statistics averaged)'  # behind a selection whose statistics are not estimated anew


class Evaluator:
  """A trained run, ready to be measured: sources and networks are loaded once for any number of
  selections and sets.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    data_dir: str | os.PathLike,
    stage: str = '',
    *,
    batch_size: int = 0,
  ):
    """Opens a stage of the run in `workdir`; '' is the last one. `batch_size` is that of
    evaluation; 0: the config's.
    """
    self.workdir, self.data_dir = local_path(workdir), data_dir
    self.stage, self.config = stage_of(read_config(self.workdir), stage)
    # Perhaps on fewer devices than it was trained on.
    self.mesh: Mesh = make_mesh(math.gcd(self.config.mesh.fsdp, jax.device_count()))
    batch_size = batch_size or self.config.evaluation.batch_size
    check_shareable(batch_size, self.mesh.size, 'evaluation.batch_size')
    self.outputs = outputs_of(self.config)
    self.tasks = self.outputs.answered  # what its scores say something of
    self.network, *self._shapes = abstract_network(
      self.config.model, self.outputs, self.config.image_shape, still_parts(self.config)
    )
    self.checkpoints = Checkpoints(self.workdir, self.stage)
    self.scorer = Scorer(self.network, self.mesh, batch_size)
    self.extractor = FeatureExtractor(self.network, self.mesh, batch_size)
    self._sets: dict[str, Source] = {}

  @functools.cached_property
  def run(self) -> Run:
    """The run with its training data, which only a new estimate of batch-norm statistics needs."""
    return prepare(self.config, self.data_dir)

  def source(self, name: str, *, labelled: bool = True) -> Source:
    """A set by our name in `config.evaluation.sets`, or by a source's name; with `labelled` it must
    label a task of the network.
    """
    if name not in self._sets:
      entry = self.config.evaluation.sets.get(name)
      tasks = tuple(entry.tasks) or None if entry else None
      self._sets[name] = load_source(
        entry.name if entry else name, self.data_dir, tasks, self.config.store
      )
      if labelled and not set(self._sets[name].labels) & set(self.tasks):
        raise UserError(
          f'--on={name}: labels {", ".join(self._sets[name].labels)}, the network predicts '
          f'{", ".join(self.tasks)}; '
          'name a set with one of these'
        )
      check_images(self._sets[name], self.config.image_shape)
    return self._sets[name]

  def networks(self, selection: Selection, *, re_estimate: bool = True) -> Networks:
    """The parameters and statistics of the networks that a selection means: one, or K for an
    ensemble.
    """
    found = [self._restore(step) for step in selection.steps(self.checkpoints)]
    if selection.kind != 'average':
      return found
    params, stats = (average(list(trees)) for trees in zip(*found, strict=True))
    if re_estimate:
      stats = re_estimated(self.run, self.mesh, params, stats)
    return [(params, stats)]

  def stream(
    self, networks: Networks, source: Source, show: str = '', kind: str = ''
  ) -> Iterator[tuple[Scores, np.ndarray]]:
    """({task: [b, C]}, rows int [b]), batch by batch: what the networks say on average, see
    `readout.comparable`; of a `kind` of views, of all views.
    """
    for of_each, rows in self.scorer.stream(networks, source, show=show, kind=kind):
      yield self._mean(of_each), rows

  def of_images(self, networks: Networks, images: np.ndarray, size: int, kind: str = '') -> Scores:
    """{task: [N, C]}: the same of images, uint8 [N, H, W, C], N at least 1, in batches that are
    filled up to `size`.
    """
    return self._mean(self.scorer.of_images(networks, images, size, kind))

  def _mean(self, of_each: Sequence[Scores]) -> Scores:
    """What networks say on average."""
    total: Scores = {}
    for scores in of_each:
      found = comparable(scores, self.outputs.readout)
      total = {task: total.get(task, 0.0) + values for task, values in found.items()}
    return {task: values / len(of_each) for task, values in total.items()}

  def predictions(self, networks: Networks, source: Source) -> Scores:
    """{task: [N, C]}: the same of all of a source's samples at once, for small sources."""
    return concatenated(scores for scores, _ in self.stream(networks, source))

  def head(self, text: str, selection: Selection, re_estimate: bool = True) -> Row:
    """What a row of results says of a selection: its name, steps, and checksums of these steps'
    checkpoints.
    """
    label = text if re_estimate or selection.kind != 'average' else f'{text}{AVERAGED}'
    steps = selection.steps(self.checkpoints)
    head = {
      'checkpoint': label,
      'steps': steps,
      'checksums': [self.checkpoints.checksum(step) for step in steps],
    }
    return head if self.stage == MAIN else head | {'stage': self.stage}

  def _restore(self, step: int) -> tuple[Params, Stats]:
    shardings = state_shardings(self._shapes, self.mesh, self.config.mesh.shard_from)
    like = jax.tree.map(
      lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
      self._shapes,
      shardings,
    )
    return self.checkpoints.restore_weights(step, *like)
