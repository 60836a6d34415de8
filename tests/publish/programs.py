"""Programs of small networks with drawn weights, of every family, and what NumPy makes of their
scores.
"""

import functools
import json

import jax
import numpy as np
from ml_collections import ConfigDict

from mtface.config.schema import experiment, model, outputs_of, task
from mtface.data.inputs import scale_images
from mtface.inference.readout import comparable
from mtface.models.network import abstract_network
from mtface.publish.program import Part, Program

FAMILIES = {
  'bknet': ('bknet', (16, 16, 1), {'width': 1 / 4}),
  'mbknet': ('bknet', (16, 16, 1), {'width': 1 / 4, 'join': True}),
  'resnet': ('resnet', (12, 12, 3), {'depth': 8, 'width': 0.25}),
  'resnet_v2': ('resnet', (9, 9, 3), {'depth': 8, 'width': 0.25, 'version': 'v2', 'branch': (8,)}),
  'vgg': ('vgg', (32, 32, 3), {'width': 0.02, 'input': 'vggface'}),
  'mobilenet': ('mobilenet', (32, 32, 3), {'width': 0.2, 'input': 'caffe'}),
  'efficientnet': ('efficientnet', (32, 32, 3), {'width': 0.1, 'depth': 0.1, 'age_hidden': (8,)}),
  'rexnet': ('rexnet', (33, 33, 3), {'width': 0.1, 'input': 'imagenet'}),
}
# A softmax, with emotion7 for a view; a sigmoid of each class; ages.
COUNT = 5  # images
TASKS = ('emotion8', 'action_units', 'age_years')


def config_of(family, *, layer='heads', loss='softmax_cross_entropy', tasks=TASKS):
  name, shape, fields = FAMILIES[family]
  config = experiment()
  for of in tasks:
    config.tasks[of] = task()
  if 'action_units' in tasks:
    config.tasks.action_units.loss = 'sigmoid_cross_entropy'
  config.tasks[tasks[0]].loss = loss
  config.outputs.layer = layer
  config.image_shape = shape
  config.model = model(name, **fields)
  return config


def drawn(config, seed=0):
  """(parameters, statistics), whose scores are of the size of trained ones."""
  _, params, stats = abstract_network(config.model, outputs_of(config), config.image_shape)
  rng = np.random.default_rng(seed)

  def draw(path, x):
    inputs = max(int(np.prod(x.shape[:-1])), 1)
    spread = np.sqrt(2 / inputs) if len(x.shape) > 1 else 0.2
    middle = 1 if path[-1].key in ('scale', 'var') else 0
    return np.maximum(rng.normal(middle, spread, x.shape), middle - 0.5).astype(np.float32)

  return (
    jax.tree_util.tree_map_with_path(draw, params),
    jax.tree_util.tree_map_with_path(draw, stats),
  )


def program_of(config, seeds=(0,)):
  part = Part(config, tuple(drawn(config, seed) for seed in seeds))
  return Program((part,), tuple(outputs_of(config).answered))


def expected(config, seeds=(0,)):
  """{task: [COUNT, C]} of `images_of`: the mean over networks of the scores' readout in NumPy."""
  return _expected(config.to_json_best_effort(sort_keys=True), seeds)


@functools.cache  # compiling takes longest
def _expected(text, seeds):
  config = ConfigDict(json.loads(text))
  images = images_of(config)
  network = abstract_network(config.model, outputs_of(config), config.image_shape)[0]
  scores = jax.jit(network.scores)
  read = [
    comparable(
      jax.tree.map(np.asarray, scores(*drawn(config, seed), scale_images(images))),
      network.outputs.readout,
    )
    for seed in seeds
  ]
  return {task: np.mean([of[task] for of in read], axis=0) for task in read[0]}


def images_of(config):
  rng = np.random.default_rng(3)
  light = rng.integers(20, 200, (COUNT, 1, 1, 1))
  return (light + rng.integers(-20, 56, (COUNT, *config.image_shape))).astype(np.uint8)
