"""`mtface export`: a trained network in a file that other programs run, checked and measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import numpy as np

from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluator import Evaluator
from mtface.files import local_path, replaced
from mtface.inference.views import without_views
from mtface.publish import contract, measured, onnx_file, precision, stablehlo_file
from mtface.publish.onnx_model import OnnxModel
from mtface.publish.program import Part, Program
from mtface.publish.weights import PROGRAMS

TIMED = (1, 32)  # images of a batch
# What a format needs beside mtface: the extra `export`.
LIBRARIES = {'onnx': ('onnx', 'onnxruntime'), 'stablehlo': ('flatbuffers',)}


@dataclasses.dataclass(frozen=True)
class Exported:
  """A file that was written.

  Attributes:
    path: where it is.
    about: its metadata, see `contract.about`.
    megabytes: its size in 10^6 bytes.
    milliseconds: {images: of a batch of so many}, on the machine that wrote it.
    runtime: what ran it.
  """

  path: pathlib.Path
  about: dict[str, Any]
  megabytes: float
  milliseconds: dict[int, float]
  runtime: str

  def report(self) -> str:
    """What a user wants to know, in lines."""
    check, form = self.about['check'], self.about['precision']
    tasks = ', '.join(f'{of["name"]} ({len(of["classes"])})' for of in self.about['tasks'])
    times = ', '.join(f'{ms:.1f} ms for {n}' for n, ms in self.milliseconds.items())
    lines = [
      f'{self.path}: {self.megabytes:.2f} MB, {form["name"]}; {tasks}',
      f'largest difference from the run: {check["largest_difference"]:.1e} ({check["images"]} '
      f'{check["of"]})',
      f'time: {times} (images; {self.runtime})',
    ]
    if cost := form.get('cost'):
      lines += ['', _cost_table(cost, form['name'])]
    return '\n'.join(lines)


def _cost_table(rows: list[dict[str, Any]], name: str) -> str:
  lines = [f'| set | task | faces | figure | float32 | {name} | difference |', '|' + '---|' * 7]
  for row in rows:
    whole_, small = row['float32'], row[name]
    lines.append(
      f'| {row["set"]} | {row["task"]} | {row["n"]} | {row["figure"]} | {whole_:.4f} | {small:.4f} '
      f'| {small - whole_:+.4f} |'
    )
  return '\n'.join(lines)


def export_program(
  workdir: str | os.PathLike,
  data_dir: str | os.PathLike,
  checkpoint: str,
  path: str | os.PathLike,
  *,
  format: str,
  stage: str = '',
  to_precision: str = 'float32',
  calibrated: bool = False,
  converter: str = '',
) -> Exported:
  """Writes what a selection of checkpoints computes, from uint8 pixels to probabilities.

  Args:
    workdir: the run's folder.
    data_dir: of the prepared sets. The file is checked on images of the run's evaluation sets,
      where they are there; `average:K` and int8 read its training sets.
    checkpoint: last, best, STEP, average:K, ensemble:K, also with other runs that see faces in the
      same way (`mtface.evaluation.chosen`).
    path: the file to write: whole, or not at all.
    format: one of `weights.PROGRAMS`.
    stage: a stage of the run; '' is the last one.
    to_precision: one of `precision.PRECISIONS`; others than float32 are for ONNX.
    calibrated: apply the temperatures that `mtface calibrate` fitted to this selection.
    converter: see `onnx_file.converter`.

  Raises:
    UserError: there is no such run, checkpoint, temperature, folder or format; the networks see
      faces in several ways; a library is missing; the file's answers are not those of the run; or
      it cannot be written.
  """
  path = local_path(path)
  _check(path, format, to_precision)
  python = _ready(format, converter)
  evaluator = Evaluator(workdir, data_dir, stage)
  chosen = Chosen(checkpoint, evaluator, data_dir, calibrated=calibrated)
  without_views(checkpoint, chosen.views, 'a file answers of one image at a time')
  crop = contract.crop_of(chosen)
  outputs = contract.output_names(chosen.tasks)
  job = _Job(chosen, outputs, contract.about(chosen, outputs, crop), measured.make_check(chosen))
  with replaced(path) as partial:
    partial.touch()  # what cannot be written is told before the converter's minute
    if format == 'onnx':
      model: measured.Model = _write_onnx(job, partial, python, to_precision)
    else:
      model = _write_stablehlo(job, partial)
    times = {n: measured.milliseconds(model, job.check.batch(n)) for n in TIMED}
    size = partial.stat().st_size / 1e6
  runtime = 'onnxruntime' if format == 'onnx' else f'JAX on {jax.default_backend()}'
  return Exported(path, job.about, size, times, runtime)


@dataclasses.dataclass(frozen=True)
class _Job:
  """What is written: the networks, {task: output}, the metadata as far as they are known, and
  what the file is compared with.
  """

  chosen: Chosen
  outputs: dict[str, str]
  about: dict[str, Any]
  check: measured.Check

  @property
  def program(self) -> Program:
    """The networks as a function."""
    parts = [
      Part(of.config, tuple(jax.tree.map(np.asarray, network) for network in networks))
      for of, networks in zip(self.chosen.evaluators, self.chosen.networks, strict=True)
    ]
    return Program(tuple(parts), tuple(self.chosen.tasks), self.chosen.temperatures)

  def note(self, difference: float, form: dict[str, Any]) -> None:
    """Adds to the metadata what was found."""
    self.about['check'] = {
      'images': len(self.check.images),
      'of': self.check.of,
      'largest_difference': difference,
    }
    self.about['precision'] = form

  def compared(self, model: measured.Model) -> float:
    """The largest difference of a file in float32, which rounding explains."""
    difference = self.check.difference(model)
    limit = max(measured.LIMITS[of.config.model.dtype] for of in self.chosen.evaluators)
    if not difference <= limit:  # also of NaN
      raise UserError(
        f'--checkpoint={self.chosen.text}: the file would differ from the run by {difference:.1e} '
        f'({len(self.check.images)} {self.check.of}); expected at most {limit:.0e}, so it is not '
        'written; please report the config'
      )
    return difference


def _write_onnx(job: _Job, path: pathlib.Path, python: str, to_precision: str) -> measured.Model:
  onnx_file.convert(job.program, job.outputs, python, path)
  onnx_file.write_about(path, job.about)
  difference = job.compared(OnnxModel(path))
  form: dict[str, Any] = {'name': 'float32'}
  if to_precision != 'float32':
    form = _make_smaller(job, path, to_precision)
    difference = job.check.difference(OnnxModel(path))
  job.note(difference, form)
  onnx_file.write_about(path, job.about)
  return OnnxModel(path)


def _make_smaller(job: _Job, path: pathlib.Path, to_precision: str) -> dict[str, Any]:
  """Replaces a float32 file by a smaller one; returns what the metadata say of it."""
  form: dict[str, Any] = {'name': to_precision}
  sets = measured.evaluation_sets(job.chosen)
  with tempfile.TemporaryDirectory() as folder:
    small = pathlib.Path(folder) / 'small.onnx'
    if to_precision == 'int8':
      images = precision.calibration_images(job.chosen)
      form['calibration'] = {'images': len(images), 'of': 'training sets'}
      precision.to_int8(path, small, images)
    else:
      precision.to_float16(path, small)
    onnx_file.write_about(small, job.about)
    models = OnnxModel(path), OnnxModel(small)
    form['cost'] = [
      before | {'float32': before.pop('value'), to_precision: after['value']}
      for name, source in sets.items()
      for before, after in zip(
        *(measured.accuracy(model, job.chosen, name, source) for model in models), strict=True
      )
    ]
    shutil.copyfile(small, path)
  return form


def _write_stablehlo(job: _Job, path: pathlib.Path) -> measured.Model:
  stablehlo_file.write(job.program, job.outputs, path)
  model = stablehlo_file.StableHloModel(path, job.outputs)
  job.note(job.compared(model), {'name': 'float32'})
  stablehlo_file.write_about(path, job.about)
  return model


def _check(path: pathlib.Path, format: str, to_precision: str) -> None:
  if format not in PROGRAMS:
    raise UserError(f'--format={format}: unknown format; expected {", ".join(PROGRAMS)}')
  if path.suffix != f'.{format}':
    raise UserError(f'--to={path}: --format={format} writes a file whose name ends in .{format}')
  if not path.parent.is_dir():
    raise UserError(f'--to={path}: the folder {path.parent} does not exist')
  if to_precision != 'float32' and format != 'onnx':
    raise UserError(f'--{to_precision}: --format={format} is float32; use --format=onnx')


def _ready(format: str, converter: str) -> str:
  """Whether all is there, before the first minute is spent; the Python of the converter."""
  missing = [name for name in LIBRARIES[format] if not importlib.util.find_spec(name)]
  if missing:
    raise UserError(
      f"--format={format}: {' and '.join(missing)} not installed; pip install 'mtface[export]'"
    )
  return onnx_file.converter(converter) if format == 'onnx' else ''
