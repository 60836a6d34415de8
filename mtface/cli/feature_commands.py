"""The commands that use a trained network's features; `mtface/cli/commands.py` lists them with
their flags.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtface.cli.flags import Args, data_dir, one_checkpoint, workdir_flag
from mtface.errors import UserError


def features(args: Args, _: Sequence[str]) -> None:
  """Writes feature vectors, ids, subjects and labels to workdir/features/."""
  from mtface.features.extract import write_features

  write_features(workdir_flag(args), data_dir(args), one_checkpoint(args), args.on, args.stage)


def classify(args: Args, _: Sequence[str]) -> None:
  """Fits SVM, forest, k-NN or a new layer on features: --train=SOURCE --test=SOURCE --task=TASK"""
  from mtface.features.classify import CLASSIFY_FILE, Settings, classify_table
  from mtface.features.classify import classify as classify_features

  workdir = workdir_flag(args)
  rows = classify_features(
    workdir,
    data_dir(args),
    checkpoint=one_checkpoint(args),
    stage=args.stage,
    train=_given(args, 'train', 'a source, as in utkface/rgb224:train'),
    test=_given(args, 'test', 'a source, as in utkface/rgb224:test'),
    task=_given(args, 'task', 'the task whose labels to use, as in ethnicity5'),
    classifiers=args.classifiers,
    settings=Settings(args.l2, args.trees, args.seed),
  )
  print(classify_table(rows))
  print(f'results: {workdir / CLASSIFY_FILE}')


def identify(args: Args, _: Sequence[str]) -> None:
  """Measures rank-1 identification, one gallery picture per person: --on=SOURCE"""
  from mtface.features.identify import IDENTIFY_FILE, identify_table
  from mtface.features.identify import identify as identify_people

  workdir = workdir_flag(args)
  rows = identify_people(
    workdir,
    data_dir(args),
    checkpoint=one_checkpoint(args),
    stage=args.stage,
    on=args.on,
    repeats=args.repeats,
    seed=args.seed,
  )
  print(identify_table(rows))
  print(f'results: {workdir / IDENTIFY_FILE}')


def video(args: Args, _: Sequence[str]) -> None:
  """Classifies clips by their faces: --train and --test name sources or folders of clips."""
  from mtface.features.classify import Settings
  from mtface.features.classify_clips import VIDEO_FILE, classify_clips, video_table
  from mtface.features.clips import Reading

  workdir = workdir_flag(args)
  rows = classify_clips(
    workdir,
    data_dir(args),
    checkpoint=one_checkpoint(args),
    stage=args.stage,
    train=_given(args, 'train', 'a folder of clips, or a source of clips'),
    test=_given(args, 'test', 'a folder of clips, or a source of clips'),
    reading=Reading(args.level or 'clip', args.boxes or 'detect', args.every),
    task=args.task,
    classifiers=args.classifiers,
    settings=Settings(trees=args.trees, seed=args.seed),
  )
  print(video_table(rows))
  print(f'results: {workdir / VIDEO_FILE}')


def _given(args: Args, flag: str, what: str) -> str:
  """The value of a required flag."""
  value = args[flag].value
  if not value:
    raise UserError(f'--{flag} is missing: pass {what}')
  return str(value)
