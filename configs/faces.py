"""Smile, emotion, gender, age and ethnicity in one network, from GENKI-4K, FER-2013 and UTKFace, by
the best recipe so far (docs/ingredients.md has its figures): 46 minutes of two cores of an EPYC.

    mtface train    --config=faces --data_dir=... --workdir=...     # rerun to resume
    mtface evaluate --workdir=... --data_dir=... --checkpoint=last,last:flip

Arguments: recipe=best, or `fast` (`config.use_fast_recipe`), either with ingredients added or left
out, as in recipe=fast+shares+augment or recipe=best-votes; mtface/config/recipes.py has them.
fold=0..3: which quarter of GENKI-4K and of UTKFace is the test set (copies and, where they are
known, people on one side); FER-2013 keeps its published split: choices go by the public test, and
the private one is for the end.
students=0..2: so many stages after the first; each is a network with a quarter of the channels
more, which the one before teaches on all faces, all tasks but ages.
heads=as_they_are|balanced: a last stage that trains the heads again, the trunk as it is, on people
of every gender, ethnicity and age group equally often (`config.balance`).
teacher=WORKDIR[@last:flip]: another run of this config, of the same fold, labels what a set does
not, and with taught=all what it does as well, which makes it the teacher of a smaller network; of
all tasks but ages, or of teaches=smile+age_years alone (docs/ingredients.md). Of several runs,
teacher=A@last:ten+B@last:ten, it is the mean of what they say.
more=celeba: smiles and gender from CelebA's training part as well (docs/ingredients.md).
tasks=smile+gender: these alone, and the sets that label them. smiles=300: so many of GENKI-4K's
faces to learn from, at most 3,000, and 1,000 others as its test set; `fold` is the seed of the
draw. samples=N: how many are trained on.
size=full|small|smoke: see `config.use_size`.

Labels are what annotators, or the authors of UTKFace's file names, saw in a face.
"""

import itertools

from mtface.config import (
  Option,
  experiment,
  given_arguments,
  parse_arg,
  source,
  task,
  teacher,
  use_recipe,
  use_size,
)
from mtface.config.stages import stage
from mtface.errors import UserError
from mtface.files import split_selection

FILE = 'configs/faces.py'
FOLDS = 4
STUDENTS = 2
WHERE = ('unlabelled', 'all')  # faces that a teacher labels
PEOPLE = ('gender', 'age_years', 'ethnicity5')
TASKS = ('smile', 'emotion7', *PEOPLE)
MORE = {'celeba': ('smile', 'gender')}  # sets to learn from, and what
PASSED_ON = tuple(name for name in TASKS if name != 'age_years')  # a teacher makes ages worse
VOTES = 'emotion8'  # of FERPlus's annotators, on the faces of emotion7
SMILES = 3000  # the largest draw of them; those of its test set share nobody with it


def _votes(config):
  if 'emotion7' not in config.tasks:
    return
  config.tasks[VOTES] = task(votes=True, share=config.tasks.emotion7.share, weight=0.5)
  config.sources.fer2013.tasks = ('emotion7', VOTES)


OWN = {'votes': _votes}  # an ingredient of this config only


