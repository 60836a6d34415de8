"""`mtface <command>`: the command line. The commands are in `mtface/cli/commands.py`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from mtface import process
from mtface.cli import streams
from mtface.cli.commands import COMMANDS
from mtface.cli.flags import FLAGS, data_dir_in, define_flags
from mtface.cli.start import COMPUTING, is_the_program
from mtface.config import files as config_files
from mtface.config.saved import read_config
from mtface.errors import EXIT_BAD_INPUT, EXIT_PREEMPTED, Preempted, UserError
from mtface.parallel import jax_settings
from mtface.parallel.cores import use_cores
from mtface.parallel.programs import keep_programs
from mtface.progress import warn

# The commands that work through whole batches of a run's own size. A single face is done sooner by
# all cores as one device.
_BY_BATCHES = frozenset(
  [
    'train',
    'evaluate',
    'crossval',
    'sweep',
    'search',
    'associate',
    'features',
    'calibrate',
    'audit',
  ]
)
_RESUMED = {'train', 'crossval', 'sweep', 'search'}  # the commands that go on where they stopped


def _take_config_flag(argv: Sequence[str]) -> tuple[list[str], str | None]:
  """Takes --config=NAME[:ARG] out of argv, so that its file can be found before ml_collections
  looks for it.
  """
  rest: list[str] = []
  found = None
  items = iter(argv)
  for item in items:
    if item.split('=')[0] in ('--config', '-config'):
      found = item.partition('=')[2] if '=' in item else next(items, '')
    else:
      rest.append(item)
  return rest, found


def usage(name: str = '') -> str:
  """What `mtface help` or `mtface COMMAND --help` prints."""
  if name:
    command = COMMANDS[name]
    lines = [f'mtface {name}: {command.run.__doc__}', '']
    return '\n'.join(lines + [f'  --{flag:<12} {FLAGS[flag].help}' for flag in command.flags])
  lines = ['mtface <command> [--flags]', '']
  lines += [
    f'  {name:<10} {(command.run.__doc__ or "").splitlines()[0]}'
    for name, command in COMMANDS.items()
  ]
  lines += [f'  {"help":<10} Lists the commands.']
  return '\n'.join([*lines, '', '`mtface <command> --help` lists the flags of a command.'])


def run(argv: Sequence[str]) -> int:
  """Runs one command line (without the program's name); returns the exit code."""
  name, *rest = argv or ['help']
  if name in ('help', '-h', '--help', '--helpfull'):
    print(usage())
    return 0
  if name not in COMMANDS:
    raise UserError(f'{name!r} is not a command; the commands are {", ".join(COMMANDS)}, help')
  if any(item in ('-h', '--help', '--helpfull', '--helpshort') for item in rest):
    print(usage(name))
    return 0
  command = COMMANDS[name]
  rest, config_name = _take_config_flag(rest)
  if config_name is not None and 'config' not in command.flags:
    raise UserError(
      f'--config: {name} does not take a config; `mtface {name} --help` lists its flags'
    )
  place = str(data_dir_in(rest))
  config = None if config_name is None else config_files.load_config(config_name, place)
  args, words = _parse(name, rest, config)
  if words and not command.takes_names:
    raise UserError(f'{words[0]!r}: {name} takes only flags; `mtface {name} --help` lists them')
  if name in COMPUTING:
    alone = name in _BY_BATCHES and is_the_program()
    if alone and (experiment := _alone(args)) is not None:
      use_cores(experiment)
    keep_programs()
  command.run(args, words)
  return 0


def _alone(args: flags.FlagValues) -> ConfigDict | None:
  """The experiment that a command is about, if this process is alone with it."""

  def given(flag: str) -> Any:
    return args[flag].value if flag in args else None

  if any(given(flag) for flag in ('distributed', 'coordinator', 'processes')):
    return None
  if 'batch_size' in (given('over') or ''):  # a sweep over more than the config's own
    return None
  if given('config') is not None:
    return args.config
  try:
    return read_config(given('workdir')) if given('workdir') else None
  except UserError:  # the command says it
    return None


def _parse(
  command: str, rest: Sequence[str], config: ConfigDict | None
) -> tuple[flags.FlagValues, list[str]]:
  """A command's flags, and what stands beside them."""
  # Not absl's global one, which holds the flags of every library, and can be parsed only once.
  args = flags.FlagValues()
  define_flags(args, COMMANDS[command].flags)
  if config is not None:  # its overrides, --config.FIELD=VALUE
    rest = config_files.choose(config, rest)
  argv = ['mtface', *rest]
  with config_files.flag_errors(f'`mtface {command} --help`'):
    if config is not None:
      config_flags.DEFINE_config_dict('config', config, flag_values=args, sys_argv=argv)
    return args, args(argv)[1:]


def main(argv: Sequence[str] | None = None) -> Any:
  """The entry point: bad input is one line on stderr and exit code 2; a bug keeps its traceback."""
  streams.outlive_readers()
  _quieten_libraries()
  for setting in jax_settings.set_aside():
    warn(
      f'{setting}: is set aside, since it only makes JAX refuse what libraries do; no number '
      'depends on it'
    )
  try:
    code = run(sys.argv[1:] if argv is None else argv)
  except UserError as error:
    print(f'mtface: error: {" ".join(str(error).splitlines())}', file=sys.stderr)
    code = EXIT_BAD_INPUT
  except Preempted as error:
    process.say(f'{error}; rerun the same command to resume')
    code = EXIT_PREEMPTED
  except KeyboardInterrupt:
    command = (sys.argv[1:] if argv is None else argv)[:1]
    resumes = '; rerun the same command to resume training' if {*command} & _RESUMED else ''
    print(f'mtface: interrupted{resumes}', file=sys.stderr)
    code = 130
  except Exception as error:
    if refusal := jax_settings.refusal(error):
      print(f'mtface: error: {refusal}', file=sys.stderr)
      sys.exit(EXIT_BAD_INPUT)
    if process.count > 1:
      _leave_the_others(error)
    raise
  if process.count > 1:
    _leave_with_the_others(code)
  sys.exit(code)


def _leave_the_others(error: Exception) -> None:
  """Ends one of several processes that cannot go on, without waiting for the others, which may be
  gone.
  """
  from mtface.parallel import distributed

  if distributed.is_loss(error):
    distributed.leave_lost((str(error).splitlines() or [type(error).__name__])[0][:200])
  traceback.print_exc()
  distributed.leave(1)


def _leave_with_the_others(code: int) -> None:
  from mtface.parallel import distributed

  if code in (0, EXIT_PREEMPTED):
    distributed.finish()
  distributed.leave(code)


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
