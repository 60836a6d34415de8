"""LFW: 13,233 photographs of 5,749 people with their names. See README.md in this folder."""

from __future__ import annotations

import collections
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtface import errors
from mtface.faces import crop, cropping, detect, folders
from mtface.progress import warn
from tfds_builders import base, detected, lists

PEOPLE = 5749  # in the whole set
LIST_FILE = 'ytf_subjects.txt'
LISTED_PEOPLE = (
  596  # with at least two photographs here and a video in YouTube Faces (Best-Rowden et al. 2014)
)

_NUMBERED = re.compile(r'.*_\d{4}\.\w+')

_FACE_PLACE = (
  0.5  # of the side: photographs were cut around the face, which is in their middle half
)
_CENTER_CROP = 224 / 250  # of the side (Savchenko 2021: the central 224x224 of 250x250)


@dataclasses.dataclass(eq=False)
class LfwConfig(base.FaceConfig):
  """The people that identities are about, and how the face is cut out.

  Attributes:
    people: number of identities, which the task's name has to state before any file is seen.
    least: photographs that a person must have to be stored.
    center: whether the photograph's middle is stored instead of MTCNN's box.
  """

  people: int = PEOPLE
  least: int = 1
  center: bool = False


def _config(name: str, form: base.FaceConfig, **kwargs: Any) -> LfwConfig:
  what = 'the central 224 of 250 pixels' if kwargs.get('center') else "MTCNN's box, without margin"
  who = (
    f', of the {kwargs["people"]} people with at least {kwargs["least"]} photographs'
    if 'least' in kwargs
    else ''
  )
  return LfwConfig(
    name=name,
    description=f'{form.description}: {what}{who}',
    size=form.size,
    channels=form.channels,
    encoded=form.encoded,
    **kwargs,
  )


class Photo(NamedTuple):
  """One file.

  Attributes:
    path: Name/Name_0001.jpg.
    subject: the folder's name.
    images: photographs of this person.
    identity: the person's number, -1 where it is not known.
    listed: whether the person is one of the list's with at least two photographs.
  """

  path: pathlib.Path
  subject: str
  images: int
  identity: int
  listed: bool


