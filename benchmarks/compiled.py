"""The training steps of a few networks compiled for GPU nodes and TPU slices that need not be here:
what `mtface compile` says of each, as one table.

    python -m benchmarks.compiled --json=after.json [--before=before.json] [--into=docs/scaling.md]
        [--at=NAME] [--networks=bknet,vgg] [--targets=h100:8,v5e:4x4] [--text=FOLDER]

A row takes minutes, and is written to the file as soon as it is there: a run that was stopped goes
on where it was. With --before, another file of the same, each figure that changed is shown as
before -> after. The table goes to the terminal, or with --into between a document's markers
`<!-- compiled NAME -->` and `<!-- end -->`; --at is their NAME. Needs the extras `cuda` and `tpu`;
measures nothing, so any machine will do.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from benchmarks import pages
from mtface.compiled.apart import compile_config
from mtface.config.files import load_config
from mtface.errors import UserError
from mtface.files import write_json, write_text

Row = dict[str, Any]


class Network(NamedTuple):
  """A config, what it changes of it, and images a device.

  Attributes:
    apart: whether each device takes batch norm's statistics of its own images.
  """

  title: str
  config: str
  images: int
  fsdp: int = 1
  apart: bool = False


NETWORKS = {
  'bknet': Network('BKNet, three tasks, 48x48', 'sang2017:A2', 1024),
  'ghost': Network('The same, ghost_batch=1024', 'sang2017:A2', 1024, apart=True),
  'efficientnet': Network(
    'EfficientNet-B0, 224x224', 'savchenko2021:efficientnet_b0,recipe=fast', 128
  ),
  'vgg': Network('VGG-16, 224x224, mesh.fsdp=8', 'zhang2016:gender,without=1+2+3', 32, fsdp=8),
}
TARGETS = ('h100:8', 'v5e:4x4', 'h100:128x8', 'v5e:16x16')


def config_of(network: Network) -> ConfigDict:
  config = load_config(network.config)
  config.model.dtype, config.mesh.fsdp = 'bfloat16', network.fsdp
  if network.apart:
    config.batch_size = config.ghost_batch = network.images
  return config


def measure(name: str, target: str, texts: str) -> Row:
  network = NETWORKS[name]
  (record,) = compile_config(config_of(network), [target], images=network.images, texts=texts)
  return {'network': name} | record


def read(path: str) -> dict[tuple[str, str], Row]:
  """{(network, target): its row} of a file; nothing of one that is not there."""
  if not path or not pathlib.Path(path).is_file():
    return {}
  rows = json.loads(pathlib.Path(path).read_text())
  return {(row['network'], row['target']): row for row in rows}


# --- The table ------------------------------------------------------------------------------------


def _of(name: str, unit: float = 1, form: str = ',.0f') -> Callable[[Row], str]:
  return lambda row: format(row[name] / unit, form)


def _memory(row: Row) -> str:
  found = row['memory']
  return f'{found["total"] / 2**30:.2f}' + ('' if found['fits'] else ' (too much)')


def _collectives(row: Row) -> str:
  found = row['collectives'].items()
  return ', '.join(f'{of["number"]} {kind}' for kind, of in found)


def _sent(row: Row) -> str:
  return f'{sum(of["bytes"] for of in row["collectives"].values()) / 2**20:,.1f}'


def _efficiency(name: str) -> Callable[[Row], str]:
  def value(row: Row) -> str:
    return next(f'{x[name]:.0%}' for x in row['efficiency'] if x['devices'] == row['devices'])

  return value


COLUMNS: dict[str, Callable[[Row], str]] = {
  'images a device': _of('images'),
  'GiB a device': _memory,
  'MFLOP an image': _of('flops_image', 1e6),
  'MiB of traffic an image': _of('bytes_image', 2**20, ',.2f'),
  'kernels': lambda row: f'{sum(x["number"] for x in row["kernels"].values()):,}',
  'scatters': lambda row: str(row['parts']['scatter'] + row['parts']['select-and-scatter']),
  'collectives': _collectives,
  'waited for': _of('waiting'),
  'MiB sent a step': _sent,
  'roofline, images/s a device': lambda row: f'{row["roofline"]["images_per_second"]:,.0f}',
  'efficiency, nothing overlaps': _efficiency('alone'),
  'overlapped': _efficiency('overlapped'),
}


def markdown(rows: dict[tuple[str, str], Row], before: dict[tuple[str, str], Row]) -> str:
  """A table of each network: a column a target, figures that changed as before -> after."""
  parts = []
  for name, network in NETWORKS.items():
    targets = [target for target in TARGETS if (name, target) in rows]
    if not targets:
      continue
    lines = [f'**{network.title}** (`{network.config}`, bfloat16)', '']
    lines += [f'| | {" | ".join(targets)} |', '|---' * (len(targets) + 1) + '|']
    for label, value in COLUMNS.items():
      cells = [_cell(rows[name, t], before.get((name, t)), value) for t in targets]
      lines.append(f'| {label} | {" | ".join(cells)} |')
    parts.append('\n'.join(lines))
  return '\n\n'.join([*parts, _versions(rows)]) + '\n'


def _cell(row: Row, before: Row | None, value: Callable[[Row], str]) -> str:
  if 'refused' in row:
    return 'does not fit'
  now = value(row)
  then = now if before is None else 'did not fit' if 'refused' in before else value(before)
  return now if then == now else f'{then} -> {now}'


def _versions(rows: dict[tuple[str, str], Row]) -> str:
  names = ('jax', 'libtpu', 'nvidia-cudnn-cu12')
  found = {
    ', '.join(f'{name} {row["versions"][name]}' for name in names if name in row['versions'])
    + f'; {row["date"]}'
    for row in rows.values()
  }
  return 'Compiled with ' + '; '.join(sorted(found)) + '.'


def put(page: pathlib.Path, name: str, text: str) -> None:
  """Writes a table between a page's markers `<!-- compiled NAME -->` and `<!-- end -->`.

  Raises:
    UserError: the page does not have them.
  """
  old = page.read_text()
  if name not in pages.names(old, 'compiled'):
    raise UserError(f'{page}: has no <!-- compiled {name} --> and <!-- end --> for the table')
  write_text(page, pages.filled(old, 'compiled', lambda at: text if at == name else None))


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--json', required=True)
  parser.add_argument('--before', default='')
  parser.add_argument('--into', default='')
  parser.add_argument('--at', default='steps', help='the NAME of the markers')
  parser.add_argument('--text', default='', help='folder for the programs')
  parser.add_argument('--networks', default=','.join(NETWORKS))
  parser.add_argument('--targets', default=','.join(TARGETS))
  args = parser.parse_args(argv)
  rows = read(args.json)
  for target in args.targets.split(','):
    for name in args.networks.split(','):
      if (name, target) not in rows:
        rows[name, target] = measure(name, target, args.text)
        write_json(pathlib.Path(args.json), list(rows.values()))
  text = markdown(rows, read(args.before))
  if not args.into:
    sys.stdout.write(text)
    return
  put(pathlib.Path(args.into), args.at, text)


if __name__ == '__main__':
  main()
