"""The net of tests/end_to_end/on_devices.py, for command lines: 50 steps of 16, so that runs of
other layouts agree but for rounding.
"""

from tests.end_to_end.on_devices import tiny_config


def get_config():
  config = tiny_config()
  config.name = 'tiny_wide'
  # At ten times the rate, one activation that rounding carries over the edge of a ReLU sends two
  # runs apart for good within these steps. At this one they agree to 4e-6, and a gradient that is
  # wrong by a thousandth moves losses by more than 5e-3.
  config.optimizer.rate = 1e-4
  config.duration = '50 steps'
  config.evaluation.batch_size = 16
  config.distributed.heartbeat = 10
  return config
