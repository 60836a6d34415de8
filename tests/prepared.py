"""Builds a set in a test and reads it back, through TFDS alone."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import tensorflow_datasets as tfds

from mtface.data.build import build


def build_set(
  name: str, manual_dir: pathlib.Path, data_dir: pathlib.Path, **kwargs: Any
) -> pathlib.Path:
  """Builds in this process unless `workers` says otherwise: tiny sets are done before a worker has
  started.
  """
  return build(name, data_dir=data_dir, manual_dir=manual_dir, **{'workers': 1, **kwargs})


def read_records(path: pathlib.Path, split: str = 'all') -> list[dict[str, Any]]:
  """The records in their order; text as str."""
  records = list(tfds.builder_from_directory(path).as_data_source(split))
  return [{**record, 'image_id': record['image_id'].decode()} for record in records]


def by_id(path: pathlib.Path, split: str = 'all') -> dict[str, dict[str, Any]]:
  """The records by image_id, which must not repeat."""
  records = read_records(path, split)
  found = {record['image_id']: record for record in records}
  assert len(found) == len(records)
  return found


def read_summary(path: pathlib.Path) -> dict[str, Any]:
  """build_summary.json."""
  return json.loads((path / 'build_summary.json').read_text())
