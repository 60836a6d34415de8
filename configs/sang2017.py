"""Sang, Cuong, Thieu 2017: smile, emotion and gender in one network (MTL-BKNet).

    mtface crossval --config=sang2017:A4 --data_dir=... --workdir=...      # a row of Table 2: 4
                                                                           folds, mean and spread,
                                                                           beside the paper's
    mtface train    --config=sang2017:A4,fold=2 --data_dir=... --workdir=...
    mtface table sang2017 --workdirs=...,...                               # all rows that were run

Arguments: A1 to A4 take gender labels from Wiki, B1 to B4 from IMDB; 1 and 3 train with the squared
hinge ("SVM"), 2 and 4 with cross-entropy; 3 and 4 show the ensemble of the last 10 epochs'
checkpoints of the same training as 1 and 2, so one run fills both rows. gender=paper|utkface:
UTKFace in place of Wiki or IMDB, for those who have not these; its figures are not comparable with
the paper's. cross=True|False: also test on the other of Wiki and IMDB, as the paper does (with
gender=paper only). fold=0..3: which quarter of GENKI-4K (and of UTKFace) is the test set; FER-2013
keeps its published split. tasks=all|smile|emotion|gender: one task alone, for comparison.
recipe=published|fast|best: the paper's, or ours for a few hundred thousand samples on a CPU, or for
an hour of one, also with ingredients, as in fast+ema (mtface/config/recipes.py).
size=full|small|smoke: see `config.use_size`.

Where the paper leaves room (docs/papers.md has all of it, row by row):
- length: it gives none ("10 last checkpoints corresponding to 10 last training epochs" needs 10
  epochs at least). 100 epochs here.
- folds: it speaks of 4 folds of equal parts, but 30000 / "about 4200" of Wiki and 150000 / "about
  20000" of IMDB are no four folds: they are drawn anew for each fold (fold=k draws with seed k), no
  person on both sides; GENKI-4K's 3000 / 1000 are the four folds. A fold changes no other seed: the
  spread on FER-2013, whose split is fixed, comes from the other sets' folds alone.
- ensemble: of "different checkpoints", and nothing on how they are put together: probabilities are
  averaged, and for the squared hinge scores (mtface/evaluation/evaluate.py).
- dropout "for all fully connected layers" is after the two hidden ones: half of the scores set to
  zero would be no answer. A third one on what the branch gets is another reading.
- eq. 4's rate falls continuously (`0.8^(m/10000)` as printed, not in steps).
- augmentation "adds margins" of no stated width: 4 pixels a side here, filled with the nearest edge
  pixel.
- weight decay in eq. 3 is of "all network weights": of all kernels here, not of biases nor batch
  normalisation (`losses.weight_penalty`).
"""

from mtface.config import (
  Option,
  contradiction,
  experiment,
  given_arguments,
  parse_arg,
  source,
  task,
  use_recipe,
  use_size,
)
from mtface.report.papers import Column, PaperRow, PaperTable, others

FOLDS = 4  # 3000 / 1000 of GENKI-4K
TASKS = {'smile': 'smile', 'emotion': 'emotion7', 'gender': 'gender'}
LOSSES = dict.fromkeys('13', 'multiclass_squared_hinge') | dict.fromkeys(
  '24', 'softmax_cross_entropy'
)
GENDER = {'A': 'wiki', 'B': 'imdb'}
DRAWN = {'wiki': (30000, 4200), 'imdb': (150000, 20000)}  # training, test


