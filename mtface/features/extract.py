"""`mtface features`: faces as the feature vectors that a trained network makes of them (Savchenko
2021, section 2.2).

The features are what all heads of the network see, its penultimate layer. Classifiers
(`mtface.features.classify`), identification (`mtface.features.identify`) and descriptors of clips
(`mtface.features.descriptors`) are made of them.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from mtface import process
from mtface.config.stages import stage_folder
from mtface.data.inputs import check_images
from mtface.data.sources import Source, load_source
from mtface.errors import UserError
from mtface.evaluation.evaluator import Evaluator
from mtface.files import file_name, replaced
from mtface.inference.runner import batches_of
from mtface.training.selection import Selection

T = TypeVar('T')


class FeatureNetwork:
  """One network of a run, which makes features of faces.

  Attributes:
    evaluator: of the run. It compiles the features once for all of its networks.
    size: D, the length of a feature vector.
  """

  def __init__(self, evaluator: Evaluator, selection: Selection):
    """Loads the network of a selection.

    Raises:
      UserError: the selection is an ensemble: the features of several networks have nothing to do
        with each other.
    """
    if selection.kind == 'ensemble':
      raise UserError(
        f'--checkpoint=ensemble:{selection.count}: an ensemble has no features; name one network: '
        'last, best, a step or average:K'
      )
    self.evaluator = evaluator
    ((self._params, self._stats),) = evaluator.networks(selection)
    self.size = evaluator.extractor.size(self._params, self._stats, evaluator.config.image_shape)

  def stream(self, batches: Iterable[tuple[np.ndarray, T]]) -> Iterator[tuple[np.ndarray, T]]:
    """(features float32 [b, D], tag) for each (images uint8 [b, H, W, C], tag); b is at most
    `evaluator.extractor.batch_size`.

    Raises:
      UserError: a feature is not finite.
    """
    for found, tag in self.evaluator.extractor.stream(self._params, self._stats, batches):
      if not np.isfinite(found).all():
        raise UserError(
          f'{self.evaluator.workdir}: the network makes features that are not finite; name another '
          '--checkpoint'
        )
      yield found, tag

  def of(self, source: Source, show: str = '') -> np.ndarray:
    """float32 [N, D] of a source's N faces, in order. `show` names the progress bar; empty shows
    none.
    """
    return self.into(np.empty((len(source), self.size), np.float32), source, show)

  def into(self, found: np.ndarray, source: Source, show: str = '') -> np.ndarray:
    """The same, written into `found`, float32 [N, D], which may be a file's."""
    for values, rows in self.stream(batches_of(source, self.evaluator.extractor.batch_size, show)):
      found[rows] = values
    return found


def features(evaluator: Evaluator, selection: Selection, source: Source) -> np.ndarray:
  """float32 [N, D]: the features of a source's N faces. Several sources are quicker with one
  `FeatureNetwork`.
  """
  return FeatureNetwork(evaluator, selection).of(source)


def any_source(evaluator: Evaluator, name: str, flag: str = '--on') -> Source:
  """A set by its name in `config.evaluation.sets`, or by a source's name, with all labels that it
  has.

  Unlike `Evaluator.source` it need not label a task of the network.

  Raises:
    UserError: there is no such source, it holds no face, or its images are not of the network's
      size.
  """
  entry = evaluator.config.evaluation.sets.get(name)
  source = load_source(
    entry.name if entry else name, evaluator.data_dir, store=evaluator.config.store
  )
  if not len(source):
    raise UserError(f'{flag}={name}: holds no face; name another part of the set')
  check_images(source, evaluator.config.image_shape)
  return source


def write_features(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str,
  on: Sequence[str],
  stage: str = '',
) -> list[pathlib.Path]:
  """Writes `workdir`/features/<checkpoint>/<source>.npz (of a stage: in its folder) for each
  source; returns the paths.

  Arrays: `features` float32 [N, D], `image_ids` text [N], `subjects` text [N] (empty: unknown), and
  with the names of records `labels/<task>` and `mask/<task>`, [N] or [N, C], for all tasks of the
  source, and `attributes/<name>`. None is a pickle.

  Args:
    workdir: of a trained run.
    data_dir: of the prepared sets.
    checkpoint: a selection of one network: last, best, STEP or average:K.
    on: names in the run's `config.evaluation.sets`, or sources; none: all of those sets.
    stage: of the run; '' is the last one.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  names = list(on) or list(evaluator.config.evaluation.sets)
  if not names:
    raise UserError(
      '--on: the run names no evaluation sets; give some, e.g. --on=genki4k/gray48:train'
    )
  selection = Selection.parse(checkpoint)
  sources = [any_source(evaluator, name) for name in names]  # what is wrong shows before the work
  network = FeatureNetwork(evaluator, selection)
  folder = stage_folder(evaluator.workdir, evaluator.stage) / 'features' / file_name(checkpoint)
  return [_write(folder, source, network) for source in sources]


def _write(folder: pathlib.Path, source: Source, network: FeatureNetwork) -> pathlib.Path:
  """By way of a file of the features alone: of millions of faces they are many GB."""
  path = folder / f'{file_name(source.name)}.npz'
  arrays = {'image_ids': source.image_ids, 'subjects': source.subjects}
  for kind, fields in (
    ('labels', source.labels),
    ('mask', source.mask),
    ('attributes', source.attributes),
  ):
    arrays |= {f'{kind}/{name}': values for name, values in fields.items()}
  with replaced(path) as partial, tempfile.TemporaryDirectory(dir=_beside(partial)) as scratch:
    shape = (len(source), network.size)
    vectors = np.lib.format.open_memmap(
      pathlib.Path(scratch) / 'features.npy', 'w+', np.float32, shape
    )
    network.into(vectors, source, f'features of {source.name}')
    with partial.open('wb') as file:
      np.savez(file, features=vectors, **arrays)  # type: ignore[arg-type]  # one of its own arguments is a bool
  process.say(f'{path}: {len(source):,} faces, {network.size} features each')
  return path


def _beside(path: pathlib.Path) -> pathlib.Path | None:
  """The folder of a file; that of temporary files for /dev/null, where processes write that are not
  the first.
  """
  return None if path == pathlib.Path(os.devnull) else path.parent


def l2_normalized(vectors: np.ndarray) -> np.ndarray:
  """Rows of length 1, [N, D] -> [N, D]; a row of zeros stays as it is."""
  length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
  return (vectors / np.where(length == 0, 1, length)).astype(vectors.dtype)
