"""tests/tiny.py in three stages: smiles; a head for gender on the frozen rest, under SAM and Adam;
both, the first block slower.
"""

from mtface.config.schema import source, task
from mtface.config.stages import stage
from tests.tiny import get_config as tiny


def get_config():
  config = tiny()
  config.name = 'tiny_stages'
  config.stages = ('smiles', 'genders', 'both')
  smiles, people = (source('tiny/smile:train', 'smile'), source('tiny/people:train', 'gender'))
  config.stage.smiles = stage(
    {'tasks': {'smile': task()}, 'sources': {'smiles': smiles}, 'duration': '6 steps'}
  )
  config.stage.smiles.evaluation = {'sets': {'smiles': source('tiny/smile:test', 'smile')}}
  config.stage.genders = stage(
    {
      'start.weights': 'stage:smiles',
      'freeze.params': ('blocks',),
      'tasks': {'gender': task(class_weights='balanced')},
      'sources': {'people': people},
      'evaluation.sets': {'people': source('tiny/people:test', 'gender')},
      'optimizer.name': 'adam',
      'optimizer.sam': 0.05,
      'duration': '8 steps',
    }
  )
  config.stage.both = stage(
    {
      'start.weights': 'stage:genders',
      'optimizer.factors': ('blocks/0=0.1', 'branches/gender=0'),
      'duration': '6 steps',
    }
  )
  return config
