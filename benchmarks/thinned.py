"""Prepared sets of the papers' sizes whose pictures are all one small JPEG: for what grows with the
number of faces, not with their pixels.

    python -m benchmarks.thinned --data_dir=... vggface2/rgb224 train=3067564 test=243722

The records have the form that the set's builder declares, made-up labels, subjects and ids in equal
shares, and a picture of a few hundred bytes. Nothing can be learnt from them.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Mapping

import cv2
import numpy as np

from mtface.data.build import find_builder
from mtface.faces.crop import encode_jpeg
from mtface.progress import progress
from mtface.tasks import get_task
from tfds_builders.records import RecordForm
from tfds_builders.summary import Face

SHARD = 200_000  # records


def write(
  name: str,
  splits: dict[str, int],
  data_dir: pathlib.Path,
  pixels: Mapping[str, np.ndarray] | None = None,
) -> pathlib.Path:
  """Writes `data_dir`/`name`/VERSION; returns the folder.

  Args:
    name: SET/CONFIG.
    splits: split -> number of records.
    data_dir: of prepared sets.
    pixels: split -> uint8 [N, H, W, C], for sets that store pixels as they are; None: one picture
      for all records.
  """
  from array_record.python.array_record_module import ArrayRecordWriter

  builder_class, config = find_builder(name)
  builder = builder_class(config=config, data_dir=data_dir)
  folder = pathlib.Path(builder.data_dir)
  folder.mkdir(parents=True)
  infos = []
  for split, count in splits.items():
    shards = [min(SHARD, count - first) for first in range(0, count, SHARD)]
    records = _records(builder, split, count, (pixels or {}).get(split))
    for i, of_shard in enumerate(shards):
      path = folder / f'{builder.name}-{split}.array_record-{i:05d}-of-{len(shards):05d}'
      writer = ArrayRecordWriter(str(path), 'group_size:1')
      for _ in range(of_shard):
        writer.write(next(records))
      writer.close()
    infos.append({'name': split, 'shardLengths': [str(n) for n in shards], 'numBytes': '0'})
  builder.info.features.save_config(str(folder))
  head = {
    'name': builder.name,
    'version': str(builder.version),
    'configName': builder.builder_config.name,
  }
  (folder / 'dataset_info.json').write_text(
    json.dumps(head | {'fileFormat': 'array_record', 'splits': infos})
  )
  return folder


def _records(builder, split, count, pixels=None):
  """Serialised records: one is made by TFDS, and its id, subject and labels are changed."""
  from tensorflow_datasets.proto import tf_example_pb2

  tasks = [get_task(name) for name in builder.task_names()]
  features = builder.info.features
  attributes = {key: _blank(feature) for key, feature in builder.attributes().items()}
  picture = np.full(builder.builder_config.shape, 128, np.uint8)
  image = encode_jpeg(picture) if builder.builder_config.encoded else picture
  labels = {task.kind: np.zeros(task.label_shape, int) if task.multi_label else 0 for task in tasks}
  form = RecordForm(
    builder.name,
    tuple(builder.task_names()),
    builder.HAS_SUBJECT,
    builder.HAS_LANDMARKS,
    tuple(attributes),
  )
  face = Face('id', image, labels=labels, subject='nobody', attributes=attributes)
  example = tf_example_pb2.Example.FromString(features.serialize_example(form.record(face)))
  fields = example.features.feature
  stored, encoded = fields['image'].bytes_list.value[0], builder.builder_config.encoded
  for i in progress(range(count), f'{builder.name} {split}', total=count):
    image_id = f'{split}/{i:07d}'.encode()
    fields['image_id'].bytes_list.value[0] = image_id
    fields['image'].bytes_list.value[0] = (
      stored + image_id * encoded
    )  # behind the end of the JPEG: copies would stay together
    if builder.HAS_SUBJECT:
      fields['subject'].bytes_list.value[0] = f'{split} {i % 9131:05d}'.encode()
    if pixels is not None:
      fields['image'].bytes_list.value[0] = pixels[i].tobytes()
    for task in tasks:
      if not task.multi_label:
        fields[f'labels/{task.kind}'].int64_list.value[0] = i % task.num_classes
    yield example.SerializeToString()


def _blank(feature):
  """A value of a feature that says nothing."""
  dtype = np.dtype(feature.np_dtype)
  return '' if dtype.kind == 'O' else np.zeros(feature.shape, dtype)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--data_dir', type=pathlib.Path, required=True)
  parser.add_argument('name', help='SET/CONFIG')
  parser.add_argument('splits', nargs='+', help='SPLIT=COUNT')
  options = parser.parse_args()
  cv2.setNumThreads(1)
  splits = {
    split: int(count) for split, _, count in (item.partition('=') for item in options.splits)
  }
  print(write(options.name, splits, options.data_dir))


if __name__ == '__main__':
  main()
