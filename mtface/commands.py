"""The commands of `mtface`: each calls the library with its flags, and says where the result is. `mtface/cli.py` runs them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import ConfigDict

from mtface import config_files, feature_commands, process
from mtface.errors import UserError
from mtface.files import local_path

Args = flags.FlagValues


def build(args: Args, names: Sequence[str]) -> None:
  """Prepares data sets: raw download -> array_record.   mtface build genki4k/gray48 --manual_dir=..."""
  from mtface.build import build as build_set

  if not names:
    raise UserError('build: name a set, e.g. `mtface build synthetic_faces/smile_gray48`; docs/datasets.md lists them')
  for name in names:
    build_set(
      name,
      data_dir=data_dir(args),
      manual_dir=args.manual_dir,
      overwrite=args.overwrite,
      beam_options=args.beam_options,
    )


def train(args: Args, _: Sequence[str]) -> None:
  """Trains what a config describes; the same command continues an interrupted run."""
  from mtface.train import train as train_config

  config, workdir = load_config(args), workdir_flag(args)
  join(args, config)
  process.say(f'training {config.name} in {workdir}')
  train_config(config, workdir, data_dir(args))
  process.say(f'done: checkpoints in {workdir}; next: mtface evaluate --workdir={workdir} --data_dir={data_dir(args)}')


def evaluate(args: Args, _: Sequence[str]) -> None:
  """Measures checkpoints of a run on sets: last, best, STEP, average:K, ensemble:K."""
  from mtface.evaluate import evaluate as evaluate_run
  from mtface.results import RESULTS_FILE, results_table
  from mtface.run_config import read_config

  workdir = workdir_flag(args)
  if args.sheet and (args.distributed or args.processes):
    raise UserError('--sheet: one process draws; leave it out here, and run `mtface evaluate --sheet` once more alone')
  join(args, read_config(workdir))
  rows = evaluate_run(
    workdir,
    data_dir(args),
    checkpoints=args.checkpoint,
    on=args.on,
    re_estimate=args.re_estimate_statistics,
    predictions=args.predictions,
    stage=args.stage,
  )
  process.say(results_table(rows))
  if args.sheet:
    from mtface.report.sheet import write_sheets

    for path in write_sheets(workdir, data_dir(args), rows[-1]['checkpoint'].partition(' ')[0], args.on, args.stage):
      print(f'picture: {path}')
  process.say(f'results: {workdir / RESULTS_FILE}')


def export(args: Args, _: Sequence[str]) -> None:
  """Writes a network as safetensors: for timm (--format=timm), or all of it (mtface).   mtface export --workdir=... --to=FILE"""
  from mtface.export import export_network

  selection = args.checkpoint or ['last']
  if len(selection) != 1 or not args.to:
    raise UserError('export: takes one --checkpoint, and the file to write as --to=FILE.safetensors')
  workdir = workdir_flag(args)
  export_network(
    workdir, data_dir(args), selection[0], args.to, format=args.format, classifier=args.classifier, stage=args.stage
  )
  print(f'weights: {args.to}')


def params(args: Args, _: Sequence[str]) -> None:
  """Prints a config's parameter table and count."""
  from mtface.describe import parameter_report

  print(parameter_report(load_config(args)))


def describe(args: Args, _: Sequence[str]) -> None:
  """Prints what a config is: sources, samples a task after mixing, steps; for each stage what trains, at what rate; memory."""
  from mtface.describe import describe as describe_config

  print(describe_config(load_config(args), data_dir(args)))


def crossval(args: Args, _: Sequence[str]) -> None:
  """Trains and measures a config once a fold: mean and spread, beside the paper's. The same command continues."""
  from mtface.crossval import CROSSVAL_FILE, crossval_table, gather, missing_folds
  from mtface.crossval import crossval as run_crossval
  from mtface.results import Row

  workdir = workdir_flag(args)
  rows: list[Row] | None
  if args.gather:
    rows = gather(workdir, args.folds)
  else:
    config = load_config(args)
    join(args, config)
    rows = run_crossval(config, workdir, data_dir(args), folds=args.folds, fold=args.fold, checkpoints=args.checkpoint)
  if not process.is_first():
    return
  if rows is None:
    missing = ', '.join(map(str, missing_folds(workdir, args.folds)))
    print(
      f'fold {missing} to be done; the last one gathers, or: mtface crossval --gather --folds={args.folds} --workdir={workdir}'
    )
    return
  print(crossval_table(rows))
  _print_paper_rows(workdir)
  print(f'results: {workdir / CROSSVAL_FILE}')


