"""What all builders share: the parallel conversion, and the summary of what happened to each image.

A builder defines three things: where its files are (`locate`), what to convert (`items`) and how
one item becomes faces (`converter`). `FaceBuilder` does the rest: it converts in parallel, writes
the records (`records.py`) through TFDS, and leaves `build_summary.json` next to the shards. With
`RESUMABLE`, or on a cluster, converted items are kept on disk until the end (`parts.py`).
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata

from mtface import errors, tasks
from mtface.faces import cropping, folders, schemes
from mtface.faces.crop import JPEG_QUALITY, encode_jpeg
from mtface.progress import progress
from tfds_builders import forms, on_beam, parallel, parts, spill, summary
from tfds_builders.records import (
  FaceConfig,
  RecordForm,
  face_features,
  gray48,
  rgb32,
  rgb64,
  rgb96,
  rgb224,
)
from tfds_builders.summary import SUMMARY_FILE, Face, LeftOut

__all__ = [
  'SUMMARY_FILE',
  'Face',
  'FaceBuilder',
  'FaceConfig',
  'LeftOut',
  'encode_jpeg',
  'face_features',
  'gray48',
  'rgb32',
  'rgb64',
  'rgb96',
  'rgb224',
]

_MOST_LEVELS = 3  # how many levels below the given folder a set may be
_MOST_WRAPPERS = 50  # most folders to search on the way


class FaceBuilder(tfds.core.GeneratorBasedBuilder):
  """Builds one set of faces. See the module docstring for what a builder defines.

  Attributes:
    TASKS: names of the tasks that the set has labels for.
    NOTES: the possible values of `Face.notes`, with their meaning; the summary counts and lists the
      images of each.
    DIGEST_OF: what `Face.digest` is a hash of, in words, for the summary.
    NEEDS_FILES: whether the set is read from a folder given by the user (`--manual_dir`).
    OTHER_LAYOUTS: `glob` patterns of layouts in which the set is also distributed but which cannot
      be read, with a description.
    FROM_PHOTOGRAPHS: whether faces are found in photographs or frames and cut out of them; False:
      the images of the set are faces that others have cut out.
    GREY: whether the set's pictures have no colour, however many channels are stored.
    CROPS: whether configs are created on demand from names such as `rgb64_crop3` (`forms.py`).
    CHOICES: the choices of face that such a name may end in, besides the set's default.
    RESUMABLE: whether finished parts of the conversion are kept on disk until the set is complete,
      so that a killed build can resume. For sets that take hours: everything is written twice.
      Items are identified by `repr`.
    PART_SIZE: items per part; at most this many are converted again for each killed worker.
    workers: processes that convert; all cores unless set. The records do not depend on it.
    max_left_out: the share of a set's images that may be left out as damaged. More than that (and
      more than `LEFT_OUT_ALWAYS_ALLOWED`) fails the build, since the whole copy is probably broken.
    use_beam: whether to convert with Apache Beam (`on_beam.py`).
  """

  TASKS: tuple[str, ...] = ()
  NOTES: tuple[tuple[str, str], ...] = ()
  DIGEST_OF = 'pixels of the source image'
  NEEDS_FILES = True
  OTHER_LAYOUTS: tuple[tuple[str, str], ...] = ()
  LEFT_OUT_ALWAYS_ALLOWED = 10
  HAS_SUBJECT = False
  HAS_LANDMARKS = False
  FROM_PHOTOGRAPHS = False
  GREY = False
  CROPS = False
  CHOICES: tuple[str, ...] = ()
  RESUMABLE = False
  PART_SIZE = 128
  workers: int | None = None
  max_left_out: float = 0.01
  use_beam: bool = False
  _parts: Mapping[str, Sequence[parts.Part]] = {}

  def __init__(self, *, file_format: Any = 'array_record', **kwargs: Any):
    super().__init__(file_format=file_format, **kwargs)

  @classmethod
  def get_metadata(cls) -> dataset_metadata.DatasetMetadata:
    """What TFDS reads from the files beside a builder; of one in a module of the user's own, its
    docstring.
    """
    if cls.__module__.endswith('_dataset_builder'):
      return super().get_metadata()
    return dataset_metadata.DatasetMetadata(inspect.getdoc(cls) or '', '', [])

  @classmethod
  def unlisted_config(cls, name: str) -> FaceConfig | None:
    """Returns the config for a name that is not listed in BUILDER_CONFIGS, if the set creates
    configs on demand: with `CROPS`, in any size and by any scheme.

    Raises:
      UserError: it is such a name, but not of a size that is stored.
    """
    return forms.on_demand(f'{cls.name}/', name, cls.CHOICES) if cls.CROPS else None

  @classmethod
  def described_by(cls, config: Any, manual_dir: pathlib.Path | None) -> Any:
    """Returns the config with what only the user's files say of it, such as its tasks."""
    return config

  @classmethod
  def unlisted_names(cls) -> str:
    """Returns what the names of configs on demand look like, for errors; '' if there are none."""
    return forms.pattern(cls.CHOICES) if cls.CROPS else ''

  @classmethod
  def crop_of(cls, config: FaceConfig) -> cropping.Crop | None:
    """Returns how a config cuts a face out of a photograph, so that a network sees a new photograph
    as it saw the set's; None where the images are stored as they come, cut out already.
    """
    if not cls.FROM_PHOTOGRAPHS:
      return None
    quality = JPEG_QUALITY if config.encoded else 0
    grey = cls.GREY and config.channels == 3
    return cropping.Crop(config.size, config.channels, config.crop, grey, quality)

  @abc.abstractmethod
  def items(self, source: Any) -> dict[str, Sequence[Any]]:
    """Returns the items to convert, by split, given the result of `locate` (None if the set needs
    no files).

    An item can be pickled, and is one image or a block of images.

    Raises:
      UserError: the files do not have the set's structure.
    """

  @abc.abstractmethod
  def converter(self) -> Callable[[Any], Iterable[Face | LeftOut]]:
    """Returns the function that turns an item into faces; it can be pickled and runs in other
    processes.
    """

  def images_in(self, item: Any) -> int:
    """Returns the number of images in an item, for the progress display; 0 if not known
    beforehand.
    """
    return 1

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path | None:
    """Returns the file or folder to read; raises a UserError that says which file is expected,
    where to get it and what to do.
    """
    return manual_dir

  def find_in(
    self, manual_dir: pathlib.Path | None, looked_for: str, is_it: Callable[[pathlib.Path], bool]
  ) -> pathlib.Path:
    """Returns the folder for which `is_it` holds: `manual_dir`, or one up to three levels deeper.

    Raises:
      UserError: there is none, or two on one level; `looked_for` names what makes a folder the
        right one.
    """
    how = f'{self.name}: {self.MANUAL_DOWNLOAD_INSTRUCTIONS} as --manual_dir'
    if manual_dir is None:
      raise errors.UserError(
        f'--manual_dir is not given; expected a folder with {looked_for}. {how}'
      )
    if not manual_dir.is_dir():
      what = 'this is not a folder' if manual_dir.exists() else 'no such folder'
      raise errors.UserError(f'{manual_dir}: {what}; expected one with {looked_for}. {how}')
    looked_at = []
    for level in _levels(manual_dir):
      looked_at += level
      found = {folder.resolve(): folder for folder in level if is_it(folder)}
      if len(found) > 1:
        first, second = list(found.values())[:2]
        raise errors.UserError(
          f'{first} and {second}: both have {looked_for}; pass one of them as --manual_dir'
        )
      if found:
        return next(iter(found.values()))
    other = self._other_layout(looked_at)
    raise errors.UserError(
      f'{manual_dir}: {other}found no {looked_for}, here or in a subfolder. {how}'
    )

  def _other_layout(self, looked_at: Iterable[pathlib.Path]) -> str:
    """A description of the layout found, for errors."""
    for folder, (sign, what) in itertools.product(looked_at, self.OTHER_LAYOUTS):
      if there := next(folder.glob(sign), None):
        return f'{there}: {what}; '
    return ''

  def attributes(self) -> dict[str, Any]:
    """Returns the features of `attributes`, by name."""
    return {}

  def task_names(self) -> tuple[str, ...]:
    """Returns the tasks that the config labels: TASKS, unless configs differ in them."""
    return self.TASKS

  def notes(self) -> tuple[tuple[str, str], ...]:
    """Returns the notes that the config's images may carry: NOTES, unless
    configs differ in them.
    """
    return self.NOTES

  @property
  def scheme(self) -> schemes.Scheme:
    """How the config cuts faces out of their pictures."""
    scheme = schemes.get_scheme(self.builder_config.crop)
    assert scheme is not None, self.builder_config.crop
    return scheme

  def _info(self) -> tfds.core.DatasetInfo:
    features = face_features(
      self.builder_config,
      self.task_names(),
      subject=self.HAS_SUBJECT,
      landmarks=self.HAS_LANDMARKS,
      attributes=self.attributes(),
    )
    info = self.dataset_info_from_configs(features=features)
    # TFDS would look for the set in a bucket on the network, and leave an empty folder in TMPDIR
    # each time.
    info.initialize_from_bucket = lambda: None
    return info

  def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
    manual_dir = pathlib.Path(dl_manager.manual_dir) if self.NEEDS_FILES else None
    source = self.locate(manual_dir)
    items = self.items(source)
    empty = [split for split, of_split in items.items() if not len(of_split)]
    if empty or not items:
      raise errors.UserError(
        f'{source}: no images of {self.name} for {", ".join(empty) or "any split"}'
      )
    task_list = [tasks.get_task(name) for name in self.task_names()]
    self._account = summary.Account(task_list, dict(self.notes()), self.data_dir)
    self._form = RecordForm(
      self.name, self.task_names(), self.HAS_SUBJECT, self.HAS_LANDMARKS, tuple(self.attributes())
    )
    convert = functools.partial(_convert, self.converter(), encode=self.builder_config.encoded)
    if self.RESUMABLE or self.use_beam:
      self._parts = self._plan(items)
    if self.use_beam:
      return {
        split: on_beam.examples(of_split, convert, self._form)
        for split, of_split in self._parts.items()
      }
    return {
      split: self._generate_examples(split, of_split, convert) for split, of_split in items.items()
    }

  def _generate_examples(
    self, split: str, items: Sequence[Any], convert: Callable[[Any], list[parts.Outcome]]
  ) -> Iterator[tuple[str, Any]]:
    results = (self._by_parts if self.RESUMABLE else self._in_memory)(split, items, convert)
    outcomes = itertools.chain.from_iterable(results)
    for outcome in progress(
      outcomes, f'{self.info.full_name} {split}', sum(map(self.images_in, items)) or None
    ):
      self._count(split, outcome)
      if isinstance(outcome, Face):
        yield outcome.image_id, self._form.record(outcome)
    self._account.check_left_out(split, self.max_left_out, self.LEFT_OUT_ALWAYS_ALLOWED)

  def _in_memory(
    self, split: str, items: Sequence[Any], convert: Callable[[Any], list[parts.Outcome]]
  ) -> Iterator[Iterable[parts.Outcome]]:
    workers = self.workers or parallel.num_cpus()
    chunk = max(
      1, min(16, len(items) // (8 * workers))
    )  # cheap to send, and work for every core until the end
    return parallel.ordered_map(
      convert, items, workers=workers, chunk=chunk, preload=type(self).__module__
    )

  def _by_parts(
    self, split: str, items: Sequence[Any], convert: Callable[[Any], list[parts.Outcome]]
  ) -> Iterator[Iterable[parts.Outcome]]:
    """Workers write parts to disk and send only their names, so that only one part at a time is in
    memory here.
    """
    make = functools.partial(parts.make, convert=convert)
    workers = self.workers or parallel.num_cpus()
    made = parallel.ordered_map(
      make, self._parts[split], workers=workers, chunk=1, preload=type(self).__module__
    )
    return map(parts.read, made)

  def _plan(self, items: Mapping[str, Sequence[Any]]) -> dict[str, list[parts.Part]]:
    """Divides the work into parts and reports how many an interrupted build has finished."""
    config, folder = self.builder_config, parts.folder_of(pathlib.Path(self.data_dir))
    form = f'{config.shape} {config.encoded}'  # set, config and version are in the folder's name
    plan = {
      split: parts.plan(folder, of, self.PART_SIZE, f'{form} {split}')
      for split, of in items.items()
    }
    total = sum(map(len, plan.values()))
    if there := parts.remove_strangers(folder, itertools.chain.from_iterable(plan.values())):
      print(
        f'resuming an interrupted build: {there:,} of {total:,} parts already converted in {folder}'
      )
    return plan

  def _count(self, split: str, outcome: parts.Outcome) -> None:
    if isinstance(outcome, LeftOut):
      self._account.leave_out(split, outcome)
    else:
      self._account.add(split, outcome)

  def _count_parts(self) -> None:
    """Makes the summary of a build on a cluster, which has written all parts to disk."""
    for split, of_split in self._parts.items():
      for part in of_split:
        for outcome in parts.read_account(part.path):
          self._count(split, outcome)
      self._account.check_left_out(split, self.max_left_out, self.LEFT_OUT_ALWAYS_ALLOWED)

  # TFDS announces a download, but there is none.
  def _log_download_bytes(self) -> None:
    pass

  def _log_download_done(self) -> None:
    pass

  def download_and_prepare(self, **kwargs: Any) -> None:
    """Prepares the set as TFDS does. Converted parts are removed once the set is finished."""
    super().download_and_prepare(**kwargs)
    parts.remove(pathlib.Path(self.data_dir))

  def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
    start = time.monotonic()
    try:
      with spill.without_tensorflow():
        super()._download_and_prepare(*args, **kwargs)
    except BaseException:
      if self._parts:
        folder = parts.folder_of(pathlib.Path(self.data_dir))
        print(f'converted parts are kept for the next build of this set: {folder}')
      raise
    finally:
      # Also when it failed: if the copy is broken, this says so, and Beam only that there are no
      # records.
      if self.use_beam and parts.are_there(self._parts):
        self._count_parts()
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


def _levels(folder: pathlib.Path) -> Iterator[list[pathlib.Path]]:
  """Yields a folder alone, the folders in it, those in them; where there are many, they are people
  or classes: not looked into.
  """
  level = [folder]
  for _ in range(_MOST_LEVELS):
    yield level
    if len(level) > _MOST_WRAPPERS:
      return
    level = [inside for wrapper in level for inside in folders.folders(wrapper)]
  yield level


def _convert(
  converter: Callable[[Any], Iterable[Face | LeftOut]], item: Any, *, encode: bool
) -> list[Face | LeftOut]:
  """One item's outcomes as they are stored: in a worker, so that encoding is parallel as well."""
  return [_stored(outcome, encode) for outcome in converter(item)]


def _stored(outcome: Face | LeftOut, encode: bool) -> Face | LeftOut:
  """Images encoded if they are to be, names composed, so that a copy from a Mac
  has the same ids.
  """
  changes: dict[str, Any] = {}
  if (image_id := folders.composed(outcome.image_id)) != outcome.image_id:
    changes['image_id'] = image_id
  if isinstance(outcome, Face):
    if encode and isinstance(outcome.image, np.ndarray):
      changes['image'] = encode_jpeg(outcome.image)
    if outcome.subject and (subject := folders.composed(outcome.subject)) != outcome.subject:
      changes['subject'] = subject
  return dataclasses.replace(outcome, **changes) if changes else outcome
