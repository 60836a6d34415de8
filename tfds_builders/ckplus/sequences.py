"""CK+'s sequences with their labels: which frames are stored, and what the label files say of
them.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtface import errors, tasks
from mtface.faces import folders
from tfds_builders import lists

# The numbers of the emotion files, in mtface's terms.
EMOTIONS = ('neutral', 'angry', 'contempt', 'disgust', 'fear', 'happy', 'sad', 'surprise')
UNITS = tuple(int(name.removeprefix('AU')) for name in tasks.get_task('action_units').classes)
IMAGES = ('cohn-kanade-images', 'extended-cohn-kanade-images/cohn-kanade-images')
# An archive unpacks into its folder, or is unpacked into one of its own name.
LABELS = {
  'FACS': ('FACS', 'FACS_labels/FACS', 'FACS/FACS'),
  'Emotion': ('Emotion', 'Emotion_labels/Emotion', 'Emotion/Emotion'),
  'Landmarks': ('Landmarks', 'Landmarks/Landmarks'),
}
POINTS = 68

_FRAME = re.compile(
  r'S\d+_\d+_(\d+)(_facs|_emotion)?'
)  # S005_001_00000011: person, sequence, frame
_PERSON, _SEQUENCE = re.compile(r'S\d+'), re.compile(r'\d+')


class Frame(NamedTuple):
  """One image that is stored.

  Attributes:
    path: S005_001_00000011.png, which need not exist if a label file names it.
    subject: S005.
    number: the frame's.
    to_peak: frames until the peak; 0 at the peak.
    peak: whether it is one of the last frames; else it is the first one, which is neutral.
    emotion: 0 to 7, CK+'s; -1 if the set does not say.
    units: the action units that are listed; None if the set does not say.
    points: the file of its 68 points, which need not exist; None without Landmarks/.
  """

  path: pathlib.Path
  subject: str
  number: int
  to_peak: int
  peak: bool
  emotion: int
  units: tuple[int, ...] | None
  points: pathlib.Path | None

  @property
  def image_id(self) -> str:
    """The file's name without its ending."""
    return self.path.stem


