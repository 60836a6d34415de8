"""Cells that come of stages and of other commands than evaluate, against numbers worked out by
hand; and the papers' own words on them.
"""

import json
import re

import pytest

from mtface.config.files import config_folder, load_config_file, load_module
from mtface.errors import UserError
from mtface.files import write_json
from mtface.report.papers import Column, PaperRow, PaperTable
from mtface.report.tables import fill, paper_table, read_measured, tables_of

MODULE = load_module(config_folder() / 'savchenko2021.py')
TABLES = tables_of(MODULE)
IDENTITY = {'checkpoint': 'best', 'stage': 'identity'}


def run_of(workdir, argument='mobilenet_v1', **files):
  """A measured run of Savchenko's config with these rows in its files, by command."""
  config = load_config_file(config_folder() / 'savchenko2021.py', argument)
  workdir.mkdir(exist_ok=True)
  (workdir / 'config.json').write_text(
    json.dumps({'config': json.loads(config.to_json_best_effort())})
  )
  names = {'evaluate': 'results', 'identify': 'identify', 'classify': 'classify', 'video': 'video'}
  for command, rows in files.items():
    write_json(workdir / f'{names[command]}.json', {'name': config.name, 'results': rows})
  return read_measured(workdir)


def emotions(stage, correct, set_name='affectnet', task='emotion8'):
  row = {'checkpoint': 'last', 'stage': stage, 'set': set_name, 'source': set_name, 'task': task}
  return row | {'n': 1000, 'correct': correct, 'accuracy': correct / 1000}


def lines_of(table, run, row):
  """ours, paper, difference of a row, as printed."""
  lines = paper_table(table, [run]).splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith(f'| {row} | ours'))
  return [[cell.strip() for cell in line.split('|')[3:-1]] for line in lines[start : start + 3]]


def test_stages_have_rows_of_their_own(tmp_path):
  rows = [
    emotions('emotion_head', 400),
    emotions('emotion', 600),
    emotions('emotion', 650, task='emotion7'),
  ]
  run = run_of(tmp_path, evaluate=rows)
  assert {key: cell.mean for key, cell in fill(TABLES['2'], [run]).items()} == {
    ('Pre-trained MobileNet-v1 (VGGFace2)', '8 classes'): pytest.approx(40),
    ('MobileNet-v1 (VGGFace2)', '8 classes'): pytest.approx(60),
    ('MobileNet-v1 (VGGFace2)', '7 classes'): pytest.approx(65),
  }
  assert lines_of(TABLES['2'], run, 'MobileNet-v1 (VGGFace2)') == [
    ['60.00', '65.00'],
    ['60.20', '64.71'],
    ['-0.20', '+0.29'],
  ]


@pytest.mark.parametrize(
  ('argument', 'row'),
  [
    ('imagenet=True,weights=x.safetensors', 'MobileNet-v1 (ImageNet)'),
    ('scratch=True', 'MobileNet-v1 from scratch'),
    ('rexnet_150,classes=7', 'RexNet-150 (VGGFace2), 7 classes'),
  ],
)
def test_arguments_have_rows_of_their_own(tmp_path, argument, row):
  run = run_of(tmp_path, argument, evaluate=[emotions('emotion', 500, task='emotion7')])
  assert set(fill(TABLES['2'], [run])) == {(row, '7 classes')}


def test_local_sets_are_named_as_such(tmp_path):
  run = run_of(tmp_path, 'data=local', evaluate=[emotions('emotion', 500, 'private', 'emotion7')])
  text = paper_table(TABLES['2'], [run])
  assert (
    '- 7 classes: 1,000 test images per round; private in place of affectnet: not comparable'
    in text
  )
  assert text.splitlines()[-1].startswith(
    '- savchenko2021:data=local: one run, 4 stages, width 1 ('
  )


def test_rank_1_has_the_deviation_of_its_galleries(tmp_path):
  row = IDENTITY | {'source': 'lfw/rgb224:train[ytf=1]', 'repeats': 10, 'seed': 0, 'probes': 3210}
  run = run_of(
    tmp_path,
    identify=[
      row | {'accuracies': [0.9, 0.92] * 5},
      row | {'repeats': 2, 'accuracies': [0.1, 0.2]},
    ],
  )
  ours, paper, difference = lines_of(TABLES['1'], run, 'Our MobileNet-v1')
  assert ours == ['', '91.00 ± 1.05']  # 0.01 * sqrt(10 / 9)
  assert (paper[1], difference) == ('92.60 ± 4.01', ['', '-1.60'])
  assert 'MTCNN without margins: 3,210 probes per round' in paper_table(TABLES['1'], [run])


