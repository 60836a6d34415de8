"""Converts on a cluster, with Apache Beam (extra `beam`), on any runner whose workers see the same
files as the launcher.

Workers read photographs from `--manual_dir` and write parts (`tfds_builders/parts.py`) beside the
set, so both lie on a file system that all machines mount at the same place. Beam passes on only the
names of the parts and, to TFDS's writer, the records. Afterwards the launcher makes the build
summary from the parts, in order, as it does without Beam.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pathlib
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mtface import errors
from tfds_builders import parts
from tfds_builders.records import RecordForm
from tfds_builders.summary import Face

# Many runners use several threads per process, and OpenCV's networks are not thread-safe.
_one_at_a_time = threading.Lock()


def pipeline_options(arguments: Sequence[str]) -> Any:
  """Returns Beam's options from arguments such as `--runner=DirectRunner`.

  Raises:
    UserError: Beam is not installed or rejects them.
  """
  try:
    import apache_beam as beam
    from apache_beam.options import pipeline_options as options_lib
  except ImportError as error:
    raise errors.UserError(
      f'--beam_options needs Apache Beam, which cannot be imported ({error}): pip install '
      "'mtface[beam]', in a"
      ' separate environment, since it restricts the versions of other packages'
    ) from None
  said = io.StringIO()
  try:
    with contextlib.redirect_stderr(said):  # argparse prints all options there are before it exits
      options = options_lib.PipelineOptions(_checked(arguments))
      options.get_all_options()  # before that, only those of one class are looked at
      beam.runners.create_runner(
        options.view_as(options_lib.StandardOptions).runner or 'DirectRunner'
      )
  except (Exception, SystemExit) as error:
    why = said.getvalue().strip().rpartition('\n')[2] if isinstance(error, SystemExit) else error
    raise errors.UserError(
      f'--beam_options: {" ".join(arguments)}: {why}; expected options of a Beam runner'
    ) from None
  return options


def _checked(arguments: Sequence[str]) -> list[str]:
  """Beam takes no notice of what does not begin with --."""
  for argument in arguments:
    if not argument.startswith('--'):
      raise ValueError(f'{argument!r} is not an option such as --runner=DirectRunner')
  return list(arguments)


def examples(
  of_split: Sequence[parts.Part],
  convert: Callable[[Any], Iterable[parts.Outcome]],
  form: RecordForm,
) -> Any:
  """Returns the PTransform that makes the parts of a split and yields its records as TFDS takes
  them: (key, record).

  What there is to convert is left beside each part: a graph that held half a million items would be
  refused by runners.
  """
  import apache_beam as beam

  for part in of_split:
    _items_file(part.path).write_bytes(pickle.dumps(part.items))
  records = functools.partial(_records, convert=convert, form=form)
  paths = [str(part.path) for part in of_split]
  return (
    'Parts' >> beam.Create(paths)
    | 'Spread' >> beam.Reshuffle()
    | 'Convert' >> beam.FlatMap(records)
  )


def _items_file(part: pathlib.Path) -> pathlib.Path:
  return part.with_suffix('.items')


def _records(
  path: str, convert: Callable[[Any], Iterable[parts.Outcome]], form: RecordForm
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Makes one part unless it is there, and yields its records. Beam may do this twice; the part is
  the same.
  """
  part = pathlib.Path(path)
  with _one_at_a_time:
    parts.make(parts.Part(part, pickle.loads(_items_file(part).read_bytes())), convert)
  for outcome in parts.read(part):
    if isinstance(outcome, Face):
      yield outcome.image_id, form.record(outcome)
