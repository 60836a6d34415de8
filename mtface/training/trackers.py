"""Trackers: programs to which the lines of metrics.jsonl are sent as they are written, such as
trackio and wandb, or one of your own (`config.tables.TRACKERS`).

A tracker is for looking at runs and never decides about one: whatever goes wrong with it is told in
one line, and training goes on without it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import pathlib
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ml_collections import ConfigDict

from mtface.config.tables import TRACKERS
from mtface.errors import UserError, first_line
from mtface.files import whole
from mtface.progress import warn

TRACKER_FILE = 'tracker.json'
PROJECT = 'mtface'  # where the config names none


class TrackedRun(Protocol):
  """What an entry of `TRACKERS` returns; runs of trackio and wandb are such."""

  def log(self, metrics: dict[str, float], step: int) -> Any:
    """Takes the metrics of a step; steps only grow."""

  def finish(self) -> Any:
    """Is called once, at the end of the training, or where it stops."""


def trackio(
  *, project: str, run_id: str, name: str, config: dict[str, Any], workdir: pathlib.Path
) -> TrackedRun:
  """A run of trackio, which knows a run by its name. TRACKIO_DIR, TRACKIO_SPACE_ID and so on say
  where it is kept.
  """
  import trackio

  del workdir
  trackio.init(project=project, name=f'{name}-{run_id}', config=config, resume='allow', embed=False)
  return trackio  # its own functions: a run that is finished without them is finished again at exit


def wandb(
  *, project: str, run_id: str, name: str, config: dict[str, Any], workdir: pathlib.Path
) -> TrackedRun:
  """A run of Weights & Biases. WANDB_MODE=offline, WANDB_ENTITY and so on are its own."""
  import wandb

  return wandb.init(
    project=project,
    id=run_id,
    name=name,
    config=config,
    dir=workdir,
    resume='allow',
    allow_val_change=True,  # a resumed run may be longer
  )


def check_tracker(text: str) -> None:
  """Raises a `UserError` for a `config.tracker` that is unknown or not installed here."""
  if not text:
    return
  name, _ = _split(text)
  package = TRACKERS.entry(name, 'config.tracker').traits['package']
  if package and importlib.util.find_spec(package) is None:
    raise UserError(
      f"config.tracker: {package} is not installed; pip install 'mtface[{package}]', or leave "
      'config.tracker empty'
    )


def _split(text: str) -> tuple[str, str]:
  """(name of the tracker, project) of NAME[:PROJECT]."""
  name, _, project = text.partition(':')
  return name, project or PROJECT


class Tracker:
  """Sends the lines of one stage's log to a tracker.

  `tracker.json` beside metrics.jsonl holds the id of the run there and the last step that was sent.
  So a resumed stage goes on with the same run, sends nothing twice, and first sends what is in
  metrics.jsonl and was not sent: because the tracker failed, or was not asked for before. A stage
  that begins again from its first step is another run.
  """

  def __init__(self, config: ConfigDict, workdir: pathlib.Path, name: str, start: int):
    """Opens the run in the tracker of `config.tracker`.

    Args:
      config: of the stage; all of it is sent.
      workdir: the folder of the stage's metrics.jsonl.
      name: of the run, as it is shown.
      start: the step that the stage goes on from.
    """
    self._text, self._path = config.tracker, workdir / TRACKER_FILE
    self._noted = self._read() if start else {}
    self._run: TrackedRun | None = None
    tracker, project = _split(self._text)
    with self._harmless():
      workdir.mkdir(parents=True, exist_ok=True)
      mine = self._noted.setdefault(self._text, {'run': secrets.token_hex(4), 'step': 0})
      self._run = TRACKERS.entry(tracker, 'config.tracker').load()(
        project=project,
        run_id=mine['run'],
        name=name,
        config=json.loads(config.to_json_best_effort()),
        workdir=workdir,
      )
      self._note(mine['step'])

  def catch_up(self, lines: Iterable[Mapping[str, float]]) -> None:
    """Sends those of the lines of metrics.jsonl that were not sent."""
    for line in lines:
      values = {key: value for key, value in line.items() if key not in ('step', 'time')}
      self.write(int(line['step']), values)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Sends the values of a step, unless it was sent before."""
    if self._run is not None and step > self._noted[self._text]['step']:
      with self._harmless():
        self._run.log(dict(values), step=step)
        self._note(step)

  def close(self) -> None:
    """Tells the tracker that the run is over for now."""
    if self._run is not None:
      with self._harmless():
        self._run.finish()

  def _read(self) -> dict[str, Any]:
    """What tracker.json says; nothing where it is missing or damaged."""
    try:
      found = json.loads(self._path.read_text())
      return {text: {'run': str(of['run']), 'step': int(of['step'])} for text, of in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
      return {}

  def _note(self, step: int) -> None:
    self._noted[self._text]['step'] = step
    with whole(self._path) as partial:
      partial.write_text(json.dumps(self._noted))

  @contextlib.contextmanager
  def _harmless(self) -> Iterator[None]:
    """Any error of the tracker becomes one line, after which it is left alone; what it prints goes
    to stderr.
    """
    try:
      with contextlib.redirect_stdout(sys.stderr):
        yield
    except Exception as error:  # of code that is not ours: anything may come out of it
      self._run = None
      warn(
        f'config.tracker: {self._text} failed ({type(error).__name__}: {first_line(error)}); '
        'training goes on without it, and metrics.jsonl has everything'
      )