class Builder(base.FaceBuilder):
  """Stores MTCNN's box without margin, or with `_center` the middle of the photograph."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    _config('gray48', base.gray48()),
    _config('rgb64', base.rgb64()),
    _config('rgb64_center', base.rgb64(), center=True),
    _config('rgb224', base.rgb224()),
    _config('rgb224_center', base.rgb224(), center=True),
    _config('rgb64_158', base.rgb64(), people=158, least=10),
    _config('rgb96_158', base.rgb96(), people=158, least=10),
    _config('rgb224_158', base.rgb224(), people=158, least=10),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download lfw-deepfunneled.tgz (or lfw.tgz) from http://vis-www.cs.umass.edu/lfw/, unpack it, '
    'and give the folder that'
    f' holds the folders of people; {LIST_FILE} in it, one name per line, marks the people of '
    'YouTube '
    'Faces; pass that folder'
  )
  FROM_PHOTOGRAPHS = True
  HAS_SUBJECT = True
  HAS_LANDMARKS = True

  @classmethod
  def crop_of(cls, config: base.FaceConfig) -> cropping.Crop | None:
    """None where the middle of the photograph is stored, wherever the face is."""
    return None if getattr(config, 'center', False) else super().crop_of(config)

  def task_names(self) -> tuple[str, ...]:
    """Returns the identity among as many people as the config has."""
    return (f'identity:{self.builder_config.people}',)

  def notes(self) -> tuple[tuple[str, str], ...]:
    """With those about the detection, where it is run."""
    unknown = (
      'identity_unknown',
      f'this copy does not have {PEOPLE:,} people, so their numbers are unknown: masked',
    )
    about = detected.notes_with('the middle half of the photograph', 'the one in the middle')
    return (() if self.builder_config.least > 1 else (unknown,)) + (
      () if self.builder_config.center else about
    )

  def attributes(self) -> dict[str, Any]:
    """Photographs of this person; whether the person is listed; what the detector said, in pixels
    of the photograph.
    """
    about = {'images': tfds.features.Scalar(np.int32), 'ytf': tfds.features.Scalar(np.bool_)}
    return about | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder of folders of people: `manual_dir` or a folder in it, as the archive
    unpacks.
    """
    return self.find_in(
      manual_dir, 'NAME/NAME_0001.jpg', lambda folder: any(map(_photos_of, folders.folders(folder)))
    )

  def items(self, source: Any) -> dict[str, Sequence[Photo]]:
    """Returns the photographs as one split; for recognition LFW has no division of its own."""
    return {'train': photos(source, self.builder_config.people, self.builder_config.least)}

  def converter(self) -> Callable[[Photo], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that cuts out and resizes the face of one photograph."""
    config = self.builder_config
    return functools.partial(
      convert, size=config.size, channels=config.channels, center=config.center
    )


def photos(folder: pathlib.Path, people: int = PEOPLE, least: int = 1) -> list[Photo]:
  """Returns the photographs of all people who have at least `least`.

  An identity is the person's place among these people, in the order of the names' code points. In a
  set of another number than `people` it is not known, which is an error for a subset: the subset is
  there for its label space.

  Raises:
    UserError: a subset does not have `people` people, two files have one id, or the list is not in
      order.
  """
  found = folders.by_id(
    (path.stem, path) for person in folders.folders(folder) for path in _photos_of(person)
  )
  paths = list(found.values())
  counts = collections.Counter(_name(path) for path in paths)
  names = sorted(name for name, count in counts.items() if count >= least)
  if least > 1 and len(names) != people:
    raise errors.UserError(
      f'{folder}: {len(names)} people have at least {least} photographs; expected {people}, as in '
      'the whole set, since their'
      ' numbers are the labels: unpack the archive again, or build a config without a number, such '
      'as lfw/rgb64'
    )
  numbers = {name: i for i, name in enumerate(names)} if len(names) == people else {}
  listed = {name for name in read_list(folder) if counts[name] >= 2}
  if listed and len(listed) != LISTED_PEOPLE:
    warn(
      f'{LIST_FILE}: {len(listed)} of its people have at least two photographs here; published: '
      f'{LISTED_PEOPLE}'
    )
  return [
    Photo(path, name, counts[name], numbers.get(name, -1), name in listed)
    for path in paths
    if counts[name := _name(path)] >= least
  ]


def _photos_of(person: pathlib.Path) -> list[pathlib.Path]:
  """NAME_0001.jpg and so on in a folder, sorted."""
  return [path for path in folders.files(person, folders.IMAGES) if _NUMBERED.fullmatch(path.name)]


def _name(path: pathlib.Path) -> str:
  return folders.composed(path.parent.name)


def read_list(folder: pathlib.Path) -> set[str]:
  """Returns the names of ytf_subjects.txt in `folder` or above it, with underscores for spaces;
  none without the file.

  Raises:
    UserError: it names nobody who is in `folder`, or is no Unicode and has a name with an accent
      that nobody there has.
  """
  path = next(
    (f / LIST_FILE for f in (folder, folder.parent) if folders.is_file_there(f / LIST_FILE)), None
  )
  if path is None:
    return set()
  texts = (line.partition('#')[0].strip() for _, line in lists.lines(path))
  names = {folders.composed(text.replace(' ', '_')) for text in texts if text}
  here = {folders.composed(person.name) for person in folders.folders(folder)}
  if not names & here:
    raise errors.UserError(
      f'{path}: none of its {len(names)} lines is the name of a folder in {folder}; expected one '
      'name per line, such as'
      ' Aaron_Eckhart'
    )
  strange = sorted(name for name in names - here if not name.isascii())
  if strange and lists.encoding_of(path) == lists.OTHER:
    raise errors.UserError(
      f'{path}: the encoding is not Unicode, and read as Windows-1252 it has {strange[0]!r}, who '
      'has no folder;'
      ' save it again as UTF-8'
    )
  return names


def convert(
  photo: Photo, *, size: int, channels: int, center: bool
) -> list[base.Face | base.LeftOut]:
  """Turns one photograph into a face."""
  try:
    image = crop.read_image(photo.path)
  except errors.UserError as error:
    return [base.LeftOut(photo.path.stem, 'damaged image', str(error))]
  place = crop.central_square(*image.shape[:2], _CENTER_CROP if center else _FACE_PLACE)
  cut = (
    functools.partial(detected.cut_at, box=place)
    if center
    else functools.partial(detected.cut_out, choice=detect.inside(place))
  )
  face = cut(image, size=size, channels=channels)
  known = photo.identity >= 0
  return [
    base.Face(
      photo.path.stem,
      face.image,
      labels={'identity': photo.identity} if known else {},
      subject=photo.subject,
      landmarks=face.landmarks,
      attributes={'images': photo.images, 'ytf': np.bool_(photo.listed), **face.attributes},
      digest=crop.content_digest(image),
      notes=face.notes + (() if known else ('identity_unknown',)),
    )
  ]
