"""`mtface evaluate`: selections of checkpoints (`mtface/evaluation/chosen.py`) on sets, and what
came out.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtface import metrics
from mtface.config.stages import stage_folder
from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen, Faces
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.predictions import write_predictions
from mtface.evaluation.results import Row, read_results, write_results
from mtface.files import local_path
from mtface.inference.meter import Meter
from mtface.outputs import Scores


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
  calibrated: bool = False,
) -> list[Row]:
  """Measures checkpoints on sets, and adds the results to `workdir`/results.json as they come.

  Args:
    workdir: of a run that `mtface train` made.
    data_dir: of the prepared sets.
    checkpoints: selections, see `mtface.evaluation.chosen`; none: the run's
      `config.evaluation.checkpoints`.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    re_estimate: whether `average:K` re-estimates batch-norm statistics; if not, they are averaged
      like the weights.
    predictions: also write what the networks say of each image, see
      `mtface.evaluation.predictions`.
    skip_measured: take rows of results.json of the very same checkpoints and faces as they are.
    stage: of the run; '' is the last one.
    calibrated: apply the temperatures of `mtface calibrate`; such rows have ` (calibrated)` in
      their `checkpoint`, and `temperatures`.

  Returns: One row for each selection, set and task: `checkpoint`, `steps`, `checksums` (of those
    steps' checkpoints), `set`, `source`, `data` (its fingerprint), `task`, `low`, `high` (95%
    Wilson interval of the accuracy), `seconds`, and all of `metrics.summarize`; `stage`, where the
    run has stages; `members`, where other runs take part.
  """
  before = read_results(
    local_path(workdir)
  )  # what is damaged is to show before the work, not after it
  evaluator = Evaluator(workdir, data_dir, stage)
  config = evaluator.config
  chosen = {
    text: Chosen(text, evaluator, data_dir, re_estimate=re_estimate, calibrated=calibrated)
    for text in checkpoints or config.evaluation.checkpoints
  }
  names = list(on) or list(config.evaluation.sets)
  if not names:
    raise UserError(
      '--on: the run names no evaluation sets; give some, e.g. --on=genki4k/gray48:train'
    )
  faces = {text: {name: of.faces(name) for name in names} for text, of in chosen.items()}
  heads = {text: of.head() for text, of in chosen.items()}
  rows = []
  for text, of in chosen.items():
    head = heads[text]
    measured = _measured(before, head, faces[text]) if skip_measured and not predictions else {}
    for name in names:
      if name not in measured:
        measured[name] = _measure_set(
          evaluator, of, faces[text][name], head | {'set': name}, predictions
        )
        write_results(evaluator.workdir, config.name, measured[name])
      rows += measured[name]
  return rows


def _measured(before: Sequence[Row], head: Row, faces: Mapping[str, Faces]) -> dict[str, list[Row]]:
  """{set: rows} of what was measured before, of the same checkpoints and on the same faces."""
  found: dict[str, list[Row]] = {}
  known = [x for of in (head, *head.get('members', ())) for x in of['checksums']]
  for row in before:
    same = all(row.get(key) == value for key, value in head.items()) and None not in known
    source = faces[row['set']].own if row['set'] in faces else None
    if same and source and (row['source'], row.get('data')) == (source.name, source.fingerprint):
      found.setdefault(row['set'], []).append(row)
  return found


def _measure_set(
  evaluator: Evaluator, chosen: Chosen, faces: Faces, head: Row, write: bool
) -> list[Row]:
  """The rows of one set; with `write`, its predictions too."""
  source = faces.own
  head = head | {'source': source.name, 'data': source.fingerprint}
  start = time.monotonic()
  tops = {name: entry.top for name, entry in evaluator.config.tasks.items()}
  meter = Meter(chosen.tasks, source, threshold=0.5, tops=tops)

  def measured() -> Iterator[tuple[Scores, np.ndarray]]:
    for scores, rows in chosen.stream(faces, show=f'{head["checkpoint"]} on {head["set"]}'):
      meter.add(scores, rows)
      yield scores, rows

  if write:
    folder = stage_folder(evaluator.workdir, evaluator.stage)
    write_predictions(folder, head['checkpoint'], head['set'], chosen.tasks, source, measured())
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
