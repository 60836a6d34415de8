"""What a sweep over checkpoints costs beside the evaluation of the images itself.

    python benchmarks/sweep_cost.py --workdir=... --data_dir=...
    [--on=fer2013_public,fer2013_private,genki4k]

Times `mtface sweep` of a copy of the run that has measured nothing, as a whole process, and, before
and after it, one compiled network over the same images in memory. The ratio of the first to
(checkpoints * the second) is what starting, loading, compiling, restoring and writing add.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from mtface.evaluation.evaluator import Evaluator
from mtface.training.selection import Selection


def seconds_of_images(workdir: pathlib.Path, data_dir: str, on: list[str]) -> tuple[float, int]:
  """(seconds that one compiled network takes for all images of the sets, their number)."""
  evaluator = Evaluator(workdir, data_dir)
  sources = [evaluator.source(name) for name in on]
  ((params, stats),) = evaluator.networks(Selection.parse('last'))
  evaluator.scorer.scores(params, stats, sources[0])  # compiles
  start = time.monotonic()
  for source in sources:
    evaluator.scorer.scores(params, stats, source)
  return time.monotonic() - start, sum(map(len, sources))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='of a trained run')
  parser.add_argument('--data_dir', required=True)
  parser.add_argument(
    '--on', default='fer2013_public,fer2013_private,genki4k', help='sets, with commas'
  )
  args = parser.parse_args()
  on = args.on.split(',')
  workdir = pathlib.Path(tempfile.mkdtemp(prefix='mtface-sweep-')) / 'run'
  shutil.copytree(
    args.workdir, workdir, ignore=shutil.ignore_patterns('results.json', 'sweep', 'predictions')
  )

  before, images = seconds_of_images(workdir, args.data_dir, on)
  command = ['sweep', f'--workdir={workdir}', f'--data_dir={args.data_dir}', f'--on={args.on}']
  start = time.monotonic()
  subprocess.run([sys.executable, '-m', 'mtface', *command], check=True, stdout=subprocess.DEVNULL)
  sweep = time.monotonic() - start
  after, _ = seconds_of_images(workdir, args.data_dir, on)

  checkpoints = len(list((workdir / 'checkpoints' / 'main').glob('[0-9]' * 9)))
  once = (before + after) / 2
  print(
    f'{checkpoints} checkpoints x {len(on)} sets, {images:,} images: sweep {sweep:.1f} s as a '
    'whole process'
  )
  print(
    f'the images alone: {once:.2f} s a checkpoint ({before:.2f} before, {after:.2f} after), '
    f'{images / once:,.0f} images/s'
  )
  print(f'ratio: {sweep / (checkpoints * once):.2f}')
  shutil.rmtree(workdir.parent)


if __name__ == '__main__':
  main()
