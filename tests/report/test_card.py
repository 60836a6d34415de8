"""The model card: its sections, its figures against results.json, and what it does not know."""

import json
import re
import shutil

import pytest
import yaml

from mtface.report.card.write import _without_path, write_card
from tests.report.made import made_config, made_run

# Mitchell et al. 2019, figure 1, in its order.
SECTIONS = [
  'Model details',
  'Intended use',
  'Factors',
  'Metrics',
  'Evaluation data',
  'Training data',
  'Quantitative analyses',
  'Ethical considerations',
  'Caveats and recommendations',
]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(workdir, the card's front matter, its text)."""
  workdir = tmp_path_factory.mktemp('made') / 'run'
  made_run(workdir)
  path = write_card(workdir, workdir / 'no_data')
  assert path == workdir / 'report/model_card.md'
  _, front, text = path.read_text().split('---\n', 2)
  return workdir, yaml.safe_load(front), text


def test_the_sections_are_those_of_the_paper(made):
  assert re.findall(r'^## (.*)$', made[2], re.MULTILINE) == SECTIONS
  assert not re.search(r'\n{3,}', made[2]), 'no gaps'
  assert '{{' not in made[2] and '{%' not in made[2] and 'None' not in made[2]


def test_figures_are_those_of_the_results(made):
  rows = json.loads((made[0] / 'results.json').read_text())['results']
  (index,) = made[1]['model-index']
  assert index['name'] == 'made'
  assert len(index['results']) == len(rows) == 4
  for row, result in zip(rows, index['results'], strict=True):
    assert (result['task']['name'], result['dataset']['name']) == (row['task'], row['set'])
    assert result['dataset']['args']['fingerprint'] == row['data']
    values = {of['type']: of['value'] for of in result['metrics']}
    assert values['accuracy'] == row['accuracy']
    assert values['f1'] == row['macro_f1']
    assert values.get('mae') == row.get('mae')
    assert f'| {row["set"]} | {row["task"]} | {row["accuracy"]:.2%} |' in made[2]
  assert set(made[1]['metrics']) == {'accuracy', 'f1', 'mae'}


def test_folders_that_are_called_as_words_take_no_words_away(made, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  shutil.copytree(made[0], 'run')
  text = write_card('run', 'data').read_text()
  assert '--data_dir=DATA_DIR' in text and '## Training data' in text
  front = yaml.safe_load(text.split('---\n', 2)[1])
  assert 'dataset' in front['model-index'][0]['results'][0]
  assert f'{tmp_path}' not in text


def test_the_front_matter_invents_no_licence(made):
  assert made[1]['license'] == 'unknown'
  assert 'datasets' not in made[1]
  assert {'gender', 'emotion7', 'action_units'} <= set(made[1]['tags'])


def test_what_is_not_known_says_so(made):
  for what in ('Trained by', 'Licence of the weights', 'Energy', 'Questions to'):
    assert re.search(rf'\*\*{what}:\*\* \*unknown\*', made[2]), what
  assert 'What this network was trained for is *unknown*' in made[2]
  assert 'Duplicates in fer2013/gray48 are not known' in made[2]
  assert '**Trained on:** 2023-11-14\n' in made[2], 'the day of the log'


def test_terms_of_what_it_was_trained_on(made):
  assert "rules of Kaggle's challenge" in made[2]
  assert 'those of fer2013 allow research only' in made[2]


def test_uses_that_are_out_of_scope(made):
  text = ' '.join(made[2].split())
  assert 'action_units, emotion7: these classes name how annotators described a picture' in text
  assert 'Article 5(1)(f) of Regulation (EU) 2024/1689' in text
  assert 'workplace and education institutions, except for medical or safety reasons' in text
  assert 'It does not identify or verify people' in text


def test_no_path_of_this_machine_is_in_it(made):
  assert str(made[0].parent) not in made[2]
  assert '--workdir=WORKDIR' in made[2]


def test_a_run_that_was_not_measured(tmp_path, mtface):
  made_run(tmp_path / 'run', predictions=False, log=False)
  (tmp_path / 'run/results.json').unlink()
  to = tmp_path / 'README.md'
  done = mtface('card', f'--workdir={tmp_path}/run', f'--data_dir={tmp_path}', f'--to={to}')
  assert (done.code, done.out) == (0, f'model card: {to}\n'), done.err
  _, front, text = to.read_text().split('---\n', 2)
  assert 'model-index' not in yaml.safe_load(front)
  assert re.findall(r'^## (.*)$', text, re.MULTILINE) == SECTIONS
  assert 'nothing has been measured of this checkpoint yet. `mtface evaluate' in text
  assert '**Trained on:** *unknown*' in text


def test_no_run(tmp_path, mtface):
  error = mtface('card', f'--workdir={tmp_path}').error
  assert error.startswith(f'{tmp_path}/config.json: not found; expected the folder of a run')


def test_an_identity_is_named(tmp_path):
  from mtface.config.schema import task
  from mtface.training.workdir import write_config

  config = made_config()
  config.tasks['identity:158'] = task()
  write_config(config, tmp_path)
  text = ' '.join(write_card(tmp_path, tmp_path).read_text().split())
  assert 'trained to tell the people of a set apart (identity:158)' in text


def test_neither_are_weights_of_this_machine(tmp_path):
  from mtface.training.workdir import write_config

  config = made_config()
  config.name = 'mine:trip,from=/home/jane/runs/sang@best'
  config.start.weights = '/home/jane/runs/sang@best'
  write_config(config, tmp_path / 'run')
  text = write_card(tmp_path / 'run', tmp_path).read_text()
  assert '/home/jane' not in text and '**Starts from:** sang@best\n' in text


def test_a_folder_whose_name_begins_alike_keeps_its_own(tmp_path):
  assert _without_path('/a/data2 and /a/data/x.', tmp_path / '/a/data', 'D') == '/a/data2 and D/x.'
