"""Means over several runs: other crops of the same images, joined by their ids."""

import json
import shutil

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.evaluator import Evaluator
from mtface.evaluation.results import read_results
from mtface.inference.views import views
from mtface.training.selection import Selection
from tests.fakes import fake_source, write_prepared


def cut_otherwise(split, size):
  """Another crop: other pixels of the first images of the set, and one that the set has not."""
  source = fake_source(split, size, {'smile': 1.0}, seed=99)
  source.image_ids[size - 1] = 'another'
  return source


@pytest.fixture(scope='module')
def data_dir(tiny_data, tmp_path_factory):
  folder = shutil.copytree(tiny_data, tmp_path_factory.mktemp('crops') / 'data')
  write_prepared(
    folder, 'tiny/crop', {'test': 10}, {'smile': 1.0}, draw=cut_otherwise, salt='shuffled'
  )
  write_prepared(folder, 'tiny/apart', {'other': 4}, {'smile': 1.0})
  return folder


def run_on(tiny_run, folder, name, **changes):
  """The same run with another set under the name `smiles`."""
  shutil.copytree(tiny_run, folder)
  content = json.loads((folder / 'config.json').read_text())
  content['config']['evaluation']['sets']['smiles']['name'] = name
  content['config'] |= changes
  (folder / 'config.json').write_text(json.dumps(content))
  return folder


@pytest.fixture(scope='module')
def other(tiny_run, tmp_path_factory):
  return run_on(
    tiny_run, tmp_path_factory.mktemp('runs') / 'other', 'tiny/crop:test', arguments={'crop': 5}
  )


def said(workdir, data_dir, selection, name='smiles'):
  """{image id: probabilities of smile} of one run by itself."""
  evaluator = Evaluator(workdir, data_dir)
  source = evaluator.source(name)
  scores = evaluator.predictions(evaluator.networks(Selection.parse(selection)), source)
  return dict(zip(source.image_ids.tolist(), scores['smile'], strict=True))


def test_images_are_joined_by_their_ids_and_runs_count_alike(tiny_run, other, data_dir, capsys):
  text = f'ensemble:2+{other}@4'
  chosen = Chosen(text, Evaluator(tiny_run, data_dir), data_dir)
  faces = chosen.faces('smiles')
  own, its = said(tiny_run, data_dir, 'ensemble:2'), said(other, data_dir, '4')
  ids = [image_id for image_id in own if image_id in its]
  assert faces.own.image_ids.tolist() == faces.others[0].image_ids.tolist() == ids
  assert len(ids) == 9
  assert 'smiles: 9 images are in all of tiny/smile:test 12, tiny/crop:test 10' in (
    capsys.readouterr().err
  )
  found = chosen.predictions(faces)['smile']
  np.testing.assert_allclose(found, [(own[i] + its[i]) / 2 for i in ids], rtol=1e-5)
  assert np.abs(found - [own[i] for i in ids]).max() > 1e-3


def test_views_are_averaged(tiny_run, other, data_dir):
  evaluator = Evaluator(tiny_run, data_dir)
  source = evaluator.source('smiles')
  networks = evaluator.networks(Selection.parse('ensemble:2'))
  images = source.gather(np.arange(len(source)))
  expected = np.mean(
    [evaluator.of_images(networks, x, 16)['smile'] for x in (images, images[:, :, ::-1])], axis=0
  )
  chosen = Chosen('ensemble:2:flip', evaluator, data_dir)
  assert chosen.views == 'flip' and chosen.head()['checkpoint'] == 'ensemble:2:flip'
  found = chosen.predictions(chosen.faces('smiles'))['smile']
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(chosen.of_images([images], 16)['smile'], expected, rtol=1e-5)
  plain = Chosen('ensemble:2', evaluator, data_dir)
  assert plain.views == ''
  assert np.abs(plain.of_images([images], 16)['smile'] - expected).max() > 1e-3
  # each run has its own
  both = Chosen(f'last+{other}@4:ten', evaluator, data_dir)
  assert both.views == 'ten'
  faces = both.faces('smiles')
  own = evaluator.of_images(evaluator.networks(Selection.parse('last')), images, 16)['smile']
  its = Evaluator(other, data_dir)
  scores = [
    its.of_images(its.networks(Selection.parse('4')), np.asarray(view(x)), 16)['smile']
    for x in [faces.others[0].gather(np.arange(9))]
    for view in views('ten')
  ]
  place = {image_id: row for row, image_id in enumerate(source.image_ids.tolist())}
  rows = [place[image_id] for image_id in faces.own.image_ids.tolist()]
  np.testing.assert_allclose(
    both.predictions(faces)['smile'], (own[rows] + np.mean(scores, axis=0)) / 2, rtol=1e-4
  )


