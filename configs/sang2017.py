"""Sang, Cuong, Thieu 2017: smile, emotion and gender in one network (MTL-BKNet).

    mtface train --config=configs/sang2017.py:A2,gender=utkface --data_dir=... --workdir=...

Arguments: A1 A2 A3 A4 (gender labels from Wiki in the paper); 1 and 3 train with the squared hinge ("SVM"), 2 and 4 with cross-entropy;
3 and 4 are measured as an ensemble of the last 10 epochs' checkpoints: `mtface evaluate --checkpoint=ensemble:10`.
gender=utkface: the set that gives gender; UTKFace stands in for Wiki, so its column is not comparable with the paper's.
fold=0..3: which quarter of GENKI-4K and of the gender set is the test set; FER-2013 keeps its published split.
tasks=all|smile|emotion|gender: one task alone, for comparison.
recipe=published|fast: `published` is the paper's; `fast` is ours, for a few hundred thousand samples on a CPU: he init, less dropout,
batches of 64, one-cycle rate up to 0.05 with Nesterov momentum, lambda 2.5e-4, losses divided by the labelled samples.

Paper, Table 2 (GENKI-4K / FER public / private / Wiki): A1 95.25 68.60 69.28 95.25; A2 95.13 69.12 69.40 95.75; A3 95.52 70.63 71.78 95.95;
A4 95.70 71.03 72.18 96.33. The paper gives no length; "the last 10 checkpoints of the last 10 training epochs" need at least 10 epochs.
"""

from mtface.config import Option, experiment, parse_arg, source, task

FOLDS = 4  # 3000 / 1000 of GENKI-4K
TASKS = {'smile': 'smile', 'emotion': 'emotion7', 'gender': 'gender'}
LOSSES = {'1': 'multiclass_squared_hinge', '2': 'softmax_cross_entropy'} | {
  '3': 'multiclass_squared_hinge',
  '4': 'softmax_cross_entropy',
}


def get_config(arg=None):
  args = parse_arg(
    arg,
    'configs/sang2017.py',
    first='row',
    row=Option('A2', ('A1', 'A2', 'A3', 'A4')),
    gender=Option('utkface', ('utkface',)),
    fold=Option(0, tuple(range(FOLDS))),
    tasks=Option('all', ('all', *TASKS)),
    recipe=Option('published', ('published', 'fast')),
  )
  config = experiment()
  chosen = list(TASKS) if args.tasks == 'all' else [args.tasks]
  for name in chosen:
    config.tasks[TASKS[name]] = task(LOSSES[args.row[1]], weight=1.0)
  if 'smile' in chosen:
    _add_folds(config, 'genki4k', 'genki4k/gray48:train', args.fold, 'smile')
  if 'emotion' in chosen:
    config.sources.fer2013 = source('fer2013/gray48:train', 'emotion7')
    config.evaluation.sets.fer2013_public = source('fer2013/gray48:public_test', 'emotion7')
    config.evaluation.sets.fer2013_private = source('fer2013/gray48:private_test', 'emotion7')
    # Kaggle's public test was there to choose models with; the private one and the folds stay untouched by choices.
    config.evaluation.during_training = config.evaluation.best_on = ('fer2013_public',)
  if 'gender' in chosen:
    _add_folds(config, args.gender, f'{args.gender}/gray48:train', args.fold, 'gender')

  config.duration = '100 epochs'
  config.batch_size = 128
  _published(config) if args.recipe == 'published' else _fast(config)
  return config


def _add_folds(config, name, data, fold, task_name):
  config.sources[name] = source(f'{data}[fold!={fold}/{FOLDS}]', task_name)
  config.evaluation.sets[name] = source(f'{data}[fold={fold}/{FOLDS}]', task_name)


def _published(config):
  config.loss.l2 = 0.01
  config.optimizer.rate = 0.01
  config.optimizer.decay = 0.8
  config.optimizer.decay_steps = 10000
  config.optimizer.momentum = 0.9


def _fast(config):
  config.batch_size = 64
  config.model.init = 'he'
  config.model.dropout = 0.25
  config.loss.over = 'labelled'
  config.loss.l2 = 2.5e-4
  config.optimizer.schedule = 'one_cycle'
  config.optimizer.rate = 0.05
  config.optimizer.nesterov = True
