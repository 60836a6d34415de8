"""Metrics of partly labelled batches that add up exactly.

Everything that is accumulated is an int32 count, so the sum over batches, devices and hosts is the
same in any order, and padding rows (mask False) leave no trace. Nothing is averaged before
`summarize`.

    totals = metrics.zeros(task)
    for batch in batches:
      # on the device, under jit, or in NumPy
      totals = metrics.add(totals, metrics.counts(task, scores, labels, mask))
    summary = metrics.summarize(task, totals)
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mtface import tasks

Counts = dict[str, Any]  # name -> int32 array, NumPy or JAX

# A confusion matrix of more classes than this (identities) would fill the memory; three counts a
# class take its place.
MAX_CONFUSION_CLASSES = 256


def counts(
  task: tasks.Task, scores: ArrayLike, labels: ArrayLike, mask: ArrayLike, *, threshold: float = 0.0
) -> Counts:
  """Returns one batch's counts; NumPy arrays if `scores` is one, else JAX arrays (and then it works
  under jit).

  Args:
    task: says which form labels have and what is counted.
    scores: [B, C], of any monotone kind: the largest is the prediction, the first one of equals. A
      two-class task may also give one score of class 1, [B] or [B, 1]. A multi-label task predicts
      each class by itself.
    labels: int [B] or, for a multi-label task, [B, C]; in range where labelled, anything elsewhere.
      Of shares [B, C] of votes, the largest is the label, the first one of equals.
    mask: bool or number [B], or [B, C] for a multi-label task; 0 means unlabelled or padding.
    threshold: a lone or multi-label score above it means yes: 0 for logits, 0.5 for probabilities.

  Returns: Single-label: n [] and confusion [C, C] (rows: labels, columns: predictions), or for a
    task of more than MAX_CONFUSION_CLASSES labelled, predicted and correct [C] in its place.
    Multi-label: n [] (samples with a labelled class), tp, tn, fp and fn [C].
  """
  xp: Any = np if isinstance(scores, np.ndarray) else jnp
  return _counts(task, xp, xp.asarray(scores), xp.asarray(labels), xp.asarray(mask) != 0, threshold)


def zeros(task: tasks.Task) -> Counts:
  """Returns the counts of no samples, as NumPy arrays."""
  size = task.num_classes
  if task.multi_label:
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(('tp', 'tn', 'fp', 'fn'), (size,))
  elif _has_confusion(task):
    shapes = {'confusion': (size, size)}
  else:
    shapes = dict.fromkeys(('labelled', 'predicted', 'correct'), (size,))
  return {'n': np.zeros((), np.int32)} | {
    name: np.zeros(shape, np.int32) for name, shape in shapes.items()
  }


def add(a: Counts, b: Counts) -> Counts:
  """Returns the counts of a's and b's samples together."""
  return jax.tree.map(lambda x, y: x + y, a, b)


def summarize(task: tasks.Task, totals: Counts) -> dict[str, Any]:
  """Returns plain Python numbers and lists, fit for JSON; None stands for what no sample defines
  (never NaN).

  All tasks:
    classes: [C] their names, in the order of the lists below; left out of a task of more than
      MAX_CONFUSION_CLASSES, whose names are numbers.

  Single-label tasks:
    n, correct: labelled samples, and those predicted right.
    accuracy: correct / n.
    per_class_accuracy: [C] recall of each class; None for a class that no label has.
    balanced_accuracy: its mean over the classes that labels have (what scikit-learn's
      balanced_accuracy_score is).
    macro_f1: mean F1 over the classes that labels or predictions have (scikit-learn's
      f1_score(average='macro')).
    confusion: [C] lists of [C] counts, rows are labels; None for a task too large for one.
    mae: mean |year predicted - year labelled| of the most probable class, for tasks with values. It
      follows exactly from the confusion matrix, so no sum of rounded errors is kept.

  Multi-label tasks:
    n: samples with a labelled class; per_class_n: [C] labelled samples of each class.
    per_class_accuracy: [C] (TP + TN) / N over the class's labelled samples (Pons 2018, eq. 3); None
      if there are none.
    accuracy: its mean over the classes with labels, each counting the same.
    per_class_f1, macro_f1: F1 of yes, and its mean over the classes that have a yes in labels or
      predictions.
    tp, tn, fp, fn: [C] counts.
  """
  host = {name: np.asarray(value, np.int64) for name, value in totals.items()}
  multi = task.multi_label
  summary = _summarize_multi_label(host) if multi else _summarize_single_label(task, host)
  if task.num_classes <= MAX_CONFUSION_CLASSES:
    summary['classes'] = list(task.classes)
  return summary


def ranking_score(task: tasks.Task, summary: dict[str, Any]) -> float:
  """Returns what the best checkpoint is chosen by, 0 to 1, from a task's summary: its accuracy.

  Of a task with values (ages) it is 1 - mae / (highest - lowest value): how often the very year is
  met says little of how near it is.
  """
  if task.values is None:
    return summary['accuracy']
  return 1 - summary['mae'] / (max(task.values) - min(task.values))


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
  """Returns Wilson's score interval (low, high) of a proportion; (0, 1), which says nothing, for n
  = 0.

  Unlike the normal approximation it stays within 0..1 and is not empty at 0 or n successes (Wilson
  1927).
  """
  if not 0 <= successes <= n:
    raise ValueError(f'{successes} successes of {n}')
  if n == 0:
    return 0.0, 1.0
  z = statistics.NormalDist().inv_cdf((1 + level) / 2)
  share = successes / n
  centre = share + z * z / (2 * n)
  half_width = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
  scale = 1 + z * z / n
  # At 0 and n successes the ends are 0 and 1 exactly, but for rounding.
  low = 0.0 if successes == 0 else (centre - half_width) / scale
  high = 1.0 if successes == n else (centre + half_width) / scale
  return low, high


def expected_value(
  probabilities: np.ndarray, values: np.ndarray | Sequence[float], top: int
) -> np.ndarray:
  """Returns the mean value of each row's `top` most probable classes, weighted by their
  probabilities (Savchenko 2021, eq. 1).

  An age in years is read from the scores of classes so: sum_l a_l p_l / sum_l p_l over the L most
  probable classes. L = 1 is the most probable class's value, L = C the full mean. Of classes that
  are equally probable the first ones count, as in `argmax`.

  Args:
    probabilities: [N, C], none negative, with a sum above 0 in each row.
    values: [C], what each class stands for (`Task.values`, in years).
    top: L, 1 to C.

  Returns:
    float64 [N], in the unit of `values`.

  Raises:
    ValueError: L is out of range, the shapes do not fit together, or probabilities are negative or
      all zero.
  """
  wide, years = np.asarray(probabilities, np.float64), np.asarray(values, np.float64)
  if wide.ndim != 2 or years.shape != wide.shape[1:]:
    raise ValueError(
      f'probabilities {wide.shape} and values {years.shape}; expected [N, C] and [C]'
    )
  if not 1 <= top <= len(years):
    raise ValueError(f'top is {top}; expected 1 to {len(years)}, the number of classes')
  if not ((wide >= 0).all() and (wide.sum(axis=1) > 0).all()):  # not of NaN either
    raise ValueError('probabilities are negative, not numbers, or all zero in a row')
  best = np.argsort(-wide, axis=1, kind='stable')[:, :top]
  weights = np.take_along_axis(wide, best, axis=1)
  return (weights * years[best]).sum(axis=1) / weights.sum(axis=1)


def _has_confusion(task: tasks.Task) -> bool:
  return task.num_classes <= MAX_CONFUSION_CLASSES or task.values is not None


def _counts(
  task: tasks.Task, xp: Any, scores: Any, labels: Any, mask: Any, threshold: float
) -> Counts:
  """`counts` of arrays of the module `xp`, NumPy or jax.numpy."""
  expected = (scores.shape[0], *task.label_shape)
  if labels.shape == (*mask.shape, task.num_classes) and not task.multi_label:
    labels = labels.argmax(axis=-1)
  if not labels.shape == mask.shape == expected:
    raise ValueError(
      f'{task.name}: labels {labels.shape} and mask {mask.shape}; expected {expected}'
    )
  if task.multi_label:
    return _multi_label_counts(scores > threshold, labels > 0, mask)
  predictions = _predictions(task, scores, threshold)
  labels = xp.where(mask, labels, 0).astype(xp.int32)  # a uint8 label times C would wrap around
  num_classes = task.num_classes
  n = mask.sum(dtype=xp.int32)
  if _has_confusion(task):
    cells = _histogram(labels * num_classes + predictions, mask, num_classes**2)
    return {'n': n, 'confusion': cells.reshape(num_classes, num_classes)}
  return {
    'n': n,
    'labelled': _histogram(labels, mask, num_classes),
    'predicted': _histogram(predictions, mask, num_classes),
    'correct': _histogram(labels, mask & (predictions == labels), num_classes),
  }


def _predictions(task: tasks.Task, scores: Any, threshold: float) -> Any:
  """Class indices [B] from scores [B, C], or from one score of class 1 where the task has two
  classes.
  """
  if scores.ndim == 2 and scores.shape[1] == task.num_classes:
    return scores.argmax(axis=-1)
  if task.num_classes == 2 and scores.shape in ((scores.shape[0],), (scores.shape[0], 1)):
    return (scores.reshape(-1) > threshold).astype(int)
  raise ValueError(f'{task.name}: scores {scores.shape} for {task.num_classes} classes')


def _histogram(cells: Any, mask: Any, length: int) -> Any:
  """int32 [length]: how many unmasked samples each cell has."""
  if isinstance(mask, np.ndarray):
    return np.bincount(cells[mask], minlength=length).astype(np.int32)
  return jnp.zeros(length, jnp.int32).at[cells].add(mask.astype(jnp.int32))


def _multi_label_counts(predicted: Any, labelled: Any, mask: Any) -> Counts:
  if predicted.shape != mask.shape:
    raise ValueError(f'scores {predicted.shape} and mask {mask.shape} do not fit together')
  agree = {
    'tp': predicted & labelled,
    'tn': ~predicted & ~labelled,
    'fp': predicted & ~labelled,
    'fn': ~predicted & labelled,
  }
  n = mask.any(axis=-1).sum(dtype=np.int32)
  return {'n': n} | {
    name: (cells & mask).sum(axis=0, dtype=np.int32) for name, cells in agree.items()
  }


def _summarize_single_label(task: tasks.Task, host: dict[str, np.ndarray]) -> dict[str, Any]:
  n = int(host['n'])
  confusion = host.get('confusion')
  if confusion is None:
    labelled, predicted, correct = host['labelled'], host['predicted'], host['correct']
  else:
    labelled, predicted, correct = (
      confusion.sum(axis=1),
      confusion.sum(axis=0),
      np.diagonal(confusion),
    )
  recall = _ratios(correct, labelled)
  summary = {
    'n': n,
    'correct': int(correct.sum()),
    'accuracy': _ratio(int(correct.sum()), n),
    'per_class_accuracy': recall,
    'balanced_accuracy': _mean(recall),
    'macro_f1': _mean(_ratios(2 * correct, labelled + predicted)),
    'confusion': None if confusion is None else confusion.tolist(),
  }
  if task.values is not None:
    assert confusion is not None
    years = np.asarray(task.values)
    error = float(np.sum(confusion * np.abs(years[:, None] - years)))
    summary['mae'] = _ratio(error, n)
  return summary


def _summarize_multi_label(host: dict[str, np.ndarray]) -> dict[str, Any]:
  tp, tn, fp, fn = (host[name] for name in ('tp', 'tn', 'fp', 'fn'))
  per_class_n = tp + tn + fp + fn
  accuracy = _ratios(tp + tn, per_class_n)
  f1 = _ratios(2 * tp, 2 * tp + fp + fn)
  return {
    'n': int(host['n']),
    'accuracy': _mean(accuracy),
    'per_class_accuracy': accuracy,
    'per_class_n': per_class_n.tolist(),
    'macro_f1': _mean(f1),
    'per_class_f1': f1,
    **{name: host[name].tolist() for name in ('tp', 'tn', 'fp', 'fn')},
  }


def _ratio(part: float, whole: int) -> float | None:
  return part / whole if whole else None


def _ratios(parts: np.ndarray, wholes: np.ndarray) -> list[float | None]:
  return [_ratio(part, whole) for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]


def _mean(values: list[float | None]) -> float | None:
  defined = [value for value in values if value is not None]
  return sum(defined) / len(defined) if defined else None
