"""`mtface calibrate`: a temperature a task, fitted on one set and measured on others, and kept
beside the run's results.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from mtface.data.names import SourceName
from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.evaluation.calibration import (
  TEMPERATURES,
  confidences,
  fit_temperature,
  negative_log_likelihood,
  reliability,
  with_temperature,
  write_temperatures,
)
from mtface.evaluation.chosen import Chosen, Faces
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import Row, markdown_table
from mtface.outputs import Scores
from mtface.progress import warn


def calibrate(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  fit: Sequence[str],
  checkpoint: str = 'last',
  on: Sequence[str] = (),
  stage: str = '',
) -> list[Row]:
  """Fits temperatures, writes them to `workdir`/calibration.json, and measures what they change.

  Args:
    workdir: of a run.
    data_dir: of the prepared sets.
    fit: the sets to fit on, by name or as sources; a task that several of them label is fitted on
      all of these. None of their faces should have been trained on: a network is surer of those.
    checkpoint: a selection, see `mtface.evaluation.chosen`.
    on: the sets to measure on, which share no face with them; none: the run's other evaluation
      sets that label a fitted task.
    stage: of the run; '' is the last one.

  Returns: A row a task: the selection's head, `task`, `temperature`, `fit` (names, sources and
    fingerprints of the sets), `n` (samples that it was fitted on), and `held_out`: a list with
    `set`, `source`, `data`, `n` (answers), `accuracy`, and `nll_before`, `nll_after`, `ece_before`,
    `ece_after`, see `mtface.evaluation.calibration`.

  Raises:
    UserError: no set is named or labels a task that has probabilities, or a set to measure on has
      faces of one to fit on.
  """
  if not fit:
    raise UserError(
      '--fit is missing: name a set that is neither trained on nor reported, as in '
      '--fit=fer2013_public'
    )
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir)
  fitted = {name: chosen.faces(name) for name in fit}
  _check_not_trained_on(evaluator, fitted)
  labelled = {task for faces in fitted.values() for task in faces.own.labels}
  tasks = [task for task in chosen.tasks if task in labelled and chosen.readout(task) != 'margins']
  if not tasks:
    raise UserError(
      f'--fit={",".join(fit)}: labels {", ".join(sorted(labelled))}, and the run gives '
      f'probabilities of none of these; it predicts {", ".join(chosen.tasks)}'
    )
  held_out = _held_out(evaluator, chosen, on, fitted, tasks)
  found = {name: chosen.predictions(faces) for name, faces in fitted.items()}
  rows = [_fitted(chosen, task, fitted, found) for task in tasks]
  for name, faces in held_out.items():
    _measure(chosen, rows, name, faces.own, chosen.predictions(faces))
  write_temperatures(evaluator.workdir, evaluator.config.name, rows)
  return rows


def _held_out(
  evaluator: Evaluator,
  chosen: Chosen,
  on: Sequence[str],
  fitted: Mapping[str, Faces],
  tasks: Sequence[str],
) -> dict[str, Faces]:
  """The sets to measure on: those of --on, or the run's own that have no face to fit on."""
  own = {faces.own.name for faces in fitted.values()}
  names = on or [
    name
    for name, entry in evaluator.config.evaluation.sets.items()
    if entry.name not in own and set(chosen.faces(name).own.labels) & set(tasks)
  ]
  found = {name: chosen.faces(name) for name in names}
  for name in names:
    for other, of in fitted.items():
      if shared := _shared(found[name].own, of.own):
        told = f'{shared:,} of its faces are in --fit={other} too'
        if on:
          raise UserError(
            f'--on={name}: {told}; measure on faces that no temperature was fitted on'
          )
        warn(f'{name}: {told}; it is not measured on')
        del found[name]
        break
  return found


def _shared(a: Source, b: Source) -> int:
  """How many images two sources have in common; an id is unique in its set alone."""
  same = _raw_set(a.name) == _raw_set(b.name)
  return len(np.intersect1d(a.image_ids, b.image_ids)) if same else 0


def _check_not_trained_on(evaluator: Evaluator, fitted: Mapping[str, Faces]) -> None:
  for name, faces in fitted.items():
    own = faces.own
    for trained in trained_on(evaluator.config, own.name, own.image_ids, evaluator.data_dir):
      warn(
        f'--fit={name}: the run was trained on {trained}, which has these faces or some of them; '
        'it is surer of those than of others, and its temperature will be too low'
      )


