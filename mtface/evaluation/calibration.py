"""Whether probabilities are shares of right answers: reliability curves, the expected calibration
error, the negative log-likelihood, and the one number a task that mends most of it, its temperature
(Guo et al. 2017, "On calibration of modern neural networks").

Labels here are int [N] for a single-label task and int [N, C] of 1 and 0 for a multi-label one; -1
is an unknown label, which nothing below counts.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from mtface.errors import UserError
from mtface.evaluation.results import Row, read_rows, write_rows
from mtface.files import local_path

CALIBRATION_FILE = 'calibration.json'

BINS = 15  # as in Guo et al. 2017
LEAST = 1e-12  # a probability below counts as this one: the logarithm of 0 says nothing
TEMPERATURES = (0.05, 20.0)  # where one is looked for


@dataclasses.dataclass(frozen=True)
class Reliability:
  """How often answers are right, by how sure they are.

  Attributes:
    edges: float [bins + 1], 0 to 1 in equal steps. A bin holds its upper edge and not its lower
      one, as in the paper; a confidence of 0 is in the first.
    count: int [bins], answers in each bin.
    confidence: float [bins], their mean confidence; NaN in a bin without answers.
    accuracy: float [bins], the share of right ones; NaN there too.
    ece: expected calibration error: the mean of |accuracy - confidence| over bins, weighted by
      their counts (eq. 3). Noise alone makes it larger than 0, the more the fewer answers there
      are.
  """

  edges: np.ndarray
  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray
  ece: float


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
  """The reliability curve of N answers.

  Args:
    confidence: [N], the probability that was given to each answer.
    correct: bool [N], whether it is right.
    bins: number of bins of equal width.

  Raises:
    UserError: there is no answer, or a confidence is outside of 0 to 1 or no number.
  """
  confidence = np.asarray(confidence, np.float64)
  if not len(confidence):
    raise UserError('calibration: there is no labelled answer to measure')
  check_probabilities(confidence, 'calibration')
  place = bin_of(confidence, bins)
  count = np.bincount(place, minlength=bins)
  sure = np.bincount(place, confidence, bins)
  right = np.bincount(place, np.asarray(correct, np.float64), bins)
  some = np.where(count > 0, count, np.nan)
  ece = float(np.abs(right - sure).sum() / len(confidence))
  return Reliability(_edges(bins), count, sure / some, right / some, ece)


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
  """int [N]: the bin of each confidence."""
  return np.searchsorted(_edges(bins)[1:-1], confidence, side='left')


def _edges(bins: int) -> np.ndarray:
  return np.linspace(0, 1, bins + 1)


def check_probabilities(values: np.ndarray, what: str) -> None:
  """Checks that numbers are probabilities.

  Raises:
    UserError: one is outside of 0 to 1, or is no number; `what` says whose they are.
  """
  wrong = values[~((values >= 0) & (values <= 1 + 1e-6))]
  if wrong.size:
    raise UserError(f'{what}: found {wrong[0]:g} where a probability from 0 to 1 was expected')


def fit_temperature(
  probabilities: np.ndarray, labels: np.ndarray, readout: str = 'softmax'
) -> float:
  """The temperature with the least negative log-likelihood; above 1, the network was too sure.

  Args:
    probabilities: [N, C].
    labels: int [N] or [N, C], see the module's docstring.
    readout: softmax, or sigmoid of each class by itself, see `mtface/inference/readout.py`.

  Raises:
    UserError: nothing is labelled, or the scores are margins.
  """
  if not (np.asarray(labels) >= 0).any():
    raise UserError('calibration: nothing is labelled that a temperature could be fitted on')
  scores = _scores(probabilities, readout)

  def loss(log_temperature: float) -> float:
    return _nll(scores / math.exp(log_temperature), labels, readout)

  # As a function of 1 / T the loss is convex, so there is one minimum.
  low, high = map(math.log, TEMPERATURES)
  found = optimize.minimize_scalar(loss, bounds=(low, high), method='bounded')
  return math.exp(found.x)


def with_temperature(
  probabilities: np.ndarray, temperature: float, readout: str = 'softmax'
) -> np.ndarray:
  """[N, C]: the probabilities that the same scores divided by a temperature have.

  Scores follow from probabilities but for a constant, which a softmax takes away again: so this is
  also defined for ensembles, whose members' probabilities were averaged. What is most probable
  stays so, and so does what is above and below 0.5 by its own sigmoid.

  Raises:
    UserError: the scores are margins.
  """
  scores = _scores(probabilities, readout) / temperature
  return special.softmax(scores, axis=-1) if readout == 'softmax' else special.expit(scores)


def negative_log_likelihood(
  probabilities: np.ndarray, labels: np.ndarray, readout: str = 'softmax'
) -> float:
  """The mean of -ln p(label) over samples with a label; of sigmoids, over all labelled yes and no.

  Raises:
    UserError: the scores are margins.
  """
  return _nll(_scores(probabilities, readout), labels, readout)


def confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(confidence float [M], correct bool [M]) of the M labelled answers, for `reliability`.

  A single-label task answers with its most probable class, a multi-label one with yes or no for
  each class, whose probability is p or 1 - p.
  """
  known = labels >= 0
  if labels.ndim == 1:
    return probabilities.max(axis=1)[known], (probabilities.argmax(axis=1) == labels)[known]
  yes = probabilities > 0.5
  return np.where(yes, probabilities, 1 - probabilities)[known], (yes == (labels > 0))[known]


