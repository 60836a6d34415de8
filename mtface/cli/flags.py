"""The flags of the commands, one row each, and the values derived from several of them."""

from __future__ import annotations

import dataclasses
import itertools
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
  """A flag: its kind (text, number, fraction, switch, list, sources, config), default, help text,
  and of a number the least that it may be.
  """

  kind: str
  default: Any
  help: str
  least: int | None = None


FLAGS: dict[str, Flag] = {
  'config': Flag(
    'config',
    None,
    'FILE[:ARGUMENT]: a config file, or the name of a shipped one (demo, sang2017, rohani2023, '
    'savchenko2021, zhang2016, pons2018, faces, mine); '
    'override its fields with --config.FIELD=VALUE',
  ),
  'workdir': Flag(
    'text',
    None,
    'the folder of a run, cross-validation or sweep: config, checkpoints, metrics, results',
  ),
  'workdirs': Flag('list', [], 'comma-separated workdirs; compare takes WORKDIR@SELECTION'),
  'table': Flag(
    'text',
    '',
    "which of the paper's tables, by its number in the paper (default: all that its config "
    'defines)',
  ),
  'data_dir': Flag(
    'text',
    None,
    'folder of the prepared data sets (default $TFDS_DATA_DIR, then ~/tensorflow_datasets)',
  ),
  'manual_dir': Flag(
    'text',
    None,
    'folder of the raw download, laid out as its owner distributes it (docs/datasets.md)',
  ),
  'imports': Flag(
    'list',
    [],
    'modules of your own to import that define builders, as config.imports (docs/extending.md)',
  ),
  'overwrite': Flag('switch', False, 'rebuild a data set that is already built'),
  'beam_options': Flag(
    'list',
    None,
    "convert with Apache Beam (pip install 'mtface[beam]') and these options for its runner, with "
    'commas',
  ),
  'checkpoint': Flag(
    'list',
    [],
    'last, best, STEP, average:K, ensemble:K, with :flip or :ten behind it for the mean over views '
    'of a face; each also averaged with other runs as in '
    "last+OTHER_WORKDIR@last; comma-separated (default: the config's evaluation.checkpoints); "
    'report and associate take exactly one, and feature commands no ensemble (default last)',
  ),
  'format': Flag(
    'text',
    '',
    'onnx or stablehlo (from pixels to probabilities); safetensors, which is also called mtface '
    '(every array of any network); torch (a backbone for PyTorch) or timm (default: as FILE ends; '
    'torch for .safetensors)',
  ),
  'float16': Flag('switch', False, 'with onnx: half the size, for GPUs; prints what it costs'),
  'int8': Flag(
    'switch',
    False,
    'with onnx: a quarter of the size, calibrated on training images; prints what it costs',
  ),
  'converter': Flag(
    'text',
    '',
    'with onnx: a Python that has jax2onnx (default: this one, or .venv-export/bin/python, which '
    '`make setup-export` makes)',
  ),
  'classifier': Flag(
    'text', None, "the task whose head is exported as the backbone's classifier (default: none)"
  ),
  'to': Flag(
    'text',
    None,
    'export: FILE.onnx, FILE.stablehlo or FILE.safetensors; demo-page: the folder; report --html '
    'and card: the file (default report/index.html and report/model_card.md in the workdir)',
  ),
  'html': Flag(
    'switch',
    False,
    'write report/index.html, one file that loads nothing, of this run or side by side of those in '
    '--workdirs (then with --to)',
  ),
  'thumbnails': Flag(
    'switch',
    False,
    'with --html: put the faces of mistakes into the file, which are those of real people '
    '(default: ids only)',
  ),
  'export': Flag('text', None, 'the exported network, FILE.onnx'),
  'on': Flag(
    'sources',
    [],
    "sets to evaluate on: names in the run's config.evaluation.sets (default: all), or sources "
    'such as '
    'fer2013/gray48:private_test',
  ),
  're_estimate_statistics': Flag(
    'switch',
    True,
    'for average:K: recompute batch-norm statistics on training samples (otherwise they are '
    'averaged too)',
  ),
  'sheet': Flag(
    'switch', False, 'also draw a sheet of faces with labels and predictions for each set'
  ),
  'predictions': Flag('switch', False, "also write each image's predictions as CSV"),
  'calibrated': Flag(
    'switch', False, 'apply the temperatures that `mtface calibrate` fitted to this checkpoint'
  ),
  'fit': Flag(
    'sources',
    [],
    'sets to fit temperatures on, as for --on; faces that were neither trained on nor reported',
  ),
  'groups': Flag(
    'list',
    [],
    'what to group faces by: labels or attributes of the set, as in gender,celeba_attributes/Young '
    '(default: gender, ages and ethnicity, where the set labels them), or columns of --csv',
  ),
  'together': Flag(
    'number',
    2,
    'by how many of --groups at a time, at most (default 2: each pair of them too)',
    least=1,
  ),
  'resamples': Flag('number', 2000, 'number of bootstrap samples (default 2000)', least=1),
  'csv': Flag(
    'text',
    None,
    'a csv of predictions to audit in place of a run, of any tool; --on names a prepared set that '
    'knows the groups of its images',
  ),
  'label': Flag('text', None, 'the column of --csv with the labels'),
  'predicted': Flag(
    'text', '', "the column with the answers (default 'LABEL predicted', or the most probable)"
  ),
  'probabilities': Flag(
    'list',
    [],
    'the columns with the probabilities, COLUMN=CLASS, or named CLASS or .../CLASS; or one, that '
    'of --positive (default: all LABEL/CLASS)',
  ),
  'positive': Flag('text', '', 'which of two classes is the positive one (default: the last)'),
  'subject': Flag('text', '', 'the column that says who it is'),
  'image_id': Flag('text', 'image_id', 'the column with the ids of the images in --on'),
  'stage': Flag('text', '', 'which stage of a multi-stage run (default: the last)'),
  'folds': Flag('number', 4, 'number of folds (default 4)', least=2),
  'fold': Flag(
    'number', None, 'run only this fold, 0 to folds - 1, to run folds as parallel jobs', least=0
  ),
  'gather': Flag('switch', False, 'only gather the results of finished folds'),
  'distributed': Flag(
    'switch',
    False,
    'join a multi-process run as set up by the scheduler (Slurm, Open MPI, TPU, Kubernetes)',
  ),
  'coordinator': Flag('text', None, 'join a multi-process run: HOST:PORT of process 0'),
  'processes': Flag('number', None, 'number of processes in the run', least=1),
  'process': Flag('number', None, 'index of this process, from 0', least=0),
  'fsdp': Flag(
    'number',
    1,
    'devices to shard large parameters over, as in config.mesh.fsdp (default 1)',
    least=1,
  ),
  'configs': Flag(
    'text',
    None,
    'comma-separated configs to train and evaluate, as in sang2017:A1,sang2017:A2,fold=1',
  ),
  'train': Flag('text', None, 'the source to fit classifiers on, as in utkface/rgb224:train'),
  'test': Flag('text', None, 'the source to evaluate them on'),
  'task': Flag(
    'text',
    None,
    'the task whose labels to use, as in ethnicity5; the network need not predict it (audit: one '
    'that it predicts, or a class of it, as in celeba_attributes/Young; default all)',
  ),
  'classifiers': Flag(
    'list', [], 'comma-separated: svm, forest, knn, linear (default all; video: svm,forest)'
  ),
  'l2': Flag(
    'switch', True, 'first scale feature vectors to unit length (default on; --nol2 turns it off)'
  ),
  'level': Flag('text', None, 'clip (the main face of each frame, default) or group (all faces)'),
  'boxes': Flag(
    'text',
    None,
    'in folders of clips: detect (default: MTCNN finds the faces) or whole (each frame is a face)',
  ),
  'every': Flag(
    'number',
    1,
    'of clips and videos: use every N-th frame (default 1; the vgaf data set uses 5)',
    least=1,
  ),
  'by': Flag('text', None, 'the single-label task whose predictions group the faces'),
  'of': Flag('text', None, 'the task whose scores are averaged in each group'),
  'threshold': Flag(
    'fraction', 0.4, 'mean score from which a class is listed as present (default 0.4)'
  ),
  'trees': Flag('number', 1000, 'number of trees in the random forest (default 1000)', least=1),
  'seed': Flag('number', 0, 'random seed (default 0)', least=0),
  'repeats': Flag('number', 10, 'number of random galleries (default 10)', least=2),
  'model': Flag('text', None, 'instead of a workdir: a file that `mtface export` wrote, FILE.onnx'),
  'input': Flag(
    'text',
    None,
    'a photograph, a folder, a pattern such as photos/*.jpg (in quotation marks), a video, or the '
    'number of a camera (0; Ctrl-C ends it); files may also follow without a flag',
  ),
  'output': Flag(
    'list',
    [],
    'comma-separated: FILE.jsonl, FILE.csv, a picture (.jpg, .png) or video (.mp4, .avi, .mkv) '
    'with boxes, or a folder for lines, pictures and videos (default: JSON lines on stdout)',
  ),
  'timeline': Flag(
    'switch',
    False,
    'also write what is said over the seconds of each video, as CSV and PNG, to the folder of '
    '--output',
  ),
  'second_look': Flag(
    'switch',
    False,
    'look again with lower thresholds at photographs in which no face is found; it may be none',
  ),
  'target': Flag(
    'list',
    ['here'],
    'comma-separated devices to compile for: h100:8, h100:128x8 (128 nodes of 8), h200, a100, '
    'v5e:4x4, v4, v5p, v6e, cpu:8, or here (default: the devices of this machine)',
  ),
  'batch_size': Flag(
    'number', 0, "images a device (default: the config's batch, shared by the devices)"
  ),
  'program': Flag('text', 'train', 'train, the training step (default), or evaluate'),
  'json': Flag('text', '', 'also write the figures to this file, as JSON'),
  'text': Flag('text', '', 'also write the compiled programs to this folder, as text (HLO)'),
  'trials': Flag(
    'number', 30, 'trials of a search, those of all its processes (default 30)', least=1
  ),
  'over': Flag(
    'text',
    None,
    "config fields to vary and their values, as in 'optimizer.rate=0.01,0.03;seed=0,1'; of a "
    'search also ranges, as in optimizer.rate=0.003:0.1:log',
  ),
}


