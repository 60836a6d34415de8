"""A paper's table against numbers worked out by hand here."""

import json

import pytest

from mtface.config.files import config_folder, load_module
from mtface.config.schema import experiment
from mtface.errors import UserError
from mtface.files import write_json
from mtface.report.papers import Column, PaperRow, PaperTable
from mtface.report.tables import fill, paper_table, read_measured

TABLE = PaperTable(
  'Somebody 2020, Table 1',
  {'smiles': Column('smile', ('own',)), 'men': Column('gender', ('imdb', 'wiki'))},
  {
    'R1': PaperRow({'row': ('R1', 'R2')}, 'last', {'smiles': (90.0, 0.5), 'men': (80.0, None)}),
    'R2': PaperRow(
      {'row': ('R1', 'R2')},
      'ensemble:10',
      {'smiles': (91.0, 0.5)},
      {'men': Column('gender', ('other',))},
    ),
    'R3': PaperRow({'row': ('R3',)}, 'last', {'men': (70.0, 0.1)}),
  },
)


def measured(workdir, row, counts, folds=2, seed=0, more=()):
  """A cross-validation (or with folds=1 a run) with {(checkpoint, set, task): ([correct], [n])}."""
  config = experiment()
  config.name, config.arguments, config.seed = f'paper:{row}', {'row': row}, seed
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps({'config': json.loads(config.to_json())}))
  rows = []
  for (checkpoint, name, task), (correct, n) in counts.items():
    one = {'checkpoint': checkpoint, 'set': name, 'task': task, 'source': name, 'accuracy': 0}
    rows.append(
      one | ({'correct': correct[0], 'n': n[0]} if folds == 1 else {'correct': correct, 'n': n})
    )
  rows += more
  if folds == 1:
    write_json(workdir / 'results.json', {'name': config.name, 'results': rows})
  else:
    write_json(workdir / 'crossval.json', {'folds': folds, 'results': rows})
  return read_measured(workdir)


@pytest.fixture
def run(tmp_path):
  counts = {
    ('last', 'own', 'smile'): ([8, 9], [10, 10]),
    ('last', 'imdb', 'gender'): ([60, 70], [80, 80]),
    ('last', 'wiki', 'gender'): ([20, 20], [20, 20]),
    ('ensemble:10', 'own', 'smile'): ([9, 9], [10, 10]),
    ('ensemble:10', 'other', 'gender'): ([5, 6], [10, 10]),
    ('best', 'own', 'smile'): ([1, 1], [10, 10]),
  }
  return measured(tmp_path / 'run', 'R1', counts)


def test_cells(run):
  cells = fill(TABLE, [run])
  assert set(cells) == {('R1', 'smiles'), ('R1', 'men'), ('R2', 'smiles'), ('R2', 'men')}
  # 80 and 90 percent; 80 and 90 of 100 people, of whom imdb gives 80.
  for key in (('R1', 'smiles'), ('R1', 'men')):
    assert (cells[key].mean, cells[key].std) == (pytest.approx(85), pytest.approx(50**0.5))
  assert cells['R1', 'men'].n == (100, 100)
  assert cells['R2', 'men'].sets == ('other',)


def test_half_of_the_sets_of_a_column_is_no_cell(tmp_path):
  run = measured(tmp_path / 'half', 'R3', {('last', 'imdb', 'gender'): ([7, 7], [8, 8])})
  assert fill(TABLE, [run]) == {}


def test_text(run):
  lines = paper_table(TABLE, [run]).splitlines()
  assert lines[0] == 'Somebody 2020, Table 1'
  assert lines[2] == '|  |  | smiles | men |'
  assert lines[4:13] == [
    '| R1 | ours | 85.00 ± 7.07 | 85.00 ± 7.07 |',
    '|  | paper | 90.00 ± 0.50 | 80.00 |',
    '|  | difference | -5.00 | +5.00 |',
    '| R2 | ours | 90.00 ± 0.00 | 55.00 ± 7.07 |',
    '|  | paper | 91.00 ± 0.50 |  |',
    '|  | difference | -1.00 |  |',
    '| R3 | ours |  |  |',
    '|  | paper |  | 70.00 ± 0.10 |',
    '',
  ]
  assert '- men: 10 test images per round; other in place of imdb and wiki: not comparable' in lines
  assert lines[-1].startswith('- paper:R1: 2 folds, 10 epochs each, width 1 (')
  assert 'R3' not in paper_table(TABLE, [run], only_filled=True)


def test_a_single_run_has_no_deviation(tmp_path):
  run = measured(
    tmp_path / 'one',
    'R3',
    {('last', 'imdb', 'gender'): ([7], [8]), ('last', 'wiki', 'gender'): ([2], [2])},
    1,
  )
  assert '| R3 | ours |  | 90.00 |' in paper_table(TABLE, [run])


def test_two_runs_for_a_cell(run, tmp_path):
  other = measured(tmp_path / 'again', 'R2', {('last', 'own', 'smile'): ([8, 9], [10, 10])})
  with pytest.raises(
    UserError, match=r'run and .*again both fill the cell smiles of R1, and differ in more than'
  ):
    fill(TABLE, [run, other])


