"""Temperatures of a run: fitted, kept, applied; on the command line."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from mtface.errors import UserError
from mtface.evaluation.calibrate import _shared, calibrate
from mtface.evaluation.calibration import (
  fit_temperature,
  read_temperatures,
  reliability,
  with_temperature,
)
from mtface.evaluation.chosen import Chosen
from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.evaluator import Evaluator
from mtface.publish import predictor
from tests.fakes import fake_source


@pytest.fixture
def calibrated(run_copy, tiny_data):
  """(workdir, rows) of temperatures that are fitted on one set and measured on another."""
  return run_copy, calibrate(run_copy, tiny_data, fit=['smiles'], on=['tiny/smile:train'])


def said(workdir, data_dir, name, **how):
  evaluator = Evaluator(workdir, data_dir)
  chosen = Chosen('last', evaluator, data_dir, **how)
  faces = chosen.faces(name)
  return chosen.predictions(faces), faces.own


def test_what_is_fitted_and_measured(calibrated, tiny_data):
  workdir, (row,) = calibrated
  scores, source = said(workdir, tiny_data, 'smiles')
  assert row['temperature'] == fit_temperature(scores['smile'], source.labels['smile'])
  assert (row['task'], row['n'], row['fit'][0]['set']) == ('smile', 12, 'smiles')
  scores, source = said(workdir, tiny_data, 'tiny/smile:train')
  (held_out,) = row['held_out']
  labels = source.labels['smile']
  for when, temperature in (('before', 1.0), ('after', row['temperature'])):
    p = with_temperature(scores['smile'], temperature)
    chosen = p[np.arange(len(p)), labels]
    assert held_out[f'nll_{when}'] == pytest.approx(-np.log(chosen).mean())
    right = p.argmax(axis=1) == labels
    assert held_out[f'ece_{when}'] == pytest.approx(reliability(p.max(axis=1), right).ece)
  assert held_out['n'] == 24


def test_they_are_applied_where_asked_for(calibrated, tiny_data):
  workdir, (row,) = calibrated
  plain, _ = said(workdir, tiny_data, 'people')
  scaled, _ = said(workdir, tiny_data, 'people', calibrated=True)
  expected = with_temperature(plain['smile'], row['temperature'])
  np.testing.assert_allclose(scaled['smile'], expected)
  np.testing.assert_allclose(scaled['gender'], plain['gender'])  # nothing was fitted to it
  rows = evaluate(
    workdir, tiny_data, checkpoints=['last'], on=['smiles'], predictions=True, calibrated=True
  )
  assert rows[0]['checkpoint'] == 'last (calibrated)'
  assert rows[0]['temperatures'] == {'smile': row['temperature']}
  assert rows[0]['accuracy'] == evaluate(workdir, tiny_data, on=['smiles'])[0]['accuracy']
  with (workdir / 'predictions/last_calibrated_/smiles.csv').open() as file:
    lines = list(csv.DictReader(file))
  scores, _ = said(workdir, tiny_data, 'smiles', calibrated=True)
  found = [float(line['smile/smile']) for line in lines]
  np.testing.assert_allclose(found, scores['smile'][:, 1])


def test_photographs_get_them_too(calibrated, tiny_data):
  workdir, (row,) = calibrated
  evaluator = Evaluator(workdir, tiny_data)
  images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
  plain, scaled = (
    Chosen('last', evaluator, tiny_data, calibrated=how).of_images([images], 8)
    for how in (False, True)
  )
  np.testing.assert_allclose(scaled['smile'], with_temperature(plain['smile'], row['temperature']))
  assert 'smile' in predictor.load(workdir, data_dir=tiny_data, calibrated=True).tasks
  with pytest.raises(UserError, match=r'has no temperatures of .8.'):
    predictor.load(workdir, '8', data_dir=tiny_data, calibrated=True)


def test_of_other_weights_or_of_none(calibrated, tiny_data):
  workdir, (row,) = calibrated
  head = {key: row[key] for key in ('checkpoint', 'steps', 'checksums')}
  assert read_temperatures(workdir, head) == {'smile': row['temperature']}
  with pytest.raises(UserError, match=r"temperatures of 'last' are of other weights; repeat `mtf"):
    read_temperatures(workdir, head | {'checksums': [1]})
  with pytest.raises(UserError, match=r"has no temperatures of '8'; fit them first: `mtface cali"):
    Chosen('8', Evaluator(workdir, tiny_data), tiny_data, calibrated=True)
  with pytest.raises(UserError, match='has no temperatures'):
    read_temperatures(workdir, head | {'stage': 'other'})


def test_what_cannot_be_fitted_or_measured(run_copy, tiny_data):
  with pytest.raises(UserError, match='--fit is missing'):
    calibrate(run_copy, tiny_data, fit=[])
  with pytest.raises(UserError, match=r'--on=smiles: 12 of its faces are in --fit=tiny/smile:test'):
    calibrate(run_copy, tiny_data, fit=['tiny/smile:test'], on=['smiles'])
  assert not (run_copy / 'calibration.json').exists()
  text = (run_copy / 'config.json').read_text()
  margins = text.replace('softmax_cross_entropy', 'multiclass_squared_hinge')
  (run_copy / 'config.json').write_text(margins)
  with pytest.raises(UserError, match='the run gives probabilities of none of these'):
    calibrate(run_copy, tiny_data, fit=['smiles'])


def test_sets_of_the_run_with_faces_to_fit_on_are_left_out(run_copy, tiny_data, capsys):
  (row,) = calibrate(run_copy, tiny_data, fit=['tiny/smile:test[take=8,seed=0]'])
  assert (row['task'], row['n'], row['held_out']) == ('smile', 8, [])
  assert 'smiles: 8 of its faces are in --fit=tiny/smile:test[take=8' in capsys.readouterr().err


def test_fitting_on_what_was_trained_on_is_warned_of(run_copy, tiny_data, capsys):
  calibrate(run_copy, tiny_data, fit=['tiny/smile:train'])
  assert 'the run was trained on tiny/smile:train' in capsys.readouterr().err


def test_on_the_command_line(mtface, run_copy, tiny_data):
  flags = [f'--workdir={run_copy}', f'--data_dir={tiny_data}']
  result = mtface('evaluate', *flags, '--calibrated', '--checkpoint=last')
  assert (result.code, result.out) == (2, '')
  assert 'fit them first: `mtface calibrate --workdir=' in result.error
  result = mtface('calibrate', *flags, '--fit=people', '--on=tiny/people:train')
  assert result.code == 0, result.error
  assert '| gender | ' in result.out and 'NLL before | after | ECE before | after' in result.out
  rows = json.loads((run_copy / 'calibration.json').read_text())['results']
  assert [row['task'] for row in rows] == ['gender']
  result = mtface('evaluate', *flags, '--calibrated', '--checkpoint=last', '--on=people', '--sheet')
  assert result.code == 0, result.error
  assert '| last (calibrated) | people | gender |' in result.out


def test_fitting_on_more_than_what_was_trained_on_is_warned_of_too(run_copy, tiny_data, capsys):
  config = json.loads((run_copy / 'config.json').read_text())
  text = json.dumps(config).replace('tiny/smile:train"', 'tiny/smile:train[fold!=0/4]"')
  (run_copy / 'config.json').write_text(text)
  calibrate(run_copy, tiny_data, fit=['tiny/smile:train'])
  assert 'the run was trained on tiny/smile:train[fold!=0/4]' in capsys.readouterr().err


def test_equal_paths_of_two_folders_are_not_one_image():
  faces = fake_source('image_csv/trip_gray48:test', 4, {})
  again = dataclasses.replace(faces, name='image_csv/trip_rgb64_crop3:test')
  other = dataclasses.replace(faces, name='image_csv/party_gray48:test')
  assert (_shared(faces, again), _shared(faces, other)) == (4, 0)