def test_three_runs_count_alike(tiny_run, other, data_dir):
  name = 'tiny/smile:test'
  chosen = Chosen(f'4+{other}@8+{tiny_run}@last', Evaluator(tiny_run, data_dir), data_dir)
  found = chosen.predictions(chosen.faces(name))['smile']
  each = [
    list(said(of, data_dir, step, name).values())
    for of, step in ((tiny_run, '4'), (other, '8'), (tiny_run, 'last'))
  ]
  np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5)


def test_rows_say_who_took_part(tiny_run, other, data_dir, tmp_path):
  workdir = shutil.copytree(tiny_run, tmp_path / 'run')
  text = f'last+{other}@last'
  (row,) = evaluate(workdir, data_dir, checkpoints=[text], on=['smiles'])
  assert row['checkpoint'] == text
  assert row['n'] == 9
  (member,) = row['members']
  assert member['steps'] == [12]
  assert member['arguments'] == {'crop': 5}
  assert read_results(workdir) == [row]
  again = evaluate(workdir, data_dir, checkpoints=[text], on=['smiles'], skip_measured=True)
  assert again == [row]


def test_a_source_that_is_named_in_full_is_taken_by_all(tiny_run, other, data_dir):
  chosen = Chosen(f'last+{other}@last', Evaluator(tiny_run, data_dir), data_dir)
  faces = chosen.faces('tiny/smile:train')
  assert [of.name for of in faces.others] == ['tiny/smile:train']
  assert len(faces.own) == 24


def test_what_cannot_be_averaged(tiny_run, other, data_dir, tmp_path):
  own = Evaluator(tiny_run, data_dir)
  with pytest.raises(UserError, match=r'names no selection of another run; write WORKDIR@last'):
    Chosen(f'last+{other}', own, data_dir)
  with pytest.raises(UserError, match=r'config\.json: not found'):
    Chosen(f'last+{tmp_path}/nothing@last', own, data_dir)
  apart = run_on(tiny_run, tmp_path / 'apart', 'tiny/apart:other')
  with pytest.raises(UserError, match=r'tiny/smile:test and tiny/apart:other have no image in com'):
    Chosen(f'last+{apart}@last', own, data_dir).faces('smiles')
  text = (apart / 'config.json').read_text()
  (apart / 'config.json').write_text(
    text.replace('softmax_cross_entropy', 'multiclass_squared_hinge')
  )
  with pytest.raises(UserError, match='has probabilities in one run and margins'):
    Chosen(f'last+{apart}@last', own, data_dir)


def test_statistics_that_are_averaged_are_said_so(tiny_run, other, data_dir):
  own = Evaluator(tiny_run, data_dir)
  for text in (f'average:2+{other}@last', f'last+{other}@average:2'):
    assert Chosen(text, own, data_dir).head()['checkpoint'] == text
    label = Chosen(text, own, data_dir, re_estimate=False).head()['checkpoint']
    assert label == f'{text} (statistics averaged)'
  text = f'last+{other}@last'
  assert Chosen(text, own, data_dir, re_estimate=False).head()['checkpoint'] == text


def test_nothing_is_measured_where_a_later_set_cannot_be(tiny_run, data_dir, tmp_path):
  workdir, apart = shutil.copytree(tiny_run, tmp_path / 'own'), tmp_path / 'apart'
  run_on(tiny_run, apart, 'tiny/apart:other')
  with pytest.raises(UserError, match='have no image in common'):
    evaluate(workdir, data_dir, checkpoints=[f'last+{apart}@last'], on=['people', 'smiles'])
  assert read_results(workdir) == []


def test_sets_that_cannot_be_joined(tiny_run, data_dir, tmp_path):
  # The same ids, but of other people.
  write_prepared(tmp_path / 'data', 'strange/smile', {'test': 12}, {'smile': 1.0})
  shutil.copytree(data_dir, tmp_path / 'data', dirs_exist_ok=True)
  run = run_on(tiny_run, tmp_path / 'run', 'strange/smile:test')
  chosen = Chosen(f'last+{run}@last', Evaluator(tiny_run, tmp_path / 'data'), tmp_path / 'data')
  with pytest.raises(
    UserError, match=r'--on=smiles: tiny/smile:test and strange/smile:test are of different sets'
  ):
    chosen.faces('smiles')
  content = json.loads((run / 'config.json').read_text())
  content['config']['evaluation']['sets'].pop('smiles')
  (run / 'config.json').write_text(json.dumps(content))
  chosen = Chosen(f'last+{run}@last', Evaluator(tiny_run, tmp_path / 'data'), tmp_path / 'data')
  with pytest.raises(UserError, match=r'--on=smiles: .*run has no set of this name, but people'):
    chosen.faces('smiles')
