"""Sources of clips: folders of video files, or prepared sets whose records are the faces of frames.

A folder is FOLDER/<class>/<clip>.avi (mp4, mov, mkv, ...): faces are found frame by frame, cropped
without a margin and resized to the network's input (Savchenko 2021, section 2.2), as the builders
of afew and vgaf do. A source has the attributes `clip` (text), `frame` (int) and `faces`, which is
0 in the one record that represents a clip without a face; its label is masked, and stored in
`label` instead.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mtface import process
from mtface.data.names import SourceName
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.faces import crop, folders, video
from mtface.features.descriptors import LEVELS, new_moments
from mtface.features.extract import FeatureNetwork, any_source, l2_normalized
from mtface.files import local_path
from mtface.progress import progress, warn
from mtface.tasks import get_task

ENDINGS = folders.VIDEOS
BOXES = ('detect', 'whole')
Faces = Iterator[tuple[int, np.ndarray]]  # (frame, uint8 [H, W, C]), frame by frame


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip with a label.

  Attributes:
    name: unique in its set.
    label: the name of its class.
    faces: returns its faces, see Faces; raises a `UserError` if the file is damaged.
  """

  name: str
  label: str
  faces: Callable[[], Faces]


@dataclasses.dataclass(frozen=True)
class ClipSet:
  """The clips of a folder or source.

  Attributes:
    name: the name of the folder or source.
    classes: class names, in the order of labels and tables.
    clips: the clips.
    source: the prepared set; None for a folder.
  """

  name: str
  classes: tuple[str, ...]
  clips: tuple[Clip, ...]
  source: Source | None = None


@dataclasses.dataclass(frozen=True)
class Described:
  """The descriptors of the K clips that could be read.

  Attributes:
    vectors: float32 [K, 4D], of unit length, or zeros for a clip without a face.
    labels: text [K], class names.
    faces: int [K], the number of faces in each.
    damaged: number of further clips, which could not be read.
  """

  vectors: np.ndarray
  labels: np.ndarray
  faces: np.ndarray
  damaged: int


@dataclasses.dataclass(frozen=True)
class Reading:
  """How faces are extracted from clips.

  Attributes:
    level: `clip`: the main face of each frame, see `video.follow`; `group`: all faces.
    boxes: `detect`: MTCNN finds the faces; `whole`: each frame is a face.
    every: only every `every`-th frame is used.
  """

  level: str = 'clip'
  boxes: str = 'detect'
  every: int = 1

  def __post_init__(self) -> None:
    for flag, value, known in (('level', self.level, LEVELS), ('boxes', self.boxes, BOXES)):
      if value not in known:
        raise UserError(f'--{flag}={value}: expected {" or ".join(known)}')
    if self.every < 1:
      raise UserError(f'--every={self.every}: expected 1 (all frames) or more')


def load_clips(
  evaluator: Evaluator, text: str, flag: str, reading: Reading, task: str | None
) -> ClipSet:
  """The clips that a flag refers to: a folder, a source, or one of the run's evaluation sets.

  Args:
    evaluator: the run's evaluator.
    text: the flag's value.
    flag: the flag's name, for errors.
    reading: how faces are extracted from a folder's clips; `level` also constrains a source.
    task: which labels of a source to use; None: its only task. A folder has classes instead.

  Raises:
    UserError: no such folder or source, no clips in it, or it lacks the required information.
  """
  folder = local_path(text)
  if folder.is_dir():
    if task:
      raise UserError(
        f'--task={task}: applies only to sources; the classes of {text} are its subfolders'
      )
    return folder_clips(folder, evaluator.config.image_shape, reading)
  if text not in evaluator.config.evaluation.sets:
    try:
      SourceName.parse(text)
    except UserError as error:
      raise UserError(
        f'--{flag}={text}: is not a folder of clips (FOLDER/<class>/<clip>.avi); {error}'
      ) from error
  return source_clips(any_source(evaluator, text, f'--{flag}'), reading.level, task)


def folder_clips(folder: pathlib.Path, image_shape: Sequence[int], reading: Reading) -> ClipSet:
  """The clips of FOLDER/<class>/<clip>.avi, sorted by name; no file is opened yet."""
  height, width, channels = image_shape
  if height != width:
    raise UserError(
      f'config.image_shape is {height}x{width}; faces of clips are square, so it must be square too'
    )
  cut = functools.partial(file_faces, size=height, channels=channels, reading=reading)
  clips, classes = [], []
  for of_class in folders.folders(folder):
    files = folders.files(of_class, ENDINGS)
    clips += [
      Clip(f'{of_class.name}/{path.name}', of_class.name, functools.partial(cut, path))
      for path in files
    ]
    classes += [of_class.name] if files else []
  if not clips:
    raise UserError(
      f'{folder}: contains no clips; expected <class>/<clip> with extension {", ".join(ENDINGS)}'
    )
  return ClipSet(str(folder), tuple(classes), tuple(clips))


