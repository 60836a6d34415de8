"""Forms that are not listed: configs named after a size, a crop and a choice of face, such as
`rgb64_crop3`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mtface import errors
from mtface.faces import schemes
from tfds_builders.records import FaceConfig

SMALLEST, LARGEST = 32, 256  # pixels
ENCODED_FROM = 96  # pixels: smaller images are stored raw, since decoding takes longer than reading

_COLOURS = {'gray': ('grey', 1), 'rgb': ('colour', 3)}
_NAME = re.compile(
  r'(?P<colour>gray|rgb)(?P<size>[1-9]\d*)(_(?P<crop>[a-z]+\d+))?(_(?P<choice>[a-z]+))?'
)


def on_demand(set_name: str, name: str, choices: Sequence[str] = ()) -> FaceConfig | None:
  """Returns the config of a name (gray|rgb)SIZE[_CROP][_CHOICE]; None if it is no such name.

  Args:
    set_name: for errors.
    name: of the config.
    choices: the choices of face that the name may end in.

  Raises:
    UserError: the size is not one that is stored.
  """
  found = _NAME.fullmatch(name)
  if not found:
    return None
  crop, choice, size = found['crop'] or '', found['choice'] or '', int(found['size'])
  scheme = schemes.get_scheme(crop)
  if scheme is None or (choice and choice not in choices):
    return None
  if not SMALLEST <= size <= LARGEST:
    raise errors.UserError(
      f'{set_name}{name}: the size is {size}; expected {SMALLEST} to {LARGEST} pixels'
    )
  colour, channels = _COLOURS[found['colour']]
  what = f': {scheme.description}' if crop else ''
  return FaceConfig(
    name=name,
    description=f'{size}x{size} {colour}{what}{f" ({choice})" if choice else ""}',
    size=size,
    channels=channels,
    encoded=size >= ENCODED_FROM,
    crop=crop,
    choice=choice,
  )


def pattern(choices: Sequence[str] = ()) -> str:
  """Returns what such names look like, for errors."""
  endings = f'[_{"|".join(choices)}]' if choices else ''
  crops = f'{"|".join(schemes.SCHEMES)}|marginPERCENT'
  return f'(gray|rgb){SMALLEST}...{LARGEST}[_{crops}]{endings}'
