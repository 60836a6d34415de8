"""The page of a run: its figures against results.json, NumPy and scikit-learn, and what it says
where something is missing.
"""

import base64
import csv
import json
import re

import cv2
import numpy as np
import pytest
from sklearn import metrics as sk

from mtface.errors import UserError
from mtface.evaluation.calibration import write_temperatures
from mtface.files import write_json
from mtface.report.page import write
from mtface.report.page.drawing import SERIES, drawing, series
from mtface.report.page.gathered import gather
from mtface.report.page.parts import thinned
from mtface.report.page.predicted import read_predictions
from mtface.report.page.write import write_page
from mtface.tasks import get_task
from tests.fakes import fake_source, write_prepared
from tests.report.made import SETS, made_run
from tests.report.read_html import Page


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(workdir, {set: (source, scores)}, the page's text)."""
  workdir = tmp_path_factory.mktemp('made') / 'run'
  drawn = made_run(workdir)
  path = write_page([workdir], workdir / 'no_data')
  assert path == workdir / 'report' / 'index.html'
  return workdir, drawn, path.read_text()


@pytest.fixture(scope='module')
def page(made):
  return Page(made[2])


def test_its_figures_are_those_of_the_results(made, page):
  rows = json.loads((made[0] / 'results.json').read_text())['results']
  found = page.values('results')
  assert len(rows) == 4
  for row in rows:
    expected = [row['accuracy'], row['n'], row.get('balanced_accuracy'), row['macro_f1']]
    expected += [row.get('mae')]
    got = found[row['set'], row['task']]
    np.testing.assert_allclose(got, [value for value in expected if value is not None])
  text = page.text['results']
  for row in rows:
    assert f'{row["accuracy"]:.2%}' in text
    if 'low' in row:
      assert f'{100 * row["low"]:.1f} to {row["high"]:.1%}' in text


def test_classes_and_confusions_are_scikit_learns(made, page):
  drawn, scores = made[1]['looks']
  labels, predicted = drawn.labels['emotion7'], scores['emotion7'].argmax(axis=1)
  counts = sk.confusion_matrix(labels, predicted, labels=range(7))
  rows = [row for row in page.cells['confusions'] if row[0][0].startswith(('angry (', 'neutral ('))]
  np.testing.assert_array_equal([value for _, value in rows[0][1:]], counts[0])
  np.testing.assert_array_equal([value for _, value in rows[1][1:]], counts[6])
  recall = sk.recall_score(labels, predicted, average=None, labels=range(7))
  precision = sk.precision_score(labels, predicted, average=None, labels=range(7))
  happy = next(row for row in page.cells['results'] if row[0][0] == 'happy')
  assert [value for _, value in happy if value is not None] == pytest.approx(
    [(labels == 3).sum(), recall[3], precision[3]]
  )


def test_it_is_whole_and_asks_nobody(made, page):
  ids = [attrs['id'] for _, attrs, _ in page.elements if 'id' in attrs]
  assert len(ids) == len(set(ids)) > 20
  for tag, attrs, _ in page.elements:
    for name in ('src', 'href', 'xlink:href', 'data', 'action', 'poster', 'srcset'):
      if (where := attrs.get(name)) and tag != 'data':
        assert where.startswith(('data:', '#')), (tag, where)
        assert where[0] != '#' or where[1:] in ids, where
  for used in re.findall(r'url\(([^)]*)\)', made[2]):
    assert used.startswith('#') and used[1:] in ids
  assert '@import' not in made[2] and '<script' not in made[2]
  assert [tag for tag, *_ in page.elements].count('h1') == 1


def test_no_faces_unless_they_are_asked_for(page):
  assert not any(tag == 'img' for tag, *_ in page.elements)
  assert 'holds faces of real people' not in page.text['']


def test_calibration_is_that_of_a_loop(made, page):
  drawn, scores = made[1]['looks']
  sure = scores['emotion7'].max(axis=1)
  right = scores['emotion7'].argmax(axis=1) == drawn.labels['emotion7']
  error = 0.0
  for k in range(15):
    inside = (sure > k / 15) & (sure <= (k + 1) / 15)
    if inside.any():
      error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
  assert f'emotion7 on looks: ECE {error:.2%}' in page.text['calibration']
  answers = sum(
    row[2][1] for row in page.cells['calibration'] if row[2][1] and row[2][1].is_integer()
  )
  assert answers == 60 + 54 + 60 + 30 * 11 + 60 * 0, 'emotion7, age_years, gender, action_units'


def test_ages_by_decade(made, page):
  drawn, scores = made[1]['faces']
  known = drawn.mask['age_years']
  years, said = drawn.labels['age_years'][known], scores['age_years'].argmax(axis=1)[known]
  rows = {row[0][0]: [value for _, value in row[1:]] for row in page.cells['ages'] if len(row) == 4}
  inside = (years >= 30) & (years < 40)
  expected = [inside.sum(), np.abs(said - years)[inside].mean(), (said - years)[inside].mean()]
  assert rows['30 to 39'] == pytest.approx(expected)
  assert rows['all'][:2] == pytest.approx([known.sum(), np.abs(said - years).mean()])


def test_one_task_by_another(made, page):
  scores = made[1]['faces'][1]
  mean = scores['action_units'][scores['emotion7'].argmax(axis=1) == 2].mean(axis=0)
  rows = [row for row in page.cells['associations'] if row[0][0].startswith('fear (')]
  assert [value for _, value in rows[0][1:]] == pytest.approx(mean.tolist())


def test_the_surest_mistakes_come_first(made, page):
  drawn, scores = made[1]['looks']
  labels, found = drawn.labels['emotion7'], scores['emotion7']
  answers = found.argmax(axis=1)
  lead = found.max(axis=1) - found[np.arange(60), labels]
  expected = [drawn.image_ids[i] for i in np.argsort(-lead, kind='stable') if lead[i] > 0][:20]
  shown = [row[0][0] for row in page.cells['mistakes'] if row[0][0].startswith('looks_')]
  assert shown == expected
  total = int((answers != labels).sum())
  assert f'the surest of {total:,} wrong answers' in page.text['mistakes']


def test_curves_throughput_and_hardware(made, page):
  rows = [row for row in page.cells['curves'] if row[0][0] in ('training', 'faces')]
  assert ['faces', '0.75', '0.6000'] in [[text for text, _ in row] for row in rows], 'of step 15'
  assert ['training', '1.00', '0.7500'] in [[text for text, _ in row] for row in rows]
  machine = {row[0][0]: row[1] for row in page.cells['machine']}
  assert machine['images a second, median'][1] == pytest.approx(128 / 0.5), 'of the batch size'
  assert machine['share of the time spent waiting for input'][1] == pytest.approx(0.5)
  content = json.loads((made[0] / 'config.json').read_text())
  assert machine['kind'][0] == content['hardware']['kind']
  assert machine['jax'][0] == content['versions']['jax']


def test_fingerprints_and_terms(page):
  text = page.text['data']
  assert '0000000000000001' in text
  assert "rules of Kaggle's challenge" in text
  assert 'not noted' in text, 'of the sources that nothing was noted of'


# --- Several runs ---------------------------------------------------------------------------------


def test_runs_side_by_side(made, tmp_path):
  workdir, _, _ = made
  made_run(tmp_path / 'other', name='<b>other</b>', seed=5)
  path = write_page([workdir, tmp_path / 'other'], tmp_path, to=tmp_path / 'both.html')
  text = path.read_text()
  page = Page(text)
  assert '<b>other' not in text and '&lt;b&gt;other' in text
  head = next(row for row in page.cells['compared'])
  assert [cell[0] for cell in head] == ['checkpoint', 'set', 'task', 'run', 'other']
  rows = [row for row in page.cells['compared'] if row[2][0] == 'emotion7']
  for column, of in ((3, workdir), (4, tmp_path / 'other')):
    results = json.loads((of / 'results.json').read_text())['results']
    accuracy = next(row['accuracy'] for row in results if row['task'] == 'emotion7')
    assert rows[0][column][1] == accuracy
  ids = [attrs['id'] for _, attrs, _ in page.elements if 'id' in attrs]
  assert len(ids) == len(set(ids))


def test_runs_whose_folders_have_one_name(made, tmp_path):
  made_run(tmp_path / 'run', seed=5)
  path = write_page([made[0], tmp_path / 'run'], tmp_path, to=tmp_path / 'both.html')
  head = Page(path.read_text()).cells['compared'][0]
  assert [cell[0] for cell in head[3:]] == [str(made[0]), str(tmp_path / 'run')]


def test_several_runs_need_a_file(made, tmp_path):
  with pytest.raises(UserError, match=r'--to: name the file of a page of several runs'):
    write_page([made[0], made[0]], tmp_path)


# --- What is missing ------------------------------------------------------------------------------


def test_a_run_that_left_nothing_but_its_config(tmp_path):
  made_run(tmp_path / 'run', predictions=False, log=False)
  (tmp_path / 'run/results.json').unlink()
  page = Page(write_page([tmp_path / 'run'], tmp_path / 'data').read_text())
  evaluate = f'mtface evaluate --workdir={tmp_path}/run --data_dir={tmp_path}/data'
  for section in ('results', 'calibration', 'mistakes', 'labels', 'groups', 'ages'):
    assert evaluate in page.text[section], section
  for section in ('curves', 'machine'):
    assert 'mtface train' in page.text[section]
  assert f'mtface build fer2013/gray48 --data_dir={tmp_path}/data' in page.text['data']


def test_a_run_of_an_older_version_has_no_hardware(made, tmp_path):
  made_run(tmp_path)
  content = json.loads((tmp_path / 'config.json').read_text())
  del content['hardware']
  write_json(tmp_path / 'config.json', content)
  page = Page(write_page([tmp_path], tmp_path).read_text())
  assert 'does not say what it was trained on' in page.text['machine']


def test_predictions_of_another_checkpoint_are_not_shown(tmp_path):
  made_run(tmp_path)
  path = tmp_path / 'predictions/last/looks.csv'
  lines = list(csv.reader(path.open()))
  column = lines[0].index('emotion7')
  lines[1][column] = next(x for x in get_task('emotion7').classes if x != lines[1][column])
  with path.open('w', newline='') as file:
    csv.writer(file).writerows(lines)
  page = Page(write_page([tmp_path], tmp_path).read_text())
  assert 'The predictions of looks are not those of the results' in page.text['mistakes']
  assert not page.cells.get('mistakes')


def test_a_selection_that_was_not_measured(made):
  with pytest.raises(UserError, match=r'--checkpoint=best: was not measured in .*there is last'):
    gather(made[0], made[0], 'best')


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda text: text.replace('image_id', 'id', 1), 'has no column image_id'),
    (lambda text: text.replace('emotion7/fear', 'x', 1), "has no column 'emotion7/fear'"),
    (lambda text: re.sub(r'\n(looks_00000),\w+', r'\n\1,bored', text), "'bored' is no label"),
    (lambda text: re.sub(r'(?<=happy,)0\.\d+', 'much', text, count=1), 'much'),
    (lambda text: text.rstrip().rpartition(',')[0], 'line 61: '),
  ],
)
def test_damaged_predictions_are_one_line(tmp_path, damage, message):
  made_run(tmp_path)
  path = tmp_path / 'predictions/last/looks.csv'
  path.write_text(damage(path.read_text().replace('\r\n', '\n')))
  tasks = {name: get_task(name) for name in ('emotion7', 'gender', 'action_units')}
  with pytest.raises(UserError) as error:
    read_predictions(path, tasks)
  assert message in str(error.value)
  assert str(path) in str(error.value) and '--predictions' in str(error.value)


