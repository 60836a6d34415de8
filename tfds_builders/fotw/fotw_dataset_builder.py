"""FotW: photographs from all over the world, annotated with gender and smile. See README.md in this
folder.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, detect, folders, schemes
from tfds_builders import base, detected, lists

SPLITS = {
  'train': 'gender_fex_trset.csv',
  'validation': 'gender_fex_valset.csv',
  'test': 'test_gt.csv',
}
COLUMNS = ('image_name', 'bbox_x', 'bbox_y', 'bbox_width', 'bbox_height', 'gender', 'smile')
SMALLEST = 20  # pixels: MTCNN looks for no smaller face
OTHER = '2'  # in either column: not sure, or neither of the two

# The lists have 0 for male and 1 for female (the challenge's page on its metrics); mtface has 0 for
# female and 1 for male.
_CODES = {'gender': {'0': 1, '1': 0}, 'smile': {'0': 0, '1': 1}}
_DEPTH = 3  # folders between --manual_dir and a list


class Entry(NamedTuple):
  """One row of a list.

  Attributes:
    image_id: the split and the file's name without its ending.
    path: the file.
    box: left, top, right, bottom as annotated.
    labels: what is known by task.
  """

  image_id: str
  path: pathlib.Path
  box: detected.Box
  labels: Mapping[str, int]


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it, without margin unless the config's name has a crop:
  the one closest to the annotated box, or with `_centre` the one closest to the picture's centre.
  """

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb224("224x224 colour: the detector's box, without margin"),
    base.rgb64("64x64 colour: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'get the data of track 3 of the ChaLearn Looking at People challenge of CVPR 2016 '
    '(https://chalearnlap.cvc.uab.cat/, smile and gender; an account is needed), unpack it, and '
    f'give the folder that holds {SPLITS["train"]} with its images beside it, and the others'
  )
  TASKS = ('gender', 'smile')
  FROM_PHOTOGRAPHS = True
  HAS_LANDMARKS = True
  CROPS = True
  CHOICES = ('centre',)

  def notes(self) -> tuple[tuple[str, str], ...]:
    """Of the detection, by the choice of face, and of labels that are masked."""
    centre = bool(self.builder_config.choice)
    fallback, taken = (
      ('the central square', "the one closest to the picture's centre")
      if centre
      else ('the annotated box', 'the one closest to the annotated box')
    )
    masked = (
      ('gender_other', 'annotated as neither male nor female, or not sure; masked'),
      ('smile_other', 'annotated as neither smiling nor not, or not sure; masked'),
    )
    unusable = 'the annotated box has no area in the picture; the largest face is stored'
    return (
      *detected.notes_with(fallback, taken),
      *detected.scheme_notes(self.scheme),
      *masked,
      *(() if centre else (('box_unusable', unusable),)),
    )

  def attributes(self) -> dict[str, Any]:
    """What the detector said, in pixels of the picture."""
    return detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the lists, each beside its images, in it or in folders in it."""
    return self.find_in(manual_dir, SPLITS['train'], lambda folder: bool(_lists(folder, 'train')))

  def items(self, source: Any) -> dict[str, Sequence[Entry]]:
    """Returns the rows of the lists by split; validation and test only where they are there."""
    paths = {split: _lists(source, split) for split in SPLITS}
    for found in paths.values():
      if len(found) > 1:
        raise errors.UserError(
          f'{found[0]} and {found[1]}: two lists of one name; expected one: remove the other copy'
        )
    return {split: read_list(found[0], split) for split, found in paths.items() if found}

  def converter(self) -> Callable[[Entry], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one row."""
    config = self.builder_config
    return functools.partial(
      convert,
      size=config.size,
      channels=config.channels,
      scheme=self.scheme,
      centre=config.choice == 'centre',
    )


def _lists(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
  """The files of a split's name, at the least depth at which there is one."""
  for depth in range(_DEPTH + 1):
    found = sorted(folder.glob('*/' * depth + SPLITS[split]))
    if found := [path for path in found if not folders.is_stranger(path.parent.name)]:
      return found
  return []


def read_list(path: pathlib.Path, split: str) -> list[Entry]:
  """Returns the rows of a list.

  Raises:
    UserError: a column is missing, a value is none of the set's, or an image is named twice.
  """
  entries: dict[str, Entry] = {}
  for line, row in lists.rows(path, COLUMNS):
    image_id = f'{split}/{os.path.splitext(row["image_name"])[0]}'
    if image_id in entries:
      raise errors.UserError(
        f'{path}: line {line} names {row["image_name"]} again; expected each image once: download '
        'the list again'
      )
    labels = {task: label for task in _CODES if (label := _label(path, line, task, row)) >= 0}
    entries[image_id] = Entry(
      image_id, path.parent / row['image_name'], _box(path, line, row), labels
    )
  return list(entries.values())


def _label(path: pathlib.Path, line: int, task: str, row: Mapping[str, str]) -> int:
  """The class; -1 for `OTHER`."""
  text = row[task].removesuffix('.0')
  if text not in (*_CODES[task], OTHER):
    raise errors.UserError(
      f'{path}: line {line} ({row["image_name"]}) has the {task} {lists.shown(row[task])}; '
      'expected 0, 1 or 2'
    )
  return _CODES[task].get(text, -1)


def _box(path: pathlib.Path, line: int, row: Mapping[str, str]) -> detected.Box:
  try:
    left, top, width, height = (round(float(row[name])) for name in COLUMNS[1:5])
  except (ValueError, OverflowError):
    raise errors.UserError(
      f'{path}: line {line} ({row["image_name"]}) has the box '
      f'{lists.shown(" ".join(row[name] for name in COLUMNS[1:5]))}; expected four numbers: '
      f'{" ".join(COLUMNS[1:5])}'
    ) from None
  return (left, top, left + width, top + height)


def convert(
  entry: Entry, *, size: int, channels: int, scheme: schemes.Scheme, centre: bool
) -> list[base.Face | base.LeftOut]:
  """Turns one row into a face."""
  try:
    image = crop.read_image(entry.path)
  except errors.UserError as error:
    reason = 'damaged image' if entry.path.exists() else 'missing file'
    return [base.LeftOut(entry.image_id, reason, str(error))]
  if min(image.shape[:2]) < SMALLEST:
    return [base.LeftOut(entry.image_id, f'smaller than {SMALLEST} pixels', damaged=False)]
  box = None if centre else detected.box_in(entry.box, image)
  choice = detect.CENTRE if centre else detect.closest_to(box)
  face = detected.cut_out(image, size=size, channels=channels, scheme=scheme, choice=choice)
  return [
    base.Face(
      entry.image_id,
      face.image,
      labels=entry.labels,
      landmarks=face.landmarks,
      attributes=face.attributes,
      digest=crop.content_digest(image),
      notes=face.notes + _notes(entry, no_box=box is None and not centre),
    )
  ]


def _notes(entry: Entry, *, no_box: bool) -> tuple[str, ...]:
  masked = tuple(f'{task}_other' for task in _CODES if task not in entry.labels)
  return masked + (('box_unusable',) if no_box else ())
