"""A run as a page needs it: all that it left in its workdir, read once."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mtface import metrics
from mtface.config.saved import CONFIG_FILE, read_config, read_content
from mtface.config.schema import outputs_of
from mtface.config.stages import MAIN, stage_folder, stage_of
from mtface.errors import UserError
from mtface.evaluation.results import Row, read_results
from mtface.files import file_name, local_path
from mtface.outputs import Outputs
from mtface.report.page.predicted import Predicted, read_predictions
from mtface.tasks import Task
from mtface.training.logs import read_metrics

_COUNTS = ('n', 'correct', 'confusion', 'tp', 'tn', 'fp', 'fn')  # of a row of results


@dataclasses.dataclass(frozen=True)
class Gathered:
  """A stage of a run, and what was measured of it.

  Attributes:
    workdir: the folder of the run.
    data_dir: where prepared sets are looked for.
    stage: its name, `main` where there is one only.
    config: of the stage.
    content: all of config.json.
    checkpoint: the selection that figures of single images are of.
    rows: results of the stage.
    title: what the page calls the run.
  """

  workdir: pathlib.Path
  data_dir: pathlib.Path
  stage: str
  config: ConfigDict
  content: Mapping[str, Any]
  checkpoint: str
  rows: tuple[Row, ...]
  title: str

  @property
  def folder(self) -> pathlib.Path:
    """Where the stage logs."""
    return stage_folder(self.workdir, self.stage)

  @property
  def chosen(self) -> list[Row]:
    """The rows of `checkpoint`."""
    return [row for row in self.rows if row['checkpoint'] == self.checkpoint]

  @functools.cached_property
  def outputs(self) -> Outputs:
    """What the network answers, and how its scores are read."""
    return outputs_of(self.config)

  @property
  def tasks(self) -> dict[str, Task]:
    """What the network answers, by name."""
    return self.outputs.answered

  @functools.cached_property
  def log(self) -> list[dict[str, float]]:
    """The lines of metrics.jsonl."""
    return read_metrics(self.folder)

  @functools.cached_property
  def sets(self) -> dict[str, str]:
    """{name of a set: the source that was measured} of the chosen rows."""
    return {row['set']: row['source'] for row in self.chosen}

  @functools.cached_property
  def predictions(self) -> dict[str, Predicted]:
    """{set: what was said of its images} where `mtface evaluate --predictions` wrote it."""
    folder = self.folder / 'predictions' / file_name(self.checkpoint)
    paths = {name: folder / f'{file_name(name)}.csv' for name in self.sets}
    return {
      name: read_predictions(path, self.tasks) for name, path in paths.items() if path.exists()
    }

  def labelled(self) -> Iterator[tuple[str, Task, Predicted]]:
    """(set, task, predictions) of all that is predicted and labelled."""
    for name, found in self.predictions.items():
      for task in found.labels:
        if found.known(task).any():
          yield name, self.tasks[task], found

  def stale(self) -> list[str]:
    """The sets whose predictions are not those of the results: of another checkpoint, or set."""
    rows = {(row['set'], row['task']): row for row in self.chosen}
    return list(
      dict.fromkeys(
        name
        for name, task, predicted in self.labelled()
        if (row := rows.get((name, task.name))) and not _agree(row, task, predicted)
      )
    )

  def command(self, name: str, more: str = '') -> str:
    """A command line on this run."""
    stage = '' if self.stage == MAIN else f' --stage={self.stage}'
    return f'mtface {name} --workdir={self.workdir}{stage}{more}'

  def evaluation(self) -> str:
    """The command that writes predictions."""
    return self.command(
      'evaluate', f' --data_dir={self.data_dir} --checkpoint={self.checkpoint} --predictions'
    )


def _agree(row: Row, task: Task, predicted: Predicted) -> bool:
  """Whether predictions have the counts of a row of results."""
  labels = predicted.labels[task.name]
  counts = metrics.counts(
    task, predicted.scores[task.name], np.maximum(labels, 0), labels >= 0, threshold=0.5
  )
  found = metrics.summarize(task, counts)
  return all(found.get(key) == row[key] for key in _COUNTS if key in row)


def gather(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str = '',
  stage: str = '',
) -> Gathered:
  """Reads a run.

  Args:
    workdir: of a run that `mtface train` started.
    data_dir: of the prepared sets; they need not be there.
    checkpoint: the selection whose images are looked at; '': `last` where it was measured, or else
      the first that was.
    stage: of the run; '' is the last one.

  Raises:
    UserError: there is no run, or it was measured, but not that selection.
  """
  workdir = local_path(workdir)
  stage, config = stage_of(read_config(workdir), stage)
  of_stage = '' if stage == MAIN else stage
  rows = tuple(row for row in read_results(workdir) if row.get('stage', '') == of_stage)
  measured = list(dict.fromkeys(row['checkpoint'] for row in rows))
  if checkpoint and measured and checkpoint not in measured:
    raise UserError(
      f'--checkpoint={checkpoint}: was not measured in {workdir}; there is {", ".join(measured)}'
    )
  chosen = checkpoint or ('last' if 'last' in measured or not measured else measured[0])
  content = read_content(workdir / CONFIG_FILE)
  return Gathered(
    workdir, local_path(data_dir), stage, config, content, chosen, rows, workdir.resolve().name
  )
