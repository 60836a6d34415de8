"""image_csv: a folder of photographs of the user's own with a csv of labels. See README.md in this
folder.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, cropping, schemes
from tfds_builders import base, detected, forms, own_csv

_NAME = re.compile(r'(?P<set>[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*?)(_(?P<form>(gray|rgb)\d+\w*))?')
_WHOLE = '_whole'


class Photo(NamedTuple):
  """One line of the csv with the file that it is about."""

  row: own_csv.Row
  path: pathlib.Path


@dataclasses.dataclass(eq=False)
class CsvConfig(base.FaceConfig):
  """A set of the user's own in a form.

  Attributes:
    set_name: NAME of NAME.csv.
    whole: whether images are faces already, and are stored whole.
    tasks: of its csv.
    has_subject: whether the csv says who is who.
  """

  set_name: str = ''
  whole: bool = False
  tasks: tuple[str, ...] = ()
  has_subject: bool = False


class Builder(base.FaceBuilder):
  """Finds the face in each photograph with MTCNN; with a form that ends in `_whole` it is taken as
  it is.
  """

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    CsvConfig(name='NAME', description='an example of a name', size=64, channels=3),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'give the folder that holds NAME.csv and the images that it names'
  FROM_PHOTOGRAPHS = True
  NOTES = ((own_csv.CORRECTED, 'a line of NAME.corrections.csv replaced a label'),)

  @classmethod
  def unlisted_config(cls, name: str) -> CsvConfig | None:
    """Returns the config NAME[_FORM[_whole]] of a set of the user's own; without a form it is
    rgb64.
    """
    whole = name.endswith(_WHOLE)
    found = _NAME.fullmatch(name.removesuffix(_WHOLE))
    if not found:
      return None
    form = forms.on_demand(f'{cls.name}/', found['form'] or 'rgb64')
    if form is None or (whole and form.crop):
      return None
    fields = {field.name: getattr(form, field.name) for field in dataclasses.fields(form)}
    of_user = {'set_name': found['set'], 'whole': whole}
    return CsvConfig(**fields | {'name': name, 'description': form.description} | of_user)

  @classmethod
  def crop_of(cls, config: base.FaceConfig) -> cropping.Crop | None:
    """None where images are stored whole."""
    return None if getattr(config, 'whole', False) else super().crop_of(config)

  @classmethod
  def unlisted_names(cls) -> str:
    """Returns what the names look like, for errors."""
    return f'NAME of your NAME.csv, alone or with _{forms.pattern()} or _(gray|rgb)SIZE{_WHOLE}'

  @classmethod
  def described_by(cls, config: Any, manual_dir: pathlib.Path | None) -> CsvConfig:
    """Returns the config with the tasks of its csv."""
    if not isinstance(config, CsvConfig):
      raise errors.UserError(f'{cls.name}: name your set: {cls.name}/NAME for NAME.csv')
    table = own_csv.read(_csv(manual_dir, config.set_name))
    names = tuple(task.name for task in table.tasks)
    return dataclasses.replace(config, tasks=names, has_subject=table.has_subject)

  @property
  def HAS_SUBJECT(self) -> bool:  # type: ignore[override]
    """Whether the csv says who is who."""
    return self.builder_config.has_subject

  @property
  def HAS_LANDMARKS(self) -> bool:  # type: ignore[override]
    """Whether landmarks are stored: where a face is looked for."""
    return not self.builder_config.whole

  def task_names(self) -> tuple[str, ...]:
    """Returns the tasks of the csv."""
    return self.builder_config.tasks

  def attributes(self) -> dict[str, Any]:
    """What the detector said, in pixels of the photograph, where it is run."""
    return {} if self.builder_config.whole else detected.features()

  def notes(self) -> tuple[tuple[str, str], ...]:
    """With those about the detection, where it is run."""
    if self.builder_config.whole:
      return self.NOTES
    return self.NOTES + detected.NOTES + detected.scheme_notes(self.scheme)

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the csv."""
    return _csv(manual_dir, self.builder_config.set_name)

  def items(self, source: Any) -> dict[str, Sequence[Photo]]:
    """Returns the lines of the csv by split.

    Raises:
      UserError: an image is not there.
    """
    table = own_csv.read(source)
    photos = [Photo(row, source.parent / row.path) for row in table.rows]
    for row, path in photos:
      if path.is_dir() or not os.path.lexists(path):
        what = 'this is a folder' if path.is_dir() else 'there is no such image'
        raise errors.UserError(
          f'{source}: line {row.line}, column {table.roles["path"]!r}: {what}: {path}'
        )
    splits = dict.fromkeys(photo.row.split for photo in photos)
    return {split: [photo for photo in photos if photo.row.split == split] for split in splits}

  def converter(self) -> Callable[[Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that turns the image of one line into a face."""
    config = self.builder_config
    scheme = None if config.whole else self.scheme
    return functools.partial(convert, size=config.size, channels=config.channels, scheme=scheme)


def _csv(manual_dir: pathlib.Path | None, name: str) -> pathlib.Path:
  """Returns `manual_dir`/NAME.csv; it may be given itself as well."""
  if manual_dir is None:
    raise errors.UserError(
      f'--manual_dir is not given; expected the folder with {name}.csv and its images'
    )
  path = manual_dir if manual_dir.is_file() else manual_dir / f'{name}.csv'
  if path.name != f'{name}.csv' or not path.is_file():
    raise errors.UserError(
      f'{manual_dir}: has no {name}.csv; expected the folder with {name}.csv and its images '
      f'(image_csv/NAME reads NAME.csv)'
    )
  return path


def convert(
  photo: Photo, *, size: int, channels: int, scheme: schemes.Scheme | None
) -> list[base.Face | base.LeftOut]:
  """Turns the image of one line into a face: what MTCNN finds, or without a scheme the whole image.
  Its id is its path.
  """
  row = photo.row
  image_id = row.path
  try:
    image = crop.read_image(photo.path)
  except errors.UserError as error:
    return [base.LeftOut(image_id, 'damaged image', f'line {row.line} of the csv: {error}')]
  whole = (0, 0, image.shape[1], image.shape[0])
  face = None
  if scheme:
    face = detected.cut_out(image, size=size, channels=channels, scheme=scheme)
  return [
    base.Face(
      image_id,
      face.image if face else crop.crop_face(image, whole, size, channels),
      labels=row.labels,
      subject=row.subject or None,
      landmarks=face.landmarks if face else None,
      attributes=face.attributes if face else {},
      digest=crop.content_digest(image),
      notes=((own_csv.CORRECTED,) if row.corrected else ()) + (face.notes if face else ()),
    )
  ]
