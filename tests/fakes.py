"""Small sources made in memory, and small prepared sets on disk."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtface.data.sources import Source
from mtface.tasks import get_task


def fake_source(
  name: str, size: int, tasks: dict[str, float], *, seed: int = 0, shape=(16, 16, 1)
) -> Source:
  """`size` noise images with random labels; `tasks` gives the share of samples that are labelled
  for each task.
  """
  rng = np.random.default_rng(seed)
  labels, mask = {}, {}
  for task, share in tasks.items():
    kind = get_task(task)
    labels[task] = rng.integers(
      0, 2 if kind.multi_label else kind.num_classes, (size, *kind.label_shape)
    ).astype(np.int32)
    known = np.arange(size) < round(share * size)
    mask[task] = np.broadcast_to(
      known.reshape(-1, *[1] * len(kind.label_shape)), labels[task].shape
    ).copy()
  images = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
  ids = np.array([f'{name}_{i:05d}' for i in range(size)])
  return Source(name, images, np.arange(size), ids, labels, mask)


def write_prepared(
  data_dir: str | os.PathLike,
  name: str,
  splits: Mapping[str, int],
  tasks: Mapping[str, float],
  *,
  seed: int = 0,
  shape=(16, 16, 1),
  subjects: int = 0,
  attributes: Mapping[str, tuple[Any, Callable[[int], Any]]] | None = None,
  shards: int | None = None,
  salt: str = '',
  draw: Callable[[str, int], Source] | None = None,
  encoded: bool = False,
) -> pathlib.Path:
  """Writes `data_dir`/`name`/1.0.0 as a builder would, with TFDS and the builders' own features;
  returns its folder.

  Args:
    data_dir: of prepared sets.
    name: SET/CONFIG.
    splits: split -> number of samples.
    tasks: the share of samples that are labelled for each task.
    seed: of pixels and labels; images differ between splits.
    shape: (H, W, C) of the images.
    subjects: how many people the images are shared among; 0: records carry no subject.
    attributes: name -> its feature, and what it is of the i-th sample.
    shards: number of files a split; None leaves it to TFDS.
    salt: TFDS orders records by a hash of their keys; another salt is another order.
    draw: makes the samples of (split, number of samples); None: `fake_source`.
    encoded: whether images are stored as JPEG; they must have three channels.
  """
  import tensorflow_datasets as tfds

  from tfds_builders.base import FaceConfig, encode_jpeg, face_features

  set_name, config_name = name.split('/')
  config = FaceConfig(name=config_name, size=shape[0], channels=shape[2], encoded=encoded)
  drawn = {
    split: draw(split, size)
    if draw
    else fake_source(split, size, tasks, seed=seed + i, shape=shape)
    for i, (split, size) in enumerate(splits.items())
  }

  features = {key: feature for key, (feature, _) in (attributes or {}).items()}
  more = {'subject': bool(subjects), 'attributes': features}

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set that is drawn, not read."""

    name = set_name
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = (config,)

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=face_features(config, list(tasks), **more)
      )

    def _split_generators(self, _):
      return {split: self._generate_examples(source) for split, source in drawn.items()}

    def _generate_examples(self, source):
      for i, image_id in enumerate(source.image_ids):
        image = encode_jpeg(source.images[i]) if encoded else source.images[i]
        record = {'image': image, 'image_id': str(image_id)}
        record |= {
          'labels': {get_task(t).kind: source.labels[t][i].astype(np.int64) for t in tasks},
          'mask': {get_task(t).kind: source.mask[t][i] for t in tasks},
        }
        record |= {'subject': f'person {i % subjects}'} if subjects else {}
        record |= (
          {'attributes': {key: value(i) for key, (_, value) in attributes.items()}}
          if attributes
          else {}
        )
        yield f'{image_id}{salt}', record

  tfds.disable_progress_bar()
  builder = Builder(config=config, data_dir=data_dir, file_format='array_record')
  download = tfds.download.DownloadConfig(num_shards=shards)
  builder.download_and_prepare(
    download_dir=pathlib.Path(data_dir) / 'downloads', download_config=download
  )
  return pathlib.Path(builder.data_dir)


def write_tiny(data_dir: str | os.PathLike, **form: Any) -> None:
  """Writes the sets of tests/tiny.py: 24 smiles and 40 people to train on, 12 and 20 to test on."""
  write_prepared(data_dir, 'tiny/smile', {'train': 24, 'test': 12}, {'smile': 1.0}, **form)
  write_prepared(
    data_dir, 'tiny/people', {'train': 40, 'test': 20}, {'gender': 0.75}, seed=7, **form
  )


def flip_bytes(path: pathlib.Path, at: float = 0.5) -> None:
  """Changes 16 bytes of a file, from this part of its length on."""
  data = bytearray(path.read_bytes())
  start = int(len(data) * at)
  data[start : start + 16] = bytes(255 - byte for byte in data[start : start + 16])
  path.write_bytes(data)


def flip_everywhere(path: pathlib.Path) -> None:
  """Changes every hundredth byte of a file, but for its head, by which a reader
  knows what it is.
  """
  data = bytearray(path.read_bytes())
  data[200::100] = bytes(255 - byte for byte in data[200::100])
  path.write_bytes(data)


def state_shapes(config: Any) -> Any:
  """The shapes and types of the training state of an experiment of one stage."""
  import jax

  from mtface.config.schema import outputs_of
  from mtface.models.network import abstract_network
  from mtface.training.optim import make_optimizer
  from mtface.training.state import new_state

  _, params, stats = abstract_network(config.model, outputs_of(config), config.image_shape)
  optimizer = make_optimizer(
    config.optimizer, 1, config.freeze.params
  )  # what it keeps does not depend on the steps
  return jax.eval_shape(lambda params, stats: new_state(params, stats, optimizer), params, stats)
