"""Studies of configs/faces.py: what is written down of runs, how rows are paired, and the page."""

import csv
import itertools
import json
import re
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import ingredients, pages
from benchmarks.ingredients import PAGE, RECORD, STUDIES, Row, difference, filled, pack, table
from configs import faces
from mtface.config.recipes import ingredients as ingredients_of

KEY = ('fer2013_private', 'emotion7')
HERE = {'machine': {'processor': 'X', 'cores': 2}, 'date': '2026-11-29 06:00 UTC', 'commit': 'abc'}


def record(right, seed=0, arguments='recipe=fast', data='d', **others):
  row = {'set': KEY[0], 'task': KEY[1], 'n': len(right), 'data': data}
  row |= {'accuracy': float(np.mean(right)), 'right': pack(right)}
  head = {'arguments': arguments, 'flags': [], 'samples': 100, 'seed': seed, 'seconds': 90, **HERE}
  return head | {'results': {'last': [], 'last:flip': [row]}} | others


@pytest.mark.parametrize('study', STUDIES)
def test_rows_are_configs_and_name_each_other(study):
  rows = list(STUDIES[study]())
  titles = [row.title for row in rows]
  assert len({*titles}) == len(rows) and len({(row.arguments, row.flags) for row in rows}) == len(
    rows
  )
  for row in rows:
    faces.get_config(f'{row.arguments},samples={round(row.share * 300_000)}')
    assert not row.against or row.against in titles


def test_the_ablation_adds_one_ingredient_at_a_time_up_to_the_best():
  recipes = [row.arguments.removeprefix('recipe=') for row in STUDIES['ablation']()]
  words = [ingredients_of(recipe, '', tuple(faces.OWN)) for recipe in recipes]
  best = ingredients_of('best', '', tuple(faces.OWN))
  path = words[: len(best) + 1]
  assert path[0] == [] and path[-1] == best
  for before, after in itertools.pairwise(path):
    assert len({*after} - {*before}) == 1 and {*before} < {*after}
  assert all({*best} < {*others} for others in words[len(path) :])


def test_the_interval_is_that_of_the_paired_t_test():
  rng = np.random.default_rng(0)
  one, other = (rng.random(3589) < share for share in (0.66, 0.64))
  expected = stats.ttest_rel(one.astype(float), other.astype(float))
  low, high = expected.confidence_interval()
  mean = np.mean(one) - np.mean(other)
  found = difference([record(one)], [record(other)], KEY)
  assert found == f'{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})'


def test_seeds_are_paired_and_averaged_by_face():
  rng = np.random.default_rng(1)
  ours, theirs = (
    [record(rng.random(400) < share, seed) for seed in range(3)] for share in (0.7, 0.6)
  )
  bits = [
    [ingredients.unpack(r['results']['last:flip'][0]['right'], 400) for r in runs]
    for runs in (ours, theirs)
  ]
  each = np.mean(np.array(bits[0], float) - np.array(bits[1], float), axis=0)
  found = difference(ours[::-1], theirs, KEY)
  assert found.startswith(f'{100 * each.mean():+.1f} (')
  low, high = map(float, re.findall(r'[+-][\d.]+', found)[1:])
  assert (high - low) / 200 == pytest.approx(1.96 * each.std(ddof=1) / 20, abs=1e-3)


def test_what_is_not_the_same_face_is_not_paired():
  bits = np.ones(8, bool)
  assert difference([record(bits)], [record(bits, seed=1)], KEY) == ''
  assert difference([record(bits)], [record(bits, data='another')], KEY) == ''
  assert difference([record(bits)], [record(bits[:7])], KEY) == ''


def test_answers_are_read_by_image(tmp_path):
  path = tmp_path / 'predictions' / 'last_flip' / 'some.csv'
  path.parent.mkdir(parents=True)
  with path.open('w', newline='') as file:
    csv.writer(file).writerows(
      [
        ['image_id', 'smile', 'smile predicted'],
        ['c', 'smile', 'smile'],
        ['a', 'neutral', 'smile'],
        ['d', '', 'smile'],
        ['b', 'neutral', 'neutral'],
      ]
    )
  found = ingredients.right(tmp_path, 'last:flip', 'some', 'smile')
  np.testing.assert_array_equal(found, [False, True, True])


