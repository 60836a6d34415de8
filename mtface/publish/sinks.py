"""Where `mtface predict` puts what it finds: lines of JSON, a table, pictures, videos and
timelines.
"""

from __future__ import annotations

import contextlib
import csv
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np
from PIL import Image

from mtface.errors import UserError
from mtface.faces import video
from mtface.files import replaced
from mtface.inference.answers import Answer, Face, Question
from mtface.progress import warn
from mtface.publish import boxes
from mtface.publish.inputs import Input
from mtface.publish.timeline import Timeline

PICTURES = ('.jpg', '.jpeg', '.png', '.webp')
VIDEOS = tuple(video.CODECS)
LINES = ('.jsonl', '.json')
LINES_FILE = 'predictions.jsonl'
_QUALITY = 92  # of JPEG and WebP


class Seen(NamedTuple):
  """A photograph or a frame, and its faces.

  Attributes:
    of: where it is from.
    shape: height and width in pixels.
    faces: largest first.
    photo: RGB uint8 [H, W, 3]; None where no sink draws.
    frame: its number in a video, from 0; None for a photograph.
    seconds: its time in a video.
  """

  of: Input
  shape: tuple[int, int]
  faces: Sequence[Face]
  photo: np.ndarray | None = None
  frame: int | None = None
  seconds: float | None = None


class Sink(Protocol):
  """One output.

  Attributes:
    draws: whether it needs the pixels.
  """

  draws: bool

  def add(self, seen: Seen) -> None:
    """Takes a photograph, or the next frame of a video."""

  def ended(self, of: Input, whole: bool) -> None:
    """Takes note that a video is at its end, or that the rest of it cannot be read."""


class Lines:
  """A line of JSON for each photograph or frame: input, size (width and height), of videos frame
  and seconds, and faces (`Face.to_json`).
  """

  draws = False

  def __init__(self, file: TextIO):
    self._file = file

  def add(self, seen: Seen) -> None:
    """As of `Sink`."""
    line: dict[str, Any] = {'input': seen.of.name, 'size': [seen.shape[1], seen.shape[0]]}
    if seen.frame is not None and seen.seconds is not None:
      line |= {'frame': seen.frame, 'seconds': round(seen.seconds, 3)}
    line['faces'] = [face.to_json() for face in seen.faces]
    print(json.dumps(line, ensure_ascii=False), file=self._file, flush=True)

  def ended(self, of: Input, whole: bool) -> None:
    """As of `Sink`: there is nothing to do."""


class Table:
  """A row of CSV for each face. Columns: input, frame, seconds, face (its number, the largest is
  0), x, y, width, height, confidence; for each task `<task>` (the label; none of a multi-label
  task), of ages also `<task> value`, `<task> low` and `<task> high`, and `<task>/<class>`, the
  probability.
  """

  draws = False

  def __init__(self, file: TextIO, questions: Mapping[str, Question]):
    self._writer = csv.writer(file)
    self._questions = questions
    names = [name for of in questions.values() for name in _names(of)]
    where = ['input', 'frame', 'seconds', 'face', 'x', 'y', 'width', 'height', 'confidence']
    self._writer.writerow([*where, *names])

  def add(self, seen: Seen) -> None:
    """As of `Sink`."""
    seconds = None if seen.seconds is None else round(seen.seconds, 3)
    for number, face in enumerate(seen.faces):
      where = [seen.of.name, seen.frame, seconds, number, *face.box, round(face.confidence, 6)]
      values = [x for name, of in self._questions.items() for x in _values(of, face.answers[name])]
      self._writer.writerow([*where, *values])

  def ended(self, of: Input, whole: bool) -> None:
    """As of `Sink`: there is nothing to do."""


def _names(of: Question) -> list[str]:
  name = of.task.name
  label = [] if of.task.multi_label else [name]
  ages = [f'{name} {what}' for what in ('value', 'low', 'high')] if of.task.values else []
  return [*label, *ages, *(f'{name}/{text}' for text in of.task.classes)]


def _values(of: Question, answer: Answer) -> list[Any]:
  label = [] if of.task.multi_label else [answer.label]
  ages = [answer.value, *(answer.interval or (None, None))] if of.task.values else []
  return [*label, *ages, *(round(p, 6) for p in answer.probabilities.values())]


class _Named:
  """Files in a folder, called after what they are about; of equal names the later ones are
  numbered.
  """

  def __init__(self, folder: pathlib.Path, ending: str):
    self._folder, self._ending = folder, ending
    self._taken: dict[str, Input] = {}

  def __call__(self, of: Input) -> pathlib.Path:
    """The path for an input, which is the same each time."""
    names = (f'{of.stem}{f"_{i}" if i else ""}' for i in range(len(self._taken) + 1))
    name = next(name for name in names if self._taken.get(name, of) == of)
    self._taken[name] = of
    return self._folder / f'{name}{self._ending}'


class _One:
  """One file, for what is the only input of its kind."""

  def __init__(self, path: pathlib.Path):
    self._path = path

  def __call__(self, of: Input) -> pathlib.Path:
    """The path."""
    return self._path


class Pictures:
  """A picture with boxes and labels for each photograph."""

  draws = True

  def __init__(self, path_of: _Named | _One):
    self._path_of = path_of

  def add(self, seen: Seen) -> None:
    """As of `Sink`."""
    if seen.photo is None or seen.frame is not None:
      return
    path = self._path_of(seen.of)
    form = Image.registered_extensions()[path.suffix.lower()]
    with replaced(path) as partial:
      drawn = Image.fromarray(boxes.draw(seen.photo, seen.faces))
      drawn.save(partial, form, quality=_QUALITY)

  def ended(self, of: Input, whole: bool) -> None:
    """As of `Sink`: there is nothing to do."""


