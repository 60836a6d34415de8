"""The commands of `mtface`: each calls the library with its flags and prints where the result is.
`mtface/cli/main.py` runs them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence

from mtface import process
from mtface.cli import audit_commands, feature_commands, start
from mtface.cli.flags import Args, config_of, data_dir, join, one_checkpoint, workdir_flag
from mtface.config import files as config_files
from mtface.errors import UserError
from mtface.files import local_path


def build(args: Args, names: Sequence[str]) -> None:
  """Converts a raw download to a data set: mtface build genki4k/gray48 --manual_dir=..."""
  from mtface.config.imports import load_imports
  from mtface.data.build import build as build_set

  load_imports(args.imports, '--imports')
  if not names:
    raise UserError(
      'build: name a set, e.g. `mtface build synthetic_faces/smile_gray48`; docs/datasets.md lists '
      'them'
    )
  for name in names:
    build_set(
      name,
      data_dir=data_dir(args),
      manual_dir=args.manual_dir,
      overwrite=args.overwrite,
      beam_options=args.beam_options,
    )


def train(args: Args, _: Sequence[str]) -> None:
  """Trains a config; rerun the same command to resume an interrupted run."""
  from mtface.training.loop import train as train_config

  config, workdir = config_of(args), workdir_flag(args)
  join(args, config)
  process.say(f'training {config.name} in {workdir}')
  train_config(config, workdir, data_dir(args))
  process.say(
    f'done: checkpoints in {workdir}; next: mtface evaluate --workdir={workdir} '
    f'--data_dir={data_dir(args)}'
  )


def evaluate(args: Args, _: Sequence[str]) -> None:
  """Evaluates checkpoints of a run: last, best, STEP, average:K, ensemble:K."""
  from mtface.config.saved import read_config
  from mtface.evaluation.evaluate import evaluate as evaluate_run
  from mtface.evaluation.results import RESULTS_FILE, class_tables, results_table

  workdir = workdir_flag(args)
  if args.sheet and (args.distributed or args.processes):
    raise UserError(
      '--sheet needs a single process; drop it here, then run `mtface evaluate --sheet` once more '
      'alone'
    )
  join(args, read_config(workdir))
  rows = evaluate_run(
    workdir,
    data_dir(args),
    checkpoints=args.checkpoint,
    on=args.on,
    re_estimate=args.re_estimate_statistics,
    predictions=args.predictions,
    stage=args.stage,
    calibrated=args.calibrated,
  )
  process.say(results_table(rows))
  if by_class := class_tables(rows):
    process.say(f'\n{by_class}\n')
  if args.sheet:
    from mtface.evaluation.chosen import CALIBRATED
    from mtface.evaluation.evaluator import AVERAGED
    from mtface.report.sheet import write_sheets

    selection = rows[-1]['checkpoint'].removesuffix(CALIBRATED).removesuffix(AVERAGED)
    for path in write_sheets(workdir, data_dir(args), selection, args.on, args.stage):
      print(f'picture: {path}')
  process.say(f'results: {workdir / RESULTS_FILE}')


def export(args: Args, _: Sequence[str]) -> None:
  """Exports a network: ONNX or StableHLO from pixels to probabilities, or safetensors."""
  from mtface.publish.export import export_program
  from mtface.publish.weights import PROGRAMS, export_network, format_of

  selection = args.checkpoint or ['last']
  if len(selection) != 1 or not args.to:
    raise UserError(
      'export: pass exactly one --checkpoint, and the file to write as --to=FILE.onnx, '
      'FILE.stablehlo or FILE.safetensors'
    )
  where = (workdir_flag(args), data_dir(args), selection[0], args.to)
  format = args.format or format_of(args.to)
  if args.float16 and args.int8:
    raise UserError('--float16 --int8: a file has one precision; pass one of them')
  precision = 'float16' if args.float16 else 'int8' if args.int8 else 'float32'
  if args.converter and format != 'onnx':
    raise UserError(f'--converter: is of --format=onnx, not of --format={format}')
  if format in PROGRAMS:
    if args.classifier:
      raise UserError(f'--classifier: is of weights; --format={format} answers all tasks')
    form = {
      'to_precision': precision,
      'calibrated': args.calibrated,
      'converter': args.converter,
    }
    print(export_program(*where, format=format, stage=args.stage, **form).report())
    return
  if precision != 'float32':
    raise UserError(f'--{precision}: is of --format=onnx, not of --format={format}')
  if args.calibrated:
    raise UserError(f'--calibrated: is of {" and ".join(PROGRAMS)}; weights have no temperature')
  export_network(*where, format=format, classifier=args.classifier, stage=args.stage)
  print(f'weights: {args.to}')


def demo_page(args: Args, _: Sequence[str]) -> None:
  """Writes a web page that runs an exported network: --export=MODEL.onnx --to=FOLDER"""
  from mtface.publish.demo_page import write_page

  if not args.export or not args.to:
    raise UserError(
      'demo-page: pass the network as --export=MODEL.onnx and a folder as --to=FOLDER'
    )
  path = write_page(args.export, args.to)
  print(f'page: {path}; to see it: python3 -m http.server --bind 127.0.0.1 -d {path.parent}')


def predict(args: Args, names: Sequence[str]) -> None:
  """Finds every face in photographs, videos or a camera: mtface predict --workdir=... photo.jpg"""
  from mtface.publish import predictor, sinks
  from mtface.publish.inputs import find_inputs
  from mtface.publish.predict import predict as predict_faces

  if bool(args.workdir) == bool(args.model):
    raise UserError(
      'predict: pass the folder of a run as --workdir, or an exported file as --model'
    )
  inputs = find_inputs([*([args.input] if args.input else []), *names])
  outputs = [local_path(path) for path in args.output]
  sinks.check_outputs(outputs, inputs, args.timeline)
  model = predictor.load(
    args.workdir or args.model,
    one_checkpoint(args) if args.checkpoint else '',
    args.stage,
    data_dir=data_dir(args),
    re_estimate=args.re_estimate_statistics,
    calibrated=args.calibrated,
  )
  print(model.model.about, file=sys.stderr)
  count = predict_faces(
    model,
    inputs,
    outputs,
    every=args.every,
    timeline=args.timeline,
    second_look=args.second_look,
  )
  for path in outputs:
    print(f'written: {path}')
  print(count, file=sys.stderr)
  if count.failed:
    raise UserError(
      f'{len(count.failed)} of {len(inputs)} inputs could not be read, as told above; the others '
      'are done'
    )


def params(args: Args, _: Sequence[str]) -> None:
  """Prints a config's parameter table and parameter count."""
  from mtface.report.describe import parameter_report

  print(parameter_report(config_of(args)))


