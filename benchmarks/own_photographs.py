"""Lays a thousand of GENKI-4K's photographs out as somebody's own: a folder and a csv, for the
tutorial (docs/your_photographs.md).

    python -m benchmarks.own_photographs --genki4k=FOLDER --to=FOLDER

Every fourth photograph is taken, under its own name, with what its labels say of smiling.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import shutil


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--genki4k', type=pathlib.Path, required=True)
  parser.add_argument('--to', type=pathlib.Path, required=True)
  args = parser.parse_args()
  (args.to / 'photos').mkdir(parents=True, exist_ok=True)
  lines = (args.genki4k / 'labels.txt').read_text().splitlines()
  taken = range(1, len(lines) + 1, 4)
  with (args.to / 'holiday.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['path', 'smile'])
    for number in taken:
      name = f'file{number:04d}.jpg'
      shutil.copy(args.genki4k / 'files' / name, args.to / 'photos' / name)
      writer.writerow([f'photos/{name}', 'yes' if lines[number - 1].startswith('1') else 'no'])
  print(f'{args.to}: {len(taken):,} photographs and holiday.csv')


if __name__ == '__main__':
  main()
