"""How scores become answers: probabilities, margins."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy import special

from mtface.outputs import Scores


def concatenated(parts: Iterable[Scores]) -> Scores:
  """The scores of consecutive batches as one."""
  found: dict[str, list[np.ndarray]] = {}
  for scores in parts:
    for task, values in scores.items():
      found.setdefault(task, []).append(values)
  return {task: np.concatenate(values) for task, values in found.items()}


def comparable(scores: Scores, readout: Callable[[str], str]) -> Scores:
  """What may be averaged over networks, float64: probabilities, or margins as they are.

  Args:
    scores: {task: [N, C]}, NumPy.
    readout: how a task's are read (`Outputs.readout`, from the trait of the task's loss): softmax
      over the classes; sigmoid of each class by itself, also of a single-label task that was
      learnt so (Pons 2018, eq. 2); or margins: a squared hinge asks the label's score to lead by 1,
      so its scores are on one scale, and a softmax of them would be no probability.
  """
  return {name: _READ[readout(name)](values.astype(np.float64)) for name, values in scores.items()}


def _softmax(scores: np.ndarray) -> np.ndarray:
  exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
  return exp / exp.sum(axis=-1, keepdims=True)


_READ: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'softmax': _softmax,
  # Not by tanh, which makes 0 of all scores below -38, so that the order of classes is lost.
  'sigmoid': special.expit,
  'margins': lambda scores: scores,
}
