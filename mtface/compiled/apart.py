"""Compiles for each target in a process of its own: JAX and the compilers read their environment
when they start.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from mtface.compiled.targets import HERE, PROGRAMS, TRAIN, Target, parse_target
from mtface.errors import UserError
from mtface.files import file_name, local_path

_LAST_LINES = 300  # characters of what a compiler says as it fails
_CACHE = {'JAX_ENABLE_COMPILATION_CACHE': 'false'}  # what is read back from it is no whole program
_ENVIRONMENTS: dict[str, dict[str, str]] = {
  'cuda': {'JAX_PLATFORMS': 'cpu'},
  'tpu': {
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',  # no look for the TPU of a cloud's machine
    'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': 'true',  # none of them holds a TPU
  },
  'cpu': {'JAX_PLATFORMS': 'cpu'},
}
_FLAGS = {
  'cuda': '--xla_gpu_autotune_level=0',  # trying kernels out would need the card
  'cpu': '--xla_force_host_platform_device_count={devices}',
}
_PACKAGE = pathlib.Path(__file__).parents[1]


def compile_config(
  config: ConfigDict,
  targets: Sequence[str] = (HERE,),
  *,
  program: str = TRAIN,
  images: int = 0,
  stage: str = '',
  texts: str | os.PathLike[str] = '',
) -> list[dict[str, Any]]:
  """Compiles a config's program for each target, one after the other; minutes each for large ones.

  Args:
    config: of an experiment; no data set of it is needed.
    targets: names (`targets.parse_target`), `here` for the devices of this machine.
    program: `train`, the step of `mtface train`, or `evaluate`, a batch's scores.
    images: a device; 0 for the config's batch, shared by the devices.
    stage: of the experiment; '' for the last.
    texts: folder for the programs as text (HLO); '' for none.

  Returns:
    A record of each target, see `compile.compile_job`.

  Raises:
    UserError: a target, the config, its batch or the stage is bad, or what compiles for a target is
      missing or refuses it.
  """
  if program not in PROGRAMS:
    raise UserError(f'--program={program}: expected {" or ".join(PROGRAMS)}')
  if images < 0:
    raise UserError(f'--batch_size={images}: expected images a device, at least 1')
  if not targets:
    raise UserError('--target=: names no devices; leave it out for those of this machine')
  parsed = [parse_target(name) for name in targets]
  folder = local_path(texts) if texts else None
  records = []
  for target in parsed:
    name = f'{file_name(config.name)}-{program}-{file_name(target.name)}.hlo.txt'
    job = {
      'config': config.to_dict(),
      'target': target.name,
      'program': program,
      'images': images,
      'stage': stage,
      'text': str((folder / name).absolute()) if folder else '',
    }
    print(f'compiling {config.name} for {target.name}', file=sys.stderr, flush=True)
    records.append(_compile(target, job))
  return records


def _compile(target: Target, job: dict[str, Any]) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as name:
    given, record = pathlib.Path(name, 'job.json'), pathlib.Path(name, 'record.json')
    given.write_text(json.dumps(job))
    done = subprocess.run(
      [sys.executable, '-m', 'mtface.compiled.compile', str(given), str(record)],
      env=environment(target, os.environ),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      check=False,
    )
    found = json.loads(record.read_text()) if record.is_file() else {}
  if 'error' in found:
    raise UserError(found['error'])
  if done.returncode < 0:
    last = (done.stdout.strip().splitlines() or ['it says nothing'])[-1][-_LAST_LINES:]
    raise UserError(
      f'--target={target.name}: the compiler ended with {signal.Signals(-done.returncode).name} '
      f'({last}); it may have run out of memory'
    )
  if done.returncode:
    raise RuntimeError(f'compiling for {target.name} failed:\n{done.stdout}')
  return found


def environment(target: Target, given: Mapping[str, str]) -> dict[str, str]:
  """The environment of a process that compiles for a target: that of this one for what is here."""
  search = os.pathsep.join(filter(None, (str(_PACKAGE.parent), given.get('PYTHONPATH'))))
  found = {**given, 'PYTHONPATH': search, **_CACHE, 'TF_CPP_MIN_LOG_LEVEL': '3'}
  if not target.grid:
    return found
  flags = _FLAGS.get(target.card.platform, '').format(devices=target.devices)
  found['XLA_FLAGS'] = f'{given.get("XLA_FLAGS", "")} {flags}'.strip()
  return found | _ENVIRONMENTS[target.card.platform]
