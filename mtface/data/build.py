"""`mtface build`: converts a raw download into a prepared set, atomically.

TFDS writes a set into a folder named `incomplete.*` and renames it when it is finished, so a folder
with a version's name is complete. This module does the rest: it finds the builder, words errors for
the user, and cleans up after builds that were killed.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import json
import os
import pathlib
import pkgutil
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import process as process_pool
from typing import Any

import tfds_builders
from mtface import errors
from mtface.config.tables import BUILDERS
from mtface.data import index
from mtface.files import local_path

_MOST_CLASSES_SHOWN = 12  # longer rows of class counts are only written to the summary file
_MOST_DAMAGED_SHOWN = 5
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def build(
  name: str,
  *,
  data_dir: str | os.PathLike[str],
  manual_dir: str | os.PathLike[str] | None = None,
  overwrite: bool = False,
  workers: int | None = None,
  beam_options: Sequence[str] | None = None,
) -> pathlib.Path:
  """Prepares one set and prints a summary of its images.

  Args:
    name: `genki4k/gray48`, or `genki4k` for its first config.
    data_dir: folder of prepared sets; the set goes to <data_dir>/<set>/<config>/<version>.
    manual_dir: folder of the raw download; generated sets need none.
    overwrite: rebuild a set that is already built. If that fails, the old one is kept.
    workers: number of processes; defaults to all cores. The records do not depend on it.
    beam_options: convert with Apache Beam and these options (`--runner=...`; empty: DirectRunner,
      on this machine). All workers must be able to see `data_dir` and `manual_dir`. The records are
      the same.

  Returns:
    The folder of the prepared set.

  Raises:
    UserError: no such set, the download is missing or invalid, `data_dir` cannot be written, or
      Beam is not installed or rejects its options.
  """
  builder_class, config = find_builder(name)
  data_dir = local_path(data_dir)
  manual = local_path(manual_dir) if manual_dir else None
  if beam_options is not None:
    # Workers may run in another folder.
    data_dir, manual = data_dir.absolute(), manual and manual.absolute()
  with _in_the_users_words(data_dir):
    # Quick checks first, before anything is written.
    config = builder_class.described_by(config, manual)
    found = builder_class(config=config, data_dir=data_dir)
    path = pathlib.Path(found.data_dir)
    beam = _beam(beam_options)
    finished = _is_finished(path)
    if finished:
      _remove_old_parts(path)
    if finished and not overwrite:
      print(f'{name} is already built (--overwrite rebuilds it): {path}')
      return path
    found.locate(manual)
    with _only_build(path.parent):
      remove_leftovers(path.parent)
      with _set_aside(path):
        builder = builder_class(config=config, data_dir=data_dir)
        builder.workers = workers
        builder.use_beam = beam is not None
        _prepare(builder, manual, beam)
  for split in index.splits_of(path):
    index.load_index(f'{path.parent.parent.name}/{path.parent.name}', split, data_dir)
  print(describe(path))
  return path


def available() -> dict[str, list[str]]:
  """Returns the configs of every set that has a builder."""
  return {name: list(_builder_class(name).builder_configs) for name in _all_sets()}


def find_builder(name: str) -> tuple[Any, Any]:
  """Returns the builder class and the config of `set/config` or `set`: the config's name, or the
  config itself if it is not a listed one.

  Raises:
    UserError: no such set or config; the message lists the available ones.
  """
  set_name, _, config = name.partition('/')
  if set_name not in _all_sets():
    raise errors.UserError(
      f'{name}: no builder for the set {set_name!r}; available: {_all_names()}'
    )
  builder_class = _builder_class(set_name)
  configs = list(builder_class.builder_configs)
  if config and config not in configs:
    if (unlisted := builder_class.unlisted_config(config)) is not None:
      return builder_class, unlisted
    others = builder_class.unlisted_names()
    raise errors.UserError(
      f'{name}: {set_name} has no config {config!r}; available: {", ".join(configs)}'
      f'{others and f", and {others}"}'
    )
  return builder_class, config or configs[0]


def _all_sets() -> list[str]:
  """Those of tfds_builders/, and those of the user's own modules."""
  return [*_set_names(), *(name for name in BUILDERS if name not in _set_names())]


def _set_names() -> list[str]:
  names = sorted(
    module.name for module in pkgutil.iter_modules(tfds_builders.__path__) if module.ispkg
  )
  return [name for name in names if importlib.util.find_spec(_module(name))]


def _all_names() -> str:
  return ', '.join(
    f'{set_name}/{config}' for set_name, configs in available().items() for config in configs
  )


def _module(set_name: str) -> str:
  return f'tfds_builders.{set_name}.{set_name}_dataset_builder'


def _builder_class(set_name: str) -> Any:
  if set_name in BUILDERS:
    return BUILDERS[set_name].load()
  return importlib.import_module(_module(set_name)).Builder


def _beam(arguments: Sequence[str] | None) -> Any:
  """Beam's options, or None without Beam."""
  from tfds_builders import on_beam

  return None if arguments is None else on_beam.pipeline_options(arguments)


