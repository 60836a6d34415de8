"""What all builders share: the record, the parallel conversion, and the account of what became of every image.

A builder says three things: where its files are (`locate`), what there is to convert (`items`) and how one item becomes
faces (`converter`). `FaceBuilder` does the rest: it converts in parallel, writes the records through TFDS, and leaves
`build_summary.json` beside the shards. The record is described in docs/datasets.md.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.progress import progress
from tfds_builders import parallel, summary
from tfds_builders.summary import SUMMARY_FILE, Face, LeftOut

__all__ = ['SUMMARY_FILE', 'Face', 'FaceBuilder', 'FaceConfig', 'LeftOut', 'face_features', 'gray48', 'rgb224']

JPEG_QUALITY = 95


@dataclasses.dataclass(eq=False)
class FaceConfig(tfds.core.BuilderConfig):
  """The form in which faces are stored: `size` x `size` x `channels`, as raw bytes or `encoded` as JPEG."""

  size: int = 48
  channels: int = 1
  encoded: bool = False

  @property
  def shape(self) -> tuple[int, int, int]:
    """Height, width and channels of an image."""
    return (self.size, self.size, self.channels)


def gray48(description: str = '48x48, grey') -> FaceConfig:
  """The form of Sang 2017 and Rohani 2023: 48x48 grey."""
  return FaceConfig(name='gray48', description=description, size=48, channels=1)


def rgb224(description: str = '224x224, colour') -> FaceConfig:
  """The form that ImageNet-sized backbones take (Zhang 2016, Savchenko 2021): 224x224 colour, as JPEG of quality 95."""
  return FaceConfig(name='rgb224', description=description, size=224, channels=3, encoded=True)


def face_features(
  config: FaceConfig,
  task_names: Sequence[str],
  *,
  subject: bool = False,
  landmarks: bool = False,
  attributes: Mapping[str, Any] | None = None,
) -> tfds.features.FeaturesDict:
  """Returns the features of a record: image, image_id, labels/<task>, mask/<task> and what is optional.

  Args:
    config: the stored form. Raw images are `Tensor`s of bytes, encoded ones `Image`s given as JPEG bytes
      (without TensorFlow, TFDS encodes no arrays itself).
    task_names: tasks of `mtface.tasks`. A single-label task gives a ClassLabel and a bool, a multi-label one [C] of each.
    subject: whether records name the person.
    landmarks: whether records carry float32 [5, 2]: x and y, in pixels of the stored image, of the eye, the other eye,
      the nose and the two mouth corners, the eye and corner at the left of the picture first; NaN where not known.
    attributes: features by name, for audits.
  """
  features: dict[str, Any] = {'image': _image_feature(config), 'image_id': tfds.features.Text()}
  labelled = [tasks.get_task(name) for name in task_names]
  features['labels'] = {task.name: _label_feature(task) for task in labelled}
  features['mask'] = {task.name: tfds.features.Tensor(shape=task.label_shape, dtype=np.bool_) for task in labelled}
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
  return tfds.features.Tensor(shape=config.shape, dtype=np.uint8, encoding=tfds.features.Encoding.BYTES)


def _label_feature(task: tasks.Task) -> tfds.features.FeatureConnector:
  if task.multi_label:
    return tfds.features.Tensor(shape=task.label_shape, dtype=np.int64)
  return tfds.features.ClassLabel(names=list(task.classes))


class FaceBuilder(tfds.core.GeneratorBasedBuilder):
  """Builds one set of faces. See the module's docstring for what a builder adds.

  Attributes:
    TASKS: names of the tasks that the set labels.
    NOTES: what `Face.notes` may say, with what each means; the summary counts and lists the images of each.
    DIGEST_OF: what `Face.digest` is a hash of, in words, for the summary.
    NEEDS_FILES: whether the set is read from a folder that the user gives (`--manual_dir`).
    workers: processes that convert; all cores unless set. The records do not depend on it.
    max_left_out: the share of a set's images that may be left out as damaged. More than that (and more than
      `LEFT_OUT_ALWAYS_ALLOWED`) ends the build: then the copy is broken, not an image.
  """

  TASKS: tuple[str, ...] = ()
  NOTES: tuple[tuple[str, str], ...] = ()
  DIGEST_OF = 'pixels of the source image'
  NEEDS_FILES = True
  LEFT_OUT_ALWAYS_ALLOWED = 10
  HAS_SUBJECT = False
  HAS_LANDMARKS = False
  workers: int | None = None
  max_left_out: float = 0.01

  def __init__(self, *, file_format: Any = 'array_record', **kwargs: Any):
    super().__init__(file_format=file_format, **kwargs)

  @abc.abstractmethod
  def items(self, source: Any) -> dict[str, Sequence[Any]]:
    """Returns what there is to convert, by split, from what `locate` returned (None if the set needs no files).

    An item can be pickled, and is one image or a block of them.

    Raises:
      UserError: the files do not have the set's structure.
    """

  @abc.abstractmethod
  def converter(self) -> Callable[[Any], Iterable[Face | LeftOut]]:
    """Returns the function that turns an item into faces; it can be pickled, and runs in other processes."""

  def images_in(self, item: Any) -> int:
    """Returns how many images an item is, for the progress display."""
    return 1

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path | None:
    """Returns the file or folder to read; raises UserError naming the file looked for, its source and what to do."""
    return manual_dir

  def find_in(
    self, manual_dir: pathlib.Path | None, looked_for: str, is_it: Callable[[pathlib.Path], bool]
  ) -> pathlib.Path:
    """Returns `manual_dir` or the first folder directly in it for which `is_it` holds.

    Raises:
      UserError: there is none; `looked_for` names what makes a folder the right one.
    """
    how = f'{self.name}: {self.MANUAL_DOWNLOAD_INSTRUCTIONS} as --manual_dir'
    if manual_dir is None:
      raise errors.UserError(f'--manual_dir is not given; expected a folder with {looked_for}. {how}')
    if not manual_dir.is_dir():
      what = 'this is not a folder' if manual_dir.exists() else 'there is no such folder'
      raise errors.UserError(f'{manual_dir}: {what}; expected one with {looked_for}. {how}')
    folders = [manual_dir, *sorted(path for path in manual_dir.iterdir() if path.is_dir())]
    for folder in folders:
      if is_it(folder):
        return folder
    raise errors.UserError(f'{manual_dir}: found no {looked_for}, here or in a folder directly in it. {how}')

  def attributes(self) -> dict[str, Any]:
    """Returns the features of `attributes`, by name."""
    return {}

  def _info(self) -> tfds.core.DatasetInfo:
    features = face_features(
      self.builder_config,
      self.TASKS,
      subject=self.HAS_SUBJECT,
      landmarks=self.HAS_LANDMARKS,
      attributes=self.attributes(),
    )
    return self.dataset_info_from_configs(features=features)

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, Any]]]:
    manual_dir = pathlib.Path(dl_manager.manual_dir) if self.NEEDS_FILES else None
    source = self.locate(manual_dir)
    items = self.items(source)
    empty = [split for split, of_split in items.items() if not len(of_split)]
    if empty or not items:
      raise errors.UserError(f'{source}: no images of {self.name} for {", ".join(empty) or "any split"}')
    self._tasks = [tasks.get_task(name) for name in self.TASKS]
    self._account = summary.Account(self._tasks, dict(self.NOTES))
    return {split: self._generate_examples(split, of_split) for split, of_split in items.items()}

  def _generate_examples(self, split: str, items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    workers = self.workers or parallel.num_cpus()
    convert = functools.partial(_convert, self.converter(), encode=self.builder_config.encoded)
    chunk = max(1, min(16, len(items) // (8 * workers)))  # cheap to send, and work for every core until the end
    results = parallel.ordered_map(convert, items, workers=workers, chunk=chunk, preload=type(self).__module__)
    outcomes = itertools.chain.from_iterable(results)
    for outcome in progress(outcomes, f'{self.info.full_name} {split}', sum(map(self.images_in, items))):
      if isinstance(outcome, LeftOut):
        self._account.leave_out(split, outcome)
      else:
        self._account.add(split, outcome)
        yield outcome.image_id, self._example(outcome)
    self._account.check_left_out(split, self.max_left_out, self.LEFT_OUT_ALWAYS_ALLOWED)

  def _example(self, face: Face) -> dict[str, Any]:
    undeclared = set(face.labels) - {task.name for task in self._tasks}
    if undeclared:
      raise ValueError(f'{face.image_id}: labels for {sorted(undeclared)}, which {self.name} does not declare')
    example: dict[str, Any] = {'image': face.image, 'image_id': face.image_id}
    example['labels'] = {task.name: _label_or_zero(task, face.labels.get(task.name)) for task in self._tasks}
    example['mask'] = {task.name: _mask(task, face.labels.get(task.name)) for task in self._tasks}
    if self.HAS_SUBJECT:
      example['subject'] = face.subject or ''
    if self.HAS_LANDMARKS:
      missing = np.full((5, 2), np.nan, np.float32)
      example['landmarks'] = missing if face.landmarks is None else np.asarray(face.landmarks, np.float32)
    if attributes := self.attributes():
      example['attributes'] = {name: face.attributes[name] for name in attributes}
    return example

  # TFDS announces a download, which there is none of.
  def _log_download_bytes(self) -> None:
    pass

  def _log_download_done(self) -> None:
    pass

  def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
    start = time.monotonic()
    super()._download_and_prepare(*args, **kwargs)
    report = self._account.as_dict(
      name=self.name,
      config=self.builder_config.name,
      version=str(self.version),
      digest_of=self.DIGEST_OF,
      seconds=time.monotonic() - start,
    )
    # Still TFDS's temporary folder: the summary is committed with the records or not at all.
    path = pathlib.Path(self.data_dir) / SUMMARY_FILE
    path.write_text(json.dumps(report, indent=1), encoding='utf-8')


def _convert(converter: Callable[[Any], Iterable[Face | LeftOut]], item: Any, *, encode: bool) -> list[Face | LeftOut]:
  """One item's outcomes, images encoded if they are to be: in a worker, so that encoding is parallel as well."""
  outcomes = list(converter(item))
  if not encode:
    return outcomes
  return [
    dataclasses.replace(face, image=encode_jpeg(face.image))
    if isinstance(face, Face) and isinstance(face.image, np.ndarray)
    else face
    for face in outcomes
  ]


def encode_jpeg(image: np.ndarray) -> bytes:
  """Returns an RGB uint8 [H, W, 3] image as JPEG bytes."""
  ok, encoded = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
  if not ok:
    raise ValueError(f'OpenCV could not encode an image of shape {image.shape}')
  return encoded.tobytes()


def _label_or_zero(task: tasks.Task, label: Any) -> Any:
  """A label that the set does not give is stored as 0 under a mask of False; so is a class of a multi-label task."""
  if not task.multi_label:
    return 0 if label is None else int(label)
  given = np.full(task.label_shape, -1) if label is None else np.asarray(label)
  return np.where(given < 0, 0, given).astype(np.int64)


def _mask(task: tasks.Task, label: Any) -> Any:
  """Classes of a multi-label label that are -1 are not known."""
  if not task.multi_label:
    return np.bool_(label is not None)
  return np.zeros(task.label_shape, np.bool_) if label is None else np.asarray(label) >= 0
