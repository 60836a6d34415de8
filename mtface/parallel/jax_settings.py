"""JAX's settings in the environment, JAX_*: those that only forbid things are set aside, those that
change numbers are recorded.

Does not import JAX at module level, since the import reads the settings.
"""

from __future__ import annotations

import glob
import os
import traceback
from collections.abc import Mapping
from typing import Any

# Debugging settings that make JAX refuse some operations. No number depends on them.
_FORBIDDING = (
  'JAX_NUMPY_RANK_PROMOTION',
  'JAX_NUMPY_DTYPE_PROMOTION',
  'JAX_TRANSFER_GUARD',
  'JAX_TRANSFER_GUARD_HOST_TO_DEVICE',
  'JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE',
  'JAX_TRANSFER_GUARD_DEVICE_TO_HOST',
)
# Settings whose value changes a run's numbers, with JAX's defaults.
_OF_NUMBERS = {
  'jax_enable_x64': False,
  'jax_default_prng_impl': 'threefry2x32',
  'jax_threefry_partitionable': True,
  'jax_random_seed_offset': 0,
  'jax_default_matmul_precision': None,
  'jax_disable_jit': False,
  'jax_high_dynamic_range_gumbel': False,
  'jax_disable_most_optimizations': False,
}
# A run may resume on other devices, or on as many with more cores each.
_OF_DEVICES = ('--xla_force_host_platform_device_count', '--xla_cpu_multi_thread_eigen')
_SOURCES = (
  'jax/_src/config.py',
  'jax/_src/xla_bridge.py',
)  # the modules that read the settings or start a platform

# What the drivers of accelerators show: NVIDIA (also in WSL), AMD, Google.
_DEVICE_FILES = ('/dev/nvidia[0-9]*', '/dev/dxg', '/dev/kfd', '/dev/accel*', '/dev/vfio/[0-9]*')


def set_aside() -> list[str]:
  """Removes settings that only forbid things from the environment, before JAX is imported; returns
  them as NAME=VALUE.
  """
  allowed = ('', 'allow', 'standard')
  found = [f'{name}={os.environ.pop(name)}' for name in _FORBIDDING if name in os.environ]
  return [setting for setting in found if setting.partition('=')[2] not in allowed]


def of_numbers() -> dict[str, Any]:
  """Number-changing settings that differ from JAX's defaults, by name, and XLA_FLAGS if set."""
  import jax

  values = jax.config.values
  found = {
    name: values[name]
    for name, usual in _OF_NUMBERS.items()
    if name in values and values[name] != usual
  }
  flags = [
    flag for flag in os.environ.get('XLA_FLAGS', '').split() if not flag.startswith(_OF_DEVICES)
  ]
  return found | ({'XLA_FLAGS': ' '.join(flags)} if flags else {})


def refusal(error: BaseException) -> str:
  """A one-line message for an exception that JAX raised about its settings (an unknown value, a
  missing platform); '' for any other exception.
  """
  given = sorted(
    f'{name}={value}' for name, value in os.environ.items() if name.startswith('JAX_') and value
  )
  frames = traceback.extract_tb(error.__traceback__)
  if not given or not frames or not frames[-1].filename.replace(os.sep, '/').endswith(_SOURCES):
    return ''
  said = ' '.join(str(error).split())[:200] or 'no such platform on this machine'
  return (
    f'{", ".join(_named_in(said, given))}: JAX cannot start with this setting ({said}); '
    'correct it or unset it'
  )


def _named_in(said: str, given: list[str]) -> list[str]:
  """The settings that an error names; errors about platforms are worded differently."""
  named = [setting for setting in given if setting.partition('=')[0].lower() in said.lower()]
  platforms = [setting for setting in given if setting.startswith('JAX_PLATFORM')]
  return named or platforms or given


def on_cpus(environment: Mapping[str, str]) -> bool:
  """Whether JAX will compute on CPUs, told without importing it: it is told to, or no plugin for
  an accelerator is installed, or there is no device for one.
  """
  chosen = environment.get('JAX_PLATFORMS') or environment.get('JAX_PLATFORM_NAME') or ''
  if chosen:
    return chosen.split(',')[0].strip().lower() == 'cpu'
  return not (any(glob.glob(pattern) for pattern in _DEVICE_FILES) and _plugins())


def _plugins() -> bool:
  """Whether JAX would find a plugin, by the names under which it looks for them."""
  # slow, and needed only where there is a device
  import importlib.metadata
  import importlib.util

  found = any(importlib.util.find_spec(name) for name in ('jax_plugins', 'libtpu'))
  return found or bool(importlib.metadata.entry_points(group='jax_plugins'))
