"""The layout of mtface in figures, read from its source: `python -m tests.layout [CHECKOUT]`.
test_layout.py holds the rules.
"""

from __future__ import annotations

import ast
import pathlib
import statistics
import sys
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = (
  'config',
  'config_checks',
  'config_files',
  'run_config',
  'stages',
)  # the last ones as they were before the packages


def modules(root: pathlib.Path = ROOT) -> dict[str, pathlib.Path]:
  """{name with dots, without mtface: file}; a package has the name of its folder."""
  found = {}
  for path in sorted((root / 'mtface').rglob('*.py')):
    parts = path.relative_to(root / 'mtface').with_suffix('').parts
    found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
  return found


def imports(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
  """{module: the modules of mtface that it imports, anywhere in it}."""
  names = modules(root)
  return {name: set(_imported(path, names)) - {name} for name, path in names.items()}


def _imported(path: pathlib.Path, names: Iterable[str]) -> Iterator[str]:
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and (node.module or '').partition('.')[0] == 'mtface':
      package = node.module.partition('.')[2]
      for alias in node.names:
        inside = f'{package}.{alias.name}'.lstrip('.')
        yield inside if inside in names else package
    elif isinstance(node, ast.Import):
      yield from (
        alias.name.partition('.')[2]
        for alias in node.names
        if alias.name.partition('.')[0] == 'mtface'
      )


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
  """Groups of modules that import each other, directly or not."""
  reach = {name: set(others) for name, others in graph.items()}
  changed = True
  while changed:
    changed = False
    for found in reach.values():
      more = set().union(*(reach.get(other, set()) for other in found)) - found
      found |= more
      changed |= bool(more)
  groups = {
    frozenset({b for b in found if a in reach.get(b, ())})
    for a, found in reach.items()
    if a in found
  }
  return [set(group) for group in sorted(groups, key=sorted)]


def function_lengths(root: pathlib.Path = ROOT) -> list[int]:
  """Lines of all functions, without their docstrings."""
  found = []
  for path in modules(root).values():
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        body = node.body[1:] if ast.get_docstring(node) else node.body
        found.append(1 + (node.end_lineno or 0) - body[0].lineno + 1 if body else 1)
  return found


def report(root: pathlib.Path = ROOT) -> str:
  """The figures, a line each."""
  graph, paths = imports(root), modules(root)
  lengths = sorted(function_lengths(root))
  lines = {name: len(path.read_text().splitlines()) for name, path in paths.items()}
  longest = sorted(lines, key=lambda name: -lines[name])[:5]
  of_config = {name for name in graph if name.partition('.')[0] in _CONFIG}
  enters = [name for name, others in graph.items() if name not in of_config and others & of_config]
  return '\n'.join(
    [
      f'modules: {len(paths)}, in the root: '
      f'{sum("." not in name and path.name != "__init__.py" for name, path in paths.items())}',
      f'circles: {len(circles(graph))}',
      f'modules that import config: {len(enters)}',
      f'functions: {len(lengths)}, median {statistics.median(lengths):g} lines, 90th percentile '
      f'{lengths[len(lengths) * 9 // 10]}',
      f'longest files: {", ".join(f"{name} {lines[name]}" for name in longest)}',
    ]
  )


if __name__ == '__main__':
  print(report(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
