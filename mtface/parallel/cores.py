"""On CPUs, each core as a device of its own, with its share of every batch.

XLA lets all cores share each product and each loop of a step, and waits for all of them after each.
The pieces are small, so that this costs more than it gains: cores that go through a step by
themselves, each with its images, train a fifth faster (benchmarks/README.md), and meet where
devices meet, at the sums over a batch. They compute the same as devices of any other kind.

Does not import JAX, which is told by XLA_FLAGS before it starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping, Sequence

from ml_collections import ConfigDict

from mtface import process
from mtface.config.stages import stages_of
from mtface.errors import UserError
from mtface.parallel import jax_settings

SWITCH = 'MTFACE_CORES'  # 0: all cores are one device
DEVICES = '--xla_force_host_platform_device_count'
ALONE = '--xla_cpu_multi_thread_eigen=false'  # a device computes with one thread
LEAST_IMAGES = 32  # of a batch on each core: with fewer, they would wait for each other more often


def use_cores(config: ConfigDict, environment: MutableMapping[str, str] = os.environ) -> None:
  """Makes each core a device, before JAX starts, if that is of use: see `reason_not_to`."""
  environment.update(settings(batch_sizes(config), environment))


def settings(sizes: Sequence[int], environment: Mapping[str, str]) -> dict[str, str]:
  """What makes each core a device for batches of these sizes; {} if nothing should."""
  if reason_not_to(sizes, environment):
    return {}
  flags = environment.get('XLA_FLAGS', '')
  return {'XLA_FLAGS': f'{flags} {DEVICES}={process.cores()} {ALONE}'.strip()}


def reason_not_to(sizes: Sequence[int], environment: Mapping[str, str]) -> str:
  """Why all cores should be one device for batches of these sizes; '' if they should not."""
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
  if not sizes or any(size % count or size // count < LEAST_IMAGES for size in sizes):
    return (
      f'{count} cores do not have equal shares, of at least {LEAST_IMAGES} images, of batches of '
      f'{" or ".join(map(str, sizes)) or "any size"}'
    )
  return ''


def batch_sizes(config: ConfigDict) -> list[int]:
  """Of an experiment's training and evaluation; none where cores cannot be devices, or where the
  config has faults, which the command tells.
  """
  try:
    stages = stages_of(config).values()
    if any(stage.mesh.fsdp != 1 for stage in stages):
      return []  # large parameters are split over the devices that the user has in mind
    sizes = {size for stage in stages for size in (stage.batch_size, stage.evaluation.batch_size)}
    return sorted(size for size in sizes if isinstance(size, int))
  except (UserError, AttributeError, KeyError, TypeError):
    return []


def about() -> str:
  """A line about what this machine's cores are to runs, for `mtface doctor`, in which they are one
  device.
  """
  why = reason_not_to([LEAST_IMAGES * process.cores()], os.environ)
  told = f'of at least {LEAST_IMAGES} images for each ({SWITCH}=0: one device)'
  return f'cores: {"one device (" + why + ")" if why else "devices, in runs with batches " + told}'
