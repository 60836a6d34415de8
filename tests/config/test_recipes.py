"""Recipes in words, and what each ingredient changes."""

import pytest

from configs import faces, rohani2023, sang2017
from mtface.config.checks import check_stages
from mtface.config.recipes import BEST, INGREDIENTS, ingredients
from mtface.config.schema import flat
from mtface.errors import UserError


def changes(recipe):
  base, other = (flat(faces.get_config(f'recipe={r}').to_dict()) for r in ('fast', recipe))
  fields = {k for k in base.keys() | other.keys() if base.get(k) != other.get(k)}
  return {field for field in fields if not field.startswith('arguments')}


@pytest.mark.parametrize('name', INGREDIENTS)
def test_every_ingredient_changes_something(name):
  assert changes(f'fast+{name}')


def test_ingredients_do_not_undo_each_other():
  both = changes('fast+augment+erase')
  assert both == changes('fast+augment') | changes('fast+erase')
  assert changes('best-votes') == changes('best') - (changes('fast+votes') - changes('best-votes'))


@pytest.mark.parametrize(
  ('recipe', 'expected'),
  [
    ('fast', []),
    ('fast+ema+narrow', ['narrow', 'ema']),
    ('best', [*(name for name in INGREDIENTS if name in BEST), 'own']),
    ('best-own-ema', [n for n in INGREDIENTS if n in {*BEST} - {'ema'}]),
    ('fast+own+ema', ['ema', 'own']),
  ],
)
def test_recipes_in_words(recipe, expected):
  assert ingredients(recipe, 'x.py', ('own',)) == expected


@pytest.mark.parametrize('wrong', ['slow', 'fast+salt', 'best-salt', '+ema'])
@pytest.mark.parametrize('config', [faces, sang2017, rohani2023])
def test_recipes_that_are_none(config, wrong):
  with pytest.raises(UserError, match=rf'{config.__name__.split(".")[1]}\.py: recipe='):
    config.get_config(f'recipe={wrong}')


@pytest.mark.parametrize(
  'config',
  [
    sang2017.get_config('A1,recipe=best'),
    sang2017.get_config('A2,recipe=fast+ema'),
    rohani2023.get_config('C,recipe=best'),
  ],
)
def test_papers_networks_take_a_recipe(config):
  assert config.ema and config.optimizer.schedule == 'one_cycle'
  check_stages(config, devices=2)


def test_an_ingredient_leaves_alone_what_does_not_know_it():
  hinge, cross_entropy = (sang2017.get_config(f'{row},recipe=best') for row in ('A1', 'A2'))
  assert 'smoothing' not in hinge.tasks.smile
  assert cross_entropy.tasks.smile.smoothing == 0.1
  assert (hinge.tasks.smile.share, hinge.tasks.emotion7.share) == (1, 4)
