"""A small exported file in the form of `mtface export --format=onnx`: linear in the pixels."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mtface.faces.cropping import Crop
from mtface.tasks import get_task

TASKS = ('smile', 'emotion7', 'gender', 'age_years', 'action_units')


def metadata(crop: Crop) -> dict[str, Any]:
  entries = [
    {
      'name': task.name,
      'output': task.name,
      'kind': task.kind,
      'classes': list(task.classes),
      'readout': 'sigmoid' if task.multi_label else 'softmax',
    }
    for task in map(get_task, TASKS)
  ]
  return {
    'format': 1,
    'version': '0',
    'tasks': entries,
    'image': {'shape': list(crop.shape)},
    'crop': crop.to_json(),
    'run': {'workdir': 'drawn', 'checkpoint': 'last'},
  }


def write(path: pathlib.Path, crop: Crop) -> pathlib.Path:
  """Writes a file whose weights are drawn, so that all classes have some probability."""
  rng = np.random.default_rng(0)
  pixels = int(np.prod(crop.shape))
  nodes = [
    helper.make_node('Cast', ['image'], ['cast'], to=TensorProto.FLOAT),
    helper.make_node('Flatten', ['cast'], ['flat']),
    helper.make_node('Sub', ['flat', 'middle'], ['centred']),
  ]
  constants = {'middle': np.float32(127.5)}
  outputs = []
  for task in map(get_task, TASKS):
    weights = rng.normal(0, 0.045 / np.sqrt(pixels), (pixels, task.num_classes))
    constants[f'{task.name}_weights'] = weights.astype(np.float32)
    readout = 'Sigmoid' if task.multi_label else 'Softmax'
    nodes += [
      helper.make_node('MatMul', ['centred', f'{task.name}_weights'], [f'{task.name}_scores']),
      helper.make_node(readout, [f'{task.name}_scores'], [task.name]),
    ]
    shape = ['N', task.num_classes]
    outputs.append(helper.make_tensor_value_info(task.name, TensorProto.FLOAT, shape))
  image = helper.make_tensor_value_info('image', TensorProto.UINT8, ['N', *crop.shape])
  arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
  graph = helper.make_graph(nodes, 'drawn', [image], outputs, arrays)
  model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
  entry = model.metadata_props.add()
  entry.key, entry.value = 'mtface', json.dumps(metadata(crop))
  onnx.save(model, path)
  return path
