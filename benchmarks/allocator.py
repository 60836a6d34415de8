"""What glibc's malloc costs a training step and a forward pass on CPUs, by its settings.

    python benchmarks/allocator.py [--config=sang2017:A4] [--batch=128] [--seconds=20] [--rounds=3]
    [--only=plain+hugetlb] [--preload=NAME=/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4]
    [--json=FILE]

XLA asks for its buffers anew at every step, and glibc gives large ones back to the kernel at once:
each page is then a fault and is zeroed, step after step. The settings are read when a process
starts, so each measurement is a process of its own; those of a round follow one another, and rounds
alternate. Prints JSON lines on request, and a Markdown table of medians over the rounds (and the
smallest and largest): images/s by the clock and by processor time, the kernel's share of that, page
faults an image, and the largest resident memory. `mtface/cli/restart.py` has the outcome.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
_KEEP = 'glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=68719476736'
TUNABLES = {
  'plain': '',
  'hugetlb': 'glibc.malloc.hugetlb=1',
  'keep': _KEEP,
  'keep, top_pad': f'{_KEEP}:glibc.malloc.top_pad=67108864',
  'no mmap': f'{_KEEP}:glibc.malloc.mmap_max=0',
  'no mmap, one arena': f'{_KEEP}:glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1',
  'hugetlb, keep': f'glibc.malloc.hugetlb=1:{_KEEP}',
  'hugetlb, no mmap': f'glibc.malloc.hugetlb=1:{_KEEP}:glibc.malloc.mmap_max=0',
  'hugetlb, no mmap, one arena': (
    f'glibc.malloc.hugetlb=1:{_KEEP}:glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1'
  ),
}


# --- One measurement, in a process of its own -----------------------------------------------------


def usage() -> dict[str, float]:
  used = resource.getrusage(resource.RUSAGE_SELF)
  return {
    'wall': time.perf_counter(),
    'user': used.ru_utime,
    'system': used.ru_stime,
    'faults': used.ru_minflt + used.ru_majflt,
  }


def measured(compute: Any, images: int, seconds: float) -> dict[str, float]:
  """Of calls of `compute` for so many seconds, the first two not counted."""
  for _ in range(2):
    compute()
  before, calls = usage(), 0
  while time.perf_counter() - before['wall'] < seconds or calls < 3:
    compute()
    calls += 1
  spent = {key: value - before[key] for key, value in usage().items()}
  processor = spent['user'] + spent['system']
  return {
    'images_per_second': calls * images / spent['wall'],
    'images_per_processor_second': calls * images / processor,
    'user_seconds': spent['user'],
    'system_seconds': spent['system'],
    'system_share': spent['system'] / processor,
    'faults_per_image': spent['faults'] / (calls * images),
    'calls': calls,
  }


def child(name: str, batch_size: int, seconds: float) -> dict[str, Any]:
  """Measures training and inference of a config on random pixels in this process."""
  import jax
  import numpy as np

  from mtface.config.files import find_config, load_config_file
  from mtface.config.schema import outputs_of, tasks_of
  from mtface.data.inputs import scale_images
  from mtface.models.network import make_network
  from mtface.parallel.sharding import everywhere, make_mesh, place, shared
  from mtface.training.loop import jit_state_step
  from mtface.training.optim import make_optimizer
  from mtface.training.state import new_state
  from mtface.training.step import make_step
  from mtface.training.tally import new_tally

  file, _, argument = name.partition(':')
  config = load_config_file(find_config(file), argument or None)
  tasks, mesh, rng = tasks_of(config), make_mesh(), np.random.default_rng(0)
  network, params, stats = make_network(
    config.model, outputs_of(config), config.image_shape, config.seed
  )
  optimizer = make_optimizer(config.optimizer, 1000)
  every = everywhere(mesh)
  step = jit_state_step(make_step(network, optimizer, tasks, config, {}), mesh, every)
  batch = place(
    {
      'image': rng.integers(0, 256, (batch_size, *config.image_shape), dtype=np.uint8),
      'labels': {t: np.zeros((batch_size, *k.label_shape), np.int32) for t, k in tasks.items()},
      'mask': {t: np.ones((batch_size, *k.label_shape), bool) for t, k in tasks.items()},
      'source': np.zeros(batch_size, np.int32),
      'position': np.arange(batch_size, dtype=np.uint32),
      'stop': np.zeros(batch_size, np.int32),
    },
    shared(mesh),
  )
  carried = [place(new_state(params, stats, optimizer), every), place(new_tally(tasks), every)]
  forward = jax.jit(lambda p, s, images: network.scores(p, s, scale_images(images)))
  weights = place((params, stats), every)

  def train() -> None:
    carried[:] = jax.block_until_ready(step(*carried, batch))

  found = {
    'inference': measured(
      lambda: jax.block_until_ready(forward(*weights, batch['image'])), batch_size, seconds
    ),
    'training': measured(train, batch_size, seconds),
  }
  resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return found | {'resident_mib': resident, 'jax': jax.__version__}


# --- All of them ----------------------------------------------------------------------------------


def environment(tunables: str, preload: str, cache: str) -> dict[str, str]:
  """Of a child: compiled programs are shared, so that all settings run the same ones."""
  kept = {k: v for k, v in os.environ.items() if k not in ('GLIBC_TUNABLES', 'LD_PRELOAD')}
  added = {
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': cache,
    'TF_CPP_MIN_LOG_LEVEL': '3',
    'PYTHONPATH': str(ROOT),
  }
  added |= {'GLIBC_TUNABLES': tunables} if tunables else {}
  added |= {'LD_PRELOAD': preload} if preload else {}
  return kept | added


def run_child(options: argparse.Namespace, tunables: str, preload: str, cache: str) -> Any:
  command = [sys.executable, __file__, '--child', f'--config={options.config}']
  command += [f'--batch={options.batch}', f'--seconds={options.seconds}']
  ran = subprocess.run(
    command, env=environment(tunables, preload, cache), stdout=subprocess.PIPE, check=True
  )
  return json.loads(ran.stdout.decode().splitlines()[-1])


def spread(values: list[float], form: str) -> str:
  middle = format(statistics.median(values), form)
  if len(values) == 1:
    return middle
  return f'{middle} ({format(min(values), form)}-{format(max(values), form)})'


def table(found: Mapping[str, list[Any]]) -> str:
  heads = ('settings', 'what', 'images/s', 'images/s of processor time', "the kernel's share")
  lines = ['| ' + ' | '.join([*heads, 'page faults an image', 'resident MiB']) + ' |']
  lines.append('|---' * (len(heads) + 2) + '|')
  for name, rounds in found.items():
    for what in ('training', 'inference'):
      of = {key: [r[what][key] for r in rounds] for key in rounds[0][what]}
      cells = [
        spread(of['images_per_second'], ',.0f'),
        spread(of['images_per_processor_second'], ',.0f'),
        spread(of['system_share'], '.0%'),
        spread(of['faults_per_image'], ',.1f'),
        spread([r['resident_mib'] for r in rounds], ',.0f'),
      ]
      lines.append(f'| {name} | {what} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def machine() -> dict[str, Any]:
  facts = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  model = next((x.partition(':')[2].strip() for x in facts if x.startswith('model name')), '')
  pages = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')
  return {
    'processor': model,
    'cores': len(os.sched_getaffinity(0)),
    'kernel': platform.release(),
    'libc': ' '.join(platform.libc_ver()),
    'huge_pages': pages.read_text().strip() if pages.exists() else '',
    'date': datetime.date.today().isoformat(),
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default='sang2017:A4')
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--seconds', type=float, default=20.0)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--only', default='', help='names of settings; all if empty')
  parser.add_argument('--preload', action='append', default=[], help='NAME=LIBRARY, repeatable')
  parser.add_argument('--json', default='', help='file for one line of JSON a measurement')
  parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.child:
    print(json.dumps(child(options.config, options.batch, options.seconds)))
    return
  only = [name for name in options.only.split('+') if name] or list(TUNABLES)
  settings = {name: (TUNABLES[name], '') for name in only}
  settings |= {name: ('', path) for name, _, path in (x.partition('=') for x in options.preload)}
  found: dict[str, list[Any]] = {name: [] for name in settings}
  facts = machine()
  with tempfile.TemporaryDirectory(prefix='allocator-') as cache:
    for number in range(options.rounds):
      for name, (tunables, preload) in settings.items():
        found[name].append(run_child(options, tunables, preload, cache))
        row = {'settings': name, 'tunables': tunables, 'preload': preload, 'round': number}
        line = json.dumps(row | found[name][-1] | facts | {'config': options.config})
        print(line, file=sys.stderr, flush=True)
        if options.json:
          with pathlib.Path(options.json).open('a') as file:
            file.write(line + '\n')
  print(f'{options.config}, batch {options.batch}; {facts}\n')
  print(table(found))


if __name__ == '__main__':
  main()