def _print_paper_rows(workdir: pathlib.Path) -> None:
  """The rows of a shipped paper's tables that a workdir fills, if it is of one."""
  from mtface.report.tables import paper_table, read_measured, tables_of

  run = read_measured(workdir)
  for table in tables_of(config_files.shipped_module(run.config.name.partition(':')[0])).values():
    if text := paper_table(table, [run], only_filled=True):
      print(f'\n{text}\n')


def compare(args: Args, _: Sequence[str]) -> None:
  """The difference between two cross-validations, paired by fold, with an interval where one is known."""
  from mtface.crossval import compare as compare_runs
  from mtface.crossval import comparison_table

  if len(args.workdirs) != 2:
    raise UserError('--workdirs: compare takes two, as in --workdirs=runs/a2@last,runs/a2@ensemble:10')
  print(f'{args.workdirs[1]} minus {args.workdirs[0]}, in percentage points')
  print(comparison_table(compare_runs(*args.workdirs)))


def sweep(args: Args, _: Sequence[str]) -> None:
  """Measures every checkpoint of a run on every set; or trains and measures a grid: --configs=demo --over='seed=0,1'."""
  from mtface.results import results_table
  from mtface.run_config import read_config
  from mtface.stages import stage_folder, stage_of
  from mtface.sweep import sweep_checkpoints, sweep_configs

  workdir = workdir_flag(args)
  if args.configs:
    configs = [config_files.load_config(name) for name in config_files.split_names(args.configs)]
    rows = sweep_configs(configs, args.over or '', workdir, data_dir(args))
    print(results_table([row | {'checkpoint': f'{row["job"]} {row["checkpoint"]}'} for row in rows]))
    print(f'results: {workdir}/sweep.csv, .json, .md')
    return
  if args.over:
    raise UserError('--over: varies fields of configs; name them with --configs')
  print(results_table(sweep_checkpoints(workdir, data_dir(args), args.on, args.stage)))
  folder = stage_folder(workdir, stage_of(read_config(workdir), args.stage)[0])
  print(f'results: {folder}/sweep/sweep.csv, .json, .md and .png')


def table(args: Args, names: Sequence[str]) -> None:
  """Prints a paper's tables with ours beside them.   mtface table sang2017 --workdirs=runs/a1,runs/a2"""
  from mtface.report.tables import paper_table, read_measured, tables_of

  if len(names) != 1:
    raise UserError('table: name one paper, as in `mtface table sang2017 --workdirs=runs/a2`')
  path = config_files.find_config(names[0])
  tables = tables_of(config_files.load_module(path))
  if not tables:
    raise UserError(f'{path}: has no TABLES, which `mtface table` prints; the configs of papers have some')
  if args.table and args.table not in tables:
    raise UserError(f'--table={args.table}: {names[0]} has {", ".join(tables)}')
  runs = [read_measured(workdir) for workdir in args.workdirs]
  print('\n\n'.join(paper_table(tables[number], runs) for number in ([args.table] if args.table else tables)))


def report(args: Args, _: Sequence[str]) -> None:
  """Draws a run's curves over training, and galleries of its wrong predictions, into its workdir."""
  from mtface.report.curves import draw_curves
  from mtface.report.sheet import write_galleries

  workdir = workdir_flag(args)
  print(f'picture: {draw_curves(workdir, args.stage)}')
  for path in write_galleries(workdir, data_dir(args), (args.checkpoint or ['last'])[-1], args.on, args.stage):
    print(f'picture: {path}')


