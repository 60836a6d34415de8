"""A heat map of one task's mean scores by the predicted class of another (Pons 2018, figure 2), and
its numbers as CSV.
"""

from __future__ import annotations

import pathlib

import numpy as np

from mtface.evaluation.associate import Association
from mtface.files import file_name, whole, write_csv


def write_heatmap(folder: pathlib.Path, found: Association) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes `folder`/<of>_by_<by>_<set>.png and .csv; returns (picture, numbers).

  The CSV has a line a class of `by`: `predicted`, `n`, and the mean score of each class of `of`,
  empty where nothing is predicted so.
  """
  folder.mkdir(parents=True, exist_ok=True)
  stem = file_name(f'{found.of.name}_by_{found.by.name}_{found.name}')
  picture, numbers = folder / f'{stem}.png', folder / f'{stem}.csv'
  lines = [
    [name, n, *('' if np.isnan(value) else value for value in row.tolist())]
    for name, n, row in zip(found.by.classes, found.counts.tolist(), found.means, strict=True)
  ]
  write_csv(numbers, ['predicted', 'n', *found.of.classes], lines)
  _draw(picture, found)
  return picture, numbers


def _draw(path: pathlib.Path, found: Association) -> None:
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  rows, columns = found.means.shape
  figure = Figure(figsize=(1.6 + 0.62 * columns, 1.2 + 0.5 * rows))
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  image = axes.imshow(found.means, cmap='Blues', vmin=0, vmax=max(1.0, np.nanmax(found.means)))
  names = [f'{name} ({n:,})' for name, n in zip(found.by.classes, found.counts, strict=True)]
  axes.set_yticks(range(rows), names)
  axes.set_xticks(range(columns), found.of.classes, rotation=0 if columns <= 12 else 90)
  for (i, j), value in np.ndenumerate(found.means):
    if not np.isnan(value):
      dark = value > 0.55
      axes.text(j, i, f'{value:.2f}', ha='center', va='center', color='w' if dark else 'k', size=8)
  axes.set_title(f'mean score of {found.of.name} by predicted {found.by.name}, {found.name}')
  figure.colorbar(image, ax=axes, fraction=0.03)
  figure.tight_layout()
  with whole(path) as partial:
    figure.savefig(partial, dpi=110, format='png')
