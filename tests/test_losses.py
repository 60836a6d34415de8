"""Losses and gradients against loops in float64 NumPy, gradients written by hand from the papers'
formulas.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtface import losses
from mtface.config.tables import LOSSES

# --- the independent computation: one sample at a time, straight from the equations ---------------


def reference_softmax(scores, label):
  """Sang 2017, eq. 1: value and gradient for one sample."""
  shifted = np.exp(scores - scores.max())
  probabilities = shifted / shifted.sum()
  gradient = probabilities.copy()
  gradient[label] -= 1
  return -np.log(probabilities[label]), gradient


def reference_hinge(scores, label):
  """Sang 2017, eq. 2."""
  value, gradient = 0.0, np.zeros_like(scores)
  for j in range(len(scores)):
    margin = scores[j] - scores[label] + 1
    if j != label and margin > 0:
      value += margin**2
      gradient[j] += 2 * margin
      gradient[label] -= 2 * margin
  return value, gradient


def reference_sigmoid(scores, labels, mask, weights):
  """Pons 2018, eq. 1, over the labelled classes of one sample."""
  value, gradient, n = 0.0, np.zeros_like(scores), max(int(mask.sum()), 1)
  for j in np.flatnonzero(mask):
    probability = 1 / (1 + np.exp(-scores[j]))
    chosen = probability if labels[j] == 1 else 1 / (1 + np.exp(scores[j]))
    value -= weights[j] * np.log(chosen) / n
    gradient[j] = weights[j] * (probability - labels[j]) / n
  return value, gradient


def reference_shares(scores, shares, weights):
  """Cross-entropy with a distribution: value and gradient for one sample, class by class."""
  value, gradient = 0.0, np.zeros_like(scores)
  for c in range(len(scores)):
    of_class, by_hand = reference_softmax(scores, c)
    value += weights[c] * shares[c] * of_class
    gradient += weights[c] * shares[c] * by_hand
  return value, gradient


def reference_normal(scores, label):
  """Gao et al. 2017, section 3, with a deviation of 2 classes."""
  shares = np.array([np.exp(-((c - label) ** 2) / (2 * 2.0**2)) for c in range(len(scores))])
  return reference_shares(scores, shares / shares.sum(), np.ones(len(scores)))


SINGLE_LABEL = {
  'softmax_cross_entropy': reference_softmax,
  'multiclass_squared_hinge': reference_hinge,
}
B, C = 64, 7


def random_batch(seed=0, *, multi_label=False):
  """Scores from narrow to wide; about half of the labels masked, and those hold values that mean
  nothing.
  """
  rng = np.random.default_rng(seed)
  scores = rng.normal(size=(B, C)) * rng.choice([0.1, 1, 10], size=(B, 1))
  shape = (B, C) if multi_label else (B,)
  labels = rng.integers(0, 2 if multi_label else C, size=shape)
  mask = rng.random(shape) < 0.5
  labels = np.where(mask, labels, rng.choice([-1, 255, 3], size=shape))
  if multi_label:
    mask[0] = False  # a sample without any label
    mask[1] = True
    labels[1] = [0, 1, 1, 0, 1, 0, 0]
  weights = rng.uniform(0.5, 8, size=C)
  return scores, labels, mask, weights


@functools.partial(jax.jit, static_argnums=0)
def _terms_and_gradient(name, scores, labels, mask, weights, cotangents):
  terms, pullback = jax.vjp(
    lambda s: LOSSES[name].load()(s, labels, mask, class_weights=weights), scores
  )
  return terms, pullback(cotangents.astype(terms.dtype))[0]


def value_and_gradient(name, scores, labels, mask, weights, dtype):
  """(terms [B], d sum(cotangents * terms) / d scores) of the code under test, with cotangents that
  tell rows apart.
  """
  cotangents = np.linspace(1, 2, len(scores))
  with jax.enable_x64(dtype == np.float64):
    terms, gradient = _terms_and_gradient(
      name, jnp.asarray(scores, dtype), labels, mask, weights, cotangents
    )
    assert terms.dtype == dtype
    return np.asarray(terms), np.asarray(gradient), cotangents


PRECISIONS = [(np.float64, 1e-6), (np.float32, 3e-4)]


@pytest.mark.parametrize(('dtype', 'tolerance'), PRECISIONS)
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('name', SINGLE_LABEL)
def test_single_label_terms_and_gradients(name, weighted, dtype, tolerance):
  scores, labels, mask, weights = random_batch()
  terms, gradient, cotangents = value_and_gradient(
    name, scores, labels, mask, weights if weighted else None, dtype
  )
  for i in range(B):
    if not mask[i]:
      assert terms[i] == 0
      assert not gradient[i].any()
      continue
    value, by_hand = SINGLE_LABEL[name](scores[i], labels[i])
    factor = weights[labels[i]] if weighted else 1.0
    np.testing.assert_allclose(
      terms[i], factor * value, rtol=tolerance, atol=1e-5 * (dtype == np.float32)
    )
    np.testing.assert_allclose(
      gradient[i], cotangents[i] * factor * by_hand, rtol=tolerance, atol=tolerance * 1e-3
    )


def sums_of(term, scores, labels, mask, weights=None):
  """(terms [B], gradient of their sum), float64."""
  with jax.enable_x64(True):

    def total(s):
      terms = term(s, labels, mask, class_weights=weights)
      return terms.sum(), terms

    gradient, terms = jax.grad(total, has_aux=True)(jnp.asarray(scores, np.float64))
    return np.asarray(terms), np.asarray(gradient)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('smoothing', [0.0, 0.2])
@pytest.mark.parametrize('hard', [False, True])
def test_shares_of_classes_and_smoothed_labels(hard, smoothing, weighted):
  scores, labels, mask, weights = random_batch(8)
  shares = np.random.default_rng(8).dirichlet(np.full(C, 0.5), B)
  given = labels if hard else np.where(mask[:, None], shares, np.nan)
  term = functools.partial(losses.softmax_cross_entropy, smoothing=smoothing)
  terms, gradient = sums_of(term, scores, given, mask, weights if weighted else None)
  for i in range(B):
    if not mask[i]:
      assert terms[i] == 0 and not gradient[i].any()
      continue
    one = np.eye(C)[labels[i]] if hard else shares[i]
    smooth = (1 - smoothing) * one + smoothing / C
    value, by_hand = reference_shares(scores[i], smooth, weights if weighted else np.ones(C))
    np.testing.assert_allclose(terms[i], value, rtol=1e-6)
    np.testing.assert_allclose(gradient[i], by_hand, rtol=1e-6, atol=1e-9)


def test_a_normal_distribution_around_the_label():
  scores, labels, mask, _ = random_batch(9)
  terms, gradient = sums_of(losses.label_distribution, scores, labels, mask)
  shares = np.random.default_rng(9).dirichlet(np.ones(C), B)
  given, _ = sums_of(losses.label_distribution, scores, shares, mask)
  for i in np.flatnonzero(mask):
    value, by_hand = reference_normal(scores[i], labels[i])
    np.testing.assert_allclose(terms[i], value, rtol=1e-6)
    np.testing.assert_allclose(gradient[i], by_hand, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
      given[i], reference_shares(scores[i], shares[i], np.ones(C))[0], rtol=1e-6
    )
  assert not terms[~mask].any() and not gradient[~mask].any()


@pytest.mark.parametrize(('dtype', 'tolerance'), PRECISIONS)
@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_terms_and_gradients_of_many_classes(weighted, dtype, tolerance):
  scores, labels, mask, weights = random_batch(1, multi_label=True)
  weights = weights if weighted else np.ones(C)
  terms, gradient, cotangents = value_and_gradient(
    'sigmoid_cross_entropy', scores, labels, mask, weights if weighted else None, dtype
  )
  assert terms[0] == 0  # no class labelled
  for i in range(B):
    value, by_hand = reference_sigmoid(scores[i], labels[i], mask[i], weights)
    np.testing.assert_allclose(terms[i], value, rtol=tolerance)
    np.testing.assert_allclose(gradient[i], cotangents[i] * by_hand, rtol=tolerance)
    assert not gradient[i][~mask[i]].any()


@pytest.mark.parametrize(('mean_over', 'divisor'), [('labelled', C), ('all', C), ('none', 1)])
def test_sigmoid_terms_and_gradients_of_one_class_of_several(mean_over, divisor):
  scores, labels, mask, weights = random_batch(6)
  term = functools.partial(losses.sigmoid_cross_entropy, mean_over=mean_over)
  terms, vjp = jax.vjp(lambda s: term(s, labels, mask, weights), jnp.asarray(scores, jnp.float32))
  (gradient,) = vjp(jnp.ones(B))
  assert 0 < mask.sum() < B
  for i in range(B):
    value, by_hand = 0.0, np.zeros(C)
    if mask[i]:
      yes = np.arange(C) == labels[i]
      value, by_hand = reference_sigmoid(scores[i], yes, np.ones(C, bool), np.ones(C))
      value, by_hand = (x * weights[labels[i]] * C / divisor for x in (value, by_hand))
    np.testing.assert_allclose(terms[i], value, rtol=1e-5)
    np.testing.assert_allclose(gradient[i], by_hand, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('mean_over', ['all', 'none'])
def test_sums_over_classes_that_are_not_divided_by_the_labelled(mean_over):
  scores, labels, mask, _ = random_batch(7, multi_label=True)
  terms = losses.sigmoid_cross_entropy(scores, labels, mask, mean_over=mean_over)
  for i in range(B):
    mean, _ = reference_sigmoid(scores[i], labels[i], mask[i], np.ones(C))
    total = mean * max(mask[i].sum(), 1)
    np.testing.assert_allclose(terms[i], total / (C if mean_over == 'all' else 1), rtol=1e-5)
  with pytest.raises(ValueError, match="mean_over is 'some'"):
    losses.sigmoid_cross_entropy(scores, labels, mask, mean_over='some')


@pytest.mark.parametrize('shape', [(B,), (B, 1)])
def test_sigmoid_of_one_score(shape):
  scores, _, _, _ = random_batch(2)
  scores = scores[:, 0].reshape(shape)
  rng = np.random.default_rng(2)
  labels, mask, weights = rng.integers(0, 2, B), rng.random(B) < 0.7, np.array([0.5, 3.0])
  labels = np.where(mask, labels, -1)
  terms, gradient, cotangents = value_and_gradient(
    'sigmoid_cross_entropy', scores, labels, mask, weights, np.float64
  )
  assert terms.shape == (B,)
  assert gradient.shape == shape
  for i in range(B):
    value, by_hand = reference_sigmoid(
      scores[i].reshape(1),
      labels[i : i + 1],
      mask[i : i + 1],
      weights[np.maximum(labels[i : i + 1], 0)],
    )
    np.testing.assert_allclose(terms[i], value, rtol=1e-6)
    np.testing.assert_allclose(gradient[i].reshape(1), cotangents[i] * by_hand, rtol=1e-6)


def test_sigmoid_keeps_the_digits_of_a_confident_answer():
  # 1 + exp(-30) is 1 in float32, so log(1 + exp(-30)) must not be formed naively.
  terms = losses.sigmoid_cross_entropy(
    jnp.array([30.0, -30.0]), jnp.array([1, 0]), jnp.array([True, True])
  )
  np.testing.assert_allclose(terms, [np.exp(-30.0)] * 2, rtol=1e-5)


@pytest.mark.parametrize('bad_score', [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize('name', LOSSES)
def test_a_masked_sample_gives_nothing_whatever_it_holds(name, bad_score):
  multi_label = name == 'sigmoid_cross_entropy'
  scores, labels, mask, weights = random_batch(3, multi_label=multi_label)
  clean, clean_gradient, _ = value_and_gradient(name, scores, labels, mask, weights, np.float32)
  dirty_scores = np.where(mask if multi_label else mask[:, None], scores, bad_score)
  terms, gradient, _ = value_and_gradient(name, dirty_scores, labels, mask, weights, np.float32)
  np.testing.assert_array_equal(terms, clean)
  np.testing.assert_array_equal(gradient, clean_gradient)
  masked_rows = ~(mask.any(axis=-1) if multi_label else mask)
  assert masked_rows.any()
  assert not gradient[masked_rows].any()


@pytest.mark.parametrize('over', ['all', 'labelled'])
@pytest.mark.parametrize('name', LOSSES)
def test_a_fully_masked_batch_is_zero_with_zero_gradient(name, over):
  scores, labels, mask, _ = random_batch(4, multi_label=name == 'sigmoid_cross_entropy')
  mask = np.zeros_like(mask)

  def loss(s):
    return losses.reduce_terms(LOSSES[name].load()(s, labels, mask), mask, over)

  value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.full(scores.shape, jnp.nan))
  assert value == 0
  assert not np.asarray(gradient).any()


def test_number_masks_and_bfloat16_scores():
  scores, labels, mask, _ = random_batch(5)
  narrow = scores.astype(jnp.bfloat16)
  term = jax.jit(losses.softmax_cross_entropy)
  terms = term(narrow, labels, mask.astype(np.float32))
  assert terms.dtype == jnp.float32
  wide = term(narrow.astype(np.float32), labels, mask)
  np.testing.assert_array_equal(terms, wide)


def test_reduce_terms_divides_by_all_or_by_the_labelled():
  terms = jnp.array([2.0, 0.0, 4.0, 0.0])
  mask = np.array([True, False, True, False])
  assert losses.reduce_terms(terms, mask) == 6 / 4
  assert losses.reduce_terms(terms, mask, 'labelled') == 6 / 2
  by_class = np.array([[1, 0], [0, 0], [1, 1], [0, 1]])
  assert losses.reduce_terms(terms, by_class, 'all') == 6 / 4
  assert losses.reduce_terms(terms, by_class, 'labelled') == 6 / 3
  with pytest.raises(ValueError, match="'all' or 'labelled'"):
    losses.reduce_terms(terms, mask, 'some')


def test_penalty_of_squares_covers_kernels_only():
  kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 8))
  params = {
    'conv': {'kernel': jnp.asarray(kernel, jnp.bfloat16), 'bias': jnp.full(8, 7.0)},
    'norm': {'scale': jnp.full(8, 5.0), 'bias': jnp.full(8, 3.0)},
    'head': {'kernel': jnp.full((8, 2), 0.5)},
  }
  penalty, gradient = jax.jit(jax.value_and_grad(losses.weight_penalty))(params)
  assert penalty.dtype == jnp.float32
  expected = np.sum(np.asarray(params['conv']['kernel'], np.float64) ** 2) + 16 * 0.25
  np.testing.assert_allclose(penalty, expected, rtol=1e-6)
  assert not np.asarray(gradient['norm']['scale']).any()
  np.testing.assert_array_equal(gradient['head']['kernel'], np.ones((8, 2)))
  assert losses.weight_penalty({'bias': jnp.ones(3)}) == 0


def test_weight_decay_as_caffe_and_tensorflow_mean_it():
  # Caffe adds decay * w to the gradient of every parameter, tf.nn.l2_loss that of the kernels.
  params = {'conv': {'kernel': jnp.full((2, 3), 5.0), 'bias': jnp.full(3, 7.0)}}
  for convention, of_bias in (('caffe', 7.0), ('tensorflow', 0.0)):
    gradient = jax.grad(losses.weight_penalty)(params, convention)
    np.testing.assert_array_equal(gradient['conv']['kernel'], np.full((2, 3), 5.0))
    np.testing.assert_array_equal(gradient['conv']['bias'], np.full(3, of_bias))
  with pytest.raises(ValueError, match="convention is 'torch'"):
    losses.weight_penalty(params, 'torch')


def test_balanced_class_weights():
  weights = losses.balanced_class_weights(np.array([10, 40, 0, 5]))
  np.testing.assert_array_equal(weights, [4.0, 1.0, 0.0, 8.0])


@pytest.mark.parametrize(
  ('name', 'scores', 'labels', 'mask'),
  [
    ('softmax_cross_entropy', (4, 3), (4, 1), (4, 1)),
    ('multiclass_squared_hinge', (4,), (4,), (4,)),
    ('multiclass_squared_hinge', (4, 3), (4, 3), (4,)),
    ('softmax_cross_entropy', (4, 3), (4, 2), (4,)),
    ('sigmoid_cross_entropy', (4, 3), (4,), (4, 3)),
    ('sigmoid_cross_entropy', (4, 3), (4, 3), (4,)),
  ],
)
def test_shapes_that_would_broadcast_silently_are_refused(name, scores, labels, mask):
  with pytest.raises(ValueError, match='fit'):
    LOSSES[name].load()(jnp.zeros(scores), jnp.zeros(labels, int), jnp.ones(mask, bool))


def test_class_weights_of_another_task_are_refused():
  with pytest.raises(ValueError, match='class_weights'):
    losses.softmax_cross_entropy(
      jnp.zeros((4, 3)), jnp.zeros(4, int), jnp.ones(4, bool), class_weights=jnp.ones(2)
    )
