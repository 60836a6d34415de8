"""What the sets `imdb` and `wiki` share: the file imdb.mat or wiki.mat, the rule, and the way from
a crop to a face.

Rothe, Timofte and Van Gool: DEX, ICCV workshops 2015, and IJCV 2018;
https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/.

The rule by which images are left out, and counted under the first reason that holds:

1. what the .mat file says (RULE): no face, a second face, no label, or listed before; the image is
  not opened;
2. the file is missing or damaged, which counts against the copy, as nothing else here does;
3. a side of less than SMALLEST pixels: imdb_crop has images of 1x1 in the place of some.

Of the rest, a gender other than 0 or 1 is masked, and so is an age outside 0 to OLDEST or of which
a date is missing.
"""

from __future__ import annotations

import abc
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, folders
from tfds_builders import base, detected

FIELDS = ('dob', 'photo_taken', 'full_path', 'gender', 'face_score', 'second_face_score')

OLDEST = 100  # years: the oldest age considered possible, as in the papers' 101 classes
SMALLEST = 20  # pixels: MTCNN does not find smaller faces

# What Entry.rule is an index into.
RULE = (
  '',
  'no face in the photograph',
  'a second face',
  'neither age nor gender known',
  'listed twice',
)
MISSING, IMPOSSIBLE = -1, -2  # in place of an age or a gender

_DAYS_TO_1970 = 719529  # MATLAB's datenum of 1 January 1970; 1 is 1 January of the year 0
_NOTES = {
  ('age', MISSING): (
    'age_missing',
    'the date of birth or the year of the photograph is missing; the age is masked',
  ),
  ('age', IMPOSSIBLE): (
    'age_impossible',
    f'the two dates give an age outside 0 to {OLDEST}; it is masked',
  ),
  ('gender', MISSING): ('gender_missing', 'the gender is masked'),
  ('gender', IMPOSSIBLE): ('gender_impossible', 'neither 0 nor 1; the gender is masked'),
}


class Entry(NamedTuple):
  """One entry of the .mat file.

  Attributes:
    image_id: the path in the set without its ending, such as
      01/nm0000001_rm124825600_1899-5-10_1968.
    path: the image.
    age: in completed years; MISSING; or IMPOSSIBLE.
    gender: 0 female, 1 male; MISSING; or IMPOSSIBLE.
    subject: who it is, '' if not known.
    face_score: of the detection by which the set's authors cut out the crop.
    rule: the line of RULE by which it is left out, 0 if it is not.
  """

  image_id: str
  path: pathlib.Path
  age: int
  gender: int
  subject: str
  face_score: float
  rule: int


class Entries(Sequence[Entry]):
  """Half a million entries, as columns: each is made up when it is asked for, and a slice is as
  small when pickled.
  """

  def __init__(self, folder: pathlib.Path, columns: Mapping[str, Any]):
    """`columns` are those of `Entry`, with `path` as in the file and without the image_id, which is
    made of it.
    """
    self._folder = folder
    self._columns = columns

  def __len__(self) -> int:
    return len(self._columns['path'])

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return Entries(self._folder, {name: column[index] for name, column in self._columns.items()})
    of = {name: column[index] for name, column in self._columns.items()}
    image_id, path = _image_id(of['path']), self._folder / of['path']
    numbers = int(of['age']), int(of['gender'])
    return Entry(image_id, path, *numbers, of['subject'], float(of['face_score']), int(of['rule']))


class CropsBuilder(base.FaceBuilder):
  """Finds the face in the crops with MTCNN and stores it without margin."""

  TASKS = ('age_years', 'age_group', 'gender')
  FROM_PHOTOGRAPHS = True
  HAS_SUBJECT = True
  HAS_LANDMARKS = True
  RESUMABLE = True
  NOTES = (*detected.NOTES, *_NOTES.values())
  FIELDS: tuple[str, ...] = FIELDS

  @abc.abstractmethod
  def subjects(self, fields: Mapping[str, np.ndarray]) -> Sequence[str]:
    """Returns who is in each entry's image, '' if not known, from the fields of the .mat file."""

  def attributes(self) -> dict[str, Any]:
    """The set's own face_score, and what the detector said, in pixels of the crop."""
    return {'face_score': tfds.features.Scalar(np.float32)} | detected.features()

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns <set>.mat in `manual_dir` or in a folder in it, as the archive unpacks, beside the
    folders of images.
    """
    mat = f'{self.name}.mat'
    folder = self.find_in(
      manual_dir,
      f'{mat} with folders 00 ... 99 beside it',
      lambda f: (f / mat).is_file() and any(f.glob('[0-9][0-9]/')),
    )
    return folder / mat

  def items(self, source: Any) -> dict[str, Sequence[Entry]]:
    """Returns all entries as one split; the set has no division of its own."""
    fields = read_mat(source, self.name, self.FIELDS)
    return {'train': entries(source, fields, self.subjects(fields))}

  def converter(self) -> Callable[[Entry], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that finds, cuts out and resizes the face of one entry."""
    config = self.builder_config
    return functools.partial(convert, size=config.size, channels=config.channels)


