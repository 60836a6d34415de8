"""What a network says over a clip: each task over seconds, and the share of frames with a face.

Of a frame with several faces the main one counts: the largest, or that of the frame before while it
is nearly as large (`mtface.faces.video.follow`). A row is a span of time; its numbers are means
over the frames in it that have a face.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtface.faces import video
from mtface.faces.detect import Detection
from mtface.files import replaced, write_csv
from mtface.inference.answers import Face, Question
from mtface.publish import boxes

FINEST = 0.1  # seconds: spans are multiples of it
_MOST_ROWS = 200
_STEPS = (1, 2, 5, 10, 20, 50, 100, 300, 600, 1200, 3000, 6000, 18000, 36000)  # of FINEST
_MOST_LINES = 8  # classes in a panel: those that are the most probable over the clip

# Okabe and Ito's palette, which colour-blind people tell apart; from the ninth line on, dashed.
_PALETTE = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#000000', '#8C8C00')
_DASHES = ('-', '--', ':', '-.')


@dataclasses.dataclass
class _Span:
  """Sums over frames.

  Attributes:
    frames: how many.
    with_face: of them, those in which a face was found.
    sums: {task: [C]} of the main faces' probabilities.
    ages: {task: sum of values}.
  """

  frames: int = 0
  with_face: int = 0
  sums: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  ages: dict[str, float] = dataclasses.field(default_factory=dict)

  def add(self, other: _Span) -> None:
    """Adds another one's."""
    self.frames += other.frames
    self.with_face += other.with_face
    for task, values in other.sums.items():
      self.sums[task] = self.sums.get(task, 0.0) + values
    for task, value in other.ages.items():
      self.ages[task] = self.ages.get(task, 0.0) + value


