"""What a network has for each task behind the trunk that all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mtface.errors import UserError
from mtface.models.convolution import Make
from mtface.models.layers import BatchNorm

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
    for dense, norm in zip(self.hidden, self.norms, strict=True):
      x = dropped(self.dropout, norm(dense(x), train, activation='relu'), train, rngs)
    return self.scores(x).astype(jnp.float32)


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


def dropped(dropout: nnx.Dropout, x: jax.Array, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
  """x with dropout in training; elsewhere there is none in the program."""
  return dropout(x, deterministic=False, rngs=rngs) if train else x


def check_init(init: str) -> None:
  """Raises a `UserError` for a name that is not in INITS."""
  if init not in INITS:
    raise UserError(f'config.model.init {init!r} is unknown; there are {", ".join(INITS)}')
