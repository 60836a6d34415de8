"""FairFace: 97,698 faces with annotated ethnicity, gender and age. See README.md in this folder."""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, detect, folders
from tfds_builders import base, detected, lists

# As published, and as copies on Kaggle and elsewhere call the same files.
SPLITS = {
  'train': ('fairface_label_train.csv', 'train_labels.csv'),
  'validation': ('fairface_label_val.csv', 'val_labels.csv'),
}
COLUMNS = ('file', 'age', 'gender', 'race', 'service_test')

# The file's words, and which classes of ethnicity7 and ethnicity5 they are. UTKFace's own page says
# that its fifth class is "Others (like Hispanic, Latino, Middle Eastern)", and has one Asian class
# beside the Indian one.
_ETHNICITIES = {
  'White': ('white', 'white'),
  'Black': ('black', 'black'),
  'Latino_Hispanic': ('latino_hispanic', 'other'),
  'East Asian': ('east_asian', 'asian'),
  'Southeast Asian': ('southeast_asian', 'asian'),
  'Indian': ('indian', 'indian'),
  'Middle Eastern': ('middle_eastern', 'other'),
}
_AGES = {
  ('more than 70' if name == '70+' else name): i
  for i, name in enumerate(tasks.get_task('age_decades').classes)
}
_GENDERS = {'Female': 0, 'Male': 1}
_SERVICE = {'true': True, 'false': False, '1': True, '0': False}  # a spreadsheet writes TRUE
_FACE_PLACE = (
  0.5  # of the side: the face's middle is in the middle half, at either of the two margins
)


class Entry(NamedTuple):
  """One row of a label file: the image's path, from the folder of the label files, and what is
  known by task.
  """

  file: str
  labels: Mapping[str, int]
  service_test: bool

  @property
  def image_id(self) -> str:
    """The path without its ending."""
    return os.path.splitext(self.file)[0]


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.gray48("48x48 grey: the detector's box, without margin"),
    base.rgb64("64x64 colour: the detector's box, without margin"),
    base.rgb224("224x224 colour: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download fairface-img-margin025-trainval.zip (or margin125) and the two label files from'
    ' https://github.com/joojs/fairface, unpack, and give the folder that holds '
    'fairface_label_train.csv,'
    ' fairface_label_val.csv, train/ and val/'
  )
  TASKS = ('ethnicity7', 'ethnicity5', 'gender', 'age_decades')
  FROM_PHOTOGRAPHS = True
  HAS_LANDMARKS = True
  RESUMABLE = True
  NOTES = detected.notes_with('the central square', 'the one in the middle')

  def attributes(self) -> dict[str, Any]:
    """The set's service_test, and what the detector said, in pixels of the image."""
    return {'service_test': tfds.features.Scalar(np.bool_)} | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the label files and the images: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'fairface_label_train.csv, fairface_label_val.csv and train/',
      lambda folder: (
        all(_list_of(folder, split) for split in SPLITS) and (folder / 'train').is_dir()
      ),
    )

  def items(self, source: Any) -> dict[str, Sequence[Entry]]:
    """Returns the rows of the two label files; no image is in both."""
    self._folder = source
    of_splits = {split: read_labels(path) for split in SPLITS if (path := _list_of(source, split))}
    _check_ids(source, of_splits)
    listed = {source / entry.file for entry in itertools.chain.from_iterable(of_splits.values())}
    for folder in (source / 'train', source / 'val'):
      if folder.is_dir():
        folders.tell_unread(folder, listed, 'not in the label files')
    return dict(of_splits)

  def converter(self) -> Callable[[Entry], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one row."""
    config = self.builder_config
    return functools.partial(
      convert, folder=self._folder, size=config.size, channels=config.channels
    )


def _list_of(folder: pathlib.Path, split: str) -> pathlib.Path | None:
  return next((folder / name for name in SPLITS[split] if (folder / name).is_file()), None)


def _check_ids(folder: pathlib.Path, of_splits: Mapping[str, Sequence[Entry]]) -> None:
  """Raises UserError if two rows have one image id, in one file or in both."""
  first: dict[str, str] = {}
  for entry in itertools.chain.from_iterable(of_splits.values()):
    if (other := first.setdefault(entry.image_id, entry.file)) != entry.file:
      raise folders.one_id(entry.image_id, folder / other, folder / entry.file)
  if len(first) < sum(map(len, of_splits.values())):
    both = set.intersection(
      *({entry.image_id for entry in of_split} for of_split in of_splits.values())
    )
    raise errors.UserError(
      f'{folder}: both label files name {min(both)}; expected each image in one split: download '
      'both files again'
    )


def read_labels(path: pathlib.Path) -> list[Entry]:
  """Returns the rows of a label file.

  Raises:
    UserError: a column is missing, a file is named twice, or a word is none of the set's.
  """
  entries: dict[str, Entry] = {}
  for line, row in lists.rows(path, COLUMNS):
    entry = _entry(path, line, row)
    if entry.file in entries:
      raise errors.UserError(
        f'{path}: {entry.file} is named twice, again in line {line}; expected each image '
        'once: download the label'
        ' file again'
      )
    entries[entry.file] = entry
  return list(entries.values())


def _entry(path: pathlib.Path, line: int, row: Mapping[str, str]) -> Entry:
  race = _word(path, line, 'race', row, _ETHNICITIES)
  labels = {
    f'ethnicity{n}': tasks.get_task(f'ethnicity{n}').classes.index(name)
    for n, name in zip((7, 5), race, strict=True)
  }
  labels['gender'] = _word(path, line, 'gender', row, _GENDERS)
  labels['age_decades'] = _word(path, line, 'age', row, _AGES)
  service = _word(
    path, line, 'service_test', {'service_test': row['service_test'].lower()}, _SERVICE
  )
  return Entry(row['file'].replace('\\', '/'), labels, service)


def _word(
  path: pathlib.Path, line: int, column: str, row: Mapping[str, str], words: Mapping[str, Any]
) -> Any:
  if row[column] in words:
    return words[row[column]]
  dates = (
    '; spreadsheets turn 10-19 into a date: use the file as downloaded' if column == 'age' else ''
  )
  raise errors.UserError(
    f'{path}: line {line} has the {column} {lists.shown(row[column])}; expected one of '
    f'{", ".join(words)}{dates}'
  )


def convert(
  entry: Entry, *, folder: pathlib.Path, size: int, channels: int
) -> list[base.Face | base.LeftOut]:
  """Turns one row into a face; where none is found, into the central square of the image, which is
  a crop already.
  """
  image_id, path = entry.image_id, folder / entry.file
  try:
    image = crop.read_image(path)
  except errors.UserError as error:
    return [
      base.LeftOut(image_id, 'damaged image' if path.exists() else 'missing file', str(error))
    ]
  height, width = image.shape[:2]
  choice = detect.inside(crop.central_square(height, width, _FACE_PLACE))
  whole = crop.central_square(height, width)
  face = detected.cut_out(image, size=size, channels=channels, choice=choice, fallback=whole)
  return [
    base.Face(
      image_id,
      face.image,
      labels=entry.labels,
      landmarks=face.landmarks,
      attributes={'service_test': np.bool_(entry.service_test), **face.attributes},
      digest=crop.content_digest(image),
      notes=face.notes,
    )
  ]