def convert(entry: Entry, *, size: int, channels: int) -> list[base.Face | base.LeftOut]:
  """Turns one entry into a face; where none is found, into the central square of the crop."""
  if entry.rule:
    return [base.LeftOut(entry.image_id, RULE[entry.rule], damaged=False)]
  try:
    image = crop.read_image(entry.path)
  except errors.UserError as error:
    reason = 'damaged image' if entry.path.exists() else 'missing file'
    return [base.LeftOut(entry.image_id, reason, str(error))]
  if min(image.shape[:2]) < SMALLEST:
    return [base.LeftOut(entry.image_id, f'smaller than {SMALLEST} pixels', damaged=False)]
  face = detected.cut_out(image, size=size, channels=channels)
  return [
    base.Face(
      entry.image_id,
      face.image,
      labels=labels(entry),
      subject=entry.subject,
      landmarks=face.landmarks,
      attributes={'face_score': entry.face_score, **face.attributes},
      digest=crop.content_digest(image),
      notes=face.notes + _notes(entry),
    )
  ]


def labels(entry: Entry) -> dict[str, int]:
  """Returns what is known by task."""
  of_age = (
    {'age_years': entry.age, 'age_group': tasks.age_to_group(entry.age)} if entry.age >= 0 else {}
  )
  return of_age | ({'gender': entry.gender} if entry.gender >= 0 else {})


def _notes(entry: Entry) -> tuple[str, ...]:
  masked = {('age', entry.age), ('gender', entry.gender)}
  return tuple(note for of, (note, _) in _NOTES.items() if of in masked)


# --- The .mat file --------------------------------------------------------------------------------


def read_mat(path: pathlib.Path, name: str, expected: Sequence[str]) -> dict[str, np.ndarray]:
  """Returns the fields of the struct `name` as arrays [N]; celeb_names, which is no column, has a
  length of its own.

  Half a million entries take 10 s and 0.4 GB. Cells become text, numbers keep their type.

  Raises:
    UserError: the file is not a MATLAB 5 file or is truncated, or the struct or a field is missing
      or has the wrong type or length.
  """
  struct = _read_struct(path, name)
  missing = [field for field in expected if field not in (struct.dtype.names or ())]
  if missing:
    raise _wrong(path, name, f'the struct {name!r} has no field {", ".join(missing)}', expected)
  fields = {field: np.atleast_1d(struct[field][()]) for field in expected}
  for field, column in fields.items():
    text = field in ('full_path', 'name', 'celeb_names')
    if column.ndim != 1 or (column.dtype.kind in 'OUS') != text or column.dtype.names:
      kind = 'cell of texts' if text else 'row of numbers'
      raise _wrong(path, name, f'the field {field} is not a {kind}', expected)
  lengths = {field: len(column) for field, column in fields.items() if field != 'celeb_names'}
  if len(set(lengths.values())) > 1:
    found = ', '.join(f'{field} {length:,}' for field, length in lengths.items())
    raise _wrong(path, name, f'its fields differ in length ({found})', expected)
  return {
    field: _texts(column) if column.dtype.kind in 'OUS' else column
    for field, column in fields.items()
  }


def _is_hdf5(path: pathlib.Path) -> bool:
  """MATLAB 7.3 writes HDF5, whose signature lies at the beginning or behind
  MATLAB's own 512 bytes.
  """
  with path.open('rb') as file:
    head = file.read(520)
  return head.startswith(b'MATLAB 7.3') or b'\x89HDF\r\n\x1a\n' in (head[:8], head[512:])


def _read_struct(path: pathlib.Path, name: str) -> np.ndarray:
  if _is_hdf5(path):
    raise errors.UserError(
      f'{path}: is a MATLAB 7.3 file (HDF5); expected MATLAB 5, as published: unpack '
      f'{name}_crop.tar again, or convert'
      f" it in MATLAB or Octave: load('{path.name}'); save('-v7', '{path.name}', '{name}')"
    )
  try:
    # squeeze_me: a text is a str and not an array of one, which would take longer to undo than it
    # takes here.
    found = scipy.io.loadmat(path, squeeze_me=True)
  except Exception as error:  # whatever a truncated file makes the reader stumble over
    raise errors.UserError(
      f'{path}: cannot be read as a MATLAB 5 file ({type(error).__name__}: {error}); it may be '
      'truncated: unpack'
      f' {name}_crop.tar again'
    ) from None
  if name not in found:
    there = ', '.join(key for key in found if not key.startswith('__')) or 'nothing'
    raise errors.UserError(
      f'{path}: found {there}; expected a struct {name!r}: is this file from another set?'
    )
  return np.asarray(found[name])


