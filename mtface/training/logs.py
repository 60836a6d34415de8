"""Where a run's metrics go: metrics.jsonl and TensorBoard files in the workdir, a tracker, and the
terminal.
"""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from ml_collections import ConfigDict

from mtface import process
from mtface.errors import UserError
from mtface.files import whole
from mtface.training.trackers import Tracker

METRICS_FILE = 'metrics.jsonl'
_FLUSH_SECONDS = 10.0  # until TensorBoard sees a point


class MetricsLog:
  """Appends metrics by step to metrics.jsonl and to TensorBoard files, and sends them to a tracker.

  A resumed run drops the lines after its starting step, which a killed run may have written after
  its last checkpoint.

  Raises:
    UserError: the workdir cannot be written, or its disk is full (from here and from all methods).
  """

  def __init__(self, workdir: pathlib.Path, start: int, tracker: Tracker | None = None):
    # Not tensorboardX's SummaryWriter: it writes from its own thread, which dies on a full disk,
    # and then the run hangs.
    from tensorboardX.record_writer import RecordWriter

    self._path = workdir / METRICS_FILE
    with self._as_user_errors():
      workdir.mkdir(parents=True, exist_ok=True)
      if self._path.exists():
        _keep_until(self._path, start)
      self._file: IO[str] = self._path.open('a', buffering=1)
      (workdir / 'tensorboard').mkdir(exist_ok=True)
      name = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{start}'
      self._board = RecordWriter(str(workdir / 'tensorboard' / name))
      for event in _first_events(start + 1):
        self._board.write(event)
      self._flushed = 0.0
    self._tracker = tracker
    if tracker is not None:
      tracker.catch_up(read_metrics(workdir))

  def write(self, step: int, values: dict[str, float]) -> None:
    """Writes one line, and one TensorBoard point per value."""
    if not values:
      return
    now = time.time()
    with self._as_user_errors():
      self._file.write(json.dumps({'step': step, 'time': round(now, 3), **values}) + '\n')
      self._board.write(_scalars_event(step, now, values))
      if now - self._flushed > _FLUSH_SECONDS:
        self._board.flush()
        self._flushed = now
    if self._tracker is not None:
      self._tracker.write(step, values)

  def __enter__(self) -> MetricsLog:
    return self

  def __exit__(self, kind: Any, *_: Any) -> None:
    for writer in (self._board, self._file):
      try:
        with self._as_user_errors():
          writer.close()
      except UserError:
        if kind is None:  # otherwise report the first error
          raise
    if self._tracker is not None:
      self._tracker.close()

  @contextlib.contextmanager
  def _as_user_errors(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise UserError(
        f'{self._path.parent}: the metrics cannot be written ({error.strerror or error}); free up '
        'space or choose another '
        '--workdir. Committed checkpoints are intact; rerun the same command to resume '
        'from the last one'
      ) from error


def _keep_until(path: pathlib.Path, start: int) -> None:
  """Drops the lines of metrics.jsonl after step `start`."""
  kept = [line for line in path.read_text(errors='replace').splitlines() if _step_of(line) <= start]
  with whole(path) as partial:
    partial.write_text(''.join(f'{line}\n' for line in kept))


def _first_events(step: int) -> list[bytes]:
  """The header of a TensorBoard file, and the event that makes TensorBoard discard `step` and
  later.
  """
  from tensorboardX.proto import event_pb2

  start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  head = event_pb2.Event(wall_time=time.time(), file_version='brain.Event:2')
  return [
    head.SerializeToString(),
    event_pb2.Event(step=step, session_log=start).SerializeToString(),
  ]


def _scalars_event(step: int, now: float, values: dict[str, float]) -> bytes:
  from tensorboardX.proto import event_pb2, summary_pb2

  points = [
    summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()
  ]
  return event_pb2.Event(
    wall_time=now, step=step, summary=summary_pb2.Summary(value=points)
  ).SerializeToString()


def _step_of(line: str) -> float:
  """The step of a line of metrics.jsonl; infinity if the line is truncated."""
  try:
    return json.loads(line)['step']
  except (ValueError, KeyError, TypeError):
    return np.inf


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
  """All complete lines of metrics.jsonl, in order."""
  path = workdir / METRICS_FILE
  lines = path.read_text(errors='replace').splitlines() if path.exists() else []
  return [json.loads(line) for line in lines if _step_of(line) < np.inf]


class Silent:
  """Replaces the log and the progress display in all processes but the first."""

  def __getattr__(self, _: str) -> Any:
    return lambda *_, **__: None

  def __enter__(self) -> Silent:
    return self

  def __exit__(self, *_: Any) -> None:
    pass


def open_log(workdir: pathlib.Path, start: int, config: ConfigDict, name: str) -> Any:
  """The metrics log of a stage that starts after step `start`, with the tracker of its config, in
  which the run is called `name`; silent in all processes but the first.
  """
  if not process.is_first():
    return Silent()
  tracker = Tracker(config, workdir, name, start) if config.tracker else None
  return MetricsLog(workdir, start, tracker)


def open_progress(start: int, steps: int, batch_size: int, seconds: float = math.inf) -> Any:
  """The progress display of a run; silent in all processes but the first."""
  return TrainProgress(start, steps, batch_size, seconds) if process.is_first() else Silent()


class TrainProgress:
  """Steps done, images/s and time left: a bar on a terminal, otherwise a line with each log
  line.
  """

  def __init__(self, start: int, steps: int, batch_size: int, seconds: float = math.inf):
    """`seconds` are those that the run still has, where its length is a time."""
    self._steps, self._batch_size = steps, batch_size
    self._step = start
    self._ends = time.monotonic() + seconds if seconds < math.inf else math.inf
    self._of = f'/{steps:,}' if seconds == math.inf else ''
    # seconds and steps of training, without the first call, which compiles
    self._busy, self._counted = 0.0, 0
    self._since: float | None = None
    self._bar: Any = None
    self._shown = ''
    if sys.stderr.isatty():
      from rich import progress as rich_progress
      from rich.console import Console

      columns = (
        'training',
        rich_progress.BarColumn(),
        '{task.completed:,}' + ('/{task.total:,} steps' if self._of else ' steps'),
        '{task.fields[text]}',
      )
      self._bar = rich_progress.Progress(*columns, console=Console(stderr=True))
      self._task = self._bar.add_task('training', total=steps, completed=start, text='compiling')

  def advance(self, step: int) -> None:
    """Counts the steps up to `step` as dispatched."""
    now = time.monotonic()
    if self._since is not None:
      self._busy += now - self._since
      self._counted += step - self._step
    self._since, self._step = now, step
    if self._bar is not None:
      self._bar.update(self._task, completed=step, text=f'{self._rate_text()} {self._shown}')

  def pause(self) -> None:
    """The time until the next step goes into evaluation and saving and does not count as
    training.
    """
    self._since = None

  @property
  def images_per_second(self) -> float:
    """The rate over the whole run so far, on all devices together; 0 before the second step."""
    return self._counted * self._batch_size / self._busy if self._busy else 0.0

  def show(self, step: int, values: dict[str, float]) -> None:
    """Shows the accuracies of a log line."""
    accuracies = [
      f'{" ".join(k.split("/")[1:-1])} {v:.1%}'
      for k, v in values.items()
      if k.endswith('/accuracy')
    ]
    loss = (
      [f'loss {values["train/loss"]:.3f}'] if 'train/loss' in values else []
    )  # not in the middle of a log interval
    if not loss + accuracies:  # a checkpoint between log lines
      return
    self._shown = '  '.join(loss + accuracies)
    if self._bar is None:
      print(
        f'step {step:,}{self._of}  {self._rate_text()}  {self._shown}',
        file=sys.stderr,
        flush=True,
      )

  def _rate_text(self) -> str:
    rate = self.images_per_second
    if not rate:
      return ''
    left = (self._steps - self._step) * self._batch_size / rate
    if self._ends < math.inf:
      left = max(0.0, self._ends - time.monotonic())
    return f'{rate:,.0f} images/s, {left // 60:.0f} min {left % 60:02.0f} s left'

  def __enter__(self) -> TrainProgress:
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *_: Any) -> None:
    if self._bar is not None:
      self._bar.stop()
