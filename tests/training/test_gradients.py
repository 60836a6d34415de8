"""Norms of the gradient by layer, against NumPy; off, they leave no trace."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtface.training.gradients import ALL, layers, norms
from mtface.training.run import prepare
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally, summarize_tally
from tests.tiny import get_config
from tests.training.test_step import RATE, TASKS, Linear, batch, config, expected, parameters


@pytest.mark.parametrize('changes', [{}, {'optimizer.clip': 0.01}])
def test_sums_are_numpys_norms_of_each_layer(changes):
  one = batch()
  step_config = config(**{'loss.over': 'all', 'loss.l2': 0.0} | changes)
  optimizer = (
    optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(RATE)) if changes else (optax.sgd(0.0))
  )
  state = new_state(parameters(), {'mean': jnp.zeros(())}, optimizer)
  step = jax.jit(make_step(Linear(), optimizer, TASKS, step_config, {}))
  _, tally = step(state, new_tally(TASKS, (ALL, *TASKS)), one)
  squares = {task: sum((x**2).sum() for x in expected(task, one, 'all')[1:]) for task in TASKS}
  for task, square in squares.items():
    np.testing.assert_allclose(tally.gradients[task], np.sqrt(square), rtol=1e-5)
  np.testing.assert_allclose(tally.gradients[ALL], np.sqrt(sum(squares.values())), rtol=1e-5)


def test_a_layer_is_what_stands_side_by_side():
  rng = np.random.default_rng(0)
  grads = {
    'trunk': {0: {'kernel': rng.normal(size=(3, 4)), 'bias': rng.normal(size=4)}},
    'trunks': {'scale': rng.normal(size=5)},
    'alone': rng.normal(size=2),
  }
  found = norms(grads, ('trunk/0', 'trunks', 'alone'))
  both = np.concatenate([grads['trunk'][0]['kernel'].ravel(), grads['trunk'][0]['bias']])
  for name, of in (
    ('trunk/0', both),
    ('trunks', grads['trunks']['scale']),
    ('alone', grads['alone']),
  ):
    np.testing.assert_allclose(found[name], np.linalg.norm(of), rtol=1e-6)
  assert norms(grads, ()) == {}


def test_layers_are_those_that_are_trained(tiny_data):
  tiny = get_config()
  assert layers(prepare(tiny, tiny_data)) == ()
  tiny.log_gradients = True
  every = layers(prepare(tiny, tiny_data))
  assert every[0] == ALL and 'branches/smile/scores' in every and 'blocks/0/convolutions/0' in every
  tiny.freeze.params = ('blocks',)
  frozen = layers(prepare(tiny, tiny_data))
  assert set(every) - set(frozen) == {name for name in every if name.startswith('blocks/')}


def test_the_log_has_means_over_the_steps(tiny_data):
  tiny = get_config()
  tiny.log_gradients = True
  run = prepare(tiny, tiny_data)
  names = layers(run)
  tally = new_tally(run.tasks, names)
  sums = {name: np.float32(3 * i) for i, name in enumerate(names)}
  values = summarize_tally(run, tally._replace(steps=np.int32(3), gradients=sums))
  own = {name: value for name, value in values.items() if name.startswith('gradients/')}
  assert own == {f'gradients/{name}': float(i) for i, name in enumerate(names)}


def test_off_the_step_is_the_one_without_them(monkeypatch):
  def program(layers):
    optimizer = optax.sgd(RATE)
    state = new_state(parameters(), {'mean': jnp.zeros(())}, optimizer)
    step = make_step(Linear(), optimizer, TASKS, config(), {})
    return str(jax.make_jaxpr(step)(state, new_tally(TASKS, layers), batch()))

  off, on = program(()), program((ALL,))
  monkeypatch.setattr('mtface.training.step.norms', lambda grads, layers: {})
  assert off == program(()) != on


def test_on_they_change_nothing_of_the_training():
  optimizer = optax.sgd(RATE)
  step = jax.jit(make_step(Linear(), optimizer, TASKS, config(), {}))
  state = new_state(parameters(), {'mean': jnp.zeros(())}, optimizer)
  on, _ = step(state, new_tally(TASKS, (ALL, *TASKS)), batch())
  off, _ = step(state, new_tally(TASKS), batch())
  jax.tree.map(np.testing.assert_array_equal, on.params, off.params)
