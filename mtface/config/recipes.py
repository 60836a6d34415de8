"""Recipes of our own in place of a paper's: `fast`, and `best`, with ingredients that are options
elsewhere (docs/ingredients.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from mtface.config.schema import switched
from mtface.errors import UserError

Change = Callable[[ConfigDict], None]
# Of the labels of an epoch: 28,709 faces of FER-2013 need not wait while GENKI-4K's 3,000 are shown
# ten times. Other tasks have 1.
SHARES = {'smile': 1.0, 'emotion7': 4.0, 'gender': 2.0, 'age_years': 2.0, 'ethnicity5': 2.0}


def use_fast_recipe(config: ConfigDict) -> None:
  """Our recipe for a few hundred thousand samples on a CPU, in place of a paper's, which wants
  millions.

  he init, less dropout, batches of 64, a one-cycle rate up to 0.05 with Nesterov momentum, lambda
  2.5e-4 in the config's own convention (`loss.decay`), losses divided by the labelled samples.
  Figures in docs/results.md.
  """
  config.batch_size = 64
  for option, value in (('init', 'he'), ('dropout', 0.25)):
    if option in config.model:
      config.model[option] = value
  config.loss.over = 'labelled'
  config.loss.l2 = 2.5e-4
  switched(config, 'optimizer.schedule', 'one_cycle')
  config.optimizer.rate = 0.05
  config.optimizer.nesterov = True


def use_recipe(
  config: ConfigDict, recipe: str, config_file: str, own: Mapping[str, Change] | None = None
) -> None:
  """Changes a config by a recipe in words, see `ingredients`.

  Args:
    config: with its tasks, sources and network.
    recipe: fast or best, alone or with ingredients, as in best-ema or fast+ema+shares.
    config_file: for the error message.
    own: further ingredients, which only this config has; they come last, and are part of `best`.

  Raises:
    UserError: a recipe, or an ingredient, that there is not.
  """
  use_fast_recipe(config)
  changes = INGREDIENTS | dict(own or {})
  for name in ingredients(recipe, config_file, tuple(own or ())):
    changes[name](config)


def ingredients(recipe: str, config_file: str, own: tuple[str, ...] = ()) -> list[str]:
  """Those of a recipe such as best-ema or fast+shares, in the order in which they are applied.

  Raises:
    UserError: a recipe, or an ingredient, that there is not.
  """
  names = (*INGREDIENTS, *own)
  head, _, rest = recipe.replace('-', '+-').partition('+')
  if head not in ('best', 'fast'):
    raise UserError(
      f'{config_file}: recipe={recipe}: expected best or fast, alone or with ingredients, as in '
      "fast+ema, or, of a paper's config, published"
    )
  chosen = {*BEST, *own} if head == 'best' else set()
  for word in filter(None, rest.split('+')):
    name = word.removeprefix('-')
    if name not in names:
      raise UserError(
        f'{config_file}: recipe={recipe}: there is no ingredient {name!r}; there are '
        f'{", ".join(names)}'
      )
    (chosen.discard if word.startswith('-') else chosen.add)(name)
  return [name for name in names if name in chosen]


def _narrow(config: ConfigDict) -> None:
  if 'width' in config.model:
    config.model.width *= 0.5


def _shares(config: ConfigDict) -> None:
  for name in config.tasks:
    config.tasks[name].share = SHARES.get(name, 1.0)


def _augment(config: ConfigDict) -> None:
  config.augment.rotate, config.augment.zoom, config.augment.stretch = 10.0, 0.1, 0.05
  config.augment.brightness, config.augment.contrast = 0.15, 0.3


def _dropout(config: ConfigDict) -> None:
  if 'dropout' in config.model:
    config.model.dropout = 0.1


def _erase(config: ConfigDict) -> None:
  config.augment.erase = 0.5


def _smoothing(config: ConfigDict) -> None:
  for name, of in config.tasks.items():
    if 'smoothing' in of and name != 'age_years':
      of.smoothing = 0.1


def _ages(config: ConfigDict) -> None:
  if 'age_years' in config.tasks:
    switched(config, 'tasks.age_years.loss', 'label_distribution')
    config.tasks.age_years.deviation, config.tasks.age_years.top = 3.0, 10
    config.tasks.age_years.weight = 0.5


def _ema(config: ConfigDict) -> None:
  config.ema = 0.999


def _mixup(config: ConfigDict) -> None:
  config.blend.name, config.blend.alpha = 'mixup', 0.2


def _cutmix(config: ConfigDict) -> None:
  config.blend.name, config.blend.alpha = 'cutmix', 1.0


# Name -> what it changes.
INGREDIENTS: dict[str, Change] = {
  'narrow': _narrow,
  'shares': _shares,
  'augment': _augment,
  'dropout': _dropout,
  'smoothing': _smoothing,
  'ages': _ages,
  'ema': _ema,
  'erase': _erase,
  'mixup': _mixup,
  'cutmix': _cutmix,
}
BEST = ('narrow', 'shares', 'augment', 'dropout', 'smoothing', 'ages', 'ema')
