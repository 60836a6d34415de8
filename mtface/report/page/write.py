"""`mtface report --html`: one file that holds all of it, and asks nobody for anything."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from mtface.config.saved import read_config
from mtface.config.schema import flat
from mtface.config.stages import stages_of
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.files import local_path, write_text
from mtface.report.page import data, groups, progress, results, single, suspects
from mtface.report.page.gathered import Gathered, gather
from mtface.report.page.parts import Part, Table, Text
from mtface.report.words import in_words

MOST_BYTES = 20_000_000
_FACE_SIDE = 96  # pixels that a face is shown with, at most


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of the page: what it is about, and what there is of each run."""

  name: str
  title: str
  about: str
  runs: Sequence[tuple[str, Sequence[Part]]]


def write_page(
  workdirs: Sequence[str | os.PathLike],
  data_dir: str | os.PathLike,
  *,
  to: str | os.PathLike = '',
  checkpoint: str = '',
  stage: str = '',
  thumbnails: bool = False,
) -> pathlib.Path:
  """Writes what the runs left as one HTML file, which loads nothing from elsewhere.

  Args:
    workdirs: of one run, or of several to show side by side.
    data_dir: of the prepared sets, for duplicates, groups and thumbnails; what is not there is said
      on the page.
    to: the file; '': report/index.html in the only workdir.
    checkpoint: the selection whose images are looked at, see `gather`.
    stage: of the runs; '' is the last one.
    thumbnails: whether the faces of mistakes are in the file. They are real people's: who has the
      file has their pictures.

  Raises:
    UserError: there is no run, several without `to`, a file is damaged, or the page is larger than
      20 MB.
  """
  runs = [gather(workdir, data_dir, checkpoint, stage) for workdir in workdirs]
  if not to and len(runs) != 1:
    raise UserError('--to: name the file of a page of several runs, as in --to=compared.html')
  path = local_path(to) if to else runs[0].folder / 'report' / 'index.html'
  pictures = (lambda name, ids: _thumbnails(name, ids, data_dir)) if thumbnails else None
  text = render(_titled(runs), pictures)
  if len(text.encode()) > MOST_BYTES:
    raise UserError(
      f'{path}: would have {len(text.encode()) / 1e6:.1f} MB, more than a page should '
      f'({MOST_BYTES / 1e6:.0f} MB); leave out --thumbnails, or show fewer runs'
    )
  write_text(path, text)
  return path


def _titled(runs: Sequence[Gathered]) -> list[Gathered]:
  """Runs whose folders have one name are told apart by their whole paths."""
  names = [run.title for run in runs]
  return [
    dataclasses.replace(run, title=str(run.workdir)) if names.count(run.title) > 1 else run
    for run in runs
  ]


def render(runs: Sequence[Gathered], pictures: single.Pictures | None = None) -> str:
  """The page as text."""
  template = environment().get_template('page.html')
  return template.render(
    title=' and '.join(run.title for run in runs),
    runs=runs,
    sections=sections(runs, pictures),
    with_faces=pictures is not None,
    written=datetime.datetime.now().isoformat(' ', 'minutes'),
    version=importlib.metadata.version('mtface'),
  )


def environment() -> Any:
  """The templates."""
  import jinja2

  return jinja2.Environment(
    loader=jinja2.PackageLoader('mtface.report.page'),
    autoescape=jinja2.select_autoescape(['html']),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )


def sections(runs: Sequence[Gathered], pictures: single.Pictures | None = None) -> list[Section]:
  """All sections, in order."""
  found = [
    Section(name, title, about, [(run.title, make(run, f'run{i}')) for i, run in enumerate(runs)])
    for name, title, about, make in _sections(pictures)
  ]
  if len(runs) > 1:
    beside = Section('compared', 'Side by side', _COMPARED, [('', results.side_by_side(runs))])
    found.insert(1, beside)
  return found


_COMPARED = 'Intervals that overlap do not say that runs are equal, nor that one is better.'
Make = Callable[[Gathered, str], list[Part]]


def _sections(pictures: single.Pictures | None) -> list[tuple[str, str, str, Make]]:
  """(name, title, what it is about, the parts of a run)."""
  return [
    ('configuration', 'Configuration', '', lambda run, _: configuration(run)),
    (
      'results',
      'Results',
      'Labels are what annotators perceived; a figure says how often the network agrees with them.',
      lambda run, _: results.results(run),
    ),
    (
      'curves',
      'Curves',
      'Training values are means over augmented faces with dropout on.',
      progress.curves,
    ),
    (
      'confusions',
      'What is taken for what',
      'Shading is the share of a row.',
      lambda run, _: results.confusions(run),
    ),
    (
      'calibration',
      'Calibration',
      'Whether answers given with 80% confidence are right 80% of the '
      'time. ECE is the mean gap (Guo et al. 2017), 15 bins.',
      _from_predictions(single.calibration),
    ),
    ('ages', 'Ages', '', _from_predictions(single.ages)),
    (
      'associations',
      'One task by another',
      'No label takes part in these means.',
      _from_predictions(lambda run, _: single.associations(run)),
    ),
    (
      'groups',
      'By group',
      'Groups are annotations too.',
      _from_predictions(lambda run, _: groups.section(run)),
    ),
    (
      'mistakes',
      'Surest mistakes',
      'Images by their ids; faces are in the file only if it was written with --thumbnails.',
      _from_predictions(lambda run, _: single.mistakes(run, pictures)),
    ),
    (
      'labels',
      'Suspected label errors',
      'Confident learning (Northcutt et al. 2021): a suspicion '
      'for a person to look at, no verdict.',
      _from_predictions(lambda run, _: suspects.section(run)),
    ),
    ('data', 'Data', '', lambda run, _: data.section(run)),
    ('machine', 'Throughput, hardware, versions', '', lambda run, _: progress.machine(run)),
  ]


def _from_predictions(make: Make) -> Make:
  return lambda run, name: single.needs_predictions(run) or make(run, name)


def configuration(run: Gathered) -> list[Part]:
  """What the run is, in words and in full."""
  stages = list(stages_of(read_config(run.workdir)))
  parts: list[Part] = []
  if len(stages) > 1:
    order = ', '.join(stages)
    parts.append(Text(f'The run has {len(stages)} stages: {order}. This is {run.stage}.'))
  parts += [Text(text) for text in in_words(run.config)]
  rows = [[key, str(value)] for key, value in flat(run.config.to_dict()).items()]
  return [*parts, Table('all fields', ('field', 'value'), rows, closed=True)]


def _thumbnails(name: str, ids: Sequence[str], data_dir: str | os.PathLike) -> list[str]:
  """The faces of a source as JPEGs in data URIs."""
  source = load_source(name, data_dir)
  place = {image_id: row for row, image_id in enumerate(source.image_ids.tolist())}
  if missing := [image_id for image_id in ids if image_id not in place]:
    raise UserError(f'{name}: has no image {missing[0]}; evaluate again with --predictions')
  images = source.gather(np.array([place[image_id] for image_id in ids], np.int64))
  return [_jpeg(image) for image in images]


def _jpeg(image: np.ndarray) -> str:
  scale = min(1.0, _FACE_SIDE / max(image.shape[:2]))
  small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
  bgr = small[..., ::-1] if small.ndim == 3 and small.shape[-1] == 3 else small
  encoded = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
  return f'data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}'
