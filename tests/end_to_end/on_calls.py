"""Writes the program of a call with the images on the devices: python -m ... DATA_DIR OUT STEPS."""

import json
import pathlib
import sys

import jax

from mtface.parallel.resident import Residence
from mtface.parallel.sharding import everywhere, make_mesh, place
from mtface.training.calls import Calls, Feed
from mtface.training.loop import jit_step
from mtface.training.optim import make_optimizer
from mtface.training.run import prepare
from mtface.training.state import new_state
from mtface.training.tally import new_tally
from tests.tiny import get_config


def main(data_dir, out, steps):
  run, mesh = prepare(get_config(), data_dir), make_mesh()
  calls = Calls(steps, (4,), (12,), Residence(True))
  optimizer = make_optimizer(run.config.optimizer, run.steps)
  state = new_state(run.params, run.stats, optimizer)
  state, tally = place((state, new_tally(run.tasks)), everywhere(mesh))
  shapes = Feed(run, calls, mesh).shapes()
  step = jit_step(run, optimizer, mesh, everywhere(mesh), calls)
  out.mkdir()
  (out / 'step.hlo').write_text(step.lower(state, tally, shapes).compile().as_text())
  found = jax.tree.map(lambda x: x.shape, shapes['batch'])
  (out / 'shapes.json').write_text(json.dumps({'sample': found['sample']}))


if __name__ == '__main__':
  main(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]))
