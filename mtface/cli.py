"""`mtface <command>`: the command line. Each command is a function here that parses, calls the library, and says where the result is."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from mtface.errors import UserError

FLAGS = flags.FLAGS
EXIT_BAD_INPUT = 2


# --- Commands -----------------------------------------------------------------------------------------------------------------------


def build(names: Sequence[str]) -> None:
  """Prepares data sets: raw download -> array_record.   mtface build genki4k/gray48 --manual_dir=..."""
  from mtface.build import build as build_set

  if not names:
    raise UserError('build: name a set, e.g. `mtface build synthetic_faces/smile_gray48`; docs/datasets.md lists them')
  for name in names:
    build_set(name, data_dir=data_dir(), manual_dir=FLAGS.manual_dir, overwrite=FLAGS.overwrite)


def train(_: Sequence[str]) -> None:
  """Trains what a config describes; the same command continues an interrupted run."""
  from mtface.train import train as train_config

  config, workdir = load_config(), workdir_flag()
  print(f'training {config.name} in {workdir}', flush=True)
  train_config(config, workdir, data_dir())
  print(f'done: checkpoints in {workdir}; next: mtface evaluate --workdir={workdir} --data_dir={data_dir()}')


def evaluate(_: Sequence[str]) -> None:
  """Measures checkpoints of a run on sets: last, best, STEP, average:K, ensemble:K."""
  from mtface.evaluate import RESULTS_FILE, results_table
  from mtface.evaluate import evaluate as evaluate_run

  workdir = workdir_flag()
  rows = evaluate_run(
    workdir, data_dir(), checkpoints=FLAGS.checkpoint, on=FLAGS.on, re_estimate=FLAGS.re_estimate_statistics
  )
  print(results_table(rows))
  if FLAGS.sheet:
    from mtface.report.sheet import write_sheets

    for path in write_sheets(workdir, data_dir(), FLAGS.checkpoint[-1], FLAGS.on):
      print(f'picture: {path}')
  print(f'results: {workdir / RESULTS_FILE}')


def params(_: Sequence[str]) -> None:
  """Prints a config's parameter table and count."""
  from mtface.describe import parameter_report

  print(parameter_report(load_config()))


def describe(_: Sequence[str]) -> None:
  """Prints a config's sources, samples a task after mixing, steps an epoch, and memory."""
  from mtface.describe import describe as describe_config

  print(describe_config(load_config(), data_dir()))


def help_(_: Sequence[str]) -> None:
  """Lists the commands."""
  print(usage())


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], tuple[str, ...]]] = {
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
  'on': "sets to measure on: names of the run's config.evaluation.sets, or sources such as fer2013/gray48:private_test; default all of the run's",
  're_estimate_statistics': 'for average:K: measure batch-norm statistics anew on training samples (otherwise they are averaged too)',
  'sheet': 'also draw a sheet of faces with labels and predictions for each set',
}


def _define_flags(values: flags.FlagValues, names: Sequence[str]) -> None:
  texts = {'workdir': None, 'data_dir': None, 'manual_dir': None}
  for name in names:
    about = {'name': name, 'help': _FLAG_HELP[name], 'flag_values': values}
    if name in texts:
      flags.DEFINE_string(default=None, **about)
    elif name == 'checkpoint':
      flags.DEFINE_list(default=['last'], **about)
    elif name == 'on':
      flags.DEFINE_list(default=[], **about)
    elif name != 'config':
      flags.DEFINE_bool(default=name == 're_estimate_statistics', **about)


# --- Flags to values ----------------------------------------------------------------------------------------------------------------


def data_dir() -> pathlib.Path:
  """--data_dir, as TFDS finds it."""
  return pathlib.Path(FLAGS.data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def workdir_flag() -> pathlib.Path:
  """--workdir, which must be given."""
  if not FLAGS.workdir:
    raise UserError('--workdir is missing: name the folder of the run')
  return pathlib.Path(FLAGS.workdir).expanduser()


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


_loaded: dict[str, ConfigDict] = {}


def load_config() -> ConfigDict:
  """The config of --config with the overrides of the command line."""
  if 'config' not in _loaded:
    raise UserError('--config is missing: name a config file or a shipped one, e.g. --config=demo')
  return _loaded['config']


def load_config_file(path: pathlib.Path, argument: str | None = None) -> ConfigDict:
  """Runs a config file's `get_config(argument)`; a file without one, or with an error of its own, is bad input."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  if not (spec and spec.loader):
    raise UserError(f'{path}: is not a Python file; a config file ends in .py')
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except SyntaxError as error:
    raise UserError(f'{path}: line {error.lineno} is no Python ({error.msg})') from error
  if not hasattr(module, 'get_config'):
    raise UserError(f'{path}: has no function get_config; a config file defines get_config(arg=None) -> ConfigDict')
  config = module.get_config() if argument is None else module.get_config(argument)
  config.name = config.name or path.stem + (f':{argument}' if argument else '')
  return config


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
  _define_flags(FLAGS, names)
  rest, config = _take_config_flag(rest)
  if config is not None:
    if 'config' not in names:
      raise UserError(f'{command}: takes no --config')
    name, colon, argument = config.partition(':')
    _loaded['config'] = load_config_file(find_config(name), argument if colon else None)
  function(_parse(rest))
  return 0


def _parse(arguments: Sequence[str]) -> list[str]:
  argv = ['mtface', *arguments]
  try:
    if 'config' in _loaded:
      config_flags.DEFINE_config_dict('config', _loaded['config'], sys_argv=argv)  # its overrides, --config.FIELD=VALUE
    return FLAGS(argv)[1:]
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    message = ' '.join(str(error).split()).strip('"')
    raise UserError(f'{message} (`mtface <command> --help` lists the flags)') from error


def main(argv: Sequence[str] | None = None) -> Any:
  """The entry point: bad input is one line on stderr and exit code 2; a bug keeps its traceback."""
  logging.use_absl_handler()
  logging.set_verbosity(logging.ERROR)  # orbax warns of what its own options ask for
  try:
    code = run(sys.argv[1:] if argv is None else argv)
  except UserError as error:
    print(f'mtface: error: {error}', file=sys.stderr)
    code = EXIT_BAD_INPUT
  except KeyboardInterrupt:
    print('mtface: interrupted; the same command continues a training run', file=sys.stderr)
    code = 130
  sys.exit(code)


if __name__ == '__main__':
  main()
