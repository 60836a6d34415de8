"""mtface's side of the comparisons. All that benchmarks know of its networks, steps and loaders is
here (and in `save_stall.py`).

Options are those of `networks.spec`; with `plain`, the program is XLA's own operators alone, as a
loop with Flax would have it.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks.networks import L2, MOMENTUM, RATE
from benchmarks.pixels import SIZES, TINY_SIZES, batch, faces
from benchmarks.work import Arrays, Work
from mtface.config.schema import experiment, model, outputs_of, task, tasks_of
from mtface.data.loader import BatchSource, DrawSource, load_batches
from mtface.data.mixing import make_mixture
from mtface.data.sources import Source
from mtface.inference.runner import Scorer
from mtface.models.network import abstract_network, make_network
from mtface.models.paths import by_path, is_batch_norm
from mtface.models.platforms import without_choice
from mtface.models.weights import export_weights
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.tasks import get_task
from mtface.training.loop import jit_state_step
from mtface.training.optim import make_optimizer
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally

# Network -> its options that are not `width`.
_MODELS: dict[str, dict[str, Any]] = {
  'bknet': {'init': 'he'},
  'efficientnet': {'drop_path': 0.0},
  'mobilenet': {},
  'rexnet': {'drop_path': 0.0},
}


def config_of(of: dict[str, Any], **fields: Any) -> ConfigDict:
  """The experiment of a `networks.spec`: Sang 2017's optimiser and losses, no augmentation."""
  config = experiment()
  for name in of['tasks']:
    config.tasks[name] = task()
  changes = {'width': of['width'], **_MODELS[of['name']], **fields}
  config.model = model(of['name'], **changes, **({'join': True} if of.get('join') else {}))
  config.image_shape, config.batch_size = tuple(of['image']), of['batch']
  config.augment.pad, config.augment.flip, config.augment.rotate = 0, False, 0.0
  config.optimizer.rate, config.optimizer.momentum, config.loss.l2 = RATE, MOMENTUM, L2
  return config


def _weights(of: dict[str, Any]) -> tuple[ConfigDict, Any, Any, Any]:
  """(config, network, parameters, statistics), written for the other contestants if nobody has."""
  config = config_of(of)
  made = make_network(config.model, outputs_of(config), config.image_shape, config.seed)
  network, params, stats = made
  path = pathlib.Path(of['weights'])
  if not path.exists():
    other = of.get('format', 'mtface')
    classifier = None if other == 'mtface' else of['tasks'][0]
    export_weights(params, stats, path, config.model, format=other, classifier=classifier)
  return config, network, params, stats


def _counted(params: Any) -> int:
  """Parameters of all layers, as PyTorch counts them."""
  return sum(x.size for x in jax.tree.leaves(params))


def _operators(of: dict[str, Any]) -> Any:
  return without_choice() if of.get('plain') else contextlib.nullcontext()


# --- Training -----------------------------------------------------------------------------------


class _Training:
  """A compiled step, its state, and one batch on the devices."""

  def __init__(self, of: dict[str, Any], optimizer: Any = None, **fields: Any):
    config, mesh = config_of(of, **fields), make_mesh()
    tasks = tasks_of(config)
    network, params, stats = make_network(
      config.model, outputs_of(config), config.image_shape, config.seed
    )
    optimizer = optimizer or make_optimizer(config.optimizer, 10**6)
    self.state = place(new_state(params, stats, optimizer), everywhere(mesh))
    self.empty = place(new_tally(tasks), everywhere(mesh))
    host = batch(of['batch'], of['image'], of['tasks'])
    self._batch = next(to_devices(iter([host]), mesh))
    step = make_step(network, optimizer, tasks, config, {})
    self._step = jit_state_step(step, mesh, everywhere(mesh))
    self._operators = lambda: _operators(of)

  def dispatch(self, batch: Any) -> Any:
    """The tally of a step under way."""
    with self._operators():
      self.state, tally = self._step(self.state, self.empty, batch)
    return tally

  def run(self, steps: int) -> Any:
    """The tally of the last of so many steps."""
    for _ in range(steps):
      tally = self.dispatch(self._batch)
    return jax.block_until_ready(tally)