def test_seeds_of_one_experiment_fill_a_cell_together(tmp_path):
  counts = (([7], [8]), ([5], [8]), ([3], [8]))
  runs = [
    measured(tmp_path / str(seed), 'R1', {('last', 'own', 'smile'): of}, 1, seed)
    for seed, of in enumerate(counts)
  ]
  cell = fill(TABLE, runs)['R1', 'smiles']
  # 87.5, 62.5 and 37.5 percent
  assert (cell.mean, cell.std, cell.n) == (pytest.approx(62.5), pytest.approx(25.0), (8, 8, 8))
  again = measured(tmp_path / 'twice', 'R1', {('last', 'own', 'smile'): ([7], [8])}, 1, seed=2)
  with pytest.raises(UserError, match='both fill the cell smiles of R1'):
    fill(TABLE, [*runs, again])


def test_rows_of_several_runs_are_told_by_the_arguments_of_the_others(tmp_path):
  table = PaperTable(
    'Crops',
    {'smiles': Column('smile', ('own',))},
    {
      '1': PaperRow({'row': ('R1',)}),
      '1+5': PaperRow({'row': ('R1',)}, members=({'crop': (5,)},)),
      '1+4': PaperRow({'row': ('R1',)}, members=({'crop': (4,)},)),
    },
  )
  both = {'set': 'own', 'task': 'smile', 'source': 'own', 'accuracy': 0, 'n': 10}
  more = []
  # The other run's selection is that of the row: the figures of its step 3 are not asked for.
  for selection, correct in (('3', 1), ('last', 9)):
    text = f'runs/five@{selection}'
    members = [{'checkpoint': text, 'arguments': {'crop': 5}}]
    more.append(both | {'checkpoint': f'last+{text}', 'correct': correct, 'members': members})
  run = measured(tmp_path / 'run', 'R1', {('last', 'own', 'smile'): ([8], [10])}, 1, more=more)
  cells = {row: cell.values for (row, _), cell in fill(table, [run]).items()}
  assert cells == {'1': (80.0,), '1+5': (90.0,)}
  # A cross-validation does not say who took part.
  counts = {('last', 'own', 'smile'): ([8, 8], [10, 10])}
  counts |= {('last+runs/five@last', 'own', 'smile'): ([9, 9], [10, 10])}
  rounds = measured(tmp_path / 'rounds', 'R1', counts)
  assert {row: cell.mean for (row, _), cell in fill(table, [rounds]).items()} == {'1': 80.0}


def test_figures_of_single_classes_and_stages(tmp_path):
  of = {'checkpoint': 'last', 'set': 'own', 'source': 'own', 'classes': ['a', 'b']}
  emotions = of | {'task': 'emotion7', 'stage': 'one', 'n': 30, 'accuracy': 0.5, 'correct': 15}
  emotions |= {'per_class_accuracy': [0.25, 0.75], 'confusion': [[1, 3], [2, 6]]}
  units = of | {'task': 'action_units', 'stage': 'two', 'n': 9, 'accuracy': 0.5}
  units |= {'per_class_accuracy': [None, 0.5], 'per_class_n': [0, 8]}
  table = PaperTable(
    'Classes',
    {
      'b': Column('emotion7', ('own',), 'per_class_accuracy', of_class='b'),
      'unit b': Column('action_units', ('own',), 'per_class_accuracy', of_class='b', stage='two'),
      'unit a': Column('action_units', ('own',), 'per_class_accuracy', of_class='a', stage='two'),
      'units': Column('action_units', ('own',), stage='two'),
    },
    {'R1': PaperRow({'row': ('R1',)}, stage='one')},
  )
  run = measured(tmp_path / 'run', 'R1', {}, 1, more=[emotions, units])
  cells = {column: (cell.mean, cell.n) for (_, column), cell in fill(table, [run]).items()}
  assert cells == {'b': (75.0, (8,)), 'unit b': (50.0, (8,)), 'units': (50.0, (9,))}


def test_seeds_of_two_experiments(tmp_path):
  table = PaperTable(
    'Seeds', {'smiles': Column('smile', ('own',))}, {'both': PaperRow({'row': ('R1', 'R2')})}
  )
  runs = [
    measured(tmp_path / name, name, {('last', 'own', 'smile'): ([7], [8])}, 1, seed)
    for seed, name in enumerate(('R1', 'R2'))
  ]
  with pytest.raises(UserError, match='and differ in more than their seed; pass only one of them'):
    fill(table, runs)


def test_of_several_stand_ins_the_first_that_a_run_has(tmp_path):
  instead = tuple(Column('smile', (name,)) for name in ('nowhere', 'real', 'drawn'))
  table = PaperTable(
    'Stand-ins',
    {'smiles': Column('smile', ('own',))},
    {'R1': PaperRow({'row': ('R1',)}, stand_ins={'smiles': instead})},
  )
  counts = {('last', 'real', 'smile'): ([6], [8]), ('last', 'drawn', 'smile'): ([8], [8])}
  cell = fill(table, [measured(tmp_path / 'run', 'R1', counts, 1)])['R1', 'smiles']
  assert (cell.mean, cell.sets) == (75.0, ('real',))