class Timeline:
  """Adds up a clip, frame by frame; memory grows with its seconds, not with its frames."""

  def __init__(self, questions: Mapping[str, Question]):
    self._questions = questions
    self._spans: dict[int, _Span] = {}
    self._before: video.Box | None = None

  def add(self, seconds: float, faces: Sequence[Face]) -> None:
    """Adds a frame with its faces, largest first."""
    span = _Span(frames=1)
    if face := self._main(faces):
      span.with_face = 1
      for name, answer in face.answers.items():
        span.sums[name] = np.array(list(answer.probabilities.values()))
        if answer.value is not None:
          span.ages[name] = answer.value
    self._spans.setdefault(int(seconds / FINEST + 1e-6), _Span()).add(span)

  def _main(self, faces: Sequence[Face]) -> Face | None:
    found = [_detection(face) for face in faces]
    main = video.follow(found, self._before)
    if main is None:
      return None
    self._before = main.box
    return faces[next(i for i, face in enumerate(found) if face is main)]

  def rows(self) -> list[dict[str, Any]]:
    """The timeline: at most about `_MOST_ROWS` rows of equal spans, in order. Columns are `seconds`
    (where the span starts), `frames`, `share_with_face`, and for each task `<task>` (of ages, the
    mean value) and `<task>/<class>`, the mean probability; these are None where no frame of the
    span has a face.
    """
    if not self._spans:
      return []
    wanted = (max(self._spans) + 1) / _MOST_ROWS
    step = next((step for step in _STEPS if step >= wanted), math.ceil(wanted))
    merged: dict[int, _Span] = {}
    for at, span in self._spans.items():
      merged.setdefault(at // step, _Span()).add(span)
    return [self._row(at * step * FINEST, merged[at]) for at in sorted(merged)]

  def _row(self, seconds: float, span: _Span) -> dict[str, Any]:
    row: dict[str, Any] = {
      'seconds': round(seconds, 3),
      'frames': span.frames,
      'share_with_face': span.with_face / span.frames,
    }
    for name, of in self._questions.items():
      row |= dict(_columns(name, of, span))
    return row

  def write(self, path: pathlib.Path, title: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes `path` with the endings .csv and .png, and returns both."""
    rows = self.rows()
    numbers, picture = path.with_suffix('.csv'), path.with_suffix('.png')
    columns = list(rows[0]) if rows else ['seconds', 'frames', 'share_with_face']
    write_csv(numbers, columns, (['' if x is None else x for x in row.values()] for row in rows))
    draw_timeline(picture, title, rows, self._questions)
    return numbers, picture


def _detection(face: Face) -> Detection:
  left, top, width, height = face.box
  return Detection((left, top, left + width, top + height), face.confidence, np.empty((0, 2)))


def _columns(name: str, of: Question, span: _Span) -> Iterator[tuple[str, float | None]]:
  count = span.with_face
  if of.task.values:
    yield name, span.ages[name] / count if count else None
  means = span.sums[name] / count if count else [None] * of.task.num_classes
  for text, mean in zip(of.task.classes, means, strict=True):
    yield f'{name}/{text}', None if mean is None else float(mean)


def draw_timeline(
  path: pathlib.Path,
  title: str,
  rows: Sequence[Mapping[str, Any]],
  questions: Mapping[str, Question],
) -> None:
  """Draws a timeline: a panel for each task, and the share of frames with a face below."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(10, 1.2 + 1.9 * len(questions) + 1.3), layout='constrained')
  FigureCanvasAgg(figure)
  heights = [1.9] * len(questions) + [1.3]
  *panels, below = figure.subplots(
    len(heights), 1, sharex=True, squeeze=False, height_ratios=heights
  )[:, 0]
  seconds = [row['seconds'] for row in rows]
  for axes, (name, of) in zip(panels, questions.items(), strict=True):
    _panel(axes, name, of, seconds, rows)
  below.fill_between(seconds, [row['share_with_face'] for row in rows], step='mid', color='#8a8a8a')
  below.set(ylim=(0, 1.02), ylabel='frames with\na face', xlabel='seconds')
  figure.suptitle(title, fontsize=11)
  with replaced(path) as partial:
    figure.savefig(partial, dpi=110, format='png')


def _panel(
  axes: Any,
  name: str,
  of: Question,
  seconds: Sequence[float],
  rows: Sequence[Mapping[str, Any]],
) -> None:
  """Probabilities of classes over seconds; of ages, the value."""
  lines = [name] if of.task.values else _lines(name, of, rows)
  for i, column in enumerate(lines):
    values = [math.nan if row[column] is None else row[column] for row in rows]
    label = column.removeprefix(f'{name}/')
    style = {'color': _colour(name, label, i), 'linestyle': _DASHES[i % len(_DASHES)]}
    label = label.replace('_', ' ')
    axes.plot(seconds, values, label=label, marker='.', markersize=3, linewidth=1.4, **style)
  if of.task.values:
    axes.set(ylabel=f'{name}\n(years)')
  else:
    kind = 'margin' if of.readout == 'margins' else 'probability'
    axes.set(ylabel=f'{name}\n({kind})', **({} if kind == 'margin' else {'ylim': (-0.02, 1.02)}))
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
  axes.grid(alpha=0.3)


def _colour(name: str, label: str, i: int) -> str:
  """Of the i-th line of a panel; genders have the colours of their boxes."""
  if name == boxes.GENDER and label in boxes.COLOURS:
    return '#{:02x}{:02x}{:02x}'.format(*boxes.COLOURS[label])
  return _PALETTE[i % len(_PALETTE)]


def _lines(name: str, of: Question, rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The columns to draw, in the order of classes: those of the largest means."""
  columns = [f'{name}/{text}' for text in of.task.classes]
  known = [row for row in rows if row[columns[0]] is not None]
  means = {column: sum(row[column] for row in known) for column in columns}
  most = sorted(columns, key=lambda column: -means[column])[:_MOST_LINES]
  return [column for column in columns if column in most]
