"""The config of the best recipe: its parts, and that every ingredient makes a config."""

import json

import pytest

from configs import faces
from mtface.config.checks import check_stages
from mtface.config.recipes import INGREDIENTS
from mtface.config.stages import stages_of
from mtface.errors import UserError


@pytest.mark.parametrize('name', [*INGREDIENTS, *faces.OWN])
def test_every_ingredient_is_a_config(name):
  config = faces.get_config(f'recipe=fast+{name}')
  check_stages(config, devices=2)
  assert json.loads(config.to_json())


def test_votes_are_an_ingredient_of_the_best():
  assert faces.get_config('best').tasks.emotion8.votes
  assert 'emotion8' not in faces.get_config('best-votes').tasks
  assert tuple(faces.get_config('fast+votes').sources.fer2013.tasks) == ('emotion7', 'emotion8')


def test_some_tasks_bring_the_sets_that_label_them():
  config = faces.get_config('best,tasks=gender+smile')
  assert list(config.tasks) == ['gender', 'smile']  # sorted by ml_collections
  assert {name: tuple(of.tasks) for name, of in config.sources.items()} == {
    'genki4k': ('smile',),
    'utkface': ('gender',),
  }
  assert set(config.evaluation.sets) == {'genki4k', 'utkface'}
  assert not config.evaluation.best_on
  check_stages(config, devices=2)
  with pytest.raises(UserError, match="no task 'smiles'; there are smile, emotion7"):
    faces.get_config('tasks=smiles')


def test_few_smiles_and_others_to_test_on():
  config = faces.get_config('smiles=300,fold=2')
  assert config.sources.genki4k.name == 'genki4k/gray48:train[take=300,seed=2]'
  assert config.evaluation.sets.genki4k.name == 'genki4k/gray48:train[take=1000,after=3000,seed=2]'
  for wrong in (3001, -1):
    with pytest.raises(UserError, match='expected 1 to 3,000'):
      faces.get_config(f'smiles={wrong}')


def test_another_run_teaches_what_it_was_trained_for():
  config = faces.get_config('teacher=runs/a@last,taught=all')
  (of,) = config.teachers.values()
  assert (of.weights, of.where) == ('runs/a@last', 'all')
  assert set(config.tasks) - set(of.tasks) == {'age_years'}
  assert not faces.get_config('best').teachers
  with pytest.raises(UserError, match='taught=all'):
    faces.get_config('taught=all')


def test_several_runs_teach_alike():
  config = faces.get_config('teacher=runs/a@last:ten+runs/best+votes@8+runs/c+d,taught=all')
  assert {name: of.weights for name, of in config.teachers.items()} == {
    'other': 'runs/a@last:ten',
    'other2': 'runs/best+votes@8',
    'other3': 'runs/c+d',
  }
  first, *others = config.teachers.values()
  assert all((of.tasks, of.where) == (first.tasks, 'all') for of in others)


def test_a_teacher_may_teach_a_few_tasks_with_the_votes_beside_emotions():
  (of,) = faces.get_config('teacher=runs/a,teaches=smile+emotion7').teachers.values()
  assert set(of.tasks) == {'smile', 'emotion7', 'emotion8'}
  (of,) = faces.get_config('teacher=runs/a,teaches=gender').teachers.values()
  assert set(of.tasks) == {'gender'}
  with pytest.raises(UserError, match='teaches=mood'):
    faces.get_config('teacher=runs/a,teaches=mood')
  with pytest.raises(UserError, match='teaches=gender: by whom'):
    faces.get_config('teaches=gender')


def test_another_set_is_learnt_from_and_not_tested_on():
  with_more, without = faces.get_config('more=celeba'), faces.get_config('best')
  assert set(with_more.sources) - set(without.sources) == {'celeba'}
  assert with_more.sources.celeba.name == 'celeba/gray48:train'
  assert with_more.sources.celeba.tasks == ('smile', 'gender')
  assert with_more.evaluation == without.evaluation and with_more.tasks == without.tasks
  assert faces.get_config('more=celeba,tasks=gender').sources.celeba.tasks == ('gender',)
  with pytest.raises(UserError, match='more=celeba: labels none of tasks=emotion7'):
    faces.get_config('more=celeba,tasks=emotion7')


def test_balanced_heads_are_a_stage_of_their_own():
  stages = stages_of(faces.get_config('heads=balanced'))
  assert list(stages) == ['network', 'heads']
  assert stages['heads'].balance and not stages['network'].balance
  assert stages['heads'].freeze.params == ('blocks',)


def test_students_have_more_channels_and_learn_all_but_ages_from_the_one_before():
  stages = stages_of(faces.get_config('students=2'))
  assert {name: of.model.width for name, of in stages.items()} == {
    'network': 0.5,
    'student1': 0.75,
    'student2': 1.0,
  }
  assert not stages['network'].teachers
  (of,) = stages['student2'].teachers.values()
  assert (of.weights, of.where) == ('stage:student1', 'all')
  assert set(stages['student2'].tasks) - set(of.tasks) == {'age_years'}
  assert stages['student1'].duration == stages['network'].duration == '2200000 examples'
  check_stages(faces.get_config('students=1,size=smoke'), devices=2)


def test_a_student_starts_from_labels_where_another_run_teaches_the_first_network():
  stages = stages_of(faces.get_config('students=1,teacher=runs/a'))
  assert [list(of.teachers) for of in stages.values()] == [['other'], ['before']]


def test_heads_are_those_of_the_last_student():
  stages = stages_of(faces.get_config('recipe=fast,students=1,heads=balanced,size=small'))
  assert {of.model.width for of in stages.values()} == {0.25, 0.5}
  assert stages['heads'].start.weights == 'stage:student1'
  assert stages['heads'].model.width == 0.5 and not stages['heads'].teachers
  stages = stages_of(faces.get_config('heads=balanced,size=smoke'))
  assert [of.duration for of in stages.values()] == ['20 steps', '20 steps']
