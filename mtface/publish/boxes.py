"""Faces and what a network says of them, drawn on the picture (Sang 2017, figure 10): a box whose
colour is the perceived gender, and a label beside it.

Text keeps a readable size whatever the picture's: small pictures, and those of small faces, are
enlarged first. Colours are of Okabe and Ito's palette, which colour-blind people tell apart, and
the label says in words what the colour does.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtface.inference.answers import Answer, Face

Area = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the drawing
Colour = tuple[int, int, int]

GENDER = 'gender'
COLOURS: dict[str, Colour] = {'female': (230, 159, 0), 'male': (0, 114, 178)}
OTHER: Colour = (240, 240, 240)
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)

_LEAST_SIDE = 640  # pixels: smaller pictures are enlarged
_LEAST_FACE = 72  # pixels: the width that the smaller faces are to have at least
_LARGEST_SIDE = 4096  # pixels: no picture is enlarged beyond it
_LEAST_TEXT = 16  # pixels, height of a line
_TEXT_SHARE = 0.016  # of the longer side: 16 pixels where it is shown 1,000 pixels long
_MOST_PRESENT = 3  # classes of a multi-label task that a label names


def draw(photo: np.ndarray, faces: Sequence[Face], scale: float = 0.0) -> np.ndarray:
  """Returns a picture, RGB uint8 [H, W, 3], with boxes and labels, enlarged by `scale` (0:
  `scale_for`).
  """
  scale = scale or scale_for(photo.shape[:2], faces)
  height, width = (round(side * scale) for side in photo.shape[:2])
  enlarged = (
    photo if scale == 1 else cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)
  )
  image = Image.fromarray(enlarged)
  canvas, font = ImageDraw.Draw(image), _font(text_height((height, width)))
  boxes = [_scaled(face.box, scale) for face in faces]
  panels: list[Area] = []
  for face, box in zip(faces, boxes, strict=True):
    _draw_box(canvas, box, colour_of(face.answers), max(3, round(font.size / 7)))
    panels.append(
      _place(_size(canvas, lines_of(face.answers), font), box, boxes, panels, width, height)
    )
  for face, panel in zip(faces, panels, strict=True):  # after all boxes, so that no text is crossed
    _draw_label(canvas, panel, lines_of(face.answers), colour_of(face.answers), font)
  return np.asarray(image)


def scale_for(shape: tuple[int, int], faces: Sequence[Face] = ()) -> float:
  """Returns by how much a picture [H, W] is enlarged for its labels to be readable and its faces to
  be seen beside them: 1 or more.
  """
  widths = sorted(face.box[2] for face in faces)
  small = widths[len(widths) // 4] if widths else _LEAST_FACE
  wanted = max(_LEAST_SIDE / min(shape), _LEAST_FACE / max(small, 1))
  return max(1.0, min(wanted, _LARGEST_SIDE / max(shape)))


def text_height(shape: tuple[int, int]) -> int:
  """Returns the height of a line of text, in pixels, in a drawing [H, W]."""
  return max(_LEAST_TEXT, round(_TEXT_SHARE * max(shape)))


def colour_of(answers: Mapping[str, Answer]) -> Colour:
  """Returns the colour of a face's box."""
  label = answers[GENDER].label if GENDER in answers else None
  return COLOURS.get(label or '', OTHER)


def text_colour(behind: Colour) -> Colour:
  """Returns black or white, whichever has more contrast with a colour."""
  return _BLACK if luminance(behind) > 0.179 else _WHITE


def luminance(colour: Colour) -> float:
  """Returns the relative luminance of an sRGB colour, 0 to 1 (WCAG 2.2)."""
  parts = [x / 255 for x in colour]
  linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def lines_of(answers: Mapping[str, Answer]) -> list[str]:
  """Returns what a label says: a line for each task."""
  return [line for answer in answers.values() if (line := line_of(answer))]


