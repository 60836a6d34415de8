"""AffectNet: 291,651 faces from the web with one of eight expressions, valence and arousal. See
README.md in this folder.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, detect
from tfds_builders import base, detected
from tfds_builders.affectnet import layouts

# AffectNet's order, in mtface's terms; later numbers are not expressions, and such images are left
# out.
EXPRESSIONS = ('neutral', 'happy', 'sad', 'surprise', 'fear', 'disgust', 'angry', 'contempt')
NO_EXPRESSION = ('no expression named (8: None)', 'uncertain (9)', 'no face (10)')
SMALLEST = 20  # pixels: MTCNN does not find smaller faces


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN and stores it without margin."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.rgb224("224x224 colour: the detector's box, without margin"),
    base.rgb64("64x64 colour: the detector's box, without margin"),
    base.rgb96("96x96 colour: the detector's box, without margin"),
    base.gray48("48x48 grey: the detector's box, without margin"),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for AffectNet at http://mohammadmahoor.com/affectnet/ (a signed agreement is needed), '
    'unpack it, and give the folder'
    ' that holds training.csv, validation.csv and Manually_Annotated_Images/, or train_set/ and '
    'val_set/'
  )
  OTHER_LAYOUTS = (
    (
      '*/[Aa]nger/*.*',
      'AffectNet as one folder per class, an incomplete copy without valence and arousal',
    ),
    (
      '[Aa]nger/*.*',
      'AffectNet as one folder per class, an incomplete copy without valence and arousal',
    ),
  )
  TASKS = ('emotion8', 'emotion7')
  FROM_PHOTOGRAPHS = True
  HAS_LANDMARKS = True
  RESUMABLE = True
  NOTES = (
    *detected.notes_with(
      'the annotated box, or else the central square,', 'the one in the annotated box'
    ),
    ('contempt', 'emotion7 does not have it: masked'),
    ('valence_or_arousal_unknown', 'stored as NaN'),
  )

  def attributes(self) -> dict[str, Any]:
    """Valence and arousal, -1 to 1 (NaN: not known); what the detector said, in pixels of the
    image.
    """
    return {
      name: tfds.features.Scalar(np.float32) for name in ('valence', 'arousal')
    } | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder of either layout: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'training.csv (or Manually_Annotated_file_lists/training.csv) or train_set/annotations/',
      lambda folder: layouts.is_lists(folder) or layouts.is_folders(folder),
    )

  def items(self, source: Any) -> dict[str, Sequence[layouts.Entry | str]]:
    """Returns rows of the lists, or paths of images beside which their annotations are."""
    read: Callable[..., Sequence[Any]] = (
      layouts.read_list if layouts.is_lists(source) else layouts.list_folder
    )
    return {split: read(source, split) for split in layouts.LISTS}

  def converter(self) -> Callable[[Any], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one image."""
    config = self.builder_config
    return functools.partial(convert, size=config.size, channels=config.channels)


def convert(
  item: layouts.Entry | str, *, size: int, channels: int
) -> list[base.Face | base.LeftOut]:
  """Turns one image into a face; where none is found, into the annotated box or the central square.

  Left out by rule, without opening: images annotated as having no expression, and images that the
  list has already named.
  """
  if isinstance(item, str):
    try:
      entry = layouts.read_annotations(item)
    except errors.UserError as error:
      return [base.LeftOut(item, 'damaged or missing annotation', str(error))]
  else:
    entry = item
  if entry.expression >= len(EXPRESSIONS):
    return [
      base.LeftOut(
        entry.image_id, NO_EXPRESSION[entry.expression - len(EXPRESSIONS)], damaged=False
      )
    ]
  if entry.repeated:
    return [base.LeftOut(entry.image_id, 'listed twice', damaged=False)]
  return [_convert(entry, size, channels)]


def _convert(entry: layouts.Entry, size: int, channels: int) -> base.Face | base.LeftOut:
  try:
    image = crop.read_image(entry.path)
  except errors.UserError as error:
    reason = 'damaged image' if os.path.exists(entry.path) else 'missing file'
    return base.LeftOut(entry.image_id, reason, str(error))
  if min(image.shape[:2]) < SMALLEST:
    return base.LeftOut(entry.image_id, f'smaller than {SMALLEST} pixels', damaged=False)
  choice = detect.inside(detected.box_in(entry.box, image))
  face = detected.cut_out(image, size=size, channels=channels, choice=choice)
  return base.Face(
    entry.image_id,
    face.image,
    labels=labels(entry.expression),
    landmarks=face.landmarks,
    attributes={'valence': entry.valence, 'arousal': entry.arousal, **face.attributes},
    digest=crop.content_digest(image),
    notes=face.notes + _notes(entry),
  )


def labels(expression: int) -> dict[str, int]:
  """Returns the labels of AffectNet's expressions 0 to 7; contempt is not a class of emotion7."""
  name = EXPRESSIONS[expression]
  of = {task: tasks.get_task(task).classes for task in ('emotion8', 'emotion7')}
  return {task: classes.index(name) for task, classes in of.items() if name in classes}


def _notes(entry: layouts.Entry) -> tuple[str, ...]:
  unknown = bool(np.isnan([entry.valence, entry.arousal]).any())
  holds = {
    'contempt': EXPRESSIONS[entry.expression] == 'contempt',
    'valence_or_arousal_unknown': unknown,
  }
  return tuple(note for note, of in holds.items() if of)
