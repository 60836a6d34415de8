"""From a config to a network as pure functions of its parameters.

Flax NNX modules are split once into a static graph and plain dictionaries of arrays; from there on a step is ordinary `jax.jit` over
pytrees, which costs the host nothing that grows with the network (`nnx.jit` walks the module graph at every call).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from mtface.errors import UserError
from mtface.models.bknet import BKNet
from mtface.models.efficientnet import EfficientNet
from mtface.models.mobilenet import MobileNet
from mtface.models.rexnet import RexNet
from mtface.tasks import Task

Params = dict[str, Any]
Stats = dict[str, Any]

MODELS = {'bknet': BKNet, 'mobilenet': MobileNet, 'efficientnet': EfficientNet, 'rexnet': RexNet}
DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}
HEADS = ('branches', 'heads')  # where a network keeps what belongs to one task


@dataclasses.dataclass(frozen=True)
class Network:
  """A network without its numbers: what maps (params, stats, images) to scores."""

  graph: nnx.GraphDef

  def train_scores(
    self, params: Params, stats: Stats, images: jax.Array, key: jax.Array
  ) -> tuple[dict[str, jax.Array], Stats]:
    """({task: [B, C]}, new statistics), with batch statistics over the global batch and dropout drawn from `key`."""
    model = nnx.merge(self.graph, params, stats)
    scores = model(images, train=True, rngs=nnx.Rngs(dropout=key))
    return scores, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

  def scores(self, params: Params, stats: Stats, images: jax.Array) -> dict[str, jax.Array]:
    """{task: [B, C]}, with running statistics and no dropout."""
    return nnx.merge(self.graph, params, stats)(images, train=False)

  def features(self, params: Params, stats: Stats, images: jax.Array) -> jax.Array:
    """What all heads see, [B, D] (the penultimate features), with running statistics."""
    return nnx.merge(self.graph, params, stats).features(images, train=False)


def make_network(
  config: ConfigDict, tasks: Sequence[Task], image_shape: Sequence[int], seed: int, frozen: Sequence[str] = ()
) -> tuple[Network, Params, Stats]:
  """The network of `config.model` and its initial parameters and statistics.

  Args:
    config: `config.model`: `name`, `dtype` and the arguments of that model.
    tasks: the heads.
    image_shape: (H, W, C).
    seed: of the initial weights.
    frozen: patterns (see `matches`) of the parts that compute in training as they do in evaluation.
  """
  network, _, _ = abstract_network(config, tasks, image_shape, frozen)

  def initial() -> tuple[Params, Stats]:
    _, params, stats = _split(_make(config, tasks, image_shape, seed))
    return params, stats

  return network, *jax.jit(initial)()  # one program; op by op it would take half a minute of compilation


def abstract_network(
  config: ConfigDict, tasks: Sequence[Task], image_shape: Sequence[int], frozen: Sequence[str] = ()
) -> tuple[Network, Params, Stats]:
  """The same with shapes (`jax.ShapeDtypeStruct`) for numbers; nothing is computed."""

  def made() -> nnx.Module:
    model = _make(config, tasks, image_shape, 0)
    for path, module in nnx.iter_modules(model):
      if hasattr(module, 'frozen') and matches(frozen, '/'.join(map(str, path))):
        module.frozen = True
    return model

  graph, params, stats = _split(nnx.eval_shape(made))
  return Network(graph), params, stats


def _make(config: ConfigDict, tasks: Sequence[Task], image_shape: Sequence[int], seed: int) -> nnx.Module:
  settings = dict(config)
  name, dtype = settings.pop('name'), settings.pop('dtype')
  if name not in MODELS:
    raise UserError(f'config.model.name {name!r} is unknown; there are {", ".join(MODELS)}')
  if dtype not in DTYPES:
    raise UserError(f'config.model.dtype {dtype!r} is unknown; there are {", ".join(DTYPES)}')
  height, width, channels = image_shape
  try:
    return MODELS[name](tasks, (height, width, channels), dtype=DTYPES[dtype], rngs=nnx.Rngs(params=seed), **settings)
  except TypeError as error:
    raise UserError(f'model {name}: {error}; check the fields of config.model') from error


def _split(model: nnx.Module) -> tuple[nnx.GraphDef, Params, Stats]:
  graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)  # type: ignore[misc]
  return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


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
  """Whether a parameter's name begins with one of the patterns, as far as a `/` or its end: 'trunk' is trunk/0/kernel, not trunks."""
  return any(re.match(f'(?:{pattern})(?:/|$)', name) for pattern in patterns)


def check_patterns(patterns: Iterable[str], names: Iterable[str], field: str) -> None:
  """Raises a `UserError` that begins with `field` for a pattern that is no regular expression, or matches no parameter."""
  names = list(names)
  for pattern in patterns:
    try:
      found = any(matches([pattern], name) for name in names)
    except re.error as error:
      raise UserError(f'{field}: {pattern!r} is no regular expression ({error})') from error
    if not found:
      parts = ', '.join(dict.fromkeys(name.partition('/')[0] for name in names))
      raise UserError(
        f'{field}: {pattern!r} matches no parameter; their names begin with {parts} (`mtface params` lists them)'
      )


def is_batch_norm(path: str) -> bool:
  """Whether a parameter's path lies in a batch normalisation (papers leave these out of their counts)."""
  return not {'norm', 'norms'}.isdisjoint(path.split('/'))
