"""What is measured: a selection of a run's checkpoints, alone or averaged with those of other runs.

    last                       the run itself, see mtface/training/selection.py
    last+runs/snet5@last       the mean of what it says and what another run's selection says
    best+A@best+B@average:5    any number of runs, which count alike

Zhang 2016 (section 3, stage 3) averages two networks that see the same face cut out in two ways: so
each run measures the set that it calls by the same name, and images are joined by their ids. A
source that is named in full is taken by all of them. Of other runs, the last stage takes part.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mtface.data.names import SourceName
from mtface.data.sources import Source
from mtface.errors import UserError
from mtface.evaluation.calibration import read_temperatures, with_temperature
from mtface.evaluation.evaluator import AVERAGED, Evaluator
from mtface.evaluation.results import Row
from mtface.files import split_selection
from mtface.inference.readout import concatenated
from mtface.inference.runner import Networks
from mtface.outputs import Scores
from mtface.progress import warn
from mtface.tasks import Task
from mtface.training.selection import Selection

CALIBRATED = ' (calibrated)'  # behind a selection whose probabilities have their temperature


@dataclasses.dataclass(frozen=True)
class Faces:
  """The same images as each run has them.

  Attributes:
    own: of the run that is measured; its labels count.
    others: of the other runs, in the same order.
  """

  own: Source
  others: tuple[Source, ...] = ()

  def take(self, indices: np.ndarray) -> Faces:
    """Some of them."""
    return Faces(self.own.take(indices), tuple(of.take(indices) for of in self.others))


class Chosen:
  """A selection, ready to say something of faces.

  Attributes:
    text: the selection as it was asked for.
    tasks: what it says something of: the tasks that all of its runs answer.
  """

  def __init__(
    self,
    text: str,
    evaluator: Evaluator,
    data_dir: str | os.PathLike,
    *,
    re_estimate: bool = True,
    calibrated: bool = False,
  ):
    """Reads a selection of the run of `evaluator`; other runs are opened, nothing is loaded. With
    `calibrated`, probabilities get the temperatures that `mtface calibrate` fitted to this
    selection; those of tasks that it fitted none to stay as they are.

    Raises:
      UserError: it is no selection, a run is not there, the runs have no task in common, or nothing
        was fitted to this selection.
    """
    own, *others = text.split('+')
    self.text, self._re_estimate = text, re_estimate
    self._evaluators = [evaluator]
    self._selections = [Selection.parse(own)]
    batch_size = evaluator.config.evaluation.batch_size
    for other in others:
      workdir, selection = split_selection(other)
      if not selection:
        raise UserError(
          f'--checkpoint={text}: {other!r} names no selection of another run; write WORKDIR@last'
        )
      self._evaluators.append(Evaluator(workdir, data_dir, batch_size=batch_size))
      self._selections.append(Selection.parse(selection))
    self.tasks = self._common_tasks()
    self._networks: list[Networks] = []
    self.temperatures: dict[str, float] = {}
    if calibrated:
      self.temperatures = read_temperatures(evaluator.workdir, self.head())

  def _common_tasks(self) -> dict[str, Task]:
    first, *others = self._evaluators
    common = {
      name: task
      for name, task in first.tasks.items()
      if all(of.tasks.get(name) == task for of in others)
    }
    if not common:
      raise UserError(f'--checkpoint={self.text}: these runs predict no task in common')
    for name in common:
      if len({of.outputs.readout(name) for of in self._evaluators}) > 1:
        raise UserError(
          f'--checkpoint={self.text}: {name} has probabilities in one run and margins, or others, '
          'in another; their mean means nothing'
        )
    return common

  def readout(self, task: str) -> str:
    """How the scores of a task are read, see `Outputs.readout`."""
    return self._evaluators[0].outputs.readout(task)

  def faces(self, name: str, *, labelled: bool = True) -> Faces:
    """A set by its name in the runs' configs, or a source; only images that all runs have. With
    `labelled` it must label a task of each run.

    Raises:
      UserError: a run has no such set, or the runs' sets are different ones.
    """
    own, *others = self._evaluators
    for other in others:
      sets = other.config.evaluation.sets
      if name in own.config.evaluation.sets and name not in sets:
        raise UserError(
          f'--on={name}: {other.workdir} has no set of this name, but {", ".join(sets) or "none"}; '
          'name a set that all runs have, or a source'
        )
    sources = [evaluator.source(name, labelled=labelled) for evaluator in self._evaluators]
    if len(sources) == 1:
      return Faces(sources[0])
    return _joined(name, sources)

  def head(self) -> Row:
    """What a row of results says of it: its name, steps, and checksums of these steps' checkpoints;
    with other runs, `members`, the same of each; and `temperatures`, where there are some.
    """
    head = self._head()
    if not self.temperatures:
      return head
    text = f'{head["checkpoint"]}{CALIBRATED}'
    return head | {'checkpoint': text, 'temperatures': self.temperatures}

  def _head(self) -> Row:
    own, *others = [
      evaluator.head(text, selection, self._re_estimate)
      for evaluator, selection, text in zip(
        self._evaluators, self._selections, self.text.split('+'), strict=True
      )
    ]
    if not others:
      return own
    members = [
      of | {'name': evaluator.config.name, 'arguments': evaluator.config.arguments.to_dict()}
      for of, evaluator in zip(others, self._evaluators[1:], strict=True)
    ]
    averaged = any(of['checkpoint'].endswith(AVERAGED) for of in (own, *others))
    return own | {'checkpoint': f'{self.text}{AVERAGED if averaged else ""}', 'members': members}

  def stream(self, faces: Faces, show: str = '') -> Iterator[tuple[Scores, np.ndarray]]:
    """({task: [b, C]}, rows int [b]), batch by batch: the mean of what the runs say
    (`readout.comparable`).
    """
    self.load()
    streams = [
      evaluator.stream(networks, source, show if i == 0 else '', selection.views)
      for i, (evaluator, networks, source, selection) in enumerate(
        zip(
          self._evaluators,
          self._networks,
          (faces.own, *faces.others),
          self._selections,
          strict=True,
        )
      )
    ]
    for of_each in zip(*streams, strict=True):
      rows = of_each[0][1]
      yield self._together([scores for scores, _ in of_each]), rows

  def _together(self, said: Sequence[Scores]) -> Scores:
    """The mean of what the runs say, with its temperatures."""
    means = {task: _mean([scores[task] for scores in said]) for task in self.tasks}
    return {
      task: with_temperature(scores, self.temperatures[task], self.readout(task))
      if task in self.temperatures
      else scores
      for task, scores in means.items()
    }

  @property
  def views(self) -> str:
    """The kind of views that one of its selections asks for; '' if none does."""
    return next((of.views for of in self._selections if of.views), '')

  @property
  def evaluators(self) -> Sequence[Evaluator]:
    """The run itself, and the others."""
    return self._evaluators

  @property
  def networks(self) -> Sequence[Networks]:
    """The networks of each run, loaded."""
    self.load()
    return self._networks

  def load(self) -> None:
    """Loads the networks, if they are not."""
    self._networks = self._networks or [
      evaluator.networks(selection, re_estimate=self._re_estimate)
      for evaluator, selection in zip(self._evaluators, self._selections, strict=True)
    ]

  def of_images(self, images: Sequence[np.ndarray], size: int) -> Scores:
    """{task: [N, C]}: the mean of what the runs say of the same N faces, N at least 1, of which
    each run has its own images, uint8 [N, H, W, C]; batches are filled up to `size`.
    """
    self.load()
    said = [
      evaluator.of_images(networks, of_run, size, selection.views)
      for evaluator, networks, of_run, selection in zip(
        self._evaluators, self._networks, images, self._selections, strict=True
      )
    ]
    return self._together(said)

  def predictions(self, faces: Faces) -> Scores:
    """{task: [N, C]}: the same of all faces at once, for small sources."""
    return concatenated(scores for scores, _ in self.stream(faces))


def _mean(values: Sequence[Any]) -> Any:
  return sum(values[1:], values[0]) / len(values)


def _joined(name: str, sources: Sequence[Source]) -> Faces:
  """The images that all sources have, in the order of the first."""
  sets = {SourceName.parse(source.name).set_name.partition('/')[0] for source in sources}
  if len(sets) > 1:  # an id is unique in its set alone
    raise UserError(
      f'--on={name}: {" and ".join(source.name for source in sources)} are of different sets, so '
      'their images cannot be joined'
    )
  ids = [source.image_ids for source in sources]
  common = set(ids[0].tolist()).intersection(*(of.tolist() for of in ids[1:]))
  if not common:
    raise UserError(
      f'--on={name}: {" and ".join(source.name for source in sources)} have no image in common'
    )
  if len(common) < max(map(len, sources)):
    counts = ', '.join(f'{source.name} {len(source):,}' for source in sources)
    warn(f'{name}: {len(common):,} images are in all of {counts}; only these are measured')
  order = [image_id for image_id in ids[0].tolist() if image_id in common]
  taken = []
  for source, of in zip(sources, ids, strict=True):
    place = {image_id: row for row, image_id in enumerate(of.tolist())}
    taken.append(source.take(np.array([place[image_id] for image_id in order])))
  return Faces(taken[0], tuple(taken[1:]))
