"""Images a second of a large set that is decoded as it is used, beside the decoder alone and beside
per-record loaders.

    python -m benchmarks.decoding --data_dir=... --source=synthetic_faces/people_rgb224_10000:train
    --torch-python=.venv-parity/bin/python

    decoder         OpenCV decodes images that are in memory already, in as many threads as there
                    are cores
    mtface          batches of the loader: read, parsed, decoded, labels and masks beside them
    grain           grain's own way: a record at a time (read, parse, decode), batched; as many
                    threads as cores, as it does by default more
    grain_workers   the same in as many worker processes as cores
    torch           PyTorch's DataLoader, a record at a time, as many workers as cores (0 for one
                    core)

Each figure is of a process of its own that may use so many cores; rounds alternate between the
rows. Rates are of wall time, and of the processor time of the process and its children, which other
work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import numpy as np

ROWS = ('decoder', 'mtface', 'grain', 'grain_workers', 'torch')


def records_of(options: Any) -> tuple[Any, np.ndarray]:
  """The set's raw records, and the numbers of those that are read, in a random order."""
  from array_record.python.array_record_data_source import ArrayRecordDataSource

  from mtface.data.index import load_index
  from mtface.data.names import SourceName

  name = SourceName.parse(options.source)
  index = load_index(name.set_name, name.split, pathlib.Path(options.data_dir))
  order = np.random.default_rng(0).permutation(len(index))[: options.images]
  return ArrayRecordDataSource([str(path) for path in index.shards]), order


def decode(record: bytes) -> np.ndarray:
  import cv2

  from mtface.data.index import image_bytes

  return cv2.imdecode(np.frombuffer(image_bytes(record), np.uint8), cv2.IMREAD_COLOR_RGB)


class Records:
  """Random access to decoded records: what grain and PyTorch take."""

  def __init__(self, options: Any):
    self._options = options
    self._records, self._order = records_of(options)

  def __len__(self) -> int:
    return len(self._order)

  def __getitem__(self, i: int) -> dict[str, Any]:
    return {'image': decode(self._records[int(self._order[i])]), 'position': i}


def decoder(options: Any) -> Iterator[int]:
  from mtface.data.index import image_bytes

  records, order = records_of(options)
  encoded = [np.frombuffer(image_bytes(records[int(i)]), np.uint8) for i in order]
  yield 0
  import cv2

  with futures.ThreadPoolExecutor(options.cores) as pool:
    for _ in pool.map(
      lambda part: [cv2.imdecode(x, cv2.IMREAD_COLOR_RGB) for x in part],
      np.array_split(np.array(encoded, object), 8),
    ):
      pass
  yield len(order)


def mtface(options: Any) -> Iterator[int]:
  from mtface.data.loader import BatchSource, load_batches
  from mtface.data.mixing import make_mixture
  from mtface.data.sources import load_source

  source = load_source(options.source, options.data_dir, store='stream')
  mixture = make_mixture('proportional', [source], seed=0, batch_size=options.batch)
  batches = load_batches(
    BatchSource([source], mixture, options.batch), 0, options.images // options.batch
  )
  yield from _counted(batch['position'] for batch in batches)


def grain(options: Any, workers: int = 0) -> Iterator[int]:
  import grain

  data = grain.MapDataset.source(Records(options)).batch(options.batch)
  reading = grain.ReadOptions(
    num_threads=options.cores if not workers else 1, prefetch_buffer_size=4
  )
  stream = data.to_iter_dataset(reading)
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  yield from _counted(batch['position'] for batch in stream)


def torch(options: Any) -> Iterator[int]:
  from torch.utils.data import DataLoader

  workers = options.cores if options.cores > 1 else 0
  start = 'spawn' if workers else None  # array_record's threads do not survive a fork
  loader = DataLoader(
    Records(options), options.batch, num_workers=workers, multiprocessing_context=start
  )
  yield from _counted(batch['position'] for batch in loader)


def _counted(positions: Iterator[Any]) -> Iterator[int]:
  """0 after the first batch, when everything is under way, then the images of the others."""
  next(positions)
  yield 0
  yield sum(len(x) for x in positions)


MEASURED: dict[str, Callable[..., Iterator[int]]] = {
  'decoder': decoder,
  'mtface': mtface,
  'grain': grain,
  'grain_workers': lambda options: grain(options, options.cores),
  'torch': torch,
}


def measure(options: Any) -> None:
  """In a process of its own: prints {'wall': images/s, 'cpu': images per second
  of processor time}.
  """
  from absl import flags

  flags.FLAGS.mark_as_parsed()  # grain's
  os.sched_setaffinity(0, list(os.sched_getaffinity(0))[: options.cores])
  counts = MEASURED[options.measure](options)
  next(counts)
  start, cpu = time.monotonic(), _cpu()
  images = next(counts)
  seconds = time.monotonic() - start
  collected = list(counts)  # ends workers, whose time counts when they have ended
  assert not collected
  print(
    json.dumps(
      {
        'wall': images / seconds,
        'cpu': images / max(_cpu() - cpu, 1e-9),
        'threads': threading.active_count(),
      }
    )
  )


def _cpu() -> float:
  times = os.times()
  return times.user + times.system + times.children_user + times.children_system


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data_dir', required=True)
  parser.add_argument('--source', default='synthetic_faces/people_rgb224_10000:train')
  parser.add_argument('--images', type=int, default=4096)
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--cores', type=int, default=0, help='of --measure')
  parser.add_argument('--measure', choices=ROWS, help='one row, in this process')
  parser.add_argument(
    '--torch-python',
    default='',
    help='of an environment with PyTorch; without, its row is left out',
  )
  options = parser.parse_args()
  if options.measure:
    measure(options)
    return
  rows = [row for row in ROWS if row != 'torch' or options.torch_python]
  found: dict[tuple[str, int], list[dict[str, float]]] = {}
  for _ in range(options.rounds):
    for cores in (1, 2):
      for row in rows:
        python = options.torch_python if row == 'torch' else sys.executable
        given = [
          f'--{key}={getattr(options, key)}' for key in ('data_dir', 'source', 'images', 'batch')
        ]
        command = [
          python,
          '-m',
          'benchmarks.decoding',
          *given,
          f'--measure={row}',
          f'--cores={cores}',
        ]
        line = subprocess.run(
          command, check=True, capture_output=True, text=True
        ).stdout.splitlines()[-1]
        found.setdefault((row, cores), []).append(json.loads(line))
        print(f'{row} {cores}: {line}', file=sys.stderr, flush=True)
  print(
    f'{platform.machine()}, {os.cpu_count()} cores, {options.source}, batches of {options.batch}, '
    f'{options.images} images'
  )
  print(
    '\n| | cores | images/s, wall: median (min - max) | images/s of processor time '
    '|\n|---|---|---|---|'
  )
  for (row, cores), of_rounds in found.items():
    wall, cpu = ([x[key] for x in of_rounds] for key in ('wall', 'cpu'))
    print(
      f'| {row} | {cores} | {statistics.median(wall):,.0f} ({min(wall):,.0f} - {max(wall):,.0f}) | '
      f'{statistics.median(cpu):,.0f} |'
    )


if __name__ == '__main__':
  main()
