"""Names of parameters, `trunk/stages/0/...`, and the patterns that choose some of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from mtface.errors import UserError

Params = dict[str, Any]
Stats = dict[str, Any]
HEADS = ('branches', 'heads')  # where a network keeps what belongs to one task


def parameter_table(params: Params) -> list[tuple[str, tuple[int, ...], int]]:
  """(path, shape, count) of every parameter array, in the order of the network's tree."""
  return [(path, np.shape(x), int(np.size(x))) for path, x in by_path(params).items()]


def by_path(tree: Any) -> dict[str, Any]:
  """{'blocks/0/norms/1/scale': array} of nested dictionaries, in their order."""
  return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def path_name(path: Sequence[Any]) -> str:
  """A path of `jax.tree_util` as the name of a parameter."""
  return '/'.join(str(getattr(key, 'key', key)) for key in path)


def head_of(name: str) -> str | None:
  """The task whose head a parameter belongs to; None: it is the trunk's."""
  group, _, rest = name.partition('/')
  return rest.partition('/')[0] if group in HEADS and rest else None


def matches(patterns: Iterable[str], name: str) -> bool:
  """Whether a parameter's name begins with one of the patterns, as far as a `/` or its end: 'trunk'
  is trunk/0/kernel, not trunks.
  """
  return any(re.match(f'(?:{pattern})(?:/|$)', name) for pattern in patterns)


def check_patterns(patterns: Iterable[str], names: Iterable[str], field: str) -> None:
  """Raises a `UserError` that begins with `field` for a pattern that is no regular expression, or
  matches no parameter.
  """
  names = list(names)
  for pattern in patterns:
    try:
      found = any(matches([pattern], name) for name in names)
    except re.error as error:
      raise UserError(f'{field}: {pattern!r} is no regular expression ({error})') from error
    if not found:
      parts = ', '.join(dict.fromkeys(name.partition('/')[0] for name in names))
      raise UserError(
        f'{field}: {pattern!r} matches no parameter; their names begin with {parts} (`mtface '
        'params` lists them)'
      )


def is_batch_norm(path: str) -> bool:
  """Whether a parameter's path lies in a batch normalisation (papers leave these out of their
  counts).
  """
  return not {'norm', 'norms'}.isdisjoint(path.split('/'))