def describe(args: Args, _: Sequence[str]) -> None:
  """Describes a config: sources, samples per task, steps, memory, what each stage trains."""
  from mtface.report.describe import describe as describe_config

  print(describe_config(config_of(args), data_dir(args)))


def compile_program(args: Args, _: Sequence[str]) -> None:
  """Compiles a config for devices here or elsewhere (--target=h100:8): memory, traffic, scaling."""
  from mtface.compiled.apart import compile_config
  from mtface.compiled.report import report as report_of
  from mtface.files import write_json

  records = compile_config(
    config_of(args),
    args.target,
    program=args.program,
    images=args.batch_size,
    stage=args.stage,
    texts=args.text,
  )
  print(report_of(records))
  if args.text:
    print(f'programs: {args.text}')
  if args.json:
    write_json(local_path(args.json), records)
    print(f'figures: {args.json}')


def crossval(args: Args, _: Sequence[str]) -> None:
  """Cross-validates a config: mean and spread over folds, next to the paper's. Rerun to resume."""
  from mtface.evaluation.crossval import CROSSVAL_FILE, crossval_table, gather, missing_folds
  from mtface.evaluation.crossval import crossval as run_crossval
  from mtface.evaluation.results import Row

  workdir = workdir_flag(args)
  rows: list[Row] | None
  if args.gather:
    rows = gather(workdir, args.folds)
  else:
    config = config_of(args)
    join(args, config)
    rows = run_crossval(
      config, workdir, data_dir(args), folds=args.folds, fold=args.fold, checkpoints=args.checkpoint
    )
  if not process.is_first():
    return
  if rows is None:
    missing = ', '.join(map(str, missing_folds(workdir, args.folds)))
    print(
      f'folds left to run: {missing}; the last one gathers, or run: mtface crossval --gather '
      f'--folds={args.folds} --workdir={workdir}'
    )
    return
  print(crossval_table(rows))
  _print_paper_rows(workdir)
  print(f'results: {workdir / CROSSVAL_FILE}')