class _SourceParser(flags.ArgumentParser):
  """Comma-separated sources; commas inside brackets do not separate, as in
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
  'fraction': flags.DEFINE_float,
  'switch': flags.DEFINE_bool,
  'list': flags.DEFINE_list,
  'sources': _define_sources,
}


def define_flags(values: Args, names: Sequence[str]) -> None:
  """Defines the flags of a command, except --config, which `mtface/cli/main.py` extracts first."""
  for name in names:
    flag = FLAGS[name]
    if flag.kind != 'config':
      bound = {} if flag.least is None else {'lower_bound': flag.least}
      _DEFINE[flag.kind](name, flag.default, flag.help, flag_values=values, **bound)


# --- Flags to values ------------------------------------------------------------------------------


def data_dir(args: Args) -> pathlib.Path:
  """--data_dir, resolved as in TFDS."""
  return _place_of_sets(args.data_dir)


def data_dir_in(argv: Sequence[str]) -> pathlib.Path:
  """The same, from flags that are not parsed yet: a config may have to look at the sets first."""
  names = ('--data_dir', '-data_dir')
  found = [item.partition('=')[2] for item in argv if item.partition('=')[0] in names]
  apart = [after for item, after in itertools.pairwise(argv) if item in names]
  return _place_of_sets((apart or found or [''])[-1])


def _place_of_sets(given: str | None) -> pathlib.Path:
  return local_path(given or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')


def workdir_flag(args: Args) -> pathlib.Path:
  """--workdir, which is required."""
  if not args.workdir:
    raise UserError('--workdir is missing: pass the folder of the run')
  return local_path(args.workdir)


def one_checkpoint(args: Args, default: str = 'last') -> str:
  """The one --checkpoint of a command that takes no more; `default` if none is given."""
  if len(args.checkpoint) > 1:
    raise UserError(
      f'--checkpoint={",".join(args.checkpoint)}: this command takes one at a time; pass exactly '
      'one'
    )
  return args.checkpoint[0] if args.checkpoint else default


def join(args: Args, config: ConfigDict) -> None:
  """Joins the other processes of the run, if any."""
  from mtface.parallel.distributed import Place, start

  place = Place(args.coordinator, args.processes, args.process)
  if args.distributed or place != Place():
    start(place, config.distributed)


def config_of(args: Args) -> ConfigDict:
  """The config given by --config, with the command-line overrides applied."""
  if 'config' not in args:
    raise UserError(
      '--config is missing: pass a config file or the name of a shipped one, e.g. --config=demo'
    )
  return args.config
