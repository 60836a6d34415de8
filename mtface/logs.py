"""Where a run's numbers go: metrics.jsonl and TensorBoard files in the workdir, and the terminal."""

from __future__ import annotations

import json
import pathlib
import sys
import time
from typing import IO, Any

import numpy as np

METRICS_FILE = 'metrics.jsonl'


class MetricsLog:
  """Appends numbers by step to metrics.jsonl and to TensorBoard files.

  A continued run drops the lines after its starting step, which a killed run may have written beyond its last checkpoint.
  """

  def __init__(self, workdir: pathlib.Path, start: int):
    import tensorboardX

    self._path = workdir / METRICS_FILE
    if self._path.exists():
      kept = [line for line in self._path.read_text().splitlines() if _step_of(line) <= start]
      partial = self._path.with_suffix('.part')
      partial.write_text(''.join(f'{line}\n' for line in kept))
      partial.rename(self._path)
    self._file: IO[str] = self._path.open('a', buffering=1)
    self._board = tensorboardX.SummaryWriter(str(workdir / 'tensorboard'), purge_step=start + 1)

  def write(self, step: int, values: dict[str, float]) -> None:
    """One line, and one TensorBoard point a value."""
    if not values:
      return
    self._file.write(json.dumps({'step': step, 'time': round(time.time(), 3), **values}) + '\n')
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def __enter__(self) -> MetricsLog:
    return self

  def __exit__(self, *_: Any) -> None:
    self._file.close()
    self._board.close()


def _step_of(line: str) -> float:
  """The step of a line of metrics.jsonl; infinity for one that a kill cut short."""
  try:
    return json.loads(line)['step']
  except (ValueError, KeyError, TypeError):
    return np.inf


def read_metrics(workdir: pathlib.Path) -> list[dict[str, float]]:
  """All whole lines of metrics.jsonl, in order."""
  path = workdir / METRICS_FILE
  lines = path.read_text().splitlines() if path.exists() else []
  return [json.loads(line) for line in lines if _step_of(line) < np.inf]


class TrainProgress:
  """Steps done, images/s and time left: a bar on a terminal, a line at each log line elsewhere."""

  def __init__(self, start: int, steps: int, batch_size: int):
    self._steps, self._batch_size = steps, batch_size
    self._step = start
    self._busy, self._counted = 0.0, 0  # seconds and steps of training; the first step, which compiles, is left out
    self._since: float | None = None
    self._bar: Any = None
    self._shown = ''
    if sys.stderr.isatty():
      from rich import progress as rich_progress
      from rich.console import Console

      columns = (
        'training',
        rich_progress.BarColumn(),
        '{task.completed:,}/{task.total:,} steps',
        '{task.fields[text]}',
      )
      self._bar = rich_progress.Progress(*columns, console=Console(stderr=True))
      self._task = self._bar.add_task('training', total=steps, completed=start, text='compiling')

  def advance(self, step: int) -> None:
    """One more step was dispatched."""
    now = time.monotonic()
    if self._since is not None:
      self._busy += now - self._since
      self._counted += 1
    self._since, self._step = now, step
    if self._bar is not None:
      self._bar.update(self._task, completed=step, text=f'{self._rate_text()} {self._shown}')

  def pause(self) -> None:
    """The time until the next step is evaluation and saving, and does not count as training."""
    self._since = None

  @property
  def images_per_second(self) -> float:
    """Over the whole run so far, all devices together; 0 before two steps were taken."""
    return self._counted * self._batch_size / self._busy if self._busy else 0.0

  def show(self, step: int, values: dict[str, float]) -> None:
    """Shows the accuracies of a log line."""
    accuracies = [f'{k.split("/")[1]} {v:.1%}' for k, v in values.items() if k.endswith('/accuracy')]
    self._shown = f'loss {values["train/loss"]:.3f}  {"  ".join(accuracies)}'
    if self._bar is None:
      print(f'step {step:,}/{self._steps:,}  {self._rate_text()}  {self._shown}', file=sys.stderr, flush=True)

  def _rate_text(self) -> str:
    rate = self.images_per_second
    if not rate:
      return ''
    left = (self._steps - self._step) * self._batch_size / rate
    return f'{rate:,.0f} images/s, {left // 60:.0f} min {left % 60:02.0f} s left'

  def __enter__(self) -> TrainProgress:
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *_: Any) -> None:
    if self._bar is not None:
      self._bar.stop()