def doctor(args: Args, _: Sequence[str]) -> None:
  """Examines a machine or a cluster: devices, mesh, speed of collectives and of the workdir's file system, versions."""
  from mtface.config import experiment
  from mtface.doctor import doctor as examine

  join(args, experiment())
  for line in examine(local_path(args.workdir) if args.workdir else None, args.fsdp):
    process.say(line)


@dataclasses.dataclass(frozen=True)
class Command:
  """A command: its function, the flags that it takes, and whether other words may stand beside them."""

  run: Callable[[Args, Sequence[str]], None]
  flags: tuple[str, ...]
  takes_names: bool = False


_PLACE = ('distributed', 'coordinator', 'processes', 'process')
_RUN = ('workdir', 'data_dir', 'checkpoint', 'stage')
COMMANDS: dict[str, Command] = {
  'build': Command(build, ('data_dir', 'manual_dir', 'overwrite', 'beam_options'), takes_names=True),
  'describe': Command(describe, ('config', 'data_dir')),
  'params': Command(params, ('config',)),
  'train': Command(train, ('config', 'workdir', 'data_dir', *_PLACE)),
  'evaluate': Command(
    evaluate,
    ('workdir', 'data_dir', 'checkpoint', 'on', 're_estimate_statistics', 'sheet', 'predictions', 'stage', *_PLACE),
  ),
  'export': Command(export, ('workdir', 'data_dir', 'checkpoint', 'stage', 'format', 'classifier', 'to')),
  'crossval': Command(crossval, ('config', 'workdir', 'data_dir', 'folds', 'fold', 'gather', 'checkpoint', *_PLACE)),
  'compare': Command(compare, ('workdirs',)),
  'sweep': Command(sweep, ('workdir', 'data_dir', 'on', 'stage', 'configs', 'over')),
  'table': Command(table, ('workdirs', 'table'), takes_names=True),
  'doctor': Command(doctor, ('workdir', 'fsdp', *_PLACE)),
  'report': Command(report, ('workdir', 'data_dir', 'checkpoint', 'on', 'stage')),
  'features': Command(feature_commands.features, (*_RUN, 'on')),
  'classify': Command(
    feature_commands.classify, (*_RUN, 'train', 'test', 'task', 'classifiers', 'l2', 'trees', 'seed')
  ),
  'identify': Command(feature_commands.identify, (*_RUN, 'on', 'repeats', 'seed')),
  'video': Command(
    feature_commands.video,
    (*_RUN, 'train', 'test', 'level', 'boxes', 'every', 'task', 'classifiers', 'trees', 'seed'),
  ),
}

