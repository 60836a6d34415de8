"""Arguments of config files, as in `configs/sang2017.py:A2,fold=1`, and what several files do
with theirs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from mtface.errors import UserError

SIZES = {'full': 1.0, 'small': 0.25, 'smoke': 0.125}  # of all channel counts


def use_size(config: ConfigDict, size: str) -> None:
  """`full`: as published; `small`: a quarter of the channels; `smoke`: an eighth of them and 20
  steps, to see that everything runs.
  """
  if 'width' in config.model:
    config.model.width *= SIZES[size]
  if size == 'smoke':
    config.duration, config.checkpoint.every, config.log_every = '20 steps', '2 steps', '2 steps'


@dataclasses.dataclass(frozen=True)
class Option:
  """One argument of a config file: its default, which also gives its type, and the values it may
  take (None: any).
  """

  default: Any
  choices: tuple[Any, ...] | None = None


def parse_arg(text: str | None, config_file: str, first: str, **options: Option) -> ConfigDict:
  """Reads a config's argument, as in `configs/sang2017.py:A2,fold=1`.

  Args:
    text: what stands after the colon; None or '' for all defaults.
    config_file: for the error message.
    first: the option that a leading value without a name sets.
    **options: what is allowed.

  Raises:
    UserError: an unknown option, or a value of the wrong type or not among the choices.
  """
  given = ConfigDict({key: option.default for key, option in options.items()})
  for i, item in enumerate(filter(None, (text or '').split(','))):
    key, equals, value = item.partition('=')
    if not equals and i == 0:
      key, value = first, item
    elif not equals:
      key, value = item, 'True'
    if key not in options:
      raise UserError(
        f'{config_file}: argument {item!r} is unknown; there are {_describe(options)}'
      )
    given[key] = _convert(value, options[key], f'{config_file}: argument {key}')
  return given


def given_arguments(text: str | None, first: str) -> set[str]:
  """The names of the arguments that the text of `parse_arg` gives, whatever their defaults."""
  items = list(filter(None, (text or '').split(',')))
  return {
    first if not i and '=' not in item else item.partition('=')[0] for i, item in enumerate(items)
  }


def contradiction(config_file: str, one: str, other: str, why: str) -> UserError:
  """The error of two arguments that exclude each other; `why` is a clause."""
  return UserError(
    f'{config_file}: {one} and {other} contradict each other: {why}; leave one of them out'
  )


def _convert(value: str, option: Option, what: str) -> Any:
  kind = type(option.default)
  try:
    converted = {'True': True, 'False': False}[value] if kind is bool else kind(value)
  except (KeyError, ValueError) as error:
    raise UserError(f'{what}: {value!r} is not of type {kind.__name__}') from error
  if option.choices is not None and converted not in option.choices:
    raise UserError(f'{what}: {value!r} is not one of {", ".join(map(str, option.choices))}')
  return converted


def _describe(options: dict[str, Option]) -> str:
  return ', '.join(
    f'{key}={"|".join(map(str, option.choices)) if option.choices else option.default}'
    for key, option in options.items()
  )