def trained_on(
  config: ConfigDict, name: str, image_ids: np.ndarray, data_dir: str | os.PathLike
) -> list[str]:
  """The sources that a run was trained on that have some of the images of the source `name`; of
  sources that are not in `data_dir`, the same one alone is known.
  """
  found = []
  for entry in config.sources.values():
    if entry.name == name:
      found.append(entry.name)
    elif _raw_set(entry.name) == _raw_set(name):
      with contextlib.suppress(UserError):
        if np.isin(image_ids, load_source(entry.name, data_dir).image_ids).any():
          found.append(entry.name)
  return found


def _raw_set(name: str) -> str:
  """What a source was built from, in whatever form: an image's id is the same in all of them. Of
  image_csv every NAME is a set of its own.
  """
  name, _, config = SourceName.parse(name).set_name.partition('/')
  return f'{name}/{re.split("_(?:gray|rgb)[0-9]", config)[0]}' if name == 'image_csv' else name


def _labels(source: Source, task: str) -> np.ndarray:
  """int [N] or [N, C], -1 where a label is unknown."""
  return np.where(source.mask[task], source.labels[task], -1)


def _fitted(
  chosen: Chosen, task: str, fitted: Mapping[str, Faces], found: Mapping[str, Scores]
) -> Row:
  sources = {name: faces.own for name, faces in fitted.items() if task in faces.own.labels}
  labels = np.concatenate([_labels(source, task) for source in sources.values()])
  scores = np.concatenate([found[name][task] for name in sources])
  temperature = fit_temperature(scores, labels, chosen.readout(task))
  if not TEMPERATURES[0] * 1.01 < temperature < TEMPERATURES[1] * 0.99:
    warn(f'{task}: the temperature is at an end of what is searched, {temperature:.3g}')
  return chosen.head() | {
    'task': task,
    'temperature': temperature,
    'fit': [
      {'set': name, 'source': of.name, 'data': of.fingerprint} for name, of in sources.items()
    ],
    'n': int((labels >= 0).sum()),
    'held_out': [],
  }


def _measure(
  chosen: Chosen, rows: Sequence[Row], name: str, source: Source, scores: Scores
) -> None:
  """Adds what the temperatures change on a set to the rows."""
  for row in rows:
    task = row['task']
    if task in source.labels and (_labels(source, task) >= 0).any():
      about = {'set': name, 'source': source.name, 'data': source.fingerprint}
      changed = _changed(
        scores[task], _labels(source, task), row['temperature'], chosen.readout(task)
      )
      row['held_out'].append(about | changed)


def _changed(
  before: np.ndarray, labels: np.ndarray, temperature: float, readout: str
) -> dict[str, float]:
  found: dict[str, float] = {}
  scaled = with_temperature(before, temperature, readout)
  for when, probabilities in (('before', before), ('after', scaled)):
    confidence, correct = confidences(probabilities, labels)
    found |= {
      'n': len(correct),
      'accuracy': float(correct.mean()),
      f'nll_{when}': negative_log_likelihood(probabilities, labels, readout),
      f'ece_{when}': reliability(confidence, correct).ece,
    }
  return found


def calibration_table(rows: Sequence[Row]) -> str:
  """The rows as a table: a line a task and set that was measured on."""
  columns = ['task', 'temperature', 'fitted on', 'measured on', 'answers', 'accuracy']
  columns += ['NLL before', 'after', 'ECE before', 'after']
  lines = []
  for row in rows:
    fit = ', '.join(of['set'] for of in row['fit'])
    start = [row['task'], f'{row["temperature"]:.3f}', f'{fit} ({row["n"]:,})']
    lines += [start + _cells(of) for of in row['held_out']] or [[*start, 'nothing', *[''] * 6]]
  return markdown_table(columns, lines)


def _cells(of: Row) -> list[str]:
  likelihood = [f'{of[f"nll_{when}"]:.4f}' for when in ('before', 'after')]
  errors = [f'{of[f"ece_{when}"]:.2%}' for when in ('before', 'after')]
  return [of['set'], f'{of["n"]:,}', f'{of["accuracy"]:.2%}', *likelihood, *errors]
