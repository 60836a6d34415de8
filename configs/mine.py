"""Photographs of your own: one network for all tasks that a csv labels.

    mtface build    image_csv/NAME --manual_dir=FOLDER --data_dir=...   # FOLDER holds NAME.csv
    mtface train    --config=mine:NAME --data_dir=... --workdir=...     # rerun to resume
    mtface evaluate --workdir=... --data_dir=...

Arguments: the set's name as it was built, with its form: NAME, NAME_gray48, ... from=WORKDIR (or
WORKDIR@best, ...) or a weight file: fine-tuned from these weights, at 0.1 of the rate in the
convolutions, 0.5 in hidden layers and 1 in the last ones (Zhang et al. 2016, section 3.4); without
it weights are drawn. network=bknet|resnet20|mobilenet: of drawn weights and of a weight file; with
from=WORKDIR it is that run's. test=SPLIT: what is tested on; by default every split but `train`, or
where there is no other a fifth of the images, with nobody and no copy on both sides.

recipe=fast+augment, or another in words (mtface/config/recipes.py): fast, best, fast+ema, ...

The tasks and their classes are read from the prepared set. The recipe is for 30,000 samples, or 20
epochs of sets of more than 1,500 images. Of the ingredients that were tried on 800 photographs, one
helped by itself, changing the images more (`augment`): by 2.2 points of smiles, 95% interval 1.0 to
3.4 (docs/ingredients.md).
"""

from mtface.config import (
  Option,
  contradiction,
  experiment,
  given_arguments,
  model,
  parse_arg,
  source,
  task,
  use_recipe,
)
from mtface.config.saved import read_config
from mtface.config.stages import stage_of
from mtface.data import prepared
from mtface.errors import UserError
from mtface.files import split_selection
from mtface.models.weight_files import is_weights_file
from mtface.tasks import SHIPPED, get_task

FILE = 'configs/mine.py'
NETWORKS = {
  'bknet': lambda: model('bknet'),
  'resnet20': lambda: model('resnet', depth=20),
  'mobilenet': lambda: model('mobilenet'),
}
SAMPLES, EPOCHS = 30_000, 20


def get_config(arg=None, data_dir=''):
  args = parse_arg(
    arg,
    FILE,
    first='name',
    name=Option(''),
    network=Option('bknet', tuple(NETWORKS)),
    recipe=Option('fast+augment'),
    test=Option(''),
    **{'from': Option('')},
  )
  if not args.name:
    raise UserError(
      f'{FILE}: of which set? --config=mine:NAME, as in `mtface build image_csv/NAME`'
    )
  name = f'image_csv/{args.name}'
  found = prepared.described(name, data_dir)
  config = experiment()
  config.arguments = args
  config.classes = {
    of.name: {'classes': of.classes, 'multi_label': of.multi_label}
    for of in found.tasks
    if of.name not in SHIPPED
  }
  config.model = NETWORKS[args.network]()
  config.image_shape = found.image_shape
  tasks = [of.name for of in found.tasks]
  for of in found.tasks:
    loss = 'sigmoid_cross_entropy' if of.multi_label else 'softmax_cross_entropy'
    config.tasks[of.name] = task(loss)
  training, tests = _parts(name, found.splits, args.test)
  config.sources[args.name] = source(f'{name}:{training}', *tasks)
  for key, part in tests.items():
    config.evaluation.sets[f'{args.name}_{key}'] = source(f'{name}:{part}', *tasks)
  use_recipe(config, args.recipe, FILE)
  config.augment.pad = config.image_shape[0] // 12
  samples = max(SAMPLES, EPOCHS * found.splits['train'])
  config.duration, config.checkpoint.every = f'{samples} examples', f'{samples // 10} examples'
  config.log_every = f'{samples // 40} examples'
  if args['from']:
    _start_from(config, args['from'], given_arguments(arg, 'name'))
  return config


def _parts(name, splits, test):
  """(training part, {what it is called: part} to test on)."""
  if test and test not in splits:
    raise UserError(f'{FILE}: test={test}: {name} has no such split; it has {", ".join(splits)}')
  others = [test] if test else [split for split in splits if split != 'train']
  if others:
    return 'train', {split: split for split in others}
  return 'train[fold!=0/5]', {'test': 'train[fold=0/5]'}


def _start_from(config, weights, given):
  """Takes the network of the run that `weights` are of, and gives its layers their rates."""
  config.start.weights = weights
  if not is_weights_file(weights):
    if 'network' in given:
      why = 'the network is the one of that run'
      raise contradiction(FILE, f'from={weights}', 'network=', why)
    options = _trained(config, split_selection(weights)[0]).model.items()
    # JSON has no tuples
    config.model = model(**{key: tuple(x) if isinstance(x, list) else x for key, x in options})
  config.optimizer.factors = _factors(config)


def _trained(config, workdir):
  """The config of the last stage of a run, whose images have to be of the same form."""
  try:
    _, last = stage_of(read_config(workdir))
  except UserError as error:
    raise UserError(f'{FILE}: from={workdir}: {error}') from error
  if tuple(last.image_shape) != tuple(config.image_shape):
    shapes = ('x'.join(map(str, of.image_shape)) for of in (last, config))
    raise UserError(
      f'{FILE}: from={workdir}: that run saw images of {next(shapes)}, these are {next(shapes)}; '
      'build the set in that form (gray48, rgb64, ...: docs/your_photographs.md)'
    )
  return last


def _factors(config):
  """What is not named here, the last layers, has 1."""
  if config.model.name == 'bknet':
    return ('blocks=0.1', 'branches/[^/]+/(hidden|norms)=0.5')
  ages = any(get_task(name).values is not None for name in config.tasks if name in SHIPPED)
  has_hidden = config.model.get('branch') or (ages and config.model.get('age_hidden'))
  hidden = ('heads/[^/]+/(hidden|norms)=0.5',) if has_hidden else ()
  fc7 = ('trunk/fc7=0.5',) if config.model.name == 'vgg' else ()
  return (*fc7, 'trunk=0.1', *hidden)