def _print_paper_rows(workdir: pathlib.Path) -> None:
  """The rows that a workdir fills in the tables of a shipped paper, if it belongs to one."""
  from mtface.report.tables import paper_table, read_measured, tables_of

  run = read_measured(workdir)
  for table in tables_of(config_files.shipped_module(run.config.name.partition(':')[0])).values():
    if text := paper_table(table, [run], only_filled=True):
      print(f'\n{text}\n')


def compare(args: Args, _: Sequence[str]) -> None:
  """Compares two cross-validations, paired by fold, with a confidence interval if known."""
  from mtface.evaluation.compare import compare as compare_runs
  from mtface.evaluation.compare import comparison_table

  if len(args.workdirs) != 2:
    raise UserError(
      '--workdirs: compare takes exactly two, as in --workdirs=runs/a2@last,runs/a2@ensemble:10'
    )
  print(f'{args.workdirs[1]} minus {args.workdirs[0]}, in percentage points')
  print(comparison_table(compare_runs(*args.workdirs)))


def sweep(args: Args, _: Sequence[str]) -> None:
  """Evaluates all checkpoints of a run, or a grid: --configs=demo --over='seed=0,1'."""
  from mtface.config.saved import read_config
  from mtface.config.stages import stage_folder, stage_of
  from mtface.evaluation.results import results_table
  from mtface.evaluation.sweep import over_seeds, seeds_table, sweep_checkpoints, sweep_configs
  from mtface.report.curves import draw_sweep

  workdir = workdir_flag(args)
  if args.configs:
    place = str(data_dir(args))
    names = config_files.split_names(args.configs)
    configs = [config_files.load_config(name, place) for name in names]
    rows = sweep_configs(configs, args.over or '', workdir, data_dir(args))
    print(
      results_table([row | {'checkpoint': f'{row["job"]} {row["checkpoint"]}'} for row in rows])
    )
    if seeds := over_seeds(rows):
      print(f'\n{seeds_table(seeds)}\n')
    print(f'results: {workdir}/sweep.csv, .json, .md')
    return
  if args.over:
    raise UserError('--over varies fields of the configs in --configs; pass --configs too')
  rows = sweep_checkpoints(workdir, data_dir(args), args.on, args.stage)
  print(results_table(rows))
  folder = stage_folder(workdir, stage_of(read_config(workdir), args.stage)[0]) / 'sweep'
  draw_sweep(folder / 'sweep.png', rows)
  print(f'results: {folder}/sweep.csv, .json, .md and .png')


def search(args: Args, _: Sequence[str]) -> None:
  """Searches for better values of a config's fields, by Optuna: --over='optimizer.rate=0.01:0.1'"""
  from mtface.evaluation.search import overrides, search_table
  from mtface.evaluation.search import search as search_config
  from mtface.report.curves import draw_search

  if not args.over or args.trials < 1:
    raise UserError(
      "search: pass what to search over, as in --over='optimizer.rate=0.003:0.1:log;"
      "batch_size=64,128', and how many trials, at least 1, as in --trials=30"
    )
  workdir = workdir_flag(args)
  found = search_config(config_of(args), args.over, args.trials, workdir, data_dir(args))
  print(search_table(found))
  if any(of['score'] is not None for of in found):
    print(f'picture: {draw_search(workdir / "search.png", found)}')
    print(f'best: {overrides(found[0]["values"])}')
  print(f'results: {workdir}/search.csv, search.md, best.json')


