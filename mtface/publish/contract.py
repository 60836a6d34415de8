"""What an exported file says of itself: tasks, classes, readouts, crop, and where it is from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from mtface.config.saved import CONFIG_FILE, read_content, versions
from mtface.data.crops import crop_of_run
from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.faces.cropping import Crop
from mtface.publish.onnx_model import FORMAT, INPUT
from mtface.tasks import Task


def output_names(tasks: Iterable[str]) -> dict[str, str]:
  """{task: its output's name}: the task's own, of letters, digits and _ as ONNX wants it, each
  once.
  """
  taken, found = {INPUT}, {}
  for task in tasks:
    name = re.sub(r'\W', '_', task)
    while name in taken:
      name += '_'
    taken.add(name)
    found[task] = name
  return found


def crop_of(chosen: Chosen) -> Crop:
  """The one crop of all networks of a selection.

  Raises:
    UserError: runs see a face cut out in several ways, which no single input can be, or images are
      not square.
  """
  crops = list(dict.fromkeys(crop_of_run(of.config).crop for of in chosen.evaluators))
  if len(crops) > 1:
    raise UserError(
      f'--checkpoint={chosen.text}: these runs see a face cut out in {len(crops)} ways, and an '
      'exported file has one input; export each run to a file of its own and average what they say'
    )
  return crops[0]


def about(chosen: Chosen, outputs: dict[str, str], crop: Crop) -> dict[str, Any]:
  """The metadata of a selection's file, as JSON holds it.

  Args:
    chosen: the selection.
    outputs: {task: the name of its output}.
    crop: how a photograph becomes its input.

  Returns: `format`; `version` of mtface; `tasks`: of each its `name`, `output`, `kind` (the
    name, but identity for identity:158), `classes`, `readout` (softmax, sigmoid, margins),
    `multi_label`, `values` (years of each class, or null) and `top` (an age is the mean of so many
    of the most probable years); `image`: `input`, `shape` [H, W, C], `type`, `range`; `crop`
    (`Crop.to_json`); `run`.
  """
  own = chosen.evaluators[0]
  entries = own.config.tasks
  tasks = [
    _task(
      task, outputs[name], own.outputs.readout(name), entries[name].top if name in entries else 1
    )
    for name, task in chosen.tasks.items()
  ]
  form = {'input': INPUT, 'shape': list(crop.shape), 'type': 'uint8', 'range': [0, 255]}
  return {
    'format': FORMAT,
    'version': versions()['mtface'],
    'tasks': tasks,
    'image': form,
    'crop': crop.to_json(),
    'run': _run(chosen),
  }


def _task(task: Task, output: str, readout: str, top: int) -> dict[str, Any]:
  return {
    'name': task.name,
    'output': output,
    'kind': task.kind,
    'classes': list(task.classes),
    'readout': readout,
    'multi_label': task.multi_label,
    'values': task.values and list(task.values),
    'top': top,
  }


def _run(chosen: Chosen) -> dict[str, Any]:
  """Which networks these are, and on what they were trained; no path but the folders' names."""
  own = chosen.evaluators[0]
  head = chosen.head()
  return {
    'name': own.config.name,
    'workdir': [of.workdir.absolute().name for of in chosen.evaluators],
    'checkpoint': re.sub(r'[^+]*/', '', chosen.text),
    'steps': head['steps'],
    'checksums': head['checksums'],
    'stage': own.stage,
    'temperatures': chosen.temperatures,
    'data': _fingerprints(chosen),
    'versions': versions(),
  }


def _fingerprints(chosen: Chosen) -> dict[str, str]:
  """{source: fingerprint of its split} of all runs, as they were noted in training."""
  found: dict[str, str] = {}
  for of in chosen.evaluators:
    noted = read_content(of.workdir / CONFIG_FILE).get('data', {}).get(of.stage, {})
    found |= {name: entry['fingerprint'] for name, entry in noted.items()}
  return found
