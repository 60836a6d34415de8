"""Loss terms for partly labelled batches, one pure function a loss.

Every term has the signature `term(scores, labels, mask, class_weights=None) -> [B]`: one number a
sample, before any reduction. A masked label may hold any value (-1 and 255 are common), and the
scores beside it may even be inf or NaN: the term is exactly 0 and so is its gradient, because both
are taken out *before* the arithmetic (a product with 0, or one `where` after it, would turn an
infinite score into a NaN gradient). A loss knows no model, no task and no host.

Terms are computed in float32, or in float64 when the scores are; bfloat16 scores are widened first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

MEAN_OVER = ('labelled', 'all', 'none')  # see `sigmoid_cross_entropy`
DECAYS = ('squares', 'caffe', 'tensorflow')  # see `weight_penalty`


def softmax_cross_entropy(
  scores: ArrayLike,
  labels: ArrayLike,
  mask: ArrayLike,
  class_weights: ArrayLike | None = None,
  smoothing: float = 0.0,
) -> jax.Array:
  """-sum_c q_c log softmax(scores)_c of each labelled sample: alpha_i * sum_j of Sang 2017, eq. 1,
  where q is 1 for the label and 0 for all other classes.

  Args:
    scores: [B, C] logits.
    labels: int [B], in 0..C-1 where labelled; or float [B, C], q itself: shares that sum to 1, of
      annotators' votes or of a teacher's probabilities.
    mask: bool or number [B]; 0 means unlabelled.
    class_weights: [C]; each class's summand times its weight (Savchenko 2021, eq. 2).
    smoothing: q becomes (1 - smoothing) * q + smoothing / C (Szegedy et al. 2016, section 7).

  Returns:
    [B] nats.
  """
  scores, labels, mask = _masked_inputs(scores, labels, mask, shares=True)
  if labels.ndim == 2 or smoothing:
    shares = labels.astype(scores.dtype) if labels.ndim == 2 else _is_label(labels, scores)
    smooth = (1 - smoothing) * shares + smoothing / scores.shape[-1]
    return _masked(_cross_entropy(scores, smooth, class_weights), mask, None)
  is_label = _is_label(labels, scores)
  score_of_label = jnp.sum(jnp.where(is_label, scores, 0), axis=-1)
  terms = jax.nn.logsumexp(scores, axis=-1) - score_of_label
  return _masked(terms, mask, _weight_of_label(class_weights, labels, scores.shape[-1]))


def label_distribution(
  scores: ArrayLike,
  labels: ArrayLike,
  mask: ArrayLike,
  class_weights: ArrayLike | None = None,
  deviation: float = 2.0,
) -> jax.Array:
  """Cross-entropy with a normal distribution around the label, over classes that are one unit
  apart, as years are: Gao et al. 2017, "Deep label distribution learning", section 3 (but for a
  constant, its divergence).

  Args:
    scores: [B, C] logits.
    labels: int [B], in 0..C-1 where labelled; or float [B, C], the distribution itself.
    mask: bool or number [B]; 0 means unlabelled.
    class_weights: [C]; each class's summand times its weight.
    deviation: of the distribution, in classes; what lies outside of the classes is left out, and
      the rest sums to 1.

  Returns:
    [B] nats.
  """
  scores, labels, mask = _masked_inputs(scores, labels, mask, shares=True)
  shares = labels
  if labels.ndim == 1:
    distance = jnp.arange(scores.shape[-1], dtype=scores.dtype) - labels[:, None]
    shares = jax.nn.softmax(-0.5 * (distance / deviation) ** 2, axis=-1)
  return _masked(_cross_entropy(scores, shares, class_weights), mask, None)


def multiclass_squared_hinge(
  scores: ArrayLike, labels: ArrayLike, mask: ArrayLike, class_weights: ArrayLike | None = None
) -> jax.Array:
  """sum over j != label of max(0, s_j - s_label + 1)^2: Sang 2017, eq. 2 (its "SVM loss").

  Args:
    scores: [B, C] unbounded scores.
    labels: int [B], in 0..C-1 where labelled.
    mask: bool or number [B]; 0 means unlabelled.
    class_weights: [C]; multiplies a sample's term by its label's weight.

  Returns:
    [B] squared margins.
  """
  scores, labels, mask = _masked_inputs(scores, labels, mask)
  is_label = _is_label(labels, scores)
  score_of_label = jnp.sum(jnp.where(is_label, scores, 0), axis=-1, keepdims=True)
  violations = jnp.maximum(0, scores - score_of_label + 1)
  terms = jnp.sum(jnp.where(is_label, 0, violations**2), axis=-1)
  return _masked(terms, mask, _weight_of_label(class_weights, labels, scores.shape[-1]))


def sigmoid_cross_entropy(
  scores: ArrayLike,
  labels: ArrayLike,
  mask: ArrayLike,
  class_weights: ArrayLike | None = None,
  mean_over: str = 'labelled',
) -> jax.Array:
  """Binary cross-entropy of sigmoid(scores): Pons 2018, eq. 1 (its "selective" loss); Zhang 2016,
  eq. 1.

  Three forms, told apart by the shapes. A yes or no for each of C classes: scores, labels and mask
    [B, C]; the term is the sum over the sample's labelled classes, divided as `mean_over` says, and
    0 where none is labelled; class_weights [C] multiply each class's summand, not the divisor. One
    class of several: scores [B, C], labels and mask [B]; the label is a yes for its class and a no
    for the others; class_weights [C] multiply a sample's term by its label's weight. One yes or no:
    scores [B] or [B, 1], labels and mask [B]; class_weights [2] are the weights of no and yes.

  Args:
    scores: logits.
    labels: 0 or 1, or a class's index, where labelled.
    mask: bool or number; 0 means unlabelled.
    class_weights: see above.
    mean_over: labelled: the number of the sample's labelled classes, which is Pons's N, the size of
      the label space of the sample's data set; all: C, whatever is labelled (another reading of N);
      none: no division (the sum over the attributes of Zhang 2016, eq. 2).

  Returns:
    [B] nats.
  """
  labels, mask = jnp.asarray(labels), jnp.asarray(mask) != 0
  scores = _floating(scores)
  if labels.ndim == 1 and scores.ndim == 2 and scores.shape[1] > 1:
    return _one_hot_cross_entropy(scores, labels, mask, class_weights, mean_over)
  if labels.ndim == 1 and scores.shape == (*labels.shape, 1):
    scores = scores[:, 0]
  if not scores.shape == labels.shape == mask.shape:
    raise ValueError(
      f'scores {scores.shape}, labels {labels.shape} and mask {mask.shape} do not fit together'
    )
  positive = jnp.where(mask, labels, 0) > 0
  terms = _binary_cross_entropy(jnp.where(mask, scores, 0), positive)
  if labels.ndim == 1:
    return _masked(terms, mask, _weight_of_label(class_weights, positive.astype(jnp.int32), 2))
  weights = None if class_weights is None else _checked_weights(class_weights, scores.shape[-1])
  total = jnp.sum(_masked(terms, mask, weights), axis=-1)
  return total / _divisor(mean_over, jnp.sum(mask, axis=-1, dtype=terms.dtype), scores.shape[-1])


def _one_hot_cross_entropy(
  scores: jax.Array,
  labels: jax.Array,
  mask: jax.Array,
  class_weights: ArrayLike | None,
  mean_over: str,
) -> jax.Array:
  scores, labels, mask = _masked_inputs(scores, labels, mask)
  classes = scores.shape[-1]
  total = jnp.sum(_binary_cross_entropy(scores, _is_label(labels, scores)), axis=-1)
  terms = total / _divisor(mean_over, classes, classes)
  return _masked(terms, mask, _weight_of_label(class_weights, labels, classes))


def _binary_cross_entropy(scores: jax.Array, positive: jax.Array) -> jax.Array:
  """-log of the probability of yes or no, elementwise."""
  # softplus of -s or s, not softplus(s) - y * s: that difference loses all digits of a small loss.
  return jax.nn.softplus(jnp.where(positive, -scores, scores))


def _divisor(mean_over: str, labelled: ArrayLike, classes: int) -> ArrayLike:
  if mean_over not in MEAN_OVER:
    raise ValueError(f'mean_over is {mean_over!r}; expected {", ".join(MEAN_OVER)}')
  choices: dict[str, ArrayLike] = {
    'labelled': jnp.maximum(labelled, 1),
    'all': classes,
    'none': 1,
  }
  return choices[mean_over]


def reduce_terms(terms: jax.Array, mask: ArrayLike, over: str = 'all') -> jax.Array:
  """Returns the scalar loss L_t of one task from its terms [B].

  Args:
    terms: [B], exactly 0 where a sample is unlabelled.
    mask: [B] or [B, C]; a sample is labelled if any of its classes is.
    over: 'all' divides by B, labelled or not (the N of Sang 2017, eq. 1 and 2: a rare label weighs
      little); 'labelled' divides by the number of labelled samples, or by 1 if there are none.
  """
  total = jnp.sum(terms)
  if over == 'all':
    return total / terms.shape[0]
  if over == 'labelled':
    labelled = (jnp.asarray(mask) != 0).reshape(terms.shape[0], -1).any(axis=-1)
    return total / jnp.maximum(jnp.sum(labelled, dtype=terms.dtype), 1)
  raise ValueError(f"over is {over!r}; expected 'all' or 'labelled'")


def sum_of_squares(x: jax.Array) -> jax.Array:
  """Of all elements."""
  return jnp.sum(x**2)


def weight_penalty(
  params: Any,
  convention: str = 'squares',
  squares: Callable[[jax.Array], jax.Array] = sum_of_squares,
) -> jax.Array:
  """The penalty on the weights, in float32, without its factor lambda.

  Args:
    params: a pytree. Its kernels, of convolutions and dense layers, are the leaves with two or more
      axes; biases and batch norm's scales and offsets have one.
    convention: squares: ||W||^2 of Sang 2017, eq. 3, the sum of squares of all kernels (the paper
      says "all network weights W", and pulling a scale or an offset towards 0 does not make the
      function that the network computes any simpler); tensorflow: half of it (`tf.nn.l2_loss` of
      the kernels, as in TensorFlow's own example of a ResNet); caffe: half the sum of squares of
      all parameters, biases too (its `weight_decay`, where no `decay_mult` says otherwise).
    squares: how a leaf's are summed.
  """
  if convention not in DECAYS:
    raise ValueError(f'convention is {convention!r}; expected {", ".join(DECAYS)}')
  leaves = [
    leaf for leaf in jax.tree.leaves(params) if convention == 'caffe' or jnp.ndim(leaf) >= 2
  ]
  total = sum((squares(_floating(leaf)) for leaf in leaves), jnp.zeros((), jnp.float32))
  return total if convention == 'squares' else 0.5 * total


def balanced_class_weights(class_counts: ArrayLike) -> jax.Array:
  """max_c N_c / N_y of each class y (Savchenko 2021, eq. 2), [C]; 0 for a class without a training
  sample.
  """
  class_counts = _floating(class_counts)
  present = class_counts > 0
  return jnp.where(present, jnp.max(class_counts) / jnp.where(present, class_counts, 1), 0)


def _cross_entropy(
  scores: jax.Array, shares: jax.Array, class_weights: ArrayLike | None
) -> jax.Array:
  """-sum_c w_c shares_c log softmax(scores)_c, [B]."""
  summands = shares * -jax.nn.log_softmax(scores, axis=-1)
  if class_weights is not None:
    summands *= _checked_weights(class_weights, scores.shape[-1]).astype(scores.dtype)
  return jnp.sum(summands, axis=-1)


def _floating(values: ArrayLike) -> jax.Array:
  """At least float32, so that sums of bfloat16 scores keep their digits."""
  values = jnp.asarray(values)
  return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _masked_inputs(
  scores: ArrayLike, labels: ArrayLike, mask: ArrayLike, shares: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Replaces scores and labels of masked samples by zeros, which are harmless in every loss and its
  gradient. `shares`: labels may also be shares of the classes.
  """
  scores, labels, mask = _floating(scores), jnp.asarray(labels), jnp.asarray(mask) != 0
  shapes = (scores.shape[:1], scores.shape)[: 2 if shares else 1]
  fits = scores.ndim == 2 and labels.shape in shapes
  if not fits or mask.shape != scores.shape[:1]:
    raise ValueError(
      f'scores {scores.shape}, labels {labels.shape} and mask {mask.shape} do not fit; expected '
      '[B, C], [B] and [B]'
    )
  known = mask if labels.ndim == 1 else mask[:, None]
  return jnp.where(mask[:, None], scores, 0), jnp.where(known, labels, 0), mask


def _is_label(labels: jax.Array, scores: jax.Array) -> jax.Array:
  """bool [B, C]. Comparing instead of gathering keeps the loss and its gradient free of gathers and
  scatters.
  """
  return labels[:, None] == jnp.arange(scores.shape[-1])


def _checked_weights(class_weights: ArrayLike, num_classes: int) -> jax.Array:
  class_weights = jnp.asarray(class_weights)
  if class_weights.shape != (num_classes,):
    raise ValueError(f'class_weights have shape {class_weights.shape}; expected ({num_classes},)')
  return class_weights


def _weight_of_label(
  class_weights: ArrayLike | None, labels: jax.Array, num_classes: int
) -> jax.Array | None:
  return None if class_weights is None else _checked_weights(class_weights, num_classes)[labels]


def _masked(terms: jax.Array, mask: jax.Array, weights: jax.Array | None) -> jax.Array:
  if weights is not None:
    terms = terms * weights.astype(terms.dtype)
  return jnp.where(mask, terms, 0)
