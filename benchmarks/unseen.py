"""Scores a run on a set that it has never seen: folders of classes, CLASS/IMAGE, or a csv.

    python -m benchmarks.unseen --workdir=RUN --data_dir=DATA --task=emotion7 --crop=found \\
      --set=FOLDER [--classes=anger=angry,happiness=happy] [--to=FOLDER]
    python -m benchmarks.unseen --workdir=RUN --data_dir=DATA --crop=whole --set=photos/list.csv

How faces are cut out is said in advance (`--crop`, which has no default) and written beside the
figures: `found` is MTCNN's box as in the sets that the run learnt from; `crop1` to `crop5` are the
schemes of docs/datasets.md; `whole` takes each image as it is. Trying several and reporting the
best would be training on the test. A csv is one of docs/your_photographs.md. Of folders,
`--classes` says which class of the task a folder is; emotions go by their usual names; folders that
are no class of the task are left out and counted. Faces whose very pixels the run was trained on
are counted too.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections.abc import Mapping

from mtface.build import build
from mtface.config.saved import read_config
from mtface.config.stages import stage_of
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.evaluate import evaluate
from mtface.evaluation.results import class_tables, results_table
from mtface.tasks import get_task

IMAGES = {'.jpg', '.jpeg', '.png', '.webp', '.bmp', '.pgm', '.tif', '.tiff'}
CROPS = ('found', 'whole', 'crop1', 'crop2', 'crop3', 'crop4', 'crop5')
# Folder -> class of emotion7 and emotion8.
EMOTIONS = {
  'anger': 'angry',
  'fearful': 'fear',
  'disgusted': 'disgust',
  'happiness': 'happy',
  'sadness': 'sad',
  'surprised': 'surprise',
}


def of_folders(
  folder: pathlib.Path, task: str, classes: Mapping[str, str], to: pathlib.Path
) -> pathlib.Path:
  """Writes a csv of CLASS/IMAGE folders, with a link to them beside it; returns its path.

  Raises:
    UserError: no folder is a class of the task.
  """
  known, rows, others = get_task(task).classes, [], {}
  for each in sorted(p for p in folder.iterdir() if p.is_dir()):
    name = each.name.lower()
    of_class = classes.get(name, name if name in known else EMOTIONS.get(name, ''))
    images = sorted(p for p in each.rglob('*') if p.suffix.lower() in IMAGES)
    if of_class in known:
      rows += [(f'images/{p.relative_to(folder).as_posix()}', of_class) for p in images]
    else:
      others[each.name] = len(images)
  if not rows:
    raise UserError(
      f'{folder}: no folder with images is called as a class of {task} ({", ".join(known)}); name '
      'them with --classes=FOLDER=CLASS'
    )
  for name, count in others.items():
    print(f'{folder / name}: no class of {task}; {count:,} images are left out')
  to.mkdir(parents=True, exist_ok=True)
  link = to / 'images'
  if not link.exists():
    link.symlink_to(folder.resolve(), target_is_directory=True)
  with (to / 'unseen.csv').open('w', newline='') as file:
    csv.writer(file).writerows([('path', task), *rows])
  return to / 'unseen.csv'


def form(image_shape: tuple[int, int, int], crop: str) -> str:
  """What the prepared set is called behind its name: the run's images, cut out so."""
  height, width, channels = image_shape
  if height != width:
    raise UserError(f'the run sees images of {height}x{width}; prepared sets are square')
  size = f'{"gray" if channels == 1 else "rgb"}{height}'
  return size if crop == 'found' else f'{size}_{crop}'


def trained_on(config, name: str, data_dir: pathlib.Path, own: pathlib.Path) -> int:
  """How many stored images of a set the run was trained on, pixel by pixel."""
  seen: set[bytes] = set()
  for entry in config.sources.values():
    source = load_source(entry.name, data_dir)
    seen |= {image.tobytes() for image in (source.gather([i])[0] for i in range(len(source)))}
  here = load_source(name, own)
  return sum(here.gather([i])[0].tobytes() in seen for i in range(len(here)))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--data_dir', type=pathlib.Path, required=True, help='of the run')
  parser.add_argument('--set', type=pathlib.Path, required=True, help='a folder, or a csv')
  parser.add_argument('--task', default='', help='of folders: whose classes they are')
  parser.add_argument('--classes', default='', help='FOLDER=CLASS, with commas')
  parser.add_argument('--crop', choices=CROPS, required=True)
  parser.add_argument('--checkpoint', default='last')
  parser.add_argument('--to', type=pathlib.Path, help='for what is built (default: RUN/unseen)')
  args = parser.parse_args()
  _, config = stage_of(read_config(args.workdir))
  to = args.to or args.workdir / 'unseen'
  if args.set.is_dir():
    if not args.task:
      raise UserError('--task: say whose classes the folders are')
    classes = dict(pair.lower().split('=') for pair in args.classes.split(',') if pair)
    table = of_folders(args.set, args.task, classes, to / args.set.name)
  else:
    table = args.set
  name = f'image_csv/{table.stem}_{form(tuple(config.image_shape), args.crop)}'
  own = to / 'data' / args.set.stem
  build(name, data_dir=own, manual_dir=table.parent, overwrite=True)
  rows = evaluate(args.workdir, own, checkpoints=[args.checkpoint], on=[f'{name}:train'])
  print(f'{args.set}, crop {args.crop}, chosen in advance:\n{results_table(rows)}')
  if by_class := class_tables(rows):
    print(by_class)
  again = trained_on(config, f'{name}:train', args.data_dir, own)
  print(f'faces that the run was trained on: {again:,}')


if __name__ == '__main__':
  try:
    main()
  except UserError as error:
    raise SystemExit(f'error: {error}') from None