def file_faces(path: pathlib.Path, *, size: int, channels: int, reading: Reading) -> Faces:
  """The faces of a video file, uint8 [size, size, channels]; one frame at a time is in memory.

  Raises:
    UserError: not one frame of the file can be read.
  """
  before = None

  def on_fewer(there: int, promised: int) -> None:
    warn(f'{path}: only {there} of {promised} frames can be read; using those')

  for frame in video.frames(path, reading.every, on_fewer):
    height, width = frame.image.shape[:2]
    boxes = [(0, 0, width, height)]
    if reading.boxes == 'detect':
      found = video.faces_of(frame.image)
      main = video.follow(found, before)
      before = main.box if main else before
      boxes = [face.box for face in (found if reading.level == 'group' or not main else [main])]
    for box in boxes:
      yield frame.index, crop.crop_face(frame.image, box, size, channels)


def source_clips(source: Source, level: str, task: str | None) -> ClipSet:
  """The labelled clips of a prepared set.

  Raises:
    UserError: it has no clips, no such labels, different labels in one clip, or several faces per
      frame at the level `clip`.
  """
  found = source.attributes
  missing = [name for name in ('clip', 'frame', 'faces') if name not in found]
  if missing:
    raise UserError(
      f'{source.name}: lacks the attributes {", ".join(missing)}; expected a set of clips, such as '
      'afew'
    )
  task = _task_of(source, task)
  labels = np.where(source.mask[task], source.labels[task], -1)
  if 'label' in found:
    labels = np.where(found['faces'] == 0, found['label'], labels)
  order = np.flatnonzero(labels >= 0)
  order = order[np.lexsort((found['frame'][order], found['clip'][order]))]
  if not len(order):
    raise UserError(
      f'{source.name}: no clip is labelled for {task}; choose another part of the set'
    )
  starts = np.flatnonzero(np.r_[True, found['clip'][order][1:] != found['clip'][order][:-1]])
  clips = tuple(
    _source_clip(source, rows, labels[rows], task, level) for rows in np.split(order, starts[1:])
  )
  return ClipSet(source.name, get_task(task).classes, clips, source)


def _task_of(source: Source, name: str | None) -> str:
  of_clips = [
    task for task in source.labels if not get_task(task).multi_label and name in (None, task)
  ]
  if len(of_clips) != 1:
    raise UserError(
      f'--task{f"={name}" if name else " is missing"}: {source.name} has the labels '
      f'{", ".join(source.labels)}; pass one single-label task'
    )
  return of_clips[0]


def _source_clip(
  source: Source, rows: np.ndarray, labels: np.ndarray, task: str, level: str
) -> Clip:
  """The clip made of these rows; `labels` are their int labels."""
  found = source.attributes
  name = str(found['clip'][rows[0]])
  if (labels != labels[0]).any():
    raise UserError(
      f'{source.name}: frames of the clip {name} have different {task} labels; build the set again'
    )
  rows = rows[found['faces'][rows] > 0]
  frames = found['frame'][rows]
  if level == 'clip' and len(np.unique(frames)) < len(frames):
    raise UserError(
      f'{source.name}: the clip {name} has several faces in one frame; pass --level=group'
    )

  def faces() -> Faces:
    for row, frame in zip(rows, frames, strict=True):
      yield int(frame), source.gather(row)

  return Clip(name, get_task(task).classes[labels[0]], faces)


def describe(clips: ClipSet, network: FeatureNetwork, level: str) -> Described:
  """The L2-normalised descriptors of the clips, by `mtface.features.descriptors`. Damaged clips are
  skipped with a warning.

  Only two batches of faces and one frame are in memory at a time, however long the clips are.
  """
  count, size = len(clips.clips), network.evaluator.extractor.batch_size
  vectors, faces = np.zeros((count, 4 * network.size), np.float32), np.zeros(count, int)
  damaged: set[int] = set()
  current, moments = -1, new_moments(level)
  for features, (numbers, frames) in network.stream(_batches(clips, size, damaged)):
    for number in np.unique(numbers):
      if number != current:
        current, moments = number, new_moments(level)
      moments.add(features[numbers == number], frames[numbers == number])
      vectors[number] = moments.descriptor()  # of the faces so far; the next batch may contain more
      faces[number] += (numbers == number).sum()
  keep = np.array([number not in damaged for number in range(count)])
  labels = np.array([clip.label for clip in clips.clips])
  found = Described(l2_normalized(vectors[keep]), labels[keep], faces[keep], len(damaged))
  without = int((found.faces == 0).sum())
  process.say(
    f'{clips.name}: {count} clips, {found.faces.sum():,} faces; {without} without a face, '
    f'{len(damaged)} damaged'
  )
  return found


def _batches(
  clips: ClipSet, size: int, damaged: set[int]
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
  """Yields (faces [b, H, W, C], (clips [b], frames [b])) of all clips in order; adds unreadable
  clips to `damaged`.
  """
  images: list[np.ndarray] = []
  places: list[tuple[int, int]] = []

  def batch() -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    numbers, frames = np.array(places).T
    return np.stack(images), (numbers, frames)

  for number, clip in enumerate(
    progress(clips.clips, f'clips of {clips.name}', total=len(clips.clips))
  ):
    try:
      for frame, face in clip.faces():
        images.append(face)
        places.append((number, frame))
        if len(images) == size:
          yield batch()
          images, places = [], []
    except UserError as error:
      warn(f'{error}; skipping this clip')
      damaged.add(number)
  if images:
    yield batch()
