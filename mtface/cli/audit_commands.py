"""The commands that say how far a network can be trusted; `mtface/cli/commands.py` lists them with
their flags.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtface.cli.flags import Args, data_dir, one_checkpoint, workdir_flag
from mtface.errors import UserError
from mtface.files import local_path

if TYPE_CHECKING:  # they import JAX, which takes longer than `mtface help`
  from mtface.evaluation.answers import Answers
  from mtface.evaluation.answers_csv import Beside

_CSV = ('label', 'predicted', 'probabilities', 'positive', 'subject', 'image_id')
FLAGS = ('task', 'groups', 'together', 'resamples', 'seed', 'csv', *_CSV)


def calibrate(args: Args, _: Sequence[str]) -> None:
  """Fits a temperature a task on one set, measures it on others: --fit=SET --on=OTHER_SET"""
  from mtface.evaluation.calibrate import calibrate as calibrate_run
  from mtface.evaluation.calibrate import calibration_table
  from mtface.evaluation.calibration import CALIBRATION_FILE

  workdir = workdir_flag(args)
  rows = calibrate_run(
    workdir,
    data_dir(args),
    fit=args.fit,
    checkpoint=one_checkpoint(args),
    on=args.on,
    stage=args.stage,
  )
  print(calibration_table(rows))
  print(f'temperatures: {workdir / CALIBRATION_FILE}; --calibrated applies them')


def audit(args: Args, _: Sequence[str]) -> None:
  """Accuracy, error rates and calibration by group, of a run or of a csv: --on=SET or --csv=FILE"""
  from mtface.evaluation.audit import LEVEL
  from mtface.evaluation.audit import audit as audit_answers
  from mtface.evaluation.audit_table import audit_text, rule_text
  from mtface.progress import warn
  from mtface.report.groups import write_audit

  folder, answers = _of_csv(args) if args.csv else _of_run(args)
  grouped = [of for of in answers if of.groups]
  if grouped:
    for name in sorted({of.set_name for of in answers if not of.groups}):
      warn(f'{name}: labels neither gender nor age nor ethnicity; --groups names other labels')
  level = LEVEL / max(1, len(grouped))  # for the whole command
  paths = []
  for of in grouped or answers[:1]:  # the error of what has no groups
    found = audit_answers(
      of, seed=args.seed, replicates=args.resamples, level=level, together=args.together
    )
    print(f'{audit_text(found)}\n')
    paths += write_audit(folder, found)
  print(rule_text(LEVEL))
  for path in paths:
    print(f'{"picture" if path.suffix == ".png" else "numbers"}: {path}')


def _of_run(args: Args) -> tuple[pathlib.Path, list[Answers]]:
  from mtface.config.saved import read_config
  from mtface.config.stages import stage_folder, stage_of
  from mtface.evaluation.answers import answers_of_run
  from mtface.files import file_name

  workdir, checkpoint = workdir_flag(args), one_checkpoint(args)
  if given := [flag for flag in _CSV if flag != 'image_id' and args[flag].value]:
    raise UserError(f'--{given[0]}: is of a csv; pass --csv=FILE too')
  answers = answers_of_run(
    workdir,
    data_dir(args),
    checkpoint=checkpoint,
    on=args.on,
    stage=args.stage,
    groups=args.groups,
    task=args.task or '',
    calibrated=args.calibrated,
  )
  name = file_name(f'{checkpoint}_calibrated' if args.calibrated else checkpoint)
  folder = stage_folder(workdir, stage_of(read_config(workdir), args.stage)[0])
  return folder / 'audit' / name, answers


def _of_csv(args: Args) -> tuple[pathlib.Path, list[Answers]]:
  from mtface.evaluation.answers_csv import Columns, answers_of_csv

  if given := [
    x for x in ('workdir', 'checkpoint', 'stage', 'calibrated', 'task') if args[x].value
  ]:
    raise UserError(f'--{given[0]}: is of a run; --csv is audited as it is')
  if not args.label:
    raise UserError('--label is missing: pass the column of --csv with the labels')
  path = local_path(args.csv)
  columns = Columns(
    args.label,
    args.predicted,
    tuple(args.probabilities),
    args.positive,
    () if args.on else tuple(args.groups),
    args.subject,
    args.image_id,
  )
  return path.parent / f'{path.stem}_audit', [answers_of_csv(path, columns, _beside(args))]


def _beside(args: Args) -> Beside | None:
  from mtface.data.groupings import groups_of
  from mtface.data.sources import load_source
  from mtface.evaluation.answers_csv import Beside

  if not args.on:
    return None
  if len(args.on) > 1:
    raise UserError(f'--on={",".join(args.on)}: one set has the images of a csv; pass one')
  source = load_source(args.on[0], data_dir(args))
  return Beside(source, groups_of(source, data_dir(args), args.groups))
