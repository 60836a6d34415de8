"""Networks with random numbers for tests, drawn by NumPy: JAX's own initialisation takes seconds to
compile.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mtface.config.schema import model
from mtface.models.network import abstract_network
from mtface.models.paths import parameter_table
from mtface.tasks import get_task


def random_network(name, tasks, shape, seed=0, **fields):
  """(network, parameters, statistics) of a model of `tables.NETWORKS`."""
  network, params, stats = abstract_network(
    model(name, **fields), [get_task(t) for t in tasks], shape
  )
  rng = np.random.default_rng(seed)
  draw = lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32)  # noqa: E731
  params, stats = jax.tree.map(draw, params), jax.tree.map(lambda x: 1 + draw(x) ** 2, stats)
  return network, *jax.tree.map(jnp.asarray, (params, stats))


def shapes(name, tasks=(), shape=(224, 224, 3), **fields):
  """{path: shape} without computing anything."""
  _, params, _ = abstract_network(model(name, **fields), [get_task(t) for t in tasks], shape)
  return {path: shape for path, shape, _ in parameter_table(params)}


def count(found, under=''):
  """The number of parameters whose path begins with `under`."""
  return sum(int(np.prod(shape)) for path, shape in found.items() if path.startswith(under))


def images(*shape):
  return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, shape), jnp.float32)
