"""Two ways to compute the same: one for CPUs, XLA's own for everything else.

The platform that a program is lowered for decides, not the machine that traces it: what is lowered
or exported on a laptop for a TPU is the TPU's program. `without_choice` leaves none: XLA's own.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

# Elements of a row of images whose running totals stay in a CPU's cache, and rows that are added in
# one pass over them; and both for a single core, which shares no pass with others.
_ROW_ELEMENTS, _ROWS = 1 << 15, 1
_CORE_ROW_ELEMENTS, _CORE_ROWS = 1 << 12, 4

_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar('mesh', default=None)
_alone = contextvars.ContextVar('alone', default=False)
_choice = contextvars.ContextVar('choice', default=True)


@contextlib.contextmanager
def without_choice() -> Iterator[None]:
  """What is traced within is computed by XLA's own operators on all platforms: other programs know
  these, and they take batches of a size that is known when the program runs.
  """
  token = _choice.set(False)
  try:
    yield
  finally:
    _choice.reset(token)


def has_choice() -> bool:
  """Whether what is traced here may be computed in another way on CPUs."""
  return _choice.get()


@contextlib.contextmanager
def spread_over(mesh: Mesh | None) -> Iterator[None]:
  """What is traced within has batches that are split over the devices of a mesh: on CPUs, each
  device computes its images by itself, in loops over them. None: wherever they are.
  """
  token = _mesh.set(mesh if mesh is not None and mesh.size > 1 else None)
  try:
    yield
  finally:
    _mesh.reset(token)


def _on_each(
  function: Callable, mesh: Mesh | None, batches: Sequence[bool], out: Sequence[bool]
) -> Callable:
  """A function of arrays to a tuple, run by each device of a mesh on its images.

  Args:
    function: what each does.
    mesh: None: it is done once, with all images.
    batches: whether an argument is a batch; all devices have all of the others.
    out: whether a result is a batch; of the others, the devices' sum is returned.
  """
  if mesh is None:
    return function
  part = {True: P(tuple(mesh.axis_names)), False: P()}

  def alone(*args):
    token = _alone.set(True)
    try:
      found = function(*args)
    finally:
      _alone.reset(token)
    sums = lax.psum([x for x, batch in zip(found, out, strict=True) if not batch], mesh.axis_names)
    left = iter(sums)
    return tuple(x if batch else next(left) for x, batch in zip(found, out, strict=True))

  return jax.shard_map(
    alone,
    mesh=mesh,
    in_specs=tuple(part[batch] for batch in batches),
    out_specs=tuple(part[batch] for batch in out),
    check_vma=False,
  )


def by_platform(cpu: Callable, other: Callable) -> Callable:
  """A function of (a batch, other arrays) that is `cpu` on CPUs and `other` elsewhere, and whose
  gradient is that of the one or of the other.

  Both take the same arrays and return one of the same shape. Only the arguments are kept for the
  gradient.
  """

  def pulled(function: Callable) -> Callable:
    return lambda dy, *args: jax.vjp(function, *args)[1](dy)

  @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
  def chosen(mesh, *args):
    batches = [True] + [False] * (len(args) - 1)
    alone = _on_each(lambda *args: (cpu(*args),), mesh, batches, [True])
    return lax.platform_dependent(*args, cpu=lambda *args: alone(*args)[0], default=other)

  def backward(mesh, args, dy):
    batches = [True] + [False] * (len(args) - 1)
    alone = _on_each(pulled(cpu), mesh, [True, *batches], batches)
    return lax.platform_dependent(dy, *args, cpu=alone, default=pulled(other))

  chosen.defvjp(lambda mesh, *args: (chosen(mesh, *args), args), backward)
  return lambda *args: chosen(_mesh.get(), *args) if has_choice() else other(*args)


def is_alone() -> bool:
  """Whether what is traced here is what one of several devices does with its images."""
  return _alone.get()


def may_loop() -> bool:
  """Whether a loop over images stays on a device: over a sharded batch it would move them."""
  return is_alone() or jax.device_count() == 1


def channel_sums(
  terms: Callable[..., tuple[jax.Array, ...]], *arrays: jax.Array, is_part: bool = False
) -> tuple[jax.Array, ...]:
  """Sums over all axes but the last, float32 [C] each, of what `terms` makes of arrays [B, H, ...,
  C], row by row of the images, or [B, C]. `is_part`: they are not a batch, but a part of one.

  On CPUs in one pass over the arrays, without writing the terms to memory: XLA's own sums read what
  was written, and those of some versions cost ten times as much.
  """

  def plain(*arrays):
    return tuple(jnp.sum(term, tuple(range(term.ndim - 1))) for term in terms(*arrays))

  if arrays[0].ndim == 2:
    return plain(*arrays)
  count = len(jax.eval_shape(plain, *arrays))
  totals = functools.partial(_running_totals, terms)
  alone = _on_each(totals, None if is_part else _mesh.get(), [True] * len(arrays), [False] * count)
  return lax.platform_dependent(*arrays, cpu=alone, default=plain)


def _running_totals(
  terms: Callable[..., tuple[jax.Array, ...]], *arrays: jax.Array
) -> tuple[jax.Array, ...]:
  """The same by totals of one row of some images: each takes batch * H / images terms, in float32
  too few for their rounding to show.
  """
  batch, h, *row = arrays[0].shape
  images = images_at_a_time(batch, math.prod(row))

  def add_row(first, row, totals):
    rows = [
      lax.dynamic_slice(a, (first, row, *[0] * (a.ndim - 2)), (images, 1, *a.shape[2:]))[:, 0]
      for a in arrays
    ]
    return [total + term for total, term in zip(totals, terms(*rows), strict=True)]

  shapes = jax.eval_shape(terms, *(a[:images, 0] for a in arrays))
  zeros = [jnp.zeros(shape.shape, jnp.float32) for shape in shapes]
  totals = over_rows(add_row, zeros, batch, h, images)
  return tuple(jnp.sum(t, tuple(range(t.ndim - 1))) for t in totals)


def written(
  function: Callable[..., jax.Array], *arrays: jax.Array, is_part: bool = False
) -> jax.Array:
  """function(*arrays [B, ..., C]), in which each image is by itself, for CPUs: where a core has its
  own images, computed once, some at a time, and written over the last array, which it is like. XLA
  would compute it again, in part or all of it, for each that reads it; but it gives such loops to
  one core. `is_part` as in `channel_sums`.
  """

  def pieces(*arrays):
    if not is_alone():
      return (function(*arrays),)
    batch, *image = arrays[0].shape
    images = images_at_a_time(batch, math.prod(image))

    def add(i, found):
      parts = [lax.dynamic_slice_in_dim(a, i * images, images) for a in (*arrays[:-1], found)]
      return lax.dynamic_update_slice_in_dim(found, function(*parts), i * images, 0)

    return (lax.fori_loop(0, batch // images, add, arrays[-1]),)

  mesh = None if is_part else _mesh.get()
  return _on_each(pieces, mesh, [True] * len(arrays), [True])(*arrays)[0]


def over_rows(
  add_row: Callable[[jax.Array | int, jax.Array, list[jax.Array]], list[jax.Array]],
  totals: list[jax.Array],
  batch: int,
  rows: int,
  images: int,
) -> list[jax.Array]:
  """Totals after `add_row(first image, row, totals)` for each row of all images, `images` of them
  at a time. Several rows become one loop over the totals, where these are a single core's.
  """
  together = math.gcd(rows, _CORE_ROWS if is_alone() else _ROWS)

  def step(number: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
    first: jax.Array | int = 0  # a sharded axis is not to be sliced
    if images < batch:
      first = number // (rows // together) * images
    for i in range(together):
      totals = add_row(first, number % (rows // together) * together + i, totals)
    return totals

  return lax.fori_loop(0, batch // images * (rows // together), step, totals)


def images_at_a_time(batch: int, row: int) -> int:
  """A divisor of the batch, for totals of a row of `row` elements. On several devices all of it: a
  loop would move a sharded batch.
  """
  if not may_loop():
    return batch
  return _most_at_a_time(batch, row, _CORE_ROW_ELEMENTS if is_alone() else _ROW_ELEMENTS)


def _most_at_a_time(count: int, each: int, most: int) -> int:
  """The largest divisor of a count of things of which so many have at most `most` elements."""
  return max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * each <= most))


@jax.custom_vjp
def sum_of_squares(x: jax.Array) -> jax.Array:
  """Of weights, float32 of any shape but (). On CPUs by running totals, as `channel_sums` are: XLA
  would write the squares to memory and read them again.
  """
  mesh = _mesh.get()
  if mesh is not None and mesh.shape.get('fsdp', 1) > 1:  # a loop would move what is sharded
    return jnp.sum(x * x)
  return lax.platform_dependent(x, cpu=_square_totals, default=lambda x: jnp.sum(x * x))


def _square_totals(x: jax.Array) -> jax.Array:
  rows = x.size // x.shape[-1]
  x = x.reshape(rows // _most_at_a_time(rows, x.shape[-1], _CORE_ROW_ELEMENTS), -1)
  at_once = math.gcd(len(x), _CORE_ROWS)

  def add(i: jax.Array, total: jax.Array) -> jax.Array:
    for k in range(at_once):
      total += jnp.square(lax.dynamic_index_in_dim(x, i * at_once + k, keepdims=False))
    return total

  return jnp.sum(lax.fori_loop(0, len(x) // at_once, add, jnp.zeros(x.shape[1], x.dtype)))


def _sum_of_squares_backward(
  saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array]:
  """XLA's programs for CPUs change weights in place only if all that reads them is needed for the
  change; else they copy them all. So here the sum is needed: its 0-fold is added to the factor.
  """
  x, total = saved
  one = lax.platform_dependent(total, cpu=lambda t: 1 + 0 * t, default=jnp.ones_like)
  return (2 * cotangent * one * x,)


def _sum_of_squares_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  total = sum_of_squares(x)
  return total, (x, total)


sum_of_squares.defvjp(_sum_of_squares_forward, _sum_of_squares_backward)