def table(args: Args, names: Sequence[str]) -> None:
  """Prints a paper's tables with ours: mtface table sang2017 --workdirs=runs/a1,runs/a2"""
  from mtface.report.tables import paper_table, read_measured, tables_of

  if len(names) != 1:
    raise UserError(
      'table: pass exactly one paper, as in `mtface table sang2017 --workdirs=runs/a2`'
    )
  path = config_files.find_config(names[0])
  tables = tables_of(config_files.load_module(path))
  if not tables:
    raise UserError(f"{path}: defines no TABLES, which `mtface table` prints; use a paper's config")
  if args.table and args.table not in tables:
    raise UserError(
      f'--table={args.table}: {names[0]} has no such table; it has {", ".join(tables)}'
    )
  runs = [read_measured(workdir) for workdir in args.workdirs]
  print(
    '\n\n'.join(
      paper_table(tables[number], runs) for number in ([args.table] if args.table else tables)
    )
  )


def report(args: Args, _: Sequence[str]) -> None:
  """Draws a run's training curves and galleries of mistakes; with --html, writes a page of it."""
  if args.html:
    _page(args)
    return
  if given := [flag for flag in ('workdirs', 'to', 'thumbnails') if args[flag].value]:
    raise UserError(f'--{given[0]}: is of the page; pass --html too')
  from mtface.report.curves import draw_curves
  from mtface.report.sheet import write_galleries

  workdir, checkpoint = workdir_flag(args), one_checkpoint(args)
  print(f'picture: {draw_curves(workdir, args.stage)}')
  for path in write_galleries(workdir, data_dir(args), checkpoint, args.on, args.stage):
    print(f'picture: {path}')


def _page(args: Args) -> None:
  from mtface.report.page.write import write_page

  if args.on:
    raise UserError('--on: is of galleries of mistakes; a page has all sets that were evaluated')
  path = write_page(
    args.workdirs or [workdir_flag(args)],
    data_dir(args),
    to=args.to or '',
    checkpoint=one_checkpoint(args, ''),
    stage=args.stage,
    thumbnails=args.thumbnails,
  )
  print(f'page: {path}')


def card(args: Args, _: Sequence[str]) -> None:
  """Writes a model card of a run, for people and for Hugging Face's Hub."""
  from mtface.report.card.write import write_card

  path = write_card(
    workdir_flag(args),
    data_dir(args),
    to=args.to or '',
    checkpoint=one_checkpoint(args, ''),
    stage=args.stage,
  )
  print(f'model card: {path}')


def associate(args: Args, _: Sequence[str]) -> None:
  """Mean scores of one task by the predicted class of another: --by=emotion7 --of=action_units"""
  from mtface.config.saved import read_config
  from mtface.config.stages import stage_folder, stage_of
  from mtface.evaluation.associate import associate as associate_tasks
  from mtface.evaluation.associate import association_table
  from mtface.report.heatmap import write_heatmap

  workdir = workdir_flag(args)
  if not (args.by and args.of):
    raise UserError('associate: name two tasks, as in --by=emotion7 --of=action_units')
  found = associate_tasks(
    workdir,
    data_dir(args),
    by=args.by,
    of=args.of,
    checkpoint=one_checkpoint(args),
    on=args.on,
    stage=args.stage,
  )
  folder = stage_folder(workdir, stage_of(read_config(workdir), args.stage)[0]) / 'report'
  for of_set in found:
    print(f'{of_set.name}:\n\n{association_table(of_set, args.threshold)}\n')
    picture, numbers = write_heatmap(folder, of_set)
    print(f'picture: {picture}\nnumbers: {numbers}')


