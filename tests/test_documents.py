"""Every code block of the documents is run, or at least parsed.

Blocks are fenced and name their language. `python` blocks are run, page by page and in order, in a
folder with a tiny run (`run`), its prepared sets (`faces`) and a drawn photograph (`photo.png`);
one that begins with `# Fragment` is only parsed, and so are those of pages that have a test of
their own (`RUN_BY`). A block that defines `get_config` gives a config that is whole. In `sh` blocks
(and behind the `$` of `console` blocks), commands are those that there are, with flags and fields
that are there.
"""

import ast
import builtins
import csv
import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import textwrap
import tomllib
from typing import NamedTuple

import pytest
import yaml
from absl import flags

from launch.job import define_job_flags
from mtface.cli.commands import COMMANDS
from mtface.cli.main import _parse, _take_config_flag
from mtface.config import experiment, saved, tables
from mtface.config import files as config_files
from mtface.config.schema import check_fields
from mtface.data import prepared
from mtface.tasks import get_task
from tests.cartoons import cartoon, save
from tests.command import ROOT

PAGES = [
  *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'benchmarks/README.md')),
  *sorted((ROOT / 'docs').rglob('*.md')),
]
RUN_BY = {  # pages that are run as a whole
  'extending.md': 'tests/test_extending.py',
  'deployment.md': 'tests/publish/test_deployment.py',
}
_FENCE = re.compile(r'^( *)```(\S*)\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
  """A fenced block; `line` is where its text begins."""

  page: pathlib.Path
  line: int
  language: str
  text: str


def blocks_of(page):
  content = page.read_text()
  return [
    Block(page, content[: m.start(3)].count('\n') + 1, m[2], textwrap.dedent(m[3]))
    for m in _FENCE.finditer(content)
  ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def named(blocks):
  return [pytest.param(block, id=f'{block.page.name}:{block.line}') for block in blocks]


def of(*languages):
  return named(block for block in BLOCKS if block.language in languages)


# --- Each language ------------------------------------------------------------------------------


def parse_delimited(text):
  rows = list(csv.reader(text.splitlines()))
  assert len({len(row) for row in rows}) == 1, 'rows of different lengths'


def run_node(text):
  """Syntax only; without Node.js nothing is looked at."""
  if node := shutil.which('node'):
    kind = '--input-type=module'
    subprocess.run([node, kind, '--check'], input=text, text=True, check=True, capture_output=True)


PARSERS = {
  'python': ast.parse,
  'json': json.loads,
  'jsonl': lambda text: [json.loads(line) for line in text.splitlines()],
  'yaml': yaml.safe_load,
  'toml': tomllib.loads,
  'csv': parse_delimited,
  'js': run_node,
  'html': str,
  'sh': lambda text: subprocess.run(['bash', '-n'], input=text, text=True, check=True),
  'console': str,
  'text': str,
}


@pytest.mark.parametrize('block', named(BLOCKS))
def test_a_block_names_its_language_and_can_be_parsed(block):
  assert block.language in PARSERS, f'{block.language or "no language"}: use {list(PARSERS)}'
  PARSERS[block.language](block.text)


@pytest.mark.parametrize('page', [pytest.param(page, id=page.name) for page in PAGES])
def test_code_is_fenced(page):
  text = _FENCE.sub('', page.read_text())
  assert text.count('```') == 0, 'a fence that does not end'
  indented = re.findall(r'\n\n((?: {4}|\t)\S[^\n]*)', text)
  code = [line for line in indented if not re.match(r' {4}([-*|]|\d+\.|[A-Z`\[*(])', line)]
  assert not code, 'code is between ```LANGUAGE and ```, indented text belongs to lists'


# --- Python -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_data, tiny_run, tmp_path, monkeypatch):
  """The folder that the blocks are run in. What they register or import is forgotten again."""
  shutil.copytree(tiny_run, tmp_path / 'run')
  (tmp_path / 'faces').mkdir()
  (tmp_path / 'faces/tiny').symlink_to(tiny_data / 'tiny')
  (tmp_path / 'faces/genki4k').mkdir()
  (tmp_path / 'faces/genki4k/gray48').symlink_to(tiny_data / 'tiny/smile')
  save(tmp_path / 'photo.png', cartoon())
  monkeypatch.chdir(tmp_path)
  for table in [x for x in vars(tables).values() if isinstance(x, tables.Table)]:
    monkeypatch.setattr(table, '_entries', dict(table._entries))
  return tmp_path


def is_run(block):
  fragment = block.text.startswith('# Fragment')
  return block.language == 'python' and block.page.name not in RUN_BY and not fragment


@pytest.mark.parametrize(
  'page',
  [pytest.param(page, id=page.name) for page in PAGES if any(map(is_run, blocks_of(page)))],
)
def test_python_runs(page, folder):
  space = {'__name__': '__main__', '__builtins__': builtins}
  for block in filter(is_run, blocks_of(page)):
    before = dict(space)
    at_its_line = '\n' * (block.line - 1) + block.text
    exec(compile(at_its_line, str(page), 'exec'), space)
    if space.get('get_config') is not before.get('get_config'):
      check_fields(space['get_config'](), f'{page.name}:{block.line}')


@pytest.mark.parametrize(('page', 'test'), RUN_BY.items())
def test_pages_with_a_test_of_their_own_have_it(page, test):
  assert f'docs/{page}' in (ROOT / test).read_text()


# --- Commands -----------------------------------------------------------------------------------


class Command(NamedTuple):
  """A line of a shell, with what it continues and variables that its page sets."""

  block: Block
  text: str

  @property
  def words(self):
    words = shlex.split(self.text.replace('$', ''), comments=True)
    while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
      words = words[1:]
    ends = [i for i, word in enumerate(words) if word in ('|', '&&', '>', ';')]
    return [word for word in words[: min(ends, default=len(words))] if word != '...']


def commands_of(page):
  variables = {}
  for block in blocks_of(page):
    text = re.sub(r'\\\n\s*', ' ', block.text)
    for line in text.splitlines() if block.language in ('sh', 'console') else ():
      if block.language == 'console' and not line.startswith('$ '):
        continue
      line = line.removeprefix('$ ')
      if given := re.fullmatch(r'([A-Z]\w*)=(?:\((.*)\)|"(.*)"|(\S+))', line):
        variables[given[1]] = given[2] or given[3] or given[4]
      for name, value in variables.items():
        line = re.sub(rf'"\${{{name}\[@\]}}"|\${name}\b', lambda _, v=value: v, line)
      if not line.startswith('#') and line.strip():
        yield Command(block, line)


COMMAND_LINES = [command for page in PAGES for command in commands_of(page)]


def lines(*starts, but=r'\b\B'):
  """The commands that begin with these words, as parameters of a test."""
  return [
    pytest.param(command, id=f'{command.block.page.name}: {command.text[:60]}')
    for command in COMMAND_LINES
    if tuple(command.words[: len(starts)]) == starts and not re.search(but, command.text)
  ]


@pytest.mark.parametrize(
  'command',
  [
    param
    for param in lines('mtface', but=r'mtface (COMMAND|help)|--config=my')
    if param.values[0].block.page.name != 'extending.md'
  ],
)
def test_a_command_is_one_that_there_is(command, monkeypatch):
  # config `mine` looks at its set, and at the run that it goes on from
  holiday = prepared.Prepared((get_task('smile'),), {'train': 1000}, (48, 48, 1))
  monkeypatch.setattr(prepared, 'described', lambda *_: holiday)
  monkeypatch.setattr(saved, 'read_config', lambda _: experiment())
  _, name, *rest = command.words
  there = COMMANDS[name]
  rest, config_name = _take_config_flag(rest)
  config = None
  if config_name is not None:
    assert 'config' in there.flags
    config = config_files.load_config(os.path.expanduser(config_name))
  _, words = _parse(name, [word.removesuffix(']').removeprefix('[') for word in rest], config)
  assert not words or there.takes_names, words


def test_there_are_commands():
  assert len(lines('mtface')) > 60 and len(lines('python')) > 20


@pytest.mark.parametrize('command', lines('python'))
def test_a_module_is_there_and_has_the_flags(command):
  words = command.words[1:]
  if words[0] == '-m' and not (ROOT / words[1].partition('.')[0]).is_dir():
    assert importlib.util.find_spec(words[1])  # of Python itself
    return
  name = words[1].replace('.', '/') if words[0] == '-m' else words[0].removesuffix('.py')
  path = pathlib.Path(ROOT, name)
  path = path / '__main__.py' if path.is_dir() else path.with_suffix('.py')
  assert path.is_file()
  words = words[: words.index('--') if '--' in words else None]
  used = {word[2:].partition('=')[0] for word in words if re.match(r'--(?!config\.)\w', word)}
  assert used <= flags_of(name, path), name


def flags_of(name, path):
  """Those of a launcher, or what another script's text defines."""
  if not name.startswith('launch/'):
    text = path.read_text()
    if 'from benchmarks.harness import' in text:  # a benchmark has those of all, too
      text += (ROOT / 'benchmarks' / 'harness.py').read_text()
    return set(re.findall(r"'(?:--)?([a-z][\w-]*)'", text))
  values = flags.FlagValues()
  define_job_flags(values)
  importlib.import_module(name.replace('/', '.')).define_flags(values)
  return {*values, *(f'no{flag}' for flag in values), 'help'}


@pytest.mark.parametrize('command', lines('make'))
def test_a_target_is_there(command):
  targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
  assert all(word in targets or '=' in word for word in command.words[1:])


EXTRAS = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']


@pytest.mark.parametrize('page', [pytest.param(page, id=page.name) for page in PAGES])
def test_extras_are_there(page):
  for extra in re.findall(r'mtface\[(\w+)\]', page.read_text()):
    assert extra in EXTRAS


# --- Links --------------------------------------------------------------------------------------


def anchors_of(page):
  """Anchors of a page's headings, as GitHub and the site make them."""
  text = _FENCE.sub('', page.read_text())
  plain = [re.sub(r'[^\w\s-]', '', title.lower()) for title in re.findall(r'^#+ (.*)$', text, re.M)]
  return [re.sub(r'\s', '-', title.strip()) for title in plain]


@pytest.mark.parametrize('page', [pytest.param(page, id=page.name) for page in PAGES])
def test_links_lead_somewhere(page):
  text = re.sub(r'`[^`\n]*`', '', _FENCE.sub('', page.read_text()))
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if re.match(r'https?://|mailto:', target):
      continue
    path, _, anchor = target.partition('#')
    there = (page.parent / path).resolve() if path else page
    assert there.exists(), target
    assert not anchor or anchor in anchors_of(there), target
    assert page.parent != ROOT / 'docs' or ROOT / 'docs' in there.parents, (
      f'{target}: the site has only what is in docs/'
    )
