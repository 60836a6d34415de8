import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from mtface.config.schema import optimizer
from mtface.errors import UserError
from mtface.training.optim import factor_of, make_optimizer, make_schedule, rate_factors


def config(*names, **fields):
  return optimizer(*names, **fields)


def test_the_papers_exponential_decay_by_hand():
  # Sang 2017, eq. 4 with its numbers: 0.01 * 0.8^(step / 10000).
  rate = make_schedule(config(), steps=123)
  np.testing.assert_allclose(
    [float(rate(step)) for step in (0, 5_000, 10_000, 25_000)],
    [0.01, 0.01 * 0.8944271909999159, 0.008, 0.01 * 0.8**2.5],
    rtol=1e-6,
  )


def test_steps_of_an_exponential_decay():
  # Pons 2018: 0.05, decayed every 10,000 steps.
  rate = make_schedule(config(rate=0.05, decay=0.5, staircase=True), steps=1)
  found = [float(rate(step)) for step in (0, 9_999, 10_000, 29_999, 79_999)]
  np.testing.assert_allclose(found, [0.05, 0.05, 0.025, 0.0125, 0.05 / 128], rtol=1e-6)


@pytest.mark.parametrize('power', [1.0, 0.1, 2.0, 0.0])
def test_a_polynomial_decay_is_caffes(power):
  # base_lr * (1 - iter / max_iter)^power, from Caffe's sgd_solver.cpp.
  rate = make_schedule(config(schedule='polynomial', rate=0.01, power=power), steps=110_000)
  steps = np.array([0, 1, 55_000, 109_000])
  expected = 0.01 * (1 - steps / 110_000) ** power
  np.testing.assert_allclose([float(rate(step)) for step in steps], expected, rtol=1e-4)


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
    UserError,
    match=r"config.optimizer.schedule 'linear' is unknown; there are exponential, polynomial, ",
  ):
    make_schedule(ConfigDict(config().to_dict() | {'schedule': 'linear'}), 10)


def sgd(start, gradients, rates, momentum, nesterov):
  """SGD in NumPy: v = m v + g; w -= rate (g + m v) with Nesterov's momentum (Sutskever et al.
  2013), w -= rate v without.
  """
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
    updates, opt_state = optimizer.update(
      {'w': jnp.asarray(gradient, jnp.float32)}, opt_state, params
    )
    params = optax.apply_updates(params, updates)
  rates = 0.1 * 0.5 ** (np.arange(30) / 10)
  np.testing.assert_allclose(
    params['w'], sgd(np.arange(5.0), gradients, rates, momentum, nesterov), rtol=1e-5
  )


def test_long_gradients_are_cut_to_the_norm():
  optimizer = make_optimizer(config(momentum=0.0, rate=1.0, decay=1.0, clip=2.0), steps=5)
  params = {'a': jnp.zeros(2), 'b': jnp.zeros(1)}
  opt_state = optimizer.init(params)
  long, _ = optimizer.update(
    {'a': jnp.array([3.0, 4.0]), 'b': jnp.array([12.0])}, opt_state, params
  )  # of norm 13
  np.testing.assert_allclose(
    np.concatenate([long['a'], long['b']]), np.array([-3, -4, -12]) * 2 / 13, rtol=1e-6
  )
  short, _ = optimizer.update(
    {'a': jnp.array([0.3, 0.4]), 'b': jnp.array([1.2])}, opt_state, params
  )
  np.testing.assert_allclose(
    np.concatenate([short['a'], short['b']]), [-0.3, -0.4, -1.2], rtol=1e-6
  )


@pytest.mark.parametrize('name', ['sgd', 'adam'])
def test_gradients_are_cut_before_the_optimizer_sees_them(name):
  # Momentum gathers what was cut: cutting what comes out of it instead would be another path.
  gradients, clip, rate = np.array([[3.0, 4.0], [0.3, -0.4], [-6.0, 8.0], [0.1, 0.2]]), 1.0, 0.1
  cut = gradients / np.maximum(np.linalg.norm(gradients, axis=1, keepdims=True) / clip, 1)
  settings = {'name': name, 'momentum': 0.9, 'rate': rate, 'decay': 1.0}
  found = []
  for clipping, given in ((clip, gradients), (0.0, cut)):
    optimizer = make_optimizer(config(clip=clipping, **settings), 5)
    params = {'w': jnp.zeros(2)}
    opt_state = optimizer.init(params)
    for gradient in given:
      updates, opt_state = optimizer.update(
        {'w': jnp.asarray(gradient, jnp.float32)}, opt_state, params
      )
      params = optax.apply_updates(params, updates)
    found.append(np.asarray(params['w']))
  np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
  if name == 'sgd':
    np.testing.assert_allclose(found[0], sgd(np.zeros(2), cut, [rate] * 4, 0.9, False), rtol=1e-5)