def training(of: dict[str, Any]) -> Work:
  """Steps of training on one batch: loss, gradients, optimiser, and the counts of the log."""
  _, _, params, _ = _weights(of)
  run = _Training(of)
  run.run(1)  # compiles
  return Work(run.run, lambda: _gradients(of), {'parameters': _counted(params)})


def _gradients(of: dict[str, Any]) -> Arrays:
  """The loss, and its gradients by our paths: what a step of plain descent at a rate of 1 takes
  away, without dropout.
  """
  run = _Training(of, optax.sgd(1.0), dropout=0.0)
  before = {name: np.array(x) for name, x in by_path(run.state.params).items()}
  tally = run.run(1)
  after = by_path(run.state.params)
  found = {name: x - np.asarray(after[name]) for name, x in before.items()}
  # The penalty is much of a gradient and easily right: distances are shares of the rest.
  rest = [x - 2 * L2 * before[name] * (x.ndim > 1) for name, x in found.items()]
  length = np.sqrt(sum(np.sum(np.square(x, dtype=float)) for x in rest))
  gradients = {f'gradients/{name}': x for name, x in found.items()}
  return {'loss': np.asarray(tally.loss), 'scale/gradients': length, **gradients}


def training_alone(of: dict[str, Any]) -> Work:
  """The same where contestants are not meant to compute the same."""
  work = training(of)
  return Work(work.run, facts=work.facts | {'flops': _scoring_flops(of)})


def training_in_turn(of: dict[str, Any]) -> Work:
  """A network for each task, one after the other."""
  return _in_turn(training_alone, of)


def _in_turn(make: Callable[[dict[str, Any]], Work], of: dict[str, Any]) -> Work:
  works = [make({**of, 'tasks': [t], 'weights': f'{of["weights"]}.{t}'}) for t in of['tasks']]

  def run(steps: int) -> None:
    for work in works:
      work.run(steps)

  return Work(run, facts={key: sum(x.facts[key] for x in works) for key in works[0].facts})


# --- Inference ----------------------------------------------------------------------------------


def inference(of: dict[str, Any]) -> Work:
  """Scores of uint8 images in memory, back in memory."""
  _, network, params, stats = _weights(of)
  images = batch(of['batch'], of['image'], of['tasks'])['image']
  scorer = Scorer(network, make_mesh(), of['batch'])
  networks = [jax.device_put((params, stats))]

  def once() -> dict[str, np.ndarray]:
    with _operators(of):
      return scorer.of_images(networks, images, of['batch'])[0]

  def run(steps: int) -> None:
    for _ in range(steps):
      once()

  def scores() -> Arrays:
    found = once()  # of eight emotions, also those of seven
    return {f'scores/{task}': found[task] for task in of['tasks']}

  run(1)  # compiles
  kernels = sum(x.size for name, x in by_path(params).items() if not is_batch_norm(name))
  facts = {
    'parameters': _counted(params),
    'without_norms': kernels,
    'trunk': _counted(params.get('trunk', params)),
  }
  return Work(run, scores, facts)


def inference_alone(of: dict[str, Any]) -> Work:
  """The same where contestants are not meant to compute the same."""
  work = inference(of)
  return Work(work.run, facts=work.facts | {'flops': _scoring_flops(of)})


def inference_in_turn(of: dict[str, Any]) -> Work:
  """A network for each task, one after the other."""
  return _in_turn(inference_alone, of)