def _scores(probabilities: np.ndarray, readout: str) -> np.ndarray:
  """float64 [N, C]: scores that these are the probabilities of."""
  if readout not in ('softmax', 'sigmoid'):
    raise UserError(
      f'calibration: the scores are {readout}, which no temperature makes probabilities of; train '
      'with a loss that has them, such as softmax_cross_entropy'
    )
  kept = np.clip(np.asarray(probabilities, np.float64), LEAST, None)
  return np.log(kept) if readout == 'softmax' else special.logit(np.clip(kept, None, 1 - LEAST))


def _nll(scores: np.ndarray, labels: np.ndarray, readout: str) -> float:
  labels = np.asarray(labels)
  if readout == 'softmax':
    rows = np.flatnonzero(labels >= 0)
    return float(
      -special.log_softmax(scores[rows], axis=1)[np.arange(len(rows)), labels[rows]].mean()
    )
  wanted = labels if labels.ndim == 2 else _one_hot(labels, scores.shape[1])
  signed = np.where(wanted > 0, scores, -scores)[wanted >= 0]
  return float(np.logaddexp(0, -signed).mean())


def _one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
  """int [N, C]: 1 at the label, 0 elsewhere; -1 in a row without one."""
  return np.where(labels[:, None] < 0, -1, labels[:, None] == np.arange(classes))


# --- Of a run -------------------------------------------------------------------------------------

_KEY = ('checkpoint', 'task')


def write_temperatures(workdir: pathlib.Path, name: str, rows: Sequence[Row]) -> None:
  """Adds rows to `workdir`/calibration.json of the run of config `name`: each is the head of a
  selection (`Chosen.head`) with `task`, `temperature` and what else is to be remembered of it.
  """
  write_rows(workdir / CALIBRATION_FILE, name, _KEY, 'calibrate', rows)


def read_temperatures(workdir: str | os.PathLike, head: Row) -> dict[str, float]:
  """{task: temperature} that `mtface calibrate` fitted to a selection.

  Args:
    workdir: of the run.
    head: what `Chosen.head` says of the selection.

  Raises:
    UserError: none was fitted to it, or the checkpoints are others by now.
  """
  path = local_path(workdir) / CALIBRATION_FILE
  text = head['checkpoint']
  rows = [
    row
    for row in read_rows(path, (*_KEY, 'temperature'), 'calibrate')
    if row['checkpoint'] == text and row.get('stage') == head.get('stage')
  ]
  again = f'`mtface calibrate --workdir={workdir} --checkpoint={text} --fit=SET`'
  if not rows:
    raise UserError(f'{path}: has no temperatures of {text!r}; fit them first: {again}')
  if any(row.get(key) != value for row in rows for key, value in head.items()):
    raise UserError(f'{path}: the temperatures of {text!r} are of other weights; repeat {again}')
  return {row['task']: float(row['temperature']) for row in rows}