def test_adam_with_nesterovs_momentum():
  # Dozat 2016 with constant momentum: the step looks ahead, b1 m_t / (1 - b1^(t+1)) + (1 - b1) g /
  # (1 - b1^t).
  gradients, rate, beta1, beta2 = np.random.default_rng(1).normal(size=12), 0.1, 0.8, 0.95
  weight = first = second = 0.0
  for t, gradient in enumerate(gradients, 1):
    first, second = (
      beta1 * first + (1 - beta1) * gradient,
      beta2 * second + (1 - beta2) * gradient**2,
    )
    ahead = beta1 * first / (1 - beta1 ** (t + 1)) + (1 - beta1) * gradient / (1 - beta1**t)
    weight -= rate * ahead / (np.sqrt(second / (1 - beta2**t)) + 1e-8)
  settings = config(name='adam', momentum=beta1, beta2=beta2, rate=rate, decay=1.0, nesterov=True)
  params, _ = take(make_optimizer(settings, 12), gradients)
  np.testing.assert_allclose(params['trunk'][0], 1 + weight, rtol=1e-5)


def take(optimizer, gradients):
  """(the parameters, which were ones, after these gradients; what the optimiser keeps of them)."""
  params = {'trunk': {0: jnp.ones(3)}, 'heads': {'smile': jnp.ones(2)}}
  opt_state = optimizer.init(params)
  for gradient in gradients:
    updates, opt_state = optimizer.update(
      jax.tree.map(lambda x, g=gradient: jnp.full_like(x, g), params), opt_state, params
    )
    params = optax.apply_updates(params, updates)
  return jax.device_get(params), opt_state


def test_adam():
  # Kingma & Ba 2015, algorithm 1, in NumPy.
  gradients, rate, beta1, beta2 = np.random.default_rng(0).normal(size=20), 0.1, 0.8, 0.95
  weight = first = second = 0.0
  for t, gradient in enumerate(gradients, 1):
    first, second = (
      beta1 * first + (1 - beta1) * gradient,
      beta2 * second + (1 - beta2) * gradient**2,
    )
    weight -= rate * (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + 1e-8)
  settings = config(name='adam', momentum=beta1, beta2=beta2, rate=rate, decay=1.0)
  params, _ = take(make_optimizer(settings, 20), gradients)
  np.testing.assert_allclose(params['trunk'][0], 1 + weight, rtol=1e-5)


