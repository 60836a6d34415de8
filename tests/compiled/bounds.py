"""Bounds of compiled programs, so that what was gained in them is not lost: tighten them here, and
only here, when a program has become better (`python -m benchmarks.compiled` prints the figures).

The program is the training step of the three-task BKNet in bfloat16, 1,024 images a device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from mtface.compiled.apart import compile_config
from mtface.config.files import load_config

ROOM = 1.05  # of other versions of the compilers


class Bounds(NamedTuple):
  """The most that a step may have; `mib` of traffic an image and `temporary` MiB a device with some
  room, the others as they are.
  """

  mib: float
  temporary: float
  kernels: int
  scatters: int
  all_reduces: int
  waited_for: int
  sorts: int = 0


BOUNDS = {
  'h100:8': Bounds(6.56, 1146, 439, scatters=3, all_reduces=25, waited_for=22),
  'v5e:2x2': Bounds(3.39, 627, 1214, scatters=3, all_reduces=25, waited_for=22),
}


def compiled(target: str) -> dict[str, Any]:
  """The record of a target, compiled as `mtface compile` does it, without the settings of tests."""
  config = load_config('sang2017:A2')
  config.model.dtype = 'bfloat16'
  with pytest.MonkeyPatch.context() as patched:
    patched.delenv('XLA_FLAGS', raising=False)
    (record,) = compile_config(config, [target], images=1024)
  return record


def figures(record: dict[str, Any]) -> Bounds:
  """What a record has of what is bounded."""
  parts = record['parts']
  return Bounds(
    mib=record['bytes_image'] / 2**20,
    temporary=record['memory']['temporary'] / 2**20,
    kernels=sum(of['number'] for of in record['kernels'].values()),
    scatters=parts['scatter'] + parts['select-and-scatter'],
    all_reduces=record['collectives']['all-reduce']['number'],
    waited_for=record['waiting'],
    sorts=parts['sort'],
  )


def exceeded(found: Bounds, bounds: Bounds) -> dict[str, tuple[float, float]]:
  """{name: (figure, bound)} of what is too much."""
  roomy = {'mib', 'temporary', 'kernels'}
  limits = {
    name: bound * (ROOM if name in roomy else 1) for name, bound in bounds._asdict().items()
  }
  return {
    name: (value, limits[name]) for name, value in found._asdict().items() if value > limits[name]
  }
