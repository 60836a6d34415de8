"""Lowers and compiles a program for a target, and reads what came out.

Runs in a process of its own, whose environment fits the target (`apart.py`): `python -m
mtface.compiled.compile`, which takes a `Job` as JSON and leaves its record as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtface.compiled.abstract import Abstract, abstract_program, weighted
from mtface.compiled.program import Program, read_program
from mtface.compiled.roofline import Scaling, other_grids, roofline, scaling
from mtface.compiled.targets import EVALUATE, Target, Torus, card_of, parse_target, target_config
from mtface.config.checks import check_stages
from mtface.config.imports import load_imports, register_classes
from mtface.config.saved import versions, with_defaults
from mtface.config.schema import check_shareable
from mtface.config.stages import stage_of
from mtface.errors import EXIT_BAD_INPUT, UserError, first_line
from mtface.files import write_text
from mtface.parallel.sharding import make_mesh

_SHOWN = 20  # of the largest buffers and kernels


@dataclasses.dataclass(frozen=True)
class Job:
  """What to compile.

  Attributes:
    config: of an experiment, as a dictionary.
    target: its name.
    program: train or evaluate.
    images: a device; 0 for the config's batch, shared by the devices.
    stage: '' for the last one.
    text: file for the program's text, '' for none.
  """

  config: dict[str, Any]
  target: str
  program: str
  images: int = 0
  stage: str = ''
  text: str = ''


def compile_job(job: Job) -> dict[str, Any]:
  """Compiles a program and reads it; the record is for JSON, its figures are of one device, in
  bytes, FLOPs and seconds, those named `_image` of one image.

  Raises:
    UserError: the config, the target or the batch is bad, or the compiler refuses the target.
  """
  stage, config = _config(job)
  target, devices = _devices(parse_target(job.target))
  mesh = make_mesh(config.mesh.fsdp, devices)
  images = job.images or _images(config, job.program, len(devices))
  program, record = abstract_program(config, job.program), _about(job, config, stage, target)
  record |= {'devices': len(devices), 'images': images, 'hardware': devices[0].device_kind}
  flops = program.flops(images)
  record['flops_image'] = flops / images
  begin = time.monotonic()
  try:
    compiled = _lower(program, mesh, images).compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return record | {'refused': first_line(error)}
  record['compile_seconds'] = round(time.monotonic() - begin, 1)
  text = compiled.as_text()
  if job.text:
    write_text(pathlib.Path(job.text), text)
  read = read_program(text, len(devices), on_chip=devices[0].platform == 'tpu')
  record['memory'] = _memory(compiled.memory_analysis(), target)
  return record | _figures(read, images, flops, target, config, job.program)


def _config(job: Job) -> tuple[str, ConfigDict]:
  """(name of the stage, its config), checked without data."""
  config = ConfigDict(job.config)
  load_imports(config.get('imports', ()))
  register_classes(config.get('classes', {}), 'config.classes')
  config = with_defaults(config)
  check_stages(config, 1)
  return stage_of(config, job.stage)


def _devices(target: Target) -> tuple[Target, list[Any]]:
  """(the target with what is known of its card, its devices)."""
  if not target.grid or target.card.platform == 'cpu':
    devices = list(jax.devices())
    card = target.card if target.grid else card_of(devices[0].device_kind)
    grid = target.grid or ((1, len(devices)) if card.platform == 'cuda' else (len(devices),))
    return dataclasses.replace(target, card=card, grid=grid), devices
  try:
    topology = topologies.get_topology_desc(platform=target.card.platform, **_topology(target))
  except (RuntimeError, NotImplementedError) as error:  # JaxRuntimeError is a RuntimeError
    raise UserError(
      f'--target={target.name}: the compiler refuses it ({first_line(error)}); the plugin for '
      f'{target.card.platform} must be of the version that jax asks for'
    ) from error
  return target, list(topology.devices)


def _topology(target: Target) -> dict[str, Any]:
  """Devices in the words of their compiler."""
  links = target.card.links
  if not isinstance(links, Torus):
    shape = 'x'.join(map(str, (1, *target.grid)))
    config = target_config(target.card)
    return {'topology_name': target.card.name, 'topology': shape, 'target_config': config}
  chip = {'chip_config_name': links.chip} if links.chip else {}
  alone = {'chips_per_host_bounds': [1, 1, 1]} if target.devices == 1 else {}
  return {'topology_name': target.name, **chip, **alone}


def _images(config: ConfigDict, program: str, devices: int) -> int:
  """Of the config's batch, on each of the devices."""
  field = 'evaluation.batch_size' if program == EVALUATE else 'batch_size'
  whole = config.evaluation.batch_size if program == EVALUATE else config.batch_size
  try:
    check_shareable(whole, devices, field)
  except UserError as error:
    raise UserError(f'{error}, or name the images a device as --batch_size') from None
  return whole // devices


