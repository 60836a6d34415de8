"""predictions.csv, read back and scored by scikit-learn, against results.json."""

import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from mtface.evaluation.evaluate import evaluate
from mtface.evaluation.predictions import write_predictions
from mtface.tasks import get_task
from tests.fakes import fake_source


def read(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_scikit_learn_finds_the_same_on_the_written_predictions(run_copy, tiny_data):
  selections = {'last': 'last', 'ensemble:3': 'ensemble_3'}
  evaluate(run_copy, tiny_data, checkpoints=list(selections), predictions=True)
  results = json.loads((run_copy / 'results.json').read_text())['results']
  assert len(results) == 4
  for row in results:
    lines = read(run_copy / 'predictions' / selections[row['checkpoint']] / f'{row["set"]}.csv')
    task = row['task']
    known = [line for line in lines if line[task]]
    labels, predicted = (
      [line[task] for line in known],
      [line[f'{task} predicted'] for line in known],
    )
    classes = list(get_task(task).classes)
    assert row['n'] == len(known)
    np.testing.assert_array_equal(
      row['confusion'], sk.confusion_matrix(labels, predicted, labels=classes)
    )
    np.testing.assert_allclose(
      [row['accuracy'], row['balanced_accuracy'], row['macro_f1']],
      [
        sk.accuracy_score(labels, predicted),
        sk.balanced_accuracy_score(labels, predicted),
        sk.f1_score(labels, predicted, average='macro'),
      ],
    )
    probabilities = np.array(
      [[float(line[f'{task}/{name}']) for name in classes] for line in lines]
    )
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert [classes[i] for i in probabilities.argmax(axis=1)] == [
      line[f'{task} predicted'] for line in lines
    ]
  people = read(run_copy / 'predictions/last/people.csv')
  assert sum(not line['gender'] for line in people) == 5, 'a quarter of the 20 people has no gender'
  assert all(line['smile'] == '' and line['smile predicted'] for line in people), (
    'predicted, and not labelled there'
  )


def test_multi_label_tasks_have_a_label_a_class(tmp_path):
  source = fake_source('units', 6, {'action_units': 0.5})
  task = get_task('action_units')
  found = {'action_units': np.linspace(0, 1, 6 * 11).reshape(6, 11)}
  batches = [
    ({'action_units': found['action_units'][rows]}, rows)
    for rows in (np.arange(4), np.arange(4, 6))
  ]
  lines = read(
    write_predictions(
      tmp_path, 'last', 'a/b:train[fold=0/4]', {'action_units': task}, source, batches
    )
  )
  assert (tmp_path / 'predictions/last/a_b_train_fold_0_4_.csv').exists()
  assert lines[1]['action_units/AU2 label'] == str(source.labels['action_units'][1, 1])
  assert lines[5]['action_units/AU2 label'] == ''
  assert float(lines[1]['action_units/AU2']) == pytest.approx(found['action_units'][1, 1])
  assert [line['image_id'] for line in lines] == list(source.image_ids)


def test_what_a_line_says_of_an_image(tmp_path):
  source = fake_source('faces', 3, {'smile': 2 / 3})
  source.labels['smile'][:] = [1, 0, 1]  # the last one is unknown
  scores = {
    'smile': np.array([[0.2, 0.8], [0.3, 0.7], [0.9, 0.1]]),
    'gender': np.array([[0.6, 0.4]] * 3),
  }
  tasks = {name: get_task(name) for name in scores}
  lines = read(
    write_predictions(tmp_path, 'ensemble:2', 'faces', tasks, source, [(scores, np.arange(3))])
  )
  assert (tmp_path / 'predictions/ensemble_2/faces.csv').exists()
  no, yes = get_task('smile').classes
  assert [(line['smile'], line['smile predicted'], line[f'smile/{yes}']) for line in lines] == [
    (yes, yes, '0.8'),
    (no, yes, '0.7'),
    ('', no, '0.1'),
  ]
  assert [(line['gender'], line['gender predicted'], line['gender/male']) for line in lines] == [
    ('', 'female', '0.4')
  ] * 3
