"""The command line, which kills itself with SIGKILL at a moment: python -m tests.end_to_end.killed
MOMENT train ...

What happens between two steps or two system calls cannot be hit from outside with any certainty.
"""

import os
import signal
import sys
import time


def kill():
  os.kill(os.getpid(), signal.SIGKILL)


def kill_once_committed(step):
  """Waits for the thread that writes the checkpoint of `step`, if it is not 0: these steps take no
  time.
  """
  workdir = next(item.partition('=')[2] for item in sys.argv if item.startswith('--workdir='))
  while step and not os.path.exists(f'{workdir}/checkpoints/main/{step:09d}'):
    time.sleep(0.01)
  kill()


def at_step(number, committed):
  """Dies when the batch of step `number` is asked for."""
  from mtface.training import loop as train

  to_devices = train.to_devices

  def dying(*args, **kwargs):
    for batch in to_devices(*args, **kwargs):
      if (number := numbers.pop()) == 0:
        kill_once_committed(committed)
      numbers.append(number - 1)
      yield batch

  numbers = [number - 1]
  train.to_devices = dying


def around_commit(step, before):
  """Dies just before or just after a checkpoint gets its final name."""
  rename = os.rename

  def dying(source, target):
    this_one = os.path.basename(target) == f'{step:09d}'
    if this_one and before:
      kill()
    rename(source, target)
    if this_one:
      kill()

  os.rename = dying


def while_saving(step):
  """Dies when the writing of a checkpoint has begun, in its own thread."""
  from mtface.training.checkpoints import Checkpoints

  save = Checkpoints.save

  def dying(self, this_step, *args, **kwargs):
    save(self, this_step, *args, **kwargs)
    if this_step == step:
      kill()

  Checkpoints.save = dying


def while_logging(step, committed):
  """Dies in the middle of a line of metrics.jsonl."""
  from mtface.training.logs import MetricsLog

  write = MetricsLog.write

  def dying(self, this_step, values):
    if this_step == step:
      self._file.write('{"step": ' + str(step))
      self._file.flush()
      kill_once_committed(committed)
    write(self, this_step, values)

  MetricsLog.write = dying


def while_measuring():
  """Dies when the first set of a run was measured and written down."""
  from mtface.evaluation import evaluate

  write_results = evaluate.write_results

  def dying(*args):
    write_results(*args)
    kill()

  evaluate.write_results = dying


MOMENTS = {
  'before the first checkpoint': lambda: at_step(3, committed=0),
  'between two checkpoints': lambda: at_step(7, committed=4),
  'while a line is written': lambda: while_logging(6, committed=4),
  'while a checkpoint is written': lambda: while_saving(8),
  'before a checkpoint is committed': lambda: around_commit(8, before=True),
  'after a checkpoint is committed': lambda: around_commit(8, before=False),
  'while the first checkpoint is written': lambda: while_saving(4),
}
CROSSVAL_MOMENTS = {  # of folds of 12 steps
  'in the second fold': lambda: at_step(12 + 7, committed=0),
  'while a fold is measured': while_measuring,
}
STAGE_MOMENTS = {  # of stages of 6, 8 and 6 steps
  'in the first stage': lambda: at_step(3, committed=0),
  'between two stages': lambda: at_step(6 + 1, committed=0),
  'in the second stage': lambda: at_step(6 + 6, committed=0),
}

if __name__ == '__main__':
  from mtface.cli import main as cli

  (MOMENTS | CROSSVAL_MOMENTS | STAGE_MOMENTS)[sys.argv[1]]()
  cli.main(sys.argv[2:])