@pytest.mark.parametrize('name', ['sgd', 'adam'])
def test_frozen_parameters_stay_and_nothing_is_kept_of_them(name):
  settings = config(name=name, rate=0.1, clip=0.5)
  held, kept = take(make_optimizer(settings, 5, ['trunk']), [1.0, -2.0, 0.5])
  np.testing.assert_array_equal(held['trunk'][0], 1.0)
  assert not any(leaf.shape == (3,) for leaf in jax.tree.leaves(kept))
  # What is cut is the gradient of what is trained: its two elements are all there is.
  params = {'a': jnp.ones(2)}
  alone = make_optimizer(settings, 5)
  opt_state = alone.init(params)
  for gradient in (1.0, -2.0, 0.5):
    updates, opt_state = alone.update({'a': jnp.full(2, gradient)}, opt_state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(held['heads']['smile'], params['a'], rtol=1e-6)


@pytest.mark.parametrize('name', ['sgd', 'adam'])
def test_factors_of_the_learning_rate(name):
  plain, _ = take(make_optimizer(config(name=name, rate=0.1), 5), [1.0, -2.0, 0.5])
  scaled, _ = take(
    make_optimizer(config(name=name, rate=0.1, factors=('trunk/0=0.25', 'trunk=7')), 5),
    [1.0, -2.0, 0.5],
  )
  np.testing.assert_allclose(scaled['trunk'][0] - 1, 0.25 * (plain['trunk'][0] - 1), rtol=1e-5)
  np.testing.assert_array_equal(scaled['heads']['smile'], plain['heads']['smile'])


def test_the_first_pattern_that_matches_counts():
  factors = rate_factors(('blocks/[01]=0.1', 'blocks=0.5', 'branches/gender=0'))
  names = ('blocks/1/kernel', 'blocks/10/kernel', 'branches/gender/bias', 'branches/gender_2/bias')
  assert [factor_of(name, factors) for name in names] == [0.1, 0.5, 0.0, 1.0]


@pytest.mark.parametrize(
  'text', ['trunk', '=0.1', 'trunk=', 'trunk=slow', 'trunk=-1', 'trunk=nan', 'trunk=inf']
)
def test_a_factor_that_is_none(text):
  with pytest.raises(
    UserError,
    match=r"^config.optimizer.factors: '.*': expected PATTERN=FACTOR with a factor of at least 0",
  ):
    rate_factors((text,))


def test_an_unknown_optimizer():
  with pytest.raises(
    UserError, match=r"config.optimizer.name 'lamb' is unknown; there are sgd, adam"
  ):
    make_optimizer(ConfigDict(config().to_dict() | {'name': 'lamb'}), 5)


def test_a_cosine_after_a_line():
  rate = make_schedule(config(schedule='cosine', rate=0.1, warmup=0.2, end=0.1), steps=50)
  found = [float(rate(step)) for step in (0, 5, 10, 30, 50)]
  # From 0 to the rate in 10 steps, then half a cosine to a tenth of it in 40.
  middle = 0.01 + (0.1 - 0.01) * 0.5 * (1 + math.cos(math.pi / 2))
  np.testing.assert_allclose(found, [0, 0.05, 0.1, middle, 0.01], atol=1e-8)
  for steps in (1, 2, 3):
    rate = make_schedule(config(schedule='cosine'), steps)
    assert np.isfinite([float(rate(step)) for step in range(steps)]).all()


def test_adamw_against_the_paper():
  # Loshchilov & Hutter 2019, algorithm 2; biases and scales, which have one axis, do not decay.
  rate, decay, beta1, beta2 = 0.1, 0.3, 0.8, 0.9
  settings = config('adamw', momentum=beta1, beta2=beta2, weight_decay=decay, rate=rate, decay=1.0)
  adamw = make_optimizer(settings, 5)
  params = {'kernel': jnp.array([[1.0, -2.0]]), 'bias': jnp.array([1.0])}
  state = adamw.init(params)
  expected = {name: np.asarray(x, np.float64) for name, x in params.items()}
  m, v = ({name: np.zeros_like(x) for name, x in expected.items()} for _ in range(2))
  for t in range(1, 5):
    grads = {name: x * t - 0.5 for name, x in expected.items()}
    updates, state = adamw.update(jax.tree.map(jnp.float32, grads), state, params)
    params = optax.apply_updates(params, updates)
    for name, g in grads.items():
      m[name] = beta1 * m[name] + (1 - beta1) * g
      v[name] = beta2 * v[name] + (1 - beta2) * g**2
      step = m[name] / (1 - beta1**t) / (np.sqrt(v[name] / (1 - beta2**t)) + 1e-8)
      expected[name] = expected[name] - rate * (
        step + (decay * expected[name] if name == 'kernel' else 0)
      )
    for name, x in expected.items():
      np.testing.assert_allclose(params[name], x, rtol=1e-4)


def test_accumulated_gradients_move_the_weights_by_their_mean():
  settings = config(momentum=0.0, rate=0.5, decay=0.5, decay_steps=1, accumulate=3)
  optimizer = make_optimizer(settings, 6)
  params = {'w': jnp.array([1.0])}
  state, seen = optimizer.init(params), []
  for gradient in (1.0, 2.0, 6.0, 1.0, 1.0, 1.0):
    updates, state = optimizer.update({'w': jnp.array([gradient])}, state, params)
    params = optax.apply_updates(params, updates)
    seen.append(float(params['w'][0]))
  # The first update is at the rate 0.5, the second at half of it: updates are counted, not batches.
  np.testing.assert_allclose(seen, [1, 1, 1 - 0.5 * 3, -0.5, -0.5, -0.5 - 0.25 * 1], rtol=1e-6)
  # A one-cycle rate is over when the batches are.
  cycle = config(schedule='one_cycle', accumulate=10)
  assert float(make_schedule(cycle, 400)(39)) == float(
    make_schedule(config(schedule='one_cycle'), 40)(39)
  )


def test_options_that_an_optimizer_does_not_have():
  with pytest.raises(UserError, match=r"^optimiser sgd .* there is no option 'beta2'; there are"):
    optimizer(beta2=0.9)
