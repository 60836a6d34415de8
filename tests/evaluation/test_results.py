"""Files of results: what replaces what, what is whole, what a table says."""

import csv
import dataclasses
import json

import pytest

from mtface.errors import UserError
from mtface.evaluation.results import (
  percent,
  read_results,
  read_rows,
  results_table,
  write_results,
  write_rows,
)
from mtface.features import classify, classify_clips, identify
from mtface.features.clips import Reading
from mtface.files import file_name, replaced, write_csv, write_text


def row(accuracy, **changes):
  return {
    'checkpoint': 'last',
    'source': 'a',
    'task': 'smile',
    'set': 'a',
    'accuracy': accuracy,
    'n': 1200,
  } | changes


def test_a_row_measured_again_replaces_the_old_one_and_no_other(tmp_path):
  others = [
    row(0.2, checkpoint='best'),
    row(0.3, source='b'),
    row(0.4, task='gender'),
    row(0.5, stage='emotion'),
  ]
  write_results(tmp_path, 'x', [row(0.1), *others])
  write_results(tmp_path, 'x', [row(0.9)])
  assert [one['accuracy'] for one in read_results(tmp_path)] == [0.9, 0.2, 0.3, 0.4, 0.5]


SETTINGS = [field.name for field in dataclasses.fields(classify.Settings)]
OF_A_ROW = {  # what was asked for, of which another value is another measurement
  identify: ['checkpoint', 'stage', 'source', 'repeats', 'seed'],
  classify: ['checkpoint', 'stage', 'train', 'test', 'task', 'classifier', *SETTINGS],
  classify_clips: ['checkpoint', 'stage', 'train', 'test', 'task', 'classifier', 'trees', 'seed']
  + [field.name for field in dataclasses.fields(Reading)],
}


@pytest.mark.parametrize('module', OF_A_ROW, ids=lambda module: module.__name__)
def test_what_was_asked_for_otherwise_is_another_row(tmp_path, module):
  fields, path = OF_A_ROW[module], tmp_path / 'rows.json'
  first = dict.fromkeys(fields, 0)
  changed = [first | {field: 1} for field in fields]
  write_rows(path, 'x', module._KEY, 'command', [first, *changed, first | {'accuracy': 0.5}])
  assert read_rows(path, module._KEY, 'command') == [first | {'accuracy': 0.5}, *changed]


@pytest.mark.parametrize(
  'content', ['{"results": [', '[]', '{"results": [{"checkpoint": "last", "source": "a"}]}']
)
def test_a_damaged_file_is_named(tmp_path, content):
  (tmp_path / 'results.json').write_text(content)
  with pytest.raises(
    UserError, match=r'results.json: is damaged .*; delete it and run `mtface evaluate` again'
  ):
    read_results(tmp_path)


def test_what_fails_on_the_way_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.txt'
  write_text(path, 'old')
  with pytest.raises(KeyError), replaced(path) as partial:
    partial.write_text('half')
    raise KeyError
  assert path.read_text() == 'old'


def test_a_csv_has_a_head(tmp_path):
  write_csv(tmp_path / 'a.csv', ['x', 'y'], [(1, 'a,b'), (2, 'c')])
  with (tmp_path / 'a.csv').open(newline='') as file:
    assert list(csv.DictReader(file)) == [{'x': '1', 'y': 'a,b'}, {'x': '2', 'y': 'c'}]


def test_names_of_a_fold_and_its_rest():
  assert file_name('a/b:train[fold=0/4]') == 'a_b_train_fold_0_4_'
  assert file_name('a/b:train[fold!=0/4]') != file_name('a/b:train[fold=0/4]')


def test_long_names_of_files_are_cut_and_stay_apart(tmp_path):
  names = [file_name('é' * 300 + end) for end in 'ab']
  assert names[0] != names[1] and all(name.startswith('é' * 90 + '_') for name in names)
  for name in names:
    (tmp_path / f'wrong_{name}_gender.png').write_text('')


def test_a_table_has_each_figure_in_its_column():
  cells = results_table(
    [row(0.75, balanced_accuracy=0.5, macro_f1=0.25, mae=5.125, low=0.7, high=0.8)]
  ).splitlines()[-1]
  assert cells == '| last | a | smile | 1,200 | 75.00% | 70.0% - 80.0% | 50.00% | 25.00% | 5.12 |'
  assert (
    results_table([row(0.75)]).splitlines()[-1]
    == '| last | a | smile | 1,200 | 75.00% |  |  |  |  |'
  )
  assert (percent(0.12345), percent(None)) == ('12.35%', '')


def test_json_is_written_for_people_too(tmp_path):
  write_results(tmp_path, 'x', [row(0.1)])
  assert json.loads((tmp_path / 'results.json').read_text())['name'] == 'x'
