"""Whether probabilities mean what they say: reliability curves, the expected calibration error, and
temperature scaling (Guo et al. 2017).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import optimize, special

from mtface.errors import UserError
from mtface.files import write_json

CALIBRATION_FILE = 'calibration.json'
BINS = 15  # of equal width, as in Guo et al. 2017
_LEAST = 1e-12  # probabilities below are taken for it: their logarithm has to be finite
_TEMPERATURES = (0.05, 20.0)


@dataclasses.dataclass(frozen=True)
class Reliability:
  """Confidence against accuracy, in bins of equal width; a bin without samples has NaN.

  Attributes:
    edges: float [bins + 1], from 0 to 1; a bin holds its upper edge, not its lower one.
    count: int [bins], samples.
    confidence: float [bins], their mean confidence.
    accuracy: float [bins], the share of them that is right.
    ece: the mean of |accuracy - confidence| over samples (Guo et al. 2017, eq. 3).
  """

  edges: np.ndarray
  count: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray
  ece: float


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Reliability:
  """The reliability curve of answers.

  Args:
    confidence: float [N] in [0, 1], the probability that the network gives its answer.
    correct: bool [N].
    bins: how many.

  Raises:
    UserError: there are no answers, or a confidence is not in [0, 1].
  """
  confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
  if not len(confidence):
    raise UserError('calibration: there are no labelled answers to measure')
  if not ((confidence >= 0) & (confidence <= 1)).all():
    raise UserError('calibration: expected probabilities in [0, 1], found others')
  place = bin_of(confidence, bins)
  count = np.bincount(place, minlength=bins)
  with np.errstate(invalid='ignore'):
    mean = np.bincount(place, confidence, bins) / count
    accuracy = np.bincount(place, correct, bins) / count
  gaps = np.abs(accuracy - mean)[count > 0]
  ece = float(np.sum(gaps * count[count > 0]) / len(confidence))
  return Reliability(np.linspace(0, 1, bins + 1), count, mean, accuracy, ece)


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
  """int [N]: the bin of each confidence."""
  return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def with_temperature(
  probabilities: np.ndarray, temperature: float, readout: str = 'softmax'
) -> np.ndarray:
  """[N, C]: the probabilities of the same scores, divided by a temperature; 1 changes nothing and
  more makes them less sure.

  The softmax of log p / T is that of the scores / T, since both differ by one number a sample; a
  sigmoid's scores are recovered by its inverse. What is largest stays so.

  Raises:
    UserError: `readout` is neither softmax nor sigmoid: margins are no probabilities.
  """
  logits = _logits(probabilities, readout) / temperature
  if readout == 'sigmoid':
    return special.expit(logits)
  return special.softmax(logits, axis=-1)


def fit_temperature(
  probabilities: np.ndarray, labels: np.ndarray, readout: str = 'softmax'
) -> float:
  """The temperature of the smallest negative log likelihood, between 0.05 and 20.

  Args:
    probabilities: float [N, C].
    labels: int [N]; or, of a multi-label task, [N, C] of 1, 0, and -1 where nothing is known.
    readout: softmax over the classes, or sigmoid of each by itself.

  Raises:
    UserError: no sample is labelled, or there are no probabilities.
  """
  if not np.any(labels >= 0):
    raise UserError('calibration: there are no labelled answers to fit a temperature on')

  def loss(log_temperature: float) -> float:
    scaled = with_temperature(probabilities, np.exp(log_temperature), readout)
    return negative_log_likelihood(scaled, labels, readout)

  bounds = tuple(np.log(_TEMPERATURES))
  return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds, method='bounded').x))


def negative_log_likelihood(
  probabilities: np.ndarray, labels: np.ndarray, readout: str = 'softmax'
) -> float:
  """The mean over labelled samples (over labelled classes, where each has a sigmoid) of -log p of
  what is labelled; natural logarithm.
  """
  probabilities = np.clip(probabilities, _LEAST, 1)
  if readout == 'softmax':
    known = labels >= 0
    chosen = probabilities[np.flatnonzero(known), labels[known]]
    return float(-np.log(chosen).mean())
  wanted = _one_hot(labels, probabilities.shape[1])
  no = np.log(np.clip(1 - probabilities, _LEAST, 1))
  terms = np.where(wanted == 1, np.log(probabilities), no)
  return float(-terms[wanted >= 0].mean())


def confidences(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(confidence float [M], correct bool [M]) of the labelled answers: of a single-label task the
  largest probability, of a multi-label one that of each class's yes or no.

  `labels` are as in `fit_temperature`. Sigmoids of a single-label task are taken as they are.
  """
  known = labels >= 0
  if labels.ndim == 1:
    answers = probabilities.argmax(axis=1)
    return probabilities.max(axis=1)[known], (answers == labels)[known]
  yes = probabilities >= 0.5
  return np.where(yes, probabilities, 1 - probabilities)[known], (yes == (labels == 1))[known]


def write_calibration(
  folder: pathlib.Path, checkpoint: str, fitted_on: str, found: Mapping[str, float]
) -> None:
  """Adds the temperatures {task: T} of a selection of checkpoints to `folder`/calibration.json."""
  known = _read(folder) | {checkpoint: {'fitted_on': fitted_on, 'temperatures': dict(found)}}
  write_json(folder / CALIBRATION_FILE, known)


def read_calibration(folder: pathlib.Path, checkpoint: str) -> dict[str, float]:
  """{task: temperature} that `mtface calibrate` fitted for a selection; empty where it did not."""
  return _read(folder).get(checkpoint, {}).get('temperatures', {})


def _read(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / CALIBRATION_FILE
  if not path.exists():
    return {}
  try:
    return dict(json.loads(path.read_text()))
  except (ValueError, TypeError) as error:
    raise UserError(
      f'{path}: is damaged ({error}); delete it and run `mtface calibrate` again'
    ) from error


def _logits(probabilities: np.ndarray, readout: str) -> np.ndarray:
  if readout not in ('softmax', 'sigmoid'):
    raise UserError(
      f'calibration: expected probabilities, found {readout} (a squared hinge gives margins, which '
      'no temperature makes probabilities of)'
    )
  kept = np.clip(probabilities, _LEAST, 1 - _LEAST if readout == 'sigmoid' else 1)
  return np.log(kept) if readout == 'softmax' else special.logit(kept)


def _one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
  """int [N, C] of 1, 0 and -1."""
  if labels.ndim == 2:
    return labels
  hot = (labels[:, None] == np.arange(classes)).astype(np.int64)
  return np.where(labels[:, None] >= 0, hot, -1)
