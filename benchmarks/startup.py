"""Starting: seconds and memory of `mtface --help` and of a first training step, cold and again, and
images/s of building a set.

    python -m benchmarks.startup [--peers=.venv-parity/bin/python] [--cases=help]

A first step is a training of one step (BKNet, three tasks, batches of 128), as a whole process,
which also saves its checkpoint. "cold" has an empty cache for compiled programs every time, "again"
the cache that the runs before it left (the first is not counted); PyTorch's script does the same
step. `mtface build` draws and writes synthetic faces.
"""

from __future__ import annotations

import pathlib

from benchmarks.contestants import Command
from benchmarks.harness import Case, main
from benchmarks.runs import DATA, config_flags, sets, width

BUILT = 'synthetic_faces/smile_gray48'


def help_contestants() -> list[Command]:
  return [
    Command('mtface --help', ['-m', 'mtface', '--help']),
    Command('python -c "import jax"', ['-c', 'import jax']),
    Command('python -c "import torch"', ['-c', 'import torch'], peer=True),
  ]


def caches(folder: str) -> dict[str, str]:
  """A cache folder of its own for mtface's compiled programs, and none for JAX's own cache."""
  return {'XDG_CACHE_HOME': folder, 'JAX_COMPILATION_CACHE_DIR': ''}


def first_step(tiny: bool) -> list[Command]:
  flags, batch = config_flags(tiny, 1, 1, 8 if tiny else 128), 8 if tiny else 128
  words = ['-m', 'mtface', 'train', *flags, f'--data_dir={DATA}', '--workdir={fresh}/run']
  script = ['-m', 'benchmarks.peers.script', 'train', f'--data={DATA}/peer.npz', '--to={fresh}']
  script += ['--steps=1', f'--batch={batch}', f'--width={width(tiny)}']
  return [
    Command('again', words, env=caches('{case}/cache')),
    Command('cold', words, env=caches('{fresh}/cache')),
    Command('PyTorch script', script, peer=True),
  ]


def built(fresh: pathlib.Path) -> dict[str, float]:
  """How many images the build wrote."""
  import json

  (info,) = fresh.rglob('dataset_info.json')
  splits = json.loads(info.read_text())['splits']
  return {'images_written': float(sum(int(n) for split in splits for n in split['shardLengths']))}


def cases(tiny: bool) -> list[Case]:
  build = Command(
    'mtface build', ['-m', 'mtface', 'build', BUILT, '--data_dir={fresh}'], read=built
  )
  return [
    Case('help', help_contestants(), show='seconds', rounds=3 if tiny else 10),
    Case('first training step', first_step(tiny), show='seconds', prepare=sets(tiny), rounds=3),
    Case(f'build {BUILT}', [build], show='seconds', rounds=3),
  ]


if __name__ == '__main__':
  main('startup', __doc__, cases)
