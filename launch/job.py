"""What the launchers share: the flags that say what to run, their check, and the `mtface` command
line that comes out.
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
# What absl adds to the help of a flag that may stand several times.
_ABSL_ON_LISTS = ';\n    repeat this option to specify a list of values'


@dataclasses.dataclass(frozen=True)
class Job:
  """One `mtface` command, to be run somewhere.

  Attributes:
    command: train, crossval, evaluate, doctor.
    name: of the config, or the command where it takes none.
    config: what the job is given as --config: a shipped config's name, or the absolute path of a
      file; with its arguments.
    file: that file, where the config is not a shipped one.
    overrides: --config.FIELD=VALUE, as typed.
    workdir: of the run, as the job sees it.
    data_dir: of the prepared sets, as the job sees it.
    more: what stood behind `--`, for the command.
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
    """The arguments of `python -m mtface`: of the flags above, those that the command takes, then
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
  """The entry point of a launcher: flags, help, and one line with exit code 2 for bad input.

  Args:
    program: as it is typed.
    about: what --help says first.
    define: defines the launcher's own flags.
    launch: does it; returns the exit code.
    argv: without the program's name.
    in_pods: --workdir and --data_dir are paths in a container, not of this host.
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
    'workdir', None, f'{text["workdir"]}; the logs of the launcher go there too', flag_values=args
  )
  flags.DEFINE_string('data_dir', None, text['data_dir'], flag_values=args)
  help_text = (
    'the command of mtface to run; what stands behind -- is given to it, as in: '
    '--command=evaluate -- --checkpoint=best'
  )
  flags.DEFINE_string('command', DEFAULT_COMMAND, help_text, flag_values=args)
  # For tests, so `usage` leaves it out: a program that behaves as mtface does, but takes no time.
  flags.DEFINE_string('module', 'mtface', 'run in place of mtface', flag_values=args)


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
    [*lines, '', 'docs/cluster.md has examples, and says what happens when a job is stopped.']
  )


def _help_text(flag: flags.Flag) -> str:
  has_default = flag.default is not False and flag.default not in (None, '', [])
  return flag.help.removesuffix(_ABSL_ON_LISTS) + (
    f' (default: {flag.default})' if has_default else ''
  )


def parse_job(args: Args, argv: Sequence[str], *, in_pods: bool = False) -> Job:
  """Reads the command line into `args`, and checks what it says of the config: a job may wait for
  hours before it could.
  """
  end = list(argv).index('--') if '--' in argv else len(argv)
  own, more = argv[:end], argv[end + 1 :]
  overrides = tuple(item for item in own if item.startswith('--config.'))
  with config_files.flag_errors():
    words = args(['launch', *(item for item in own if item not in overrides)])[1:]
  if words:
    raise UserError(
      f'{words[0]!r}: expected only flags; --help lists them, and flags of the command go behind --'
    )
  if not args.workdir:
    raise UserError('--workdir is missing: name the folder of the run')
  takes = command_flags(args.command)
  if overrides and not args.config:
    raise UserError(f'{overrides[0]}: there is no --config that it could change')
  if args.config is None and 'config' in takes and not _names_its_own_configs(args):
    raise UserError('--config is missing: name a config file or a shipped one, e.g. --config=demo')
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
  """The file of a config that is not a shipped one; None for those, which are wherever mtface is
  installed.
  """
  path = config_files.find_config(config.partition(':')[0]).resolve()
  return None if path.parent == config_files.config_folder().resolve() else path


def job_config(config: str) -> str:
  """FILE[:ARGUMENTS] as a job can find it from any folder."""
  name, colon, arguments = config.partition(':')
  return f'{own_file(config) or config_files.find_config(name).stem}{colon}{arguments}'


def checked_config(name: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config with its overrides.

  Raises:
    UserError: there is no such config or field, or a value that cannot work.
  """
  config = config_files.overridden(config_files.load_config(name), overrides)
  check_stages(config, devices=1)
  return config


def check_processes(job: Job, processes: int) -> None:
  """Raises a `UserError` for a number of processes that cannot share the config's batches."""
  if processes < 1:
    raise UserError(f'{processes} processes: expected at least 1')
  if job.settings is not None:
    check_stages(job.settings, processes)
