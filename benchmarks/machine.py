"""What figures depend on: the machine, the checkout, and what else the machine does."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import psutil

ROOT = pathlib.Path(__file__).parents[1]


def machine() -> dict[str, Any]:
  """What figures depend on: processor, cores that may be used, memory in 10^9 bytes, system."""
  return {
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'memory_gb': round(psutil.virtual_memory().total / 1e9, 1),
    'system': f'{platform.system()} {platform.machine()}',
  }


def _processor() -> str:
  info = pathlib.Path('/proc/cpuinfo')
  names = re.findall(r'^model name\s*: (.*)$', info.read_text(), re.M) if info.exists() else []
  return ' '.join(names[0].split()) if names else platform.processor() or platform.machine()


def moment() -> dict[str, Any]:
  """Date, state of the checkout, and load averages of 1, 5 and 15 minutes."""
  described = subprocess.run(
    ['git', 'describe', '--always', '--dirty'], cwd=ROOT, capture_output=True, text=True
  )
  return {
    'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
    'commit': described.stdout.strip() or importlib.metadata.version('mtface'),
    'load_before': [round(x, 2) for x in os.getloadavg()],
  }


def stolen(since: Any) -> float:
  """The share of all processor time since `psutil.cpu_times()` that the host gave to other
  machines: it is work beside ours that no load average shows. 0 where the system does not say.
  """
  used = {name: after - before for name, before, after in _times(since, psutil.cpu_times())}
  return used.get('steal', 0.0) / max(sum(used.values()), 1e-9)


def _times(before: Any, after: Any) -> list[tuple[str, float, float]]:
  """Without what is counted twice: guests' time is also their users'."""
  names = [name for name in before._fields if not name.startswith('guest')]
  return [(name, getattr(before, name), getattr(after, name)) for name in names]
