"""How scores become answers: probabilities, margins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mtface.outputs import Scores
from mtface.tasks import Task


def concatenated(parts: Iterable[Scores]) -> Scores:
  """The scores of consecutive batches as one."""
  found: dict[str, list[np.ndarray]] = {}
  for scores in parts:
    for task, values in scores.items():
      found.setdefault(task, []).append(values)
  return {task: np.concatenate(values) for task, values in found.items()}


def comparable(tasks: Mapping[str, Task], scores: Scores, margins: Sequence[str] = ()) -> Scores:
  """What may be averaged over networks, float64: probabilities, or for the tasks in `margins` the
  scores as they are.

  Probabilities are a softmax over the classes, or a sigmoid for each class of a multi-label task. A
  squared hinge (the trait `margins`) asks the label's score to lead by a margin of 1, so its scores
  are on one scale, and a softmax of them would be no probability.
  """
  found = {}
  for name, values in scores.items():
    wide = values.astype(np.float64)
    if name in margins:
      found[name] = wide
    elif tasks[name].multi_label:
      found[name] = 0.5 * (1 + np.tanh(0.5 * wide))
    else:
      exp = np.exp(wide - wide.max(axis=-1, keepdims=True))
      found[name] = exp / exp.sum(axis=-1, keepdims=True)
  return found
