"""`mtface evaluate`: which checkpoints, on which sets, and what came out.

A selection of checkpoints is one word:

    last, best     one checkpoint
    1200           the checkpoint of that step
    average:K      one network: the mean of the weights of the last K. Batch-norm statistics are re-estimated on training batches, since
                   those of the single networks do not fit the mean of their weights (Izmailov et al. 2018, section 3.2)
    ensemble:K     K networks: the mean of their probabilities; K times the work (Sang 2017, section 4.2, has an ensemble of "different
                   checkpoints", and nothing on how they are put together). A task that is trained with the squared hinge has no
                   probabilities: there it is the mean of the scores, whose unit is the margin of 1
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mtface import losses, metrics, process
from mtface.checkpoints import Checkpoints, average
from mtface.config import check_shareable, tasks_of
from mtface.data.augment import augment, scale_images
from mtface.data.loader import BatchSource, load_batches, to_devices
from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.files import local_path
from mtface.models.layers import MOMENTUM
from mtface.models.network import Params, Stats, abstract_network, matches, path_name
from mtface.predictions import write_predictions
from mtface.progress import progress
from mtface.results import Row, read_results, write_results
from mtface.run import Run, prepare, still_parts
from mtface.run_config import read_config
from mtface.scoring import (
  FeatureExtractor,
  Meter,
  Networks,
  Scorer,
  Scores,
  add_views,
  comparable,
  concatenated,
  with_views,
)
from mtface.sharding import everywhere, make_mesh, state_shardings
from mtface.stages import MAIN, stage_folder, stage_of

_RE_ESTIMATION_SAMPLES = 20_000


@dataclasses.dataclass(frozen=True)
class Selection:
  """A parsed `--checkpoint`: see the module's docstring."""

  kind: str
  count: int = 1

  @classmethod
  def parse(cls, text: str) -> Selection:
    """Reads last, best, STEP, average:K or ensemble:K; anything else is a `UserError`."""
    if text in ('last', 'best'):
      return cls(text)
    if text.isdigit():
      return cls('step', int(text))
    found = re.fullmatch(r'(average|ensemble):(\d+)', text)
    if found and int(found[2]) > 0:
      return cls(found[1], int(found[2]))
    raise UserError(f'--checkpoint={text}: expected last, best, a step, average:K or ensemble:K')

  def steps(self, checkpoints: Checkpoints) -> list[int]:
    """The steps of the checkpoints that are meant."""
    have = checkpoints.steps
    if not have:
      raise UserError(f'{checkpoints.folder}: holds no checkpoint yet; train first')
    if self.kind == 'best':
      return [checkpoints.best_step()]
    if self.kind == 'step':
      if self.count not in have:
        raise UserError(
          f'{checkpoints.folder}: has no checkpoint of step {self.count}; there are {", ".join(map(str, have))}'
        )
      return [self.count]
    if self.count > len(have):
      raise UserError(
        f'{checkpoints.folder}: holds {len(have)} checkpoints, {self.kind}:{self.count} needs {self.count}'
      )
    return have[-self.count :]