def test_predictions_in_another_encoding_are_one_line(tmp_path):
  path = tmp_path / 'looks.csv'
  path.write_bytes('image_id,mood\nzoë.jpg,calm\n'.encode('cp1252'))
  with pytest.raises(
    UserError, match=r'looks.csv: cannot be read as a csv in UTF-8 .*--predictions'
  ):
    read_predictions(path, {})


def test_a_page_that_would_be_too_large(made, monkeypatch):
  monkeypatch.setattr(write, 'MOST_BYTES', 1000)
  with pytest.raises(UserError, match=r'more than a page should .* leave out --thumbnails'):
    write_page([made[0]], made[0])


PEOPLE = SETS['faces'][1]


# --- With the sets --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def with_data(tmp_path_factory):
  """A run with its sets: (workdir, data_dir)."""
  folder = tmp_path_factory.mktemp('with_data')
  made_run(folder / 'run')
  name = 'synthetic_faces/people_gray48'
  prepared = write_prepared(
    folder, name, {'train': 8, 'test': 60}, PEOPLE, shape=(48, 48, 1),
    draw=lambda split, size: _drawn(split, size, PEOPLE),
  )  # fmt: skip
  duplicates = {
    'groups': 3, 'copies': 3, 'groups_across_splits': 2, 'groups_with_other_labels': 1,
    'list': [
      {'image_ids': ['a', 'b'], 'splits': ['train', 'test'], 'differs_in': ['gender']},
      {'image_ids': ['e', 'f'], 'splits': ['test', 'extra'], 'differs_in': []},
      {'image_ids': ['c', 'd'], 'splits': ['test', 'test'], 'differs_in': []},
    ],
  }  # fmt: skip
  write_json(prepared / 'build_summary.json', {'duplicates': duplicates})
  return folder / 'run', folder


