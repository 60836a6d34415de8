"""Rohani, Farsi, Mohamadzadeh 2023: smile, gender and age group in one network whose first block is joined to its last.

    mtface crossval --config=rohani2023:C --data_dir=... --workdir=...
    mtface table rohani2023 --workdirs=...,...

Arguments: A single-task BKNet (task=smile|gender|age_group), B multi-task BKNet, C MBKNet (multi-task with the join).
people=paper|utkface: the set that gives gender and age group. The paper draws 150000 / 20000 from IMDB-WIKI: here from IMDB and Wiki in
proportion to their sizes (460,723 and 62,328), no person on both sides of a set's draw; UTKFace stands in for those who have not these, and
then figures are not comparable with the paper's.
fold=0..3: which quarter of GENKI-4K (3000 / 1000) and of UTKFace is the test set, and the seed of the draws from IMDB and Wiki. The paper
names no cross-validation; one fold is its protocol.
recipe=published|fast: the paper's, or ours for a few hundred thousand samples on a CPU (`config.use_fast_recipe`).
size=full|small|smoke: see `config.use_size`.

The test sets are measured at every checkpoint, for the curves of the paper's figure 6 (`mtface report`); nothing is chosen by them.
The text once speaks of 7 age groups; its parameter counts (A 2,418,146, B 3,731,946, C 3,953,130, `mtface params`) and its list say 6.
Its initial "variance of 0.01" is taken as Sang 2017's standard deviation of 0.01, which it cites as its recipe.
"""

from mtface.config import Option, experiment, parse_arg, source, task, use_fast_recipe, use_size
from mtface.papers import Column, PaperRow, PaperTable

FOLDS = 4  # 3000 / 1000 of GENKI-4K
PEOPLE = ('gender', 'age_group')
DRAWN = {'imdb': (132126, 17617), 'wiki': (17874, 2383)}  # training, test: together 150000 and 20000


def get_config(arg=None):
  args = parse_arg(
    arg,
    'configs/rohani2023.py',
    first='network',
    network=Option('C', ('A', 'B', 'C')),
    task=Option('smile', ('smile', *PEOPLE)),
    people=Option('paper', ('paper', 'utkface')),
    fold=Option(0, tuple(range(FOLDS))),
    recipe=Option('published', ('published', 'fast')),
    size=Option('full', ('full', 'small', 'smoke')),
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
  if args.recipe == 'fast':
    use_fast_recipe(config)
  use_size(config, args.size)
  return config


def _sets(args):
  """{name: (training source, test source, its tasks)}."""
  sets = {'genki4k': (*_folds('genki4k', args.fold), ('smile',))}
  if args.people == 'utkface':
    return sets | {'utkface': (*_folds('utkface', args.fold), PEOPLE)}
  for name, (training, test) in DRAWN.items():
    data, seed = f'{name}/gray48:train', f'seed={args.fold}'
    sets[name] = (f'{data}[take={training},{seed}]', f'{data}[take={test},after={training},{seed}]', PEOPLE)
  return sets


def _folds(name, fold):
  return f'{name}/gray48:train[fold!={fold}/{FOLDS}]', f'{name}/gray48:train[fold={fold}/{FOLDS}]'


# --- Table 2 ------------------------------------------------------------------------------------------------------------------------

COLUMNS = {
  'smile': Column('smile', ('genki4k',)),
  'gender': Column('gender', tuple(DRAWN)),
  'age group': Column('age_group', tuple(DRAWN)),
}
PUBLISHED = {'A': (95.08, 91.16, 65.40), 'B': (95.60, 91.28, 67.81), 'C': (96.63, 93.20, 68.92)}

TABLE = PaperTable(
  'Rohani, Farsi, Mohamadzadeh 2023, Table 2: accuracy in percent (the paper gives no spread)',
  COLUMNS,
  {
    network: PaperRow(
      arguments={'network': (network,)},
      paper={column: (accuracy, None) for column, accuracy in zip(COLUMNS, published, strict=True)},
      stand_ins={name: Column(column.task, ('utkface',)) for name, column in COLUMNS.items() if name != 'smile'},
    )
    for network, published in PUBLISHED.items()
  },
)
