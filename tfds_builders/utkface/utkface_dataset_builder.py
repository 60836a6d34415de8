"""UTKFace: 23,708 aligned faces with age, gender and ethnicity in their file names. See README.md
in this folder.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow_datasets as tfds

from mtface import errors, tasks
from mtface.faces import crop, cropping, folders, schemes
from tfds_builders import base, detected

_ENDING = (
  '.chip.jpg'  # nearly all end in .jpg.chip.jpg, but not 55_0_0_20170116232725357jpg.chip.jpg
)
_ETHNICITIES = tasks.get_task('ethnicity5').num_classes


@dataclasses.dataclass(eq=False)
class ChipConfig(base.FaceConfig):
  """`detect`: whether MTCNN's box is cut out of the chip; else the whole chip is stored."""

  detect: bool = False


class Builder(base.FaceBuilder):
  """Stores the aligned chips as they are distributed, resized; `rgb64_mtcnn`, `rgb224_mtcnn` and
  configs with a crop what MTCNN finds in them.
  """

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    base.gray48('48x48 grey: the whole chip'),
    base.rgb64('64x64 colour: the whole chip'),
    base.rgb96('96x96 colour: the whole chip'),
    base.rgb224('224x224 colour: the whole chip'),
    ChipConfig(
      name='rgb64_mtcnn', description="64x64 colour: MTCNN's box", size=64, channels=3, detect=True
    ),
    ChipConfig(
      name='rgb224_mtcnn',
      description="224x224 colour: MTCNN's box",
      size=224,
      channels=3,
      encoded=True,
      detect=True,
    ),
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'download "Aligned&Cropped Faces" (UTKFace.tar.gz) from https://susanqq.github.io/UTKFace/, '
    'unpack it, and give the'
    ' folder that holds the *.chip.jpg files'
  )
  OTHER_LAYOUTS = (
    (
      '[0-9]*_*.jpg',
      'UTKFace, but not its aligned chips ("In-the-wild Faces", or chips that were given other '
      'names)',
    ),
  )
  TASKS = ('age_years', 'age_group', 'gender', 'ethnicity5')
  FROM_PHOTOGRAPHS = True
  CROPS = True
  NOTES = (('label_missing_in_file_name', 'what the file name does not give is masked'),)

  @property
  def HAS_LANDMARKS(self) -> bool:  # type: ignore[override]
    """Whether landmarks are stored: in configs with a crop."""
    return bool(self.builder_config.crop)

  @classmethod
  def crop_of(cls, config: base.FaceConfig) -> cropping.Crop | None:
    """None where the whole chip is stored."""
    return super().crop_of(config) if config.crop or getattr(config, 'detect', False) else None

  def _cuts(self) -> schemes.Scheme | None:
    """How what the detector finds is cut out; None where the whole chip is stored."""
    return self.scheme if self.crop_of(self.builder_config) else None

  def attributes(self) -> dict[str, Any]:
    """What the detector said, in pixels of the chip, where it is run."""
    return detected.features() if self._cuts() else {}

  def notes(self) -> tuple[tuple[str, str], ...]:
    """With those about the detection, where it is run."""
    scheme = self._cuts()
    about = detected.notes_with('the whole chip') + detected.scheme_notes(scheme) if scheme else ()
    return self.NOTES + about

  def locate(self, manual_dir: pathlib.Path | None) -> pathlib.Path:
    """Returns the folder of chips: `manual_dir` or a folder in it, as the archive unpacks."""
    return self.find_in(manual_dir, f'*{_ENDING}', lambda folder: any(_chips(folder)))

  def items(self, source: Any) -> dict[str, Sequence[pathlib.Path]]:
    """Returns all chips as one split; UTKFace has no division of its own."""
    chips = list(folders.by_id((_image_id(path), path) for path in _chips(source)).values())
    folders.tell_unread(source, chips, f'not named *{_ENDING}')
    return {'train': chips}

  def converter(self) -> Callable[[pathlib.Path], Iterable[base.Face | base.LeftOut]]:
    """Returns the function that reads the labels and resizes the chip of one file."""
    config = self.builder_config
    return functools.partial(
      convert, size=config.size, channels=config.channels, scheme=self._cuts()
    )


def _chips(folder: pathlib.Path) -> list[pathlib.Path]:
  return folders.files(folder, _ENDING)


def _image_id(path: pathlib.Path) -> str:
  return path.name[: -len(_ENDING)]


def convert(
  path: pathlib.Path, *, size: int, channels: int, scheme: schemes.Scheme | None = None
) -> list[base.Face | base.LeftOut]:
  """Turns one chip into a face: with a scheme what MTCNN finds in it, or else the whole chip, which
  is square. Its id is the file name, less the ending that all have.
  """
  image_id = _image_id(path)
  try:
    image = crop.read_image(path)
  except errors.UserError as error:
    return [base.LeftOut(image_id, 'damaged image', str(error))]
  labels = parse_name(path.name)
  whole = (0, 0, image.shape[1], image.shape[0])
  face = None
  if scheme:
    face = detected.cut_out(image, size=size, channels=channels, scheme=scheme)
  missing = () if len(labels) == len(Builder.TASKS) else ('label_missing_in_file_name',)
  return [
    base.Face(
      image_id,
      face.image if face else crop.crop_face(image, whole, size, channels),
      labels=labels,
      landmarks=face.landmarks if face else None,
      attributes=face.attributes if face else {},
      digest=crop.content_digest(image),
      notes=missing + (face.notes if face else ()),
    )
  ]


def parse_name(name: str) -> dict[str, int]:
  """Returns the labels in a file name AGE_GENDER_ETHNICITY_DATE.jpg.chip.jpg; what is missing or
  impossible is left out.

  Gender is 0 male and 1 female in the names, and 0 female and 1 male in mtface. A name of three
  parts (39_1_20170116174525125) does not say whether its second part is the gender or the
  ethnicity: the set has had 61_3_20170109150557335, where it can only be the ethnicity. So both are
  left out, and the age is kept.
  """
  parts = name.split('_')
  age = _number(parts[0], tasks.MAX_AGE + 1)
  gender, ethnicity = (
    (_number(parts[1], 2), _number(parts[2], _ETHNICITIES)) if len(parts) == 4 else (None, None)
  )
  labels = {
    'age_years': age,
    'age_group': None if age is None else tasks.age_to_group(age),
    'gender': None if gender is None else 1 - gender,
    'ethnicity5': ethnicity,
  }
  return {task: label for task, label in labels.items() if label is not None}


def _number(text: str, end: int) -> int | None:
  """The number that `text` writes if it is in 0 ... end - 1."""
  return int(text) if text.isascii() and text.isdecimal() and int(text) < end else None