def doctor(args: Args, _: Sequence[str]) -> None:
  """Checks a machine or cluster: devices, mesh, versions, network and file system speed."""
  from mtface.config.schema import experiment
  from mtface.parallel import cores, programs
  from mtface.parallel.doctor import doctor as examine

  join(args, experiment())
  lines = examine(local_path(args.workdir) if args.workdir else None, args.fsdp)
  for line in [*lines, start.about(), cores.about(), programs.about()]:
    process.say(line)


@dataclasses.dataclass(frozen=True)
class Command:
  """A command: its function, its flags, and whether it also takes positional arguments."""

  run: Callable[[Args, Sequence[str]], None]
  flags: tuple[str, ...]
  takes_names: bool = False


_PLACE = ('distributed', 'coordinator', 'processes', 'process')
_RUN = ('workdir', 'data_dir', 'checkpoint', 'stage')
COMMANDS: dict[str, Command] = {
  'build': Command(
    build, ('data_dir', 'manual_dir', 'imports', 'overwrite', 'beam_options'), takes_names=True
  ),
  'describe': Command(describe, ('config', 'data_dir')),
  'params': Command(params, ('config', 'data_dir')),
  'compile': Command(
    compile_program,
    ('config', 'target', 'batch_size', 'stage', 'program', 'json', 'text', 'data_dir'),
  ),
  'train': Command(train, ('config', 'workdir', 'data_dir', *_PLACE)),
  'evaluate': Command(
    evaluate,
    (
      'workdir',
      'data_dir',
      'checkpoint',
      'on',
      're_estimate_statistics',
      'sheet',
      'predictions',
      'calibrated',
      'stage',
      *_PLACE,
    ),
  ),
  'export': Command(
    export,
    (*_RUN, 'format', 'to', 'float16', 'int8', 'calibrated', 'classifier', 'converter'),
  ),
  'demo-page': Command(demo_page, ('export', 'to')),
  'predict': Command(
    predict,
    (
      'workdir',
      'model',
      'input',
      'output',
      'checkpoint',
      'calibrated',
      'stage',
      'timeline',
      'every',
      'second_look',
      'data_dir',
      're_estimate_statistics',
    ),
    takes_names=True,
  ),
  'crossval': Command(
    crossval, ('config', 'workdir', 'data_dir', 'folds', 'fold', 'gather', 'checkpoint', *_PLACE)
  ),
  'compare': Command(compare, ('workdirs',)),
  'sweep': Command(sweep, ('workdir', 'data_dir', 'on', 'stage', 'configs', 'over')),
  'search': Command(search, ('config', 'workdir', 'data_dir', 'over', 'trials')),
  'table': Command(table, ('workdirs', 'table'), takes_names=True),
  'doctor': Command(doctor, ('workdir', 'fsdp', *_PLACE)),
  'report': Command(report, (*_RUN, 'on', 'html', 'workdirs', 'to', 'thumbnails')),
  'card': Command(card, (*_RUN, 'to')),
  'associate': Command(associate, (*_RUN, 'on', 'by', 'of', 'threshold')),
  'calibrate': Command(audit_commands.calibrate, (*_RUN, 'fit', 'on')),
  'audit': Command(audit_commands.audit, (*_RUN, 'on', 'calibrated', *audit_commands.FLAGS)),
  'features': Command(feature_commands.features, (*_RUN, 'on')),
  'classify': Command(
    feature_commands.classify,
    (*_RUN, 'train', 'test', 'task', 'classifiers', 'l2', 'trees', 'seed'),
  ),
  'identify': Command(feature_commands.identify, (*_RUN, 'on', 'repeats', 'seed')),
  'video': Command(
    feature_commands.video,
    (*_RUN, 'train', 'test', 'level', 'boxes', 'every', 'task', 'classifiers', 'trees', 'seed'),
  ),
}
