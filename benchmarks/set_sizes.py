"""What building, describing, training and evaluating take as a set grows: memory and time, in a
limited amount of memory.

    python -m benchmarks.set_sizes --data_dir=... --workdir=... --faces=10000,30000,100000,300000
    --gigabytes=4

Each command runs in a control group of its own (benchmarks/limited.py; Linux, as root). `first
step` is a training of two steps: start, checks, compilation and the first batches. Sets that are
built already are taken as they are, and their row says so.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

CONFIG = 'benchmarks/large_config.py'


def limited(gigabytes: float, *command: str) -> dict[str, float]:
  """Runs `mtface COMMAND` with limited memory; what benchmarks/limited.py says of it."""
  line = [
    sys.executable,
    '-m',
    'benchmarks.limited',
    f'--gigabytes={gigabytes}',
    '--',
    sys.executable,
    '-m',
    'mtface',
  ]
  print('$ mtface', *command, file=sys.stderr, flush=True)
  done = subprocess.run([*line, *command], stdout=subprocess.PIPE, text=True)
  sys.stderr.write(done.stdout)
  if done.returncode:
    sys.exit(f'ended with {done.returncode}')
  return json.loads(done.stdout.splitlines()[-1])


def measure(faces: int, options: argparse.Namespace) -> list[dict[str, object]]:
  data, run = f'--data_dir={options.data_dir}', pathlib.Path(options.workdir) / str(faces)
  shutil.rmtree(run, ignore_errors=True)
  config = f'--config={CONFIG}:{faces}'
  rows = []

  def add(what: str, *command: str) -> None:
    rows.append({'faces': faces, 'what': what} | limited(options.gigabytes, *command))

  name = f'synthetic_faces/people_rgb224_{faces}'
  if not list(pathlib.Path(options.data_dir, name).glob('*/dataset_info.json')):
    add('build', 'build', name, data)
  add('describe', 'describe', config, data)
  add('first step', 'train', config, data, f'--workdir={run}/two', '--config.duration=2 steps')
  add(
    'train',
    'train',
    config,
    data,
    f'--workdir={run}/run',
    f'--config.duration={options.steps} steps',
  )
  add('evaluate', 'evaluate', data, f'--workdir={run}/run', '--checkpoint=last', '--predictions')
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data_dir', required=True)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--faces', default='10000,30000')
  parser.add_argument('--steps', type=int, default=300)
  parser.add_argument('--gigabytes', type=float, default=4.0)
  options = parser.parse_args()
  print('| faces | what | seconds | MB of memory, at most | limit met |\n|---|---|---|---|---|')
  for faces in map(int, options.faces.split(',')):
    for row in measure(faces, options):
      print(
        f'| {faces:,} | {row["what"]} | {row["seconds"]} | {row["anonymous"]:,} | '
        f'{row["limit_hits"]:,} |',
        flush=True,
      )


if __name__ == '__main__':
  main()
