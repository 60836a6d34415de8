"""How a face in a photograph becomes a network's input: what the builders of its training sets do,
as a value that a run, an exported file and a program in another language can hold.

crop = Crop(size=48, channels=1, scheme='crop1')
for face in crop.find(photo):
  pixels = crop.apply(photo, face)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mtface import errors
from mtface.faces import crop, detect, schemes, video

FORMAT = 1  # of `Crop.to_json`
DETECTOR = 'mtcnn'

# What OpenCV calls the two ways in which `crop` and `align` resize, for programs elsewhere.
_INTERPOLATION = {'shrink': 'area', 'enlarge': 'linear', 'outside': 'repeat the edge'}

_FIELDS: dict[str, Callable[[Any], Any]] = {
  'size': int,
  'channels': int,
  'scheme': str,
  'grey': bool,
  'jpeg': int,
}


@dataclasses.dataclass(frozen=True)
class Crop:
  """How a photograph and a face found in it become the image that a network sees.

  Attributes:
    size: height and width of the image, in pixels.
    channels: 3 for RGB, 1 for grey.
    scheme: name of what is cut out around the face (`mtface.faces.schemes`); '' is the detector's
      box, without margin.
    grey: whether three channels are to hold the same grey, as those of sets without colour do.
    jpeg: the quality by which images are compressed once, as those of sets that store JPEG were;
      0: not at all.
  """

  size: int
  channels: int
  scheme: str = ''
  grey: bool = False
  jpeg: int = 0

  def __post_init__(self) -> None:
    if schemes.get_scheme(self.scheme) is None:
      raise errors.UserError(
        f'crop: the scheme {self.scheme!r} is unknown; expected {", ".join(schemes.SCHEMES)}, '
        "marginPERCENT or '' (the detector's box)"
      )
    if self.size < 1 or self.channels not in (1, 3):
      raise errors.UserError(
        f'crop: {self.size} pixels and {self.channels} channels; expected a size of 1 or more and '
        '1 (grey) or 3 (RGB) channels'
      )

  @property
  def shape(self) -> tuple[int, int, int]:
    """Height, width and channels of the image."""
    return (self.size, self.size, self.channels)

  @property
  def how(self) -> schemes.Scheme:
    """The scheme itself."""
    scheme = schemes.get_scheme(self.scheme)
    assert scheme is not None  # __post_init__ has seen it
    return scheme

  def find(self, photo: np.ndarray, *, second_look: bool = False) -> list[detect.Detection]:
    """Returns every face in a picture, largest first.

    Args:
      photo: RGB uint8 [H, W, 3].
      second_look: whether to look again with lower thresholds where none is found, as builders do
        (`detect.find_main_face`): the most probable face is returned, which may be none.
    """
    found = video.faces_of(photo)
    if found or not second_look:
      return found
    face = detect.find_main_face(photo).face
    is_inside = face and face.box[0] < photo.shape[1] and face.box[1] < photo.shape[0]
    return [face] if face and is_inside else []

  def apply(self, photo: np.ndarray, face: detect.Detection) -> np.ndarray:
    """Cuts a face out of a picture exactly as the builders do.

    Args:
      photo: RGB uint8 [H, W, 3].
      face: where it is; some of its box is in the picture.

    Returns:
      uint8 [size, size, channels].
    """
    channels = 1 if self.grey else self.channels
    image = self.how.cut(photo, face.box, face.landmarks, self.size, channels).image
    return self._stored(np.repeat(image, self.channels // channels, axis=2))

  def fit(self, face: np.ndarray) -> np.ndarray:
    """Brings a picture that is a face as a whole, RGB uint8 [H, W, 3], to the network's form,
    without looking for anything in it: uint8 [size, size, channels].
    """
    height, width = face.shape[:2]
    channels = 1 if self.grey else self.channels
    image = crop.crop_face(face, (0, 0, width, height), self.size, channels)
    return self._stored(np.repeat(image, self.channels // channels, axis=2))

  def _stored(self, image: np.ndarray) -> np.ndarray:
    if not self.jpeg:
      return image
    return crop.decode_jpeg(crop.encode_jpeg(image, self.jpeg), self.channels)

  def to_json(self) -> dict[str, Any]:
    """Returns the crop as JSON holds it: its fields, and what a program without mtface needs to do
    the same (`description`, `detector`, `geometry`, `interpolation`).

    `geometry` is one of
      {'kind': 'clipped'}: the part of the box in the picture, stretched to a square;
      {'kind': 'margins', 'margins': [left, top, right, bottom], 'square': bool}: the box, made a
        square about its centre if `square`, with these shares of its width and height on each side;
      {'kind': 'aligned', 'template': [[x, y] * 5], 'instead': margins}: the similarity that brings
        the landmarks closest to the template, in shares of the image's side.
    """
    return {
      'format': FORMAT,
      **dataclasses.asdict(self),
      'description': self.how.description,
      'detector': {
        'name': DETECTOR,
        'min_face': detect.SMALLEST_FACE,
        'thresholds': list(detect.USUAL_THRESHOLDS),
      },
      'geometry': _geometry(self.how),
      'interpolation': dict(_INTERPOLATION),
    }

  @classmethod
  def from_json(cls, content: Any) -> Crop:
    """Reads what `to_json` wrote.

    Raises:
      UserError: it is something else, of a later format, or of a scheme or detector that is not
        known here.
    """
    try:
      form, detector = content['format'], content['detector']['name']
      given = {name: kind(content[name]) for name, kind in _FIELDS.items()}
    except (KeyError, TypeError, ValueError) as error:
      raise errors.UserError(
        f'crop: is damaged ({type(error).__name__}: {errors.first_line(error)}); expected what '
        '`mtface export` writes: export the model again'
      ) from None
    if form != FORMAT or detector != DETECTOR:
      raise errors.UserError(
        f'crop: of format {form} and detector {detector!r}; expected {FORMAT} and {DETECTOR!r}: '
        'use the version of mtface that wrote it'
      )
    return cls(**given)


def _geometry(scheme: schemes.Scheme) -> dict[str, Any]:
  if isinstance(scheme, schemes.Aligned):
    template = np.round(scheme.template, 9).tolist()
    return {'kind': 'aligned', 'template': template, 'instead': _geometry(scheme.instead)}
  if isinstance(scheme, schemes.Margins):
    return {'kind': 'margins', 'margins': list(scheme.margins), 'square': scheme.square}
  return {'kind': 'clipped'}
