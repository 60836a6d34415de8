"""What test_devices.py runs on a number of devices, which a process chooses before it imports JAX:
python -m ... WORKDIR DATA_DIR OUT.
"""

import json
import pathlib
import sys

import jax
import numpy as np

from mtface.data.loader import BatchSource, load_batches
from mtface.models import winograd
from mtface.parallel.feed import to_devices
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.training import loop as train
from mtface.training.checkpoints import Checkpoints
from mtface.training.logs import read_metrics
from mtface.training.optim import make_optimizer
from mtface.training.run import prepare
from mtface.training.state import new_state
from mtface.training.tally import new_tally
from tests.tiny import get_config


def tiny_config(**model):
  """20 steps of a net that is wide enough for the fast convolutions of mtface/models/winograd.py in
  its last block.

  The rate is low because rounding alone differs with the number of devices: where it carries an
  activation over the edge of a ReLU, that sample's gradient jumps, and at a high rate the two runs
  part for good. The seed is one with which that does not happen in 20 steps.
  """
  config = get_config()
  config.model.width = 1 / 8
  config.seed = 7
  config.optimizer.rate = 1e-3
  config.batch_size = 16
  config.duration = '20 steps'
  config.checkpoint.every = '10 steps'
  config.log_every = '1 steps'
  config.model.update(model)
  return config


def train_and_compile(config, workdir, data_dir):
  """(state after training, the text of the training step's program)."""
  steps = []
  jit_step = train.jit_step

  def remembered(*args):
    steps.append(jit_step(*args))
    return steps[0]

  train.jit_step = remembered
  state = train.train(config, workdir, data_dir)
  train.jit_step = jit_step

  mesh, run = make_mesh(), prepare(config, data_dir)
  batch = next(
    to_devices(load_batches(BatchSource(run.sources, run.mixture, config.batch_size), 0, 1), mesh)
  )
  tally = place(new_tally(run.tasks), everywhere(mesh))
  return state, steps[0].lower(state, tally, batch).compile().as_text()


def restored(config, workdir, data_dir, step):
  """A checkpoint of another number of devices, on these."""
  run = prepare(config, data_dir)
  state = new_state(run.params, run.stats, make_optimizer(config.optimizer, run.steps))
  like = place(state, everywhere(make_mesh()))
  state = Checkpoints(workdir).restore(step, like)
  assert all(len(leaf.sharding.device_set) == jax.device_count() for leaf in jax.tree.leaves(state))
  return state


def save(path, tree):
  np.savez(
    path,
    **{
      jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree_util.tree_leaves_with_path(tree)
    },
  )


def main(workdir, data_dir, out, other_workdir=None):
  # so that even these images are worked through in parts, which must not be done across devices
  winograd._CHUNK_ELEMENTS = winograd._CORE_ELEMENTS = winograd._GRADIENT_ELEMENTS = 1024
  config = tiny_config()
  state, program = train_and_compile(config, workdir, data_dir)
  save(out / 'state.npz', state)
  (out / 'metrics.json').write_text(json.dumps(read_metrics(workdir)))
  if other_workdir:
    save(out / 'restored.npz', restored(config, other_workdir, data_dir, 10))
    (out / 'step.hlo').write_text(program)
  else:
    save(out / 'step10.npz', restored(config, workdir, data_dir, 10))
    save(
      out / 'bfloat16.npz', train.train(tiny_config(dtype='bfloat16'), out / 'bfloat16', data_dir)
    )
    (out / 'bfloat16.json').write_text(json.dumps(read_metrics(out / 'bfloat16')))


if __name__ == '__main__':
  main(*map(pathlib.Path, sys.argv[1:]))
