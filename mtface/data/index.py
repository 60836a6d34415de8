"""The index of a prepared split: everything in its records except the pixels, sorted by image id.

The index is made in one pass over the records without decoding images, either by `mtface build`
when the set is finished, or when the set is first used. It is stored next to the shards, one file
per column, and memory-mapped, so that a set of millions opens instantly.

It identifies its shards by a hash of their bytes, so that a replaced set is noticed; shards are
re-read only if their size or timestamps have changed. What was read from them has a hash too, the
*fingerprint* of the split: rebuilding the same set gives the same fingerprint, although the bytes
of its shards may differ (the order of fields in a record is not fixed).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtface.errors import UserError
from mtface.files import whole
from mtface.progress import progress, warn
from mtface.tasks import get_task

FORMAT = 4
ATTRIBUTE = 'attributes.'  # prefix of the keys of attribute columns
_CHUNK = 1024  # records to read at a time
_BLOCK = 1 << 20  # bytes of a shard to hash at a time


@dataclasses.dataclass(frozen=True)
class Index:
  """Everything in a split of M faces except the pixels.

  Attributes:
    folder: folder of the prepared set.
    name: SET/CONFIG:SPLIT.
    shards: its files, in order.
    fingerprint: 16 hex digits, a hash of the whole content of its records including pixels, in the
      order of the ids.
    image_shape: (H, W, C).
    encoded: whether images are stored as JPEG rather than raw.
    encoded_bytes: total size of the stored images.
    columns: by name, [M, ...], memory-mapped where the index could be written. Text is UTF-8 bytes.
      `positions` int64: the record of each face, counted through the shards; `image_ids`,
      `subjects` ('' where unknown), `digests` (of the stored image) and `groups` (images that must
      stay together: those of a subject or a clip, or copies of one image): text; `labels.TASK`
      int32 and `mask.TASK` bool, [M] or [M, C]; `attributes.NAME`.
    cache: the folder of the index, where decoded images may be kept too; None if it cannot be
      written.
    times: the size and modification time of each shard.
  """

  folder: pathlib.Path
  name: str
  shards: tuple[pathlib.Path, ...]
  fingerprint: str
  image_shape: tuple[int, int, int]
  encoded: bool
  encoded_bytes: int
  columns: dict[str, np.ndarray]
  cache: pathlib.Path | None
  times: tuple[list[int], ...]

  def __len__(self) -> int:
    return len(self.columns['positions'])

  @property
  def tasks(self) -> list[str]:
    """Names of the label sets."""
    return sorted(key.removeprefix('labels.') for key in self.columns if key.startswith('labels.'))


def prepared_dir(set_name: str, data_dir: pathlib.Path) -> pathlib.Path:
  """The folder of the newest version of a prepared set; a `UserError` that says how to build it if
  there is none.
  """
  if '/' not in set_name:
    raise UserError(f'source {set_name!r}: lacks the config; write e.g. {set_name}/gray48')
  folder = data_dir / set_name
  versions = sorted(
    (
      p
      for p in folder.glob('*')
      if re.fullmatch(r'\d+\.\d+\.\d+', p.name) and (p / 'dataset_info.json').exists()
    ),
    key=lambda p: tuple(map(int, p.name.split('.'))),
  )
  if not versions:
    raise UserError(
      f'{folder}: no prepared set found; build it with `mtface build {set_name} '
      f'--data_dir={data_dir}` '
      '(real sets also need --manual_dir), or pass the --data_dir that holds it'
    )
  return versions[-1]


def load_index(set_name: str, split: str, data_dir: pathlib.Path) -> Index:
  """The index of a split, made if it is missing or belongs to other shards.

  Raises:
    UserError: the set is not prepared, is damaged, or has no such split.
  """
  folder = prepared_dir(set_name, data_dir)
  with _readable(folder, set_name):
    splits = splits_of(folder)
    if split not in splits:
      raise UserError(f'{set_name}: has no split {split!r}; it has {", ".join(sorted(splits))}')
    cache = folder / 'arrays' / split
    known = _known_shards(cache)
    shards = tuple(folder / name for name in splits[split])
    digests = {path.name: _digest(path, known.get(path.name)) for path in shards}
    form = _form(folder)
    found = _read(cache, form, digests)
    if found is None:
      found = _make(folder, f'{set_name}:{split}', shards)
      found |= {
        'fingerprint': _fingerprint(form, found['columns']),
        'form': form,
        'shards': digests,
      }
      found = _written(cache, found) or found | {'cache': None}
  fields = {
    key: found[key] for key in ('fingerprint', 'encoded', 'encoded_bytes', 'columns', 'cache')
  }
  fields |= {
    'image_shape': tuple(found['image_shape']),
    'times': tuple(shard[:3] for shard in digests.values()),
  }
  return Index(folder, f'{set_name}:{split}', shards, **fields)


def check_unchanged(index: Index) -> None:
  """Raises a `UserError` if a shard has changed since the index was loaded."""
  for path, times in zip(index.shards, index.times, strict=True):
    if not path.exists() or _times(path) != times:
      raise UserError(
        f'{path}: changed while in use, so the set was rebuilt or replaced; rerun the command'
      )


def splits_of(folder: pathlib.Path) -> dict[str, list[str]]:
  """The shard names of each split of a prepared set."""
  info = json.loads((folder / 'dataset_info.json').read_text())
  names = {}
  for split in info['splits']:
    count = len(split['shardLengths'])
    names[split['name']] = [
      f'{info["name"]}-{split["name"]}.array_record-{i:05d}-of-{count:05d}' for i in range(count)
    ]
  return names


@contextlib.contextmanager
def _readable(folder: pathlib.Path, set_name: str) -> Iterator[None]:
  """Turns errors about a damaged set into a `UserError`: array_record, TFDS and protobuf raise many
  types.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    raise damaged(folder, set_name, error) from error


