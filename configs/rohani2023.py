"""Rohani, Farsi, Mohamadzadeh 2023: smile, gender and age group in one network whose first block is
joined to its last.

    mtface crossval --config=rohani2023:C --data_dir=... --workdir=...
    mtface table rohani2023 --workdirs=...,...

Arguments: A single-task BKNet (task=smile|gender|age_group), B multi-task BKNet, C MBKNet
(multi-task with the join). people=paper|utkface: the set that gives gender and age group. The paper
draws 150000 / 20000 from IMDB-WIKI: here from IMDB and Wiki in proportion to their sizes (460,723
and 62,328), no person on both sides of a set's draw; UTKFace stands in for those who have not
these, and then figures are not comparable with the paper's. fold=0..3: which quarter of GENKI-4K
(3000 / 1000) and of UTKFace is the test set, and the seed of the draws from IMDB and Wiki. The
paper names no cross-validation; one fold is its protocol. recipe=published|fast|best: the paper's,
or ours for a few hundred thousand samples on a CPU, or for an hour of one, also with ingredients,
as in fast+ema (mtface/config/recipes.py). size=full|small|smoke: see `config.use_size`.

The test sets are measured at every checkpoint, for the curves of the paper's figure 6 (`mtface
report`; the figure shows 100 of the 500 epochs); nothing is chosen by them: its table does not say
which checkpoint it shows, ours shows the last.

Where the paper contradicts itself or leaves room (docs/papers.md has all of it, row by row):
- network: its Table 1 lists a BKNet of 64, 128, 256 and 512 channels, section 3.2 one of 32, 64,
  128 and 256; Table 3's counts of parameters (A 2,418,146, B 3,731,946, C 3,953,130, `mtface
  params`) are those of the latter, which is Sang 2017's.
- ages: the text once speaks of 7 groups; the counts and the list say 6.
- join: of "the first block's output and the last block's", whose sizes differ. The counts want the
  first one as 3x3x32; that it gets there by three more 2x2 maxima (not means, nor a stride) is our
  choice.
- dropout on "the three fully connected layers" is after two of them, since the third gives the
  scores; batch normalisation comes before ReLU, as in the shared block ("ReLU and a batch
  normalization function come after the first two" orders them by words alone).
- eq. 2 as printed sums lambda ||W||^2 over tasks and classes, and each task's loss over its
  classes: taken as a misprint of Sang 2017's eq. 3. "Output weights" W are all kernels here, as
  there.
- optimiser: named nowhere. SGD with momentum 0.9, as in Sang 2017, whose other hyper-parameters
  these are.
- initial weights: a Gaussian "with a variance of 0.01", which is a deviation of 0.1; here 0.01 is
  the deviation, as in Sang 2017. The paper names no source for it. With 0.1 the first step's scores
  would be ten times as large.
- augmentation: "Random Crop, Random Flip, and Random Rotate" without numbers: 4 pixels and 15
  degrees.
- mixture: "the two datasets were merged". Merged as they are, smiles are 2% of an epoch; here each
  task has equally many labelled samples an epoch, as in Sang 2017 (`--config.mixture=proportional`
  for the other reading).
- length: 0.8^(step/2000) leaves a rate of 2e-8 after 50 epochs of equal mixing: of the 500 epochs
  450 change nothing.
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
PEOPLE = ('gender', 'age_group')
DRAWN = {
  'imdb': (132126, 17617),
  'wiki': (17874, 2383),
}  # training, test: together 150000 and 20000


def get_config(arg=None):
  args = parse_arg(
    arg,
    'configs/rohani2023.py',
    first='network',
    network=Option('C', ('A', 'B', 'C')),
    task=Option('smile', ('smile', *PEOPLE)),
    people=Option('paper', ('paper', 'utkface')),
    fold=Option(0, tuple(range(FOLDS))),
    recipe=Option('published'),
    size=Option('full', ('full', 'small', 'smoke')),
  )
  if args.network != 'A' and 'task' in given_arguments(arg, 'network'):
    raise contradiction(
      'configs/rohani2023.py', args.network, f'task={args.task}', 'B and C train all three tasks'
    )
  config = experiment()
  config.arguments = args
  config.model.join = args.network == 'C'
  chosen = (args.task,) if args.network == 'A' else ('smile', 'age_group', 'gender')
  for name in chosen:
    config.tasks[name] = task('softmax_cross_entropy', weight=1.0)
  for name, (training, test, gives) in _sets(args).items():
    wanted = [t for t in gives if t in chosen]
    if wanted:
      config.sources[name] = source(training, *wanted)
      config.evaluation.sets[name] = source(test, *wanted)
  config.evaluation.during_training = tuple(config.evaluation.sets)

  config.duration = '500 epochs'
  config.batch_size = 128
  config.loss.l2 = 0.01
  config.optimizer.rate = 0.01
  config.optimizer.decay = 0.8
  config.optimizer.decay_steps = 2000
  config.optimizer.momentum = 0.9
  if args.recipe != 'published':
    use_recipe(config, args.recipe, 'configs/rohani2023.py')
  use_size(config, args.size)
  return config


def _sets(args):
  """{name: (training source, test source, its tasks)}."""
  sets = {'genki4k': (*_folds('genki4k', args.fold), ('smile',))}
  if args.people == 'utkface':
    return sets | {'utkface': (*_folds('utkface', args.fold), PEOPLE)}
  for name, (training, test) in DRAWN.items():
    data, seed = f'{name}/gray48:train', f'seed={args.fold}'
    sets[name] = (
      f'{data}[take={training},{seed}]',
      f'{data}[take={test},after={training},{seed}]',
      PEOPLE,
    )
  return sets


def _folds(name, fold):
  return f'{name}/gray48:train[fold!={fold}/{FOLDS}]', f'{name}/gray48:train[fold={fold}/{FOLDS}]'


# --- The paper's tables ---------------------------------------------------------------------------

COLUMNS = {
  'smile': Column('smile', ('genki4k',)),
  'gender': Column('gender', tuple(DRAWN)),
  'age group': Column('age_group', tuple(DRAWN)),
}
OTHERS = {
  'PDV-ELM [11]': {'smile': 93.42},
  'HF-SD [12]': {'smile': 93.60},
  'YOLO [13]': {'smile': 93.17},
  'MNV2 [17]': {'smile': 94.37},
  'RoR-34 [24]': {'gender': 92.24, 'age group': 65.74},
  'TL-VGG19 [26]': {'gender': 91.09},
  'TL-DenseNet-169 [26]': {'gender': 70.48},
  'GSI-CNN [27]': {'gender': 89.00},
  'ResNet-34 [24]': {'age group': 64.63},
  'AL-ResNet-34 [21]': {'age group': 67.83},
  'DEX-w [20]': {'age group': 64.00},
}
PUBLISHED = {'A': (95.08, 91.16, 65.40), 'B': (95.60, 91.28, 67.81), 'C': (96.63, 93.20, 68.92)}

TABLES = {
  '2': PaperTable(
    'Rohani, Farsi, Mohamadzadeh 2023, Table 2: accuracy in percent (the paper gives no spread)',
    COLUMNS,
    others(OTHERS)
    | {
      network: PaperRow(
        arguments={'network': (network,)},
        paper={
          column: (accuracy, None) for column, accuracy in zip(COLUMNS, published, strict=True)
        },
        stand_ins={
          name: Column(column.task, ('utkface',))
          for name, column in COLUMNS.items()
          if name != 'smile'
        },
      )
      for network, published in PUBLISHED.items()
    },
  ),
  '3': PaperTable(
    'Rohani, Farsi, Mohamadzadeh 2023, Table 3: parameters and speed',
    dict.fromkeys(('parameters', 'execution time, s', 'fps')),
    others(
      {
        'A': {'parameters': 2418146, 'execution time, s': 6.23, 'fps': 20.54},
        'B': {'parameters': 3731946, 'execution time, s': 9.62, 'fps': 13.30},
        'C': {'parameters': 3953130, 'execution time, s': 10.19, 'fps': 12.56},
      }
    ),
    notes=(
      'time x fps is 128 in each row: the time is that of one batch of 128 images, on a machine '
      'that is not named',
      'ours: `python -m benchmarks.prediction --cases=Rohani`, kept in docs/benchmarks.md',
    ),
  ),
}
