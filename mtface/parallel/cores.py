"""On CPUs, each core as a device of its own, with its share of every batch.

XLA lets all cores share each product and each loop of a step, and waits for all of them after each.
The pieces are small, so that this mostly costs more than it gains: cores that go through a step by
themselves, each with its images, meet only where devices meet, at the sums over a batch. They
compute the same as other devices (docs/benchmarks.md has the rates of both).

Does not import JAX, which is told by XLA_FLAGS before it starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from mtface import process
from mtface.config.stages import stages_of
from mtface.errors import UserError
from mtface.parallel import jax_settings

SWITCH = 'MTFACE_CORES'  # 0: all cores are one device
DEVICES = '--xla_force_host_platform_device_count'
ALONE = '--xla_cpu_multi_thread_eigen=false'  # a device computes with one thread
# Pixels of a batch on each core, 29 images of 48x48: with fewer, they wait for each other more than
# they compute.
LEAST_PIXELS = 1 << 16


class Batch(NamedTuple):
  """Images of a batch, and pixels of an image."""

  images: int
  pixels: int


def use_cores(config: ConfigDict, environment: MutableMapping[str, str] = os.environ) -> None:
  """Makes each core a device, before JAX starts, if that is of use: see `reason_not_to`."""
  environment.update(settings(batches(config), environment))


def settings(batches: Sequence[Batch], environment: Mapping[str, str]) -> dict[str, str]:
  """What makes each core a device for such batches; {} if nothing should."""
  if reason_not_to(batches, environment):
    return {}
  flags = environment.get('XLA_FLAGS', '')
  return {'XLA_FLAGS': f'{flags} {DEVICES}={process.cores()} {ALONE}'.strip()}


def reason_not_to(batches: Sequence[Batch], environment: Mapping[str, str]) -> str:
  """Why all cores should be one device for such batches; '' if they should not."""
  count = process.cores()
  if environment.get(SWITCH, '1').lower() in ('0', 'false', 'no', 'off'):
    return f'{SWITCH}={environment[SWITCH]}'
  for name in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES'):
    value = environment.get(name, '')
    if value and (name != 'XLA_FLAGS' or DEVICES in value or 'multi_thread_eigen' in value):
      return f'{name}={value}'
  if not jax_settings.on_cpus(environment):
    return 'JAX computes on accelerators'
  if count == 1:
    return 'there is one core'
  for images, pixels in batches:
    if images % count:
      return f'batches of {images} have no equal parts for {count} cores'
    if images // count * pixels < LEAST_PIXELS:
      return (
        f'batches of {images} have fewer than {LEAST_PIXELS:,} pixels for each of {count} cores'
      )
  return '' if batches else 'nothing is known of the batches'


def batches(config: ConfigDict) -> list[Batch]:
  """Of an experiment's training and evaluation; none where cores cannot be devices, or where the
  config has faults, which the command tells.
  """
  try:
    stages = stages_of(config).values()
    if any(stage.mesh.fsdp != 1 for stage in stages):
      return []  # large parameters are split over the devices that the user has in mind
    return sorted(
      {
        Batch(int(images), math.prod(stage.image_shape[:2]))
        for stage in stages
        for images in (stage.batch_size, stage.evaluation.batch_size)
      }
    )
  except (UserError, AttributeError, KeyError, TypeError, ValueError):
    return []


def about() -> str:
  """A line about what this machine's cores are to runs, for `mtface doctor`, in which they are one
  device.
  """
  why = reason_not_to([Batch(process.cores(), LEAST_PIXELS)], os.environ)
  told = f'devices, if batches have {LEAST_PIXELS:,} pixels for each ({SWITCH}=0: one device)'
  return f'cores: {f"one device ({why})" if why else told}'
