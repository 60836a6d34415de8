"""From a config to a network as pure functions of its parameters.

Flax NNX modules are split once into a static graph and plain dictionaries of arrays; from there on
a step is ordinary `jax.jit` over pytrees, which costs the host nothing that grows with the network
(`nnx.jit` walks the module graph at every call).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from mtface.config.tables import NETWORKS
from mtface.errors import UserError
from mtface.models.paths import Params, Stats, matches
from mtface.outputs import Outputs
from mtface.tasks import Task

DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Network:
  """A network without its numbers: what maps (params, stats, images) to scores.

  Attributes:
    graph: its modules.
    outputs: which of its scores answer which task.
  """

  graph: nnx.GraphDef
  outputs: Outputs

  def train_scores(
    self, params: Params, stats: Stats, images: jax.Array, key: jax.Array
  ) -> tuple[dict[str, jax.Array], Stats]:
    """({output layer: [B, C]}, new statistics), with batch statistics over the global batch and
    dropout drawn from `key`.
    """
    model = nnx.merge(self.graph, params, stats)
    scores = model(images, train=True, rngs=nnx.Rngs(dropout=key))
    return scores, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

  def scores(self, params: Params, stats: Stats, images: jax.Array) -> dict[str, jax.Array]:
    """{answered task: [B, C]}, with running statistics and no dropout."""
    return self.outputs.answers(nnx.merge(self.graph, params, stats)(images, train=False))

  def features(self, params: Params, stats: Stats, images: jax.Array) -> jax.Array:
    """What all heads see, [B, D] (the penultimate features), with running statistics."""
    return nnx.merge(self.graph, params, stats).features(images, train=False)


def make_network(
  config: ConfigDict,
  tasks: Outputs | Sequence[Task],
  image_shape: Sequence[int],
  seed: int,
  frozen: Sequence[str] = (),
  ghost_batch: int = 0,
) -> tuple[Network, Params, Stats]:
  """The network of `config.model` and its initial parameters and statistics.

  Args:
    config: `config.model`: `name`, `dtype` and the arguments of that model.
    tasks: what it predicts (`schema.outputs_of`); tasks alone have a head each.
    image_shape: (H, W, C).
    seed: of the initial weights.
    frozen: patterns (see `matches`) of the parts that compute in training as they do in evaluation.
    ghost_batch: see `layers.BatchNorm`.
  """
  network, _, _ = abstract_network(config, tasks, image_shape, frozen, ghost_batch)

  def initial() -> tuple[Params, Stats]:
    _, params, stats = _split(_make(config, network.outputs.layers, image_shape, seed))
    return params, stats

  return network, *jax.jit(
    initial
  )()  # one program; op by op it would take half a minute of compilation


def abstract_network(
  config: ConfigDict,
  tasks: Outputs | Sequence[Task],
  image_shape: Sequence[int],
  frozen: Sequence[str] = (),
  ghost_batch: int = 0,
) -> tuple[Network, Params, Stats]:
  """The same with shapes (`jax.ShapeDtypeStruct`) for numbers; nothing is computed."""
  outputs = tasks if isinstance(tasks, Outputs) else Outputs.heads(tasks)

  def made() -> nnx.Module:
    model = _make(config, outputs.layers, image_shape, 0)
    for path, module in nnx.iter_modules(model):
      name = '/'.join(map(str, path))
      if ghost_batch and any(isinstance(value, nnx.BatchStat) for value in vars(module).values()):
        _set_ghost_batch(module, name, ghost_batch)
      if not matches(frozen, name):
        continue
      if hasattr(module, 'frozen'):
        module.frozen = True
      elif any(isinstance(value, nnx.BatchStat) for value in vars(module).values()):
        raise UserError(
          f'config.freeze.params: the running statistics of {name} ({type(module).__name__}) would '
          'move although it is frozen; give the module an attribute `frozen` that keeps them (see '
          'mtface.models.layers.BatchNorm), or take config.freeze.norms=batch'
        )
    return model

  graph, params, stats = _split(nnx.eval_shape(made))
  return Network(graph, outputs), params, stats


def _set_ghost_batch(module: nnx.Module, name: str, ghost_batch: int) -> None:
  if not hasattr(module, 'ghost_batch'):
    raise UserError(
      f'config.ghost_batch: {name} ({type(module).__name__}) takes statistics of the whole batch; '
      'give the module an attribute `ghost_batch` (see mtface.models.layers.BatchNorm), or set it '
      'to 0'
    )
  module.ghost_batch = ghost_batch


def _make(
  config: ConfigDict, layers: Sequence[Task], image_shape: Sequence[int], seed: int
) -> nnx.Module:
  settings = dict(config)
  name, dtype = settings.pop('name'), settings.pop('dtype')
  entry = NETWORKS.entry(name, 'config.model.name')
  if dtype not in DTYPES:
    raise UserError(f'config.model.dtype {dtype!r} is unknown; there are {", ".join(DTYPES)}')
  height, width, channels = image_shape
  make, rngs = entry.load(), nnx.Rngs(params=seed)
  try:
    return make(layers, (height, width, channels), dtype=DTYPES[dtype], rngs=rngs, **settings)
  except TypeError as error:
    raise UserError(f'model {name}: {error}; check the fields of config.model') from error


def _split(model: nnx.Module) -> tuple[nnx.GraphDef, Params, Stats]:
  graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)  # type: ignore[misc]
  return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
