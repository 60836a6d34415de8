"""The record that all sets share: the form of its image, its features, and a face as TFDS is to
write it.

The record is described in docs/datasets.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mtface import tasks
from tfds_builders.summary import Face


@dataclasses.dataclass(eq=False)
class FaceConfig(tfds.core.BuilderConfig):
  """The form in which faces are stored: `size` x `size` x `channels`, as raw bytes or `encoded` as
  JPEG.

  Attributes:
    crop: name of the scheme by which the face is cut out (`mtface.faces.schemes`); '' is what the
      set stores by default.
    choice: name of the choice of face, for sets that have several; '' is the set's default.
  """

  size: int = 48
  channels: int = 1
  encoded: bool = False
  crop: str = ''
  choice: str = ''

  @property
  def shape(self) -> tuple[int, int, int]:
    """Height, width and channels of an image."""
    return (self.size, self.size, self.channels)


def gray48(description: str = '48x48, grey') -> FaceConfig:
  """The form of Sang 2017 and Rohani 2023: 48x48 grey."""
  return FaceConfig(name='gray48', description=description, size=48, channels=1)


def rgb32(description: str = '32x32, colour') -> FaceConfig:
  """The form of Pons 2018's ResNets: 32x32 colour."""
  return FaceConfig(name='rgb32', description=description, size=32, channels=3)


def rgb64(description: str = '64x64, colour') -> FaceConfig:
  """Savchenko's pipeline at the size that a CPU trains in an hour: 64x64 colour."""
  return FaceConfig(name='rgb64', description=description, size=64, channels=3)


def rgb96(description: str = '96x96, colour') -> FaceConfig:
  """As `rgb64`, a size up: 96x96 colour, as JPEG of quality 95."""
  return FaceConfig(name='rgb96', description=description, size=96, channels=3, encoded=True)


def rgb224(description: str = '224x224, colour') -> FaceConfig:
  """The form that ImageNet-sized backbones take (Zhang 2016, Savchenko 2021): 224x224 colour, as
  JPEG of quality 95.
  """
  return FaceConfig(name='rgb224', description=description, size=224, channels=3, encoded=True)


def face_features(
  config: FaceConfig,
  task_names: Sequence[str],
  *,
  subject: bool = False,
  landmarks: bool = False,
  attributes: Mapping[str, Any] | None = None,
) -> tfds.features.FeaturesDict:
  """Returns the features of a record: image, image_id, labels/<task>, mask/<task> and what is
  optional.

  Args:
    config: the stored form. Raw images are `Tensor`s of bytes, encoded ones `Image`s given as JPEG
      bytes (without TensorFlow, TFDS encodes no arrays itself).
    task_names: tasks of `mtface.tasks`. A single-label task gives a ClassLabel and a bool, a
      multi-label one [C] of each.
    subject: whether records name the person.
    landmarks: whether records carry float32 [5, 2]: x and y, in pixels of the stored image, of the
      eye, the other eye, the nose and the two mouth corners, the eye and corner at the left of the
      picture first; NaN where not known.
    attributes: features by name, for audits.
  """
  features: dict[str, Any] = {'image': _image_feature(config), 'image_id': tfds.features.Text()}
  labelled = [tasks.get_task(name) for name in task_names]
  features['labels'] = {task.kind: _label_feature(task) for task in labelled}
  features['mask'] = {
    task.kind: tfds.features.Tensor(shape=task.label_shape, dtype=np.bool_) for task in labelled
  }
  if subject:
    features['subject'] = tfds.features.Text()
  if landmarks:
    features['landmarks'] = tfds.features.Tensor(shape=(5, 2), dtype=np.float32)
  if attributes:
    features['attributes'] = dict(attributes)
  return tfds.features.FeaturesDict(features)


def _image_feature(config: FaceConfig) -> tfds.features.FeatureConnector:
  if config.encoded:
    return tfds.features.Image(shape=config.shape, dtype=np.uint8, encoding_format='jpeg')
  # BYTES: otherwise every pixel is stored as an integer of its own, half as fast to write.
  return tfds.features.Tensor(
    shape=config.shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
  )


def _label_feature(task: tasks.Task) -> tfds.features.FeatureConnector:
  if task.multi_label:
    return tfds.features.Tensor(shape=task.label_shape, dtype=np.int64)
  return tfds.features.ClassLabel(names=list(task.classes))


@dataclasses.dataclass(frozen=True)
class RecordForm:
  """What a set's records hold. Small and easily pickled, unlike a builder: the workers of a cluster
  are sent it.

  Attributes:
    set_name: for errors.
    task_names: tasks that the set has labels for.
    subject: whether records name the person.
    landmarks: whether records carry landmarks.
    attributes: names of the attributes.
  """

  set_name: str
  task_names: tuple[str, ...]
  subject: bool = False
  landmarks: bool = False
  attributes: tuple[str, ...] = ()

  def record(self, face: Face) -> dict[str, Any]:
    """Returns a face as `face_features` declares it. What is not known is 0
    under a mask of False.
    """
    labelled = [tasks.get_task(name) for name in self.task_names]
    undeclared = set(face.labels) - {task.kind for task in labelled}
    if undeclared:
      raise ValueError(
        f'{face.image_id}: labels for {sorted(undeclared)}, which {self.set_name} does not declare'
      )
    record: dict[str, Any] = {'image': face.image, 'image_id': face.image_id}
    record['labels'] = {
      task.kind: _label_or_zero(task, face.labels.get(task.kind)) for task in labelled
    }
    record['mask'] = {task.kind: _mask(task, face.labels.get(task.kind)) for task in labelled}
    if self.subject:
      record['subject'] = face.subject or ''
    if self.landmarks:
      missing = np.full((5, 2), np.nan, np.float32)
      record['landmarks'] = (
        missing if face.landmarks is None else np.asarray(face.landmarks, np.float32)
      )
    if self.attributes:
      record['attributes'] = {name: face.attributes[name] for name in self.attributes}
    return record


def _label_or_zero(task: tasks.Task, label: Any) -> Any:
  """A label that the set does not give is stored as 0 under a mask of False; so is a class of a
  multi-label task.
  """
  if not task.multi_label:
    return 0 if label is None else int(label)
  given = np.full(task.label_shape, -1) if label is None else np.asarray(label)
  return np.where(given < 0, 0, given).astype(np.int64)


def _mask(task: tasks.Task, label: Any) -> Any:
  """Classes of a multi-label label that are -1 are not known."""
  if not task.multi_label:
    return np.bool_(label is not None)
  return np.zeros(task.label_shape, np.bool_) if label is None else np.asarray(label) >= 0
