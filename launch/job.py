"""Shared by the launchers: the flags that say what to run, their validation, and the resulting
`mtface` command line.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict

from mtface.cli import commands, streams
from mtface.cli.flags import FLAGS, data_dir
from mtface.config import files as config_files
from mtface.config.checks import check_stages
from mtface.errors import EXIT_BAD_INPUT, UserError
from mtface.files import local_path

Args = flags.FlagValues
DEFAULT_COMMAND = 'train'
# What absl appends to the help of a flag that may be repeated.
_ABSL_ON_LISTS = ';\n    repeat this option to specify a list of values'


@dataclasses.dataclass(frozen=True)
class Job:
  """An `mtface` command to run somewhere.

  Attributes:
    command: train, crossval, evaluate, doctor.
    name: the config's name, or the command if it takes no config.
    config: the job's --config: the name of a shipped config, or the absolute path of a file, with
      its arguments.
    file: that file, unless the config is a shipped one.
    overrides: --config.FIELD=VALUE, as typed.
    workdir: folder of the run, as the job sees it.
    data_dir: folder of the prepared sets, as the job sees it.
    more: what followed `--`, passed on to the command.
    settings: the config, loaded.
  """

  command: str
  name: str
  config: str | None
  file: pathlib.Path | None
  overrides: tuple[str, ...]
  workdir: pathlib.Path
  data_dir: pathlib.Path
  more: tuple[str, ...] = ()
  settings: ConfigDict | None = None

  def mtface(self, *more: str) -> list[str]:
    """The arguments of `python -m mtface`: those of the flags above that the command takes, then
    `more`.
    """
    takes = command_flags(self.command)
    config = (
      [f'--config={self.config}', *self.overrides] if self.config and 'config' in takes else []
    )
    folders = {'workdir': self.workdir, 'data_dir': self.data_dir}
    return [
      self.command,
      *config,
      *(f'--{flag}={path}' for flag, path in folders.items() if flag in takes),
      *self.more,
      *more,
    ]


def command_flags(command: str) -> Sequence[str]:
  """The flags that a command of mtface takes."""
  if command not in commands.COMMANDS:
    raise UserError(
      f'--command={command}: mtface has no such command; there are {", ".join(commands.COMMANDS)}'
    )
  return commands.COMMANDS[command].flags


def run_launcher(
  program: str,
  about: str,
  define: Callable[[Args], None],
  launch: Callable[[Args, Job], int],
  argv: Sequence[str] | None = None,
  *,
  in_pods: bool = False,
) -> NoReturn:
  """The entry point of a launcher: parses flags, prints help, and turns bad input into a one-line
  error with exit code 2.

  Args:
    program: the program as typed.
    about: the introduction of --help.
    define: defines the launcher's own flags.
    launch: launches the job and returns the exit code.
    argv: the arguments, without the program name.
    in_pods: --workdir and --data_dir are paths in a container, not on this host.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  streams.outlive_readers()
  args = Args()
  define_job_flags(args)
  define(args)
  try:
    if any(item in ('-h', '--help', '--helpfull', '--helpshort') for item in argv):
      print(usage(program, about, args))
      sys.exit(0)
    sys.exit(launch(args, parse_job(args, argv, in_pods=in_pods)))
  except UserError as error:
    print(f'launch: error: {" ".join(str(error).splitlines())}', file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def define_job_flags(args: Args) -> None:
  """The flags that say what to run."""
  text = {name: flag.help for name, flag in FLAGS.items()}
  flags.DEFINE_string('config', None, text['config'], flag_values=args)
  flags.DEFINE_string(
    'workdir', None, f'{text["workdir"]}; launcher logs are written there too', flag_values=args
  )
  flags.DEFINE_string('data_dir', None, text['data_dir'], flag_values=args)
  help_text = (
    'the mtface command to run; arguments after -- are passed to it, as in: '
    '--command=evaluate -- --checkpoint=best'
  )
  flags.DEFINE_string('command', DEFAULT_COMMAND, help_text, flag_values=args)
  # For tests, so `usage` omits it: a program that behaves like mtface but finishes at once.
  flags.DEFINE_string('module', 'mtface', 'module to run in place of mtface', flag_values=args)


def usage(program: str, about: str, args: Args) -> str:
  """What --help prints."""
  lines = [
    f'{program} --config=FILE[:ARGUMENTS] --workdir=FOLDER [--config.FIELD=VALUE ...] [--flags]',
    '',
    about,
    '',
  ]
  for name in args:
    if name != 'module':
      text = _help_text(args[name])
      lines += textwrap.wrap(
        text, 118, initial_indent=f'  --{name:<20} ', subsequent_indent=' ' * 25
      )
  return '\n'.join(
    [*lines, '', 'See docs/cluster.md for examples, and for what happens when a job is stopped.']
  )


def _help_text(flag: flags.Flag) -> str:
  has_default = flag.default is not False and flag.default not in (None, '', [])
  return flag.help.removesuffix(_ABSL_ON_LISTS) + (
    f' (default: {flag.default})' if has_default else ''
  )


def parse_job(args: Args, argv: Sequence[str], *, in_pods: bool = False) -> Job:
  """Parses the command line into `args` and checks the config now, since a job may wait in the
  queue for hours before it could report an error.
  """
  end = list(argv).index('--') if '--' in argv else len(argv)
  own, more = argv[:end], argv[end + 1 :]
  overrides = tuple(item for item in own if item.startswith('--config.'))
  with config_files.flag_errors():
    words = args(['launch', *(item for item in own if item not in overrides)])[1:]
  if words:
    raise UserError(
      f'{words[0]!r}: expected only flags (see --help); flags of the command go after --'
    )
  if not args.workdir:
    raise UserError('--workdir is missing: pass the folder of the run')
  takes = command_flags(args.command)
  if overrides and not args.config:
    raise UserError(
      f'{overrides[0]}: overrides a field of --config, which is missing: pass --config'
    )
  if args.config is None and 'config' in takes and not _names_its_own_configs(args):
    raise UserError(
      '--config is missing: pass a config file or the name of a shipped one, e.g. --config=demo'
    )
  settings = None if args.config is None else checked_config(args.config, overrides)
  return Job(
    command=args.command,
    name=args.command if settings is None else settings.name,
    config=args.config and job_config(args.config),
    file=args.config and own_file(args.config),
    overrides=overrides,
    workdir=_path_in_pod('workdir', args.workdir) if in_pods else _absolute(args.workdir),
    data_dir=_path_in_pod('data_dir', args.data_dir) if in_pods else _absolute(data_dir(args)),
    more=tuple(more),
    settings=settings,
  )


def parse_variable(text: str) -> tuple[str, str]:
  """NAME=VALUE of --env."""
  name, equals, value = text.partition('=')
  if not equals or not name.isidentifier():
    raise UserError(f'--env={text}: expected NAME=VALUE')
  return name, value


def _names_its_own_configs(args: Args) -> bool:
  return 'configs' in args and bool(args.configs)


def _absolute(path: str | os.PathLike) -> pathlib.Path:
  return local_path(path).absolute()


def _path_in_pod(flag: str, path: str | None) -> pathlib.Path:
  if not (path and path.startswith('/')):
    raise UserError(
      f'--{flag}={path or ""}: expected an absolute path in the pod, below one of the --claim '
      'folders'
    )
  return pathlib.Path(path)


# --- Configs --------------------------------------------------------------------------------------


def own_file(config: str) -> pathlib.Path | None:
  """The file of a config; None for shipped configs, which are available wherever mtface is
  installed.
  """
  path = config_files.find_config(config.partition(':')[0]).resolve()
  return None if path.parent == config_files.config_folder().resolve() else path


def job_config(config: str) -> str:
  """FILE[:ARGUMENTS] in a form that a job can find from any folder."""
  name, colon, arguments = config.partition(':')
  return f'{own_file(config) or config_files.find_config(name).stem}{colon}{arguments}'


def checked_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config with its overrides.

  Raises:
    UserError: no such config or field, or an invalid value.
  """
  config = config_files.overridden(config_files.load_config(name), overrides)
  check_stages(config, devices=1)
  return config


def check_processes(job: Job, processes: int) -> None:
  """Raises a `UserError` if the config's batches cannot be split evenly over the processes."""
  if processes < 1:
    raise UserError(f'{processes} processes: expected at least 1')
  if job.settings is not None:
    check_stages(job.settings, processes)