def images_folder(folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of images in a folder; None if there is none."""
  return _people_in(folder, IMAGES)


def _people_in(folder: pathlib.Path, names: Sequence[str]) -> pathlib.Path | None:
  """The first of these folders that holds folders of people."""
  paths = [folder / name for name in names if (folder / name).is_dir()]
  return next((path for path in paths if _folders(path, _PERSON)), None)


def _folders(folder: pathlib.Path, name: re.Pattern[str]) -> list[pathlib.Path]:
  return [path for path in folders.folders(folder) if name.fullmatch(path.name)]


def read(folder: pathlib.Path, peaks: int) -> list[Frame]:
  """Returns the first frame of every sequence and its last `peaks` ones.

  The peak is the frame that the label files name, which is the last one: if it is missing, it is
  returned all the same, since another one would have its labels.

  Raises:
    UserError: label folders are missing, a label file is not in order, or two files have one id.
  """
  images = images_folder(folder)
  of = {kind: _people_in(folder, names) for kind, names in LABELS.items()}
  for kind in ('FACS', 'Emotion'):
    if of[kind] is None:
      raise errors.UserError(
        f'{folder}: found no {kind}/S005/ beside the images; expected the labels: unpack '
        f'{kind}_labels.zip too'
      )
  frames: list[Frame] = []
  for person in _folders(images, _PERSON) if images else []:
    for sequence in _folders(person, _SEQUENCE):
      frames += _frames_of(sequence, of, peaks)
  return frames


def _frames_of(
  sequence: pathlib.Path, of: Mapping[str, pathlib.Path | None], peaks: int
) -> list[Frame]:
  """The frames of S005/001 that are stored; a single frame is a peak."""
  place = f'{sequence.parent.name}/{sequence.name}'
  facs, emotion = (_label_file(of[kind], place, kind) for kind in ('FACS', 'Emotion'))
  paths = _numbered(folders.files(sequence, folders.IMAGES))
  named = [number for path in (facs, emotion) if path for number in _numbered([path])]
  if not paths and not named:
    return []
  peak = max(named or paths)
  paths = {peak: sequence / f'{place.replace("/", "_")}_{peak:08d}.png'} | paths
  numbers = sorted(number for number in paths if number <= peak)
  last = numbers[-min(peaks, max(len(numbers) - 1, 1)) :]
  at_peak, at_first = (_emotion(emotion), _units(facs)), (EMOTIONS.index('neutral'), None)
  return [
    Frame(
      paths[number],
      sequence.parent.name,
      number,
      peak - number,
      number in last,
      *(at_peak if number in last else at_first),
      of['Landmarks'] and of['Landmarks'] / place / f'{paths[number].stem}_landmarks.txt',
    )
    for number in sorted({numbers[0], *last})
  ]


def _numbered(paths: Iterable[pathlib.Path]) -> dict[int, pathlib.Path]:
  """Files by the number of their frame; those without one are none of the set's."""
  found = ((match, path) for path in paths if (match := _FRAME.fullmatch(path.stem)))
  numbers: dict[int, pathlib.Path] = {}
  for match, path in found:
    if (first := numbers.setdefault(int(match[1]), path)) != path:
      raise folders.one_id(path.stem, first, path)
  return numbers


def _label_file(folder: pathlib.Path | None, place: str, kind: str) -> pathlib.Path | None:
  """The only file of FACS/S005/001 or Emotion/S005/001; None if there is none."""
  if folder is None or not (folder / place).is_dir():
    return None
  paths = folders.files(folder / place, '.txt')
  if len(paths) > 1:
    raise errors.UserError(
      f'{paths[0]} and {paths[1]}: two {kind} files; expected one per sequence, of its peak'
    )
  return paths[0] if paths and folders.is_file_there(paths[0]) else None


def _rows(path: pathlib.Path, length: int, expected: str) -> list[list[float]]:
  """The numbers of a file, `length` in each row, in whatever notation."""
  found = []
  for line, text in lists.lines(path):
    try:
      row = [float(word) for word in text.split()]
      if len(row) != length or not np.isfinite(row).all():
        raise ValueError
    except ValueError:
      raise errors.UserError(
        f'{path}: line {line} is {lists.shown(text)}; expected {expected}'
      ) from None
    found.append(row)
  return found


def _emotion(path: pathlib.Path | None) -> int:
  """The number in a file such as `   5.0000000e+00`; -1 without one."""
  if path is None:
    return -1
  rows = _rows(path, 1, 'one number from 0 to 7')
  if len(rows) != 1 or rows[0][0] not in range(len(EMOTIONS)):
    found = lists.shown(', '.join(str(row[0]) for row in rows))
    raise errors.UserError(f'{path}: holds {found}; expected one number from 0 to 7')
  return int(rows[0][0])


def _units(path: pathlib.Path | None) -> tuple[int, ...] | None:
  """The action units that a file lists, with any intensity: 0 says that it is not known. None of a
  file without a row, since every peak shows something.
  """
  rows = _rows(path, 2, 'an action unit and its intensity') if path else []
  for unit, intensity in rows:
    if not (unit.is_integer() and unit > 0 and 0 <= intensity <= 5):
      raise errors.UserError(
        f'{path}: holds the action unit {unit:g} of intensity {intensity:g}; expected a whole '
        'number and an intensity from 0 to 5'
      )
  return tuple(int(unit) for unit, _ in rows) or None


def read_points(path: pathlib.Path | None) -> np.ndarray | None:
  """Returns float [68, 2] of a landmarks file, x and y in pixels; None if there is none, or it is
  not in order.
  """
  try:
    points = np.array(_rows(path, 2, '68 points')) if path and path.is_file() else None
  except errors.UserError:
    return None
  return points if points is not None and points.shape == (POINTS, 2) else None


def five_of(points: np.ndarray) -> np.ndarray:
  """Returns float32 [5, 2] of [68, 2] points in their usual order: the middle of either eye's six,
  the tip of the nose, and the corners of the mouth; the left of the picture first.
  """
  eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
  return np.stack([*eyes, points[30], points[48], points[54]]).astype(np.float32)


def labels_of(frame: Frame) -> dict[str, Any]:
  """Returns the known labels by task; contempt is not a class of emotion7."""
  labels: dict[str, Any] = {}
  if frame.emotion >= 0:
    name = EMOTIONS[frame.emotion]
    of = {task: tasks.get_task(task).classes for task in ('emotion8', 'emotion7')}
    labels |= {task: classes.index(name) for task, classes in of.items() if name in classes}
  if frame.units is not None:
    labels['action_units'] = np.array([unit in frame.units for unit in UNITS], np.int64)
  return labels
