"""What a config brings along: modules of the user's own, `config.imports`, which register tasks,
builders, networks, losses and whatever else has a table (tables.py) when they are imported; and
label spaces in the words of a set of the user's own, `config.classes`.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from mtface.errors import UserError
from mtface.tasks import Task, register


def load_imports(names: Sequence[str], field: str = 'config.imports') -> None:
  """Imports modules by their names, from where Python finds them or from the current folder.

  Raises:
    UserError: a name is not that of a module, there is no such module, or it has an error.
  """
  for name in names:
    if not all(part.isidentifier() for part in name.split('.')):
      raise UserError(
        f'{field}: {name!r} is not the name of a module; name it as in `import my_faces`'
      )
    if name in sys.modules:
      continue
    if os.getcwd() not in sys.path:  # as for `python -m`: a module beside the user's configs
      sys.path.append(os.getcwd())
    try:
      importlib.import_module(name)
    except ModuleNotFoundError as error:
      if error.name is not None and f'{name}.'.startswith(f'{error.name}.'):
        raise UserError(
          f'{field}: there is no module {name!r}; install it, add its folder to PYTHONPATH, or run '
          'mtface in that folder'
        ) from error
      raise _error_in(name, field, error) from error
    except UserError as error:
      raise UserError(f'{field}: {name}: {error}') from error
    except Exception as error:  # the module is the user's code: anything may come out of it
      raise _error_in(name, field, error) from error


def register_classes(
  classes: Mapping[str, Mapping[str, Any]], field: str = 'config.classes'
) -> None:
  """Registers the tasks of {name: {'classes': names, 'multi_label': bool}}, so that the commands on
  a run know them as they know mtface's own.

  Raises:
    UserError: a name is not one, or belongs to a task with other classes.
  """
  for name, of in classes.items():
    try:
      register(Task(name, tuple(of['classes']), multi_label=bool(of['multi_label'])))
    except (KeyError, TypeError, ValueError) as error:
      raise UserError(
        f"{field}: {name}: expected {{'classes': [names], 'multi_label': False}} ({error})"
      ) from error
    except UserError as error:
      raise UserError(f'{field}: {error}') from error


def _error_in(name: str, field: str, error: Exception) -> UserError:
  """The error, with the line of the module or of what it imports."""
  where = name
  if isinstance(error, SyntaxError):
    where = f'{error.filename}:{error.lineno}'
  elif frames := [f for f in traceback.extract_tb(error.__traceback__) if 'importlib' not in f[0]]:
    where = f'{frames[-1].filename}:{frames[-1].lineno}'
  return UserError(f'{field}: {name}: {where}: {type(error).__name__}: {error}; correct the module')


def parse_imports(text: str) -> tuple[str, ...]:
  """The names in the text of a flag: a,b or a tuple as Python writes it, ('a', 'b')."""
  try:
    found = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    found = [part.strip() for part in text.split(',') if part.strip()]
  return (found,) if isinstance(found, str) else tuple(map(str, found))
