"""`mtface classify`: simple classifiers on the features of a trained network (Savchenko 2021,
section 3.3, table 7).

All are scikit-learn's. What the paper does not specify is left at scikit-learn's default, except
for the number of trees, which is taken from section 2.2. The "new fully connected layer" is
multinomial logistic regression, fitted to convergence with L-BFGS: its optimum is unique, so it
does not depend on a learning rate or number of epochs; its classes are weighted equally, as in the
paper. The other classifiers weight classes by how often they occur.
"""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mtface import metrics
from mtface.data.names import SourceName
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import Row, markdown_table, percent, write_rows
from mtface.features.extract import FeatureNetwork, any_source, l2_normalized
from mtface.progress import warn
from mtface.tasks import Task, get_task
from mtface.training.selection import Selection

CLASSIFY_FILE = 'classify.json'
_KEY = ('checkpoint', 'train', 'test', 'task', 'classifier', 'l2', 'trees', 'seed')


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the classifiers.

  Attributes:
    l2: whether feature vectors are first scaled to unit length.
    trees: number of trees in a random forest.
    seed: seed of the forest and of LinearSVC's sample order.
  """

  l2: bool = True
  trees: int = 1000
  seed: int = 0

  def __post_init__(self) -> None:
    if self.trees < 1:
      raise UserError(f'--trees={self.trees}: expected at least 1')
    if not 0 <= self.seed < 2**32:
      raise UserError(f'--seed={self.seed}: expected 0 to {2**32 - 1}')


def _svm(settings: Settings) -> Any:
  from sklearn.svm import LinearSVC

  return LinearSVC(C=1.0, random_state=settings.seed, max_iter=5000)


def _forest(settings: Settings) -> Any:
  from sklearn.ensemble import RandomForestClassifier

  return RandomForestClassifier(settings.trees, random_state=settings.seed, n_jobs=-1)


def _knn(_: Settings) -> Any:
  from sklearn.neighbors import KNeighborsClassifier

  return KNeighborsClassifier(5)


def _linear(_: Settings) -> Any:
  from sklearn.linear_model import LogisticRegression

  return LogisticRegression(C=1.0, class_weight='balanced', max_iter=2000)


CLASSIFIERS: dict[str, tuple[str, Callable[[Settings], Any]]] = {
  'svm': ('LinearSVC', _svm),
  'forest': ('random forest', _forest),
  'knn': ('k-NN, k = 5', _knn),
  'linear': ('new fully connected layer', _linear),
}


def check_classifiers(names: Sequence[str]) -> None:
  """Raises a `UserError` if a name is not in CLASSIFIERS."""
  for name in names:
    if name not in CLASSIFIERS:
      raise UserError(
        f'--classifiers: unknown classifier {name!r}; expected {", ".join(CLASSIFIERS)}'
      )


def fit_predict(
  name: str, settings: Settings, vectors: np.ndarray, labels: np.ndarray, test_vectors: np.ndarray
) -> np.ndarray:
  """Fits a classifier and returns its predictions for the test vectors: int [M].

  Args:
    name: a key of CLASSIFIERS.
    settings: see `Settings`; `l2` is up to the caller.
    vectors: [N, D], of the training samples.
    labels: int [N], of at least two classes.
    test_vectors: [M, D].

  Raises:
    UserError: the training samples have only one class, or there are fewer than k-NN's
      neighbours.
  """
  from sklearn.exceptions import ConvergenceWarning

  if len(np.unique(labels)) < 2:
    raise UserError(
      f'--train: all {len(labels)} labelled samples have one class; a classifier needs at least two'
    )
  classifier = CLASSIFIERS[name][1](settings)
  if name == 'knn' and len(labels) < classifier.n_neighbors:
    raise UserError(
      f'--classifiers=knn: uses {classifier.n_neighbors} neighbours, but --train has {len(labels)}'
    )
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('ignore')
    warnings.simplefilter('always', ConvergenceWarning)
    classifier.fit(vectors, labels)
  if caught:
    warn(
      f'{name} did not converge; the features may have very different scales: --l2 normalises them'
    )
  return classifier.predict(test_vectors)


def summarize(task: Task, predicted: np.ndarray, labels: np.ndarray) -> Row:
  """`metrics.summarize` for predicted classes, int [M], with the accuracy's 95% Wilson interval as
  `low` and `high`.
  """
  scores = np.zeros((len(labels), task.num_classes), bool)
  scores[np.arange(len(labels)), predicted] = True
  summary = metrics.summarize(
    task, metrics.counts(task, scores, labels, np.ones(len(labels), bool))
  )
  low, high = metrics.wilson_interval(summary['correct'], summary['n'])
  return summary | {'low': low, 'high': high}


def classify(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  *,
  checkpoint: str,
  stage: str = '',
  train: str,
  test: str,
  task: str,
  classifiers: Sequence[str] = (),
  settings: Settings = Settings(),
) -> list[Row]:
  """Fits classifiers on the features of one source, evaluates them on another, and adds the results
  to `workdir`/classify.json.

  Args:
    workdir: folder of a trained run.
    data_dir: folder of the prepared sets.
    checkpoint: a selection of one network: last, best, STEP or average:K.
    stage: a stage of the run; '' is the last one.
    train: a source (or one of the run's evaluation sets) with labels of `task`.
    test: another one, which must not share faces with `train`.
    task: a task with one class per face; the network need not predict it.
    classifiers: keys of CLASSIFIERS; if empty, all.
    settings: see `Settings`.

  Returns: One row per classifier: `checkpoint`, `steps`, `checksums`, `stage` (if the run has
    stages), `train`, `test`, `task`, `classifier`, `l2`, `trees`, `seed`, `features` (D),
    `n_train`, `seconds`, `low`, `high` (95% Wilson interval of the accuracy), and all of
    `metrics.summarize`.
  """
  kind = get_task(task)
  check_classifiers(classifiers)
  if kind.multi_label:
    raise UserError(
      f'--task={task}: has several labels per face; classify needs a task with one, such as '
      'ethnicity5'
    )
  evaluator, selection = Evaluator(workdir, data_dir, stage), Selection.parse(checkpoint)
  sources = [
    any_source(evaluator, name, flag) for flag, name in (('--train', train), ('--test', test))
  ]
  check_apart(*sources)
  known = [_labelled(source, task) for source in sources]
  head = evaluator.head(checkpoint, selection)
  network = FeatureNetwork(evaluator, selection)
  vectors = [network.of(source, f'features of {source.name}') for source in known]
  if settings.l2:
    vectors = [l2_normalized(x) for x in vectors]
  labels = [source.labels[task] for source in known]
  head |= {'train': sources[0].name, 'test': sources[1].name, 'task': task}
  head |= dataclasses.asdict(settings) | {'features': network.size, 'n_train': len(known[0])}
  rows = []
  for name in classifiers or CLASSIFIERS:
    start = time.monotonic()
    found = summarize(
      kind, fit_predict(name, settings, vectors[0], labels[0], vectors[1]), labels[1]
    )
    rows.append(head | {'classifier': name, 'seconds': round(time.monotonic() - start, 2)} | found)
    write_rows(
      evaluator.workdir / CLASSIFY_FILE, evaluator.config.name, _KEY, 'classify', rows[-1:]
    )
  return rows


def _labelled(source: Source, task: str) -> Source:
  """The faces of a source with a label of `task`."""
  if task not in source.labels:
    raise UserError(
      f'--task={task}: {source.name} is not labelled for it; its labels are '
      f'{", ".join(source.labels)}'
    )
  if not source.mask[task].any():
    raise UserError(
      f'--task={task}: no face of {source.name} is labelled; choose another part of the set'
    )
  return source.take(np.flatnonzero(source.mask[task]))


def check_apart(train: Source, test: Source) -> None:
  """Checks that classifiers are not evaluated on their training faces.

  Raises:
    UserError: the two sources share faces. Shared people only cause a warning: some sets are split
      that way.
  """
  first, second = (SourceName.parse(source.name) for source in (train, test))
  same_set = first.set_name.partition('/')[0] == second.set_name.partition('/')[0]
  if not same_set:
    return
  shared = (
    len(np.intersect1d(train.image_ids, test.image_ids)) if first.split == second.split else 0
  )
  if shared:
    raise UserError(
      f'--test={test.name}: {shared:,} of its {len(test):,} faces are also in '
      f'--train={train.name}; '
      'choose another split or fold'
    )
  people = set(train.subjects) & set(test.subjects) - {''}
  if people:
    warn(f'{len(people):,} people are in both {train.name} and {test.name}')


def classify_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Formats the rows as a table for a terminal or a Markdown file."""
  columns = [
    'classifier',
    'train',
    'test',
    'task',
    'n',
    'accuracy',
    '95% interval',
    'balanced',
    'macro F1',
  ]
  return markdown_table(columns, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
  interval = f'{row["low"]:.1%} - {row["high"]:.1%}'
  cells = [
    CLASSIFIERS[row['classifier']][0],
    row['train'],
    row['test'],
    row['task'],
    f'{row["n"]:,}',
  ]
  return [
    *cells,
    percent(row['accuracy']),
    interval,
    percent(row['balanced_accuracy']),
    percent(row['macro_f1']),
  ]
