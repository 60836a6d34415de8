"""Pons and Masip 2018: emotions and action units from two sets that are each labelled for one of
them, with one output layer over the union of both label spaces (SJMT).

    # One network for both; rerun the same command to resume.
    mtface train     --config=pons2018:sjmt --data_dir=... --workdir=...
    mtface evaluate  --workdir=... --data_dir=...
    # Figure 2 and Table 3: action units of faces that were never labelled for them
    mtface associate --workdir=... --data_dir=... --on=sfew --by=emotion7 --of=action_units
    # Tables 1, 2 and 4, ours beside the paper's; several seeds give mean and spread
    mtface table pons2018 --workdirs=...,... [--table=2]

Arguments: strategy=single|multitask|sjmt, figure 1 (a) to (c). single: a network a task, stages
`emotion` and `units`, which `mtface evaluate --stage=...` measures one by one. multitask: shared
filters, a head and a cross-entropy a task, batches of the two sets in turn. sjmt: one output layer,
sigmoid cross-entropy over the classes in the label space of each sample's set (eq. 1); both in the
stage `joint`. network=resnet20|resnet32|resnet110|vgg16 (vgg16: single only, 224 pixels).
version=v1|v2: of the ResNet. mixing=proportional|equal (sjmt): every image once an epoch, or as
many labelled samples of both tasks. divisor=labelled|all (sjmt): N of eq. 1. compound=True: section
4.3, eight compound emotions from 15 images a class, alone (single, stage `emotion`) or with the
action units (sjmt). weights=FILE: what the first stage starts from
(CIFAR-10 for a ResNet, ImageNet for VGG-16: mtface/models/weights.py); without, it is drawn.
data=paper|ckplus|celeba|synthetic: SFEW 2.0 and EmotioNet, after FER-2013 (stage `fer`); CK+
(single); or without `fer`, 1,000 images of FER-2013 in SFEW's place and CelebA's 40 attributes in
the place of action units, or synthetic faces (both named as stand-ins in tables).
recipe=published|fast: the paper's, or ours for a few hundred thousand samples
(`config.use_fast_recipe`, with a rate for each strategy). size=full|small|smoke: see
`config.use_size`.

Where the paper leaves room (docs/papers.md has all of it):
- optimiser, momentum, weight decay: none is stated. SGD with momentum 0.9 and 2e-4 in TensorFlow's
  convention, those of TensorFlow's own example of a ResNet on CIFAR-10, whose batch, length and
  augmentation the paper has.
- "exponential decay every 10,000 steps" of no stated factor: steps of 0.5. A tenth would leave
  5e-10 at the end. VGG-16's rate is "exponentially decayed" too, at intervals that are not given;
  at the same ones its 2,000 steps end before the first.
- padding of no stated width: 2 pixels a side, as in that example. No flips, none are named.
- a ResNet of reference [22] (v1), while its weights are cited to [23] (v2): version=v1.
- "N is the number of classes": of the sample's labelled ones; divisor=all is the other reading.
- "images from different databases are fed indistinctly": proportional, which is 4% SFEW, while
  batches in turn are half of it; so `equal` stands beside it.
- length and rate of the training on FER-2013: the same as of the others.
- eq. 3 for emotion would be near 83% where the paper has 41.3: emotion is plain accuracy.
- "160 images consisting of 15 images in each class" is 120; 15 a class, tested on all the rest.
  "9 compound emotions" are 8 in its Table 4.
"""

from mtface.config import (
  Option,
  contradiction,
  experiment,
  given_arguments,
  model,
  optimizer,
  parse_arg,
  source,
  stage,
  task,
  use_fast_recipe,
  use_size,
)
from mtface.report.papers import Column, PaperRow, PaperTable, others
from mtface.tasks import get_task

FILE = 'configs/pons2018.py'
DEPTHS = {'resnet20': 20, 'resnet32': 32, 'resnet110': 110}
UNITS = {'celeba': 'celeba_attributes'}  # what is learnt beside emotions; elsewhere action units
# The mean over a sample's labelled classes makes SJMT's gradients small: of 0.05, 0.2 and 0.8 the
# best for emotions on FER-2013's public split, which no table tests on (docs/results.md).
FAST_RATES = {'single': 0.2, 'multitask': 0.2, 'sjmt': 0.8}
SIGMOID, SOFTMAX = 'sigmoid_cross_entropy', 'softmax_cross_entropy'

