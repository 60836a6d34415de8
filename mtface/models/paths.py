"""Parameter names, `trunk/stages/0/...`, and the patterns that select them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from mtface.errors import UserError

Params = dict[str, Any]
Stats = dict[str, Any]
HEADS = ('branches', 'heads')  # where a network keeps its task-specific parameters


def parameter_table(params: Params) -> list[tuple[str, tuple[int, ...], int]]:
  """(path, shape, count) of every parameter array, in the order of the network's tree."""
  return [(path, np.shape(x), int(np.size(x))) for path, x in by_path(params).items()]


def by_path(tree: Any) -> dict[str, Any]:
  """{'blocks/0/norms/1/scale': array} from nested dictionaries, in order."""
  return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def path_name(path: Sequence[Any]) -> str:
  """The parameter name for a path from `jax.tree_util`."""
  return '/'.join(str(getattr(key, 'key', key)) for key in path)


def head_of(name: str) -> str | None:
  """The task whose head a parameter belongs to; None for the trunk."""
  group, _, rest = name.partition('/')
  return rest.partition('/')[0] if group in HEADS and rest else None


def matches(patterns: Iterable[str], name: str) -> bool:
  """Whether one of the patterns matches the start of a parameter's name, up to a `/` or the end:
  'trunk' matches trunk/0/kernel, but not trunks.
  """
  return any(re.match(f'(?:{pattern})(?:/|$)', name) for pattern in patterns)


def check_patterns(patterns: Iterable[str], names: Iterable[str], field: str) -> None:
  """Raises a `UserError` starting with `field` if a pattern is not a valid regular expression or
  matches no parameter.
  """
  names = list(names)
  for pattern in patterns:
    try:
      found = any(matches([pattern], name) for name in names)
    except re.error as error:
      raise UserError(f'{field}: {pattern!r} is not a regular expression ({error})') from error
    if not found:
      parts = ', '.join(dict.fromkeys(name.partition('/')[0] for name in names))
      raise UserError(
        f'{field}: {pattern!r} matches no parameter; parameter names start with {parts} (`mtface '
        'params` lists them)'
      )


def is_batch_norm(path: str) -> bool:
  """Whether a parameter belongs to a batch normalisation (papers exclude these from their
  counts).
  """
  return not {'norm', 'norms'}.isdisjoint(path.split('/'))
