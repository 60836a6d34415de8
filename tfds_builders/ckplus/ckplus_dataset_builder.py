"""CK+: 593 sequences of 123 people from a neutral face to a posed expression, with action units and
emotions. See README.md in this folder.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, detect
from tfds_builders import base, detected
from tfds_builders.ckplus import sequences

_PEAKS = re.compile(r'(?P<form>\w+)_peak(?P<peaks>[2-9]|[1-9]\d)')


@dataclasses.dataclass(eq=False)
class PeakConfig(base.FaceConfig):
  """`peaks`: how many of a sequence's last frames are stored, with the labels of the last one."""

  peaks: int = 1


def _config(form: base.FaceConfig, peaks: int = 1) -> PeakConfig:
  frames = 'the last frame' if peaks == 1 else f'the last {peaks} frames'
  return PeakConfig(
    name=form.name if peaks == 1 else f'{form.name}_peak{peaks}',
    description=f"{form.description}: the first and {frames}, the detector's box, without margin",
    size=form.size,
    channels=form.channels,
    encoded=form.encoded,
    peaks=peaks,
  )


_FORMS = {form.name: form for form in (base.rgb32(), base.rgb64(), base.rgb224(), base.gray48())}


class Builder(base.FaceBuilder):
  """Finds the face with MTCNN in the first and the last frame of a sequence, and stores it without
  margin; FORM_peakN takes the last N frames.
  """

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (*map(_config, _FORMS.values()), _config(base.rgb32(), peaks=3))
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for CK+ at https://www.jeffcohn.net/resources/ (a signed agreement is needed), unpack all '
    'four archives (images, FACS_labels, Emotion_labels, Landmarks), and give the folder that '
    'holds cohn-kanade-images/, FACS/, Emotion/ and Landmarks/'
  )
  OTHER_LAYOUTS = (
    (
      '[Aa]nger/*.*',
      'a copy as one folder per class, without action units: the four archives are needed',
    ),
    ('*ck*.csv', 'a copy as a csv of 48x48 pixels, without people: the four archives are needed'),
  )
  TASKS = ('emotion8', 'emotion7', 'action_units')
  FROM_PHOTOGRAPHS = True
  HAS_SUBJECT = True
  HAS_LANDMARKS = True
  NOTES = (
    *detected.notes_with(
      'the box around the 68 points, or else the central square,', 'the one at the 68 points'
    ),
    ('contempt', 'emotion7 does not have it: masked'),
    ('emotion_unknown', 'the sequence has no emotion file: emotion8 and emotion7 are masked'),
    ('action_units_unknown', 'a peak whose sequence has no FACS file: masked'),
    ('points_unknown', "no usable file in Landmarks/: MTCNN's landmarks are stored"),
  )

  @classmethod
  def unlisted_config(cls, name: str) -> PeakConfig | None:
    """Returns the config of FORM_peakN, as in gray48_peak5."""
    found = _PEAKS.fullmatch(name)
    if not found or found['form'] not in _FORMS:
      return None
    return _config(_FORMS[found['form']], int(found['peaks']))

  def attributes(self) -> dict[str, Any]:
    """Which frame it is, and what the detector said, in pixels of the frame."""
    about = {
      'peak': tfds.features.Scalar(np.bool_),
      'frame': tfds.features.Scalar(np.int32),
      'to_peak': tfds.features.Scalar(np.int32),
    }
    return about | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with cohn-kanade-images/: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'cohn-kanade-images/S005/',
      lambda folder: sequences.images_folder(folder) is not None,
    )

  def items(self, source: Any) -> dict[str, Sequence[sequences.Frame]]:
    """Returns the frames as one split; CK+ has no division of its own."""
    return {'train': sequences.read(source, self.builder_config.peaks)}

  def converter(self) -> Callable[[sequences.Frame], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one frame."""
    config = self.builder_config
    return functools.partial(convert, size=config.size, channels=config.channels)


def convert(frame: sequences.Frame, *, size: int, channels: int) -> list[base.Face | base.LeftOut]:
  """Turns one frame into a face: that at the 68 points; where none is found, their box."""
  try:
    image = crop.read_image(frame.path)
  except errors.UserError as error:
    reason = 'damaged image' if frame.path.exists() else 'missing file'
    return [base.LeftOut(frame.image_id, reason, str(error))]
  points = sequences.read_points(frame.points)
  place = None if points is None else _box_of(points, *image.shape[:2])
  face = detected.cut_out(image, size=size, channels=channels, choice=detect.inside(place))
  landmarks = face.landmarks
  if place is not None and points is not None:
    box = tuple(face.attributes['box'].tolist())
    landmarks = crop.move_landmarks(sequences.five_of(points), box, size)
  labels = sequences.labels_of(frame)
  about = {'peak': np.bool_(frame.peak), 'frame': frame.number, 'to_peak': frame.to_peak}
  return [
    base.Face(
      frame.image_id,
      face.image,
      labels=labels,
      subject=frame.subject,
      landmarks=landmarks,
      attributes=about | face.attributes,
      digest=crop.content_digest(image),
      notes=face.notes + _notes(frame, labels, points_known=place is not None),
    )
  ]


def _box_of(points: np.ndarray, height: int, width: int) -> detected.Box | None:
  """The box around points; None if they are not in the picture."""
  left, top = np.floor(points.min(axis=0)).astype(int).tolist()
  right, bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
  try:
    return crop.clip_box((left, top, right, bottom), height, width)
  except ValueError:
    return None


def _notes(
  frame: sequences.Frame, labels: dict[str, Any], *, points_known: bool
) -> tuple[str, ...]:
  holds = {
    'contempt': 'emotion8' in labels and 'emotion7' not in labels,
    'emotion_unknown': 'emotion8' not in labels,
    'action_units_unknown': frame.peak and 'action_units' not in labels,
    'points_unknown': not points_known,
  }
  return tuple(note for note, of in holds.items() if of)
