"""JAX's settings in the environment, JAX_*: those that only forbid are set aside, those that change
numbers are recorded.

Knows nothing of JAX before it is imported, since that reads them.
"""

from __future__ import annotations

import os
import traceback
from typing import Any

# They make JAX refuse what it would do anyway, for those who look for bugs of their own. No number
# depends on them.
_FORBIDDING = (
  'JAX_NUMPY_RANK_PROMOTION',
  'JAX_NUMPY_DTYPE_PROMOTION',
  'JAX_TRANSFER_GUARD',
  'JAX_TRANSFER_GUARD_HOST_TO_DEVICE',
  'JAX_TRANSFER_GUARD_DEVICE_TO_DEVICE',
  'JAX_TRANSFER_GUARD_DEVICE_TO_HOST',
)
# The same run with another value of these has other numbers; with JAX's own values.
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
_DEVICES = '--xla_force_host_platform_device_count'  # a run may go on on other devices
_SOURCES = (
  'jax/_src/config.py',
  'jax/_src/xla_bridge.py',
)  # what reads the settings, and starts a platform


def set_aside() -> list[str]:
  """Takes settings that only forbid out of the environment, before JAX is imported; returns them as
  NAME=VALUE.
  """
  allowed = ('', 'allow', 'standard')
  found = [f'{name}={os.environ.pop(name)}' for name in _FORBIDDING if name in os.environ]
  return [setting for setting in found if setting.partition('=')[2] not in allowed]


def of_numbers() -> dict[str, Any]:
  """The settings that change numbers and are not JAX's own, by name, with XLA_FLAGS where there are
  any.
  """
  import jax

  values = jax.config.values
  found = {
    name: values[name]
    for name, usual in _OF_NUMBERS.items()
    if name in values and values[name] != usual
  }
  flags = [
    flag for flag in os.environ.get('XLA_FLAGS', '').split() if not flag.startswith(_DEVICES)
  ]
  return found | ({'XLA_FLAGS': ' '.join(flags)} if flags else {})


def refusal(error: BaseException) -> str:
  """A line for an exception that JAX raised at its settings: a value that it does not know, a
  platform that is not there. Otherwise ''.
  """
  given = sorted(
    f'{name}={value}' for name, value in os.environ.items() if name.startswith('JAX_') and value
  )
  frames = traceback.extract_tb(error.__traceback__)
  if not given or not frames or not frames[-1].filename.replace(os.sep, '/').endswith(_SOURCES):
    return ''
  said = ' '.join(str(error).split())[:200] or 'no such platform is here'
  return (
    f'{", ".join(_named_in(said, given))}: JAX cannot start with this setting ({said}); '
    'correct it, or unset it'
  )


def _named_in(said: str, given: list[str]) -> list[str]:
  """Those of the settings that an error names; a platform's has other words."""
  named = [setting for setting in given if setting.partition('=')[0].lower() in said.lower()]
  platforms = [setting for setting in given if setting.startswith('JAX_PLATFORM')]
  return named or platforms or given
