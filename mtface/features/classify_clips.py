"""`mtface video`: classifies clips by the features of their faces (Savchenko 2021, section 2.2,
tables 4 and 5).
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import Row, markdown_table, percent, write_rows
from mtface.features.classify import (
  CLASSIFIERS,
  Settings,
  check_apart,
  check_classifiers,
  fit_predict,
  summarize,
)
from mtface.features.clips import ClipSet, Described, Reading, describe, load_clips
from mtface.features.extract import FeatureNetwork
from mtface.tasks import Task
from mtface.training.selection import Selection

VIDEO_FILE = 'video.json'
_READING, _SETTINGS = Reading(), Settings()
_KEY = (
  'checkpoint',
  'train',
  'test',
  'task',
  'level',
  'boxes',
  'every',
  'classifier',
  'trees',
  'seed',
)


def classify_clips(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoint: str,
  stage: str = '',
  train: str,
  test: str,
  reading: Reading = _READING,
  task: str | None = None,
  classifiers: Sequence[str] = (),
  settings: Settings = _SETTINGS,
) -> list[Row]:
  """Fits classifiers on the descriptors of clips, evaluates them on others, and adds the results to
  `workdir`/video.json.

  Training clips without a face are left out; a test clip without one has a descriptor of zeros and
  counts, as in the paper. Damaged clips are left out on either side.

  Args:
    workdir: folder of a trained run.
    data_dir: folder of the prepared sets.
    checkpoint: a selection of one network: last, best, STEP or average:K.
    stage: a stage of the run; '' is the last one.
    train: a folder of clips (FOLDER/<class>/<clip>.avi) or a source of clips.
    test: another one, with the same classes.
    reading: the level, and how faces are found in a folder's clips.
    task: which labels to use, for sources with several tasks.
    classifiers: keys of CLASSIFIERS; if empty, svm and forest, as in the paper.
    settings: see `classify.Settings`; `l2` is always on here.

  Returns: One row per classifier: `checkpoint`, `steps`, `checksums`, `stage` (if the run has
    stages), `train`, `test`, `task`, `level`, `boxes`, `every`, `classifier`, `trees`, `seed`,
    `features` (4D), `classes`, `n_train`; the training clips left out, `no_face_train` and
    `damaged_train`; the test clips `no_face_test` (which count) and `damaged_test` (which do not);
    `accuracy_with_face`, of the test clips that have one; `seconds`, `low`, `high` (95% Wilson
    interval of the accuracy), and all of `metrics.summarize`.
  """
  names = list(classifiers) or ['svm', 'forest']
  check_classifiers(names)
  evaluator, selection = Evaluator(workdir, data_dir, stage), Selection.parse(checkpoint)
  sets = [
    load_clips(evaluator, text, flag, reading, task)
    for flag, text in (('train', train), ('test', test))
  ]
  check_clip_sets(*sets)
  head = evaluator.head(checkpoint, selection)
  network = FeatureNetwork(evaluator, selection)
  found = [describe(clips, network, reading.level) for clips in sets]
  head |= {'train': sets[0].name, 'test': sets[1].name, 'task': task} | dataclasses.asdict(reading)
  head |= {'trees': settings.trees, 'seed': settings.seed, 'features': 4 * network.size}
  rows = []
  for name in names:
    rows.append(head | {'classifier': name} | measure_clips(name, settings, sets[0], *found))
    write_rows(evaluator.workdir / VIDEO_FILE, evaluator.config.name, _KEY, 'video', rows[-1:])
  return rows


def check_clip_sets(train: ClipSet, test: ClipSet) -> None:
  """Checks that two sets have the same classes and no clip in common.

  Raises:
    UserError: otherwise.
  """
  unknown = sorted({clip.label for clip in test.clips} - {clip.label for clip in train.clips})
  if unknown:
    raise UserError(
      f'--test={test.name}: has clips of {", ".join(unknown)}, of which --train={train.name} has '
      'none'
    )
  if train.source is not None and test.source is not None:
    check_apart(train.source, test.source)
  elif (train.source is None) == (test.source is None) and os.path.samefile(train.name, test.name):
    raise UserError(f'--test={test.name}: is the same folder as --train; pass another one')


def measure_clips(
  name: str, settings: Settings, clips: ClipSet, train: Described, test: Described
) -> Row:
  """One classifier's part of a row; `clips` is the training set, which defines the classes."""
  task = Task('clips', clips.classes)
  number = {label: index for index, label in enumerate(clips.classes)}
  labels, truth = (
    np.array([number[label] for label in found.labels], int) for found in (train, test)
  )
  usable = train.faces > 0
  if not usable.any():
    raise UserError(
      f'--train={clips.name}: no face found in any clip; to treat each frame as a face, pass '
      '--boxes=whole'
    )
  if not len(truth):
    raise UserError('--test: none of the clips can be read; see the warnings above')
  start = time.monotonic()
  predicted = fit_predict(name, settings, train.vectors[usable], labels[usable], test.vectors)
  row = {
    'seconds': round(time.monotonic() - start, 2),
    'classes': list(task.classes),
    'n_train': int(usable.sum()),
  }
  row |= {
    'no_face_train': int((~usable).sum()),
    'damaged_train': train.damaged,
    'damaged_test': test.damaged,
  }
  seen = test.faces > 0
  row |= {'no_face_test': int((~seen).sum())}
  row |= {'accuracy_with_face': float(np.mean((predicted == truth)[seen])) if seen.any() else None}
  return row | summarize(task, predicted, truth)


def video_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Formats the rows as tables for a terminal or a Markdown file: accuracies, and recall by
  class.
  """
  columns = [
    'classifier',
    'level',
    'train clips',
    'test clips',
    'no face',
    'accuracy',
    '95% interval',
    'with a face',
  ]
  recall = [
    [CLASSIFIERS[row['classifier']][0], *map(percent, row['per_class_accuracy'])] for row in rows
  ]
  by_class = markdown_table(['recall', *rows[0]['classes']], recall)
  return f'{markdown_table(columns, [_cells(row) for row in rows])}\n\n{by_class}'


def _cells(row: Mapping[str, Any]) -> list[str]:
  cells = [CLASSIFIERS[row['classifier']][0], row['level'], f'{row["n_train"]:,}', f'{row["n"]:,}']
  cells += [
    str(row['no_face_test']),
    percent(row['accuracy']),
    f'{row["low"]:.1%} - {row["high"]:.1%}',
  ]
  return [*cells, percent(row['accuracy_with_face'])]
