"""`mtface <command>`: the command line. Each command is a function here that parses, calls the library, and says where the result is."""

from __future__ import annotations

import importlib.util
import inspect
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from mtface.config import check_fields
from mtface.errors import UserError

EXIT_BAD_INPUT = 2


# --- Commands -----------------------------------------------------------------------------------------------------------------------


def build(args: flags.FlagValues, names: Sequence[str]) -> None:
  """Prepares data sets: raw download -> array_record.   mtface build genki4k/gray48 --manual_dir=..."""
  from mtface.build import build as build_set

  if not names:
    raise UserError('build: name a set, e.g. `mtface build synthetic_faces/smile_gray48`; docs/datasets.md lists them')
  for name in names:
    build_set(name, data_dir=data_dir(args), manual_dir=args.manual_dir, overwrite=args.overwrite)


def train(args: flags.FlagValues, _: Sequence[str]) -> None:
  """Trains what a config describes; the same command continues an interrupted run."""
  from mtface.train import train as train_config

  config, workdir = load_config(args), workdir_flag(args)
  print(f'training {config.name} in {workdir}', flush=True)
  train_config(config, workdir, data_dir(args))
  print(f'done: checkpoints in {workdir}; next: mtface evaluate --workdir={workdir} --data_dir={data_dir(args)}')


def evaluate(args: flags.FlagValues, _: Sequence[str]) -> None:
  """Measures checkpoints of a run on sets: last, best, STEP, average:K, ensemble:K."""
  from mtface.evaluate import RESULTS_FILE, results_table
  from mtface.evaluate import evaluate as evaluate_run

  workdir = workdir_flag(args)
  rows = evaluate_run(
    workdir, data_dir(args), checkpoints=args.checkpoint, on=args.on, re_estimate=args.re_estimate_statistics
  )
  print(results_table(rows))
  if args.sheet:
    from mtface.report.sheet import write_sheets

    for path in write_sheets(workdir, data_dir(args), args.checkpoint[-1], args.on):
      print(f'picture: {path}')
  print(f'results: {workdir / RESULTS_FILE}')


def params(args: flags.FlagValues, _: Sequence[str]) -> None:
  """Prints a config's parameter table and count."""
  from mtface.describe import parameter_report

  print(parameter_report(load_config(args)))


def describe(args: flags.FlagValues, _: Sequence[str]) -> None:
  """Prints a config's sources, samples a task after mixing, steps an epoch, and memory."""
  from mtface.describe import describe as describe_config

  print(describe_config(load_config(args), data_dir(args)))


def help_(_args: flags.FlagValues, _: Sequence[str]) -> None:
  """Lists the commands."""
  print(usage())


COMMANDS: dict[str, tuple[Callable[[flags.FlagValues, Sequence[str]], None], tuple[str, ...]]] = {
  'build': (build, ('data_dir', 'manual_dir', 'overwrite')),
  'train': (train, ('config', 'workdir', 'data_dir')),
  'evaluate': (evaluate, ('workdir', 'data_dir', 'checkpoint', 'on', 're_estimate_statistics', 'sheet')),
  'params': (params, ('config',)),
  'describe': (describe, ('config', 'data_dir')),
  'help': (help_, ()),
}

_FLAG_HELP = {
  'config': 'FILE[:ARGUMENT]: a config file, or the name of a shipped one (demo, sang2017, rohani2023); '
  'override its fields with --config.FIELD=VALUE',
  'workdir': 'the folder of one run: config, checkpoints, metrics, results',
  'data_dir': 'where prepared sets are; default $TFDS_DATA_DIR, then ~/tensorflow_datasets',
  'manual_dir': "the folder of the raw download, in its owner's layout (docs/datasets.md)",
  'overwrite': 'build again what is already built',
  'checkpoint': 'last, best, STEP, average:K, ensemble:K; several with commas',
  'on': "sets to measure on: names of the run's config.evaluation.sets (default: all), or sources such as fer2013/gray48:private_test",
  're_estimate_statistics': 'for average:K: measure batch-norm statistics anew on training samples (otherwise they are averaged too)',
  'sheet': 'also draw a sheet of faces with labels and predictions for each set',
}