def get_config(arg=None):
  args = parse_arg(
    arg,
    FILE,
    first='recipe',
    recipe=Option('best'),
    fold=Option(0, tuple(range(FOLDS))),
    students=Option(0, tuple(range(STUDENTS + 1))),
    heads=Option('as_they_are', ('as_they_are', 'balanced')),
    teacher=Option(''),
    taught=Option('unlabelled', WHERE),
    teaches=Option('+'.join(PASSED_ON)),
    more=Option('', ('', *MORE)),
    tasks=Option('+'.join(TASKS)),
    smiles=Option(0),
    samples=Option(2_200_000),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  config = experiment()
  config.arguments = args
  for name in chosen(args.tasks):
    config.tasks[name] = task()
  _add_sources(config, args)
  use_recipe(config, args.recipe, FILE, OWN)
  given = given_arguments(arg, 'recipe')
  if args.teacher:
    taught = chosen(args.teaches, 'teaches')
    for i, weights in enumerate(_runs(args.teacher), start=1):
      name = f'other{i}' if i > 1 else 'other'
      config.teachers[name] = _teacher(config, weights, taught, args.taught)
  elif lost := [name for name in ('taught', 'teaches') if name in given]:
    raise UserError(f'{FILE}: {lost[0]}={args[lost[0]]}: by whom? name a run, teacher=WORKDIR')
  config.duration = f'{args.samples} examples'
  config.checkpoint.every, config.log_every = (
    f'{args.samples // 20} examples',
    f'{args.samples // 100} examples',
  )
  use_size(config, args.size)
  stages = {'network': {}} | _students(config, args.students)
  if args.heads == 'balanced':
    stages['heads'] = _heads(config, args, list(stages)[-1], list(stages.values())[-1])
  if len(stages) > 1:
    config.stages = tuple(stages)
    config.stage.update({name: stage(changes) for name, changes in stages.items()})
  return config


def _teacher(config, weights, taught, where):
  """What a network says of these tasks, where `config` has them."""
  taught = [*taught, VOTES] if 'emotion7' in taught else taught
  tasks = [name for name in config.tasks if name in taught]
  return teacher(weights, *tasks, temperature=2.0, where=where)


def _runs(text):
  """Runs joined by +, all but the last with a selection: any other + is part of a path."""
  found = ['']
  for part in text.split('+'):
    if split_selection(found[-1])[1]:
      found.append(part)
    else:
      found[-1] += f'+{part}' if found[-1] else part
  return found


def _students(config, count):
  """{stage: its changes} of networks that learn from the one before."""
  names = ['network', *(f'student{i}' for i in range(1, count + 1))]
  return {
    name: {
      'model.width': min(1.0, config.model.width + i / 4),
      'teachers': {'before': _teacher(config, f'stage:{before}', PASSED_ON, 'all')},
    }
    for i, (before, name) in enumerate(itertools.pairwise(names), start=1)
  }


def _heads(config, args, before, network):
  """The changes of a stage that trains the heads of the one before again."""
  changes = {
    'start.weights': f'stage:{before}',
    'freeze.params': ('blocks',),
    'balance': ('gender', 'ethnicity5', 'age_group'),
    'optimizer.rate': config.optimizer.rate / 5,
  }
  changes |= {name: value for name, value in network.items() if name == 'model.width'}
  if args.size != 'smoke':
    changes['duration'] = f'{args.samples // 10} examples'
    changes['checkpoint.every'] = f'{args.samples // 20} examples'
  return changes


def _add_sources(config, args):
  """Those that label one of the tasks, and what they are tested on."""

  def add(name, tasks, train, **tests):
    labels = [task for task in tasks if task in config.tasks]
    if labels:
      config.sources[name] = source(f'{name}/gray48:{train}', *labels)
      for test, part in tests.items():
        config.evaluation.sets[test] = source(f'{name}/gray48:{part}', *labels)

  others, part = f'train[fold!={args.fold}/{FOLDS}]', f'train[fold={args.fold}/{FOLDS}]'
  smiles = {'train': others, 'genki4k': part}
  if args.smiles:
    if not 0 < args.smiles <= SMILES:
      raise UserError(f'{FILE}: smiles={args.smiles}: expected 1 to {SMILES:,}')
    seed = f'seed={args.fold}'
    smiles['train'] = f'train[take={args.smiles},{seed}]'
    smiles['genki4k'] = f'train[take=1000,after={SMILES},{seed}]'
  add('genki4k', ('smile',), **smiles)
  if args.more:
    add(args.more, MORE[args.more], 'train')
    if args.more not in config.sources:
      raise UserError(f'{FILE}: more={args.more}: labels none of tasks={args.tasks}')
  add('utkface', PEOPLE, others, utkface=part)
  add(
    'fer2013',
    ('emotion7',),
    'train',
    fer2013_public='public_test',
    fer2013_private='private_test',
    fer2013_private_uncopied='private_test[copies!=train+public_test]',
  )
  config.evaluation.checkpoints = ('last', 'last:flip')
  if 'fer2013' in config.sources:  # the others have no set that choices may be made by
    config.evaluation.during_training = config.evaluation.best_on = ('fer2013_public',)


def chosen(tasks, argument='tasks'):
  """Those of TASKS that are named, as in smile+gender, in that order."""
  names = tasks.split('+')
  if unknown := [name for name in names if name not in TASKS]:
    raise UserError(
      f'{FILE}: {argument}={tasks}: there is no task {unknown[0]!r}; there are {", ".join(TASKS)}'
    )
  return [name for name in TASKS if name in names]
