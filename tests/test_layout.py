"""The order of the packages: nothing imports against it, there are no circles, and every package
says what it is for.
"""

import ast
import pathlib
import re

import pytest

import mtface
from tests import layout

ORDER = (
  '',  # the vocabulary: the modules beside the packages
  'config',
  'faces',
  'data',
  'models',
  'parallel',
  'inference',
  'training',
  'compiled',
  'evaluation',
  'features',
  'publish',
  'report',
  'cli',
)
GRAPH = layout.imports()
PYTHON = ('build', 'train', 'evaluate')  # for use from Python: they only name what is elsewhere


def package_of(module):
  return module.partition('.')[0] if '.' in module or module in ORDER else ''


def test_the_order_is_the_documented_one():
  listed = re.search(r'only those before it: ([^.]*)\.', ' '.join(mtface.__doc__.split()))[1]
  assert tuple(re.split(r', ', listed)) == ORDER[1:]
  folders = {
    path.parent.name for path in pathlib.Path(mtface.__file__).parent.glob('*/__init__.py')
  }
  assert folders == set(ORDER[1:])


@pytest.mark.parametrize(
  'module', [name for name in GRAPH if name not in ('', '__main__', *PYTHON)]
)
def test_no_import_against_the_order(module):
  here = ORDER.index(package_of(module))
  against = [other for other in GRAPH[module] if ORDER.index(package_of(other)) > here]
  assert not against


def test_there_is_no_circle():
  assert layout.circles(GRAPH) == []
  assert layout.circles({'a': {'b'}, 'b': {'c'}, 'c': {'a'}, 'd': {'a'}}) == [{'a', 'b', 'c'}]


@pytest.mark.parametrize('package', ORDER)
def test_a_package_says_what_it_is_for(package):
  path = pathlib.Path(mtface.__file__).parent / package / '__init__.py'
  body = ast.parse(path.read_text()).body
  assert len(body) == 1 or package in ('', 'config'), 'nothing but its docstring'
  lines = [line for line in body[0].value.value.splitlines() if line.strip()]
  assert 1 <= len(lines) <= 3


@pytest.mark.parametrize('name', PYTHON)
def test_what_is_for_python_only_names_what_is_elsewhere(name):
  body = ast.parse((pathlib.Path(mtface.__file__).parent / f'{name}.py').read_text()).body
  assert [type(node) for node in body] == [ast.Expr, ast.ImportFrom, ast.Assign]
  assert not any(name in others for others in GRAPH.values()), 'nothing imports it'


def test_what_the_package_itself_offers_is_imported_when_it_is_called():
  body = ast.parse(pathlib.Path(mtface.__file__).read_text()).body
  functions = [node for node in body if isinstance(node, ast.FunctionDef)]
  imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
  assert [function.name for function in functions] == ['load']
  assert not any('mtface' in ast.unparse(node) for node in imports), 'JAX takes seconds'
  assert not any('' in others for others in GRAPH.values()), 'nothing imports it'


def test_nothing_in_mtface_knows_where_it_runs():
  for path in layout.modules().values():
    assert not re.search(r'^\s*(from|import) launch\b', path.read_text(), re.MULTILINE), path
