"""Photographs of your own: one network for all tasks that a csv labels.

    mtface build    image_csv/NAME --manual_dir=FOLDER --data_dir=...   # FOLDER holds NAME.csv
    mtface train    --config=mine:NAME --data_dir=... --workdir=...     # rerun to resume
    mtface evaluate --workdir=... --data_dir=...

Arguments: the set's name as it was built, with its form: NAME, NAME_gray48, ... start=WORKDIR or a
weight file: fine-tuned from these weights, at 0.1 of the rate in the convolutions, 0.5 in hidden
layers and 1 in the last ones (Zhang et al. 2016, section 3.4); without it weights are drawn.
network=bknet|resnet20|mobilenet: the same as that of `start`. test=SPLIT: what is
tested on; by default the split `test` if there is one, or else a fifth of the images, with nobody
and no copy on both sides.

The tasks and their classes are read from the prepared set. The recipe is `use_fast_recipe`'s for
100 epochs and at least 60,000 samples.
"""

from mtface.config import (
  Option,
  experiment,
  model,
  parse_arg,
  source,
  task,
  use_fast_recipe,
)
from mtface.data import prepared
from mtface.tasks import SHIPPED

FILE = 'configs/mine.py'
# network -> how it is made, and the factors of the rate of a fine-tuned one; last layers have 1
NETWORKS = {
  'bknet': (lambda: model('bknet'), ('blocks=0.1', 'branches/[^/]+/(hidden|norms)=0.5')),
  'resnet20': (lambda: model('resnet', depth=20), ('trunk=0.1',)),
  'mobilenet': (lambda: model('mobilenet'), ('trunk=0.1',)),
}
SAMPLES, EPOCHS = 60_000, 100


def get_config(arg=None, data_dir=''):
  args = parse_arg(
    arg,
    FILE,
    first='name',
    name=Option(''),
    start=Option(''),
    network=Option('bknet', tuple(NETWORKS)),
    test=Option(''),
  )
  name = f'image_csv/{args.name or "NAME"}'
  found = prepared.described(name, data_dir)
  config = experiment()
  config.arguments = args
  config.classes = {
    of.name: {'classes': of.classes, 'multi_label': of.multi_label}
    for of in found.tasks
    if of.name not in SHIPPED
  }
  network, factors = NETWORKS[args.network]
  config.model = network()
  config.image_shape = found.image_shape
  tasks = [of.name for of in found.tasks]
  for of in found.tasks:
    loss = 'sigmoid_cross_entropy' if of.multi_label else 'softmax_cross_entropy'
    config.tasks[of.name] = task(loss)
  training, test = _parts(found.splits, args.test)
  config.sources[args.name] = source(f'{name}:{training}', *tasks)
  config.evaluation.sets[args.name] = source(f'{name}:{test}', *tasks)
  use_fast_recipe(config)
  config.augment.pad = config.image_shape[0] // 12
  samples = max(SAMPLES, EPOCHS * found.splits['train'])
  config.duration, config.checkpoint.every = f'{samples} examples', f'{samples // 10} examples'
  config.log_every = f'{samples // 40} examples'
  if args.start:
    config.start.weights, config.optimizer.factors = args.start, factors
  return config


def _parts(splits, test):
  """(training part, test part)."""
  if test or 'test' in splits:
    return 'train', test or 'test'
  return 'train[fold!=0/5]', 'train[fold=0/5]'