def test_classifiers_and_the_networks_own_head(tmp_path):
  test = 'utkface/rgb224:train[take=3555,after=20149,seed=0]'
  row = IDENTITY | {
    'train': 'utkface/rgb224:train[take=20149,seed=0]',
    'test': test,
    'task': 'ethnicity5',
    'l2': True,
  }
  row |= {
    'n': 3555,
    'correct': 2844,
    'accuracy': 0.8,
    'balanced_accuracy': 0.7,
    'trees': 1000,
    'seed': 0,
  }
  head = {
    'checkpoint': 'last',
    'stage': 'attributes',
    'set': 'utkface',
    'source': test,
    'task': 'ethnicity5',
  }
  head |= {'n': 10, 'correct': 9, 'accuracy': 0.9, 'balanced_accuracy': 0.85}
  files = {
    'classify': [row | {'classifier': 'forest'}, row | {'classifier': 'forest', 'l2': False}],
    'evaluate': [head],
  }
  run = run_of(tmp_path, **files)
  assert lines_of(TABLES['7'], run, 'Random Forest')[0] == ['', '', '', '80.00', '70.00']
  assert lines_of(TABLES['7'], run, 'the same, as a head of the network')[0] == [
    '',
    '',
    '',
    '90.00',
    '85.00',
  ]
  local = run_of(
    tmp_path / 'local', 'data=local', evaluate=[head]
  )  # whose set of this name is of 64 pixels
  assert fill(TABLES['7'], [local]) == {}
  files['classify'].append(row | {'classifier': 'forest', 'seed': 1})
  with pytest.raises(
    UserError, match=r'2 results of `mtface classify` for utkface.* differ in seed \(0, 1\)'
  ):
    fill(TABLES['7'], [run_of(tmp_path, **files)])


def test_clips_by_the_better_classifier(tmp_path):
  row = {
    'checkpoint': 'last',
    'stage': 'emotion',
    'train': 'vgaf/rgb224:train',
    'test': 'vgaf/rgb224:validation',
    'task': None,
  }
  row |= {
    'level': 'group',
    'boxes': 'detect',
    'every': 1,
    'trees': 1000,
    'seed': 0,
    'n': 766,
    'no_face_test': 25,
  }
  svm = row | {'classifier': 'svm', 'correct': 383, 'accuracy': 0.5, 'accuracy_with_face': 0.52}
  forest = row | {
    'classifier': 'forest',
    'correct': 460,
    'accuracy': 460 / 766,
    'accuracy_with_face': 0.61,
  }
  run = run_of(tmp_path, video=[svm, forest, forest | {'level': 'clip', 'accuracy_with_face': 0.9}])
  cells = fill(TABLES['5'], [run])
  name = 'Our MobileNet-v1'
  assert [round(cells[name, column].mean, 2) for column in TABLES['5'].columns] == [
    50.0,
    60.05,
    60.05,
    61.0,
  ]
  assert (cells[name, 'the better of both'].n, cells[name, 'of clips with a face'].n) == (
    (766,),
    (741,),
  )
  assert '- the better of both: 766 test clips per round' in paper_table(TABLES['5'], [run])


def test_errors_are_in_years(tmp_path):
  row = {
    'checkpoint': 'last',
    'stage': 'attributes',
    'set': 'utkface_all',
    'source': 'u',
    'n': 23707,
  }
  ages = row | {
    'task': 'age_years',
    'correct': 1,
    'accuracy': 0.1,
    'mae': 6.0,
    'mae_most_probable': 7.0,
  }
  run = run_of(
    tmp_path, evaluate=[ages, row | {'task': 'gender', 'correct': 23000, 'accuracy': 23000 / 23707}]
  )
  ours, _, difference = lines_of(TABLES['6'], run, 'Our MobileNet-v1')
  assert (ours[1], difference[1]) == ('6.00', '+0.26')
  assert (
    'age: MAE, years: 23,707 test images per round; utkface_all in place of utkface_wild'
    in paper_table(TABLES['6'], [run])
  )


# --- What a table may say in general --------------------------------------------------------------


