"""What a network has for each task behind the trunk that all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.errors import UserError
from mtface.models.convolution import Make
from mtface.models.layers import BatchNorm, normalised

INITS: dict[str, Callable] = {
  'gaussian': nnx.initializers.normal(0.01),  # N(0, 0.01^2): Parkhi 2015, Sang 2017, Rohani 2023
  'he': nnx.initializers.variance_scaling(2.0, 'fan_in', 'truncated_normal'),
}
LINEAR_INIT = nnx.initializers.lecun_normal()  # flax's own of linear layers


class Branch(nnx.Module):
  """One task's hidden layers and scores: features [B, D] -> scores float32 [B, C].

  A dense layer of each of the `widths` with batch normalisation, ReLU and dropout, then one that
  gives the scores (Sang 2017, section 3.1: 256 twice).

  Args:
    unbiased: see `layers.BatchNorm`.
  """

  def __init__(
    self,
    in_features: int,
    classes: int,
    make: Make,
    *,
    widths: Sequence[int],
    dropout: float,
    unbiased: bool,
    kernel_init: Callable = LINEAR_INIT,
  ):
    made: dict[str, Any] = {'kernel_init': kernel_init, 'dtype': make.dtype, 'rngs': make.rngs}
    hidden, norms = [], []
    for features in widths:
      hidden.append(nnx.Linear(in_features, features, **made))
      norms.append(BatchNorm(features, unbiased=unbiased, dtype=make.dtype))
      in_features = features
    self.hidden, self.norms = nnx.List(hidden), nnx.List(norms)
    self.dropout = nnx.Dropout(dropout)
    self.scores = nnx.Linear(in_features, classes, **made)

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    return _of_branches([self], x, train, rngs)[0]

  @property
  def _kind(self) -> tuple[Any, ...]:
    """What is equal in branches that can be computed together."""
    norms = [(norm.frozen, norm.unbiased) for norm in self.norms]
    return self.dropout.rate, norms, [dense.kernel.shape for dense in self.hidden]


class Head(nnx.Module):
  """One task's layers: features [B, D] -> scores float32 [B, C].

  Dropout and one linear layer; before them ReLU layers of the given widths, if any ("several new
  layers can be added before the final fully connected layer", Savchenko 2021, section 2.2).
  """

  def __init__(
    self,
    in_features: int,
    classes: int,
    make: Make,
    *,
    hidden: Sequence[int],
    dropout: float,
    kernel_init: Callable = LINEAR_INIT,
  ):
    made: dict[str, Any] = {'kernel_init': kernel_init, 'dtype': make.dtype, 'rngs': make.rngs}
    layers = []
    for width in hidden:
      layers.append(nnx.Linear(in_features, width, **made))
      in_features = width
    self.hidden = nnx.List(layers)
    self.dropout = nnx.Dropout(dropout)
    self.scores = nnx.Linear(in_features, classes, **made)

  def __call__(self, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
    for layer in self.hidden:
      x = jax.nn.relu(layer(x))
    return self.scores(dropped(self.dropout, x, train, rngs)).astype(jnp.float32)


def all_scores(
  heads: Mapping[str, Any], x: jax.Array, train: bool, rngs: nnx.Rngs | None
) -> dict[str, jax.Array]:
  """{task: scores float32 [B, C]} of all heads on the same features [B, D]. Branches that differ in
  their numbers alone are computed together: a product a layer, whatever the number of tasks.
  """
  branches = [head for head in heads.values() if isinstance(head, Branch)]
  if len(branches) < len(heads) or any(b._kind != branches[0]._kind for b in branches):
    return {task: head(x, train, rngs) for task, head in heads.items()}
  return dict(zip(heads, _of_branches(branches, x, train, rngs), strict=True))


def _of_branches(
  branches: Sequence[Branch], x: jax.Array, train: bool, rngs: nnx.Rngs | None
) -> list[jax.Array]:
  first = branches[0]
  for layer in range(len(first.hidden)):
    y = _dense([branch.hidden[layer] for branch in branches], x, shared=layer == 0)
    y = normalised([branch.norms[layer] for branch in branches], y, train, activation='relu')
    x = dropped(first.dropout, y, train, rngs)
  parts = jnp.split(x, len(branches), -1) if first.hidden else [x] * len(branches)
  return [
    branch.scores(part).astype(jnp.float32) for branch, part in zip(branches, parts, strict=True)
  ]


def _dense(layers: Sequence[nnx.Linear], x: jax.Array, *, shared: bool) -> jax.Array:
  """T layers of one shape as one product: of x [B, D] that they share, or of a part each of x [B, T
  * D] -> [B, T * W].
  """
  if len(layers) == 1:
    return layers[0](x)
  dtype = layers[0].dtype or jnp.result_type(x, jnp.float32)
  kernels = [layer.kernel[...].astype(dtype) for layer in layers]
  biases: list[Any] = [layer.bias for layer in layers]
  bias = jnp.concatenate([bias[...] for bias in biases]).astype(dtype)
  if shared:
    return x.astype(dtype) @ jnp.concatenate(kernels, 1) + bias
  parts = x.astype(dtype).reshape(x.shape[0], len(layers), -1)
  return jnp.einsum('btd,tdw->btw', parts, jnp.stack(kernels)).reshape(x.shape[0], -1) + bias


def dropped(dropout: nnx.Dropout, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
  """x with dropout in training; elsewhere there is none in the program."""
  return dropout(x, deterministic=False, rngs=rngs) if train else x


def check_init(init: str) -> None:
  """Raises a `UserError` for a name that is not in INITS."""
  if init not in INITS:
    raise UserError(f'config.model.init {init!r} is unknown; there are {", ".join(INITS)}')
