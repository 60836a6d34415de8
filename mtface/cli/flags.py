"""The flags of the commands, a row each, and what is read from several of them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from mtface.errors import UserError
from mtface.files import local_path

Args = flags.FlagValues


@dataclasses.dataclass(frozen=True)
class Flag:
  """A flag: its kind (text, number, switch, list, sources, config), its default, and what --help
  says.
  """

  kind: str
  default: Any
  help: str


FLAGS: dict[str, Flag] = {
  'config': Flag(
    'config',
    None,
    'FILE[:ARGUMENT]: a config file, or the name of a shipped one (demo, sang2017, rohani2023, '
    'savchenko2021); '
    'override its fields with --config.FIELD=VALUE',
  ),
  'workdir': Flag(
    'text',
    None,
    'the folder of one run (or cross-validation, or sweep): config, checkpoints, metrics, results',
  ),
  'workdirs': Flag('list', [], 'several of them, with commas; compare takes WORKDIR@SELECTION'),
  'table': Flag(
    'text',
    '',
    "which of the paper's tables, by its number there (default: all that its config has)",
  ),
  'data_dir': Flag(
    'text', None, 'where prepared sets are; default $TFDS_DATA_DIR, then ~/tensorflow_datasets'
  ),
  'manual_dir': Flag(
    'text', None, "the folder of the raw download, in its owner's layout (docs/datasets.md)"
  ),
  'imports': Flag(
    'list', [], 'modules of your own with builders to import, as config.imports (docs/extending.md)'
  ),
  'overwrite': Flag('switch', False, 'build again what is already built'),
  'beam_options': Flag(
    'list',
    None,
    "convert with Apache Beam (pip install 'mtface[beam]'), with these options of its runner, with "
    'commas',
  ),
  'checkpoint': Flag(
    'list',
    [],
    "last, best, STEP, average:K, ensemble:K; several with commas (default: the config's "
    'evaluation.checkpoints); '
    'features are of one, no ensemble (default last)',
  ),
  'format': Flag(
    'text', 'timm', 'timm (a backbone for PyTorch, default) or mtface (every array of any network)'
  ),
  'classifier': Flag('text', None, "the task whose head becomes timm's classifier (default: none)"),
  'to': Flag('text', None, 'the file to write, FILE.safetensors'),
  'on': Flag(
    'sources',
    [],
    "sets to measure on: names of the run's config.evaluation.sets (default: all), or sources such "
    'as fer2013/gray48:private_test',
  ),
  're_estimate_statistics': Flag(
    'switch',
    True,
    'for average:K: measure batch-norm statistics anew on training samples (otherwise they are '
    'averaged too)',
  ),
  'sheet': Flag(
    'switch', False, 'also draw a sheet of faces with labels and predictions for each set'
  ),
  'predictions': Flag('switch', False, 'also write what the networks say of each image, as CSV'),
  'stage': Flag('text', '', 'of a run with stages: which one (default: the last)'),
  'folds': Flag('number', 4, 'number of folds (default 4)'),
  'fold': Flag('number', None, 'do this fold only, 0 to folds - 1: for jobs side by side'),
  'gather': Flag('switch', False, 'only put together the folds that are done'),
  'distributed': Flag(
    'switch',
    False,
    'be one of several processes, as the scheduler says (Slurm, Open MPI, TPU, Kubernetes)',
  ),
  'coordinator': Flag('text', None, 'be one of several processes: HOST:PORT of process 0'),
  'processes': Flag('number', None, 'how many processes there are'),
  'process': Flag('number', None, 'which one this is, from 0'),
  'fsdp': Flag('number', 1, 'devices that share large parameters, as config.mesh.fsdp (default 1)'),
  'configs': Flag(
    'text', None, 'configs to train and measure, with commas, as in sang2017:A1,sang2017:A2,fold=1'
  ),
  'train': Flag(
    'text', None, 'what classifiers are fitted to: a source, as in utkface/rgb224:train'
  ),
  'test': Flag('text', None, 'what they are measured on'),
  'task': Flag(
    'text', None, 'the task of the labels, as in ethnicity5; the network need not predict it'
  ),
  'classifiers': Flag(
    'list', [], 'some of svm, forest, knn, linear, with commas (default all; video: svm,forest)'
  ),
  'l2': Flag('switch', True, 'scale feature vectors to length 1 before (default yes; --nol2)'),
  'level': Flag('text', None, 'clip (default: the main face of each frame) or group (all faces)'),
  'boxes': Flag(
    'text',
    None,
    'in folders of clips: detect (default: MTCNN finds the faces) or whole (each frame is a face)',
  ),
  'every': Flag(
    'number', 1, 'in folders of clips: look at each N-th frame (default 1; the set vgaf has 5)'
  ),
  'trees': Flag('number', 1000, 'of a random forest (default 1000)'),
  'seed': Flag('number', 0, 'of whatever is drawn (default 0)'),
  'repeats': Flag('number', 10, 'how many random galleries (default 10)'),
  'over': Flag(
    'text',
    None,
    "fields of each of the configs and their values, as in 'optimizer.rate=0.01,0.03;seed=0,1'",
  ),
}


class _SourceParser(flags.ArgumentParser):
  """Sources with commas between them; those in brackets are their own, as in
  wiki/gray48:train[take=3000,seed=0].
  """

  def parse(self, argument: str | list[str]) -> list[str]:
    """The sources, as a list."""
    if isinstance(argument, list):  # the default
      return argument
    return [name.strip() for name in re.split(r',(?![^\[]*\])', argument) if name.strip()]


def _define_sources(name: str, default: list[str], text: str, flag_values: Args) -> None:
  flags.DEFINE(_SourceParser(), name, default, text, flag_values=flag_values)


_DEFINE: dict[str, Callable[..., Any]] = {
  'text': flags.DEFINE_string,
  'number': flags.DEFINE_integer,
  'switch': flags.DEFINE_bool,
  'list': flags.DEFINE_list,
  'sources': _define_sources,
}


def define_flags(values: Args, names: Sequence[str]) -> None:
  """Defines the flags of a command, but for --config, which
  `mtface/cli/main.py` takes out before.
  """
  for name in names:
    flag = FLAGS[name]
    if flag.kind != 'config':
      _DEFINE[flag.kind](name, flag.default, flag.help, flag_values=values)


# --- Flags to values ------------------------------------------------------------------------------


def data_dir(args: Args) -> pathlib.Path:
  """--data_dir, as TFDS finds it."""
  return local_path(args.data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def workdir_flag(args: Args) -> pathlib.Path:
  """--workdir, which must be given."""
  if not args.workdir:
    raise UserError('--workdir is missing: name the folder of the run')
  return local_path(args.workdir)


def join(args: Args, config: ConfigDict) -> None:
  """Joins the other processes, if there are any."""
  from mtface.parallel.distributed import Place, start

  place = Place(args.coordinator, args.processes, args.process)
  if args.distributed or place != Place():
    start(place, config.distributed)


def config_of(args: Args) -> ConfigDict:
  """The config of --config with the overrides of the command line."""
  if 'config' not in args:
    raise UserError('--config is missing: name a config file or a shipped one, e.g. --config=demo')
  return args.config
