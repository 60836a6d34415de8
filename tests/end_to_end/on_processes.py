"""The command line, with every batch of training written down: python -m
tests.end_to_end.on_processes FOLDER train ...

FOLDER/batches-P.jsonl of process P has a line a step: [position, checksum of image, labels and
masks] of each sample of its share.
"""

import json
import pathlib
import sys
import zlib

from mtface import process
from mtface.cli import main as cli
from mtface.training import loop as train


def samples(batch):
  parts = [
    batch['image'],
    *(batch[kind][task] for kind in ('labels', 'mask') for task in sorted(batch[kind])),
  ]
  return [
    [int(position), zlib.crc32(b''.join(part[i].tobytes() for part in parts))]
    for i, position in enumerate(batch['position'])
  ]


def main(folder, argv):
  to_devices = train.to_devices

  def written(batches, *args, **kwargs):
    with (pathlib.Path(folder) / f'batches-{process.index}.jsonl').open('a') as file:

      def writing():
        for batch in batches:
          file.write(json.dumps(samples(batch)) + '\n')
          file.flush()
          yield batch

      yield from to_devices(writing(), *args, **kwargs)

  train.to_devices = written
  cli.main(argv)


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[2:])
