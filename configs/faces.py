"""Smile, emotion, gender, age and ethnicity in one network, from GENKI-4K, FER-2013 and UTKFace, by
the best recipe so far (docs/ingredients.md has its figures; its ablation is to come).

    mtface train    --config=faces --data_dir=... --workdir=...     # rerun to resume
    mtface evaluate --workdir=... --data_dir=... --checkpoint=last,last:flip

Arguments: recipe=best, or `fast` (`config.use_fast_recipe`), either with ingredients added or left
out, as in recipe=fast+shares+augment or recipe=best-votes; INGREDIENTS below has them. fold=0..3:
which quarter of GENKI-4K and of UTKFace is the test set (copies and, where they are known, people
on one side); FER-2013 keeps its published split: choices go by the public test, and the private one
is for the end. heads=as_they_are|balanced: a second stage that trains the heads again, the trunk
as it is, on people of every gender, ethnicity and age group equally often (`config.balance`).
teacher=WORKDIR[@last]: another run of this config, of the same fold, labels what a set does not,
and with taught=all what it does as well, which makes it the teacher of a smaller network
(docs/ingredients.md). samples=N: how many are trained on. size=full|small|smoke: see
`config.use_size`.

Labels are what annotators, or the authors of UTKFace's file names, saw in a face.
"""

from mtface.config import (
  Option,
  experiment,
  given_arguments,
  parse_arg,
  source,
  task,
  teacher,
  use_fast_recipe,
  use_size,
)
from mtface.config.schema import switched
from mtface.config.stages import stage
from mtface.errors import UserError

FILE = 'configs/faces.py'
FOLDS = 4
WHERE = ('unlabelled', 'all')  # faces that a teacher labels
PEOPLE = ('gender', 'age_years', 'ethnicity5')
# Of the labels of an epoch: 28,709 faces of FER-2013 need not wait while GENKI-4K's 3,000 are shown
# ten times.
SHARES = {'smile': 1.0, 'emotion7': 4.0, **dict.fromkeys(PEOPLE, 2.0)}


def _shares(config):
  for name, share in SHARES.items():
    config.tasks[name].share = share


def _augment(config):
  config.augment.rotate, config.augment.zoom, config.augment.stretch = 15.0, 0.15, 0.1
  config.augment.brightness, config.augment.contrast = 0.15, 0.3


def _erase(config):
  config.augment.erase = 0.5


def _smoothing(config):
  for name in ('smile', 'emotion7', 'gender', 'ethnicity5'):
    config.tasks[name].smoothing = 0.1


def _ages(config):
  switched(config, 'tasks.age_years.loss', 'label_distribution')
  config.tasks.age_years.deviation, config.tasks.age_years.top = 3.0, 10
  config.tasks.age_years.weight = 0.5


def _votes(config):
  config.tasks.emotion8 = task(votes=True, share=config.tasks.emotion7.share, weight=0.5)
  config.sources.fer2013.tasks = ('emotion7', 'emotion8')


def _ema(config):
  config.ema = 0.999


def _mixup(config):
  config.blend.name, config.blend.alpha = 'mixup', 0.2


def _cutmix(config):
  config.blend.name, config.blend.alpha = 'cutmix', 1.0


def _narrow(config):
  config.model.width = 0.5


# Name -> what it changes.
INGREDIENTS = {
  'narrow': _narrow,
  'shares': _shares,
  'augment': _augment,
  'erase': _erase,
  'smoothing': _smoothing,
  'ages': _ages,
  'votes': _votes,
  'ema': _ema,
  'mixup': _mixup,
  'cutmix': _cutmix,
}
BEST = ('narrow', 'shares', 'augment', 'erase', 'smoothing', 'ages', 'votes', 'ema')


def get_config(arg=None):
  args = parse_arg(
    arg,
    FILE,
    first='recipe',
    recipe=Option('best'),
    fold=Option(0, tuple(range(FOLDS))),
    heads=Option('as_they_are', ('as_they_are', 'balanced')),
    teacher=Option(''),
    taught=Option('unlabelled', WHERE),
    samples=Option(1_500_000),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  config = experiment()
  config.arguments = args
  for name in ('smile', 'emotion7', *PEOPLE):
    config.tasks[name] = task()
  others, part = f'train[fold!={args.fold}/{FOLDS}]', f'train[fold={args.fold}/{FOLDS}]'
  for name, tasks in (('genki4k', ('smile',)), ('utkface', PEOPLE)):
    config.sources[name] = source(f'{name}/gray48:{others}', *tasks)
    config.evaluation.sets[name] = source(f'{name}/gray48:{part}', *tasks)
  config.sources.fer2013 = source('fer2013/gray48:train', 'emotion7')
  for split in ('public', 'private'):
    name = f'fer2013/gray48:{split}_test'
    config.evaluation.sets[f'fer2013_{split}'] = source(name, 'emotion7')
  private = source('fer2013/gray48:private_test[copies!=train+public_test]', 'emotion7')
  config.evaluation.sets.fer2013_private_uncopied = private
  config.evaluation.checkpoints = ('last', 'last:flip')
  config.evaluation.during_training = config.evaluation.best_on = ('fer2013_public',)
  use_fast_recipe(config)
  for name in ingredients(args.recipe):
    INGREDIENTS[name](config)
  if args.teacher:
    asked = {'temperature': 2.0, 'where': args.taught}
    config.teachers.other = teacher(args.teacher, *config.tasks, **asked)
  elif 'taught' in given_arguments(arg, 'recipe'):
    raise UserError(f'{FILE}: taught={args.taught}: by whom? name a run, teacher=WORKDIR')
  config.duration = f'{args.samples} examples'
  config.checkpoint.every, config.log_every = (
    f'{args.samples // 20} examples',
    f'{args.samples // 100} examples',
  )
  if args.heads == 'balanced':
    config.stages = ('network', 'heads')
    config.stage.network = stage({})
    config.stage.heads = stage(
      {
        'start.weights': 'stage:network',
        'freeze.params': ('blocks',),
        'balance': ('gender', 'ethnicity5', 'age_group'),
        'duration': f'{args.samples // 10} examples',
        'checkpoint.every': f'{args.samples // 20} examples',
        'optimizer.rate': config.optimizer.rate / 5,
      }
    )
  use_size(config, args.size)
  return config


def ingredients(recipe):
  """Those of a recipe such as best-votes or fast+shares, in the order of INGREDIENTS."""
  head, _, rest = recipe.replace('-', '+-').partition('+')
  if head not in ('best', 'fast'):
    raise UserError(f'{FILE}: recipe={recipe}: expected best or fast, alone or with ingredients')
  chosen = set(BEST if head == 'best' else ())
  for word in filter(None, rest.split('+')):
    name = word.removeprefix('-')
    if name not in INGREDIENTS:
      raise UserError(
        f'{FILE}: recipe={recipe}: there is no ingredient {name!r}; there are '
        f'{", ".join(INGREDIENTS)}'
      )
    (chosen.discard if word.startswith('-') else chosen.add)(name)
  return [name for name in INGREDIENTS if name in chosen]
