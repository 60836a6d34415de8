"""The known answers come out right here, and a wrong program is found."""

import jax.numpy as jnp
import numpy as np
import pytest

from mtface.models import layers, selfcheck


def test_versions_known_to_be_wrong_are_named_and_no_others():
  assert '39103' in selfcheck.known_bad('0.10.2')
  assert '40633' in selfcheck.known_bad('0.11.1')
  assert [selfcheck.known_bad(version) for version in ('0.10.1', '0.10.20', '0.12.0.1', '0.1')] == [
    None
  ] * 4
  assert selfcheck.known_bad() is None, 'pyproject.toml excludes them'


def test_all_answers_are_right():
  answers = selfcheck.selfcheck()
  assert len(answers) == 6
  assert [str(answer) for answer in answers if not answer.right] == []


@pytest.mark.parametrize('layer', ['conv3x3', 'batch_norm', 'max_pool_2x2'])
def test_a_layer_that_leaves_something_out_is_found(monkeypatch, layer):
  """As jaxlib 0.10.2 does with the last rows of a sum."""
  right = getattr(layers, layer)
  monkeypatch.setattr(
    layers, layer, lambda x, *args: right(jnp.asarray(x).at[-1, -1].set(0), *args)
  )
  assert selfcheck.training_step() > 1e-3


def test_what_is_no_number_is_wrong():
  assert selfcheck._error([jnp.array([1.0, jnp.nan])], [np.ones(2)]) == np.inf
  assert 'WRONG' in str(selfcheck.Answer('x', np.inf, 1e-5))
  assert selfcheck._error([jnp.array([2.0, -1.0])], [np.array([2.0, -1.5])]) == 0.25


def test_numpys_answers_are_those_of_differences():
  """The gradients that everything is held to, against central differences in float64."""
  x, labels, weights = selfcheck.small_network()
  x, weights = x.astype(np.float64), selfcheck._doubles(weights)
  _, *gradients = selfcheck._loss_and_gradients(x, labels, *weights)
  for k, gradient in enumerate(gradients):
    place, step = np.unravel_index(np.abs(gradient).argmax(), gradient.shape), 1e-7
    values = []
    for sign in (1, -1):
      moved = [w.copy() for w in weights]
      moved[k][place] += sign * step
      values.append(selfcheck._loss_and_gradients(x, labels, *moved)[0])
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient[place], rel=1e-4)
