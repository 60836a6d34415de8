"""tests/tiny.py with four folds instead of splits, and FER-2013's way for the people: a published
split that stays as it is.
"""

from mtface.config.schema import source
from tests.tiny import get_config as get_tiny


def get_config(arg=None):
  config = get_tiny()
  config.name = 'tiny_folds'
  config.arguments = {'row': arg or 'T1'}
  config.sources.smiles = source('tiny/smile:train[fold!=0/4]', 'smile')
  config.evaluation.sets.smiles = source('tiny/smile:train[fold=0/4]', 'smile')
  config.evaluation.during_training = ('smiles', 'people')
  config.evaluation.checkpoints = ('last', 'ensemble:2')
  return config
