"""What a linear model on pixels reaches on prepared sets: the floor that a network has to beat.

    python benchmarks/linear_baseline.py --data_dir=... [--sets=synthetic_faces/smile_gray48,...]
    [--max_train=N]

One logistic regression a task (standardised pixels, L2), fitted on the split `train` of each set,
measured on `test`. Prints accuracy, n, a 95% interval (Wilson) and chance (the share of the
commonest class in `test`).
"""

from __future__ import annotations

import pathlib
import time
import warnings

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags
from sklearn import exceptions, linear_model

from mtface import metrics, tasks

_DATA_DIR = flags.DEFINE_string('data_dir', None, 'where prepared sets are', required=True)
_SETS = flags.DEFINE_list(
  'sets',
  [f'synthetic_faces/{source}_gray48' for source in ('smile', 'emotion', 'people')],
  'sets with train and test',
)
_SKIP = flags.DEFINE_list(
  'skip', ['age_years'], 'tasks that are left out: a class a year is no task for this model'
)
_MAX_TRAIN = flags.DEFINE_integer('max_train', None, 'at most so many training faces')
_C = flags.DEFINE_float(
  'C', 1e-3, 'inverse strength of the penalty; of 1e-4 ... 1e-1 this one is about the best'
)
_ITERATIONS = flags.DEFINE_integer('iterations', 100, 'of L-BFGS')


def load(
  directory: pathlib.Path, split: str
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns pixels float32 [N, D], labels and masks by single-label task, [N]."""
  records = list(tfds.builder_from_directory(directory).as_data_source(split))
  pixels = (
    np.stack([record['image'] for record in records]).reshape(len(records), -1).astype(np.float32)
  )
  names = [name for name in records[0]['labels'] if not tasks.get_task(name).multi_label]
  labels = {name: np.array([record['labels'][name] for record in records]) for name in names}
  masks = {name: np.array([record['mask'][name] for record in records], bool) for name in names}
  return pixels, labels, masks


def newest_version(data_dir: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the folder of the newest version of a prepared set."""
  versions = sorted(path.parent for path in (data_dir / name).glob('*/dataset_info.json'))
  if not versions:
    raise SystemExit(
      f'{data_dir / name}: not built; run `mtface build {name} --data_dir={data_dir}`'
    )
  return versions[-1]


def accuracy(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
  """Fits on (pixels, labels) and returns the share of `test` that is right."""
  mean, std = train[0].mean(0), train[0].std(0) + 1e-3
  model = linear_model.LogisticRegression(C=_C.value, max_iter=_ITERATIONS.value)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', exceptions.ConvergenceWarning)
    model.fit((train[0] - mean) / std, train[1])
  return model.score((test[0] - mean) / std, test[1])


def main(argv: list[str]) -> None:
  del argv
  print(
    f'{"set":<34}{"task":<12}{"train":>7}{"test":>7}{"linear":>9}'
    f'{"95% interval":>16}{"chance":>8}{"seconds":>9}'
  )
  for name in _SETS.value:
    directory = newest_version(pathlib.Path(_DATA_DIR.value).expanduser(), name)
    train_x, train_y, train_mask = load(directory, 'train')
    test_x, test_y, test_mask = load(directory, 'test')
    for task in sorted(set(train_y) - set(_SKIP.value)):
      rows, test_rows = (
        np.flatnonzero(train_mask[task])[: _MAX_TRAIN.value],
        np.flatnonzero(test_mask[task]),
      )
      start = time.monotonic()
      share = accuracy(
        (train_x[rows], train_y[task][rows]), (test_x[test_rows], test_y[task][test_rows])
      )
      low, high = metrics.wilson_interval(round(share * len(test_rows)), len(test_rows))
      chance = np.bincount(test_y[task][test_rows]).max() / len(test_rows)
      interval = f'{low:.1%}-{high:.1%}'
      print(
        f'{name:<34}{task:<12}{len(rows):>7,}{len(test_rows):>7,}{share:>9.1%}{interval:>16}{chance:>8.1%}'
        f'{time.monotonic() - start:>9.1f}',
        flush=True,
      )


if __name__ == '__main__':
  app.run(main)
