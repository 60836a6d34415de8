"""The account of a build: what became of every image. Written as `build_summary.json` beside the
records.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mtface import errors, tasks
from tfds_builders import seen

SUMMARY_FILE = 'build_summary.json'


@dataclasses.dataclass(frozen=True)
class Face:
  """One image that goes into the set.

  Attributes:
    image_id: unique in the set, and the same in every build.
    image: uint8 [H, W, C] (RGB or grey) in the stored size, or encoded bytes.
    labels: known labels by task: a class index, or int [C] for a multi-label task with -1 for a
      class not known. A task that is not here is masked.
    subject: who it is, if the set says.
    landmarks: float32 [5, 2], or None where not known.
    attributes: all that the builder declares in `attributes()`.
    digest: a hash of the source image's content, for finding duplicates; empty: not compared.
    notes: what the summary is to list this image under, such as 'face_not_found'.
  """

  image_id: str
  image: np.ndarray | bytes
  labels: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  subject: str | None = None
  landmarks: np.ndarray | None = None
  attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  digest: bytes = b''
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LeftOut:
  """One image that does not go into the set, and why.

  Attributes:
    image_id: as of `Face`.
    reason: short, to count by.
    detail: to read.
    damaged: whether it indicates a broken copy of the set, as a missing file does. False: a rule
      for the set leaves such images out; there may be any number of them.
  """

  image_id: str
  reason: str
  detail: str = ''
  damaged: bool = True


class Account:
  """Counts and lists as the images go by. One of these sees a whole build, in one process, in
  order.

  It grows by 32 bytes per image (`seen.py`), and by 0.1 kB per image that is listed: for a note, as
  a copy, or because it was left out.
  """

  def __init__(
    self,
    task_list: Sequence[tasks.Task],
    notes: Mapping[str, str],
    folder: str | os.PathLike[str] | None = None,
  ):
    """`notes` are those that images may carry, with what each means; `folder` is for a temporary
    file.
    """
    self._tasks = list(task_list)
    self._meaning = dict(notes)
    self._notes: dict[str, list[str]] = {note: [] for note in notes}
    self._records: collections.Counter[str] = collections.Counter()
    self._classes: dict[str, dict[str, np.ndarray]] = {}
    self._labelled: dict[str, dict[str, int]] = {}
    self._damaged: list[tuple[str, LeftOut]] = []
    self._by_rule: dict[str, list[str]] = collections.defaultdict(list)
    self._seen = seen.Seen(folder)

  def add(self, split: str, face: Face) -> None:
    """Counts an image that is in the set."""
    self._records[split] += 1
    counts = self._classes.setdefault(
      split, {t.kind: np.zeros(t.num_classes, np.int64) for t in self._tasks}
    )
    labelled = self._labelled.setdefault(split, {t.kind: 0 for t in self._tasks})
    for name, label in face.labels.items():
      given = np.atleast_1d(label)
      labelled[name] += bool((given >= 0).any())
      if np.ndim(label):
        counts[name] += given == 1
      else:
        counts[name][label] += 1
    for note in face.notes:
      self._notes[note].append(face.image_id)
    self._seen.add(split, face.image_id, face.labels, face.digest)

  def leave_out(self, split: str, image: LeftOut) -> None:
    """Counts an image that is not in the set."""
    if image.damaged:
      self._damaged.append((split, image))
    else:
      self._by_rule[image.reason].append(
        image.image_id
      )  # no more than that: there are hundreds of thousands

  def check_left_out(self, split: str, share: float, always_allowed: int) -> None:
    """Raises UserError if no image of a split is left, two have one id, or so many are damaged that
    the copy must be broken.
    """
    if (image_id := self._seen.repeated_id()) is not None:
      raise errors.UserError(
        f'two images have the image_id {image_id!r}; expected each once: remove or rename one of '
        'them'
      )
    damaged = [image for of_split, image in self._damaged if of_split == split]
    total = self._records[split] + len(damaged)
    allowed = max(always_allowed, int(share * total))
    if self._records[split] and len(damaged) <= allowed:
      return
    if not damaged:
      reasons = (
        ', '.join(f'{reason} {len(ids):,}' for reason, ids in self._by_rule.items())
        or 'there are none'
      )
      raise errors.UserError(
        f'no image of {split} can be used ({reasons}): is this the complete set, as published?'
      )
    raise errors.UserError(
      f'{len(damaged)} of {total} images of {split} could not be used; the first is '
      f'{damaged[0].image_id}'
      f' ({damaged[0].detail or damaged[0].reason}); at most {allowed:,} may be damaged, so this '
      'copy looks broken:'
      ' download or unpack it again'
    )

  def as_dict(self, *, digest_of: str, seconds: float, **about: Any) -> dict[str, Any]:
    """Returns the summary as plain JSON values; `about` (name, config, version) comes first."""
    total = sum(self._records.values())
    return {
      **about,
      'built': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
      'seconds': round(seconds, 1),
      'images': total,
      'records': dict(self._records),
      'labelled': self._labelled,
      'labels': {split: self._class_counts(counts) for split, counts in self._classes.items()},
      'left_out': self._left_out_dict(),
      'notes': {
        note: {'means': self._meaning[note], 'images': len(ids), 'image_ids': ids}
        for note, ids in self._notes.items()
      },
      'duplicates': self._duplicates(digest_of),
      'versions': _versions(),
    }

  def _class_counts(self, counts: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    return {t.kind: dict(zip(t.classes, counts[t.kind].tolist(), strict=True)) for t in self._tasks}

  def _left_out_dict(self) -> dict[str, Any]:
    damaged = [
      {'split': split, 'image_id': image.image_id, 'reason': image.reason, 'detail': image.detail}
      for split, image in self._damaged
    ]
    by_reason = collections.Counter(image.reason for _, image in self._damaged)
    by_reason.update({reason: len(ids) for reason, ids in self._by_rule.items()})
    return {
      'images': by_reason.total(),
      'by_reason': dict(by_reason),
      'list': damaged,
      'by_rule': dict(self._by_rule),
    }

  def _duplicates(self, digest_of: str) -> dict[str, Any]:
    groups = [_group(same) for same in self._seen.copies()]
    return {
      'compared': digest_of,
      'groups': len(groups),
      'copies': sum(len(group['image_ids']) - 1 for group in groups),
      'groups_across_splits': sum(len(set(group['splits'])) > 1 for group in groups),
      'groups_with_other_labels': sum(bool(group['differs_in']) for group in groups),
      'list': groups,
    }


def _group(same: Sequence[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Any]:
  """One group of images with the same content; `differs_in` names tasks for which two of them have
  unlike labels.
  """
  splits, ids, labels = zip(*same, strict=True)
  task_names = sorted({name for of_image in labels for name in of_image})
  differs = [
    name
    for name in task_names
    if len({str(of_image[name]) for of_image in labels if name in of_image}) > 1
  ]
  return {'image_ids': list(ids), 'splits': list(splits), 'differs_in': differs}


def _versions() -> dict[str, str]:
  return {
    name: importlib.metadata.version(name)
    for name in ('tensorflow-datasets', 'array_record', 'numpy')
  } | {'opencv': cv2.__version__}
