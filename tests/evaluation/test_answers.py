"""Answers of a run, and the groups of a prepared set."""

import numpy as np
import pytest

from mtface.data.groupings import groups_of
from mtface.data.sources import load_source
from mtface.errors import UserError
from mtface.evaluation.answers import Answers, answers_of_run
from mtface.tasks import age_to_group, get_task
from tests.fakes import write_prepared


@pytest.fixture(scope='module')
def people(tmp_path_factory):
  """(data_dir, name) of a set of 60 people that labels more than the tiny run predicts."""
  import tensorflow_datasets as tfds

  data_dir = tmp_path_factory.mktemp('groups')
  tasks = {'gender': 1.0, 'smile': 0.5, 'age_years': 0.9, 'action_units': 0.8}
  attributes = {
    'light': (tfds.features.Text(), lambda i: ('day', 'night')[i % 2]),
    'score': (tfds.features.Scalar(np.float32), lambda i: i / 60),
  }
  write_prepared(data_dir, 'tiny/groups', {'test': 60}, tasks, subjects=20, attributes=attributes)
  return data_dir, 'tiny/groups:test'


def test_a_run_answers_what_is_labelled(tiny_run, people):
  data_dir, name = people
  found = {of.task: of for of in answers_of_run(tiny_run, data_dir, on=[name])}
  assert set(found) == {'smile', 'gender'}
  source = load_source(name, data_dir)
  known = source.mask['smile']
  smile = found['smile']
  assert len(smile) == known.sum() == 30
  assert smile.labels.tolist() == source.labels['smile'][known].tolist()
  assert smile.predicted.tolist() == smile.probabilities.argmax(axis=1).tolist()
  assert smile.subjects.tolist() == source.subjects[known].tolist()
  assert len(set(smile.people.tolist())) == len(set(smile.subjects.tolist()))
  genders = np.array(get_task('gender').classes)[source.labels['gender'][known]]
  assert smile.groups['gender'].tolist() == genders.tolist()
  assert list(smile.groups) == ['gender', 'age_group']


def test_one_task_alone(tiny_run, people):
  data_dir, name = people
  (found,) = answers_of_run(tiny_run, data_dir, on=[name], task='gender', groups=['light'])
  assert found.task == 'gender' and set(found.groups['light'].tolist()) == {'day', 'night'}
  with pytest.raises(UserError, match=r'--task=emotion7: the sets tiny/groups:test label no such'):
    answers_of_run(tiny_run, data_dir, on=[name], task='emotion7')


def test_groups_of_a_set(people):
  data_dir, name = people
  source = load_source(name, data_dir, ('gender',))
  whole = load_source(name, data_dir)
  found = groups_of(source, data_dir, ['age_group', 'action_units/AU2', 'light'])
  names = get_task('age_group').classes
  years, known = whole.labels['age_years'], whole.mask['age_years']
  expected = [names[age_to_group(y)] if k else '' for y, k in zip(years, known, strict=True)]
  assert found['age_group'].tolist() == expected and '' in expected
  i = get_task('action_units').classes.index('AU2')
  units, mask = whole.labels['action_units'][:, i], whole.mask['action_units'][:, i]
  assert (found['action_units/AU2'] == 'AU2').tolist() == ((units == 1) & mask).tolist()
  assert (found['action_units/AU2'] == '').tolist() == (~mask).tolist()
  assert found['light'].tolist() == whole.attributes['light'].tolist()


def test_what_is_no_group(people):
  data_dir, name = people
  source = load_source(name, data_dir)
  for wrong in ('ethnicity5', 'age_years', 'score', 'action_units'):
    with pytest.raises(UserError, match=rf'--groups={wrong}: .* has no such label or attribute; i'):
      groups_of(source, data_dir, [wrong])


def test_each_class_of_a_multi_label_task(tiny_run, people, monkeypatch):
  from mtface.evaluation import answers

  data_dir, name = people
  task, source = get_task('action_units'), load_source(name, data_dir)
  scores = np.random.default_rng(0).random((60, 11))
  found = list(answers._classes(name, task, source, scores, 'sigmoid', {}))
  assert [of.task for of in found] == [f'action_units/{c}' for c in task.classes]
  known = source.mask['action_units'][:, 3]
  assert found[3].labels.tolist() == source.labels['action_units'][known, 3].tolist()
  assert found[3].predicted.tolist() == (scores[known, 3] > 0.5).astype(int).tolist()
  np.testing.assert_allclose(found[3].confidence, np.abs(scores[known, 3] - 0.5) + 0.5)


def test_people_and_faces_of_nobody_known():
  subjects = np.array(['b', '', 'a', 'b', ''])
  zeros = np.zeros(5, int)
  people = Answers('x', 'y', ('a', 'b'), zeros, zeros, None, {}, subjects).people
  assert people[0] == people[3] and len(set(people.tolist())) == 4