def _scoring_flops(of: dict[str, Any]) -> float:
  """Of scoring one image, as XLA counts them in its own operators."""
  config = config_of(of)
  network, *shapes = abstract_network(config.model, outputs_of(config), config.image_shape)
  images = jax.ShapeDtypeStruct((1, *config.image_shape), np.float32)
  with without_choice():
    return float(jax.jit(network.scores).lower(*shapes, images).cost_analysis()['flops'])


# --- Loading ------------------------------------------------------------------------------------


def sources(tiny: bool, image: Any = (48, 48, 1), count: int = 3) -> list[Source]:
  """Sources in memory of the sizes of real sets; more than three repeat the last one's size."""
  sizes = dict(TINY_SIZES if tiny else SIZES)
  for i in range(len(sizes), count):
    sizes[f'further{i}'] = sizes['utkface']
  found = []
  for of in faces(dict(list(sizes.items())[:count]), image):
    rows = np.arange(len(of.images))
    mask = np.ones(len(rows), bool)
    ids = rows.astype(str)
    found.append(Source(of.name, of.images, rows, ids, {of.task: of.labels}, {of.task: mask}))
  return found


def stand_ins(config: ConfigDict) -> list[Source]:
  """Random pixels and labels in the shape of a config's sources."""
  rng, found = np.random.default_rng(0), []
  for name, entry in config.sources.items():
    size = SIZES.get(name, 10000)
    images = rng.integers(0, 256, (size, *config.image_shape), dtype=np.uint8)
    labels = {
      t: rng.integers(0, get_task(t).num_classes, size).astype(np.int32) for t in entry.tasks
    }
    mask = {t: np.ones(size, bool) for t in entry.tasks}
    found.append(Source(name, images, np.arange(size), np.arange(size).astype(str), labels, mask))
  return found


def loading(of: dict[str, Any]) -> Work:
  """Batches as training gets them: drawn by the mixture, gathered, and put on the devices. Options:
  batch, tiny, sources; `up_to`: 'host', batches in the host's memory alone; 'drawn', the numbers of
  their samples on the devices, for images that lie there (`config.store=device`).
  """
  mixed, up_to = sources(of['tiny'], count=of.get('sources', 3)), of.get('up_to', 'devices')
  mixture = make_mixture('equal', mixed, seed=0, batch_size=of['batch'])
  make = DrawSource if up_to == 'drawn' else BatchSource
  batches = load_batches(make(mixed, mixture, of['batch']), 0, 10**9)
  if up_to != 'host':
    batches = to_devices(batches, make_mesh())

  def run(steps: int) -> None:
    for _ in range(steps):
      batch = next(batches)
      if up_to != 'host':
        jax.block_until_ready(batch)

  return Work(run)


class Loop:
  """The training loop without its log: a state, a step, and a batch of its own for each.

  Attributes:
    state: of training.
    steps: how many were made.
  """

  def __init__(self, of: dict[str, Any], mixed: list[Source]):
    self._training, self.steps = _Training(of), 0
    mixture = make_mixture('equal', mixed, seed=0, batch_size=of['batch'])
    source = BatchSource(mixed, mixture, of['batch'])
    self._batches = to_devices(load_batches(source, 0, 10**9), make_mesh())
    self._before = self._after = self._training.empty

  @property
  def state(self) -> Any:
    return self._training.state

  def step(self) -> None:
    """Dispatches a step, and waits for the one before it."""
    self._before, self._after = self._after, self._training.dispatch(next(self._batches))
    jax.block_until_ready(self._before)
    self.steps += 1

  def wait(self) -> None:
    """For the last step."""
    jax.block_until_ready(self._after)


def loaded_training(of: dict[str, Any]) -> Work:
  """Steps of training, each on a batch of its own from the loader: options of a network, and
  `sources`, how many.
  """
  loop = Loop(of, sources(of['width'] < 1, count=of['sources']))

  def run(steps: int) -> None:
    for _ in range(steps):
      loop.step()
    loop.wait()

  run(1)  # compiles
  return Work(run)
