"""An audit as files: a picture of the figures of each group with their intervals, CSV and JSON."""

from __future__ import annotations

import pathlib

from mtface.evaluation.audit import Audit
from mtface.evaluation.audit_table import COLUMNS, audit_json, audit_rows
from mtface.files import file_name, whole, write_csv, write_json

# Of Okabe and Ito's palette, which people with any form of colour blindness tell apart; shapes say
# the same again.
_USUAL, _FLAGGED, _SMALL = '#0072B2', '#D55E00', '#999999'


def write_audit(folder: pathlib.Path, of: Audit) -> list[pathlib.Path]:
  """Writes `folder`/<set>_<task>.csv, .json and .png; returns the paths."""
  stem = file_name(f'{of.answers.set_name}_{of.answers.task}')
  paths = [folder / f'{stem}.{form}' for form in ('csv', 'json', 'png')]
  rows = [['' if row[key] is None else row[key] for key in COLUMNS] for row in audit_rows(of)]
  write_csv(paths[0], COLUMNS, rows)
  write_json(paths[1], audit_json(of))
  _draw(paths[2], of)
  return paths


def _draw(path: pathlib.Path, of: Audit) -> None:
  """A column a figure, a line a group: its value and interval, and that of all faces."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  names = list(of.overall)
  figure = Figure(figsize=(2.6 + 2.3 * len(names), 1.3 + 0.24 * _height(of)), layout='constrained')
  FigureCanvasAgg(figure)
  panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
  for axes, name in zip(panels, names, strict=True):
    _panel(axes, of, name)
  places = _places(of)
  labels = [f'{row.group} ({row.n:,})' for row in of.rows]
  panels[0].set_yticks(places, labels, fontsize=8)
  panels[0].set_ylim(max(places) + 0.8, -1.4)
  for by, place in _titles(of):
    panels[0].annotate(
      by,
      (-0.02, place),
      xycoords=('axes fraction', 'data'),
      ha='right',
      va='center',
      fontsize=8,
      fontweight='bold',
      annotation_clip=False,
    )
  figure.suptitle(f'{of.answers.task}, {of.answers.set_name}', fontsize=11)
  figure.supxlabel(
    'bars: 95% intervals; dashed: all faces; square, orange: differs from all others by more than '
    f'chance (at most {of.level:.2%} of audits by random groups find any); '
    'grey, x: too small to compare',
    fontsize=7,
  )
  with whole(path) as partial:
    figure.savefig(partial, dpi=110, format='png')


def _panel(axes, of: Audit, name: str) -> None:
  scale = 1 if name == 'mean error' else 100
  everyone = of.overall[name].value * scale
  axes.axvline(everyone, color='k', linewidth=0.8, linestyle='--')
  for row, place in zip(of.rows, _places(of), strict=True):
    if name not in row.figures:
      continue
    found = row.figures[name]
    colour, marker = _USUAL, 'o'
    if found.too_small:
      colour, marker = _SMALL, 'x'
    elif name in row.flagged:
      colour, marker = _FLAGGED, 's'
    axes.hlines(place, found.low * scale, found.high * scale, color=colour, linewidth=1.6)
    axes.plot(found.value * scale, place, marker=marker, color=colour, markersize=5)
  unit = 'years' if name == 'mean error' else '%'
  axes.set_title(f'{name}, {unit}', fontsize=9)
  axes.tick_params(axis='x', labelsize=8)
  axes.grid(axis='x', alpha=0.3)


def _places(of: Audit) -> list[float]:
  """Where each row is drawn, from the top; a line is left for each title."""
  place, places, by = -1.0, [], ''
  for row in of.rows:
    place += 1 if row.by == by else 2
    by = row.by
    places.append(place)
  return places


def _titles(of: Audit) -> list[tuple[str, float]]:
  firsts: dict[str, float] = {}
  for row, place in zip(of.rows, _places(of), strict=True):
    firsts.setdefault(row.by, place - 1)
  return list(firsts.items())


def _height(of: Audit) -> float:
  return _places(of)[-1] + 3
