"""`mtface predict`: every face in photographs, videos and cameras, and what a network says of
it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from mtface.errors import UserError
from mtface.faces import crop, video
from mtface.progress import progress, warn
from mtface.publish.inputs import Input
from mtface.publish.predictor import Predictor
from mtface.publish.sinks import Seen, Sink, opened


@dataclasses.dataclass
class Count:
  """What was looked at.

  Attributes:
    inputs: how many were given.
    photos, frames: how many were looked at.
    faces: in them.
    without: photographs in which no face was found.
    failed: inputs that could not be read to their end.
  """

  inputs: int = 0
  photos: int = 0
  frames: int = 0
  faces: int = 0
  without: int = 0
  failed: list[str] = dataclasses.field(default_factory=list)

  def add(self, seen: Seen) -> None:
    """Counts a photograph or a frame."""
    self.faces += len(seen.faces)
    self.frames += seen.frame is not None
    self.photos += seen.frame is None
    self.without += seen.frame is None and not seen.faces

  def fail(self, of: Input, error: UserError) -> None:
    """Tells what is wrong with an input, and goes on if there are others.

    Raises:
      UserError: there are none.
    """
    if self.inputs == 1:
      raise error
    self.failed.append(of.name)
    warn(f'{" ".join(str(error).splitlines())}; left out')

  def __str__(self) -> str:
    numbers = {
      'faces': self.faces,
      'photographs': self.photos,
      'photographs without a face': self.without,
      'frames of videos': self.frames,
    }
    return ', '.join(f'{name}: {n:,}' for name, n in numbers.items() if n or name == 'faces')


def predict(
  model: Predictor,
  inputs: Sequence[Input],
  outputs: Sequence[pathlib.Path] = (),
  *,
  every: int = 1,
  timeline: bool = False,
  second_look: bool = False,
) -> Count:
  """Looks at all inputs, and writes what is found to all outputs (`sinks.opened`).

  Args:
    model: see `mtface.load`.
    inputs: see `inputs.find_inputs`. What cannot be read is told in a line, and the others go on.
    outputs: see `sinks.opened`.
    every: of videos, each `every`-th frame is looked at.
    timeline: whether to write that of each video too.
    second_look: whether to look again, with lower thresholds, at photographs in which no face is
      found.

  Raises:
    UserError: the only input cannot be read, or an output cannot be written.
  """
  if every < 1:
    raise UserError(f'--every={every}: expected 1 (all frames) or more')
  count = Count(len(inputs))
  with opened(outputs, model.model.questions, every=every, timeline=timeline) as sinks:
    keep = any(sink.draws for sink in sinks)
    photos = [of for of in inputs if of.kind == 'photo']
    for seen in _photos(model, photos, keep, second_look, count):
      _give(seen, sinks, count)
    for of in inputs:
      if of.kind != 'photo':
        _clip(model, of, every, keep, sinks, count)
  return count


def _give(seen: Seen, sinks: Sequence[Sink], count: Count) -> None:
  count.add(seen)
  for sink in sinks:
    sink.add(seen)


def _photos(
  model: Predictor, photos: Sequence[Input], keep: bool, second_look: bool, count: Count
) -> Iterator[Seen]:
  def read() -> Iterator[tuple[np.ndarray, Seen]]:
    for of in progress(photos, 'photographs', total=len(photos)):
      try:
        photo = crop.read_image(of.path)
      except UserError as error:
        count.fail(of, error)
        continue
      yield photo, Seen(of, photo.shape[:2], (), photo if keep else None)

  for faces, seen in model.stream(read(), second_look=second_look):
    yield seen._replace(faces=faces)


def _clip(
  model: Predictor, of: Input, every: int, keep: bool, sinks: Sequence[Sink], count: Count
) -> None:
  """A video, or a camera until it ends or the user stops it (Ctrl-C), which keeps what was seen."""
  is_camera, whole = of.kind == 'camera', False

  def read() -> Iterator[tuple[np.ndarray, Seen]]:
    try:
      for index, seconds, image in _read(of, every):
        yield image, Seen(of, image.shape[:2], (), image if keep else None, index, seconds)
    except UserError as error:
      count.fail(of, error)

  try:
    with contextlib.suppress(KeyboardInterrupt) if is_camera else contextlib.nullcontext():
      for faces, seen in model.stream(read(), wait=not is_camera):
        _give(seen._replace(faces=faces), sinks, count)
    whole = of.name not in count.failed
  finally:
    for sink in sinks:
      sink.ended(of, whole)


def _read(of: Input, every: int) -> Iterator[video.Frame]:
  if of.kind == 'camera':
    return video.camera(int(of.name), every)
  total = -(-video.form_of(of.path).frames // every)  # the first frame is looked at too

  def fewer(readable: int, promised: int) -> None:
    warn(f'{of.name}: {readable:,} of {promised:,} frames can be read; those are used')

  return progress(video.frames(of.path, every, fewer), of.name, total=total or None)
