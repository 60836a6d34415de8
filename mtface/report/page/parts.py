"""What a section of the page is made of; templates/page.html shows each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mtface.metrics import wilson_interval


@dataclasses.dataclass(frozen=True)
class Value:
  """A number of a table: what is shown, and the number itself, which programs can read there."""

  text: str
  value: float | int


Cell = str | Value


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph."""

  text: str
  kind: str = dataclasses.field(default='text', init=False)


@dataclasses.dataclass(frozen=True)
class Missing:
  """What cannot be shown, why, and the command that leaves it."""

  text: str
  command: str = ''
  kind: str = dataclasses.field(default='missing', init=False)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table; the first column names the row. `closed`: behind a line that opens it."""

  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  closed: bool = False
  kind: str = dataclasses.field(default='table', init=False)


@dataclasses.dataclass(frozen=True)
class Heat:
  """A table whose cells are shaded.

  Attributes:
    caption: what it shows.
    corner: what rows and columns are.
    columns: their names.
    rows: each its name and its cells: (text, number, shade from 0 to 1), or None where nothing is
      known.
    diagonal: whether the cell of equal row and column is framed.
  """

  caption: str
  corner: str
  columns: Sequence[str]
  rows: Sequence[tuple[str, Sequence[tuple[str, float, float] | None]]]
  diagonal: bool = False
  kind: str = dataclasses.field(default='heat', init=False)


@dataclasses.dataclass(frozen=True)
class Figure:
  """A drawing (SVG), what it shows, and its numbers."""

  title: str
  svg: str
  table: Table
  kind: str = dataclasses.field(default='figure', init=False)


@dataclasses.dataclass(frozen=True)
class Faces:
  """Small pictures: (data URI, caption). Only where somebody asked for them."""

  title: str
  faces: Sequence[tuple[str, str]]
  kind: str = dataclasses.field(default='faces', init=False)


Part = Text | Missing | Table | Heat | Figure | Faces


def count(n: int) -> Value:
  """A number of things."""
  return Value(f'{n:,}', n)


def share(value: float | None, digits: int = 2) -> Cell:
  """A share in percent; nothing for None."""
  return '' if value is None else Value(f'{value:.{digits}%}', value)


def number(value: float | None, digits: int = 3) -> Cell:
  """A number; nothing for None."""
  return '' if value is None else Value(f'{value:.{digits}f}', value)


def interval(low: float, high: float) -> str:
  """Of a share, in percent."""
  return f'{100 * low:.1f} to {high:.1%}'


def wilson(right: int, n: int) -> str:
  """The 95% Wilson interval of right answers among n; nothing where there are none."""
  return interval(*wilson_interval(right, n)) if n else ''


def thinned(rows: Sequence[Any], most: int) -> list[Any]:
  """At most `most` of them, evenly spaced, with the first and the last."""
  if len(rows) <= most:
    return list(rows)
  return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]
