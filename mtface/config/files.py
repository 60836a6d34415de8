"""Config files: where the shipped ones are, and how one is run. A file's errors are the user's to
mend, so they name its line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import pathlib
import traceback
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mtface.config.imports import load_imports, parse_imports, register_classes
from mtface.config.schema import check_fields, complete, switched
from mtface.errors import UserError
from mtface.files import local_path
from mtface.progress import warn


def config_folder() -> pathlib.Path:
  """Where the shipped configs are: inside an installed package, or beside it in a checkout."""
  package = pathlib.Path(__file__).resolve().parents[1]
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


def find_config(name: str) -> pathlib.Path:
  """The file of a config: a path as given, or else a shipped one by its name, `sang2017` or
  `configs/sang2017.py`.
  """
  path = local_path(name)
  if path.is_file():
    return path
  shipped = config_folder() / f'{path.stem}.py'
  if path.parent.name in ('', 'configs') and shipped.is_file():
    return shipped
  names = ', '.join(sorted(p.stem for p in config_folder().glob('*.py')))
  raise UserError(
    f'--config={name}: no such file, and no shipped config of that name; there are {names}'
  )


def shipped_module(name: str) -> ModuleType | None:
  """The shipped config file of that name, run; None if there is none."""
  path = config_folder() / f'{name}.py'
  return load_module(path) if path.is_file() else None


def load_config(name: str, data_dir: str = '') -> ConfigDict:
  """The config that FILE[:ARGUMENTS] names."""
  file, colon, argument = name.partition(':')
  return load_config_file(find_config(file), argument if colon else None, data_dir)


def load_config_file(
  path: pathlib.Path, argument: str | None = None, data_dir: str = ''
) -> ConfigDict:
  """Runs a config file's `get_config(argument)`; a file without one, or with an error of its own,
  is bad input. A `get_config` with a parameter `data_dir` looks at prepared sets, and is told where
  they are.
  """
  module = load_module(path)
  with _errors_name_the_line(path):
    config = _call_get_config(module, path, argument, data_dir)
  config.name = config.name or path.stem + (f':{argument}' if argument else '')
  return config


def load_module(path: pathlib.Path) -> ModuleType:
  """Runs a config file."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if not (spec and spec.loader):
    raise UserError(f'{path}: is not a Python file; a config file ends in .py')
  module = importlib.util.module_from_spec(spec)
  with _errors_name_the_line(path):
    spec.loader.exec_module(module)
  return module


def split_names(names: str) -> list[str]:
  """Config names with commas between them, of which the arguments have commas too:
  `a:A1,a:A2,fold=1` -> a:A1 and a:A2,fold=1.

  An item without a colon and with an equals sign is an argument of the name before it.
  """
  found: list[str] = []
  for item in filter(None, (part.strip() for part in names.split(','))):
    if found and ':' not in item and '=' in item:
      found[-1] += f',{item}'
    else:
      found.append(item)
  return found


@contextlib.contextmanager
def _errors_name_the_line(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # the file is the user's code: anything may come out of it
    raise UserError(
      f'{_line_of(error, path)}: {type(error).__name__}: {error}; correct the config file'
    ) from error


def _call_get_config(
  module: ModuleType, path: pathlib.Path, argument: str | None, data_dir: str
) -> ConfigDict:
  if not callable(getattr(module, 'get_config', None)):
    raise UserError(
      f'{path}: has no function get_config; a config file defines get_config(arg=None) -> '
      'ConfigDict'
    )
  if argument is not None and not set(_parameters(module)) - {'data_dir'}:
    raise UserError(
      f'{path}: takes no argument, {argument!r} was given; leave out the colon and what follows'
    )
  given = () if argument is None else (argument,)
  places = {'data_dir': data_dir} if 'data_dir' in _parameters(module) else {}
  config = module.get_config(*given, **places)
  if not isinstance(config, ConfigDict):
    raise UserError(
      f'{path}: get_config returned {type(config).__name__}; expected what '
      'mtface.config.experiment() returns, changed'
    )
  load_imports(config.get('imports', ()), f'{path}: config.imports')
  register_classes(config.get('classes', {}), f'{path}: config.classes')
  for field in complete(config):
    warn(f'{path}: config.{field} is set, but what the config names there has no such option')
  check_fields(config, str(path))
  return config


def _parameters(module: ModuleType) -> tuple[str, ...]:
  return tuple(inspect.signature(module.get_config).parameters)


def _line_of(error: Exception, path: pathlib.Path) -> str:
  """`path:line` of the line in the config file that raised."""
  if isinstance(error, SyntaxError):
    return f'{path}:{error.lineno}'
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__)
    if frame.filename == str(path)
  ]
  return f'{path}:{lines[-1]}' if lines else str(path)


def overridden(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
  """The config with --config.FIELD=VALUE, each a value of the field's type: no 1.9 for a whole
  number.

  Raises:
    UserError: there is no such field, or the value is of another type.
  """
  if incomplete := next((item for item in overrides if '=' not in item), None):
    raise UserError(f'{incomplete}: expected {incomplete}=VALUE')
  values, argv = flags.FlagValues(), ['mtface', *choose(config, overrides)]
  with flag_errors():
    config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=argv)
    values(argv)
  return values.config


@contextlib.contextmanager
def flag_errors(where: str = '--help') -> Iterator[None]:
  """Turns what absl and ml_collections say of a flag into bad input."""
  try:
    yield
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    message = ' '.join(str(error).split()).strip('"')
    raise UserError(f'{message} ({where} lists the flags)') from error


def choose(config: ConfigDict, arguments: Sequence[str]) -> list[str]:
  """Prepares a config for the --config.FIELD=VALUE among the arguments, whatever their order:
  modules are imported, and where a field names another network, optimiser, schedule, augmentation
  or loss, its options become the fields.

  Returns:
    The arguments, in which imports are written as Python writes a tuple, after the config's own.

  Raises:
    UserError: there is no such field; a module cannot be imported.
  """
  rest = list(arguments)
  given = []  # (field, value)
  for i, item in enumerate(rest):
    flag, equals, value = item.partition('=')
    if flag.startswith('--config.'):
      value = value if equals else ''.join(rest[i + 1 : i + 2])
      if flag == '--config.imports':
        before = config.get('imports', ())
        names = (*before, *(name for name in parse_imports(value) if name not in before))
        load_imports(names)
        rest[i : i + 1 if equals else i + 2] = [f'{flag}={names!r}']
      given.append((flag.removeprefix('--config.'), value))
  for field, value in given:
    switched(config, field, value)
  _check_overrides(config, rest)
  return rest


def _check_overrides(config: ConfigDict, arguments: Sequence[str]) -> None:
  """Raises a `UserError` for a --config.FIELD among the arguments that the config does not have.

  ml_collections' own message names neither the flag nor the fields that there are.
  """
  for flag in (item.partition('=')[0] for item in arguments if item.startswith('--config.')):
    group: Any = config
    for name in flag.split('.')[1:]:
      if not isinstance(group, ConfigDict) or name not in group:
        have = ', '.join(group) if isinstance(group, ConfigDict) else 'none'
        raise UserError(f'{flag}: there is no field {name!r}; the fields here are: {have}')
      group = group[name]
