"""The config of the best recipe: its ingredients, one by one, and that all of them train."""

import json

import pytest

from configs import faces
from mtface.config.checks import check_stages
from mtface.config.schema import flat
from mtface.config.stages import stages_of
from mtface.errors import UserError


def changes(recipe):
  base, other = (flat(faces.get_config(f'recipe={r}').to_dict()) for r in ('fast', recipe))
  fields = {k for k in base.keys() | other.keys() if base.get(k) != other.get(k)}
  return {field for field in fields if not field.startswith('arguments')}


@pytest.mark.parametrize('name', faces.INGREDIENTS)
def test_every_ingredient_changes_something_and_is_a_config(name):
  assert changes(f'fast+{name}')
  config = faces.get_config(f'recipe=fast+{name}')
  check_stages(config, devices=2)
  assert json.loads(config.to_json())


def test_ingredients_do_not_undo_each_other():
  both = changes('fast+augment+erase')
  assert both == changes('fast+augment') | changes('fast+erase')
  assert changes('best-votes') == changes('best') - (changes('fast+votes') - changes('best-votes'))


@pytest.mark.parametrize(
  ('recipe', 'expected'),
  [
    ('fast', []),
    ('fast+ema+narrow', ['narrow', 'ema']),
    ('best', [name for name in faces.INGREDIENTS if name in faces.BEST]),
    ('best-votes-ema', [n for n in faces.INGREDIENTS if n in {*faces.BEST} - {'votes', 'ema'}]),
  ],
)
def test_recipes_in_words(recipe, expected):
  assert faces.ingredients(recipe) == expected


@pytest.mark.parametrize('wrong', ['slow', 'fast+salt', 'best-salt', '+ema'])
def test_recipes_that_are_none(wrong):
  with pytest.raises(UserError, match=r'faces\.py: recipe='):
    faces.get_config(f'recipe={wrong}')


def test_another_run_teaches_what_it_was_trained_for():
  config = faces.get_config('teacher=runs/a@last,taught=all')
  (of,) = config.teachers.values()
  assert (of.weights, of.where) == ('runs/a@last', 'all')
  assert set(of.tasks) == set(config.tasks)
  assert not faces.get_config('best').teachers
  with pytest.raises(UserError, match='taught=all'):
    faces.get_config('taught=all')


def test_balanced_heads_are_a_stage_of_their_own():
  stages = stages_of(faces.get_config('heads=balanced'))
  assert list(stages) == ['network', 'heads']
  assert stages['heads'].balance and not stages['network'].balance
  assert stages['heads'].freeze.params == ('blocks',)