class Evaluator:
  """A trained run, ready to be measured: sources and networks are loaded once for any number of selections and sets."""

  def __init__(self, workdir: str | os.PathLike, data_dir: str | os.PathLike, stage: str = ''):
    """Opens a stage of the run in `workdir`; '' is the last one."""
    self.workdir, self.data_dir = local_path(workdir), data_dir
    self.stage, self.config = stage_of(read_config(self.workdir), stage)
    # Perhaps on fewer devices than it was trained on.
    self.mesh: Mesh = make_mesh(math.gcd(self.config.mesh.fsdp, jax.device_count()))
    check_shareable(self.config.evaluation.batch_size, self.mesh.size, 'evaluation.batch_size')
    self.heads = tasks_of(self.config)
    self.tasks = with_views(self.heads)  # what its scores say something of
    self.network, *self._shapes = abstract_network(
      self.config.model, list(self.heads.values()), self.config.image_shape, still_parts(self.config)
    )
    self.checkpoints = Checkpoints(self.workdir, self.stage)
    self.scorer = Scorer(self.network, self.mesh, self.config.evaluation.batch_size)
    self.extractor = FeatureExtractor(self.network, self.mesh, self.config.evaluation.batch_size)
    self._sets: dict[str, Source] = {}
    self._margins = [task for task in self.heads if self.config.tasks[task].loss in losses.MARGINS]

  @functools.cached_property
  def run(self) -> Run:
    """The run with its training data, which only a new estimate of batch-norm statistics needs."""
    return prepare(self.config, self.data_dir)

  def source(self, name: str) -> Source:
    """A set by our name in `config.evaluation.sets`, or by a source's name."""
    if name not in self._sets:
      entry = self.config.evaluation.sets.get(name)
      tasks = tuple(entry.tasks) or None if entry else None
      self._sets[name] = load_source(entry.name if entry else name, self.data_dir, tasks, self.config.store)
      if not set(self._sets[name].labels) & set(self.tasks):
        raise UserError(
          f'--on={name}: labels {", ".join(self._sets[name].labels)}, the network predicts {", ".join(self.tasks)}; '
          'name a set with one of these'
        )
    return self._sets[name]

  def networks(self, selection: Selection, *, re_estimate: bool = True) -> Networks:
    """The parameters and statistics of the networks that a selection means: one, or K for an ensemble."""
    found = [self._restore(step) for step in selection.steps(self.checkpoints)]
    if selection.kind != 'average':
      return found
    params, stats = (average(list(trees)) for trees in zip(*found, strict=True))
    if re_estimate:
      stats = self._re_estimated(params, stats)
    return [(params, stats)]

  def stream(self, networks: Networks, source: Source, show: str = '') -> Iterator[tuple[Scores, np.ndarray]]:
    """({task: [b, C]}, rows int [b]), batch by batch: what the networks say on average, see `scoring.comparable`."""
    for of_each, rows in self.scorer.stream(networks, source, show=show):
      total: Scores = {}
      for scores in of_each:
        found = comparable(self.tasks, add_views(scores, self.tasks), self._margins)
        total = {task: total.get(task, 0.0) + values for task, values in found.items()}
      yield {task: values / len(networks) for task, values in total.items()}, rows

  def predictions(self, networks: Networks, source: Source) -> Scores:
    """{task: [N, C]}: the same of all of a source's samples at once, for small sources."""
    return concatenated(scores for scores, _ in self.stream(networks, source))

  def head(self, text: str, selection: Selection, re_estimate: bool = True) -> Row:
    """What a row of results says of a selection: its name, steps, and checksums of these steps' checkpoints."""
    label = text if re_estimate or selection.kind != 'average' else f'{text} (statistics averaged)'
    steps = selection.steps(self.checkpoints)
    head = {'checkpoint': label, 'steps': steps, 'checksums': [self.checkpoints.checksum(step) for step in steps]}
    return head if self.stage == MAIN else head | {'stage': self.stage}

  def _restore(self, step: int) -> tuple[Params, Stats]:
    shardings = state_shardings(self._shapes, self.mesh, self.config.mesh.shard_from)
    like = jax.tree.map(
      lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), self._shapes, shardings
    )
    return self.checkpoints.restore_weights(step, *like)

  def _re_estimated(self, params: Params, stats: Stats) -> Stats:
    """Batch-norm statistics of `params`: the mean of the batch statistics over 20,000 training samples, augmented as in training.

    A batch norm's update is new = m * old + (1 - m) * batch. Started from zeros, and again for each batch, new / (1 - m) is the
    batch's own statistic. One that is frozen keeps its old one.
    """
    config, run = self.config, self.run
    check_shareable(config.batch_size, self.mesh.size, 'batch_size')
    key = jax.random.key(config.seed)

    def for_each(
      function: Callable[[jax.Array, bool], Any], tree: Stats
    ) -> Stats:  # of a statistic, and whether it is frozen
      still = still_parts(config)
      return jax.tree_util.tree_map_with_path(lambda path, x: function(x, matches(still, path_name(path))), tree)

    start = for_each(lambda x, still: x if still else np.zeros_like(x), stats)

    def batch_statistics(params: Params, start: Stats, batch: dict[str, Any]) -> Stats:
      images = scale_images(augment(batch['image'], batch['position'], key, **config.augment))
      _, new = run.network.train_scores(params, start, images, key)
      return for_each(lambda x, still: x if still else x / (1 - MOMENTUM), new)

    compiled = jax.jit(batch_statistics, out_shardings=everywhere(self.mesh))
    steps = max(1, min(_RE_ESTIMATION_SAMPLES, run.mixture.epoch_size) // config.batch_size)
    total: Any = jax.tree.map(np.zeros_like, jax.device_get(stats))
    source = BatchSource(run.sources, run.mixture, config.batch_size, process.index, process.count)
    batches = to_devices(load_batches(source, 0, steps), self.mesh)
    for batch in progress(batches, 're-estimating batch norm', total=steps):
      arrays = {k: batch[k] for k in ('image', 'position')}
      total = jax.tree.map(np.add, total, jax.device_get(compiled(params, start, arrays)))
    return jax.tree.map(lambda x: (x / steps).astype(np.float32), total)


def evaluate(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoints: Sequence[str] = (),
  on: Sequence[str] = (),
  re_estimate: bool = True,
  predictions: bool = False,
  skip_measured: bool = False,
  stage: str = '',
) -> list[Row]:
  """Measures checkpoints on sets, and adds the results to `workdir`/results.json as they come.

  Args:
    workdir: of a run that `mtface train` made.
    data_dir: of the prepared sets.
    checkpoints: selections, see the module's docstring; none: the run's `config.evaluation.checkpoints`.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    re_estimate: whether `average:K` re-estimates batch-norm statistics; if not, they are averaged like the weights.
    predictions: also write what the networks say of each image, see `mtface.predictions`.
    skip_measured: take rows of results.json of the very same checkpoints and faces as they are.
    stage: of the run; '' is the last one.

  Returns:
    One row for each selection, set and task: `checkpoint`, `steps`, `checksums` (of those steps' checkpoints), `set`, `source`, `data` (its
    fingerprint), `task`, `low`, `high` (95% Wilson interval of the accuracy), `seconds`, and all of
    `metrics.summarize`; `stage`, where the run has stages.
  """
  before = read_results(local_path(workdir))  # what is damaged is to show before the work, not after it
  evaluator = Evaluator(workdir, data_dir, stage)
  config = evaluator.config
  selections = {text: Selection.parse(text) for text in checkpoints or config.evaluation.checkpoints}
  names = list(on) or list(config.evaluation.sets)
  if not names:
    raise UserError('--on: the run names no evaluation sets; give some, e.g. --on=genki4k/gray48:train')
  sources = {name: evaluator.source(name) for name in names}
  heads = {text: evaluator.head(text, selection, re_estimate) for text, selection in selections.items()}
  rows = []
  for text, selection in selections.items():
    head = heads[text]
    measured = _measured(before, head, sources) if skip_measured and not predictions else {}
    networks = None  # which are loaded for the first set that needs them
    for name, source in sources.items():
      if name not in measured:
        networks = networks or evaluator.networks(selection, re_estimate=re_estimate)
        about = head | {'set': name, 'source': source.name, 'data': source.fingerprint}
        measured[name] = _measure_set(evaluator, networks, about, predictions)
        write_results(evaluator.workdir, config.name, measured[name])
      rows += measured[name]
  return rows


def _measured(before: Sequence[Row], head: Row, sources: Mapping[str, Source]) -> dict[str, list[Row]]:
  """{set: rows} of what was measured before, of the same checkpoints and on the same faces."""
  found: dict[str, list[Row]] = {}
  for row in before:
    same = all(row.get(key) == value for key, value in head.items()) and None not in head['checksums']
    source = sources.get(row['set'])
    if same and source and (row['source'], row.get('data')) == (source.name, source.fingerprint):
      found.setdefault(row['set'], []).append(row)
  return found


def _measure_set(evaluator: Evaluator, networks: Networks, head: Row, write: bool) -> list[Row]:
  """The rows of one set; with `write`, its predictions too."""
  source = evaluator.source(head['set'])
  start = time.monotonic()
  tops = {name: entry.top for name, entry in evaluator.config.tasks.items()}
  meter = Meter(evaluator.tasks, source, threshold=0.5, tops=tops)

  def measured() -> Iterator[tuple[Scores, np.ndarray]]:
    for scores, rows in evaluator.stream(networks, source, show=f'{head["checkpoint"]} on {head["set"]}'):
      meter.add(scores, rows)
      yield scores, rows

  if write:
    folder = stage_folder(evaluator.workdir, evaluator.stage)
    write_predictions(folder, head['checkpoint'], head['set'], evaluator.tasks, source, measured())
  else:
    collections.deque(measured(), maxlen=0)  # all of it, and nothing is kept
  seconds = round(time.monotonic() - start, 2)
  return [
    head | {'seconds': seconds, 'task': task} | _interval(summary) | summary
    for task, summary in meter.summaries().items()
  ]


def _interval(summary: Mapping[str, Any]) -> dict[str, float]:
  if 'correct' not in summary:  # a multi-label task's accuracy is a mean of shares
    return {}
  low, high = metrics.wilson_interval(summary['correct'], summary['n'])
  return {'low': low, 'high': high}