def test_figures_without_a_count_of_right_ones_and_of_sets_together(tmp_path):
  """A multi-label task has no `correct`; errors of sets taken together are
  weighted by their faces.
  """
  columns = {'AUs': Column('action_units', ('a',)), 'years': Column('age_years', ('a', 'b'), 'mae')}
  table = PaperTable(
    't', columns, {'R': PaperRow({}, paper={'AUs': (93.9, None)}, stage='emotion')}
  )
  row = {'checkpoint': 'last', 'stage': 'emotion', 'source': 's'}
  rows = [
    row | {'set': 'a', 'task': 'action_units', 'n': 7, 'accuracy': 0.75},
    row | {'set': 'a', 'task': 'age_years', 'n': 100, 'correct': 1, 'accuracy': 0.01, 'mae': 2.0},
    row | {'set': 'b', 'task': 'age_years', 'n': 300, 'correct': 1, 'accuracy': 0.01, 'mae': 6.0},
  ]
  cells = fill(table, [run_of(tmp_path, evaluate=rows)])
  assert {column: (cell.mean, cell.n) for (_, column), cell in cells.items()} == {
    'AUs': (75.0, (7,)),
    'years': (5.0, (400,)),
  }


def test_others_rows_are_filled_by_no_run(tmp_path):
  run = run_of(tmp_path, evaluate=[emotions('emotion', 600)])
  of_others = {name for name, row in TABLES['2'].rows.items() if row.arguments is None}
  assert {'PSR (VGG-16) [20]', 'NFNet-F0 (ImageNet)'} <= of_others
  assert not of_others & {row for row, _ in fill(TABLES['2'], [run])}
  lines = paper_table(TABLES['2'], [run]).splitlines()
  assert '| RAN [22] | paper | 59.50 |  |' in lines
  assert paper_table(TABLES['1'], [run], only_filled=True) == ''


def test_columns_that_cannot_be():
  with pytest.raises(
    UserError, match=r'balanced_accuracy of a and b together is not defined; name one set'
  ):
    Column('smile', ('a', 'b'), 'balanced_accuracy')
  with pytest.raises(
    UserError,
    match=r"unknown command 'predict' of a column; expected evaluate, identify, classify, video",
  ):
    Column('smile', ('a',), command='predict')


# --- The paper's figures, by what its text says of them -------------------------------------------


def paper(number, row, column):
  return TABLES[number].rows[row].paper[column][0]


def test_what_the_text_says_of_its_tables():
  faces = list(TABLES['1'].columns)
  gains = [
    paper('1', f'Our {name}', faces[1]) - paper('1', f'Our {name}', faces[0])
    for name in MODULE.NAMES.values()
  ]
  assert all(1 <= gain <= 2 for gain in gains)  # section 3.1: "increased on 1-2%"
  best, attention = 'the better of both', 'Noisy student with iterative training [26]'
  assert paper('4', 'Our MobileNet-v1', best) - paper('4', attention, best) == pytest.approx(
    0.18
  )  # 3.2: "0.18% more accurate"
  assert (
    paper('4', 'Our EfficientNet-B0', best) - paper('4', attention, best) >= 4
  )  # "4% higher accuracy"
  assert paper('5', 'Our MobileNet-v1', best) - paper(
    '5', 'Our EfficientNet-B0', best
  ) == pytest.approx(2.12)  # "2% higher"
  assert (
    paper('6', 'Our MobileNet-v1', 'gender') - paper('6', 'DEX', 'gender') >= 2.5
  )  # 3.3: "at least 2.5% higher"
  ages = 'age: MAE, years'
  assert paper('6', 'DEX', ages) - paper('6', 'Our MobileNet-v1', ages) >= 0.6  # "0.6 lower MAE"
  assert (
    max(row.paper.get('8 classes', (0,))[0] for row in TABLES['2'].rows.values()) == 61.32
  )  # bold in each column
  assert max(row.paper.get('7 classes', (0,))[0] for row in TABLES['2'].rows.values()) == 65.74
  assert max(row.paper['Our MobileNet-v1'][0] for row in TABLES['7'].rows.values()) == 87.6


@pytest.mark.parametrize('number', TABLES)
def test_rows_ask_for_arguments_and_stages_that_there_are(number):
  """Else a row could never be filled, silently."""
  known = load_config_file(config_folder() / 'savchenko2021.py', 'weights=x.safetensors')
  for name, row in TABLES[number].rows.items():
    if row.arguments is not None:
      assert set(row.arguments) <= set(known.arguments), name
      assert row.stage in known.stages, name
      assert set(row.columns) | set(row.stand_ins) | set(row.paper) <= set(
        TABLES[number].columns
      ), name
  assert re.match(rf'Savchenko 2021, Table {number}: ', TABLES[number].title)
