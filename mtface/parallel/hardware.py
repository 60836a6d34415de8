"""What a run is computed on."""

from __future__ import annotations

import os
import platform

import jax

from mtface import process


def hardware() -> dict[str, str | int]:
  """The devices of all processes together, and this host: plain values for JSON."""
  kinds = sorted({device.device_kind for device in jax.devices()})
  return {
    'platform': jax.default_backend(),
    'devices': jax.device_count(),
    'kind': ', '.join(kinds),
    'processes': process.count,
    'cores_of_a_host': os.cpu_count() or 0,
    'system': f'{platform.system()} {platform.machine()}',
    'python': platform.python_version(),
  }
