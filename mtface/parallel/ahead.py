"""Compiling while something else is done, such as decoding the first images."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

from mtface.parallel import distributed


class Ahead:
  """A jitted function that is compiled, for arguments of known shapes, in a thread that starts now;
  its first call waits for that, here and in the other processes, and raises what went wrong.
  """

  def __init__(self, function: Any, *shapes: Any):
    """`function` comes from `jax.jit`; `shapes` are `jax.ShapeDtypeStruct` with shardings."""
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='compile')
    self._made = pool.submit(lambda: function.lower(*shapes).compile())
    pool.shutdown(wait=False)
    self._compiled: Callable[..., Any] | None = None

  def __call__(self, *arguments: Any) -> Any:
    """The function's value; see the class."""
    if self._compiled is None:
      self._compiled = self._made.result()
      distributed.meet()
    return self._compiled(*arguments)
