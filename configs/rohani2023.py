"""Rohani, Farsi, Mohamadzadeh 2023: smile, gender and age group in one network whose first block is joined to its last.

    mtface train --config=configs/rohani2023.py:C --data_dir=... --workdir=...

Arguments: A single-task BKNet (task=smile|gender|age_group), B multi-task BKNet, C MBKNet (multi-task with the join);
people=utkface: the set that gives gender and age group (the paper's IMDB-WIKI subset is not freely available; UTKFace stands in for it,
so figures are not comparable with the paper's); fold=0..3: which quarter is the test set.

Paper, Table 2: smile A 95.08, B 95.60, C 96.63; gender 91.16, 91.28, 93.20; age group 65.40, 67.81, 68.92, after 500 epochs.
The text once speaks of 7 age groups; its parameter counts (A 2,418,146, B 3,731,946, C 3,953,130, `mtface params`) and its list say 6.
Its initial "variance of 0.01" is taken as Sang 2017's standard deviation of 0.01, which it cites as its recipe.
"""

from mtface.config import Option, experiment, parse_arg, source, task

FOLDS = 4  # 3000 / 1000 of GENKI-4K


def get_config(arg=None):
  args = parse_arg(
    arg,
    'configs/rohani2023.py',
    first='network',
    network=Option('C', ('A', 'B', 'C')),
    task=Option('smile', ('smile', 'gender', 'age_group')),
    people=Option('utkface', ('utkface',)),
    fold=Option(0, tuple(range(FOLDS))),
  )
  config = experiment()
  sets = {
    'genki4k': ('genki4k/gray48:train', ('smile',)),
    args.people: (f'{args.people}/gray48:train', ('gender', 'age_group')),
  }
  chosen = (args.task,) if args.network == 'A' else ('smile', 'age_group', 'gender')

  config.model.join = args.network == 'C'
  for name in chosen:
    config.tasks[name] = task('softmax_cross_entropy', weight=1.0)
  for name, (data, gives) in sets.items():
    wanted = [t for t in gives if t in chosen]
    if wanted:
      config.sources[name] = source(f'{data}[fold!={args.fold}/{FOLDS}]', *wanted)
      config.evaluation.sets[name] = source(f'{data}[fold={args.fold}/{FOLDS}]', *wanted)

  config.duration = '500 epochs'
  config.batch_size = 128
  config.loss.l2 = 0.01
  config.optimizer.rate = 0.01
  config.optimizer.decay = 0.8
  config.optimizer.decay_steps = 2000
  config.optimizer.momentum = 0.9
  return config
