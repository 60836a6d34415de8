"""The net of tests/end_to_end/on_devices.py, for command lines: 50 steps of 16, so that runs of
other layouts agree but for rounding.
"""

from tests.end_to_end.on_devices import tiny_config


def get_config():
  config = tiny_config()
  config.name = 'tiny_wide'
  config.seed = 0  # one with which rounding alone does little harm in 50 steps, see there
  config.duration = '50 steps'
  config.evaluation.batch_size = 16
  config.distributed.heartbeat = 10
  return config