def _wrong(path: pathlib.Path, name: str, what: str, expected: Sequence[str]) -> errors.UserError:
  return errors.UserError(
    f'{path}: {what}; expected {", ".join(expected)}, as published: unpack {name}_crop.tar again'
  )


def _texts(cells: np.ndarray) -> np.ndarray:
  """Cells as str; an empty one comes as an empty array."""
  return np.array([cell if isinstance(cell, str) else '' for cell in cells.tolist()], object)


def entries(
  path: pathlib.Path, fields: Mapping[str, np.ndarray], subjects: Sequence[str]
) -> Entries:
  """Returns the entries of a .mat file at `path`, with the part of the rule that needs no image.

  Raises:
    UserError: an entry has no path, or two files would have one id.
  """
  paths = [text.replace('\\', '/') for text in fields['full_path'].tolist()]
  if '' in paths:
    raise errors.UserError(
      f'{path}: entry {paths.index("") + 1} has no full_path; expected one such as 01/a_1968.jpg'
    )
  _check_ids(path, paths)
  columns: dict[str, Any] = {
    'path': paths,
    'age': ages(fields['dob'], fields['photo_taken']),
    'gender': genders(fields['gender']),
    'subject': subjects,
    'face_score': fields['face_score'],
  }
  no_label = (columns['age'] < 0) & (columns['gender'] < 0)
  no_face, second = ~np.isfinite(fields['face_score']), np.isfinite(fields['second_face_score'])
  holds = [no_face, second, no_label, _seen_before(map(_image_id, paths))]
  columns['rule'] = np.select(holds, range(1, len(RULE))).astype(np.int8)
  return Entries(path.parent.absolute(), columns)


def _check_ids(mat: pathlib.Path, paths: Sequence[str]) -> None:
  """Raises UserError if two paths differ only in their ending; a path may be there twice (RULE)."""
  first: dict[str, str] = {}
  for text in paths:
    if (other := first.setdefault(_image_id(text), text)) != text:
      raise folders.one_id(_image_id(text), mat.parent / other, mat.parent / text)


def _seen_before(texts: Iterable[str]) -> np.ndarray:
  """bool [N]: whether a text is a repetition."""
  seen: set[str] = set()
  return np.array([text in seen or bool(seen.add(text)) for text in texts])  # type: ignore[func-returns-value]


def _image_id(path: str) -> str:
  return os.path.splitext(path)[0]


def genders(column: np.ndarray) -> np.ndarray:
  """Returns int8 [N]: 0 female, 1 male (as mtface has it), MISSING for NaN, IMPOSSIBLE for anything
  else.
  """
  column = column.astype(np.float64)
  known = np.isin(column, (0, 1))
  return np.where(known, column, np.where(np.isnan(column), MISSING, IMPOSSIBLE)).astype(np.int8)


def ages(dob: np.ndarray, photo_taken: np.ndarray) -> np.ndarray:
  """Returns int16 [N]: completed years on 1 July of the year in which the photograph was taken.

  The set's authors assume the middle of the year, since only the year is known.

  Args:
    dob: [N], MATLAB serial date numbers: days, 1 being 1 January of the year 0 (Gregorian
      throughout).
    photo_taken: [N], years.

  Returns:
    MISSING where one of the two is not finite, IMPOSSIBLE where the age is not in 0 to OLDEST.
  """
  dob, year = dob.astype(np.float64), photo_taken.astype(np.float64)
  missing = ~(np.isfinite(dob) & np.isfinite(year))
  # What is far out of range would overflow. Both ends of the range are impossible anyway.
  days = np.clip(np.where(missing, 0, np.floor(dob)), -1e7, 1e7).astype(np.int64) - _DAYS_TO_1970
  born = days.astype('datetime64[D]')
  birth_year = born.astype('datetime64[Y]')
  middle = birth_year.astype('datetime64[M]') + np.timedelta64(
    6, 'M'
  )  # 1 July of the year of birth
  after = born > middle.astype('datetime64[D]')
  age = np.where(missing, 0, year) - (birth_year.astype(np.int64) + 1970) - after
  possible = (age >= 0) & (age <= OLDEST)
  return np.where(missing, MISSING, np.where(possible, age, IMPOSSIBLE)).astype(np.int16)
