"""Drawings for the page: matplotlib's, as SVG that takes its colours from the page's style sheet,
so that they are readable in light and dark.

The colours are Okabe and Ito's (2008), which people see apart whatever colours they see; lines also
differ in their dashes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

# Stand-ins that a drawing is made with, and what the style sheet calls them.
INK, GRID = '#010203', '#040506'
SERIES = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#f0e442', '#000001')
_NAMES = {INK: '--ink', GRID: '--grid'} | {c: f'--series-{i}' for i, c in enumerate(SERIES)}
DASHES = ('-', '--', '-.', ':')
_STYLE: Any = {
  'svg.fonttype': 'none',  # text stays text: it can be found, scaled and read out
  'svg.hashsalt': 'mtface',  # the same drawing has the same ids
  'font.family': 'sans-serif',
  'font.size': 9,
  'text.color': INK,
  'axes.edgecolor': GRID,
  'axes.labelcolor': INK,
  'axes.titlecolor': INK,
  'axes.grid': True,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'grid.color': GRID,
  'grid.linewidth': 0.5,
  'xtick.color': INK,
  'ytick.color': INK,
  'legend.frameon': False,
  'legend.fontsize': 8,
  'figure.facecolor': 'none',
  'axes.facecolor': 'none',
  'savefig.facecolor': 'none',
}


def drawing(
  name: str, alt: str, draw: Callable[[Any], None], size: tuple[float, float] = (4.4, 3.0)
) -> str:
  """SVG of what `draw` puts on a pair of axes.

  Args:
    name: unique on the page; ids inside begin with it.
    alt: what it shows, for those who do not see it.
    draw: is given the axes.
    size: inches.
  """
  import matplotlib as mpl
  from matplotlib.backends.backend_svg import FigureCanvasSVG
  from matplotlib.figure import Figure

  with mpl.rc_context(_STYLE):
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasSVG(figure)
    draw(figure.add_subplot())
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata={'Date': None})
  return _for_the_page(file.getvalue(), name, alt)


def series(i: int) -> Mapping[str, Any]:
  """How the i-th line of a drawing looks."""
  return {
    'color': SERIES[i % len(SERIES)],
    'linestyle': DASHES[i % len(DASHES)],
    'linewidth': 1.4,
  }


def _for_the_page(text: str, name: str, alt: str) -> str:
  body = text[text.index('<svg') :]
  body = re.sub(r'<metadata>.*?</metadata>', '', body, flags=re.DOTALL)
  body = re.sub(r'(\bid="|url\(#|href="#)', rf'\g<1>{name}-', body)
  for colour, variable in _NAMES.items():
    body = body.replace(colour, f'var({variable})')
  body = re.sub(r'(<svg [^>]*?) width="[^"]*"', r'\1', body, count=1)
  body = re.sub(r'(<svg [^>]*?) height="[^"]*"', r'\1', body, count=1)
  label = alt.replace('&', '&amp;').replace('"', '&quot;').replace('<', '&lt;')
  return body.replace('<svg ', f'<svg role="img" aria-label="{label}" ', 1)