def _define_flags(values: flags.FlagValues, names: Sequence[str]) -> None:
  for name in names:
    text = _FLAG_HELP[name]
    if name in ('workdir', 'data_dir', 'manual_dir'):
      flags.DEFINE_string(name, None, text, flag_values=values)
    elif name in ('checkpoint', 'on'):
      flags.DEFINE_list(name, ['last'] if name == 'checkpoint' else [], text, flag_values=values)
    elif name != 'config':  # which is taken out before
      flags.DEFINE_bool(name, name == 're_estimate_statistics', text, flag_values=values)


# --- Flags to values ----------------------------------------------------------------------------------------------------------------


def data_dir(args: flags.FlagValues) -> pathlib.Path:
  """--data_dir, as TFDS finds it."""
  return pathlib.Path(args.data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def workdir_flag(args: flags.FlagValues) -> pathlib.Path:
  """--workdir, which must be given."""
  if not args.workdir:
    raise UserError('--workdir is missing: name the folder of the run')
  return pathlib.Path(args.workdir).expanduser()


def config_folder() -> pathlib.Path:
  """Where the shipped configs are: inside an installed package, or beside it in a checkout."""
  package = pathlib.Path(__file__).resolve().parent
  inside = package / 'configs'
  return inside if inside.is_dir() else package.parent / 'configs'


def find_config(name: str) -> pathlib.Path:
  """The file of a config: a path as given, or else a shipped one by its name, `sang2017` or `configs/sang2017.py`."""
  path = pathlib.Path(name).expanduser()
  if path.is_file():
    return path
  shipped = config_folder() / f'{path.stem}.py'
  if path.parent.name in ('', 'configs') and shipped.is_file():
    return shipped
  names = ', '.join(sorted(p.stem for p in config_folder().glob('*.py')))
  raise UserError(f'--config={name}: no such file, and no shipped config of that name; there are {names}')


def _take_config_flag(argv: Sequence[str]) -> tuple[list[str], str | None]:
  """Takes --config=NAME[:ARG] out of argv, so that its file can be found before ml_collections looks for it."""
  rest: list[str] = []
  found = None
  items = iter(argv)
  for item in items:
    if item.split('=')[0] in ('--config', '-config'):
      found = item.partition('=')[2] if '=' in item else next(items, '')
    else:
      rest.append(item)
  return rest, found


def load_config(args: flags.FlagValues) -> ConfigDict:
  """The config of --config with the overrides of the command line."""
  if 'config' not in args:
    raise UserError('--config is missing: name a config file or a shipped one, e.g. --config=demo')
  return args.config


def load_config_file(path: pathlib.Path, argument: str | None = None) -> ConfigDict:
  """Runs a config file's `get_config(argument)`; a file without one, or with an error of its own, is bad input."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if not (spec and spec.loader):
    raise UserError(f'{path}: is not a Python file; a config file ends in .py')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = _call_get_config(module, path, argument)
  except UserError:
    raise
  except Exception as error:  # the file is the user's code: anything may come out of it
    raise UserError(f'{_line_of(error, path)}: {type(error).__name__}: {error}; correct the config file') from error
  config.name = config.name or path.stem + (f':{argument}' if argument else '')
  return config


def _call_get_config(module: Any, path: pathlib.Path, argument: str | None) -> ConfigDict:
  if not callable(getattr(module, 'get_config', None)):
    raise UserError(f'{path}: has no function get_config; a config file defines get_config(arg=None) -> ConfigDict')
  if argument is not None and not inspect.signature(module.get_config).parameters:
    raise UserError(f'{path}: takes no argument, {argument!r} was given; leave out the colon and what follows')
  config = module.get_config() if argument is None else module.get_config(argument)
  if not isinstance(config, ConfigDict):
    raise UserError(
      f'{path}: get_config returned {type(config).__name__}; expected what mtface.config.experiment() returns, changed'
    )
  check_fields(config, str(path))
  return config


def _line_of(error: Exception, path: pathlib.Path) -> str:
  """`path:line` of the line in the config file that raised."""
  if isinstance(error, SyntaxError):
    return f'{path}:{error.lineno}'
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
  return f'{path}:{lines[-1]}' if lines else str(path)


# --- Running ------------------------------------------------------------------------------------------------------------------------


def usage(command: str = '') -> str:
  """What `mtface help` or `mtface COMMAND --help` prints."""
  if command:
    function, names = COMMANDS[command]
    lines = [f'mtface {command}: {function.__doc__}', '']
    return '\n'.join(lines + [f'  --{name:<12} {_FLAG_HELP[name]}' for name in names])
  lines = ['mtface <command> [--flags]', '']
  lines += [f'  {name:<10} {(function.__doc__ or "").splitlines()[0]}' for name, (function, _) in COMMANDS.items()]
  return '\n'.join([*lines, '', '`mtface <command> --help` lists the flags of a command.'])


def run(argv: Sequence[str]) -> int:
  """Runs one command line (without the program's name); returns the exit code."""
  command, *rest = argv or ['help']
  if command in ('-h', '--help', '--helpfull'):
    command = 'help'
  if command not in COMMANDS:
    raise UserError(f'{command!r} is no command; there are {", ".join(COMMANDS)}')
  if any(item in ('-h', '--help', '--helpfull', '--helpshort') for item in rest):
    print(usage(command))
    return 0
  function, names = COMMANDS[command]
  rest, config_name = _take_config_flag(rest)
  if config_name is not None and 'config' not in names:
    raise UserError(f'--config: {command} takes none; `mtface {command} --help` lists its flags')
  config = None
  if config_name is not None:
    name, colon, argument = config_name.partition(':')
    config = load_config_file(find_config(name), argument if colon else None)
  args, positional = _parse(command, rest, config)
  if positional and function is not build:
    raise UserError(f'{positional[0]!r}: {command} takes only flags; `mtface {command} --help` lists them')
  function(args, positional)
  return 0


def _parse(command: str, rest: Sequence[str], config: ConfigDict | None) -> tuple[flags.FlagValues, list[str]]:
  """A command's flags, and what stands beside them."""
  # Not absl's global one, which holds the flags of every library, and can be parsed only once.
  args = flags.FlagValues()
  _define_flags(args, COMMANDS[command][1])
  argv = ['mtface', *rest]
  try:
    if config is not None:  # its overrides, --config.FIELD=VALUE
      _check_fields_exist(config, rest)
      config_flags.DEFINE_config_dict('config', config, flag_values=args, sys_argv=argv)
    return args, args(argv)[1:]
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    message = ' '.join(str(error).split()).strip('"')
    raise UserError(f'{message} (`mtface {command} --help` lists the flags)') from error


def _check_fields_exist(config: ConfigDict, arguments: Sequence[str]) -> None:
  """ml_collections' own message for a field that is not there names neither the flag nor the fields that are."""
  for flag in (item.partition('=')[0] for item in arguments if item.startswith('--config.')):
    group: Any = config
    for name in flag.split('.')[1:]:
      if not isinstance(group, ConfigDict) or name not in group:
        have = ', '.join(group) if isinstance(group, ConfigDict) else 'none'
        raise UserError(f'{flag}: there is no field {name!r}; the fields here are: {have}')
      group = group[name]


def main(argv: Sequence[str] | None = None) -> Any:
  """The entry point: bad input is one line on stderr and exit code 2; a bug keeps its traceback."""
  _quieten_libraries()
  try:
    code = run(sys.argv[1:] if argv is None else argv)
  except UserError as error:
    print(f'mtface: error: {" ".join(str(error).splitlines())}', file=sys.stderr)
    code = EXIT_BAD_INPUT
  except KeyboardInterrupt:
    print('mtface: interrupted; the same command continues a training run', file=sys.stderr)
    code = 130
  sys.exit(code)


def _quieten_libraries() -> None:
  flags.FLAGS.mark_as_parsed()  # absl's own, which grain and absl's logging look at
  logging.use_absl_handler()
  logging.set_verbosity(logging.ERROR)  # orbax warns of what its own options ask for
  logging.get_absl_handler().addFilter(_is_not_raised_too)


def _is_not_raised_too(record: Any) -> bool:
  """Orbax logs an exception with its traceback, and then raises it: once is enough."""
  return not record.exc_info


if __name__ == '__main__':
  main()
