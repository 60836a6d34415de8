import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtface.config import experiment
from mtface.errors import UserError
from mtface.optim import make_optimizer, make_schedule


def config(**fields):
  found = experiment().optimizer
  found.update(fields)
  return found


def test_the_papers_exponential_decay_by_hand():
  # Sang 2017, eq. 4 with its numbers: 0.01 * 0.8^(step / 10000).
  rate = make_schedule(config(), steps=123)
  np.testing.assert_allclose(
    [float(rate(step)) for step in (0, 5_000, 10_000, 25_000)],
    [0.01, 0.01 * 0.8944271909999159, 0.008, 0.01 * 0.8**2.5],
    rtol=1e-6,
  )


def test_one_cycle_rises_and_falls():
  rate = make_schedule(config(schedule='one_cycle', rate=0.05, warmup=0.25), steps=400)
  values = np.array([float(rate(step)) for step in range(400)])
  np.testing.assert_allclose(
    [values[0], values[50], values[100]], [0.05 / 25, 0.05 * (1 + 1 / 25) / 2, 0.05], rtol=1e-5
  )
  assert (np.diff(values[:101]) > 0).all()
  assert (np.diff(values[100:]) < 0).all()
  assert values[-1] < 1e-4


@pytest.mark.parametrize('steps', [1, 2, 3, 5])
def test_one_cycle_of_a_short_run_is_finite(steps):
  rate = make_schedule(config(schedule='one_cycle'), steps)
  assert np.isfinite([float(rate(step)) for step in range(steps)]).all()


def test_an_unknown_schedule():
  with pytest.raises(
    UserError, match=r"config.optimizer.schedule 'linear' is unknown; there are exponential, one_cycle"
  ):
    make_schedule(config(schedule='linear'), 10)


def sgd(start, gradients, rates, momentum, nesterov):
  """SGD in NumPy: v = m v + g; w -= rate (g + m v) with Nesterov's momentum (Sutskever et al. 2013), w -= rate v without."""
  weights, velocity = np.array(start, np.float64), 0.0
  for gradient, rate in zip(gradients, rates, strict=True):
    velocity = momentum * velocity + gradient
    weights = weights - rate * (gradient + momentum * velocity if nesterov else velocity)
  return weights


@pytest.mark.parametrize('nesterov', [False, True])
@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_the_optimizer_is_sgd_with_momentum(momentum, nesterov):
  rng = np.random.default_rng(0)
  gradients = rng.normal(size=(30, 5))
  optimizer = make_optimizer(
    config(momentum=momentum, nesterov=nesterov, rate=0.1, decay=0.5, decay_steps=10), steps=30
  )
  params = {'w': jnp.arange(5.0)}
  opt_state = optimizer.init(params)
  for gradient in gradients:
    updates, opt_state = optimizer.update({'w': jnp.asarray(gradient, jnp.float32)}, opt_state, params)
    params = optax.apply_updates(params, updates)
  rates = 0.1 * 0.5 ** (np.arange(30) / 10)
  np.testing.assert_allclose(params['w'], sgd(np.arange(5.0), gradients, rates, momentum, nesterov), rtol=1e-5)


def test_long_gradients_are_cut_to_the_norm():
  optimizer = make_optimizer(config(momentum=0.0, rate=1.0, decay=1.0, clip=2.0), steps=5)
  params = {'a': jnp.zeros(2), 'b': jnp.zeros(1)}
  opt_state = optimizer.init(params)
  long, _ = optimizer.update({'a': jnp.array([3.0, 4.0]), 'b': jnp.array([12.0])}, opt_state, params)  # of norm 13
  np.testing.assert_allclose(np.concatenate([long['a'], long['b']]), np.array([-3, -4, -12]) * 2 / 13, rtol=1e-6)
  short, _ = optimizer.update({'a': jnp.array([0.3, 0.4]), 'b': jnp.array([1.2])}, opt_state, params)
  np.testing.assert_allclose(np.concatenate([short['a'], short['b']]), [-0.3, -0.4, -1.2], rtol=1e-6)
