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
  assert set(of.tasks) == set(config.tasks)
  assert not faces.get_config('best').teachers
  with pytest.raises(UserError, match='taught=all'):
    faces.get_config('taught=all')


def test_a_teacher_may_teach_a_few_tasks_with_the_votes_beside_emotions():
  (of,) = faces.get_config('teacher=runs/a,teaches=smile+emotion7').teachers.values()
  assert set(of.tasks) == {'smile', 'emotion7', 'emotion8'}
  (of,) = faces.get_config('teacher=runs/a,teaches=gender').teachers.values()
  assert set(of.tasks) == {'gender'}
  with pytest.raises(UserError, match='teaches=mood'):
    faces.get_config('teacher=runs/a,teaches=mood')
  with pytest.raises(UserError, match='teaches=gender: by whom'):
    faces.get_config('teaches=gender')


def test_balanced_heads_are_a_stage_of_their_own():
  stages = stages_of(faces.get_config('heads=balanced'))
  assert list(stages) == ['network', 'heads']
  assert stages['heads'].balance and not stages['network'].balance
  assert stages['heads'].freeze.params == ('blocks',)