# (training, test, name of the test set) for each kind of label; {form} is the size.
EMOTION = {
  'paper': ('sfew/{form}:train', 'sfew/{form}:validation', 'sfew'),
  'ckplus': (
    'ckplus/{form}:train[upto=100000,after=100,of=emotion7,seed=0]',
    'ckplus/{form}:train[take=100,of=emotion7,seed=0]',
    'ckplus',
  ),
  'celeba': (
    'fer2013/{form}:train[take=1000,seed=0]',
    'fer2013/{form}:private_test',
    'fer2013',
  ),
  'synthetic': (
    'synthetic_faces/emotion_{form}:train[take=1000,seed=0]',
    'synthetic_faces/emotion_{form}:test',
    'synthetic_emotion',
  ),
}
ACTION_UNITS = {
  'paper': (
    'emotionet/{form}:train[upto=24000,after=1000,of=action_units,seed=0]',
    'emotionet/{form}:train[take=1000,of=action_units,seed=0]',
    'emotionet',
  ),
  'ckplus': (
    'ckplus/{form}:train[upto=100000,after=100,of=action_units,seed=0]',
    'ckplus/{form}:train[take=100,of=action_units,seed=0]',
    'ckplus_units',
  ),
  'celeba': (
    'celeba/{form}:train[upto=4000,after=1000,of=celeba_attributes,seed=0]',
    'celeba/{form}:train[take=1000,of=celeba_attributes,seed=0]',
    'celeba',
  ),
  'synthetic': (
    'synthetic_faces/units_{form}:train',
    'synthetic_faces/units_{form}:test',
    'synthetic_units',
  ),
}
COMPOUND = {
  'paper': (
    'emotionet/{form}:train[each=15,of=compound8,seed=0]',
    'emotionet/{form}:train[each!=15,of=compound8,seed=0]',
    'compound',
  ),
  'synthetic': (
    'synthetic_faces/compound_{form}:train[each=15,of=compound8,seed=0]',
    'synthetic_faces/compound_{form}:test',
    'synthetic_compound',
  ),
}


