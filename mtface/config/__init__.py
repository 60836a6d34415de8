"""What an experiment is: its fields, stages and config files, and config.json of a run, read.
Knows nothing of data, networks or devices; `checks.py` refuses what can be seen to be wrong without
them. Config files import what they need from here.
"""

from mtface.config.arguments import (
  Option,
  contradiction,
  given_arguments,
  parse_arg,
  use_size,
)
from mtface.config.recipes import use_fast_recipe, use_recipe
from mtface.config.schema import (
  augmentation,
  experiment,
  model,
  optimizer,
  source,
  task,
  tasks_of,
  teacher,
)
from mtface.config.stages import stage

__all__ = [
  'Option',
  'augmentation',
  'contradiction',
  'experiment',
  'given_arguments',
  'model',
  'optimizer',
  'parse_arg',
  'source',
  'stage',
  'task',
  'tasks_of',
  'teacher',
  'use_fast_recipe',
  'use_recipe',
  'use_size',
]
