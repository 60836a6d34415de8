"""VGAF: clips of groups of people, each with the group's emotion. See README.md in this folder."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import folders
from tfds_builders import base, clips, lists

SPLITS = {'train': 'Train', 'validation': 'Val'}


class Builder(clips.ClipsBuilder):
  """Stores all faces of every fifth frame."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    clips.video_config(base.rgb224(), every=5),
    clips.video_config(base.rgb64(), every=5),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for VGAF (EmotiW challenge, group-level emotion) at '
    'https://sites.google.com/view/emotiw2020 (a signed agreement is'
    ' needed), unpack it, and give the folder that holds Train/, Val/, Train_labels.txt and '
    'Val_labels.txt'
  )
  TASKS = ('group_emotion',)
  ALL_FACES = True

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with Train/ and Train_labels.txt: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'Train_labels.txt and Train/',
      lambda folder: (folder / 'Train_labels.txt').is_file() and (folder / 'Train').is_dir(),
    )

  def items(self, source: Any) -> dict[str, Sequence[clips.Clip]]:
    """Returns the clips by split."""
    return {split: clips_of(source, split) for split in SPLITS}


def clips_of(folder: pathlib.Path, split: str) -> list[clips.Clip]:
  """Returns the clips that the list of a split names, and those of its folder that it does not
  (their label is -1).

  Raises:
    UserError: the list or the folder is missing, the list is not in order, or two files would be
      one clip.
  """
  name = SPLITS[split]
  for path in (folder / f'{name}_labels.txt', folder / name):
    if not path.exists():
      raise errors.UserError(
        f'{path}: no such file; expected both splits of VGAF: unpack the archive of this split too'
      )
  labels = read_labels(folder / f'{name}_labels.txt')
  files = folders.by_id((path.stem, path) for path in folders.files(folder / name, folders.VIDEOS))
  paths = {clip: folder / name / f'{clip}.mp4' for clip in labels} | files
  return [
    clips.Clip(f'{split}/{clip}', paths[clip], labels.get(clip, -1)) for clip in sorted(paths)
  ]


def read_labels(path: pathlib.Path) -> dict[str, int]:
  """Returns the class of each clip from lines such as `12_3 1` (1 positive, 2 neutral, 3 negative),
  perhaps after a header.

  Raises:
    UserError: a line has not two words, its label is none of the three, or a clip is named twice.
  """
  labels: dict[str, int] = {}
  for number, line in lists.lines(path):
    words = line.replace(',', ' ').replace(';', ' ').split()
    if number == 1 and words[-1].lower() == 'label':
      continue
    if len(words) != 2 or words[1] not in ('1', '2', '3'):
      raise errors.UserError(
        f'{path}: line {number} is {lists.shown(line)}; expected a clip and 1, 2 or 3, as in 12_3 1'
      )
    name, ending = os.path.splitext(words[0])
    clip = folders.composed(name if ending.lower() in folders.VIDEOS else words[0])
    if clip in labels:
      raise errors.UserError(f'{path}: line {number} names {clip} again; expected each clip once')
    labels[clip] = int(words[1]) - 1
  return labels
