"""`mtface evaluate`: which checkpoints, on which sets, and what came out.

A selection of checkpoints is one word:

    last, best     one checkpoint
    1200           the checkpoint of that step
    average:K      one network: the mean of the weights of the last K. Batch-norm statistics are re-estimated on training batches, since
                   those of the single networks do not fit the mean of their weights (Izmailov et al. 2018, section 3.2)
    ensemble:K     K networks: the mean of their probabilities (Sang 2017, section 4.2); K times the work
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from mtface import metrics
from mtface.checkpoints import Checkpoints, average, read_config
from mtface.config import check_shareable
from mtface.data.augment import augment, scale_images
from mtface.data.loader import BatchSource, load_batches
from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.models.layers import MOMENTUM
from mtface.models.network import Params, Stats
from mtface.optim import make_optimizer
from mtface.progress import progress
from mtface.scoring import Scorer, Scores, data_mesh, measure, probabilities
from mtface.step import new_state
from mtface.train import Run, prepare

RESULTS_FILE = 'results.json'
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

  def __init__(self, workdir: str | os.PathLike, data_dir: str | os.PathLike):
    self.workdir, self.data_dir = pathlib.Path(workdir).expanduser(), data_dir
    self.config = read_config(self.workdir)
    self.mesh: Mesh = data_mesh()
    check_shareable(self.config.evaluation.batch_size, self.mesh.size, 'evaluation.batch_size')
    self.run: Run = prepare(self.config, data_dir)
    self.checkpoints = Checkpoints(self.workdir)
    self.scorer = Scorer(self.run.network, self.run.tasks, self.mesh, self.config.evaluation.batch_size)
    self._sets: dict[str, Source] = {}

  def source(self, name: str) -> Source:
    """A set by our name in `config.evaluation.sets`, or by a source's name."""
    if name not in self._sets:
      entry = self.config.evaluation.sets.get(name)
      tasks = tuple(entry.tasks) or None if entry else None
      self._sets[name] = load_source(entry.name if entry else name, self.data_dir, tasks)
      if not set(self._sets[name].labels) & set(self.run.tasks):
        raise UserError(
          f'--on={name}: labels {", ".join(self._sets[name].labels)}, the network predicts {", ".join(self.run.tasks)}; '
          'name a set with one of these'
        )
    return self._sets[name]

  def networks(self, selection: Selection, *, re_estimate: bool = True) -> list[tuple[Params, Stats]]:
    """The parameters and statistics of the networks that a selection means: one, or K for an ensemble."""
    states = [self._restore(step) for step in selection.steps(self.checkpoints)]
    if selection.kind != 'average':
      return [(state.params, state.stats) for state in states]
    params, stats = average([s.params for s in states]), average([s.stats for s in states])
    if re_estimate:
      stats = self._re_estimated(params, stats)
    return [(params, stats)]

  def probabilities(self, networks: Sequence[tuple[Params, Stats]], source: Source, show: str = '') -> Scores:
    """{task: [N, C]}: the networks' mean probabilities."""
    total: Scores = {}
    for params, stats in networks:
      found = probabilities(self.run.tasks, self.scorer.scores(params, stats, source, show=show))
      total = {task: total.get(task, 0.0) + values for task, values in found.items()}
    return {task: values / len(networks) for task, values in total.items()}

  def _restore(self, step: int) -> Any:
    run = self.run
    like = new_state(run.params, run.stats, make_optimizer(self.config.optimizer, run.steps))
    everywhere = NamedSharding(self.mesh, P())
    return self.checkpoints.restore(step, jax.device_put(like, everywhere))

  def _re_estimated(self, params: Params, stats: Stats) -> Stats:
    """Batch-norm statistics of `params`: the mean of the batch statistics over 20,000 training samples, augmented as in training.

    A batch norm's update is new = m * old + (1 - m) * batch. Started from zeros, and again for each batch, new / (1 - m) is the
    batch's own statistic.
    """
    config, run = self.config, self.run
    check_shareable(config.batch_size, self.mesh.size, 'batch_size')
    key = jax.random.key(config.seed)
    sharded, everywhere = NamedSharding(self.mesh, P('data')), NamedSharding(self.mesh, P())
    zeros = jax.tree.map(jnp.zeros_like, stats)

    def batch_statistics(params: Params, batch: dict[str, Any]) -> Stats:
      images = scale_images(augment(batch['image'], batch['position'], key, **config.augment))
      _, new = run.network.train_scores(params, zeros, images, key)
      return jax.tree.map(lambda x: x / (1 - MOMENTUM), new)

    compiled = jax.jit(batch_statistics, in_shardings=(everywhere, sharded), out_shardings=everywhere)
    steps = max(1, min(_RE_ESTIMATION_SAMPLES, run.mixture.epoch_size) // config.batch_size)
    total: Any = jax.device_get(zeros)
    batches = load_batches(BatchSource(run.sources, run.mixture, config.batch_size), 0, steps)
    for batch in progress(batches, 're-estimating batch norm', total=steps):
      arrays = {k: jax.make_array_from_process_local_data(sharded, batch[k]) for k in ('image', 'position')}
      total = jax.tree.map(np.add, total, jax.device_get(compiled(params, arrays)))
    return jax.tree.map(lambda x: (x / steps).astype(np.float32), total)


def evaluate(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoints: Sequence[str] = ('last',),
  on: Sequence[str] = (),
  re_estimate: bool = True,
) -> list[dict[str, Any]]:
  """Measures checkpoints on sets, and adds the results to `workdir`/results.json.

  Args:
    workdir: of a run that `mtface train` made.
    data_dir: of the prepared sets.
    checkpoints: selections, see the module's docstring.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    re_estimate: whether `average:K` re-estimates batch-norm statistics; if not, they are averaged like the weights.

  Returns:
    One row for each selection, set and task: `checkpoint`, `steps`, `set`, `source`, `task`, `low`, `high` (95% Wilson interval of the
    accuracy), `seconds`, and all of `metrics.summarize`.
  """
  selections = {text: Selection.parse(text) for text in checkpoints}
  read_results(pathlib.Path(workdir).expanduser())  # what is damaged is to show before the work, not after it
  evaluator = Evaluator(workdir, data_dir)
  names = list(on) or list(evaluator.config.evaluation.sets)
  if not names:
    raise UserError('--on: the run names no evaluation sets; give some, e.g. --on=genki4k/gray48:train')
  sources = {name: evaluator.source(name) for name in names}
  rows = []
  for text, selection in selections.items():
    networks = evaluator.networks(selection, re_estimate=re_estimate)
    label = text if re_estimate or selection.kind != 'average' else f'{text} (statistics averaged)'
    for name, source in sources.items():
      start = time.monotonic()
      found = evaluator.probabilities(networks, source, show=f'{text} on {name}')
      seconds = time.monotonic() - start
      steps = selection.steps(evaluator.checkpoints)
      head = {'checkpoint': label, 'steps': steps, 'set': name, 'source': source.name, 'seconds': round(seconds, 2)}
      for task, summary in measure(evaluator.run.tasks, found, source, threshold=0.5).items():
        rows.append(head | {'task': task} | _interval(summary) | summary)
  write_results(evaluator.workdir, evaluator.config, rows)
  return rows


def _interval(summary: Mapping[str, Any]) -> dict[str, float]:
  if 'correct' not in summary:  # a multi-label task's accuracy is a mean of shares
    return {}
  low, high = metrics.wilson_interval(summary['correct'], summary['n'])
  return {'low': low, 'high': high}


def write_results(workdir: pathlib.Path, config: ConfigDict, rows: Sequence[dict[str, Any]]) -> None:
  """Adds rows to results.json; a row measured again replaces the old one."""
  path = workdir / RESULTS_FILE
  before = read_results(workdir)
  merged = {_key(row): row for row in [*before, *rows]}
  partial = path.with_suffix('.json.part')
  try:
    partial.write_text(json.dumps({'name': config.name, 'results': list(merged.values())}, indent=1))
    partial.rename(path)
  except OSError as error:
    raise UserError(
      f'{path}: cannot be written ({error.strerror or error}); free space, or make the workdir writable'
    ) from error


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
  return row['checkpoint'], row['source'], row['task']


def read_results(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of results.json; none where nothing was evaluated yet."""
  path = workdir / RESULTS_FILE
  if not path.exists():
    return []
  try:
    rows = json.loads(path.read_text())['results']
    for row in rows:
      _key(row)
    return rows
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f'{path}: is damaged ({error}); delete it and run `mtface evaluate` again') from error


def results_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows as a table for a terminal or a Markdown file."""
  lines = ['| checkpoint | set | task | n | accuracy | 95% interval | balanced | macro F1 | MAE |', '|' + '---|' * 9]
  for row in rows:
    interval = f'{row["low"]:.1%} - {row["high"]:.1%}' if 'low' in row else ''
    cells = [row['checkpoint'], row['set'], row['task'], f'{row["n"]:,}', _percent(row['accuracy']), interval]
    cells += [_percent(row.get('balanced_accuracy')), _percent(row.get('macro_f1'))]
    cells += [f'{row["mae"]:.2f}' if row.get('mae') is not None else '']
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def _percent(value: float | None) -> str:
  return '' if value is None else f'{value:.2%}'