def damaged(folder: pathlib.Path, set_name: str, error: Exception) -> UserError:
  """The error for a prepared set that cannot be read."""
  first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
  return UserError(
    f'{folder}: the prepared set cannot be read ({first_line}); rebuild it with `mtface build '
    f'{set_name} --overwrite`'
  )


# --- Fingerprints ---------------------------------------------------------------------------------

Shard = list[
  Any
]  # size, times of the last change of content and of the file's entry in ns, digest of the content


def _digest(path: pathlib.Path, known: Shard | None) -> Shard:
  """A shard's size, times and digest, re-read unless size and times are unchanged."""
  head = _times(path)
  if known is not None and known[:3] == head:
    return known
  digest = hashlib.blake2b(digest_size=16)
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      digest.update(block)
  return [*head, digest.hexdigest()]


def _times(path: pathlib.Path) -> list[int]:
  stat = path.stat()
  return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _form(folder: pathlib.Path) -> str:
  """A hash of the meaning of the records' numbers: their features and class names."""
  digest = hashlib.blake2b(digest_size=8)
  for path in [folder / 'features.json', *sorted(folder.glob('*.labels.txt'))]:
    digest.update(path.read_bytes())
  return digest.hexdigest()


def _fingerprint(form: str, columns: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.blake2b(form.encode(), digest_size=8)
  for name, values in sorted(columns.items()):
    if name != 'positions':  # positions depend on the number of shards
      digest.update(f'{name} {values.dtype} {values.shape}'.encode())
      digest.update(np.ascontiguousarray(values).data)
  return digest.hexdigest()


# --- Making an index ------------------------------------------------------------------------------


def _make(folder: pathlib.Path, what: str, shards: Sequence[pathlib.Path]) -> dict[str, Any]:
  """One pass over the records."""
  import tensorflow_datasets as tfds  # takes a second to import, which a cached run does not need
  from array_record.python.array_record_data_source import ArrayRecordDataSource

  features = tfds.features.FeaturesDict.from_config(str(folder))
  image = features['image']
  rest = tfds.features.FeaturesDict(
    {k: v for k, v in features.items() if k not in ('image', 'landmarks')}
  )
  records = ArrayRecordDataSource([str(path) for path in shards])
  columns = _Columns(what, rest, len(records))
  for first in progress(
    range(0, len(records), _CHUNK), f'indexing {what}', total=-(-len(records) // _CHUNK)
  ):
    columns.add(first, records.__getitems__(range(first, min(first + _CHUNK, len(records)))))
  return {
    'image_shape': list(image.shape),
    'encoded': isinstance(image, tfds.features.Image),
    'encoded_bytes': columns.encoded_bytes,
    'columns': columns.finished(),
  }


class _Columns:
  """Collects the columns of `count` records as they are read.

  Each record is parsed once and its fields are taken as stored: TFDS's own decoding is several
  times slower.
  """

  def __init__(self, what: str, features: Any, count: int):
    if not count:
      raise UserError(f'{what}: contains no records; rebuild the set')
    self._what, self._count = what, count
    self._arrays: dict[str, np.ndarray] = {}
    self._texts: dict[
      str, list[np.ndarray]
    ] = {}  # one array per chunk, as wide as its longest text
    self.encoded_bytes = 0
    labels = features['labels']
    # The task of each label set: its own name, but identities include the number of people, as in
    # `identity:158`.
    self._tasks = {
      name: f'{name}:{labels[name].num_classes}' if name == 'identity' else name for name in labels
    }
    self._fields = {
      f'labels/{name}': (f'labels.{task}', labels[name]) for name, task in self._tasks.items()
    }
    self._fields |= {
      f'mask/{name}': (f'mask.{task}', features['mask'][name]) for name, task in self._tasks.items()
    }
    for name, feature in features['attributes'].items() if 'attributes' in features else ():
      self._fields[f'attributes/{name}'] = f'{ATTRIBUTE}{name}', feature
    self._has_subject = 'subject' in features

  def add(self, first: int, records: Sequence[bytes]) -> None:
    """Adds records, numbered from `first`."""
    texts: dict[str, list[bytes]] = {'image_ids': [], 'subjects': [], 'digests': []}
    numbers: dict[str, list[Any]] = {name: [] for name in self._fields}
    for record in records:
      fields = _parsed(record)
      stored = fields['image'].bytes_list.value[0]
      self.encoded_bytes += len(stored)
      texts['image_ids'].append(fields['image_id'].bytes_list.value[0])
      texts['subjects'].append(fields['subject'].bytes_list.value[0] if self._has_subject else b'')
      texts['digests'].append(hashlib.blake2b(stored, digest_size=12).hexdigest().encode())
      for name, found in numbers.items():
        field = fields[name]
        found.append(
          (field.int64_list.value or field.float_list.value or field.bytes_list.value)[:]
        )
    for name, (key, feature) in self._fields.items():
      dtype = np.dtype(feature.np_dtype)
      if dtype.kind in 'OSU':
        texts[key] = [value for (value,) in numbers[name]]
      else:
        self._set(
          key, first, np.asarray(numbers[name]).reshape(len(records), *feature.shape), dtype
        )
    for key, values in texts.items():
      self._texts.setdefault(key, []).append(np.array(values, np.bytes_))

  def _set(self, key: str, first: int, values: np.ndarray, dtype: np.dtype) -> None:
    if key not in self._arrays:
      kept = np.dtype(np.int32) if key.startswith('labels.') else dtype
      self._arrays[key] = np.zeros((self._count, *values.shape[1:]), kept)
    self._arrays[key][first : first + len(values)] = values

  def finished(self) -> dict[str, np.ndarray]:
    """All columns, sorted by id: the order in the shards depends on their number."""
    ids = np.concatenate(self._texts.pop('image_ids'))
    order = np.argsort(ids, kind='stable')
    columns = {'positions': order.astype(np.int64), 'image_ids': ids[order]}
    columns |= {key: np.concatenate(self._texts.pop(key))[order] for key in list(self._texts)}
    columns |= {key: self._arrays.pop(key)[order] for key in list(self._arrays)}
    columns['groups'] = groups(
      columns['digests'], columns.get(f'{ATTRIBUTE}clip', columns['subjects'])
    )
    for task in self._tasks.values():
      _check_labels(task, columns, self._what)
    return columns


def _parsed(record: bytes) -> Any:
  """{name of a field: its values}, parsed from protocol buffers."""
  from tensorflow_datasets.proto import tf_example_pb2

  return tf_example_pb2.Example.FromString(record).features.feature


def image_bytes(record: bytes) -> bytes:
  """The stored image of a record: JPEG, or the pixels themselves."""
  return _parsed(record)['image'].bytes_list.value[0]


def groups(digests: np.ndarray, subjects: np.ndarray | None = None) -> np.ndarray:
  """bytes [M]: groups that folds must not split: images of a subject (or clip), and copies of an
  image.
  """
  images = np.char.add(b'image ', digests)
  return images if subjects is None else np.where(subjects == b'', images, subjects)


def _check_labels(name: str, columns: Mapping[str, np.ndarray], what: str) -> None:
  labels, mask, task = columns[f'labels.{name}'], columns[f'mask.{name}'], get_task(name)
  top = 2 if task.multi_label else task.num_classes
  bad = np.argwhere(mask & ((labels < 0) | (labels >= top)))
  if len(bad):
    where = columns['image_ids'][bad[0][0]].decode()
    raise UserError(
      f'{what}: label {labels[tuple(bad[0])]} of {where} is out of range for task {task.name} (0 '
      f'to {top - 1})'
    )


# --- The index on disk ----------------------------------------------------------------------------


def _known_shards(cache: pathlib.Path) -> dict[str, Shard]:
  """What the index says about its shards; empty if there is none."""
  try:
    return dict(json.loads((cache / 'index.json').read_text())['shards'])
  except (OSError, ValueError, KeyError, TypeError):
    return {}


def _read(cache: pathlib.Path, form: str, shards: Mapping[str, Shard]) -> dict[str, Any] | None:
  """The index, or None if it is missing, damaged, or belongs to other shards."""
  try:
    index = json.loads((cache / 'index.json').read_text())
    if index['format'] != FORMAT:
      return None
    if (index['form'], _bytes_of(index['shards'])) != (form, _bytes_of(shards)):
      warn(
        f'{cache.parent.parent}: the set has changed since it was last used; its index is made '
        'again'
      )
      return None
    for name, size in index['bytes'].items():
      if (cache / name).stat().st_size != size:
        raise ValueError(f'{name} has a wrong size')
    columns = {
      name.removesuffix('.npy'): np.load(cache / name, mmap_mode='r') for name in index['bytes']
    }
    if index['shards'] != shards:  # the same content with other timestamps
      with contextlib.suppress(OSError):
        _write_json(cache / 'index.json', index | {'shards': shards})
    return index | {'columns': columns, 'cache': cache}
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
    warn(f'{cache}: the index is damaged ({error}); making it again')
    return None


def _bytes_of(shards: Mapping[str, Shard]) -> dict[str, str]:
  return {name: shard[3] for name, shard in shards.items()}


def _written(cache: pathlib.Path, found: dict[str, Any]) -> dict[str, Any] | None:
  """Writes an index under a temporary name and renames it, so that a killed process leaves no
  partial index; returns None if that is not possible.
  """
  temporary = None
  try:
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f'.{cache.name}.', dir=cache.parent))
    for key, values in found['columns'].items():
      np.save(temporary / f'{key}.npy', values)
    sizes = {p.name: p.stat().st_size for p in temporary.glob('*.npy')}
    head = {key: value for key, value in found.items() if key != 'columns'}
    _write_json(temporary / 'index.json', {'format': FORMAT, 'bytes': sizes} | head)
    shutil.rmtree(cache, ignore_errors=True)
    temporary.rename(cache)
    return _read(cache, found['form'], found['shards'])
  except OSError as error:  # a read-only data_dir or a full disk
    warn(f'{cache}: the index cannot be written ({error}); it will be made at every start')
    return None
  finally:
    if temporary is not None:
      shutil.rmtree(temporary, ignore_errors=True)


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  with whole(path) as partial:
    partial.write_text(json.dumps(content))