def get_config(arg=None):
  args = parse_arg(
    arg,
    'configs/sang2017.py',
    first='row',
    row=Option('A2', tuple(letter + number for letter in GENDER for number in sorted(LOSSES))),
    gender=Option('paper', ('paper', 'utkface')),
    cross=Option(True),
    fold=Option(0, tuple(range(FOLDS))),
    tasks=Option('all', ('all', *TASKS)),
    recipe=Option('published'),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  if args.gender == 'utkface' and args.cross and 'cross' in given_arguments(arg, 'row'):
    raise contradiction(
      'configs/sang2017.py',
      'gender=utkface',
      'cross=True',
      'without Wiki and IMDB there is no other',
    )
  config = experiment()
  config.arguments = args
  chosen = list(TASKS) if args.tasks == 'all' else [args.tasks]
  for name in chosen:
    config.tasks[TASKS[name]] = task(LOSSES[args.row[1]], weight=1.0)
  if 'smile' in chosen:
    _add_folds(config, 'genki4k', args.fold, 'smile')
  if 'emotion' in chosen:
    config.sources.fer2013 = source('fer2013/gray48:train', 'emotion7')
    config.evaluation.sets.fer2013_public = source('fer2013/gray48:public_test', 'emotion7')
    config.evaluation.sets.fer2013_private = source('fer2013/gray48:private_test', 'emotion7')
    # Kaggle's public test was there to choose models with; the private one and the folds stay
    # untouched by choices.
    config.evaluation.during_training = config.evaluation.best_on = ('fer2013_public',)
  if 'gender' in chosen:
    _add_gender(config, args)
  config.evaluation.checkpoints = ('last', 'average:10', 'ensemble:10')

  config.duration = '100 epochs'
  config.batch_size = 128
  config.loss.l2 = 0.01
  config.optimizer.rate = 0.01
  config.optimizer.decay = 0.8
  config.optimizer.decay_steps = 10000
  config.optimizer.momentum = 0.9
  if args.recipe != 'published':
    use_recipe(config, args.recipe, 'configs/sang2017.py')
  use_size(config, args.size)
  return config


def _add_folds(config, name, fold, task_name):
  config.sources[name] = source(f'{name}/gray48:train[fold!={fold}/{FOLDS}]', task_name)
  config.evaluation.sets[name] = source(f'{name}/gray48:train[fold={fold}/{FOLDS}]', task_name)


def _add_gender(config, args):
  if args.gender == 'utkface':
    _add_folds(config, 'utkface', args.fold, 'gender')
    return
  own = GENDER[args.row[0]]
  config.sources[own] = source(
    f'{own}/gray48:train[take={DRAWN[own][0]},seed={args.fold}]', 'gender'
  )
  for name, (training, test) in DRAWN.items():
    if name == own or args.cross:
      drawn = f'{name}/gray48:train[take={test},after={training},seed={args.fold}]'
      config.evaluation.sets[name] = source(drawn, 'gender')


# --- Table 2 --------------------------------------------------------------------------------------

COLUMNS = {
  'GENKI-4K': Column('smile', ('genki4k',)),
  'FER public': Column('emotion7', ('fer2013_public',)),
  'FER private': Column('emotion7', ('fer2013_private',)),
  'Wiki': Column('gender', ('wiki',)),
  'IMDB': Column('gender', ('imdb',)),
}
PUBLISHED = {
  'A1': ((95.25, 0.44), (68.60, 0.27), (69.28, 0.41), (95.25, 0.15), (88.18, 0.26)),
  'A2': ((95.13, 0.20), (69.12, 0.18), (69.40, 0.22), (95.75, 0.18), (88.68, 0.15)),
  'A3': ((95.52, 0.37), (70.63, 0.11), (71.78, 0.08), (95.95, 0.15), (88.83, 0.18)),
  'A4': ((95.70, 0.25), (71.03, 0.11), (72.18, 0.23), (96.33, 0.16), (89.34, 0.15)),
  'B1': ((95.25, 0.43), (68.10, 0.14), (69.10, 0.57), (93.33, 0.19), (89.60, 0.22)),
  'B2': ((95.56, 0.66), (68.47, 0.33), (69.40, 0.21), (93.67, 0.26), (90.50, 0.24)),
  'B3': ((95.60, 0.41), (70.43, 0.19), (71.90, 0.36), (93.70, 0.37), (91.33, 0.42)),
  'B4': ((96.23, 0.58), (70.15, 0.19), (71.62, 0.39), (94.00, 0.24), (92.20, 0.11)),
}


# Figures of others. The last two are the authors' own single-task BKNet, so they stand beside our
# rows of single tasks.
OTHERS = {
  'CNN Basic [40]': {'GENKI-4K': (93.6, 0.47)},
  'CNN 2-Loss [40]': {'GENKI-4K': (94.6, 0.29)},
  'CNN + SVM loss, team RBM [34]': {'FER public': 69.4, 'FER private': 71.2},
}
SINGLE_TASK = {
  '1': ('BKNet + SVM loss [29]', {'FER public': (71.0, None), 'FER private': (71.9, None)}),
  '2': ('BKNet + Softmax [28]', {'GENKI-4K': (95.08, 0.29)}),
}


def _row(letter, numbers, checkpoint, tasks=('all',), **published):
  trained_as = {'row': tuple(letter + number for number in numbers), 'tasks': tasks}
  stand_in = {'Wiki' if letter == 'A' else 'IMDB': Column('gender', ('utkface',))}
  return PaperRow(trained_as, checkpoint, stand_ins=stand_in, **published)


def _rows():
  rows = others(OTHERS)
  for name, figures in PUBLISHED.items():
    checkpoint = 'last' if name[1] in '12' else 'ensemble:10'
    paper = dict(zip(COLUMNS, figures, strict=True))
    rows[name] = _row(name[0], '13' if name[1] in '13' else '24', checkpoint, paper=paper)
  # Not in the paper's rows: one network with the mean of the last 10 checkpoints' weights, and each
  # task alone.
  for letter in GENDER:
    for loss, numbers in (('1', '13'), ('2', '24')):
      label, figures = SINGLE_TASK[loss]
      rows[f'{letter}{loss}, weights averaged'] = _row(letter, numbers, 'average:10')
      rows[f'{letter}{loss}, single tasks'] = _row(
        letter, numbers, 'last', tuple(TASKS), paper=figures, label=label
      )
  return rows


TABLES = {
  '2': PaperTable(
    'Sang, Cuong, Thieu 2017, Table 2: accuracy in percent, mean and standard deviation over 4 '
    'folds',
    COLUMNS,
    _rows(),
  )
}