def test_a_table_of_two_rows(monkeypatch):
  rows = (Row('plain', 'recipe=fast'), Row('more', 'recipe=best', against='plain'))
  monkeypatch.setitem(STUDIES, 'two', lambda: iter(rows))
  some = np.arange(100)
  records = [record(some < 60, seed) for seed in (0, 1)]
  records += [record(some < count, k, 'recipe=best') for k, count in enumerate((62, 64))]
  text = table('two', 100, records)
  assert text.startswith(
    '2 cores of X; 2026-11-29; commit abc.\n\n|  | seeds | samples | FER private |'
  )
  plain, more, less = text.splitlines()[4:]
  assert plain == '| plain | 2 | 100 | 60.0 ± 0.0 | 2 |'
  assert more == '| more | 2 | 100 | 63.0 ± 1.4 | 2 |'
  assert less.startswith('| less plain |  |  | +3.0 (')
  assert table('two', 200, records) == ''


def test_the_curve_of_smiles_is_drawn_once_all_of_it_is_there(tmp_path):
  rows, path = list(STUDIES['smiles']()), tmp_path / 'images' / 'smiles.svg'
  records = [
    {'arguments': row.arguments, 'flags': [], 'samples': round(700 * row.share), 'seed': 0}
    | {'results': {'last': [{'set': 'genki4k', 'task': 'smile', 'n': 50, 'accuracy': 0.9}]}}
    for row in rows
  ]
  ingredients.curve(700, records[:-1], path)
  assert not path.exists()
  ingredients.curve(700, records, path)
  drawn = path.read_bytes()
  ingredients.curve(700, records, path)
  assert b'<svg' in drawn and path.read_bytes() == drawn, 'the same drawing is the same file'


def test_what_is_written_down_is_not_run_again(tmp_path, monkeypatch, capsys):
  ran = []
  monkeypatch.setitem(STUDIES, 'two', lambda: iter((Row('a', 'x=1'), Row('b', 'x=2', share=0.5))))

  def fake(row, seed, samples, workdir, data_dir, teacher):
    ran.append((row.title, seed))
    if len(ran) == 3:
      raise SystemExit('mtface train: exit code 1; run this again to go on')
    return record(np.ones(8, bool), seed, row.arguments, samples=round(row.share * samples))

  monkeypatch.setattr(ingredients, 'run', fake)
  page, kept = tmp_path / 'page.md', tmp_path / 'record.json'
  page.write_text('Above.\n\n<!-- study two -->\n<!-- end -->\n')
  line = ['x', '--study=two', '--data_dir=d', f'--workdir={tmp_path}', '--seeds=0,1']
  line += ['--samples=10', f'--record={kept}', f'--page={page}']
  monkeypatch.setattr(sys, 'argv', line)
  with pytest.raises(SystemExit, match='run this again'):
    ingredients.main()
  assert [(r['arguments'], r['seed']) for r in json.loads(kept.read_text())] == [
    ('x=1', 0),
    ('x=2', 0),
  ]
  ingredients.main()
  assert ran == [('a', 0), ('b', 0), ('a', 1), ('a', 1), ('b', 1)]
  assert '| b | 2 | 5 |' in page.read_text()
  ingredients.main()
  assert len(ran) == 5


def test_a_failed_command_ends_the_study(tmp_path, capfd):
  with pytest.raises(SystemExit, match='mtface train: exit code 2'):
    ingredients.run(Row('a', 'recipe=salt'), 0, 10, tmp_path, str(tmp_path))
  assert 'recipe=salt' in capfd.readouterr().err


def test_the_page_is_what_the_record_says():
  page = PAGE.read_text()
  records = json.loads(RECORD.read_text())
  assert filled(page, 300_000, records) == page
  assert {*pages.names(page, 'study')} == {*STUDIES}
  assert filled(page, 123, records) == page  # no run has so many: the tables stay