def _drawn(split, size, labels):
  return fake_source('faces' if split == 'test' else split, size, labels, shape=(48, 48, 1))


def test_duplicates_across_splits(with_data):
  page = Page(write_page([with_data[0]], with_data[1]).read_text())
  row = next(row for row in page.cells['data'] if row[0][0] == 'synthetic_faces/people_gray48')
  assert [value for _, value in row[1:5]] == [3, 3, 2, 1]
  assert row[5][0] == 'test: 1', 'one face that is tested on has a copy in train'
  assert ['a, b', 'train, test', 'gender'] in [
    [text for text, _ in row[1:]] for row in page.cells['data']
  ]


def test_groups_are_those_of_the_set(with_data):
  pytest.importorskip('fairlearn')
  run, data = with_data
  page = Page(write_page([run], data).read_text())
  drawn, scores = _drawn('test', 60, PEOPLE), made_run(run)['faces'][1]
  inside = drawn.mask['age_years'] & (drawn.labels['age_years'] > 60)
  right = (scores['gender'].argmax(axis=1) == drawn.labels['gender'])[inside]
  _, row = (row for row in page.cells['groups'] if row[1][0] == '61+')  # of ages, of gender
  assert row[2][1] == inside.sum()
  assert row[3][1] == pytest.approx(right.mean())
  assert row[-1][0] == 'too small to compare', 'of 60 faces'
  assert 'Flagged are differences whose interval leaves out zero' in page.text['groups']
  assert 'Not audited: ' in page.text['groups'] and 'fer2013/gray48' in page.text['groups']


