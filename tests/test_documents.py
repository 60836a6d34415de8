"""The commands of README.md and docs/: each is one that mtface takes, with flags and fields that
are there. docs/extending.md is run as a whole by test_extending.py.
"""

import os
import pathlib
import re
import shlex
import textwrap

import pytest

from mtface.cli.commands import COMMANDS
from mtface.cli.main import _parse, _take_config_flag
from mtface.config import experiment, saved
from mtface.config import files as config_files
from mtface.data import prepared
from mtface.tasks import get_task
from tests.command import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), ROOT / 'benchmarks/README.md']


def lines_of(page):
  """Indented or fenced commands, those that end in a backslash joined to the next line; variables
  of the shell are taken from the page where it sets them.
  """
  text = re.sub(r'\\\n\s*', ' ', page.read_text())
  text = re.sub(r'```\w*\n(.*?)```', lambda m: textwrap.indent(m[1], '    '), text, flags=re.DOTALL)
  variables = {}
  for line in text.splitlines():
    command = line.strip().removeprefix('$ ')
    if given := re.fullmatch(r'([A-Z]\w*)=(?:\((.*)\)|"(.*)"|(\S+))', command):
      variables[given[1]] = given[2] or given[3] or given[4]
    if line.startswith('    ') and command.startswith(('mtface ', 'python -m ')):
      for name, value in variables.items():
        command = re.sub(rf'"\${{{name}\[@\]}}"|\${name}\b', lambda _, v=value: v, command)
      yield command


def words_of(command):
  words = shlex.split(command.replace('$', ''), comments=True)
  ends = [i for i, word in enumerate(words) if word in ('|', '&&', '>', ';')]
  return [word for word in words[: min(ends, default=len(words))] if word != '...']


COMMAND_LINES = [
  pytest.param(line, id=f'{page.stem}: {line[:60]}')
  for page in PAGES
  if page.stem != 'extending'
  for line in lines_of(page)
  if line.startswith('mtface ') and not re.search(r'mtface (COMMAND|help)|--config=my', line)
]


def test_there_are_commands():
  assert len(COMMAND_LINES) > 40


@pytest.mark.parametrize('line', COMMAND_LINES)
def test_a_command_is_one_that_there_is(line, monkeypatch):
  # config `mine` looks at its set, and at the run that it goes on from
  holiday = prepared.Prepared((get_task('smile'),), {'train': 1000}, (48, 48, 1))
  monkeypatch.setattr(prepared, 'described', lambda *_: holiday)
  monkeypatch.setattr(saved, 'read_config', lambda _: experiment())
  _, name, *rest = words_of(line)
  command = COMMANDS[name]
  rest, config_name = _take_config_flag(rest)
  config = None
  if config_name is not None:
    assert 'config' in command.flags
    config = config_files.load_config(os.path.expanduser(config_name))
  _, words = _parse(name, [word.removesuffix(']').removeprefix('[') for word in rest], config)
  assert not words or command.takes_names, words


@pytest.mark.parametrize(
  'line',
  [
    pytest.param(line, id=line[:70])
    for page in PAGES
    for line in lines_of(page)
    if line.startswith('python -m ')
  ],
)
def test_a_module_is_there(line):
  module = words_of(line)[2]
  path = pathlib.Path(ROOT, *module.split('.'))
  assert path.with_suffix('.py').is_file() or (path / '__main__.py').is_file()
