"""Which program is made: that of the platform it is lowered for, whatever machine lowers it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtface.config.schema import tasks_of
from mtface.models import convolution, depthwise, layers, platforms
from mtface.models.network import make_network
from mtface.training.optim import make_optimizer
from mtface.training.state import new_state
from mtface.training.step import make_step
from mtface.training.tally import new_tally
from tests.tiny import get_config


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _gradients(layer):
  return jax.jit(jax.value_and_grad(lambda *args: layer(*args).sum(), argnums=tuple(range(2))))


IMAGES, PLATFORMS = _shape(4, 16, 16, 32), ('tpu', 'cuda', 'rocm')
LAYERS = {
  'conv3x3': (layers.conv3x3, _shape(3, 3, 32, 32)),
  'depthwise': (lambda x, k: depthwise.depthwise_conv(x, k, 2), _shape(5, 5, 1, 32)),
  'conv': (lambda x, k: convolution.conv(x, k, 2), _shape(3, 3, 32, 8)),
}


def _program(function, platform, *args):
  return function.trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize('layer', LAYERS)
def test_convolutions_are_xlas_but_on_cpus(layer):
  function, kernel = LAYERS[layer]
  for platform in PLATFORMS:
    text = _program(_gradients(function), platform, IMAGES, kernel)
    assert text.count('stablehlo.convolution(') >= 2
    assert 'stablehlo.dot_general' not in text
  text = _program(_gradients(function), 'cpu', IMAGES, kernel)
  assert 'stablehlo.convolution' not in text


@pytest.mark.parametrize('layer', LAYERS)
def test_without_choice_they_are_xlas_on_all_platforms(layer):
  function, kernel = LAYERS[layer]
  forward = lambda *args: function(*args)  # noqa: E731  (JAX keeps what it traced of a function)
  with platforms.without_choice():
    text = _program(jax.jit(forward), 'cpu', IMAGES, kernel)
    pool = _program(jax.jit(lambda x: layers.max_pool_2x2(x)), 'cpu', IMAGES)
  assert text.count('stablehlo.convolution(') == 1
  assert 'stablehlo.dot_general' not in text and 'stablehlo.case' not in text
  assert pool.count('stablehlo.reduce_window') == 1
  assert platforms.has_choice()


def test_pools_scatter_nothing():
  pool = jax.jit(jax.grad(lambda x: layers.max_pool_2x2(x).sum()))
  for platform in (*PLATFORMS, 'cpu'):
    assert 'scatter' not in _program(pool, platform, IMAGES)


def test_sums_are_xlas_but_on_cpus():
  norm = jax.jit(lambda x, s: layers.batch_norm(x, s, s, 1e-5, 'relu')[0])
  for platform in PLATFORMS:
    assert 'stablehlo.while' not in _program(norm, platform, IMAGES, _shape(32))
  assert 'stablehlo.while' in _program(norm, 'cpu', IMAGES, _shape(32))


def test_sums_are_numpys():
  x, y = (
    np.random.default_rng(seed).normal(size=(6, 5, 3, 4)).astype(np.float32) for seed in (0, 1)
  )
  found = jax.jit(lambda x, y: platforms.channel_sums(lambda a, b: (a, a * b), x, y))(x, y)
  for total, expected in zip(found, (x, x * y), strict=True):
    np.testing.assert_allclose(
      total, expected.astype(np.float64).sum((0, 1, 2)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('shape', [(3, 3, 20, 24), (7, 5000), (12,), (1, 1, 30, 2)])
def test_sum_of_squares_and_its_gradient_are_numpys(shape):
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  total, gradient = jax.jit(jax.value_and_grad(platforms.sum_of_squares))(x)
  np.testing.assert_allclose(total, (x.astype(np.float64) ** 2).sum(), rtol=1e-6)
  np.testing.assert_array_equal(gradient, 2 * x)


def test_penalised_weights_are_changed_where_they_lie():
  """The change of a weight needs no value of the penalty, only its gradient."""

  def step(w, x):
    loss = lambda w: jnp.sum((x @ w) ** 2) + platforms.sum_of_squares(w)  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(w)
    return w - gradient, value

  w, x = _shape(512, 256), _shape(4, 512)
  text = jax.jit(step, donate_argnums=0).lower(w, x).compile().as_text()
  assert not re.findall(r'f32\[512,256\]\S* copy\(', text)


def test_a_choice_can_be_mapped_and_has_the_gradient_of_what_was_chosen():
  chosen = platforms.by_platform(lambda a, b: a * b, lambda a, b: a + b)
  a, b = jnp.arange(3.0), jnp.arange(3.0) + 5
  np.testing.assert_array_equal(jax.vmap(chosen)(a, b), [0, 6, 14])
  np.testing.assert_array_equal(jax.vmap(jax.grad(chosen))(a, b), b)


@pytest.mark.parametrize('platform', ['tpu', 'cpu'])
def test_the_step_is_that_of_its_platform(platform):
  """The training step of a BKNet of full width: nine convolutions, each with two gradients, but the
  first one's by the image.
  """
  config = get_config()
  config.model.width = 1.0
  config.image_shape = (32, 32, 1)
  tasks = tasks_of(config)
  network, params, stats = make_network(config.model, list(tasks.values()), config.image_shape, 0)
  optimizer = make_optimizer(config.optimizer, 10)
  step = jax.jit(make_step(network, optimizer, tasks, config, {}))
  state = new_state(params, stats, optimizer)
  text = _program(step, platform, state, new_tally(tasks), _batch(tasks, config.image_shape))
  assert text.count('stablehlo.convolution(') == (
    1 if platform == 'cpu' else 26
  )  # an image has too few channels for Winograd


def _batch(tasks, shape, size=64):
  of_tasks = {'labels': np.int32, 'mask': bool}
  return {
    'image': jax.ShapeDtypeStruct((size, *shape), np.uint8),
    **{
      kind: {task: jax.ShapeDtypeStruct((size,), dtype) for task in tasks}
      for kind, dtype in of_tasks.items()
    },
    **{
      name: jax.ShapeDtypeStruct((size,), dtype)
      for name, dtype in (('source', np.int32), ('position', np.uint32))
    },
    'stop': jax.ShapeDtypeStruct((size,), np.int32),
  }