def _lower(program: Abstract, mesh: Mesh, images: int) -> Any:
  return program.on(mesh).lower(*program.arguments(images * mesh.size))


def _about(job: Job, config: ConfigDict, stage: str, target: Target) -> dict[str, Any]:
  notes = [
    f'class weights of {", ".join(names)}: 1, since they come from data'
    for names in [weighted(config)]
    if names and job.program != EVALUATE
  ]
  return {
    'config': config.name,
    'stage': stage,
    'program': job.program,
    'dtype': config.model.dtype,
    'fsdp': config.mesh.fsdp,
    'target': target.name,
    'card': {'name': target.card.name, 'source': target.card.source},
    'notes': notes,
    'versions': versions() | _compilers(),
    'date': time.strftime('%Y-%m-%d', time.gmtime()),
  }


def _compilers() -> dict[str, str]:
  """Versions of the plugins that compile for other devices."""
  from importlib import metadata

  names = ('libtpu', 'jax-cuda12-plugin', 'nvidia-cudnn-cu12')
  return {name: x.version for name in names for x in metadata.distributions(name=name)}


def _memory(found: Any, target: Target) -> dict[str, Any]:
  """Bytes of a device, as the compiler counts them."""
  parts = {
    'arguments': found.argument_size_in_bytes,
    'outputs': found.output_size_in_bytes - found.alias_size_in_bytes,
    'temporary': found.temp_size_in_bytes,
    'program': found.generated_code_size_in_bytes,
  }
  total, card = sum(parts.values()), target.card.memory
  return parts | {'total': total, 'card': card, 'fits': total <= card if card else None}


def _figures(
  read: Program, images: int, flops: float, target: Target, config: ConfigDict, program: str
) -> dict[str, Any]:
  limits = roofline(read.bytes, flops, target.card, config.model.dtype)
  others = [target.grid, *other_grids(target, config.mesh.fsdp)] if limits.step else []
  trains = program != EVALUATE
  kernels = sorted(read.kernels, key=lambda kernel: -kernel.bytes * kernel.times)
  return {
    'bytes_image': read.bytes / images,
    'kernels': {kind: {'number': n, 'bytes': x} for kind, (n, x) in read.by_kind().items()},
    'parts': read.parts(),
    'unknown_loops': read.unknown_loops,
    'collectives': {kind: {'number': n, 'bytes': x} for kind, (n, x) in read.sent().items()},
    'waiting': sum(item.times for item in read.collectives if item.waits),
    'each_collective': [
      dataclasses.asdict(item) | {'group': len(item.group)} for item in read.collectives
    ],
    'most_traffic': [dataclasses.asdict(kernel) for kernel in kernels[:_SHOWN]],
    'scatters': [
      dataclasses.asdict(kernel)
      for kernel in kernels
      if {'scatter', 'select-and-scatter'} & {*kernel.parts}
    ],
    'largest': [dataclasses.asdict(buffer) for buffer in read.peak[:_SHOWN]],
    'roofline': {
      'memory_seconds': limits.memory,
      'compute_seconds': limits.compute,
      'images_per_second': images / limits.step if limits.step else None,
    },
    'efficiency': [
      dataclasses.asdict(found)
      for found in _by_devices(
        [
          scaling(read.collectives, limits.step, target, config.mesh.fsdp, grid, trains)
          for grid in others
        ]
      )
    ],
  }


def _by_devices(found: list[Scaling]) -> list[Scaling]:
  """Sorted, one of each number; the first is of the program itself."""
  return sorted({item.devices: item for item in reversed(found)}.values(), key=lambda x: x.devices)


def main() -> None:
  """Takes the job's file, and the file for the record, or for what is wrong."""
  job, record = map(pathlib.Path, sys.argv[1:])
  try:
    found = compile_job(Job(**json.loads(job.read_text())))
  except UserError as error:
    record.write_text(json.dumps({'error': str(error)}))
    sys.exit(EXIT_BAD_INPUT)
  record.write_text(json.dumps(found))


if __name__ == '__main__':
  main()