def test_seeds_on_different_sets(tmp_path):
  table = PaperTable(
    'Sets',
    {'smiles': Column('smile', ('own',))},
    {'R1': PaperRow({'row': ('R1',)}, stand_ins={'smiles': Column('smile', ('other',))})},
  )
  runs = [
    measured(tmp_path / name, 'R1', {('last', name, 'smile'): ([7], [8])}, 1, seed)
    for seed, name in enumerate(('own', 'other'))
  ]
  with pytest.raises(UserError, match=r'own was measured on own, .*other on other: they cannot'):
    fill(table, runs)


def test_a_class_that_a_task_does_not_have(tmp_path):
  of = {'checkpoint': 'last', 'set': 'own', 'source': 'own', 'task': 'emotion7', 'n': 30}
  of |= {'per_class_accuracy': [0.25, 0.75], 'confusion': [[1, 3], [2, 6]]}

  def filled(name, **more):
    columns = {'b': Column('emotion7', ('own',), 'per_class_accuracy', of_class='b')}
    table = PaperTable('Classes', columns, {'R1': PaperRow({'row': ('R1',)})})
    return fill(table, [measured(tmp_path / name, 'R1', {}, 1, more=[of | more])])

  with pytest.raises(UserError, match=r"TABLES: emotion7 has no class 'b'; it has a, c"):
    filled('other', classes=['a', 'c'])
  assert filled('older') == {}  # rows of before the classes were named
  for figure, name in (('per_class_accuracy', ''), ('accuracy', 'b')):
    with pytest.raises(UserError, match=f'TABLES: figure {figure} with of_class='):
      Column('emotion7', ('own',), figure, of_class=name)


def test_a_workdir_without_results(tmp_path):
  measured_nothing = tmp_path / 'run'
  with pytest.raises(
    UserError, match=r'has no results; run `mtface evaluate` or `mtface crossval` first'
  ):
    measured(measured_nothing, 'R1', {}, folds=1)


# --- The papers' tables as they are printed in them -----------------------------------------------


def published(paper, number='2'):
  return load_module(config_folder() / f'{paper}.py').TABLES[number]


OWN = [f'{letter}{number}' for letter in 'AB' for number in '1234']


def test_sang_table_2():
  # Its text names the best of each column.
  rows = published('sang2017').rows
  assert rows['B4'].paper == {
    'GENKI-4K': (96.23, 0.58), 'FER public': (70.15, 0.19), 'FER private': (71.62, 0.39),
    'Wiki': (94.00, 0.24), 'IMDB': (92.20, 0.11),
  }  # fmt: skip
  own = [row for name, row in rows.items() if name in OWN]
  best = {column: max(row.paper[column][0] for row in own) for column in rows['A1'].paper}
  assert best == {
    'GENKI-4K': 96.23,
    'FER public': 71.03,
    'FER private': 72.18,
    'Wiki': 96.33,
    'IMDB': 92.20,
  }
  assert rows['A1'].checkpoint == rows['A2'].checkpoint == 'last'
  assert rows['A3'].checkpoint == rows['B4'].checkpoint == 'ensemble:10'


def test_sang_beside_its_own_single_task_networks():
  rows = published('sang2017').rows
  found = {
    name: (rows[f'{name}, single tasks'].label, rows[f'{name}, single tasks'].paper)
    for name in ('A1', 'A2')
  }
  assert found == {
    'A1': ('BKNet + SVM loss [29]', {'FER public': (71.0, None), 'FER private': (71.9, None)}),
    'A2': ('BKNet + Softmax [28]', {'GENKI-4K': (95.08, 0.29)}),
  }
  assert rows['CNN 2-Loss [40]'].paper == {'GENKI-4K': (94.6, 0.29)}
  # Rohani 2023's single-task network has the very figure of the first of them (its Table 2).
  assert published('rohani2023').rows['A'].paper['smile'][0] == 95.08


def test_rohani_table_3_is_of_one_batch_of_128():
  table = published('rohani2023', '3')
  for row in table.rows.values():
    assert row.paper['execution time, s'][0] * row.paper['fps'][0] == pytest.approx(128, abs=0.1)
  text = paper_table(table, [])
  assert '| C | paper | 3,953,130 | 10.19 | 12.56 |' in text
  assert text.splitlines()[-1].startswith(
    '- ours: `python -m benchmarks.prediction --cases=Rohani`'
  )


def test_rohani_table_2():
  rows = published('rohani2023').rows
  assert {name: rows[name].paper['smile'][0] for name in 'ABC'} == {
    'A': 95.08,
    'B': 95.60,
    'C': 96.63,
  }
  # Its abstract: multi-task learning gains 1.55, 2.04 and 3.52 points.
  gains = {
    c: round(rows['C'].paper[c][0] - rows['A'].paper[c][0], 2)
    for c in ('smile', 'gender', 'age group')
  }
  assert gains == {'smile': 1.55, 'gender': 2.04, 'age group': 3.52}