def get_config(arg=None):
  args = parse_arg(
    arg,
    FILE,
    first='strategy',
    strategy=Option('sjmt', ('single', 'multitask', 'sjmt')),
    network=Option('resnet32', (*DEPTHS, 'vgg16')),
    version=Option('v1', ('v1', 'v2')),
    mixing=Option('proportional', ('proportional', 'equal')),
    divisor=Option('labelled', ('labelled', 'all')),
    compound=Option(False),
    weights=Option(''),
    data=Option('paper', tuple(EMOTION)),
    recipe=Option('published', ('published', 'fast')),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  _check(args, given_arguments(arg, 'strategy'))
  config = experiment()
  config.arguments = args
  _add_network(config, args)
  config.loss.over = 'labelled'
  config.evaluation.checkpoints = ('last',)
  config.checkpoint.keep_last = 3
  if args.recipe == 'fast':
    use_fast_recipe(config)
    config.optimizer.rate = FAST_RATES[args.strategy]
  stages = _stages(args)
  config.stages = tuple(stages)
  for name, changes in stages.items():
    config.stage[name] = stage(changes)
  use_size(config, args.size)
  return config


def _check(args, given):
  """What excludes what."""
  for name in ('mixing', 'divisor'):
    if name in given and args.strategy != 'sjmt':
      raise contradiction(
        FILE, f'strategy={args.strategy}', f'{name}={args[name]}', 'it is an argument of sjmt'
      )
  if args.network == 'vgg16' and args.strategy != 'single':
    raise contradiction(
      FILE, 'network=vgg16', f'strategy={args.strategy}', 'the paper trains VGG-16 on one task'
    )
  if args.network == 'vgg16' and 'version' in given:
    raise contradiction(
      FILE, 'network=vgg16', f'version={args.version}', 'it is an argument of ResNets'
    )
  if args.data == 'ckplus' and args.strategy != 'single':
    raise contradiction(
      FILE, 'data=ckplus', f'strategy={args.strategy}', 'the paper has CK+ for single tasks only'
    )
  if args.compound and (args.data not in COMPOUND or args.strategy == 'multitask'):
    other = f'data={args.data}' if args.data not in COMPOUND else 'strategy=multitask'
    raise contradiction(
      FILE,
      'compound=True',
      other,
      'compound emotions are of EmotioNet or synthetic, single or sjmt',
    )


def _add_network(config, args):
  """The network and its recipe (section 4)."""
  if args.network == 'vgg16':
    config.model = model('vgg', dropout=0.5, input='imagenet')
    config.image_shape, config.batch_size = (224, 224, 3), 32
    config.evaluation.batch_size = 32
    rate, config.duration, config.augment.pad = 1e-5, '2000 steps', 0
  else:
    config.model = model('resnet', depth=DEPTHS[args.network], version=args.version)
    config.image_shape, config.batch_size = (32, 32, 3), 128
    rate, config.duration, config.augment.pad = 0.05, '80000 steps', 2
  config.augment.flip, config.augment.rotate = False, 0.0
  config.optimizer = optimizer(
    'sgd', momentum=0.9, rate=rate, decay=0.5, decay_steps=10000, staircase=True
  )
  config.loss.l2, config.loss.decay = 2e-4, 'tensorflow'
  config.checkpoint.every = '5000 steps'


def _stages(args):
  """Name of a stage -> what it changes of the experiment."""
  start = {'start.weights': args.weights}
  stages = {}
  if args.data == 'paper':
    fer = ('fer2013/{form}:train', 'fer2013/{form}:public_test', 'fer2013')
    stages['fer'] = _on(args, ('emotion7', SOFTMAX, fer)) | start
    start = {'start.weights': 'stage:fer'}
  emotion = ('emotion7', SOFTMAX, EMOTION[args.data])
  if args.compound:
    emotion = ('compound8', SOFTMAX, COMPOUND[args.data])
  units = (UNITS.get(args.data, 'action_units'), SIGMOID, ACTION_UNITS[args.data])
  if args.strategy == 'single':
    stages['emotion'] = _on(args, emotion) | start
    if not args.compound:
      stages['units'] = _on(args, units) | start
  elif args.strategy == 'multitask':
    stages['joint'] = _on(args, emotion, units) | start | {'mixture': 'alternate'}
  else:
    both = [(name, SIGMOID, sets) for name, _, sets in (emotion, units)]
    union = {'outputs.layer': 'union', 'mixture': args.mixing}
    stages['joint'] = _on(args, *both) | start | union
  return stages


def _on(args, *tasks):
  """A stage that learns some tasks, each with the set that labels it."""
  form = 'rgb224' if args.network == 'vgg16' else 'rgb32'
  changes = {'tasks': {}, 'sources': {}, 'evaluation.sets': {}}
  for name, loss, (training, test, set_name) in tasks:
    options = {'mean_over': args.divisor} if loss == SIGMOID else {}
    changes['tasks'][name] = task(loss, **options).to_dict()
    changes['sources'][set_name] = source(training.format(form=form), name).to_dict()
    changes['evaluation.sets'][set_name] = source(test.format(form=form), name).to_dict()
  return changes


# --- Tables 1, 2 and 4 ----------------------------------------------------------------------------

_SET = {'SFEW': ('emotion7', EMOTION), 'EmotioNet AU': ('action_units', ACTION_UNITS)}


def _column(data, kind, stage_name=None):
  """Column of one kind of label in the sets of `data`."""
  name, sets = _SET[kind]
  name = UNITS.get(data, name) if kind == 'EmotioNet AU' else name
  return Column(name, (sets[data][2],), stage=stage_name)


COLUMNS = {
  'SFEW': _column('paper', 'SFEW'),
  'CK+ emotion': _column('ckplus', 'SFEW', 'emotion'),
  'EmotioNet AU': _column('paper', 'EmotioNet AU'),
  'CK+ AU': _column('ckplus', 'EmotioNet AU', 'units'),
}
TWO = {name: COLUMNS[name] for name in ('SFEW', 'EmotioNet AU')}


def _row(published, *, stages=('joint', 'joint'), columns=TWO, **arguments):
  """A row of the runs with these arguments; `stages`: of the emotion and of the units."""
  own = dict(zip(TWO, stages, strict=True))
  return PaperRow(
    {name: (value,) for name, value in arguments.items()} | {'compound': (False,)},
    paper={name: (x, None) for name, x in zip(columns, published, strict=False) if x is not None},
    columns={name: _column('paper', name, of) for name, of in own.items()},
    stand_ins={
      name: tuple(_column(data, name, of) for data in ('celeba', 'synthetic'))
      for name, of in own.items()
    },
  )


def _single(network, *published):
  return _row(
    published,
    stages=('emotion', 'units'),
    columns=COLUMNS,
    strategy='single',
    network=network,
  )


NOTE = 'SFEW and CK+ emotion: plain accuracy; AU: mean of (TP + TN) / N over the units (eq. 3)'
SINGLE = {
  'VGG-16': _single('vgg16', 37.5, 93.0, 93.2, 95.0),
  'ResNet-32': _single('resnet32', 37.8, 98.0, 93.2, 99.0),
  'ResNet-110': _single('resnet110', 41.3, 99.0, 93.9, 99.1),
}


def _table_2():
  rows = {}
  for number, multitask, sjmt in (
    (32, (39.4, 93.7), (40.6, 93.5)),
    (110, (40.3, 93.6), (45.9, 93.9)),
  ):
    network = f'resnet{number}'
    rows[f'ResNet-{number}, single tasks'] = SINGLE[f'ResNet-{number}']
    rows[f'ResNet-{number}, multi-task'] = _row(multitask, strategy='multitask', network=network)
    rows[f'ResNet-{number}, SJMT'] = _row(
      sjmt, strategy='sjmt', network=network, mixing='proportional'
    )
    rows[f'ResNet-{number}, SJMT, equal counts'] = _row(
      (), strategy='sjmt', network=network, mixing='equal'
    )
  # Not the paper's: a network that a CPU trains in minutes.
  for label, arguments in (
    ('single tasks', {'strategy': 'single'}),
    ('multi-task', {'strategy': 'multitask'}),
    ('SJMT', {'strategy': 'sjmt', 'mixing': 'proportional'}),
    ('SJMT, equal counts', {'strategy': 'sjmt', 'mixing': 'equal'}),
  ):
    stages = ('emotion', 'units') if label == 'single tasks' else ('joint', 'joint')
    rows[f'ResNet-20, {label}'] = _row((), stages=stages, network='resnet20', **arguments)
  return rows


# Table 4 the other way round: a row a strategy, a column a class.
COUNTS = (19, 25, 19, 17, 486, 36, 15, 105)  # test images of each class, 722
TABLE_4 = {
  'single': ((15.8, 36.0, 15.8, 58.8, 47.6, 61.1, 13.3, 31.4), 34.9, 43.4),
  'sjmt': ((42.1, 64.0, 63.1, 70.6, 78.6, 72.2, 20.0, 64.7), 59.4, 73.1),
}


def _compound_columns(set_name, stage_name=None):
  def of(figure, **more):
    return Column('compound8', (set_name,), figure, stage=stage_name, **more)

  classes = get_task('compound8').classes
  columns = {name.replace('_', ' '): of('per_class_accuracy', of_class=name) for name in classes}
  return columns | {'mean': of('balanced_accuracy'), 'all images': of('accuracy')}


def _compound_row(strategy, network, published=(), **arguments):
  stage_name = {'single': 'emotion', 'sjmt': 'joint'}[strategy]
  columns = _compound_columns('compound', stage_name)
  stand_in = _compound_columns('synthetic_compound', stage_name)
  figures = (*published[0], *published[1:]) if published else ()
  return PaperRow(
    {name: (value,) for name, value in arguments.items()}
    | {'strategy': (strategy,), 'network': (network,), 'compound': (True,)},
    paper={name: (x, None) for name, x in zip(columns, figures, strict=False)},
    columns=columns,
    stand_ins={name: (column,) for name, column in stand_in.items()},
  )


TABLES = {
  '1': PaperTable(
    'Pons, Masip 2018, Table 1: single-task networks, accuracy in percent',
    COLUMNS,
    others(
      {
        'Baseline': {'SFEW': 35.9, 'CK+ AU': 94.5},
        'OpenFace': {'EmotioNet AU': 87.7},
        'Azure': {'SFEW': 33.8},
      }
    )
    | SINGLE,
    (NOTE,),
  ),
  '2': PaperTable(
    'Pons, Masip 2018, Table 2: the three strategies, accuracy in percent',
    TWO,
    _table_2(),
    (NOTE, '436 images of SFEW: one is 0.23 points'),
  ),
  '4': PaperTable(
    'Pons, Masip 2018, Table 4: compound emotions, accuracy in percent',
    _compound_columns('compound'),
    {
      'single, ResNet-110': _compound_row('single', 'resnet110', TABLE_4['single']),
      'SJMT, ResNet-110': _compound_row(
        'sjmt', 'resnet110', TABLE_4['sjmt'], mixing='proportional'
      ),
      'SJMT, equal counts, ResNet-110': _compound_row('sjmt', 'resnet110', mixing='equal'),
      'single, ResNet-20': _compound_row('single', 'resnet20'),
      'SJMT, ResNet-20': _compound_row('sjmt', 'resnet20', mixing='proportional'),
      'SJMT, equal counts, ResNet-20': _compound_row('sjmt', 'resnet20', mixing='equal'),
    },
    (f'the paper tests on 722 images, {", ".join(map(str, COUNTS))} of the classes',),
  ),
}