def test_temperatures_before_and_after(made, tmp_path):
  made_run(tmp_path)
  drawn, scores = made[1]['looks']
  page = Page(write_page([tmp_path], tmp_path).read_text())
  assert f'mtface calibrate --workdir={tmp_path}' in page.text['calibration']
  head = {'checkpoint': 'last', 'steps': [7], 'checksums': [1]}
  fitted = {'task': 'emotion7', 'temperature': 2.0, 'fit': [{'set': 'others'}]}
  write_temperatures(tmp_path, 'made', [head | fitted])
  page = Page(write_page([tmp_path], tmp_path).read_text())
  hot = np.sqrt(scores['emotion7'])  # p^(1/T), made to sum to one
  hot /= hot.sum(axis=1, keepdims=True)
  right = hot.argmax(axis=1) == drawn.labels['emotion7']
  place = np.ceil(hot.max(axis=1) * 15).astype(int)
  error = sum(
    abs((right - hot.max(axis=1))[place == k].sum()) / len(right) for k in np.unique(place)
  )
  assert f'ECE {error:.2%} with a temperature of 2.00\n' in page.text['calibration']
  write_temperatures(tmp_path, 'made', [head | fitted | {'fit': [{'set': 'looks'}]}])
  page = Page(write_page([tmp_path], tmp_path).read_text())
  assert 'with a temperature of 2.00 that was fitted here' in page.text['calibration']
  write_temperatures(tmp_path, 'made', [head | fitted | {'stage': 'other'}])
  page = Page(write_page([tmp_path], tmp_path).read_text())
  assert 'that was fitted here' in page.text['calibration'], 'as before, in this stage'