def _prepare(builder: Any, manual_dir: pathlib.Path | None, beam_options: Any) -> None:
  import tensorflow_datasets as tfds

  tfds.disable_progress_bar()  # the builders show their own
  config = tfds.download.DownloadConfig(manual_dir=manual_dir, beam_options=beam_options)
  with (
    tempfile.TemporaryDirectory() as unused
  ):  # TFDS creates a download folder even if there are no downloads
    builder.download_and_prepare(
      download_dir=unused, download_config=config, file_format='array_record'
    )


# --- Whole or not at all --------------------------------------------------------------------------


def _is_finished(path: pathlib.Path) -> bool:
  if not path.exists():
    return False
  if (path / 'dataset_info.json').is_file():
    return True
  raise errors.UserError(f'{path}: this folder has the name of a set but contains none; remove it')


def _remove_old_parts(path: pathlib.Path) -> None:
  """Removes converted parts left by a build that was killed just before removing them.

  Newer parts belong to a failed build with `overwrite`; the next build reuses them.
  """
  from tfds_builders import parts

  parts.remove(path, older_than=path / 'dataset_info.json')


def remove_leftovers(folder: pathlib.Path) -> None:
  """Removes what killed builds left in the folder of a config."""
  for left in folder.glob('incomplete.*'):
    print(f'removing leftovers of an interrupted build: {left}')
    shutil.rmtree(left)


@contextlib.contextmanager
def _only_build(folder: pathlib.Path) -> Iterator[None]:
  """Holds a lock so that two builds of one set do not remove each other's files. The system
  releases it if this process is killed.
  """
  folder.mkdir(parents=True, exist_ok=True)
  try:
    import fcntl
  except ImportError:  # Windows
    yield
    return
  with (folder / '.build.lock').open('w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise errors.UserError(
        f'{folder}: another build of this set is running; wait for it, or stop it'
      ) from None
    yield


@contextlib.contextmanager
def _set_aside(path: pathlib.Path) -> Iterator[None]:
  """Moves a set that is being rebuilt out of the way, and back if the new build fails."""
  if not path.exists():
    yield
    return
  aside = path.with_name(f'incomplete.old_{path.name}')
  path.rename(aside)
  try:
    yield
  except BaseException:
    aside.rename(path)
    raise
  shutil.rmtree(aside)


# --- Errors ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _in_the_users_words(data_dir: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except process_pool.BrokenProcessPool:
    raise errors.UserError(
      'a worker process of the build was killed, probably because memory ran out; nothing was '
      'built: '
      'free up memory and try again'
    ) from None
  except (OSError, RuntimeError) as error:  # array_record's are RuntimeErrors
    if getattr(error, 'errno', None) in _DISK_FULL or os.strerror(errno.ENOSPC) in str(error):
      raise errors.UserError(
        f'{data_dir}: the disk is full; nothing was built: free up space or choose another '
        '--data_dir'
      ) from None
    if isinstance(error, OSError) and error.filename is not None:
      raise errors.UserError(
        f'{error.filename}: {error.strerror}; nothing was built: pass a writable '
        '--data_dir and a readable --manual_dir'
      ) from None
    raise


# --- The summary ----------------------------------------------------------------------------------


def describe(path: pathlib.Path) -> str:
  """Returns a short summary of a prepared set, from its build_summary.json."""
  from tfds_builders import summary

  file = path / summary.SUMMARY_FILE
  report = json.loads(file.read_text(encoding='utf-8'))
  rate = report['images'] / max(report['seconds'], 0.1)
  lines = [
    f'{report["name"]}/{report["config"]} {report["version"]}: {report["images"]:,} images in '
    f'{report["seconds"]:.1f} s'
    f' ({rate:,.0f} images/s)'
  ]
  for split, count in report['records'].items():
    lines.append(f'  {split}: {count:,} images')
    labelled = report['labelled'][split]
    lines += [
      f'    {task}: {_classes(labelled[task], counts)}'
      for task, counts in report['labels'][split].items()
    ]
  lines += [f'  {note}: {of["images"]:,} ({of["means"]})' for note, of in report['notes'].items()]
  lines.append(
    f'  left out: {report["left_out"]["images"]:,}{_reasons(report["left_out"]["by_reason"])}'
  )
  lines += [
    f'    {image["image_id"]}: {image["detail"] or image["reason"]}'
    for image in report['left_out']['list'][:_MOST_DAMAGED_SHOWN]
  ]
  lines.append(f'  duplicates: {_duplicates(report["duplicates"])}')
  return '\n'.join([*lines, f'  details: {file}', f'prepared: {path}'])


def _classes(labelled: int, counts: Mapping[str, int]) -> str:
  if len(counts) > _MOST_CLASSES_SHOWN:
    return f'{labelled:,} labelled'
  return f'{labelled:,} labelled: ' + ', '.join(
    f'{name} {count:,}' for name, count in counts.items()
  )


def _reasons(by_reason: Mapping[str, int]) -> str:
  return (
    f' ({", ".join(f"{reason} {count:,}" for reason, count in by_reason.items())})'
    if by_reason
    else ''
  )


def _duplicates(found: Mapping[str, Any]) -> str:
  return (
    f'{found["copies"]:,} copies of {found["groups"]:,} images (compared: {found["compared"]});'
    f' {found["groups_across_splits"]:,} of them across splits, '
    f'{found["groups_with_other_labels"]:,} with different labels'
  )
