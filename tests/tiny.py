"""The smallest experiment that has everything: two tasks, two sources of 16x16 noise, BKNet with
one to eight channels.

`tests.fakes.write_tiny` makes its sets. On the command line it is --config=tests/tiny.py.
"""

from mtface.config.schema import experiment, source, task


def get_config():
  config = experiment()
  config.name = 'tiny'
  config.tasks.smile = task()
  config.tasks.gender = task()
  config.sources.smiles = source('tiny/smile:train', 'smile')
  config.sources.people = source('tiny/people:train', 'gender')
  config.evaluation.sets.smiles = source('tiny/smile:test', 'smile')
  config.evaluation.sets.people = source('tiny/people:test', 'gender')
  config.image_shape = (16, 16, 1)
  config.model.width = 1 / 32
  config.model.init = 'he'
  config.batch_size = 8
  config.evaluation.batch_size = 8
  config.duration = '12 steps'
  config.checkpoint.every = '4 steps'
  config.log_every = '2 steps'
  return config