FLAG_HELP = {
  'config': 'FILE[:ARGUMENT]: a config file, or the name of a shipped one (demo, sang2017, rohani2023, savchenko2021); '
  'override its fields with --config.FIELD=VALUE',
  'workdir': 'the folder of one run (or cross-validation, or sweep): config, checkpoints, metrics, results',
  'workdirs': 'several of them, with commas; compare takes WORKDIR@SELECTION',
  'table': "which of the paper's tables, by its number there (default: all that its config has)",
  'data_dir': 'where prepared sets are; default $TFDS_DATA_DIR, then ~/tensorflow_datasets',
  'manual_dir': "the folder of the raw download, in its owner's layout (docs/datasets.md)",
  'overwrite': 'build again what is already built',
  'beam_options': "convert with Apache Beam (pip install 'mtface[beam]'), with these options of its runner, with commas",
  'checkpoint': "last, best, STEP, average:K, ensemble:K; several with commas (default: the config's evaluation.checkpoints); "
  'features are of one, no ensemble (default last)',
  'format': 'timm (a backbone for PyTorch, default) or mtface (every array of any network)',
  'classifier': "the task whose head becomes timm's classifier (default: none)",
  'to': 'the file to write, FILE.safetensors',
  'on': "sets to measure on: names of the run's config.evaluation.sets (default: all), or sources such as fer2013/gray48:private_test",
  're_estimate_statistics': 'for average:K: measure batch-norm statistics anew on training samples (otherwise they are averaged too)',
  'sheet': 'also draw a sheet of faces with labels and predictions for each set',
  'predictions': 'also write what the networks say of each image, as CSV',
  'stage': 'of a run with stages: which one (default: the last)',
  'folds': 'number of folds (default 4)',
  'fold': 'do this fold only, 0 to folds - 1: for jobs side by side',
  'gather': 'only put together the folds that are done',
  'distributed': 'be one of several processes, as the scheduler says (Slurm, Open MPI, TPU, Kubernetes)',
  'coordinator': 'be one of several processes: HOST:PORT of process 0',
  'processes': 'how many processes there are',
  'process': 'which one this is, from 0',
  'fsdp': 'devices that share large parameters, as config.mesh.fsdp (default 1)',
  'configs': 'configs to train and measure, with commas, as in sang2017:A1,sang2017:A2,fold=1',
  'train': 'what classifiers are fitted to: a source, as in utkface/rgb224:train',
  'test': 'what they are measured on',
  'task': 'the task of the labels, as in ethnicity5; the network need not predict it',
  'classifiers': 'some of svm, forest, knn, linear, with commas (default all; video: svm,forest)',
  'l2': 'scale feature vectors to length 1 before (default yes; --nol2)',
  'level': 'clip (default: the main face of each frame) or group (all faces)',
  'boxes': 'in folders of clips: detect (default: MTCNN finds the faces) or whole (each frame is a face)',
  'every': 'in folders of clips: look at each N-th frame (default 1; the set vgaf has 5)',
  'trees': 'of a random forest (default 1000)',
  'seed': 'of whatever is drawn (default 0)',
  'repeats': 'how many random galleries (default 10)',
  'over': "fields of each of the configs and their values, as in 'optimizer.rate=0.01,0.03;seed=0,1'",
}
_INTEGERS = {'folds': 4, 'fold': None, 'processes': None, 'process': None, 'fsdp': 1}
_INTEGERS |= {'trees': 1000, 'seed': 0, 'repeats': 10, 'every': 1}
_LISTS: dict[str, list[str] | None] = {'checkpoint': [], 'workdirs': [], 'beam_options': None}
_LISTS['classifiers'] = []
_SWITCHES = {'overwrite': False, 're_estimate_statistics': True, 'sheet': False, 'predictions': False, 'gather': False}
_SWITCHES |= {'distributed': False, 'l2': True}
_TEXTS = {'stage': '', 'format': 'timm', 'table': ''}


class _SourceParser(flags.ArgumentParser):
  """Sources with commas between them; those in brackets are their own, as in wiki/gray48:train[take=3000,seed=0]."""

  def parse(self, argument: str | list[str]) -> list[str]:
    """The sources, as a list."""
    if isinstance(argument, list):  # the default
      return argument
    return [name.strip() for name in re.split(r',(?![^\[]*\])', argument) if name.strip()]


def define_flags(values: Args, names: Sequence[str]) -> None:
  """Defines the flags of a command, but for --config, which `mtface/cli.py` takes out before."""
  for name in names:
    text = FLAG_HELP[name]
    if name in _SWITCHES:
      flags.DEFINE_bool(name, _SWITCHES[name], text, flag_values=values)
    elif name in _INTEGERS:
      flags.DEFINE_integer(name, _INTEGERS[name], text, flag_values=values)
    elif name == 'on':
      flags.DEFINE(_SourceParser(), name, [], text, flag_values=values)
    elif name in _LISTS:
      flags.DEFINE_list(name, _LISTS[name], text, flag_values=values)
    elif name != 'config':
      flags.DEFINE_string(name, _TEXTS.get(name), text, flag_values=values)


# --- Flags to values ----------------------------------------------------------------------------------------------------------------


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
  from mtface.distributed import Place, start

  place = Place(args.coordinator, args.processes, args.process)
  if args.distributed or place != Place():
    start(place, config.distributed)


def load_config(args: Args) -> ConfigDict:
  """The config of --config with the overrides of the command line."""
  if 'config' not in args:
    raise UserError('--config is missing: name a config file or a shipped one, e.g. --config=demo')
  return args.config
