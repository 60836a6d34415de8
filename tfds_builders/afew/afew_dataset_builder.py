"""AFEW: short clips from films, each with one of seven emotions. See README.md in this folder."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import folders
from tfds_builders import base, clips

# Releases differ, and so do the ways in which people unpack them.
SPLITS = {
  'train': ('Train_AFEW', 'Train', 'Train/Train_AFEW'),
  'validation': ('Val_AFEW', 'Val', 'Val/Val_AFEW'),
}


class Builder(clips.ClipsBuilder):
  """Stores the main face of each frame."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    clips.video_config(base.rgb224(), every=1),
    clips.video_config(base.rgb64(), every=1),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'ask for AFEW (EmotiW challenge) at https://users.cecs.anu.edu.au/~few_group/AFEW.html (a '
    'signed agreement is needed),'
    ' unpack it, and give the folder that holds Train_AFEW/ and Val_AFEW/'
  )
  TASKS = ('emotion7',)

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder with the two splits' folders: `manual_dir` or a folder in it."""
    return self.find_in(
      manual_dir,
      'Train_AFEW/Angry/ (or Train/Angry/)',
      lambda folder: any(_folders(folder, 'train')),
    )

  def items(self, source: Any) -> dict[str, Sequence[clips.Clip]]:
    """Returns the clips by split."""
    return {split: clips_of(source, split) for split in SPLITS}


def _folders(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
  return [folder / name for name in SPLITS[split] if (folder / name / 'Angry').is_dir()]


def clips_of(folder: pathlib.Path, split: str) -> list[clips.Clip]:
  """Returns the clips of a split, named <split>/<Emotion>/<file>, since numbers might repeat across
  emotions.

  Raises:
    UserError: the split's folder or one of its seven emotions is missing, or two files map to the
      same clip.
  """
  found = _folders(folder, split)
  if not found:
    raise errors.UserError(
      f'{folder}: found no {SPLITS[split][0]}/Angry/ or {SPLITS[split][1]}/Angry/; expected both '
      'splits of AFEW: unpack'
      ' the archive of this split too'
    )
  of_split: list[clips.Clip] = []
  for label, emotion in enumerate(tasks.get_task('emotion7').classes):
    name = emotion.capitalize()
    if not (found[0] / name).is_dir():
      raise errors.UserError(
        f'{found[0] / name}: no such folder; expected one for each of the seven emotions'
      )
    files = folders.files(found[0] / name, folders.VIDEOS)
    named = folders.by_id((f'{split}/{name}/{path.stem}', path) for path in files)
    of_split += [clips.Clip(clip, path, label) for clip, path in named.items()]
  return of_split
