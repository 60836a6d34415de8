"""The demo: smile, emotion, gender and age group from three partly labelled synthetic sources, in a
few minutes on two cores.

    mtface train --config=demo --data_dir=... --workdir=...

`make demo` does everything: it builds the sets, trains, evaluates and draws. The network is BKNet
at half width. The recipe is `use_fast_recipe`'s with a lower rate: up to 0.05, some runs never
leave chance on these small and noisy sets. Test accuracies and times of a run are in
docs/results.md.
"""

from mtface.config import experiment, source, task, use_fast_recipe

SETS = {'smile': ('smile',), 'emotion': ('emotion7',), 'people': ('gender', 'age_group')}


def get_config():
  config = experiment()
  for name, tasks in SETS.items():
    data = f'synthetic_faces/{name}_gray48'
    config.sources[name] = source(f'{data}:train', *tasks)
    config.evaluation.sets[name] = source(f'{data}:test', *tasks)
    for task_name in tasks:
      config.tasks[task_name] = task()

  use_fast_recipe(config)
  config.duration = '50000 examples'
  config.checkpoint.every = '5000 examples'
  config.log_every = '2500 examples'
  config.model.width = 0.5
  config.model.dropout = 0.1
  config.augment.pad = 2
  config.augment.rotate = 10.0
  config.optimizer.rate = 0.015
  return config
