"""What a selection of checkpoints computes, as one function of images: from pixels to answers.

`mtface export` writes it for other programs. It can be saved to a folder as weights and
configuration, and read where only the networks' own libraries are installed: `convert.py` does, in
the environment of the converter.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mtface.config.imports import load_imports
from mtface.config.saved import with_defaults
from mtface.config.schema import outputs_of
from mtface.data.inputs import scale_images
from mtface.models.network import Network, abstract_network
from mtface.models.paths import Params, Stats
from mtface.models.platforms import without_choice
from mtface.models.weights import export_weights, import_weights

_FILE = 'program.json'
_LEAST = 1e-12  # as in mtface.evaluation.calibration, which needs more libraries

# As `mtface.inference.readout`, in JAX.
_READ: dict[str, Callable[[jax.Array], jax.Array]] = {
  'softmax': lambda scores: jax.nn.softmax(scores, axis=-1),
  'sigmoid': jax.nn.sigmoid,
  'margins': lambda scores: scores,
}


@dataclasses.dataclass(frozen=True)
class Part:
  """Networks of one run.

  Attributes:
    config: of the run, or of its stage.
    networks: parameters and statistics of each, NumPy.
  """

  config: ConfigDict
  networks: tuple[tuple[Params, Stats], ...]

  @functools.cached_property
  def network(self) -> Network:
    """The network, computed in float32 however it was trained."""
    model = self.config.model.copy_and_resolve_references()
    model.dtype = 'float32'
    return abstract_network(model, outputs_of(self.config), self.config.image_shape)[0]

  def answers(self, images: jax.Array) -> dict[str, jax.Array]:
    """{task: float32 [N, C]}: the mean of the networks' answers to images in [-1, 1]."""
    readout = self.network.outputs.readout
    return _mean(
      [
        {task: _READ[readout(task)](x) for task, x in self.network.scores(*of, images).items()}
        for of in self.networks
      ]
    )


@dataclasses.dataclass(frozen=True)
class Program:
  """Networks of one run, or of several that count alike.

  Attributes:
    parts: a run each; their images have the same shape.
    tasks: what is answered, in the order of the outputs.
    temperatures: {task: what its probabilities are calibrated by}, see `mtface calibrate`.
  """

  parts: tuple[Part, ...]
  tasks: tuple[str, ...]
  temperatures: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels."""
    height, width, channels = self.parts[0].config.image_shape
    return height, width, channels

  def answers(self, images: jax.Array) -> tuple[jax.Array, ...]:
    """Each task's probabilities (or margins, see `Outputs.readout`), float32 [N, C], of images,
    uint8 [N, H, W, C]; of XLA's own operators, on all platforms.
    """
    with without_choice():
      scaled = scale_images(images)
      said = _mean([part.answers(scaled) for part in self.parts])
      readout = self.parts[0].network.outputs.readout
      for task, temperature in self.temperatures.items():
        said[task] = _calibrated(said[task], temperature, readout(task))
    return tuple(said[task] for task in self.tasks)

  def save(self, folder: pathlib.Path) -> None:
    """Writes it into an empty folder."""
    parts = []
    for number, part in enumerate(self.parts):
      names = [f'{number}_{i}.safetensors' for i in range(len(part.networks))]
      for name, (params, stats) in zip(names, part.networks, strict=True):
        export_weights(params, stats, folder / name, part.config.model, format='mtface')
      parts.append({'config': part.config.to_dict(), 'networks': names})
    about = {'tasks': self.tasks, 'temperatures': dict(self.temperatures), 'parts': parts}
    (folder / _FILE).write_text(json.dumps(about))

  @classmethod
  def load(cls, folder: pathlib.Path) -> Program:
    """Reads what `save` wrote; modules of the user's own (`config.imports`) are imported.

    Raises:
      UserError: a module cannot be imported.
    """
    content = json.loads((folder / _FILE).read_text())
    parts = tuple(_read_part(folder, of) for of in content['parts'])
    return cls(parts, tuple(content['tasks']), content['temperatures'])


def _read_part(folder: pathlib.Path, content: Any) -> Part:
  config = ConfigDict(content['config'])
  load_imports(config.imports)
  config = with_defaults(config)
  outputs = outputs_of(config)
  found = [
    import_weights(folder / name, config.model, outputs, config.image_shape)
    for name in content['networks']
  ]
  return Part(config, tuple((of.params, of.stats) for of in found))


def _calibrated(probabilities: jax.Array, temperature: float, readout: str) -> jax.Array:
  """As `mtface.evaluation.calibration.with_temperature`: their scores, divided."""
  scores = jnp.log(jnp.maximum(probabilities, _LEAST))
  if readout == 'sigmoid':
    scores = scores - jnp.log(jnp.maximum(1 - probabilities, _LEAST))
  return _READ[readout](scores / temperature)


def _mean(said: Sequence[dict[str, jax.Array]]) -> dict[str, jax.Array]:
  if len(said) == 1:
    return said[0]
  common = [task for task in said[0] if all(task in of for of in said)]
  return {
    task: functools.reduce(operator.add, [of[task] for of in said]) / len(said) for task in common
  }
