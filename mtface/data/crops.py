"""How a run's sources were cut out of photographs, which is how its network must see a new one."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from ml_collections import ConfigDict

from mtface.data.build import find_builder
from mtface.data.names import SourceName
from mtface.errors import UserError
from mtface.faces.cropping import Crop

T = TypeVar('T')


class Form(NamedTuple):
  """What a builder says of the images of one of its configs.

  Attributes:
    crop: how they were cut out of photographs; None: others have cut them out, or nobody knows.
    grey: whether they have no colour.
  """

  crop: Crop | None
  grey: bool


@dataclasses.dataclass(frozen=True)
class RunCrop:
  """The crop of a run, and where it is from.

  Attributes:
    crop: for new photographs.
    sets: that were cut out so; none: it is the default, the detector's box without margin.
    others: the run's other sets.
  """

  crop: Crop
  sets: tuple[str, ...]
  others: tuple[str, ...]

  def __str__(self) -> str:
    where = f'as for {", ".join(self.sets)}' if self.sets else 'by default'
    text = f'faces are cut out {where} ({self.crop.how.description})'
    if self.others:
      text += (
        f'; {", ".join(self.others)} {"hold" if len(self.others) > 1 else "holds"} other crops'
      )
    return text


def crop_of_run(config: ConfigDict) -> RunCrop:
  """Returns how photographs are to be cut for the network of a run (or of one of its stages).

  Of several schemes among its sources, that of the most sources is taken, the first of as many.
  Sources whose images are faces that others have cut out (FER-2013, UTKFace's chips) have no say;
  where there are no others, it is the detector's box without margin.

  Raises:
    UserError: the network takes no square images, or none of 1 or 3 channels.
  """
  height, width, channels = config.image_shape
  if height != width or channels not in (1, 3):
    raise UserError(
      f'image_shape is {tuple(config.image_shape)}; faces are cut out of photographs as squares of '
      '1 or 3 channels'
    )
  names = [SourceName.parse(source.name).set_name for source in config.sources.values()]
  forms = {name: form_of(name) for name in names}
  schemes = [crop.scheme for name in names if (crop := forms[name].crop)]
  scheme = _commonest(schemes, '')
  sets = [name for name, (crop, _) in forms.items() if crop and crop.scheme == scheme]
  jpeg = _commonest((crop.jpeg for name in names if (crop := forms[name].crop)), 0)
  grey = channels == 3 and all(form.grey for form in forms.values())
  return RunCrop(
    Crop(height, channels, scheme, grey, jpeg),
    tuple(sets),
    tuple(name for name in forms if name not in sets),
  )


def form_of(set_name: str) -> Form:
  """Returns what the builder of SET/CONFIG says of its images. A set that has no builder here (it
  was made elsewhere) says nothing.
  """
  try:
    builder, config = find_builder(set_name)
  except UserError:
    return Form(None, False)
  if isinstance(config, str):
    config = builder.builder_configs[config]
  return Form(builder.crop_of(config), builder.GREY)


def _commonest(values: Iterable[T], otherwise: T) -> T:
  found = collections.Counter(values).most_common(1)
  return found[0][0] if found else otherwise
