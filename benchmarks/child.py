"""The process of one contestant: `python -m benchmarks.child MODULE:FUNCTION`, started by
`contestants.Child`.

The first line of its input are the function's options (JSON), which it answers with the facts of
what it prepared, or why that cannot be had. Then it answers one request a line: to run so many
steps, to write what must be equal, to end.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import signal
import sys
import time
from typing import Any, TextIO

import numpy as np
import psutil

from benchmarks.work import Unavailable, Work

PACKAGES = ('flax', 'grain', 'jax', 'jaxlib', 'numpy', 'onnxruntime', 'timm', 'torch')
_PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG


def end_with_parent() -> None:
  """A stopped process would outlive a harness that was killed. Only Linux can say so."""
  if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)


def cpu_seconds() -> float:
  """Processor time of this process, its threads and its workers so far."""
  ended = resource.getrusage(resource.RUSAGE_CHILDREN)
  seconds = time.process_time() + ended.ru_utime + ended.ru_stime
  for worker in psutil.Process().children(recursive=True):
    times = worker.cpu_times()
    seconds += times.user + times.system
  return seconds


def peak_mb() -> float:
  """Largest resident memory so far, in 10^6 bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def versions() -> dict[str, str]:
  """Of Python and of the packages that are loaded."""
  return {name: x for name, x in installed().items() if name == 'python' or name in sys.modules}


def installed() -> dict[str, str]:
  """Of Python and of the packages that there are."""
  found = {'python': platform.python_version()}
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def timed(work: Work, steps: int) -> dict[str, float]:
  """Seconds of so many steps: the clock's, and the processor's."""
  wall, cpu = time.perf_counter(), cpu_seconds()
  work.run(steps)
  return {'wall': time.perf_counter() - wall, 'cpu': cpu_seconds() - cpu}


def answer(work: Work, request: dict[str, Any]) -> dict[str, Any]:
  """What a request asks for."""
  if 'run' in request:
    return timed(work, request['run'])
  np.savez(request['check'], **work.check())
  return {'versions': versions(), 'peak_mb': peak_mb()}


def serve(target: str, asked: TextIO, answers: TextIO) -> None:
  """Prepares, and answers until it is asked nothing more."""

  def say(content: dict[str, Any]) -> None:
    print(json.dumps(content), file=answers, flush=True)

  module, _, function = target.partition(':')
  start = time.perf_counter()
  try:
    work = getattr(importlib.import_module(module), function)(json.loads(asked.readline()))
  except Unavailable as error:
    say({'unavailable': str(error)})
    return
  say({'facts': work.facts, 'ready_s': time.perf_counter() - start})
  for line in asked:
    say(answer(work, json.loads(line)))


def main() -> None:
  end_with_parent()
  # Libraries print where they like: answers have a pipe of their own.
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)
  serve(sys.argv[1], sys.stdin, answers)


if __name__ == '__main__':
  main()
