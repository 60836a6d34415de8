"""Curves of a training, and how fast it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtface.config.stages import MAIN
from mtface.report.curves import read_curves
from mtface.report.page.drawing import drawing, series
from mtface.report.page.gathered import Gathered
from mtface.report.page.parts import Cell, Figure, Missing, Part, Table, Value, number, thinned

_MOST_POINTS, _MOST_LINES = 1000, 60
_FEW = 12  # points that are marked: a line of one is not seen
Curve = tuple[Sequence[float], Sequence[float]]


def curves(run: Gathered, name: str) -> list[Part]:
  """Accuracy and loss of each task over epochs; `name` is unique on the page."""
  found = read_curves(run.log)
  if not found:
    return [Missing('The run has logged no accuracies (metrics.jsonl).', _train(run))]
  panels = sorted({(task, part) for task, part, _ in found})
  return [
    _panel(
      f'{name}-curves-{i}',
      f'{task}: {part}',
      {key[2]: curve for key, curve in found.items() if key[:2] == panel},
    )
    for i, panel in enumerate(panels)
    for task, part in [panel]
  ]


def _train(run: Gathered) -> str:
  stage = '' if run.stage == MAIN else f' (stage {run.stage})'
  return f'mtface train --config=... --workdir={run.workdir}{stage}'


def _panel(name: str, title: str, lines: Mapping[str, Curve]) -> Figure:
  def draw(axes: Any) -> None:
    for i, (label, curve) in enumerate(lines.items()):
      points = thinned(list(zip(*curve, strict=True)), _MOST_POINTS)
      few = {'marker': 'o', 'markersize': 3} if len(points) <= _FEW else {}
      axes.plot(*zip(*points, strict=True), label=label, **series(i), **few)
    axes.set(xlabel='epochs', ylabel=title.partition(': ')[2])
    axes.legend()

  said = ', '.join(f'{label} ends at {curve[1][-1]:.3f}' for label, curve in lines.items())
  return Figure(title, drawing(name, f'{title} over epochs; {said}', draw), _numbers(lines))


def _numbers(lines: Mapping[str, Curve]) -> Table:
  rows: list[list[Cell]] = [
    [label, number(epoch, 2), number(value, 4)]
    for label, curve in lines.items()
    for epoch, value in thinned(list(zip(*curve, strict=True)), _MOST_LINES)
  ]
  return Table('numbers', ('line', 'epochs', 'value'), rows, closed=True)


def machine(run: Gathered) -> list[Part]:
  """Throughput, hardware and versions."""
  return [_throughput(run), _hardware(run), _versions(run)]


def _throughput(run: Gathered) -> Part:
  lines = [line for line in run.log if 'health/step_seconds' in line]
  if not lines:
    return Missing('The run has logged no times (metrics.jsonl).', _train(run))
  rates = run.config.batch_size / np.array([line['health/step_seconds'] for line in lines])
  waits = np.array([line.get('health/input_wait', 0.0) for line in lines])
  low, middle, high = np.percentile(rates, (10, 50, 90))
  rows: list[list[Cell]] = [
    ['images a second, median', Value(f'{middle:,.1f}', float(middle))],
    ['10th to 90th percentile', f'{low:,.1f} to {high:,.1f}'],
    [
      'share of the time spent waiting for input',
      Value(f'{waits.mean():.1%}', float(waits.mean())),
    ],
    ['last step', Value(f'{run.log[-1]["step"]:,.0f}', run.log[-1]['step'])],
  ]
  return Table('Throughput of training', ('', ''), rows)


def _hardware(run: Gathered) -> Part:
  found = run.content.get('hardware')
  if not found:
    text = (
      'The run does not say what it was trained on: it was begun with a version of mtface that did '
      'not note it.'
    )
    return Missing(text)
  rows = [[key.replace('_', ' '), str(value)] for key, value in found.items()]
  return Table('Hardware that training began on', ('', ''), rows)


def _versions(run: Gathered) -> Part:
  rows = [[name, version] for name, version in run.content.get('versions', {}).items()]
  rows += [[name, str(value)] for name, value in run.content.get('jax_settings', {}).items()]
  return Table('Versions and settings that training began with', ('', ''), rows)
