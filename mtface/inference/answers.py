"""What a network says of a face, as a value: one answer a task, in words and numbers.

`Face.to_json` is the one form in which faces are printed: by `mtface predict`, by the examples of
exported files and by the demo page (mtface/publish/page/answers.js).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtface.faces.detect import Detection
from mtface.metrics import expected_value
from mtface.outputs import Scores
from mtface.tasks import Task

INTERVAL_SHARE = 0.9  # of the probability of an age lies in its interval
_DIGITS = 6  # of numbers in JSON


@dataclasses.dataclass(frozen=True)
class Question:
  """A task as a network answers it.

  Attributes:
    task: what is asked.
    readout: how its scores are read (`mtface.outputs.READOUTS`).
    top: of ages: the value is the mean of so many of the most probable years, as the run is
      measured (`config.tasks.TASK.top`).
  """

  task: Task
  readout: str
  top: int = 1


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a network says of one task.

  Attributes:
    task: its name.
    label: the name of the most probable class; None for a multi-label task, whose classes are each
      a yes or no.
    probabilities: {class: probability}; what a squared hinge learnt has none, and these are margins
      (`readout`).
    readout: softmax: they sum to 1; sigmoid: each class by itself; margins: above 0 is a yes.
    value: of ages, in years, or None.
    interval: of ages: the years between which `INTERVAL_SHARE` of the probability lies, as much
      being below as above; None where there are no probabilities.
  """

  task: str
  label: str | None
  probabilities: dict[str, float]
  readout: str = 'softmax'
  value: float | None = None
  interval: tuple[float, float] | None = None

  @property
  def probability(self) -> float | None:
    """Of the label; None where there is none, or no probability."""
    if self.label is None or self.readout == 'margins':
      return None
    return self.probabilities[self.label]

  @property
  def present(self) -> tuple[str, ...]:
    """The classes of a multi-label task that are more likely there than not."""
    least = 0.0 if self.readout == 'margins' else 0.5
    return tuple(name for name, p in self.probabilities.items() if p > least)

  def to_json(self) -> dict[str, Any]:
    """As JSON holds it: label, probabilities (or margins), and of ages value and interval."""
    numbers = {name: round(p, _DIGITS) for name, p in self.probabilities.items()}
    key = 'margins' if self.readout == 'margins' else 'probabilities'
    found: dict[str, Any] = {'label': self.label, key: numbers}
    if self.value is not None:
      found['value'] = round(self.value, _DIGITS)
      found['interval'] = self.interval and list(self.interval)
    return found


@dataclasses.dataclass(frozen=True)
class Face:
  """A face in a picture, and what a network says of it.

  Attributes:
    box: left, top, width and height in pixels of the picture; right and bottom may be outside.
    confidence: the detector's probability that it is a face.
    landmarks: float32 [5, 2], x and y in pixels of the picture (eyes, nose, mouth corners, the left
      of the picture first); None where not known.
    answers: by task.
  """

  box: tuple[int, int, int, int]
  confidence: float
  landmarks: np.ndarray | None
  answers: dict[str, Answer]

  def to_json(self) -> dict[str, Any]:
    """As JSON holds it: box, confidence, landmarks, answers."""
    points = None if self.landmarks is None else np.asarray(self.landmarks, float).tolist()
    return {
      'box': list(self.box),
      'confidence': round(self.confidence, _DIGITS),
      'landmarks': points and [[round(x, _DIGITS) for x in point] for point in points],
      'answers': {name: answer.to_json() for name, answer in self.answers.items()},
    }


def faces_of(
  found: Sequence[Detection], questions: Mapping[str, Question], said: Scores
) -> list[Face]:
  """Returns detections with their answers.

  Args:
    found: N of them.
    questions: by task.
    said: {task: [N, C]}, read out (`readout.comparable`).
  """
  answers = {name: answers_of(of, said[name]) for name, of in questions.items()}
  return [
    Face(_as_size(face.box), face.confidence, face.landmarks, {t: a[i] for t, a in answers.items()})
    for i, face in enumerate(found)
  ]


def _as_size(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
  left, top, right, bottom = box
  return left, top, right - left, bottom - top


def answers_of(of: Question, said: np.ndarray) -> list[Answer]:
  """Returns the answers in [N, C] of a task, read out."""
  task = of.task
  rows = np.asarray(said, np.float64)
  labels = [None if task.multi_label else task.classes[i] for i in rows.argmax(axis=1)]
  ages = _ages(of, rows) if task.values else [(None, None)] * len(rows)
  return [
    Answer(task.name, label, dict(zip(task.classes, row, strict=True)), of.readout, value, interval)
    for label, row, (value, interval) in zip(labels, rows.tolist(), ages, strict=True)
  ]


def _ages(of: Question, rows: np.ndarray) -> list[tuple[float | None, tuple[float, float] | None]]:
  """(value, interval) of each row."""
  values = np.asarray(of.task.values, np.float64)
  if of.readout == 'margins':
    return [(float(values[i]), None) for i in rows.argmax(axis=1)]
  means = expected_value(rows, values, of.top) if len(rows) else rows[:, 0]
  return [(float(mean), interval(row, values)) for mean, row in zip(means, rows, strict=True)]


def interval(
  probabilities: np.ndarray, values: np.ndarray, share: float = INTERVAL_SHARE
) -> tuple[float, float]:
  """Returns the central interval of a distribution over classes: the quantiles at (1 - share) / 2
  and (1 + share) / 2.

  Args:
    probabilities: [C]; they are divided by their sum.
    values: [C], in ascending order, what each class stands for.
    share: at least so much of the probability lies in the interval, ends included.
  """
  below = np.cumsum(probabilities)
  parts = np.array([1 - share, 1 + share]) / 2 * below[-1]
  first, last = np.minimum(np.searchsorted(below, parts), len(values) - 1)
  return float(values[first]), float(values[last])
