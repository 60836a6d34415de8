"""`mtface features`: extracts feature vectors of faces with a trained network (Savchenko 2021,
section 2.2).

The features are the input of all heads of the network, its penultimate layer. Classifiers
(`mtface.features.classify`), identification (`mtface.features.identify`) and descriptors of clips
(`mtface.features.descriptors`) build on them.
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
from mtface.inference.views import without_views
from mtface.training.selection import Selection

T = TypeVar('T')


class FeatureNetwork:
  """One network of a run, used as a feature extractor.

  Attributes:
    evaluator: the run's evaluator. It compiles the extractor once for all of its networks.
    size: D, the length of a feature vector.
  """

  def __init__(self, evaluator: Evaluator, selection: Selection):
    """Loads the network of a selection.

    Raises:
      UserError: the selection is an ensemble: features of different networks are not comparable.
    """
    without_views(selection.kind, selection.views, 'features are of one view')
    if selection.kind == 'ensemble':
      raise UserError(
        f'--checkpoint=ensemble:{selection.count}: an ensemble has no features; choose one '
        'network: '
        'last, best, a step or average:K'
      )
    self.evaluator = evaluator
    ((self._params, self._stats),) = evaluator.networks(selection)
    self.size = evaluator.extractor.size(self._params, self._stats, evaluator.config.image_shape)

  def stream(self, batches: Iterable[tuple[np.ndarray, T]]) -> Iterator[tuple[np.ndarray, T]]:
    """Yields (features float32 [b, D], tag) for each (images uint8 [b, H, W, C], tag); b is at most
    `evaluator.extractor.batch_size`.

    Raises:
      UserError: a feature is not finite.
    """
    for found, tag in self.evaluator.extractor.stream(self._params, self._stats, batches):
      if not np.isfinite(found).all():
        raise UserError(
          f'{self.evaluator.workdir}: the network produces features that are not finite; '
          'choose another '
          '--checkpoint'
        )
      yield found, tag

  def of(self, source: Source, show: str = '') -> np.ndarray:
    """float32 [N, D] for a source's N faces, in order. `show` labels the progress bar; ''
    hides it.
    """
    return self.into(np.empty((len(source), self.size), np.float32), source, show)

  def into(self, found: np.ndarray, source: Source, show: str = '') -> np.ndarray:
    """The same, written into `found`, float32 [N, D], which may be memory-mapped."""
    for values, rows in self.stream(batches_of(source, self.evaluator.extractor.batch_size, show)):
      found[rows] = values
    return found


def features(evaluator: Evaluator, selection: Selection, source: Source) -> np.ndarray:
  """float32 [N, D]: the features of a source's N faces. For several sources, sharing one
  `FeatureNetwork` is faster.
  """
  return FeatureNetwork(evaluator, selection).of(source)


def any_source(evaluator: Evaluator, name: str, flag: str = '--on') -> Source:
  """A set by its name in `config.evaluation.sets` or by a source's name, with all its labels.

  Unlike in `Evaluator.source`, it need not be labelled for a task of the network.

  Raises:
    UserError: no such source, no faces in it, or images of another size than the network's.
  """
  entry = evaluator.config.evaluation.sets.get(name)
  source = load_source(
    entry.name if entry else name, evaluator.data_dir, store=evaluator.config.store
  )
  if not len(source):
    raise UserError(f'{flag}={name}: contains no faces; choose another part of the set')
  check_images(source, evaluator.config.image_shape)
  return source


def write_features(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str,
  on: Sequence[str],
  stage: str = '',
) -> list[pathlib.Path]:
  """Writes `workdir`/features/<checkpoint>/<source>.npz (in the stage's folder, if there are
  stages) for each source; returns the paths.

  Arrays: `features` float32 [N, D], `image_ids` text [N], `subjects` text [N] (empty: unknown), and
  named as in records, `labels/<task>` and `mask/<task>`, [N] or [N, C], for all tasks of the
  source, and `attributes/<name>`. None is a pickle.

  Args:
    workdir: folder of a trained run.
    data_dir: folder of the prepared sets.
    checkpoint: a selection of one network: last, best, STEP or average:K.
    on: names in the run's `config.evaluation.sets`, or sources; if empty, all of those sets.
    stage: a stage of the run; '' is the last one.
  """
  evaluator = Evaluator(workdir, data_dir, stage)
  names = list(on) or list(evaluator.config.evaluation.sets)
  if not names:
    raise UserError(
      '--on: the run has no evaluation sets; pass a source, e.g. --on=genki4k/gray48:train'
    )
  selection = Selection.parse(checkpoint)
  sources = [any_source(evaluator, name) for name in names]  # report errors before starting to work
  network = FeatureNetwork(evaluator, selection)
  folder = stage_folder(evaluator.workdir, evaluator.stage) / 'features' / file_name(checkpoint)
  return [_write(folder, source, network) for source in sources]


def _write(folder: pathlib.Path, source: Source, network: FeatureNetwork) -> pathlib.Path:
  """Goes through a temporary file of the features: for millions of faces they take many GB."""
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
  """The folder of a file; the temporary folder for /dev/null, which all processes but the first
  write to.
  """
  return None if path == pathlib.Path(os.devnull) else path.parent


def l2_normalized(vectors: np.ndarray) -> np.ndarray:
  """Scales rows to unit length, [N, D] -> [N, D]; rows of zeros stay as they are."""
  length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
  return (vectors / np.where(length == 0, 1, length)).astype(vectors.dtype)