def line_of(answer: Answer) -> str:
  """Returns an answer in a few words; '' where there is nothing to say.

  happy 93%; 31 years (24-40); AU6, AU12; a class that is a number has the task's name before it.
  """
  if answer.label is None:
    return _several(answer)
  if answer.value is not None:
    low_high = f' ({answer.interval[0]:g}-{answer.interval[1]:g})' if answer.interval else ''
    return f'{answer.value:.0f} years{low_high}'
  label = answer.label.replace('_', ' ')
  kind = answer.task.partition(':')[0].partition('_')[0]
  name = f'{kind} {label}' if label[:1].isdigit() else label
  return name if answer.probability is None else f'{name} {100 * answer.probability:.0f}%'


def _several(answer: Answer) -> str:
  present = sorted(answer.present, key=lambda name: -answer.probabilities[name])
  more = f' +{len(present) - _MOST_PRESENT}' if len(present) > _MOST_PRESENT else ''
  return ', '.join(name.replace('_', ' ') for name in present[:_MOST_PRESENT]) + more


# --- Pixels ---------------------------------------------------------------------------------------


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
  """DejaVu Sans, which comes with matplotlib and has most of the world's letters."""
  from matplotlib import font_manager

  return ImageFont.truetype(font_manager.findfont('DejaVu Sans'), size)


def _scaled(box: tuple[int, int, int, int], scale: float) -> Area:
  left, top, width, height = box
  return left * scale, top * scale, (left + width) * scale, (top + height) * scale


def _draw_box(canvas: ImageDraw.ImageDraw, box: Area, colour: Colour, width: int) -> None:
  """With a dark line around, so that it is seen on any background."""
  around = (box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1)
  canvas.rectangle(around, outline=_BLACK, width=width + 2)
  canvas.rectangle(box, outline=colour, width=width)


def _size(
  canvas: ImageDraw.ImageDraw, lines: Sequence[str], font: ImageFont.FreeTypeFont
) -> tuple[float, float]:
  """Width and height of a label's panel."""
  pad = font.size // 3
  widest = max((canvas.textlength(line, font) for line in lines), default=0)
  return widest + 2 * pad, len(lines) * _line_height(font) + pad


def _line_height(font: ImageFont.FreeTypeFont) -> int:
  return round(1.25 * font.size)


def _draw_label(
  canvas: ImageDraw.ImageDraw,
  panel: Area,
  lines: Sequence[str],
  colour: Colour,
  font: ImageFont.FreeTypeFont,
) -> None:
  if not lines:
    return
  canvas.rectangle(panel, fill=colour, outline=_BLACK)
  for i, line in enumerate(lines):
    at = (panel[0] + font.size // 3, panel[1] + font.size // 6 + i * _line_height(font))
    canvas.text(at, line, fill=text_colour(colour), font=font)


def _place(
  size: tuple[float, float],
  box: Area,
  boxes: Sequence[Area],
  panels: Sequence[Area],
  width: int,
  height: int,
) -> Area:
  """Where a label covers the least of faces and of other labels; below its face if it is free."""

  def cost(place: Area) -> float:
    return sum(_common(place, of) for of in boxes) + 2 * sum(_common(place, of) for of in panels)

  places = (_inside(at, size, width, height) for at in _around(box, size))
  return min(places, key=cost)  # of equal ones the first


def _around(box: Area, size: tuple[float, float]) -> Iterator[tuple[float, float]]:
  """Corners (left, top) of panels beside a box: below, above, right, left, and moved along it."""
  left, top, right, bottom = box
  wide, high = size
  yield left, bottom + 1
  yield left, top - high - 1
  yield right + 1, top
  yield left - wide - 1, top
  yield from itertools.product((right - wide, left - wide, right), (bottom + 1, top - high - 1))
  yield right + 1, bottom - high
  yield left - wide - 1, bottom - high


def _inside(at: tuple[float, float], size: tuple[float, float], width: int, height: int) -> Area:
  """A panel, moved into the picture."""
  left = max(0.0, min(at[0], width - 1 - size[0]))
  top = max(0.0, min(at[1], height - 1 - size[1]))
  return left, top, left + size[0], top + size[1]


def _common(one: Area, other: Area) -> float:
  """Pixels that two areas share."""
  wide = min(one[2], other[2]) - max(one[0], other[0])
  high = min(one[3], other[3]) - max(one[1], other[1])
  return wide * high if wide > 0 and high > 0 else 0.0