class Videos:
  """A video with boxes and labels for each video or camera, without sound."""

  draws = True

  def __init__(self, path_of: _Named | _One, every: int):
    self._path_of, self._every = path_of, every
    self._writer: video.Writer | None = None
    self._scale = 1.0

  def add(self, seen: Seen) -> None:
    """As of `Sink`."""
    if seen.photo is None or seen.frame is None:
      return
    if self._writer is None:
      path = self._path_of(seen.of)
      with contextlib.suppress(OSError):  # the writer tells
        path.parent.mkdir(parents=True, exist_ok=True)
      rate = video.form_of(seen.of.path).rate if seen.of.kind == 'video' else video.USUAL_RATE
      self._writer = video.Writer(path, rate / self._every)
      self._scale = boxes.scale_for(seen.shape)  # one for the whole video
    drawn = boxes.draw(seen.photo, seen.faces, self._scale)
    height, width = (side - side % 2 for side in drawn.shape[:2])  # codecs want even numbers
    self._writer.add(drawn[:height, :width])

  def ended(self, of: Input, whole: bool) -> None:
    """As of `Sink`."""
    if self._writer is not None:
      self._writer.close(whole)
      self._writer = None


class Timelines:
  """The timeline of each video or camera, NAME.timeline.csv and .png."""

  draws = False

  def __init__(self, folder: pathlib.Path, questions: Mapping[str, Question]):
    self._path_of = _Named(folder, '.timeline.csv')
    self._questions = questions
    self._timeline: Timeline | None = None

  def add(self, seen: Seen) -> None:
    """As of `Sink`."""
    if seen.seconds is not None:
      self._timeline = self._timeline or Timeline(self._questions)
      self._timeline.add(seen.seconds, seen.faces)

  def ended(self, of: Input, whole: bool) -> None:
    """As of `Sink`."""
    if self._timeline is not None and whole:
      self._timeline.write(self._path_of(of), of.name)
    self._timeline = None


def check_outputs(outputs: Sequence[pathlib.Path], inputs: Sequence[Input], timeline: bool) -> None:
  """Tells what does not go together before anything is looked at.

  Raises:
    UserError: an ending is unknown; a picture or video is asked for and there are more inputs of
      its kind, or none; an output would replace an input; or a timeline has no folder or no video.
  """
  clips = [of for of in inputs if of.kind != 'photo']
  has_folder = any([is_folder(path) for path in outputs])  # all of them, for their endings
  for path in outputs:
    for endings, kind, count in (
      (PICTURES, 'photograph', len(inputs) - len(clips)),
      (VIDEOS, 'video', len(clips)),
    ):
      if path.suffix.lower() in endings and count != 1:
        raise UserError(
          f'--output={path}: is one {"picture" if kind == "photograph" else kind}, but there are '
          f'{count} {kind}s; pass a folder'
        )
    for of in inputs:
      if of.kind != 'camera' and of.path.resolve().is_relative_to(path.resolve()):
        raise UserError(
          f'--output={path}: {of.name} is there already, and is an input; write to another place'
        )
  if timeline and not (clips and has_folder):
    raise UserError('--timeline: is of a video, and needs a folder: pass --output=FOLDER')


def is_folder(path: pathlib.Path) -> bool:
  """Returns whether an output is a folder: its name has none of the endings that are known."""
  known = (*LINES, '.csv', *PICTURES, *VIDEOS)
  if path.suffix.lower() not in known and path.suffix and not path.is_dir():
    raise UserError(
      f'--output={path}: the ending {path.suffix} is unknown; expected {", ".join(known)}, or a '
      'folder'
    )
  return path.suffix.lower() not in known


@contextlib.contextmanager
def opened(
  outputs: Sequence[pathlib.Path],
  questions: Mapping[str, Question],
  *,
  every: int = 1,
  timeline: bool = False,
) -> Iterator[list[Sink]]:
  """The sinks of outputs: FILE.jsonl, FILE.csv, a picture, a video, or a folder for lines, pictures
  and videos (and timelines). Without any, lines go to stdout. Text files have their names when they
  are whole; what the user interrupted (Ctrl-C) is kept as NAME.interrupted.
  """
  with contextlib.ExitStack() as stack:
    sinks: list[Sink] = [] if outputs else [Lines(sys.stdout)]
    for path in outputs:
      ending = path.suffix.lower()
      if ending == '.csv':
        sinks.append(Table(stack.enter_context(_text(path)), questions))
      elif ending in LINES:
        sinks.append(Lines(stack.enter_context(_text(path))))
      elif ending in PICTURES:
        sinks.append(Pictures(_One(path)))
      elif ending in VIDEOS:
        sinks.append(Videos(_One(path), every))
      elif is_folder(path):
        sinks.append(Lines(stack.enter_context(_text(path / LINES_FILE))))
        sinks += [Pictures(_Named(path, '.jpg')), Videos(_Named(path, '.mp4'), every)]
        sinks += [Timelines(path, questions)] if timeline else []
    yield sinks


@contextlib.contextmanager
def _text(path: pathlib.Path) -> Iterator[TextIO]:
  with replaced(path) as partial:
    try:
      # Names that are not UTF-8 are kept: their bytes are escaped.
      with partial.open('w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        yield file
    except KeyboardInterrupt:
      kept = path.with_name(f'{path.name}.interrupted')
      partial.replace(kept)
      warn(f'{kept}: what was found before the interruption')
      raise
