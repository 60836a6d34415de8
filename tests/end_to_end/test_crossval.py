"""A cross-validation that was killed, continued by the same command: the table of one that nothing
disturbed.
"""

import json
import signal

import pytest

from tests.command import ROOT, python
from tests.end_to_end.killed import CROSSVAL_MOMENTS

FOLDS = str(ROOT / 'tests' / 'tiny_folds.py')


@pytest.fixture(scope='module')
def command(tiny_data):
  return lambda workdir: [
    'crossval',
    f'--config={FOLDS}',
    '--folds=2',
    f'--workdir={workdir}',
    f'--data_dir={tiny_data}',
  ]


@pytest.mark.parametrize('moment', CROSSVAL_MOMENTS)
def test_a_killed_cross_validation_ends_with_the_same_table(mtface, command, tmp_path, moment):
  killed = python('tests.end_to_end.killed', moment, *command(tmp_path / 'killed'))
  assert killed.code == -signal.SIGKILL, killed.err
  assert not (tmp_path / 'killed/crossval.json').exists()
  again, undisturbed = (
    mtface(*command(tmp_path / 'killed')),
    mtface(*command(tmp_path / 'undisturbed')),
  )
  assert (again.code, again.warnings) == (0, []), again.err
  assert table(again) == table(undisturbed)
  results = [
    json.loads((tmp_path / name / 'crossval.json').read_text())
    for name in ('killed', 'undisturbed')
  ]
  assert results[0] == results[1]
  third = mtface(*command(tmp_path / 'killed'))
  assert table(third) == table(again)
  assert third.out.count('done before') == 2


def table(result):
  lines = [line for line in result.out.splitlines() if line.startswith('|')]
  assert len(lines) == 2 + 4, result.out
  return lines


def test_one_fold_after_the_other(mtface, command, tmp_path):
  first = mtface(*command(tmp_path / 'run'), '--fold=1')
  assert first.code == 0, first.err
  assert f'mtface crossval --gather --folds=2 --workdir={tmp_path}/run' in first.out
  early = mtface('crossval', '--gather', '--folds=2', f'--workdir={tmp_path}/run').error
  assert 'fold 0 of 2 is not done' in early
  second = mtface(*command(tmp_path / 'run'), '--fold=0')
  assert len(table(second)) == 6
  gathered = mtface('crossval', '--gather', '--folds=2', f'--workdir={tmp_path}/run')
  assert table(gathered) == table(second)
  compared = mtface('compare', f'--workdirs={tmp_path}/run@last,{tmp_path}/run@ensemble:2')
  assert (
    compared.out.splitlines()[0]
    == f'{tmp_path}/run@ensemble:2 minus {tmp_path}/run@last, in percentage points'
  )


@pytest.mark.parametrize(
  ('argv', 'expected'),
  [
    (['crossval', '--gather', '--workdir=nowhere'], 'nowhere: fold 0, 1, 2, 3 of 4 is not done'),
    (['compare', '--workdirs=a'], '--workdirs: compare takes exactly two'),
    (['compare', '--workdirs=a,b'], 'a/crossval.json: not found'),
    (['sweep', '--workdir=nowhere'], 'nowhere/config.json: not found'),
    (
      ['sweep', '--workdir=w', '--over=seed=1'],
      '--over varies fields of the configs in --configs; pass --configs too',
    ),
    (['sweep', '--workdir=w', '--configs=nothing'], 'no shipped config of that name'),
    (['table'], 'table: pass exactly one paper'),
    (['table', 'demo'], 'defines no TABLES'),
    (['table', 'sang2017', '--table=1'], '--table=1: sang2017 has no such table; it has 2'),
    (['table', 'sang2017', '--workdirs=nowhere'], 'nowhere/config.json: not found'),
    (['report', '--workdir=nowhere'], 'nowhere/config.json: not found'),
    (['evaluate', 'sang2017', '--workdir=w'], "'sang2017': evaluate takes only flags"),
    (['crossval', '--folds=x', '--workdir=w'], '--folds'),
  ],
)
def test_bad_input(mtface, argv, expected):
  assert expected in mtface(*argv).error


def test_the_table_of_a_paper_without_any_run(mtface):
  result = mtface('table', 'sang2017')
  assert '| B4 | ours |  |  |  |  |  |' in result.out
  assert (
    '|  | paper | 96.23 ± 0.58 | 70.15 ± 0.19 | 71.62 ± 0.39 | 94.00 ± 0.24 | 92.20 ± 0.11 |'
    in result.out
  )


def test_reports_are_drawn(mtface, run_copy, tiny_data):
  result = mtface('report', f'--workdir={run_copy}', f'--data_dir={tiny_data}')
  assert result.code == 0, result.err
  pictures = [line.removeprefix('picture: ') for line in result.out.splitlines()]
  assert pictures[0] == f'{run_copy}/report/curves.png'
  assert {p.rpartition('/')[2] for p in pictures[1:]} <= {
    'wrong_smiles_smile.png',
    'wrong_people_gender.png',
  }
  assert len(pictures) > 1, 'twelve steps on noise leave mistakes'