def test_faces_are_shown_where_they_are_asked_for(with_data, mtface):
  run, data = with_data
  (run / 'predictions/last/looks.csv').unlink()  # its set is not there
  done = mtface('report', '--html', '--thumbnails', f'--workdir={run}', f'--data_dir={data}')
  assert (done.code, done.out) == (0, f'page: {run}/report/index.html\n'), done.err
  page = Page((run / 'report/index.html').read_text())
  assert 'This file holds faces of real people' in page.text['']
  shown = [row[0][0] for row in page.cells['mistakes'] if row[0][0].startswith('faces_')]
  uris = [attrs['src'] for tag, attrs, _ in page.elements if tag == 'img']
  assert len(uris) == len(shown) > 0
  drawn = _drawn('test', 60, PEOPLE)
  image = drawn.images[list(drawn.image_ids).index(shown[0]), ..., 0]
  data_of = np.frombuffer(base64.b64decode(uris[0].partition(',')[2]), np.uint8)
  decoded = cv2.imdecode(data_of, cv2.IMREAD_GRAYSCALE)
  assert np.corrcoef(decoded.ravel(), image.ravel())[0, 1] > 0.9


# --- Drawings -------------------------------------------------------------------------------------


def test_a_drawing_takes_its_colours_from_the_page():
  svg = drawing('d', 'a "line" & more', lambda axes: axes.plot([0, 1], [1, 2], **series(1)))
  assert 'var(--series-1)' in svg and 'var(--ink)' in svg and 'stroke-dasharray' in svg
  assert SERIES[1] not in svg and '#000000' not in svg.replace('fill: #000000', '', 1)
  assert 'aria-label="a &quot;line&quot; &amp; more"' in svg
  assert '>0.0<' in svg, 'text stays text'
  assert all(name.startswith('d-') for name in re.findall(r'\bid="([^"]*)"', svg))


def test_thinned_keeps_the_ends():
  assert thinned(range(5), 5) == [0, 1, 2, 3, 4]
  found = thinned(range(1000), 10)
  assert (len(found), found[0], found[-1]) == (10, 0, 999)


def test_flags_of_a_page_need_one(made, mtface):
  done = mtface('report', f'--workdir={made[0]}', '--thumbnails')
  assert (done.code, done.error) == (2, '--thumbnails: is of the page; pass --html too')
  done = mtface('report', '--html', f'--workdir={made[0]}', '--on=fer')
  assert done.code == 2 and done.error.startswith('--on: is of galleries')
